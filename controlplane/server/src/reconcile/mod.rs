//! The leader's hands: reads the state, asks the planner, acts, and writes down what it saw.
//!
//! Only the leader's reconcilers touch the world, and only after the intent has committed: a deposed leader's intent
//! does not commit, so it cannot begin anything. Every act is `ensure`d by a key, so the next leader, who plans the same
//! from the same log, creates or adopts and never doubles. There is no undo: what is half-made is completed.
//!
//! Reconcilers take no input but the state and what they look at; a wake-up carries no reason. What they keep in memory
//! (who is busy, when to try again, heights) may be lost at any moment without harm.

mod act;
mod adopting;
pub mod anchor;
mod at_height;
mod cloud;
pub mod connect;
pub mod consensus;
mod contract;
pub(crate) mod data_disk;
mod driver;
mod figures;
mod host;
mod host_key;
mod look;
pub(crate) mod machine;
mod mask;
mod moving;
pub(crate) mod node;
mod order;
mod orphan;
pub mod replica;
mod seat;
pub mod setup;
mod transcript;
mod upkeep;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use hanse_engines_core::Engine;
use hanse_state::Millis;
use hanse_state::ids::RequestId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Timing;
use crate::log_clock::LogClock;
use crate::observed::Observed;
use crate::programs::Programs;
use anchor::Notary;
use connect::HostConnector;
use consensus::Consensus;
use setup::SetupCode;

/// Everything the reconcilers work with; a clone is cheap.
#[derive(Clone)]
pub struct World {
    /// This replica.
    pub replica: Arc<dyn Consensus>,
    /// What the leader saw last.
    pub observed: Arc<Observed>,
    /// The way to hosts.
    pub hosts: Arc<dyn HostConnector>,
    /// The ledgers' drivers, by name.
    pub engines: Arc<BTreeMap<String, Arc<dyn Engine>>>,
    /// Programs that were voted on.
    pub programs: Programs,
    /// This machine's clock, milliseconds since 1970; it may be set back, and then the reconcilers' does not follow.
    pub clock: Arc<dyn Fn() -> Millis + Send + Sync>,
    /// Gives a new id for each request.
    pub new_id: Arc<dyn Fn() -> RequestId + Send + Sync>,
    /// How often and how long.
    pub timing: Timing,
    /// What heads of the audit trail are made with; without it no chain records any.
    pub notary: Option<Notary>,
    /// Name of the cluster, for the first entry.
    pub cluster_name: String,
    /// Where the one-time setup code is kept until it is used; without it somebody else names the cluster.
    pub setup: Option<SetupCode>,
}

/// Runs until `shutdown`: follows leadership, and reconciles while this replica leads.
pub async fn run(world: World, shutdown: CancellationToken) {
    let (own, replica, steady) = (world.clock.clone(), world.replica.clone(), LogClock::default());
    // With a clock that was set back the last look at a node would stay fresh until that hour comes again.
    let clock = Arc::new(move || steady.read(own(), replica.local().now, Instant::now()));
    driver::follow_leadership(World { clock, ..world }, shutdown).await;
}
