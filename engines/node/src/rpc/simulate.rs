//! `eth_call` and `eth_estimateGas`: execution without effect, on any state that is kept.

use alloy_primitives::{Bytes, TxKind, U256};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use revm::context::TxEnv;
use revm::context::result::ExecutionResult;
use serde_json::{Value, json};

use super::eth::require;
use super::types::{BlockRef, CallRequest, invalid, quantity};
use super::{Reply, internal, refuse};
use crate::block::Block;
use crate::exec::{self, BlockError};
use crate::node::Shared;
use crate::store::{Snapshot, StateView};

/// What a plain transfer costs; nothing costs less.
const GAS_MIN: u64 = 21_000;
/// The first four bytes of `Error(string)`.
const ERROR_SELECTOR: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];

/// `eth_call`.
pub(super) fn call(shared: &Shared, params: Params<'_>) -> Reply {
    let (snapshot, which, request) = read(shared, params)?;
    let on = on(&snapshot, &which)?;
    let tx = prepare(shared, &on, &request)?;
    output(run(shared, &on, tx)?).map(|bytes| json!(bytes))
}

/// `eth_estimateGas`: the smallest limit with which the call succeeds, found by halving.
pub(super) fn estimate(shared: &Shared, params: Params<'_>) -> Reply {
    let (snapshot, which, request) = read(shared, params)?;
    let on = on(&snapshot, &which)?;
    let tx = prepare(shared, &on, &request)?;
    let tx = TxEnv { gas_limit: tx.gas_limit.min(shared.rules.transaction_gas_max()), ..tx };
    let mut high = tx.gas_limit;
    let first = run(shared, &on, tx.clone())?;
    let used = first.tx_gas_used();
    output(first)?;
    let mut low = used.max(GAS_MIN) - 1;
    while low + 1 < high {
        // Close to what was used is the likeliest answer; then halve.
        let middle =
            if low < used + used / 50 { (used + used / 50).clamp(low + 1, high - 1) } else { low + (high - low) / 2 };
        let tried = exec::call(on.state, &shared.rules, on.block.header(), TxEnv { gas_limit: middle, ..tx.clone() });
        match tried {
            Ok(result) if result.is_success() => high = middle,
            Ok(_) | Err(BlockError::Invalid(_)) => low = middle,
            Err(BlockError::Node(error)) => return Err(internal(error)),
        }
    }
    Ok(quantity(high))
}

/// A block and the state after it.
struct On<'a> {
    block: Block,
    state: StateView<'a>,
}

fn on<'a>(snapshot: &'a Snapshot, which: &BlockRef) -> Result<On<'a>, ErrorObjectOwned> {
    let (number, state) = which.state(snapshot)?;
    Ok(On { block: require(snapshot, number)?, state })
}

fn read(shared: &Shared, params: Params<'_>) -> Result<(Snapshot, BlockRef, CallRequest), ErrorObjectOwned> {
    let mut params = params.sequence();
    let request: CallRequest = params.next()?;
    let which: BlockRef = params.optional_next()?.unwrap_or_default();
    let overrides: Option<Value> = params.optional_next()?;
    if overrides.is_some_and(|o| o.as_object().is_some_and(|o| !o.is_empty())) {
        return Err(invalid("state overrides are not supported"));
    }
    let snapshot = shared.store.snapshot().map_err(internal)?;
    Ok((snapshot, which, request))
}

fn prepare(shared: &Shared, on: &On<'_>, request: &CallRequest) -> Result<TxEnv, ErrorObjectOwned> {
    let caller = request.from.unwrap_or_default();
    let account = on.state.account(caller).map_err(internal)?;
    let limit = shared.rules.block_gas_limit;
    let gas_limit = request.gas.map_or(limit, |gas| u64::try_from(gas).unwrap_or(limit).min(limit));
    let price = request.max_fee_per_gas.or(request.gas_price).unwrap_or(U256::ZERO);
    Ok(TxEnv {
        caller,
        gas_limit,
        gas_price: u128::try_from(price).map_err(|_| invalid("gas price"))?,
        kind: request.to.map_or(TxKind::Create, TxKind::Call),
        value: request.value.unwrap_or_default(),
        data: request.input.clone().or_else(|| request.data.clone()).unwrap_or_default(),
        nonce: account.map_or(0, |account| account.nonce),
        chain_id: Some(shared.rules.chain_id),
        tx_type: u8::from(request.access_list.is_some()),
        access_list: request.access_list.clone().unwrap_or_default(),
        ..Default::default()
    })
}

fn run(shared: &Shared, on: &On<'_>, tx: TxEnv) -> Result<ExecutionResult, ErrorObjectOwned> {
    exec::call(on.state, &shared.rules, on.block.header(), tx).map_err(|error| match error {
        BlockError::Invalid(reason) => refuse(reason),
        BlockError::Node(error) => internal(error),
    })
}

/// What the call returned, or the revert with its reason and data (code 3, as other clients do).
fn output(result: ExecutionResult) -> Result<Bytes, ErrorObjectOwned> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => {
            let message = reason(&output)
                .map_or_else(|| "execution reverted".to_owned(), |reason| format!("execution reverted: {reason}"));
            Err(ErrorObjectOwned::owned(3, message, Some(output)))
        }
        ExecutionResult::Halt { reason, .. } => Err(refuse(format!("execution failed: {reason:?}"))),
    }
}

/// The text of Solidity's `Error(string)`.
fn reason(output: &[u8]) -> Option<String> {
    let body = output.strip_prefix(&ERROR_SELECTOR)?;
    let length = usize::try_from(U256::try_from_be_slice(body.get(32..64)?)?).ok()?;
    let text = body.get(64..64usize.checked_add(length)?)?;
    String::from_utf8(text.to_vec()).ok()
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
        assert_eq!(reason(&data).unwrap(), "no! ");
        let mut endless = data.clone();
        endless[36..68].copy_from_slice(&U256::MAX.to_be_bytes::<32>());
        assert_eq!(reason(&endless), None);
        assert_eq!(reason(&data[..40]), None);
        assert_eq!(reason(b""), None);
    }
}
