//! Carrying a user's signed transaction to the chain, and looking for its receipt. The transaction's own hash and nonce
//! make sending it twice harmless.

use std::time::Duration;

use hanse_engines_core::EngineError;
use hanse_state::contract::{Contract, ContractFact, RecordContractFact};
use hanse_state::ids::{ChainKey, ContractKey, NodeKey};
use hanse_state::{Command, State};

use super::World;
use super::act::Trouble;
use super::node::Site;

/// How long a chain may refuse a deployment "for now" (a full pool, a busy node) before the deployment has failed.
const NOT_NOW_MAX: Duration = Duration::from_secs(10 * 60);

/// Hands the transaction of contract `key` to a node of its chain.
pub(super) async fn send_contract(world: &World, state: &State, key: &ContractKey) -> Result<(), Trouble> {
    let (contract, site) = reach(world, state, key).await?;
    let fact = send(state, &site, contract).await?;
    report(world, key, fact).await
}

/// Looks for the transaction of contract `key` in a block.
pub(super) async fn look_contract(world: &World, state: &State, key: &ContractKey) -> Result<(), Trouble> {
    let (contract, site) = reach(world, state, key).await?;
    let fact = look(state, &site, contract).await?;
    report(world, key, fact).await
}

async fn reach<'a>(world: &World, state: &'a State, key: &ContractKey) -> Result<(&'a Contract, Site), Trouble> {
    let contract = state.contracts.get(key).ok_or_else(|| Trouble::Stale(format!("{key}: is gone")))?;
    let node = best_node(world, state, &contract.key.chain)
        .ok_or_else(|| Trouble::Stale(format!("{key}: no node of its chain answers; waiting")))?;
    Ok((contract, Site::reach(world, state, &node).await?))
}

async fn report(world: &World, key: &ContractKey, fact: ContractFact) -> Result<(), Trouble> {
    world.order(Command::RecordContractFact(RecordContractFact { contract: key.clone(), fact })).await?;
    Ok(())
}

async fn send(state: &State, site: &Site, contract: &Contract) -> Result<ContractFact, Trouble> {
    let raw = contract.raw_transaction.as_ref().ok_or_else(|| Trouble::Stale("its transaction is gone".into()))?;
    match site.engine.send_raw(site.adapter.as_ref(), &site.plan, &raw.0).await {
        Ok(tx_hash) => Ok(ContractFact::Sent { tx_hash }),
        Err(EngineError::Node { reason, .. }) => Ok(ContractFact::Failed { reason }),
        Err(EngineError::Invalid { field, reason }) => {
            Ok(ContractFact::Failed { reason: format!("{field}: {reason}") })
        }
        Err(EngineError::NotNow { reason, .. }) if waited_enough(state, contract) => {
            let minutes = NOT_NOW_MAX.as_secs() / 60;
            Ok(ContractFact::Failed { reason: format!("{reason}; so for {minutes} minutes") })
        }
        Err(
            error @ (EngineError::Host(_)
            | EngineError::NotNow { .. }
            | EngineError::NotFound(_)
            | EngineError::Unsupported(_)),
        ) => Err(error.into()),
    }
}

/// Whether the contract has been waiting for longer than a passing refusal lasts, by the log's time: a leader's clock that
/// is ahead must not fail a deployment.
fn waited_enough(state: &State, contract: &Contract) -> bool {
    u128::from(state.now.0.saturating_sub(contract.created_at.0)) >= NOT_NOW_MAX.as_millis()
}

async fn look(state: &State, site: &Site, contract: &Contract) -> Result<ContractFact, Trouble> {
    let hash = contract.tx_hash.as_ref().ok_or_else(|| Trouble::Stale("its transaction has no hash".into()))?;
    let transaction = match site.engine.transaction(site.adapter.as_ref(), &site.plan, hash).await {
        Ok(transaction) => transaction,
        // The node that took it may have died with it: hand it over again. A refusal here is no failure: another node took
        // the transaction and may yet put it into a block.
        Err(EngineError::NotFound(_)) => {
            return match send(state, site, contract).await? {
                ContractFact::Failed { reason } => Err(Trouble::Stale(reason)),
                fact @ (ContractFact::Sent { .. } | ContractFact::Deployed { .. }) => Ok(fact),
            };
        }
        Err(error) => return Err(error.into()),
    };
    match (transaction.block, transaction.success, transaction.contract) {
        (Some(block), Some(true), Some(address)) => Ok(ContractFact::Deployed { address, block }),
        (Some(_), Some(true), None) => {
            Ok(ContractFact::Failed { reason: "the transaction creates no contract".into() })
        }
        (Some(_), Some(false), _) => Ok(ContractFact::Failed { reason: "the chain reverted the deployment".into() }),
        (None, ..) | (Some(_), None, _) => Err(Trouble::Stale("its transaction waits for a block".into())),
    }
}

/// The highest node of a chain that answered this leader and is not catching up.
pub(super) fn best_node(world: &World, state: &State, chain: &ChainKey) -> Option<NodeKey> {
    let nodes = state.nodes.keys().filter(|key| key.chain == *chain);
    let heard = nodes.filter_map(|key| world.observed.node(key).map(|view| (view, key)));
    heard.filter(|(view, _)| !view.syncing).max_by_key(|(view, _)| view.height).map(|(_, key)| key.clone())
}
