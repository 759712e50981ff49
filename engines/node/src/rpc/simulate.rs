//! `eth_call`, `eth_estimateGas` and `eth_createAccessList`.

use std::time::{Duration, Instant};

use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use revm::context::TxEnv;
use revm::context::result::{ExecutionResult, ResultAndState};
use revm::context_interface::either::Either;
use revm::state::EvmState;
use serde::Deserialize;
use serde_json::{Value, json};

use super::evm::{self, BlockOverrides, NotRun, Stage, StateOverrides};
use super::state::At;
use super::types::{Args, BlockRef, invalid, quantity};
use super::{Reply, internal, refuse};
use crate::exec;
use crate::node::Shared;
use crate::state::Overlay;

/// What a plain transfer costs; nothing costs less.
const GAS_MIN: u64 = 21_000;
/// Gas that a call with value gives to its callee for nothing; it has to be there before it comes back.
const STIPEND: u64 = 2_300;
/// Rounds of running with the list found so far; each round can only add to it.
const LIST_ROUNDS_MAX: usize = 8;
/// Highest address of a precompile; those need no place in an access list.
const PRECOMPILES_MAX: u64 = 0x1ff;

/// Authorizations (EIP-7702) of one call; each costs a recovery of its signer.
const AUTHORIZATIONS_MAX: usize = 256;

/// The transaction that a call is about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CallRequest {
    from: Option<Address>,
    to: Option<Address>,
    gas: Option<U256>,
    gas_price: Option<U256>,
    max_fee_per_gas: Option<U256>,
    max_priority_fee_per_gas: Option<U256>,
    value: Option<U256>,
    data: Option<Bytes>,
    input: Option<Bytes>,
    nonce: Option<U256>,
    chain_id: Option<U256>,
    access_list: Option<AccessList>,
    max_fee_per_blob_gas: Option<Value>,
    blob_versioned_hashes: Option<Value>,
    authorization_list: Option<Vec<SignedAuthorization>>,
}

/// A call, ready to be run once or more.
pub(super) struct Call {
    at: At,
    request: CallRequest,
    overrides: StateOverrides,
    block: revm::context::BlockEnv,
    pub(super) tx: TxEnv,
    until: Instant,
}

/// `eth_call`.
pub(super) fn call(shared: &Shared, params: Params<'_>) -> Reply {
    let call = Call::read(shared, params)?;
    Ok(json!(evm::output(call.run(shared, call.tx.clone())?.result)?))
}

/// `eth_estimateGas`: the smallest limit with which the call succeeds, found by halving.
///
/// Halving is right although more gas may change what a contract does: each answer has been tried. What was used is tried
/// first, then what must be there for the 1/64 that every call keeps back and for gas that is given back at the end.
pub(super) fn estimate(shared: &Shared, params: Params<'_>) -> Reply {
    let mut call = Call::read(shared, params)?;
    call.tx.gas_limit = call.tx.gas_limit.min(shared.rules.transaction_gas_max());
    let mut high = call.tx.gas_limit;
    let first = call.run(shared, call.tx.clone())?.result;
    let gas = *first.gas();
    if let ExecutionResult::Halt { reason: revm::context::result::HaltReason::OutOfGas(_), .. } = first {
        return Err(refuse(format!("gas required exceeds allowance ({high})")));
    }
    evm::output(first)?;
    let mut low = gas.tx_gas_used().max(GAS_MIN) - 1;
    let spent = gas.total_gas_spent();
    let mut likely = [(spent.saturating_add(STIPEND) / 63).saturating_mul(64), spent, gas.tx_gas_used()].to_vec();
    while low + 1 < high {
        let middle = likely.pop().filter(|guess| (low + 1..high).contains(guess)).unwrap_or(low + (high - low) / 2);
        match call.run(shared, TxEnv { gas_limit: middle, ..call.tx.clone() }) {
            Ok(done) if done.result.is_success() => high = middle,
            Ok(_) | Err(NotRun::Invalid(_)) => low = middle,
            Err(NotRun::Other(error)) => return Err(error),
        }
    }
    Ok(quantity(high))
}

/// `eth_createAccessList`: what the call touches, and the gas it uses when it names all of it.
pub(super) fn access_list(shared: &Shared, params: Params<'_>) -> Reply {
    let call = Call::read(shared, params)?;
    let mut tx = call.tx.clone();
    let mut done = call.run(shared, tx.clone())?;
    let to = call.request.to.or(done.result.created_address());
    for _ in 0..LIST_ROUNDS_MAX {
        let list = touched(&done.state, &call, to);
        if list == tx.access_list {
            break;
        }
        tx.access_list = list;
        tx.tx_type = tx.tx_type.max(1);
        done = call.run(shared, tx.clone())?;
    }
    let mut answer = json!({ "accessList": tx.access_list, "gasUsed": quantity(done.result.tx_gas_used()) });
    if let Err(error) = evm::output(done.result) {
        answer["error"] = json!(error.message());
    }
    Ok(answer)
}

/// Accounts and slots that were looked at. Sender, receiver and precompiles cost nothing extra, so they are named only for
/// their slots.
fn touched(state: &EvmState, call: &Call, to: Option<Address>) -> AccessList {
    let mut items = Vec::new();
    for (address, account) in state {
        let mut storage_keys: Vec<_> = account.storage.keys().map(|slot| B256::from(*slot)).collect();
        storage_keys.sort();
        let is_free = *address == call.tx.caller
            || Some(*address) == to
            || *address == call.block.beneficiary
            || U256::from_be_slice(address.as_slice()) <= U256::from(PRECOMPILES_MAX);
        if !storage_keys.is_empty() || !is_free {
            items.push(AccessListItem { address: *address, storage_keys });
        }
    }
    items.sort_by_key(|item| item.address);
    AccessList(items)
}

impl Call {
    fn read(shared: &Shared, params: Params<'_>) -> Result<Self, ErrorObjectOwned> {
        let mut args = Args::new(&params);
        let request: CallRequest = args.need("transaction")?;
        let which: BlockRef = args.maybe("block")?.unwrap_or_default();
        let overrides: StateOverrides = args.maybe("state overrides")?.unwrap_or_default();
        let block_overrides: BlockOverrides = args.maybe("block overrides")?.unwrap_or_default();
        Self::new(shared, request, &which, overrides, block_overrides)
    }

    /// Checks what was asked and finds the state for it.
    pub(super) fn new(
        shared: &Shared,
        request: CallRequest,
        which: &BlockRef,
        overrides: StateOverrides,
        block_overrides: BlockOverrides,
    ) -> Result<Self, ErrorObjectOwned> {
        evm::check_overrides(&overrides)?;
        check(&request, shared.rules.chain_id)?;
        let at = At::find(shared, which)?;
        let mut block = exec::block_env(&shared.rules, at.block.header());
        // As other clients do: who asks pays nothing, unless he says what.
        if request.gas_price.or(request.max_fee_per_gas).is_none_or(|price| price.is_zero()) {
            block.basefee = 0;
        }
        block_overrides.apply(&mut block)?;
        let limits = &shared.rpc.config;
        let gas_max = match limits.call_gas_max {
            0 => shared.rules.block_gas_limit,
            limit => limit,
        };
        let mut tx = prepare(shared, &at, &request, gas_max)?;
        if request.gas.is_none() && tx.gas_price > 0 {
            let allowance = allowance(&at, &overrides, &tx)?;
            if allowance < GAS_MIN {
                return Err(refuse(format!(
                    "insufficient funds for gas * price + value: the balance pays for {allowance} gas at {} wei",
                    tx.gas_price
                )));
            }
            tx.gas_limit = tx.gas_limit.min(allowance);
        }
        // The call may be larger than a block; its gas is bounded apart.
        block.gas_limit = block.gas_limit.max(tx.gas_limit);
        Ok(Self { at, request, overrides, block, tx, until: deadline(shared) })
    }

    /// Where it runs.
    pub(super) fn stage<'a>(&'a self, shared: &'a Shared) -> Stage<'a> {
        Stage { rules: &shared.rules, block: self.block.clone(), changes: &self.overrides, until: self.until }
    }

    /// The state it runs on.
    pub(super) fn base(&self) -> Result<Overlay<'_>, ErrorObjectOwned> {
        Ok(Overlay::new(self.at.state()?))
    }

    fn run(&self, shared: &Shared, tx: TxEnv) -> Result<ResultAndState, NotRun> {
        self.stage(shared).run(self.base().map_err(NotRun::Other)?, tx)
    }
}

/// When a call that begins now must be done.
pub(super) fn deadline(shared: &Shared) -> Instant {
    Instant::now() + Duration::from_millis(shared.rpc.config.call_ms_max)
}

fn check(request: &CallRequest, chain_id: u64) -> Result<(), ErrorObjectOwned> {
    if request.data.is_some() && request.input.is_some() && request.data != request.input {
        return Err(invalid("transaction: both data and input are set and not equal; give one of them"));
    }
    if request.gas_price.is_some() && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return Err(invalid("transaction: both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    if request.chain_id.is_some_and(|id| id != U256::from(chain_id)) {
        return Err(invalid(format!("transaction: chainId is not {chain_id}, which this chain has")));
    }
    if request.max_fee_per_blob_gas.is_some() || request.blob_versioned_hashes.is_some() {
        return Err(invalid("transaction: blobs are not supported"));
    }
    let authorizations = request.authorization_list.as_ref().map_or(0, Vec::len);
    if authorizations > AUTHORIZATIONS_MAX {
        return Err(invalid(format!("transaction: {authorizations} authorizations, at most {AUTHORIZATIONS_MAX}")));
    }
    if request.authorization_list.is_some() && request.to.is_none() {
        return Err(invalid("transaction: one with an authorization list cannot make a contract; set to"));
    }
    Ok(())
}

/// The gas that the caller can pay for.
fn allowance(at: &At, overrides: &StateOverrides, tx: &TxEnv) -> Result<u64, ErrorObjectOwned> {
    let balance = match overrides.get(&tx.caller).and_then(|change| change.balance) {
        Some(balance) => balance,
        None => at.state()?.account(tx.caller).map_err(internal)?.map_or(U256::ZERO, |account| account.balance),
    };
    let gas = balance.saturating_sub(tx.value) / U256::from(tx.gas_price);
    Ok(u64::try_from(gas).unwrap_or(u64::MAX))
}

fn prepare(shared: &Shared, at: &At, request: &CallRequest, gas_max: u64) -> Result<TxEnv, ErrorObjectOwned> {
    let caller = request.from.unwrap_or_default();
    let account = at.state()?.account(caller).map_err(internal)?;
    let price = |name: &str, price: Option<U256>| match price {
        None => Ok(None),
        Some(price) => {
            u128::try_from(price).map(Some).map_err(|_| invalid(format!("transaction: {name} is too large")))
        }
    };
    let tip = price("maxPriorityFeePerGas", request.max_priority_fee_per_gas)?;
    let max_fee = price("maxFeePerGas", request.max_fee_per_gas)?;
    let gas_price = max_fee.or(price("gasPrice", request.gas_price)?).or(tip).unwrap_or(0);
    let is_1559 = max_fee.is_some() || tip.is_some() || request.authorization_list.is_some();
    let gas_limit = request.gas.map_or(gas_max, |gas| u64::try_from(gas).unwrap_or(gas_max).min(gas_max));
    let nonce = match request.nonce {
        Some(nonce) => u64::try_from(nonce).map_err(|_| invalid("transaction: nonce is too large"))?,
        None => account.map_or(0, |account| account.nonce),
    };
    Ok(TxEnv {
        caller,
        gas_limit,
        gas_price,
        gas_priority_fee: is_1559.then(|| tip.unwrap_or(0)),
        kind: request.to.map_or(TxKind::Create, TxKind::Call),
        value: request.value.unwrap_or_default(),
        data: request.input.clone().or_else(|| request.data.clone()).unwrap_or_default(),
        nonce,
        chain_id: Some(shared.rules.chain_id),
        tx_type: match (&request.authorization_list, is_1559) {
            (Some(_), _) => 4,
            (None, true) => 2,
            (None, false) => u8::from(request.access_list.is_some()),
        },
        authorization_list: request.authorization_list.iter().flatten().cloned().map(Either::Left).collect(),
        access_list: request.access_list.clone().unwrap_or_default(),
        ..Default::default()
    })
}
