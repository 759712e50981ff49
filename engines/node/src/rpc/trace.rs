//! `debug_traceTransaction` and `debug_traceCall` with the `callTracer`: which contract called which, with what gas, input
//! and outcome, in the form of go-ethereum.
//!
//! A stored transaction is executed again on the state before it, so that state must be kept. A trace is bounded by time, by
//! calls and by bytes. Other tracers are refused by name.

use alloy_primitives::{Address, B256, Bytes, Log, U256};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use revm::context_interface::{ContextTr, CreateScheme};
use revm::interpreter::{
    CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome, InstructionResult, InterpreterResult,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::evm::{self, Stage, StateOverrides};
use super::simulate::{self, Call};
use super::types::{Args, invalid, quantity};
use super::{Handler, Reply, eth, internal, refuse};
use crate::exec::{self, BlockError};
use crate::node::Shared;
use crate::state::Overlay;

/// Calls of one trace.
const CALLS_MAX: usize = 20_000;
/// Inputs and outputs of one trace together, in bytes.
const BYTES_MAX: usize = 8 << 20;

/// Names and handlers.
pub(super) const METHODS: &[(&str, Handler)] =
    &[("debug_traceTransaction", transaction), ("debug_traceCall", simulated)];

/// What a client asks for.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Options {
    tracer: Option<String>,
    tracer_config: Config,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    only_top_call: bool,
    with_log: bool,
}

impl Options {
    fn tracer(&self) -> Result<Tracer, ErrorObjectOwned> {
        match self.tracer.as_deref() {
            Some("callTracer") => Ok(Tracer { config: self.tracer_config, ..Tracer::default() }),
            other => Err(invalid(format!(
                "tracer: {} is not there; the only one is \"callTracer\"",
                other.map_or_else(|| "the tracer of single steps".to_owned(), |name| format!("\"{name}\""))
            ))),
        }
    }
}

fn transaction(shared: &Shared, params: Params<'_>) -> Reply {
    let mut args = Args::new(&params);
    let hash: B256 = args.need("hash")?;
    let options: Options = args.maybe("options")?.unwrap_or_default();
    let tracer = options.tracer()?;
    let snapshot = shared.store.snapshot().map_err(internal)?;
    let found = snapshot.transaction(hash).map_err(internal)?;
    let (number, index) = found.ok_or_else(|| refuse("transaction not found"))?;
    let block = eth::require(&snapshot, number)?;
    let senders: Vec<_> =
        snapshot.receipts(number).map_err(internal)?.unwrap_or_default().iter().map(|receipt| receipt.from).collect();
    let Some(state) = snapshot.state_at(number - 1).map_err(internal)? else {
        let oldest = snapshot.oldest_state().map_err(internal)?;
        return Err(refuse(format!(
            "state of block {} is not kept; this node keeps them from {oldest} on",
            number - 1
        )));
    };
    let before = exec::before(state, &shared.rules, &block, &senders, index as usize);
    let (base, env, tx) = before.map_err(|error| match error {
        BlockError::Node(error) => internal(error),
        BlockError::Invalid(reason) => refuse(format!("the block cannot be executed again: {reason}")),
    })?;
    let changes = StateOverrides::new();
    let stage = Stage { rules: &shared.rules, block: env, changes: &changes, until: simulate::deadline(shared) };
    finish(&stage, base, tx, tracer)
}

/// `debug_traceCall(transaction, block, options)`; the options may hold changed state and block.
fn simulated(shared: &Shared, params: Params<'_>) -> Reply {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Overrides {
        state_overrides: Option<StateOverrides>,
        block_overrides: Option<evm::BlockOverrides>,
    }
    let mut args = Args::new(&params);
    let (request, which) = (args.need("transaction")?, args.maybe("block")?.unwrap_or_default());
    let options: Value = args.maybe("options")?.unwrap_or(json!({}));
    let wrong = |e: serde_json::Error| invalid(format!("options: {e}"));
    let tracer = serde_json::from_value::<Options>(options.clone()).map_err(wrong)?.tracer()?;
    let overrides: Overrides = serde_json::from_value(options).map_err(wrong)?;
    let (state, block) = (overrides.state_overrides.unwrap_or_default(), overrides.block_overrides.unwrap_or_default());
    let call = Call::new(shared, request, &which, state, block)?;
    finish(&call.stage(shared), call.base()?, call.tx.clone(), tracer)
}

fn finish(stage: &Stage<'_>, base: Overlay<'_>, tx: revm::context::TxEnv, tracer: Tracer) -> Reply {
    let gas_limit = tx.gas_limit;
    let (done, tracer) = stage.run_traced(base, tx, tracer)?;
    let mut top = tracer.into_top()?;
    // The frame knows only what is left after the price of the transaction itself.
    top["gas"] = quantity(gas_limit);
    top["gasUsed"] = quantity(done.result.tx_gas_used());
    Ok(top)
}

/// Collects the calls of one transaction.
#[derive(Default)]
pub(super) struct Tracer {
    config: Config,
    /// Calls under way, the outermost first.
    open: Vec<Frame>,
    top: Option<Value>,
    calls: usize,
    bytes: usize,
    is_too_large: bool,
    /// Depth of calls that are left out.
    hidden: usize,
}

struct Frame {
    kind: &'static str,
    from: Address,
    to: Option<Address>,
    value: Option<U256>,
    gas: u64,
    input: Bytes,
    calls: Vec<Value>,
    logs: Vec<Value>,
}

impl Tracer {
    fn into_top(self) -> Reply {
        if self.is_too_large {
            return Err(refuse(format!(
                "the trace has more than {CALLS_MAX} calls or {BYTES_MAX} bytes; ask for onlyTopCall"
            )));
        }
        self.top.ok_or_else(|| refuse("the transaction called nothing"))
    }

    fn begin(&mut self, frame: Frame) {
        self.calls += 1;
        self.bytes += frame.input.len();
        self.is_too_large |= self.calls > CALLS_MAX || self.bytes > BYTES_MAX;
        if self.is_too_large || self.config.only_top_call && !self.open.is_empty() {
            self.hidden += 1;
        } else {
            self.open.push(frame);
        }
    }

    fn end(&mut self, result: &InterpreterResult, made: Option<Address>) {
        if self.hidden > 0 {
            self.hidden -= 1;
            return;
        }
        let Some(mut frame) = self.open.pop() else { return };
        self.bytes += result.output.len();
        frame.to = frame.to.or(made);
        let value = frame.show(result);
        match self.open.last_mut() {
            Some(parent) => parent.calls.push(value),
            None => self.top = Some(value),
        }
    }

    pub(super) fn call<C: ContextTr>(&mut self, context: &C, inputs: &CallInputs) {
        let (kind, from, to) = match inputs.scheme {
            CallScheme::Call => ("CALL", inputs.caller, inputs.target_address),
            CallScheme::StaticCall => ("STATICCALL", inputs.caller, inputs.target_address),
            CallScheme::CallCode => ("CALLCODE", inputs.target_address, inputs.bytecode_address),
            CallScheme::DelegateCall => ("DELEGATECALL", inputs.target_address, inputs.bytecode_address),
        };
        let value = (kind != "STATICCALL").then(|| inputs.value.get());
        let (to, gas, input) = (Some(to), inputs.gas_limit, inputs.input.bytes(context));
        self.begin(Frame { kind, from, to, value, gas, input, calls: Vec::new(), logs: Vec::new() });
    }

    pub(super) fn call_end(&mut self, outcome: &CallOutcome) {
        self.end(&outcome.result, None);
    }

    pub(super) fn create(&mut self, inputs: &CreateInputs) {
        let kind = if matches!(inputs.scheme(), CreateScheme::Create2 { .. }) { "CREATE2" } else { "CREATE" };
        let (gas, input) = (inputs.gas_limit(), inputs.init_code().clone());
        let (from, value) = (inputs.caller(), Some(inputs.value()));
        self.begin(Frame { kind, from, to: None, value, gas, input, calls: Vec::new(), logs: Vec::new() });
    }

    pub(super) fn create_end(&mut self, outcome: &CreateOutcome) {
        // As geth has it: what failed has made nothing.
        self.end(&outcome.result, outcome.address.filter(|_| outcome.result.result.is_ok()));
    }

    pub(super) fn log(&mut self, log: &Log) {
        if self.config.with_log
            && self.hidden == 0
            && let Some(frame) = self.open.last_mut()
        {
            let position = quantity(frame.calls.len() as u64);
            self.bytes += log.data.data.len();
            frame.logs.push(json!({
                "address": log.address,
                "topics": log.data.topics(),
                "data": log.data.data,
                "position": position,
            }));
        }
    }

    pub(super) fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        if self.hidden == 0
            && !self.config.only_top_call
            && let Some(frame) = self.open.last_mut()
        {
            frame.calls.push(json!({
                "type": "SELFDESTRUCT",
                "from": contract,
                "to": target,
                "value": value,
                "gas": "0x0",
                "gasUsed": "0x0",
                "input": "0x",
            }));
        }
    }
}

impl Frame {
    fn show(self, result: &InterpreterResult) -> Value {
        let mut shown = json!({
            "type": self.kind,
            "from": self.from,
            "gas": quantity(self.gas),
            "gasUsed": quantity(result.gas.total_gas_spent()),
            "input": self.input,
        });
        if let Some(to) = self.to {
            shown["to"] = json!(to);
        }
        if let Some(value) = self.value {
            shown["value"] = json!(value);
        }
        if !result.output.is_empty() {
            shown["output"] = json!(result.output);
        }
        let mut calls = self.calls;
        if result.result.is_ok() {
            if !self.logs.is_empty() {
                shown["logs"] = json!(self.logs);
            }
        } else {
            shown["error"] = json!(error_words(result.result));
            if let Some(reason) = evm::revert_reason(&result.output).filter(|_| result.result.is_revert()) {
                shown["revertReason"] = json!(reason);
            }
            calls.iter_mut().for_each(without_logs);
        }
        if !calls.is_empty() {
            shown["calls"] = json!(calls);
        }
        shown
    }
}

/// What a reverted call logged did not happen.
fn without_logs(call: &mut Value) {
    if let Some(call) = call.as_object_mut() {
        call.remove("logs");
        call.get_mut("calls").and_then(Value::as_array_mut).into_iter().flatten().for_each(without_logs);
    }
}

fn error_words(result: InstructionResult) -> String {
    use InstructionResult as R;
    match result {
        R::Revert => "execution reverted".to_owned(),
        R::CallTooDeep => "max call depth exceeded".to_owned(),
        R::OutOfFunds => "insufficient balance for transfer".to_owned(),
        R::OutOfGas | R::MemoryOOG | R::MemoryLimitOOG | R::PrecompileOOG | R::InvalidOperandOOG => {
            "out of gas".to_owned()
        }
        R::OpcodeNotFound | R::InvalidFEOpcode | R::NotActivated => "invalid opcode".to_owned(),
        R::InvalidJump => "invalid jump destination".to_owned(),
        R::StateChangeDuringStaticCall | R::CallNotAllowedInsideStatic => "write protection".to_owned(),
        R::StackUnderflow => "stack underflow".to_owned(),
        R::StackOverflow => "stack limit reached 1024 (1024)".to_owned(),
        R::OutOfOffset => "return data out of bounds".to_owned(),
        R::CreateCollision => "contract address collision".to_owned(),
        R::CreateContractSizeLimit => "max code size exceeded".to_owned(),
        other => format!("execution failed: {other:?}"),
    }
}
