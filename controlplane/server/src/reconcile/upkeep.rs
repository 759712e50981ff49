//! What time makes due: the cluster's first entry, votes past their deadline, usage, and the comparison of digests.

use std::io::Write as _;

use hanse_planner::{plan_metering, plan_proposals};
use hanse_state::cluster::version::{SPOKEN, Version};
use hanse_state::cluster::{CheckDigest, InitCluster};
use hanse_state::ids::ClusterId;
use hanse_state::{Command, State};
use tracing::{error, info, warn};

use super::World;
use super::order::OrderError;
use super::setup::{SetupCode, code_hash};

/// Entries between two comparisons of digests; each comparison is itself an entry.
const DIGEST_EVERY: u64 = 500;

/// Rounds in which a new cluster waits for the word of all its first replicas on what they speak.
const SILENT_ROUNDS_MAX: u32 = 10;

/// What the leader remembers between rounds.
#[derive(Default)]
pub(super) struct Upkeep {
    silent_rounds: u32,
    digest_checked_at: u64,
    said_code: bool,
}

impl Upkeep {
    /// One round: each order stands for itself, and what did not commit is due again.
    pub(super) async fn round(&mut self, world: &World, state: &State) {
        let now = (world.clock)();
        self.cluster(world, state).await;
        let due = plan_proposals(state, now).into_iter().chain(plan_metering(state, now, world.timing.meter_ms));
        for act in due {
            if let Err(trouble) = super::act::carry_out(world, state, act).await {
                info!(%trouble, "an upkeep order had no effect; it is due again");
            }
        }
        if state.revision >= self.digest_checked_at.saturating_add(DIGEST_EVERY) {
            self.digest_checked_at = state.revision;
            let check = CheckDigest { revision: state.revision, digest: state.digest() };
            log(world.order(Command::CheckDigest(check)).await);
        }
    }

    /// Names the cluster once, and shows the setup code until it is spent.
    async fn cluster(&mut self, world: &World, state: &State) {
        let Some(setup) = &world.setup else { return };
        let code_is_due = state.cluster.as_ref().is_none_or(|cluster| cluster.setup_code_hash.is_some());
        if !code_is_due {
            if let Err(error) = setup.spend() {
                warn!(%error, "the spent setup code's file cannot be removed");
            }
            return;
        }
        if let Some(cluster) = &state.cluster {
            self.say_code(setup, cluster.setup_code_hash);
            return;
        }
        let code = match setup.read_or_make() {
            Ok(code) => code,
            Err(error) => return error!(%error, "the setup code cannot be kept; not naming the cluster"),
        };
        let Some(version) = self.first_version(world).await else { return };
        let cluster = ClusterId::new(uuid::Uuid::new_v4()).expect("a random UUID is not nil");
        let name = world.cluster_name.clone();
        log(world
            .order(Command::InitCluster(InitCluster { cluster, name, setup_code_hash: code_hash(&code), version }))
            .await);
    }

    /// The version that a new cluster begins at: the newest that all its replicas speak. `None` while some have not said;
    /// after some rounds it is the oldest, which takes nobody's word and is raised by a person.
    async fn first_version(&mut self, world: &World) -> Option<Version> {
        let spoken = world.replica.spoken().await;
        let newest: Option<Vec<Version>> = spoken.values().map(|it| it.map(|versions| versions.newest)).collect();
        if let Some(newest) = newest {
            return newest.into_iter().min();
        }
        self.silent_rounds += 1;
        if self.silent_rounds <= SILENT_ROUNDS_MAX {
            return None;
        }
        warn!("not every replica says which versions it speaks: the cluster begins at the oldest");
        Some(SPOKEN.oldest)
    }

    /// Prints the code once per lead, if this replica holds the one that counts.
    fn say_code(&mut self, setup: &SetupCode, hash: Option<hanse_state::Digest>) {
        if self.said_code {
            return;
        }
        self.said_code = true;
        match setup.read() {
            Ok(Some(code)) if Some(code_hash(&code)) == hash => {
                // Standard output, not the log: logs are shipped and kept.
                let words =
                    format!("one-time setup code {code} (use it with `hanse cluster bootstrap` or the console)");
                if let Err(error) = writeln!(std::io::stdout(), "hanse: {words}") {
                    warn!(%error, "the one-time setup code could not be printed; it is in this replica's data folder");
                }
            }
            Ok(_) => info!("the one-time setup code is in the data folder of the replica that made it"),
            Err(error) => warn!(%error, "the setup code cannot be read"),
        }
    }
}

fn log(result: Result<hanse_state::Outcome, OrderError>) {
    if let Err(error) = result {
        info!(%error, "an upkeep order had no effect; it is due again");
    }
}
