//! Whether this node follows its chain, for load balancers and for people.
//!
//! Ready means: enough validators are connected to decide blocks, the height moves, and nothing is left to catch up. It
//! looks at what is known at the moment and never waits.

use std::time::Duration;

use serde::Serialize;

use crate::NodeError;
use crate::node::Shared;

/// The height may stand still for so many block times before it is said that it does not move ...
const BLOCKS_STILL_MAX: u64 = 5;
/// ... and for this time besides, because a round that fails takes some seconds.
const STILL_EXTRA: Duration = Duration::from_secs(10);

/// The answer of `/ready`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Readiness {
    ready: bool,
    /// What is missing, in words; empty if it is ready.
    reasons: Vec<String>,
    height: u64,
    round: u32,
    peers: usize,
    syncing: bool,
    block_time_ms: u64,
}

impl Readiness {
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// What is missing, in words; empty if it is ready.
    pub(crate) fn into_reasons(self) -> Vec<String> {
        self.reasons
    }
}

/// How the node stands now.
pub(crate) fn check(shared: &Shared) -> Readiness {
    let status = shared.status().clone();
    let mut reasons = Vec::new();
    if status.syncing {
        let best = shared.net.peers().map(|peer| peer.height()).max().unwrap_or(0);
        reasons.push(format!("it catches up: block {} of {best}", status.height));
    }
    reasons.extend(shared.halted());
    match power(shared) {
        // Tendermint decides with more than two thirds of the power.
        Ok((present, total)) if u128::from(present) * 3 <= u128::from(total) * 2 => {
            reasons.push(format!(
                "validators with power {present} of {total} are connected, more than two thirds are needed"
            ));
        }
        Ok(_) => {}
        Err(error) => reasons.push(error.chain()),
    }
    let still = status.moved.map_or(shared.started.elapsed(), |moved| moved.elapsed());
    let patience = Duration::from_millis(shared.genesis.block_time_ms * BLOCKS_STILL_MAX) + STILL_EXTRA;
    if still > patience {
        reasons.push(format!("block {} is {} s old and no other came", status.height, still.as_secs()));
    }
    Readiness {
        ready: reasons.is_empty(),
        reasons,
        height: status.height,
        round: status.round,
        peers: shared.net.connected(),
        syncing: status.syncing,
        block_time_ms: status.time_ms,
    }
}

/// The power of the validators that this node is or is connected to, and of all.
fn power(shared: &Shared) -> Result<(u64, u64), NodeError> {
    let (mut present, mut total) = (0, 0);
    for validator in shared.validators()? {
        let id = validator.public_key.node_id();
        total += validator.power;
        let is_here = id == shared.me || shared.net.peer(&id).is_some_and(|peer| peer.is_outbound());
        present += if is_here { validator.power } else { 0 };
    }
    Ok((present, total))
}
