//! What a chain as a whole still needs, and the contracts on it.

use hanse_state::State;
use hanse_state::contract::ContractState;
use hanse_state::ids::{ChainKey, ContractKey};

use crate::Step;

/// What can be done about a chain as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainAct {
    /// Make the genesis from the identities of all nodes.
    Genesis,
}

/// What can be done about a contract's deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractAct {
    /// Hand the signed transaction to a node; handing over a known one is harmless.
    Send,
    /// Look whether its transaction is in a block.
    Look,
}

/// Plans chain `key`; a chain that is not in the state is [`Step::Done`].
pub fn plan_chain(state: &State, key: &ChainKey) -> Step<ChainAct> {
    let Some(chain) = state.chains.get(key) else { return Step::Done };
    if chain.genesis.is_some() {
        return Step::Done;
    }
    let nodes = state.nodes.iter().filter(|(node, _)| node.chain == *key);
    let (total, known) = nodes.fold((0_usize, 0_usize), |(total, known), (_, node)| {
        (total + 1, known + usize::from(node.identity.is_some()))
    });
    if total == 0 || known < total {
        return Step::wait(format!("{known} of {total} nodes have made their keys"));
    }
    Step::Do(ChainAct::Genesis)
}

/// Plans the deployment of contract `key`.
pub fn plan_contract(state: &State, key: &ContractKey) -> Step<ContractAct> {
    match state.contracts.get(key).map(|contract| contract.state) {
        Some(ContractState::Requested) => Step::Do(ContractAct::Send),
        Some(ContractState::Sent) => Step::Do(ContractAct::Look),
        Some(ContractState::Deployed | ContractState::Failed) | None => Step::Done,
    }
}
