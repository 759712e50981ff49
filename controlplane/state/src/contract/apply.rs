//! Rules of contracts: all checks, then all changes.

use super::{
    CONTRACTS_PENDING_MAX, CONTRACTS_PER_CHAIN_MAX, Contract, ContractFact, ContractState, DeployContract,
    RAW_TRANSACTION_BYTES_MAX, RecordContractFact, query,
};
use crate::apply::Cx;
use crate::chain::REASON_MAX;
use crate::command::Outcome;
use crate::operation::{self, OperationKind};
use crate::{Rejection, State, chain, check, name};

pub(crate) fn deploy(state: &mut State, cx: &mut Cx<'_>, c: &DeployContract) -> Result<Outcome, Rejection> {
    let resource = name::contract(&c.contract);
    let chain = chain::query::get(state, &c.contract.chain)?;
    if chain.ran_at.is_none() {
        let what = name::chain(&chain.key);
        return Err(check::wrong_state("contract", what, chain.state, "the chain must have run"));
    }
    chain::life_apply::check_runs(chain)?;
    // A name whose deployment failed is free again.
    let is_taken = |contract: &Contract| contract.state != ContractState::Failed;
    if state.contracts.get(&c.contract).is_some_and(is_taken) {
        return Err(Rejection::AlreadyExists { field: "contract".into(), what: resource });
    }
    check::range("raw_transaction", c.raw_transaction.0.len() as u64, 1, RAW_TRANSACTION_BYTES_MAX as u64)?;
    let of_chain = || state.contracts.values().filter(|contract| contract.key.chain == c.contract.chain);
    let pending = of_chain().filter(|contract| contract.raw_transaction.is_some()).count();
    check::quota("contract", "the number of the chain's contracts", of_chain().count(), CONTRACTS_PER_CHAIN_MAX)?;
    check::quota("contract", "the number of unfinished deployments", pending, CONTRACTS_PENDING_MAX)?;
    let by = cx.account().cloned();
    let Some((by, tenant)) = by.and_then(|id| id.tenant().cloned().map(|tenant| (id, tenant))) else {
        let (tenant, what) = (cx.request.actor.to_string(), resource);
        return Err(Rejection::NotAMember { field: "actor".into(), tenant, what });
    };

    let operation = operation::apply::start(state, cx, OperationKind::DeployContract(c.contract.clone()));
    let contract = Contract {
        key: c.contract.clone(),
        tenant,
        by,
        raw_transaction: Some(c.raw_transaction.clone()),
        state: ContractState::Requested,
        state_reason: String::new(),
        state_since: cx.now,
        tx_hash: None,
        address: None,
        block: None,
        operation,
        created_at: cx.now,
    };
    state.contracts.insert(c.contract.clone(), contract);
    cx.created(resource.clone());
    operation::apply::sync(state, cx, operation);
    Ok(Outcome::OperationStarted { resource, operation })
}

pub(crate) fn fact(state: &mut State, cx: &mut Cx<'_>, c: &RecordContractFact) -> Result<Outcome, Rejection> {
    let mut contract = query::get(state, &c.contract)?.clone();
    let resource = name::contract(&c.contract);
    let unchanged = || Ok(Outcome::Unchanged { resource: resource.clone() });
    let conflict = || Err(Rejection::ConflictingFact { field: "fact".into(), what: resource.clone() });
    match (&c.fact, contract.state) {
        (ContractFact::Sent { tx_hash }, ContractState::Requested) => {
            check_hex("fact.tx_hash", tx_hash, 64)?;
            contract.tx_hash = Some(tx_hash.clone());
            contract.state = ContractState::Sent;
        }
        (ContractFact::Sent { tx_hash }, _) if contract.tx_hash.as_ref() == Some(tx_hash) => return unchanged(),
        (ContractFact::Deployed { address, block }, ContractState::Sent) => {
            check_hex("fact.address", address, 40)?;
            contract.address = Some(address.clone());
            contract.block = Some(*block);
            contract.state = ContractState::Deployed;
            contract.raw_transaction = None;
        }
        (ContractFact::Deployed { address, block }, ContractState::Deployed) => {
            let is_same = contract.address.as_ref() == Some(address) && contract.block == Some(*block);
            return if is_same { unchanged() } else { conflict() };
        }
        (ContractFact::Failed { reason }, ContractState::Requested | ContractState::Sent) => {
            contract.state = ContractState::Failed;
            contract.state_reason = check::clip(reason, REASON_MAX);
            contract.raw_transaction = None;
        }
        (ContractFact::Failed { .. }, ContractState::Failed) => return unchanged(),
        (ContractFact::Deployed { .. }, ContractState::Requested) => {
            let needs = "a node must have taken its transaction";
            return Err(check::wrong_state("fact", resource, contract.state, needs));
        }
        (ContractFact::Sent { .. } | ContractFact::Deployed { .. } | ContractFact::Failed { .. }, _) => {
            return conflict();
        }
    }
    contract.state_since = cx.now;
    let operation = contract.operation;
    state.contracts.insert(c.contract.clone(), contract);
    cx.updated(resource.clone());
    operation::apply::sync(state, cx, operation);
    Ok(Outcome::Done { resource })
}

fn check_hex(field: &str, text: &str, digits: usize) -> Result<(), Rejection> {
    let is_hex = |hex: &str| hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if text.strip_prefix("0x").is_some_and(is_hex) {
        return Ok(());
    }
    Err(check::invalid(field, text, format!("0x and {digits} hex digits")))
}
