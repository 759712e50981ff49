//! What the tests of every engine ask of a running chain; for tests only.
//!
//! Waits are for a condition with a limit, and panic with what was seen instead. It never starts, stops or signs anything.

use std::time::Duration;

use hanse_adapters_core::Adapter;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{BlockRef, Engine, EngineError, NodeHealth, NodePlan, Transaction};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Lines of a node's log in a panic.
const LINES: u32 = 30;

/// Looks until `look` finds what it is after, and returns that; what it found instead is its `Err`.
///
/// # Panics
/// After `limit`, with what was seen last.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    let mut seen = "nothing yet".to_owned();
    loop {
        // A look that hangs ends with the limit, too.
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(other)) => seen = other,
            Err(_) => panic!("{what}: not within {limit:?}: {seen}"),
        }
        sleep(PAUSE).await;
    }
}

/// Waits until the node's health is as wished, and returns it.
///
/// # Panics
/// After `limit`, with what it said last and the end of its log.
pub async fn healthy(
    engine: &dyn Engine,
    (host, node): (&dyn Adapter, &NodePlan),
    (what, limit): (&str, Duration),
    holds: impl Fn(&NodeHealth) -> bool,
) -> NodeHealth {
    let deadline = Instant::now() + limit;
    loop {
        let seen = engine.health(host, node).await;
        if let Some(health) = seen.as_ref().ok().filter(|health| holds(health)) {
            return health.clone();
        }
        if Instant::now() > deadline {
            let log = host.tail(&node.key, LINES).await;
            panic!("{}: {what}: {seen:?}\n{log:?}", node.key);
        }
        sleep(PAUSE).await;
    }
}

/// Waits until a transaction is in a block and its outcome is known.
///
/// # Panics
/// After `limit`, or at an error other than "not found".
pub async fn included(
    engine: &dyn Engine,
    (host, node): (&dyn Adapter, &NodePlan),
    hash: &str,
    limit: Duration,
) -> Transaction {
    let look = async || match engine.transaction(host, node, hash).await {
        Ok(transaction) if transaction.success.is_some() => Ok(transaction),
        Ok(_) => Err("its outcome is not known".to_owned()),
        Err(EngineError::NotFound(_)) => Err("it is not known".to_owned()),
        Err(error) => panic!("{hash}: {error:?}"),
    };
    until(hash, limit, look).await
}

/// Asks for what is not there and sends nonsense: each has its own error.
///
/// # Panics
/// At another answer.
pub async fn refusals(engine: &dyn Engine, host: &dyn Adapter, node: &NodePlan) {
    let unknown = format!("0x{}", "01".repeat(32));
    for which in [BlockRef::Height(1 << 40), BlockRef::Hash(unknown.clone())] {
        let missing = engine.block(host, node, &which).await;
        assert!(matches!(missing, Err(EngineError::NotFound(_))), "{which:?}: {missing:?}");
    }
    let missing = engine.transaction(host, node, &unknown).await;
    assert!(matches!(missing, Err(EngineError::NotFound(_))), "{missing:?}");
    for bad in ["", "0x12", "latest", "0xzz"] {
        let found = engine.account(host, node, bad).await;
        assert!(matches!(found, Err(EngineError::Invalid { .. })), "{bad:?}: {found:?}");
    }
    let nonsense = engine.send_raw(host, node, &[1, 2, 3]).await;
    assert!(matches!(nonsense, Err(EngineError::Node { .. })), "{nonsense:?}");
}
