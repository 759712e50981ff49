//! The product under measure: three replicas with their reconcilers over mutual TLS, in a process of their own.
//!
//! Cold: hosts that were never touched are enrolled, two chains of half the nodes each are proposed and voted through, and
//! the reconciler of the leader provisions all nodes until the last is recorded healthy. Each step is an entry that a
//! majority has synced to disk. Warm: the lead is handed to another replica, which knows nothing of the hosts: it connects
//! anew, has the program on each host hashed, and looks at each process, configuration and port.
//!
//! What it never does: call an adapter itself, or count the start of the replicas and the accounts.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hanse_adapters_core::Artifact;
use hanse_engines_core::Engine;
use hanse_state::chain::node::{Health, NodeState};
use hanse_state::{Outcome, State};
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, One, until};
use crate::engine::BenchEngine;
use crate::fleet::Map;
use crate::story;
use crate::usage::{own_cpu, own_peak_mb};

/// What was measured; seconds and MB.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) cold_s: f64,
    pub(crate) cold_cpu_s: f64,
    pub(crate) warm_s: f64,
    pub(crate) peak_mb: f64,
    /// Log entries and requests of the cold run: every step's intent and fact among them.
    pub(crate) cold_requests: u64,
}

fn is_done(state: &State, count: usize) -> bool {
    let healthy =
        |node: &&hanse_state::chain::node::Node| node.state == NodeState::Running && node.health == Health::Healthy;
    state.nodes.values().filter(healthy).count() == count
}

/// What keeps nodes from being healthy, for a run that does not end.
fn obstacles(state: &State) -> String {
    let words = |node: &hanse_state::chain::node::Node| {
        format!("{} {:?} {:?} {}", node.key, node.state, node.health, node.state_reason)
    };
    state.nodes.values().map(words).collect::<Vec<_>>().join("\n")
}

/// Measures; everything of the replicas lies in `dir`.
pub(crate) async fn run(dir: &Path, map: &Map, program: &Path) -> Result<Figures> {
    let sha256 = hanse_hostrun::file_sha256(program).context("hash the program")?;
    let engine: Arc<dyn Engine> = Arc::new(BenchEngine::new(Artifact { sha256, path: program.to_path_buf() }));
    let cluster = Cluster::start(dir, map, &engine).await?;
    for (actor, command) in story::platform()? {
        cluster.order(actor, command).await?;
    }
    let count = map.hosts.len();
    let before = until("a leader", || cluster.leader()).await?.replica.local().revision;
    let (cpu, begin) = (own_cpu(), Instant::now());
    let enrolments = story::enrolments(map)?;
    let enrolled = enrolments.into_iter().map(|(actor, command)| cluster.order(actor, command));
    for outcome in futures::future::join_all(enrolled).await {
        outcome?;
    }
    for (number, nodes) in story::chains(count) {
        let (actor, command) = story::proposal(number, nodes)?;
        let Outcome::ProposalOpened { proposal, artifact_hash, .. } = cluster.order(actor, command).await? else {
            bail!("a proposal was answered by something else");
        };
        let (actor, command) = story::ballot(&proposal, artifact_hash)?;
        cluster.order(actor, command).await?;
    }
    let leader = until("a leader", || cluster.leader()).await?;
    let done = until("all nodes", || is_done(&leader.replica.local(), count).then_some(())).await;
    done.with_context(|| obstacles(&leader.replica.local()))?;
    let mut figures = Figures {
        cold_s: begin.elapsed().as_secs_f64(),
        cold_cpu_s: own_cpu() - cpu,
        cold_requests: leader.replica.local().revision - before,
        ..Figures::default()
    };
    figures.warm_s = warm(&cluster, leader, count).await?;
    figures.peak_mb = own_peak_mb()?;
    cluster.stop().await;
    Ok(figures)
}

/// Hands the lead to another replica and waits until it has seen every node.
async fn warm(cluster: &Cluster, leader: &One, count: usize) -> Result<f64> {
    let begin = Instant::now();
    leader.replica.hand_over().await;
    let next = until("another leader", || cluster.leader()).await?;
    let state = next.replica.local();
    let seen = || state.nodes.keys().filter(|key| next.observed.node(key).is_some()).count();
    until("a look at all nodes", || (seen() == count).then_some(())).await?;
    if next.replica.local().nodes.values().any(|node| node.generation != 1) {
        bail!("a node was started again though nothing had changed");
    }
    Ok(begin.elapsed().as_secs_f64())
}
