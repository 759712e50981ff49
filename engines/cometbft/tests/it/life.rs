//! What changes in a chain's life: a validator joins and leaves, a home is put back, all stop at one height.

use std::time::Duration;

use hanse_adapters_core::{Adapter, RunState};
use hanse_engines_core::{Engine, EngineError, Role, WayBack, conformance};

use crate::net::{LIMIT, Net};

const STATE: &str = "data/priv_validator_state.json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_come_and_go_homes_do_not_go_back_and_all_stop_at_one_height() {
    let root = tempfile::tempdir().unwrap();
    let mut net = Net::prepare(root.path(), 5, 4).await;
    for node in 0..5 {
        net.start(node).await;
    }
    net.healthy(4, "the fifth follows", |h| h.height >= 2 && !h.syncing && h.power == Some(0)).await;
    join_and_leave(&net).await;
    net.host.stop(&net.nodes[4].key, Duration::from_secs(10)).await.unwrap();
    put_back(&mut net).await;
    halt(&mut net).await;
}

async fn join_and_leave(net: &Net) {
    let fifth = &net.identities[4].public_key;
    let said = net.role(4, Role::Validator, &[0, 1, 2]).await;
    assert!(said.iter().any(|reason| reason.contains("vote")), "those who validate granted it: {said:#?}");
    assert!(said.iter().any(|reason| reason.contains("claims its seat")), "it claimed its seat once: {said:#?}");
    let keys = net.validators(0).await;
    assert!(keys.len() == 5 && keys.contains(fifth), "{keys:?}");
    net.healthy(4, "it has power", |h| h.power == Some(1_000)).await;
    assert!(net.role(4, Role::Validator, &[0, 1, 2]).await.is_empty(), "nothing is left to do");

    net.role(4, Role::Follower, &[]).await;
    let keys = net.validators(0).await;
    assert!(keys.len() == 4 && !keys.contains(fifth), "{keys:?}");
    let height = net.healthy(0, "alive", |_| true).await.height;
    net.healthy(0, "goes on without it", |h| h.height > height + 2).await;
}

/// An older copy of what was signed, and another's key, are refused with words that say what to do.
async fn put_back(net: &mut Net) {
    let state = net.home(3).join(STATE);
    let old = std::fs::read(&state).unwrap();
    let height = net.healthy(3, "alive", |_| true).await.height;
    net.healthy(3, "signs on", |h| h.height > height + 2).await;
    net.host.stop(&net.nodes[3].key, Duration::from_secs(10)).await.unwrap();
    let newest = std::fs::read(&state).unwrap();
    net.nodes[3].signed = net.engine.signed(&net.host, &net.nodes[3]).await.unwrap();
    assert!(net.nodes[3].signed.is_some_and(|signed| signed.height > height));
    net.nodes[3].generation += 1;

    std::fs::write(&state, &old).unwrap();
    let refused = net.engine.start(&net.host, &net.nodes[3]).await;
    let words = |r: &str| r.contains("put back to an older state") && r.contains("sign twice");
    assert!(
        matches!(&refused, Err(EngineError::Invalid { field, reason }) if field == STATE && words(reason)),
        "{refused:?}"
    );
    std::fs::remove_file(&state).unwrap();
    let refused = net.engine.start(&net.host, &net.nodes[3]).await;
    assert!(matches!(&refused, Err(EngineError::Invalid { field, .. }) if field == STATE), "{refused:?}");
    std::fs::write(&state, &newest).unwrap();

    let key = "config/priv_validator_key.json";
    let own = std::fs::read(net.home(3).join(key)).unwrap();
    std::fs::copy(net.home(2).join(key), net.home(3).join(key)).unwrap();
    let refused = net.engine.start(&net.host, &net.nodes[3]).await;
    assert!(
        matches!(&refused, Err(EngineError::Invalid { field, reason }) if field == key && reason.contains("two places")),
        "{refused:?}"
    );
    std::fs::write(net.home(3).join(key), own).unwrap();
    net.start(3).await;
    let goal = net.healthy(0, "alive", |_| true).await.height;
    net.healthy(3, "catches up with the newest home", |h| h.height >= goal && !h.syncing).await;
}

/// The mechanics of an upgrade that all must make at one block; the program that goes on is the same one here.
async fn halt(net: &mut Net) {
    let height = net.healthy(0, "alive", |_| true).await.height + 25;
    for node in 0..4 {
        net.engine.halt_at(&net.host, &net.nodes[node], Some(height)).await.unwrap();
        net.restart(node).await;
        net.healthy(node, "is back before the next one is restarted", |h| h.peers == 3 && !h.syncing).await;
    }
    assert!(!stands(net, 0, height).await, "not yet");
    for node in 0..4 {
        net.healthy(node, "reaches the height", |h| h.height == height).await;
    }
    // Decided and not executed: that is for the program that comes next.
    for node in 0..4 {
        let latest = net.engine.block(&net.host, &net.nodes[node], &hanse_engines_core::BlockRef::Latest).await;
        assert_eq!(latest.unwrap().height, height - 1, "node {node}");
        assert!(stands(net, node, height).await, "node {node}");
        assert!(!stands(net, node, height + 1).await && !stands(net, node, height - 1).await, "at no other height");
    }
    started_again_it_ends_there(net, height).await;
    for node in 0..4 {
        net.host.stop(&net.nodes[node].key, Duration::from_secs(10)).await.unwrap();
        net.engine.go_on_from(&net.host, &net.nodes[node], height).await.unwrap();
        // Nobody has opened what it holds since: whatever runs next, there is a way back.
        assert_eq!(back(net, node, height).await, WayBack::Open, "node {node}");
    }
    net.restart(0).await;
    net.healthy(0, "answers", |h| h.height >= height).await;
    let closed = |way: &WayBack| matches!(way, WayBack::Closed(why) if why.contains("executed block"));
    let way = back(net, 0, height).await;
    assert!(closed(&way), "it executes the block when it starts: {way:?}");
    for node in 1..4 {
        net.restart(node).await;
    }
    for node in 0..4 {
        net.healthy(node, "goes on beyond the height", |h| h.height > height + 2).await;
    }
    // Also of one that does not answer any more: it has signed what comes after.
    net.host.stop(&net.nodes[1].key, Duration::from_secs(10)).await.unwrap();
    let way = back(net, 1, height).await;
    assert!(closed(&way), "{way:?}");
}

async fn stands(net: &Net, node: usize, height: u64) -> bool {
    net.engine.stands_at(&net.host, &net.nodes[node], height).await.unwrap()
}

async fn back(net: &Net, node: usize, height: u64) -> WayBack {
    net.engine.way_back(&net.host, &net.nodes[node], Some(height)).await.unwrap()
}

/// With the program before it does not come further, and its last words say where it stands.
async fn started_again_it_ends_there(net: &mut Net, height: u64) {
    net.restart(3).await;
    conformance::until("it ends at the height", LIMIT, async || {
        let status = net.host.look(&net.nodes[3].key).await.unwrap().unwrap();
        if matches!(status.run, RunState::Exited { .. }) {
            return Ok(());
        }
        Err(format!("{status:?}: {}", net.host.tail(&net.nodes[3].key, 5).await.unwrap()))
    })
    .await;
    let log = net.host.tail(&net.nodes[3].key, 60).await.unwrap();
    assert!(stands(net, 3, height).await, "{log}");
    assert!(!stands(net, 3, height + 1).await);
}
