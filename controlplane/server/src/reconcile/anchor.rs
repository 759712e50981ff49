//! The audit anchor: the head of the audit trail goes to each chain that records it, so that its members can compare the
//! platform's log with their own ledger.
//!
//! The chain itself says what it holds, so a new leader has nothing to remember: it looks, and sends only what is due by the
//! log's time. Two leaders at once do no harm, for a chain records only what continues the last head. What it refuses, or what
//! this trail does not continue, is shown with the chain and said in the log; nothing is hidden by sending something else.
//!
//! What this never does: hold up another chain or another act, or hold a secret that anything but heads can be sent with.

use std::time::Duration;

use hanse_engines_core::{AnchorOrder, AnchoredHead, Anchors};
use hanse_raft::Replica;
use hanse_state::chain::{Chain, ChainState};
use hanse_state::ids::ChainKey;
use hanse_state::{State, name};
use hanse_trail::merkle::verify_consistency;
use tokio::time::Instant;
use tracing::{error, info};

use super::World;
use super::act::Trouble;
use super::contract::best_node;
use super::driver::ActOn;
use super::node::Site;
use crate::observed::AnchorView;
use crate::trail::{Proven, Trail};

/// How long a sent head may take to get into a block before it is looked at again later.
const RECORDED_MAX: Duration = Duration::from_secs(20);
/// Pause between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What heads are made with.
#[derive(Clone)]
pub struct Notary {
    /// This replica, whose disk has the records.
    pub replica: Replica,
    /// Their tree, and the key that signs it.
    pub trail: Trail,
}

/// What was found out of a chain.
enum Finding {
    /// It holds this, and nothing is due, or what was due is recorded.
    Holds(Option<AnchoredHead>),
    /// It holds this, and somebody must act.
    Wrong(Option<AnchoredHead>, String),
}

/// Plans a look at each chain that records heads and is due for one.
pub(super) fn plan(world: &World, state: &State, mut due: impl FnMut(String, ActOn)) {
    if world.notary.is_none() {
        return;
    }
    let now = (world.clock)().0;
    let is_due = |chain: &&Chain| {
        let runs = matches!(chain.state, ChainState::Running | ChainState::Degraded);
        runs && chain.spec.anchor.is_some()
            && world.observed.anchor(&chain.key).is_none_or(|view| view.due_at_ms <= now)
    };
    for chain in state.chains.values().filter(is_due) {
        let (world, state, key) = (world.clone(), state.clone(), chain.key.clone());
        let act = async move { carry_out(&world, &state, &key).await };
        due(format!("{}/anchor", name::chain(&chain.key)), Box::pin(act));
    }
}

async fn carry_out(world: &World, state: &State, key: &ChainKey) -> Result<(), Trouble> {
    let found = anchor(world, state, key).await;
    let now = (world.clock)().0;
    let period = world.timing.anchor_ms;
    match found {
        Ok(Finding::Holds(head)) => {
            // Due again when what is recorded is so old; if the trail has not grown since, after a while.
            let since = head.as_ref().map_or(now, |head| head.time_ms.min(now));
            let due_at_ms = since.saturating_add(period).max(now + (period / 10).max(LOOK_AGAIN_LEAST_MS));
            world.observed.anchored(key, view(head, String::new(), now, due_at_ms));
            Ok(())
        }
        Ok(Finding::Wrong(head, error)) => {
            error!(chain = %name::chain(key), %error, "the audit anchor");
            world.observed.anchored(key, view(head, error, now, now.saturating_add(period)));
            Ok(())
        }
        Err(trouble) => {
            // What is known stays known; the desk makes the pause before the next try.
            let old = world.observed.anchor(key).unwrap_or_default();
            world
                .observed
                .anchored(key, AnchorView { error: trouble.to_string(), checked_at_ms: now, due_at_ms: 0, ..old });
            Err(trouble)
        }
    }
}

/// Pause before a chain is looked at again, at least: log time and this machine's clock may differ a little.
const LOOK_AGAIN_LEAST_MS: u64 = 500;

fn view(head: Option<AnchoredHead>, error: String, checked_at_ms: u64, due_at_ms: u64) -> AnchorView {
    let seen = AnchorView { error, checked_at_ms, due_at_ms, ..AnchorView::default() };
    let Some(head) = head else { return seen };
    let (size, height, at_ms) = (head.size, head.height, head.time_ms);
    AnchorView { size, root: hex::encode(head.root), height, at_ms, ..seen }
}

/// Looks what the chain holds, and has it record the trail's head if that is due.
async fn anchor(world: &World, state: &State, key: &ChainKey) -> Result<Finding, Trouble> {
    let notary = world.notary.as_ref().ok_or_else(|| Trouble::Stale("this replica proves no trail".into()))?;
    let node =
        best_node(world, state, key).ok_or_else(|| Trouble::Stale(format!("{key}: no node of it answers; waiting")))?;
    let site = Site::reach(world, state, &node).await?;
    let Some(held) = held(&site).await? else {
        return Ok(Finding::Wrong(None, "its nodes say that its genesis names no trail".into()));
    };
    let last = held.latest;
    let old = last.as_ref().map_or(0, |head| head.size);
    if old > state.audit.count {
        let words =
            format!("it holds a head of {old} records, but the trail has {}: its end was lost", state.audit.count);
        return Ok(Finding::Wrong(last, words));
    }
    let is_fresh = |head: &AnchoredHead| state.now.0 < head.time_ms.saturating_add(world.timing.anchor_ms);
    if last.as_ref().is_some_and(is_fresh) || old == state.audit.count {
        return Ok(Finding::Holds(last));
    }
    let stale = |error: crate::error::ApiError| Trouble::Stale(error.to_string());
    let proven = notary.trail.consistency(&notary.replica, state, old).await.map_err(stale)?;
    if let Some(words) = contradiction(last.as_ref(), &held.key, &proven) {
        return Ok(Finding::Wrong(last, words));
    }
    let sender = notary.trail.sender(site.chain.spec.chain_id).map_err(stale)?;
    let size = proven.checkpoint.size;
    let order = AnchorOrder { chain_id: site.chain.spec.chain_id, checkpoint: proven.note, proof: proven.proof };
    let hash = site.engine.send_anchor(site.adapter.as_ref(), &site.plan, &order, &sender).await?;
    recorded(&site, size, &hash).await
}

async fn held(site: &Site) -> Result<Option<Anchors>, Trouble> {
    Ok(site.engine.anchors(site.adapter.as_ref(), &site.plan, 0, None).await?)
}

/// Why the trail's head cannot go to a chain that holds this, in words for whoever must act.
fn contradiction(last: Option<&AnchoredHead>, key: &str, proven: &Proven) -> Option<String> {
    let own = proven.key.to_string();
    if key != own {
        return Some(format!("it records checkpoints of the key {key}, not of this platform's {own}"));
    }
    let last = last?;
    let now = &proven.checkpoint;
    let holds = verify_consistency(last.size, now.size, &proven.proof, &last.root, &now.root);
    let (size, height) = (last.size, last.height);
    (!holds).then(|| {
        let (root, at) = (hex::encode(last.root), last.time_ms);
        format!(
            "block {height} holds root {root} over the first {size} records (at {at} ms), but this trail has another: it was \
             changed or written anew"
        )
    })
}

/// Waits until a sent head is recorded.
async fn recorded(site: &Site, size: u64, hash: &str) -> Result<Finding, Trouble> {
    let end = Instant::now() + RECORDED_MAX;
    let key = &site.chain.key;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let last = held(site).await?.and_then(|held| held.latest);
        if let Some(head) = last.as_ref().filter(|head| head.size >= size) {
            info!(chain = %name::chain(key), size = head.size, height = head.height, "the audit trail is anchored");
            return Ok(Finding::Holds(last));
        }
        if let Ok(sent) = site.engine.transaction(site.adapter.as_ref(), &site.plan, hash).await
            && let (Some(block), Some(false)) = (sent.block, sent.success)
        {
            return Ok(Finding::Wrong(
                last,
                format!("its head of {size} records was refused in block {block}, {hash}"),
            ));
        }
        if Instant::now() > end {
            return Err(Trouble::Stale(format!("{key}: the head of {size} records, {hash}, is in no block yet")));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hanse_trail::merkle::{self, Hash};
    use hanse_trail::{Checkpoint, SigningKey, note};

    use super::*;

    /// A trail of so many records, and what it proves from `old` on.
    fn proven(leaves: &[Hash], old: u64) -> Proven {
        let key = SigningKey::parse(&note::private_text("demo.hanse.internal/audit", &[1; 32])).unwrap();
        let size = leaves.len() as u64;
        let checkpoint = Checkpoint {
            origin: "demo.hanse.internal/audit".into(),
            size,
            root: merkle::root(leaves, size).unwrap(),
            chain: [7; 32],
            cluster: "c".into(),
            at_ms: 9,
        };
        let proof = merkle::consistency(leaves, old, size).unwrap();
        Proven { note: checkpoint.sign(&key), checkpoint, key: key.public().clone(), proof }
    }

    #[test]
    fn only_a_trail_that_continues_what_the_chain_holds_is_sent_to_it() {
        let leaves: Vec<Hash> = (0..20u8).map(|n| merkle::leaf_hash(&[n])).collect();
        let held = AnchoredHead {
            size: 12,
            root: merkle::root(leaves.as_slice(), 12).unwrap(),
            chain: [7; 32],
            time_ms: 5,
            era: 0,
            height: 3,
            block_hash: String::new(),
            transaction: String::new(),
        };
        let good = proven(&leaves, 12);
        let key = good.key.to_string();
        assert_eq!(contradiction(Some(&held), &key, &good), None);
        assert_eq!(contradiction(None, &key, &proven(&leaves, 0)), None, "the first head continues nothing");
        let words = contradiction(Some(&held), "other+00000000+key", &good).unwrap();
        assert!(words.contains("of the key other+00000000+key, not of this platform's"), "{words}");
        let mut changed = leaves.clone();
        changed[4] = merkle::leaf_hash(b"changed");
        let words = contradiction(Some(&held), &key, &proven(&changed, 12)).unwrap();
        assert!(words.contains("block 3 holds root") && words.contains("first 12 records"), "{words}");
    }

    #[test]
    fn what_was_seen_stays_shown_with_what_is_wrong() {
        let seen = view(None, "no node answers".into(), 5, 6);
        assert_eq!((seen.size, seen.error.as_str(), seen.checked_at_ms, seen.due_at_ms), (0, "no node answers", 5, 6));
    }
}
