//! Execution without effect: one call on the state of a block, with changes to state and block that the caller wishes.
//!
//! Bounded by gas and by time: an inspector looks at the clock while the code runs. Gas prices, nonces and the code of
//! the sender are not held against a call; balances are. Nothing here writes to the store.

use std::collections::BTreeMap;
use std::time::Instant;

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use jsonrpsee::types::ErrorObjectOwned;
use revm::bytecode::Bytecode;
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, ResultAndState};
use revm::context::{BlockEnv, Context, TxEnv};
use revm::context_interface::ContextTr;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::{CallInputs, CallOutcome, CreateInputs, CreateOutcome, InstructionResult, Interpreter};
use revm::state::AccountInfo;
use revm::{Database, InspectEvm, Inspector, MainBuilder, MainContext};
use serde::Deserialize;

use super::trace::Tracer;
use super::types::invalid;
use super::{internal, refuse, refuse_for_now};
use crate::NodeError;
use crate::exec::{self, ChainRules};
use crate::native::Precompiles;
use crate::state::Overlay;

/// Accounts that one call may change.
const OVERRIDES_MAX: usize = 1_000;
/// Steps of the interpreter between two looks at the clock.
const STEPS_PER_LOOK: u32 = 1_024;
/// The first four bytes of `Error(string)`.
const ERROR_SELECTOR: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
/// The first four bytes of `Panic(uint256)`.
const PANIC_SELECTOR: [u8; 4] = [0x4e, 0x48, 0x7b, 0x71];

/// What a call finds otherwise than it is, by account.
pub(super) type StateOverrides = BTreeMap<Address, AccountOverride>;

/// One account's changes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct AccountOverride {
    pub(super) balance: Option<U256>,
    nonce: Option<U256>,
    code: Option<Bytes>,
    /// The whole storage instead of the real one.
    state: Option<BTreeMap<B256, B256>>,
    /// Single slots.
    state_diff: Option<BTreeMap<B256, B256>>,
}

/// What a call finds otherwise in its block.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct BlockOverrides {
    number: Option<U256>,
    #[serde(alias = "timestamp")]
    time: Option<U256>,
    gas_limit: Option<U256>,
    #[serde(alias = "coinbase")]
    fee_recipient: Option<Address>,
    #[serde(alias = "random")]
    prev_randao: Option<B256>,
    #[serde(alias = "baseFee")]
    base_fee_per_gas: Option<U256>,
}

/// Checks the changes before anything runs.
pub(super) fn check_overrides(overrides: &StateOverrides) -> Result<(), ErrorObjectOwned> {
    if overrides.len() > OVERRIDES_MAX {
        return Err(invalid(format!("state overrides: {} accounts, at most {OVERRIDES_MAX}", overrides.len())));
    }
    match overrides.iter().find(|(_, change)| change.state.is_some() && change.state_diff.is_some()) {
        Some((address, _)) => Err(invalid(format!("state overrides: {address} has both state and stateDiff"))),
        None => Ok(()),
    }
}

impl BlockOverrides {
    pub(super) fn apply(self, env: &mut BlockEnv) -> Result<(), ErrorObjectOwned> {
        let small = |name: &str, value: U256| u64::try_from(value).map_err(|_| invalid(format!("{name} is too large")));
        env.number = self.number.unwrap_or(env.number);
        env.timestamp = self.time.unwrap_or(env.timestamp);
        env.beneficiary = self.fee_recipient.unwrap_or(env.beneficiary);
        env.prevrandao = self.prev_randao.or(env.prevrandao);
        if let Some(limit) = self.gas_limit {
            env.gas_limit = small("gasLimit", limit)?;
        }
        if let Some(fee) = self.base_fee_per_gas {
            env.basefee = small("baseFeePerGas", fee)?;
        }
        Ok(())
    }
}

/// The state with the caller's changes.
struct Changed<'a> {
    base: Overlay<'a>,
    changes: &'a StateOverrides,
}

impl Database for Changed<'_> {
    type Error = NodeError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, NodeError> {
        let found = self.base.basic(address)?;
        let Some(change) = self.changes.get(&address) else { return Ok(found) };
        let mut info = found.unwrap_or_default();
        info.balance = change.balance.unwrap_or(info.balance);
        if let Some(nonce) = change.nonce {
            info.nonce = u64::try_from(nonce).unwrap_or(u64::MAX - 1);
        }
        if let Some(code) = &change.code {
            info.code_hash = keccak256(code);
            info.code = Some(Bytecode::new_raw(code.clone()));
        }
        Ok(Some(info))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, NodeError> {
        let changed = self.changes.values().filter_map(|change| change.code.as_ref());
        match changed.into_iter().find(|code| keccak256(code) == hash) {
            Some(code) => Ok(Bytecode::new_raw(code.clone())),
            None => self.base.code_by_hash(hash),
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, NodeError> {
        let Some(change) = self.changes.get(&address) else { return self.base.storage(address, slot) };
        let key = B256::from(slot);
        if let Some(state) = &change.state {
            return Ok(state.get(&key).copied().unwrap_or_default().into());
        }
        match change.state_diff.as_ref().and_then(|diff| diff.get(&key)) {
            Some(value) => Ok((*value).into()),
            None => self.base.storage(address, slot),
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, NodeError> {
        self.base.block_hash(number)
    }
}

/// Ends the execution when its time is over, and tells the tracer, if there is one, what happens.
struct Watch {
    until: Instant,
    steps: u32,
    is_over: bool,
    tracer: Option<Tracer>,
}

impl<C: ContextTr> Inspector<C, EthInterpreter> for Watch {
    fn step(&mut self, interpreter: &mut Interpreter<EthInterpreter>, _: &mut C) {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS_PER_LOOK) && Instant::now() >= self.until {
            self.is_over = true;
        }
        if self.is_over {
            // The frames outside see the same at their next step.
            interpreter.halt(InstructionResult::OutOfGas);
        }
    }

    fn call(&mut self, context: &mut C, inputs: &mut CallInputs) -> Option<CallOutcome> {
        if let Some(tracer) = &mut self.tracer {
            tracer.call(context, inputs);
        }
        None
    }

    fn call_end(&mut self, _: &mut C, _: &CallInputs, outcome: &mut CallOutcome) {
        if let Some(tracer) = &mut self.tracer {
            tracer.call_end(outcome);
        }
    }

    fn create(&mut self, _: &mut C, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        if let Some(tracer) = &mut self.tracer {
            tracer.create(inputs);
        }
        None
    }

    fn create_end(&mut self, _: &mut C, _: &CreateInputs, outcome: &mut CreateOutcome) {
        if let Some(tracer) = &mut self.tracer {
            tracer.create_end(outcome);
        }
    }

    fn log(&mut self, _: &mut C, log: Log) {
        if let Some(tracer) = &mut self.tracer {
            tracer.log(&log);
        }
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        if let Some(tracer) = &mut self.tracer {
            tracer.selfdestruct(contract, target, value);
        }
    }
}

/// Where and for how long a call runs.
pub(super) struct Stage<'a> {
    pub(super) rules: &'a ChainRules,
    pub(super) block: BlockEnv,
    pub(super) changes: &'a StateOverrides,
    pub(super) until: Instant,
}

/// Why a call did not run.
pub(super) enum NotRun {
    /// The transaction cannot start.
    Invalid(InvalidTransaction),
    /// Time is over, or the node cannot read its state.
    Other(ErrorObjectOwned),
}

impl From<NotRun> for ErrorObjectOwned {
    fn from(reason: NotRun) -> Self {
        match reason {
            NotRun::Invalid(reason) => refuse(words(&reason)),
            NotRun::Other(error) => error,
        }
    }
}

impl Stage<'_> {
    /// Runs one transaction.
    pub(super) fn run(&self, base: Overlay<'_>, tx: TxEnv) -> Result<ResultAndState, NotRun> {
        Ok(self.watched(base, tx, None)?.0)
    }

    /// Runs one transaction and collects its calls.
    pub(super) fn run_traced(
        &self,
        base: Overlay<'_>,
        tx: TxEnv,
        tracer: Tracer,
    ) -> Result<(ResultAndState, Tracer), NotRun> {
        let (done, tracer) = self.watched(base, tx, Some(tracer))?;
        Ok((done, tracer.unwrap_or_default()))
    }

    fn watched(
        &self,
        base: Overlay<'_>,
        tx: TxEnv,
        tracer: Option<Tracer>,
    ) -> Result<(ResultAndState, Option<Tracer>), NotRun> {
        let mut cfg = exec::cfg(self.rules);
        cfg.disable_eip3607 = true;
        cfg.disable_base_fee = true;
        cfg.disable_nonce_check = true;
        cfg.tx_gas_limit_cap = Some(u64::MAX);
        let mut watch = Watch { until: self.until, steps: 0, is_over: false, tracer };
        let precompiles = Precompiles::new(self.rules);
        let mut evm = Context::mainnet()
            .with_cfg(cfg)
            .with_db(Changed { base, changes: self.changes })
            .with_block(self.block.clone())
            .build_mainnet_with_inspector(&mut watch)
            .with_precompiles(precompiles);
        let result = evm.inspect_tx(tx);
        if watch.is_over {
            return Err(NotRun::Other(refuse_for_now(
                "execution timeout: the call takes longer than this node allows",
            )));
        }
        let done = result.map_err(|error: EVMError<NodeError, InvalidTransaction>| match error {
            EVMError::Transaction(reason) => NotRun::Invalid(reason),
            EVMError::Header(reason) => NotRun::Other(refuse(reason.to_string())),
            EVMError::Database(error) => NotRun::Other(internal(error)),
            EVMError::Custom(reason) => NotRun::Other(refuse(reason)),
            EVMError::CustomAny(reason) => NotRun::Other(refuse(reason.to_string())),
        })?;
        Ok((done, watch.tracer))
    }
}

/// What the call returned, or the revert with its reason and data (code 3, as other clients do).
pub(super) fn output(result: ExecutionResult) -> Result<Bytes, ErrorObjectOwned> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(reverted(output)),
        ExecutionResult::Halt { reason, .. } => Err(refuse(halt_words(&reason))),
    }
}

fn reverted(output: Bytes) -> ErrorObjectOwned {
    let message = revert_reason(&output)
        .map_or_else(|| "execution reverted".to_owned(), |reason| format!("execution reverted: {reason}"));
    ErrorObjectOwned::owned(3, message, Some(output))
}

/// The text of Solidity's `Error(string)`, or what its `Panic(uint256)` means.
pub(super) fn revert_reason(output: &[u8]) -> Option<String> {
    if let Some(body) = output.strip_prefix(&PANIC_SELECTOR) {
        return Some(panic_words(U256::try_from_be_slice(body.get(..32)?)?));
    }
    let body = output.strip_prefix(&ERROR_SELECTOR)?;
    let length = usize::try_from(U256::try_from_be_slice(body.get(32..64)?)?).ok()?;
    let text = body.get(64..64usize.checked_add(length)?)?;
    String::from_utf8(text.to_vec()).ok()
}

/// Solidity's documentation, "Panic via assert and Error via require"; the words are those of go-ethereum.
fn panic_words(code: U256) -> String {
    let known = match u8::try_from(code).unwrap_or(u8::MAX) {
        0x00 => "generic panic",
        0x01 => "assert(false)",
        0x11 => "arithmetic underflow or overflow",
        0x12 => "division or modulo by zero",
        0x21 => "enum overflow",
        0x22 => "invalid encoded storage byte array accessed",
        0x31 => "out-of-bounds array access; popping on an empty array",
        0x32 => "out-of-bounds access of an array or bytesN",
        0x41 => "out of memory",
        0x51 => "uninitialized function",
        _ => return format!("unknown panic code: {code:#x}"),
    };
    known.to_owned()
}

/// In the words of go-ethereum, which tools look for.
fn halt_words(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas".to_owned(),
        HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode | HaltReason::NotActivated => {
            "invalid opcode".to_owned()
        }
        HaltReason::InvalidJump => "invalid jump destination".to_owned(),
        HaltReason::StackUnderflow => "stack underflow".to_owned(),
        HaltReason::StackOverflow => "stack limit reached 1024 (1024)".to_owned(),
        HaltReason::OutOfOffset => "return data out of bounds".to_owned(),
        HaltReason::CreateCollision => "contract address collision".to_owned(),
        HaltReason::NonceOverflow => "nonce uint64 overflow".to_owned(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".to_owned(),
        HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef".to_owned(),
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => {
            "write protection".to_owned()
        }
        HaltReason::OutOfFunds => "insufficient balance for transfer".to_owned(),
        HaltReason::CallTooDeep => "max call depth exceeded".to_owned(),
        HaltReason::PrecompileError | HaltReason::PrecompileErrorWithContext(_) | HaltReason::OverflowPayment => {
            format!("execution failed: {reason}")
        }
    }
}

/// Why a transaction cannot start, in the words of go-ethereum where it has them.
fn words(reason: &InvalidTransaction) -> String {
    match reason {
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: have {balance} want {fee}")
        }
        InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
        }
        InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
            format!("intrinsic gas too low: have {gas_limit}, want {gas_floor}")
        }
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
            "max priority fee per gas higher than max fee per gas".to_owned()
        }
        InvalidTransaction::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn revert_reasons_are_read_and_nonsense_is_not() {
        let mut data = ERROR_SELECTOR.to_vec();
        data.extend_from_slice(&U256::from(32).to_be_bytes::<32>());
        data.extend_from_slice(&U256::from(4).to_be_bytes::<32>());
        data.extend_from_slice(b"no! ____________________________");
        assert_eq!(revert_reason(&data).unwrap(), "no! ");
        let mut endless = data.clone();
        endless[36..68].copy_from_slice(&U256::MAX.to_be_bytes::<32>());
        assert_eq!(revert_reason(&endless), None);
        assert_eq!(revert_reason(&data[..40]), None);
        assert_eq!(revert_reason(b""), None);
        let mut panic = PANIC_SELECTOR.to_vec();
        panic.extend_from_slice(&U256::from(0x11).to_be_bytes::<32>());
        assert_eq!(revert_reason(&panic).unwrap(), "arithmetic underflow or overflow");
        panic[4] = 1;
        assert!(revert_reason(&panic).unwrap().starts_with("unknown panic code: 0x1000"));
    }
}
