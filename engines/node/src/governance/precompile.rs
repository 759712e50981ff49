//! Governance in the EVM: the native contract at [`ADDRESS`].

use revm::context::ContextTr;
use revm::interpreter::{CallInputs, Gas, InterpreterResult};

use super::abi;
use super::execute::execute;
use super::layout::Slots;
use super::{ADDRESS, Action, Call, Domain, Layout};
use crate::NodeError;
use crate::native::{self, Done, Failure, Journal};

/// Gas of a call whatever it holds.
const GAS_CALL: u64 = 20_000;
/// Gas of a signature: recovering a key costs 3,000 in Ethereum, hashing the proposal comes on top.
const GAS_SIGNATURE: u64 = 6_000;
/// Gas of a change: up to three new slots.
const GAS_CHANGE: u64 = 66_000;
/// Gas of writing one validator of a new set: two new slots.
const GAS_VALIDATOR: u64 = 44_000;
/// What a reason begins with.
const NAME: &str = "governance";

/// Executes a call on a chain with or without an audit anchor.
pub(crate) fn run<CTX>(context: &mut CTX, inputs: &CallInputs, domain: &Domain, is_anchored: bool) -> InterpreterResult
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    let mut gas = Gas::new(inputs.gas_limit);
    let input = inputs.input.bytes(context);
    let call = match check_form(inputs, &input, is_anchored) {
        Ok(call) => call,
        Err(reason) => return native::end_unread(NAME, &reason, gas, GAS_CALL),
    };
    let height = u64::try_from(revm::context::Block::number(context.block())).unwrap_or(u64::MAX);
    let mut journal = Journal(context, ADDRESS);
    let outcome = price(&mut journal, &call).and_then(|price| {
        if !gas.record_regular_cost(price) {
            return Ok(None);
        }
        let events = execute(&mut journal, domain, height, &call)?;
        Ok(Some(Done { events, ..Done::default() }))
    });
    native::end(context, (NAME, ADDRESS), gas, outcome)
}

fn check_form(inputs: &CallInputs, input: &[u8], is_anchored: bool) -> Result<Call, String> {
    if inputs.is_static || inputs.target_address != ADDRESS {
        return Err("call it plainly, not statically and not as a library".to_owned());
    }
    if !inputs.value.get().is_zero() {
        return Err("it takes no money".to_owned());
    }
    abi::decode(input, is_anchored)
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
