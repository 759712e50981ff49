//! A cloud's machine: ordered, looked at until it answers, deleted when a person wants it gone.

use hanse_state::State;
use hanse_state::cloud::MachineState;
use hanse_state::ids::HostId;

use crate::{Act, Step};

/// What to do with a machine next.
pub fn plan_machine(state: &State, id: &HostId) -> Step {
    let Some(machine) = state.machines.get(id) else { return Step::Done };
    let id = id.clone();
    match machine.state {
        MachineState::Requested | MachineState::Creating => Step::Do(Act::CreateMachine { machine: id }),
        MachineState::Starting => Step::Do(Act::LookMachine { machine: id }),
        MachineState::Deleting => Step::Do(Act::DeleteMachine { machine: id }),
        MachineState::Ready => Step::Done,
        // It is not made again by itself: its disk, and keys that were on it, are gone.
        MachineState::Ended => Step::wait("the cloud ended it; a person deletes it"),
    }
}
