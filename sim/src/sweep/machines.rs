//! What is tried with a cloud's machines: one change at a time, as people order it.

use std::time::Duration;

use hanse_state::State;
use hanse_state::cloud::{Machine, MachineState};

use super::stage::Stage;
use crate::client::Client;
use crate::workload;

/// The machines of every stage.
const FIRST: &str = "m1";
const SECOND: &str = "m2";
/// Between two looks of a person who wants to be quick.
const GLANCE: Duration = Duration::from_millis(20);

/// What is missing before a stage of machines has come to its end; `None` if nothing.
pub(super) fn missing(stage: Stage, state: &State) -> Option<String> {
    let wished: &[&str] = match stage {
        Stage::Order => &[FIRST, SECOND],
        Stage::Withdraw | Stage::Discard | Stage::Lost => &[],
        Stage::Reorder | Stage::Strays => &[FIRST],
        other => unreachable!("{} has no machines", other.name()),
    };
    let there: Vec<&Machine> = state.machines.values().collect();
    if there.iter().map(|it| it.id.as_str()).ne(wished.iter().copied()) {
        let of: Vec<String> = there.iter().map(|it| format!("{} {:?} {}", it.id, it.state, it.state_reason)).collect();
        return Some(format!("machines are {of:?}, wished are {wished:?}"));
    }
    let other = there.iter().find(|it| it.state != MachineState::Ready);
    other.map(|it| format!("machine {} is {:?}: {}", it.id, it.state, it.state_reason))
}

fn are_ready(state: &State, names: &[&str]) -> bool {
    names.iter().all(|name| is(state, name, MachineState::Ready))
}

fn is(state: &State, name: &str, wanted: MachineState) -> bool {
    state.machines.get(&workload::host_id(name)).is_some_and(|it| it.state == wanted)
}

fn is_gone(state: &State, name: &str) -> bool {
    !state.machines.contains_key(&workload::host_id(name))
}

impl Client {
    /// Plays one stage of machines.
    pub(super) async fn play_machines(&mut self, stage: Stage) {
        for wish in workload::platform() {
            self.insist(wish).await;
        }
        self.insist(workload::add_cloud()).await;
        if matches!(stage, Stage::Order | Stage::Withdraw) {
            self.arm();
        }
        self.insist(workload::create_machine(FIRST)).await;
        if matches!(stage, Stage::Order | Stage::Discard) {
            self.insist(workload::create_machine(SECOND)).await;
        }
        match stage {
            Stage::Order => {}
            Stage::Withdraw => {
                // Before anything of it is known, or a moment after.
                while self.read(true).await.is_none_or(|state| is(&state, FIRST, MachineState::Requested)) {
                    tokio::time::sleep(GLANCE).await;
                }
                self.insist(workload::delete_machine(FIRST)).await;
            }
            Stage::Discard => {
                self.until(|state| are_ready(state, &[FIRST, SECOND])).await;
                self.arm();
                self.insist(workload::delete_machine(FIRST)).await;
                self.insist(workload::delete_machine(SECOND)).await;
            }
            Stage::Reorder => {
                self.until(|state| are_ready(state, &[FIRST])).await;
                self.arm();
                self.insist(workload::delete_machine(FIRST)).await;
                self.until(|state| is_gone(state, FIRST)).await;
                self.insist(workload::create_machine(FIRST)).await;
            }
            Stage::Lost => {
                self.until(|state| are_ready(state, &[FIRST])).await;
                self.arm();
                {
                    let mut world = self.shared.world();
                    let now_ms = world.now_ms;
                    world.provider.end_by_itself(now_ms, FIRST);
                    world.say("the cloud ends a machine");
                }
                self.until(|state| is(state, FIRST, MachineState::Ended)).await;
                self.insist(workload::delete_machine(FIRST)).await;
            }
            Stage::Strays => {
                self.until(|state| are_ready(state, &[FIRST])).await;
                self.arm();
                let mut world = self.shared.world();
                let (now_ms, cluster) = (world.now_ms, workload::cluster().to_string());
                world.provider.plant_strays(now_ms, &cluster, workload::cloud().as_str(), FIRST);
            }
            other => unreachable!("{} has no machines", other.name()),
        }
    }
}
