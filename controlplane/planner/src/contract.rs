//! Life of a deployment: send, then look until it is in a block.

use hanse_state::chain::node::NodeState;
use hanse_state::chain::query::nodes_of;
use hanse_state::contract::ContractState;
use hanse_state::ids::ContractKey;
use hanse_state::{Millis, State};

use crate::{Act, Observed, Step};

/// Returns what to do next with a deployment. Sending the same signed transaction twice is harmless: it has one nonce.
pub fn plan_contract(state: &State, key: &ContractKey, _observed: &Observed, _now: Millis) -> Step {
    let Some(contract) = state.contracts.get(key) else { return Step::Done };
    let act = match contract.state {
        ContractState::Requested => Act::SendContract { contract: key.clone() },
        ContractState::Sent => Act::LookContract { contract: key.clone() },
        ContractState::Deployed | ContractState::Failed => return Step::Done,
    };
    if nodes_of(state, &key.chain).any(|node| node.state == NodeState::Running) {
        Step::Do(act)
    } else {
        Step::wait("no node of the chain runs")
    }
}
