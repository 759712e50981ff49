//! Native contracts: fixed accounts that are executed by this program beside the EVM's bytecode, [`governance`] and the
//! audit [`anchor`] beside Ethereum's own.
//!
//! They read and write storage through the EVM's journal ([`Journal`]), so a revert takes everything back, also that of a
//! contract that called them. What the genesis does not name is not there at all.

pub(crate) mod abi;

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, Log, LogData, U256};
use revm::context::{Cfg, ContextTr, JournalTr};
use revm::context_interface::context::ContextError;
use revm::handler::{EthPrecompiles, PrecompileProvider};
use revm::interpreter::{CallInputs, Gas, InstructionResult, InterpreterResult};
use revm::primitives::AddressSet;
use revm::primitives::hardfork::SpecId;

use crate::NodeError;
use crate::exec::ChainRules;
use crate::governance::{Domain, Slots, SlotsMut};
use crate::{anchor, governance};

/// The code of a native account: an invalid instruction, because it is never run by the EVM.
pub(crate) const CODE: [u8; 1] = [0xfe];

/// Why a call is not executed.
pub(crate) enum Failure<E> {
    /// It breaks a rule; the words go back to the sender.
    Refused(String),
    /// The storage cannot be read or written.
    Storage(E),
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::Storage(error)
    }
}

/// Refuses with a reason.
pub(crate) fn refuse<T, E>(reason: impl Into<String>) -> Result<T, Failure<E>> {
    Err(Failure::Refused(reason.into()))
}

/// What a call came to.
#[derive(Default)]
pub(crate) struct Done {
    /// The logs that it writes.
    pub(crate) events: Vec<abi::Event>,
    /// What it returns.
    pub(crate) output: Bytes,
}

/// Ethereum's native contracts and those that the chain's genesis names.
pub(crate) struct Precompiles {
    ethereum: EthPrecompiles,
    governance: Option<Domain>,
    anchor: Option<Arc<anchor::Rules>>,
    warm: AddressSet,
}

impl Precompiles {
    pub(crate) fn new(rules: &ChainRules) -> Self {
        let ethereum = EthPrecompiles::new(rules.fork.spec());
        let warm = AddressSet::default();
        let mut new = Self { ethereum, governance: rules.governance, anchor: rules.anchor.clone(), warm };
        new.warm_up();
        new
    }

    fn warm_up(&mut self) {
        self.warm.clone_from(self.ethereum.warm_addresses());
        self.warm.extend(self.governance.map(|_| governance::ADDRESS));
        self.warm.extend(self.anchor.as_ref().map(|_| anchor::ADDRESS));
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
        match (&self.governance, &self.anchor) {
            (Some(domain), anchor) if inputs.bytecode_address == governance::ADDRESS => {
                Ok(Some(governance::run(context, inputs, domain, anchor.is_some())))
            }
            (_, Some(rules)) if inputs.bytecode_address == anchor::ADDRESS => {
                Ok(Some(anchor::run(context, inputs, rules)))
            }
            _ => PrecompileProvider::<CTX>::run(&mut self.ethereum, context, inputs),
        }
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}

/// Ends a call of `address` with what it came to; `None` is that its gas does not suffice. A refusal is reverted with
/// `Error(string)`, the reason after the contract's `name`.
pub(crate) fn end<CTX>(
    context: &mut CTX,
    (name, address): (&str, Address),
    mut gas: Gas,
    outcome: Result<Option<Done>, Failure<NodeError>>,
) -> InterpreterResult
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    match outcome {
        Ok(Some(Done { events, output })) => {
            for event in events {
                let data = LogData::new_unchecked(event.topics, event.data);
                context.journal_mut().log(Log { address, data });
            }
            InterpreterResult::new(InstructionResult::Return, output, gas)
        }
        Ok(None) => {
            gas.spend_all();
            InterpreterResult::new(InstructionResult::PrecompileOOG, Bytes::new(), gas)
        }
        Err(Failure::Refused(reason)) => {
            InterpreterResult::new(InstructionResult::Revert, abi::error(&format!("{name}: {reason}")), gas)
        }
        Err(Failure::Storage(error)) => {
            // This node's store failed: no verdict on the block.
            *context.error() = Err(ContextError::Db(error));
            InterpreterResult::new(InstructionResult::FatalExternalError, Bytes::new(), gas)
        }
    }
}

/// Ends a call that cannot be read: it costs what reading costs.
pub(crate) fn end_unread(name: &str, reason: &str, mut gas: Gas, price: u64) -> InterpreterResult {
    // Whoever cannot pay for reading has nothing left.
    if !gas.record_regular_cost(price) {
        gas.spend_all();
    }
    InterpreterResult::new(InstructionResult::Revert, abi::error(&format!("{name}: {reason}")), gas)
}

/// A native account's storage in the EVM's journal. The account is loaded: that of the call is, others must be.
pub(crate) struct Journal<'a, CTX>(pub(crate) &'a mut CTX, pub(crate) Address);

impl<CTX> Slots for Journal<'_, CTX>
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    type Error = NodeError;
    fn load(&mut self, slot: U256) -> Result<U256, NodeError> {
        self.0.journal_mut().sload(self.1, slot).map(|value| value.data)
    }
}

impl<CTX> SlotsMut for Journal<'_, CTX>
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    fn store(&mut self, slot: U256, value: U256) -> Result<(), NodeError> {
        self.0.journal_mut().sstore(self.1, slot, value).map(|_| ())
    }
}
