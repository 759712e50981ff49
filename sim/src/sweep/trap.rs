//! Where a run is struck: the steps that leaders take, and the one point of one of them at which a fault begins.
//!
//! A step is an act on a host (its intent, its call, its fact) or an entry that only the leader writes. A step is taken by
//! whoever leads: the trap waits for the first time that it comes to its point, holds it there until the fault has begun, and
//! lets it go on: a leader that is cut off, or that hands over, does not know it yet.

use hanse_state::chain::node::{NodeAct, NodeFact, instance_object};
use hanse_state::cloud::{MachineAct, MachineFact};
use hanse_state::ids::NodeKey;
use hanse_state::{Command, name};
use tokio::sync::oneshot;

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    /// What is done.
    pub(crate) what: &'static str,
    /// To what.
    pub(crate) on: String,
}

impl Step {
    const fn new(what: &'static str, on: String) -> Self {
        Self { what, on }
    }
}

/// A point of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// The leader is about to write down what it intends.
    BeforeIntent,
    /// That is committed, and the host was not called.
    AfterIntent,
    /// The host has done it, and the answer is on its way.
    BeforeResult,
    /// The leader has the answer, and is about to write it down.
    AfterResult,
}

impl Point {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BeforeIntent => "before-intent",
            Self::AfterIntent => "after-intent",
            Self::BeforeResult => "before-result",
            Self::AfterResult => "after-result",
        }
    }
}

/// The trap of one run.
#[derive(Default)]
pub(crate) struct Trap {
    /// Set once what is tried begins.
    armed: bool,
    /// The points that were reached, in the order in which that happened first.
    reached: Vec<(Step, Point)>,
    target: Option<(Step, Point)>,
    sprung: bool,
    /// Who waits for the fault.
    held: Vec<oneshot::Sender<()>>,
}

impl Trap {
    pub(crate) fn at(target: Option<(Step, Point)>) -> Self {
        Self { target, ..Self::default() }
    }

    /// What is tried begins.
    pub(crate) const fn arm(&mut self) {
        self.armed = true;
    }

    /// The points reached so far.
    pub(crate) fn reached(&self) -> &[(Step, Point)] {
        &self.reached
    }

    /// A leader is at a point of a step; gives what it must wait for, if this is where the fault begins.
    pub(crate) fn reach(&mut self, step: &Step, point: Point) -> Option<oneshot::Receiver<()>> {
        let here = (step.clone(), point);
        if !self.armed {
            return None;
        }
        let is_it = !self.sprung && self.target.as_ref() == Some(&here);
        if !self.reached.contains(&here) {
            self.reached.push(here);
        }
        if !is_it {
            return None;
        }
        self.sprung = true;
        let (sender, receiver) = oneshot::channel();
        self.held.push(sender);
        Some(receiver)
    }

    /// Whether the point was reached.
    pub(crate) const fn is_sprung(&self) -> bool {
        self.sprung
    }

    /// The fault has begun: whoever waits goes on.
    pub(crate) fn release(&mut self) {
        for held in self.held.drain(..) {
            // It may have been ended by the fault.
            let _ended = held.send(());
        }
    }
}

/// The step that a call of `act` on an object belongs to.
pub(crate) fn call(act: NodeAct, object: String) -> Step {
    Step::new(act.word(), object)
}

/// The step that makes a machine.
pub(crate) fn create_machine(machine: &str) -> Step {
    Step::new("create-machine", machine.to_owned())
}

/// The step that ends a machine.
pub(crate) fn delete_machine(machine: &str) -> Step {
    Step::new("delete-machine", machine.to_owned())
}

/// The step that ends what no machine is.
pub(crate) fn remove_stray(id: &str) -> Step {
    Step::new("remove-stray", id.to_owned())
}

/// The step that an order of a leader belongs to, and whether it is the step's result.
pub(crate) fn of(command: &Command) -> Option<(Step, bool)> {
    let result_of = |node: &NodeKey, act| Some((call(act, instance_object(node)), true));
    match command {
        Command::RecordIntent(intent) => Some((call(intent.act, instance_object(&intent.node)), false)),
        Command::RecordNodeFact(seen) => match &seen.fact {
            NodeFact::Prepared { .. } => result_of(&seen.node, NodeAct::Prepare),
            NodeFact::Configured => result_of(&seen.node, NodeAct::Configure),
            NodeFact::Started => result_of(&seen.node, NodeAct::Start),
            NodeFact::Stopped => result_of(&seen.node, NodeAct::Stop),
            NodeFact::Removed => result_of(&seen.node, NodeAct::Remove),
            NodeFact::Fenced => result_of(&seen.node, NodeAct::Fence),
            NodeFact::Carried => result_of(&seen.node, NodeAct::Carry),
            NodeFact::Cleared => result_of(&seen.node, NodeAct::Clear),
            NodeFact::Seated { .. } => result_of(&seen.node, NodeAct::Seat),
            NodeFact::Returned => result_of(&seen.node, NodeAct::Return),
            NodeFact::Healthy => Some((Step::new("healthy", instance_object(&seen.node)), false)),
            NodeFact::Unhealthy { .. }
            | NodeFact::Failed { .. }
            | NodeFact::Waiting { .. }
            | NodeFact::Seating { .. }
            | NodeFact::Halted { .. }
            | NodeFact::Signed { .. } => None,
        },
        Command::RecordGenesis(it) => Some((Step::new("genesis", name::chain(&it.chain)), false)),
        Command::PurgeChain(it) => Some((Step::new("purge", name::chain(&it.chain)), false)),
        Command::RollNode(it) => Some((Step::new("roll", instance_object(&it.node)), false)),
        Command::ReleaseNode(it) => Some((Step::new("release", instance_object(&it.node)), false)),
        Command::HaltRollout(it) => Some((Step::new("halt", name::chain(&it.chain)), false)),
        Command::MoveNode(it) => Some((Step::new("move", instance_object(&it.node)), false)),
        Command::RecordEvicted(it) => Some((Step::new("evicted", instance_object(&it.node)), false)),
        Command::RestartNode(it) => Some((Step::new("restart", instance_object(&it.node)), false)),
        Command::RemoveOrphan(it) => Some((Step::new("remove-orphan", it.object.clone()), false)),
        Command::RemoveCloudOrphan(it) => Some((remove_stray(&it.instance), false)),
        Command::RecordMachineIntent(it) => match it.act {
            MachineAct::Create => Some((create_machine(it.machine.as_str()), false)),
            MachineAct::Delete => Some((delete_machine(it.machine.as_str()), false)),
        },
        Command::RecordMachineFact(it) => match &it.fact {
            MachineFact::Launched { .. } => Some((create_machine(it.machine.as_str()), true)),
            MachineFact::Gone => Some((delete_machine(it.machine.as_str()), true)),
            MachineFact::Answers { .. } => Some((Step::new("answers", it.machine.to_string()), false)),
            MachineFact::Ended { .. } => Some((Step::new("ended", it.machine.to_string()), false)),
            MachineFact::Waiting { .. } => None,
        },
        _ => None,
    }
}
