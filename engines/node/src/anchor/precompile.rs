//! The anchor in the EVM: the native contract at [`ADDRESS`].

use revm::context::{ContextTr, JournalTr};
use revm::interpreter::{CallInputs, Gas, InterpreterResult};

use super::execute::{self, Call};
use super::{ADDRESS, Rules, Trust};
use crate::NodeError;
use crate::governance;
use crate::native::{self, Done, Failure, Journal};

/// Gas of recording a head: three new slots, a log, a signature.
const GAS_ANCHOR: u64 = 80_000;
/// Gas of a hash of the proof: two of SHA-256, which Ethereum prices at some 100 each.
const GAS_HASH: u64 = 500;
/// Gas of asking, and of a call that cannot be read: five slots.
const GAS_CALL: u64 = 12_000;
/// What a reason begins with.
const NAME: &str = "anchor";

/// Executes a call.
pub(crate) fn run<CTX>(context: &mut CTX, inputs: &CallInputs, rules: &Rules) -> InterpreterResult
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    let gas = Gas::new(inputs.gas_limit);
    let input = inputs.input.bytes(context);
    let call = match check_form(inputs, &input) {
        Ok(call) => call,
        Err(reason) => return native::end_unread(NAME, &reason, gas, GAS_CALL),
    };
    let mut gas = gas;
    let outcome = execute(context, &call, rules, &mut gas);
    native::end(context, (NAME, ADDRESS), gas, outcome)
}

fn execute<CTX>(
    context: &mut CTX,
    call: &Call,
    rules: &Rules,
    gas: &mut Gas,
) -> Result<Option<Done>, Failure<NodeError>>
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    let price = match call {
        Call::Anchor(order) => GAS_ANCHOR + order.hashes() * GAS_HASH,
        Call::Latest => GAS_CALL,
    };
    if !gas.record_regular_cost(price) {
        return Ok(None);
    }
    let trust = trust(context, rules)?;
    let height = u64::try_from(revm::context::Block::number(context.block())).unwrap_or(u64::MAX);
    let mut journal = Journal(context, ADDRESS);
    match call {
        Call::Anchor(order) => execute::record(&mut journal, &trust, height, order).map(Some),
        Call::Latest => execute::latest(&mut journal, &trust).map(Some),
    }
}

/// Whom the chain trusts as of this transaction, also if governance has changed it in the same block.
fn trust<CTX>(context: &mut CTX, rules: &Rules) -> Result<Trust, NodeError>
where
    CTX: ContextTr,
    CTX::Db: revm::Database<Error = NodeError>,
{
    if rules.is_governed {
        context.journal_mut().load_account(governance::ADDRESS)?;
    }
    rules.trust(&mut Journal(context, governance::ADDRESS))
}

fn check_form(inputs: &CallInputs, input: &[u8]) -> Result<Call, String> {
    if !inputs.value.get().is_zero() {
        return Err("it takes no money".to_owned());
    }
    if inputs.target_address != ADDRESS {
        return Err("call it plainly, not as a library".to_owned());
    }
    let call = execute::decode(input)?;
    match call {
        Call::Anchor(_) if inputs.is_static => Err("only latest() can be called statically".to_owned()),
        Call::Anchor(_) | Call::Latest => Ok(call),
    }
}
