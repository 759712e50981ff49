//! The genesis of a chain: a pure function of what was ordered and of what each node contributed.
//!
//! The application's own empty genesis, the same of every node, gets: the accounts with their balances, every operator
//! with its stake and something for gas, the signed claims to seats, and rules that suit a consortium: equal power, no
//! inflation, nobody put out for being down for a while, and newcomers' stakes in a pool that validators with two
//! thirds of the power must open by a vote on the chain.

use std::collections::BTreeMap;

use hanse_engines_core::{ChainPlan, EngineError, NodeIdentity, Result};
use hanse_engines_evm::hex_of;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::contribution::{Contribution, STAKE, account_like};
use crate::profile::Profile;
use crate::{bech32, time};

/// Most validators of one chain.
pub(crate) const VALIDATORS_MAX: usize = 100;
/// Newcomers whose stakes lie in the pool.
const SEATS_RESERVED: u128 = 100;
/// For gas, to every operator and for every newcomer, in units of the gas coin.
pub(crate) const GAS_MONEY: u128 = 1_000_000_000_000_000_000;
/// Most decimal digits of an amount, so that the sum of all fits into the application's 256 bits.
const DIGITS_MAX: usize = 70;
/// Parameters with their ranges. A template may be narrower.
pub(crate) const PARAMETERS: &[(&str, u64, u64)] = &[
    ("block_time_ms", 200, 60_000),
    ("block_gas_limit", 1_000_000, 1_000_000_000),
    ("vote_seconds", 5, 1_209_600),
    ("double_sign_check_height", 0, 1_000),
];

/// Returns a parameter in its range.
pub(crate) fn parameter(parameters: &BTreeMap<String, u64>, name: &str) -> Result<u64> {
    let (low, high) =
        PARAMETERS.iter().find(|(known, ..)| *known == name).map_or((0, 0), |(_, low, high)| (*low, *high));
    match parameters.get(name) {
        Some(value) if (low..=high).contains(value) => Ok(*value),
        Some(value) => Err(invalid(name, format!("{value} is out of range: choose {low} to {high}"))),
        None => Err(invalid(name, format!("is missing: choose {low} to {high}"))),
    }
}

/// Returns the genesis: the same inputs give the same bytes.
pub(crate) fn genesis(chain: &ChainPlan, validators: &[NodeIdentity], profile: &Profile) -> Result<Vec<u8>> {
    if chain.chain_id == 0 || chain.chain_id >= 1 << 53 {
        return Err(invalid("chain_id", format!("must be 1 to {}", (1_u64 << 53) - 1)));
    }
    if chain.anchor.is_some() {
        return Err(invalid("anchor", "this ledger records no heads of the audit trail: order it without"));
    }
    if chain.governance.is_some() {
        return Err(invalid(
            "governance",
            "this ledger is governed by its own votes on the chain: order it without members",
        ));
    }
    if validators.is_empty() || validators.len() > VALIDATORS_MAX {
        return Err(invalid("validators", format!("must be 1 to {VALIDATORS_MAX}")));
    }
    if let Some(name) = chain.parameters.keys().find(|name| PARAMETERS.iter().all(|(known, ..)| known != name)) {
        return Err(invalid(name, "is not a parameter of this ledger: leave it out"));
    }
    for (name, ..) in PARAMETERS {
        parameter(&chain.parameters, name)?;
    }
    let contributions = contributions(validators, profile)?;
    let mut genesis = contributions[0].base.clone();
    accounts(&mut genesis, chain, &contributions, profile)?;
    rules(&mut genesis, chain, profile)?;
    genesis["app_state"]["genutil"]["gen_txs"] = contributions.iter().map(|c| c.claim.clone()).collect();
    genesis["chain_id"] = profile.chain_name(chain.chain_id).into();
    genesis["genesis_time"] = time::text(chain.genesis_time_ms).into();
    for (pointer, value) in &profile.genesis {
        let value = serde_json::to_value(value).map_err(|e| invalid(pointer, e.to_string()))?;
        *place(&mut genesis, pointer)? = filled(value, chain.chain_id);
    }
    serde_json::to_vec(&genesis).map_err(|e| invalid("genesis", e.to_string()))
}

/// Every node's contribution; all of them begin with the same genesis, so their programs agree on it.
fn contributions(validators: &[NodeIdentity], profile: &Profile) -> Result<Vec<Contribution>> {
    let field = |node: &NodeIdentity| format!("contribution of node {}", node.node_id);
    let mut all: Vec<Contribution> = Vec::new();
    for node in validators {
        let own = Contribution::of(node, profile).map_err(|reason| invalid(&field(node), reason))?;
        if let Some(first) = all.first()
            && first.base != own.base
        {
            let reason = "its program begins with another genesis than the first node's: give all nodes one version";
            return Err(invalid(&field(node), reason));
        }
        if all.iter().any(|other| other.operator == own.operator) {
            return Err(invalid(&field(node), "has the operator of another node"));
        }
        all.push(own);
    }
    Ok(all)
}

/// Accounts, balances, the pool, and their sums.
fn accounts(genesis: &mut Value, chain: &ChainPlan, contributions: &[Contribution], profile: &Profile) -> Result<()> {
    let (gas, bond) = (&profile.gas_denom, &profile.bond_denom);
    let mut balances: BTreeMap<String, Vec<(&str, String)>> = BTreeMap::new();
    let mut accounts = Vec::new();
    for own in contributions {
        balances.insert(own.operator.clone(), vec![(gas, GAS_MONEY.to_string()), (bond, STAKE.to_string())]);
        accounts.push(own.account.clone());
    }
    for (address, amount) in &chain.alloc {
        let field = format!("alloc.{address}");
        if amount.is_empty() || amount.len() > DIGITS_MAX || !amount.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid(&field, "must be an amount in the smallest unit, decimal digits only"));
        }
        let own = hex::decode(&hex_of(&field, address, 20)?[2..]).map_err(|e| invalid(&field, e.to_string()))?;
        let own = bech32::encode(&profile.address_prefix, &own);
        // Leading zeros are no number for the application, and nothing is no balance.
        let amount = amount.trim_start_matches('0').to_owned();
        let coins = if amount.is_empty() { Vec::new() } else { vec![(gas.as_str(), amount)] };
        if balances.insert(own.clone(), coins).is_some() {
            return Err(invalid(&field, "is listed twice, or is an operator's: keep one"));
        }
        accounts.push(account_like(&contributions[0].account, &own));
    }
    // The address of a module's account (Cosmos SDK, `NewModuleAddress`).
    let pool = bech32::encode(&profile.address_prefix, &digest(&SHA256, b"distribution").as_ref()[..20]);
    let reserve = [(gas.as_str(), SEATS_RESERVED * GAS_MONEY), (bond.as_str(), SEATS_RESERVED * STAKE)];
    balances.insert(pool, reserve.map(|(denom, amount)| (denom, amount.to_string())).into());
    let sorted = |coins: &[(&str, String)]| {
        let mut coins: Vec<_> = coins.to_vec();
        coins.sort();
        coins.iter().map(|(denom, amount)| json!({ "denom": denom, "amount": amount })).collect::<Value>()
    };
    let decimals = reserve.map(|(denom, amount)| (denom, format!("{amount}.000000000000000000")));
    *place(genesis, "/app_state/distribution/fee_pool/community_pool")? = sorted(&decimals);
    *place(genesis, "/app_state/auth/accounts")? = accounts.into();
    // Empty: the application sums up the balances itself when it begins.
    *place(genesis, "/app_state/bank/supply")? = json!([]);
    *place(genesis, "/app_state/bank/balances")? = balances
        .iter()
        .filter(|(_, coins)| !coins.is_empty())
        .map(|(address, coins)| json!({ "address": address, "coins": sorted(coins) }))
        .collect();
    Ok(())
}

/// Rules of the standard modules that suit a consortium. `None` where the application may lack the module.
fn rules(genesis: &mut Value, chain: &ChainPlan, profile: &Profile) -> Result<()> {
    let seconds = parameter(&chain.parameters, "vote_seconds")?;
    let coin = |amount: &str| json!([{ "denom": profile.gas_denom, "amount": amount }]);
    let none = json!("0.000000000000000000");
    let needed = [
        ("/app_state/staking/params/bond_denom", json!(profile.bond_denom)),
        ("/app_state/staking/params/max_validators", json!(VALIDATORS_MAX)),
        ("/app_state/gov/params/voting_period", json!(format!("{seconds}s"))),
        ("/app_state/gov/params/expedited_voting_period", json!(format!("{}s", seconds / 2))),
        // A proposal is made by a validator that the consortium's vote has told to; the deposit keeps nobody out.
        ("/app_state/gov/params/min_deposit", coin("1")),
        ("/app_state/gov/params/expedited_min_deposit", coin("2")),
        // Two thirds must take part and more than half of them agree: as many as must agree on a block.
        ("/app_state/gov/params/quorum", json!("0.666000000000000000")),
        ("/consensus/params/block/max_gas", json!(parameter(&chain.parameters, "block_gas_limit")?.to_string())),
    ];
    for (pointer, value) in needed {
        *place(genesis, pointer)? = value;
    }
    let optional = [
        ("/app_state/mint/minter/inflation", none.clone()),
        ("/app_state/mint/params/inflation_max", none.clone()),
        ("/app_state/mint/params/inflation_min", none.clone()),
        ("/app_state/mint/params/inflation_rate_change", none.clone()),
        ("/app_state/mint/params/mint_denom", json!(profile.bond_denom)),
        // A member whose machine is down for some hours neither loses stake nor has to be let in again.
        ("/app_state/slashing/params/signed_blocks_window", json!("10000")),
        ("/app_state/slashing/params/min_signed_per_window", json!("0.050000000000000000")),
        ("/app_state/slashing/params/slash_fraction_downtime", none),
    ];
    for (pointer, value) in optional {
        if let Some(found) = genesis.pointer_mut(pointer) {
            *found = value;
        }
    }
    Ok(())
}

/// The place of a value that the application's genesis must have.
fn place<'a>(genesis: &'a mut Value, pointer: &str) -> Result<&'a mut Value> {
    genesis.pointer_mut(pointer).ok_or_else(|| {
        invalid(&format!("genesis{pointer}"), "the application's genesis has no such place: does the profile fit it?")
    })
}

/// `{chain_id}` in texts, however deep.
fn filled(value: Value, chain_id: u64) -> Value {
    match value {
        Value::String(text) => text.replace("{chain_id}", &chain_id.to_string()).into(),
        Value::Array(list) => list.into_iter().map(|item| filled(item, chain_id)).collect(),
        Value::Object(map) => map.into_iter().map(|(name, item)| (name, filled(item, chain_id))).collect(),
        other => other,
    }
}

pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> EngineError {
    EngineError::Invalid { field: field.into(), reason: reason.into() }
}
