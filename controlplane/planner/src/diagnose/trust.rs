//! Findings about keys: certificates that end, and keys that signed two things at once.

use hanse_state::chain::node::Node;
use hanse_state::ids::{ChainKey, NodeKey};
use hanse_state::time::HOUR_MS;
use hanse_state::{Millis, State, name};

use super::{Finding, Severity};

const DAY_MS: u64 = 24 * HOUR_MS;
/// A certificate that ends within this time is told.
pub const EXPIRY_WARNING_MS: u64 = 30 * DAY_MS;
/// Within this time it is serious.
pub const EXPIRY_SOON_MS: u64 = 7 * DAY_MS;

/// A certificate, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Resource name of what it is for.
    pub resource: String,
    /// What it is, in words.
    pub what: String,
    /// When it ends.
    pub until: Millis,
    /// What renews it.
    pub renew: String,
}

/// A proof that a validator signed two different things for one step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DoubleSign {
    /// The block that it voted on.
    pub height: u64,
    /// The round of that height.
    pub round: u64,
    /// The ledger's name for the validator.
    pub node_id: String,
    /// What was signed twice.
    pub kind: String,
    /// Which node that is, if it is one of the platform's.
    pub node: Option<NodeKey>,
}

/// A certificate that ends soon or has ended.
pub(super) fn expires(it: &Expiry, now: Millis) -> Option<Finding> {
    let left = it.until.since(now);
    if left >= EXPIRY_WARNING_MS {
        return None;
    }
    let (severity, code, what) = match left {
        0 => (Severity::Critical, "CERTIFICATE_EXPIRED", format!("{} has ended", it.what)),
        _ => {
            let severity = if left < EXPIRY_SOON_MS { Severity::Critical } else { Severity::Warning };
            let about = match left / DAY_MS {
                0 => format!("{} h", left / HOUR_MS),
                days => format!("{days} days"),
            };
            (severity, "CERTIFICATE_EXPIRES", format!("{} ends in {about}", it.what))
        }
    };
    let cause = "certificates are made for a time, and nobody has renewed this one yet".into();
    Some(Finding { severity, resource: it.resource.clone(), code, what, cause, recipe: it.renew.clone() })
}

/// What validators of a chain were proven to have signed twice: one finding for each of them, of its newest proof.
pub(super) fn double_signs(state: &State, key: &ChainKey, proofs: &[DoubleSign]) -> Vec<Finding> {
    let mut newest: std::collections::BTreeMap<&str, (&DoubleSign, usize)> = std::collections::BTreeMap::new();
    for proof in proofs {
        let known = newest.entry(&proof.node_id).or_insert((proof, 0));
        known.0 = known.0.max(proof);
        known.1 += 1;
    }
    let known = |proof: &DoubleSign| proof.node.as_ref().and_then(|node| state.nodes.get(node));
    newest.into_values().map(|(proof, count)| double_sign(key, known(proof), proof, count)).collect()
}

fn double_sign(key: &ChainKey, node: Option<&Node>, proof: &DoubleSign, count: usize) -> Finding {
    let DoubleSign { height, round, node_id, kind, node: _ } = proof;
    let who = node.map_or_else(|| format!("validator {node_id}"), |node| format!("{} ({node_id})", node.key.node));
    let times = if count == 1 { String::new() } else { format!("; {count} proofs of it are kept") };
    let chain = format!("{} {}", key.consortium, key.chain);
    Finding {
        severity: Severity::Critical,
        resource: node.map_or_else(|| name::chain(key), |node| name::node(&node.key)),
        code: "DOUBLE_SIGN",
        what: format!("{who} signed two different messages ({kind}) at height {height}, round {round}{times}"),
        cause: "its key runs at two places, its home was put back to an older copy, or its program is not the one it should be".into(),
        recipe: format!(
            "find where else its key runs and stop that for good; compare its program; `hanse chain governance {chain}` shows the \
             proofs, and members may take its vote away"
        ),
    }
}
