//! Findings about what the platform repairs by itself, and where it does not.

use hanse_state::chain::node::{Node, NodeState};
use hanse_state::chain::repair::{budget, left};
use hanse_state::ids::ChainKey;
use hanse_state::{Millis, State, name};

use super::{Finding, Severity};
use crate::{Observed, Step};

/// How a person names a node to the command line.
pub(super) fn short(node: &Node) -> String {
    format!("{} {} {}", node.key.chain.consortium, node.key.chain.chain, node.key.node)
}

/// What a person does once the cause is gone.
pub(super) fn restart(node: &Node) -> String {
    format!("when the cause is gone: `hanse node restart {}`, which also gives it all its repairs back", short(node))
}

/// A node that lives and does nothing, and what becomes of it.
pub(super) fn hanging(state: &State, node: &Node, observed: &Observed, now: Millis) -> Option<Finding> {
    let cause = crate::hang::hang(node, observed, now)?;
    let short = short(node);
    let recipe = match crate::plan_repair(state, &node.key, observed, now) {
        Step::Wait { reason } => {
            format!("not started anew by itself now ({reason}); `hanse node restart {short}` does it")
        }
        Step::Do(_) | Step::Done => {
            format!("it is started anew by itself; `hanse node log {short}` tells what it did last")
        }
    };
    let (resource, what) = (name::node(&node.key), "it lives and does nothing".into());
    Some(Finding { severity: Severity::Warning, resource, code: "NODE_HANGS", what, cause, recipe })
}

/// A node whose repairs are spent, or nearly; nothing of one that is blocked, or whose chain has none.
pub(super) fn few_left(state: &State, node: &Node, now: Millis) -> Option<Finding> {
    let (budget, left) = (budget(state, &node.key.chain), left(state, node, now));
    // Of one repair that is allowed, one that is left is all.
    if budget == 0 || left > 1 || left == budget || node.state == NodeState::Blocked {
        return None;
    }
    let (code, recipe) = match left {
        0 => {
            let chain = format!("{} {}", node.key.chain.consortium, node.key.chain.chain);
            let more = format!("`hanse chain repair {chain} --restarts-per-hour N --reason ...` allows more");
            ("REPAIRS_SPENT", format!("if it ends once more it is blocked; {}; {more}", restart(node)))
        }
        _ => {
            let why = format!("find why (`hanse node log {}`) before they are spent", short(node));
            ("REPAIRS_LOW", format!("{why}; {}", restart(node)))
        }
    };
    let what = format!("{left} of {budget} automatic repairs of this hour are left");
    let cause = "it ended or hung again and again".into();
    Some(Finding { severity: Severity::Warning, resource: name::node(&node.key), code, what, cause, recipe })
}

/// A chain whose nodes are not started again by the platform.
pub(super) fn off(state: &State, key: &ChainKey) -> Option<Finding> {
    let chain = state.chains.get(key)?;
    (budget(state, key) == 0).then(|| Finding {
        severity: Severity::Notice,
        resource: name::chain(&chain.key),
        code: "REPAIR_OFF",
        what: "its nodes are not started again by the platform".into(),
        cause: "an operator switched automatic repair off; the audit trail has the reason (`SetChainRepair`)".into(),
        recipe: format!(
            "`hanse chain repair {} {} --default --reason ...` switches it on again",
            key.consortium, key.chain
        ),
    })
}
