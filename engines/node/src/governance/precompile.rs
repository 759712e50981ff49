//! Governance in the EVM: a native contract at [`ADDRESS`] beside Ethereum's own.
//!
//! It reads and writes through the EVM's journal, so a revert takes everything back, also that of a contract that
//! called it. Without governance in the genesis it is not there at all.

use alloy_primitives::{Bytes, Log, LogData, U256};
use revm::context::{Cfg, ContextTr, JournalTr};
use revm::context_interface::context::ContextError;
use revm::handler::{EthPrecompiles, PrecompileProvider};
use revm::interpreter::{CallInputs, Gas, InstructionResult, InterpreterResult};
use revm::primitives::AddressSet;
use revm::primitives::hardfork::SpecId;

use super::abi;
use super::execute::{Failure, execute};
use super::layout::{Slots, SlotsMut};
use super::{ADDRESS, Action, Call, Domain, Layout};
use crate::NodeError;

/// Gas of a call whatever it holds.
const GAS_CALL: u64 = 20_000;
/// Gas of a signature: recovering a key costs 3,000 in Ethereum, hashing the proposal comes on top.
const GAS_SIGNATURE: u64 = 6_000;
/// Gas of a change: up to three new slots.
const GAS_CHANGE: u64 = 66_000;
/// Gas of writing one validator of a new set: two new slots.
const GAS_VALIDATOR: u64 = 44_000;

/// Ethereum's native contracts, and governance where the chain has it.
pub(crate) struct Precompiles {
    ethereum: EthPrecompiles,
    domain: Option<Domain>,
    warm: AddressSet,
}

impl Precompiles {
    pub(crate) fn new(spec: SpecId, domain: Option<Domain>) -> Self {
        let mut new = Self { ethereum: EthPrecompiles::new(spec), domain, warm: AddressSet::default() };
        new.warm_up();
        new
    }

    fn warm_up(&mut self) {
        self.warm.clone_from(self.ethereum.warm_addresses());
        self.warm.extend(self.domain.map(|_| ADDRESS));
    }
}

impl<CTX> PrecompileProvider<CTX> for Precompiles
where
    CTX: ContextTr<Cfg: Cfg<Spec = SpecId>>,
    CTX::Db: revm::Database<Error = NodeError>,
{
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        let changed = PrecompileProvider::<CTX>::set_spec(&mut self.ethereum, spec);
        self.warm_up();
        changed
    }

    fn run(&mut self, context: &mut CTX, inputs: &CallInputs) -> Result<Option<InterpreterResult>, String> {
        match &self.domain {
            Some(domain) if inputs.bytecode_address == ADDRESS => Ok(Some(govern(context, inputs, domain))),
            _ => PrecompileProvider::<CTX>::run(&mut self.ethereum, context, inputs),
        }
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}

fn govern<CTX>(context: &mut CTX, inputs: &CallInputs, domain: &Domain) -> InterpreterResult
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    let mut gas = Gas::new(inputs.gas_limit);
    let input = inputs.input.bytes(context);
    let call = match check_form(inputs, &input) {
        Ok(call) => call,
        Err(reason) => {
            // Whoever cannot pay for reading has nothing left.
            if !gas.record_regular_cost(GAS_CALL) {
                gas.spend_all();
            }
            return InterpreterResult::new(
                InstructionResult::Revert,
                abi::error(&format!("governance: {reason}")),
                gas,
            );
        }
    };
    let height = u64::try_from(revm::context::Block::number(context.block())).unwrap_or(u64::MAX);
    let mut journal = Journal(context);
    let outcome = price(&mut journal, &call).and_then(|price| {
        Ok(if gas.record_regular_cost(price) { Some(execute(&mut journal, domain, height, &call)?) } else { None })
    });
    match outcome {
        Ok(Some(events)) => {
            for event in events {
                let data = LogData::new_unchecked(event.topics, event.data);
                context.journal_mut().log(Log { address: ADDRESS, data });
            }
            InterpreterResult::new(InstructionResult::Return, Bytes::new(), gas)
        }
        Ok(None) => {
            gas.spend_all();
            InterpreterResult::new(InstructionResult::PrecompileOOG, Bytes::new(), gas)
        }
        Err(Failure::Refused(reason)) => {
            InterpreterResult::new(InstructionResult::Revert, abi::error(&format!("governance: {reason}")), gas)
        }
        Err(Failure::Storage(error)) => {
            // This node's store failed: no verdict on the block.
            *context.error() = Err(ContextError::Db(error));
            InterpreterResult::new(InstructionResult::FatalExternalError, Bytes::new(), gas)
        }
    }
}

fn check_form(inputs: &CallInputs, input: &[u8]) -> Result<Call, String> {
    if inputs.is_static || inputs.target_address != ADDRESS {
        return Err("call it plainly, not statically and not as a library".to_owned());
    }
    if !inputs.value.get().is_zero() {
        return Err("it takes no money".to_owned());
    }
    abi::decode(input)
}

/// What a call costs, for all nodes alike.
fn price<S: Slots>(slots: &mut S, call: &Call) -> Result<u64, Failure<S::Error>> {
    let mut layout = Layout::new(slots);
    let newest = layout.set_count()?.saturating_sub(1);
    Ok(price_of(call, layout.set_length(newest)?))
}

/// What a call costs where the newest set has so many validators.
pub(super) fn price_of(call: &Call, validators: u64) -> u64 {
    let joining = call.changes.iter().filter(|change| change.action == Action::SetValidator).count() as u64;
    let set = if joining == 0 { 0 } else { validators.saturating_add(joining) };
    let (changes, signatures) = (call.changes.len() as u64, call.signatures.len() as u64);
    let price = GAS_CALL + changes * GAS_CHANGE + signatures * GAS_SIGNATURE;
    price.saturating_add(set.saturating_mul(GAS_VALIDATOR))
}

/// The governance account's storage in the EVM's journal.
struct Journal<'a, CTX>(&'a mut CTX);

impl<CTX> Slots for Journal<'_, CTX>
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    type Error = NodeError;
    fn load(&mut self, slot: U256) -> Result<U256, NodeError> {
        self.0.journal_mut().sload(ADDRESS, slot).map(|value| value.data)
    }
}

impl<CTX> SlotsMut for Journal<'_, CTX>
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    fn store(&mut self, slot: U256, value: U256) -> Result<(), NodeError> {
        self.0.journal_mut().sstore(ADDRESS, slot, value).map(|_| ())
    }
}
