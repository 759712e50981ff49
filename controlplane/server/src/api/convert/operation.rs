//! Operations and their steps.

use hanse_proto::v1 as pb;
use hanse_state::name;
use hanse_state::operation::{Operation, OperationKind, OperationState, Step, StepState, Work};

use super::ms;

/// An operation; what its steps did on hosts only for who `sees_hosts`.
pub(crate) fn operation(it: &Operation, sees_hosts: bool) -> pb::Operation {
    let (kind, target) = match &it.kind {
        OperationKind::CreateChain(chain) => (pb::OperationKind::CreateChain, name::chain(chain)),
        OperationKind::ChangeChain { chain, work, .. } => {
            let kind = match work {
                Work::Pause => pb::OperationKind::PauseChain,
                Work::Resume => pb::OperationKind::ResumeChain,
                Work::Delete => pb::OperationKind::DeleteChain,
                Work::Undelete => pb::OperationKind::UndeleteChain,
                Work::Grow => pb::OperationKind::GrowChain,
                Work::Shrink => pb::OperationKind::ShrinkChain,
                Work::Roll => pb::OperationKind::RollChain,
                Work::Move => pb::OperationKind::MoveNode,
                Work::Replace => pb::OperationKind::ReplaceNode,
                Work::Seat => pb::OperationKind::AddValidators,
                Work::Unseat => pb::OperationKind::RemoveValidators,
                Work::Adopt => pb::OperationKind::AdoptChain,
                Work::Upgrade | Work::UpgradeAt => pb::OperationKind::UpgradeChain,
                Work::Reconfigure => pb::OperationKind::ReconfigureChain,
                Work::RollBack => pb::OperationKind::RollBackChain,
            };
            (kind, name::chain(chain))
        }
        OperationKind::DeployContract(contract) => (pb::OperationKind::DeployContract, name::contract(contract)),
    };
    let done = it.steps.iter().filter(|step| step.state == StepState::Done).count();
    pb::Operation {
        name: name::operation(it.id),
        operation: it.id.to_string(),
        kind: kind.into(),
        target,
        started_by: it.by.clone(),
        request_id: it.request_id.clone(),
        state: state(it.state).into(),
        steps: it.steps.iter().map(|it| step(it, sees_hosts)).collect(),
        steps_done: u32::try_from(done).unwrap_or(u32::MAX),
        started_at_ms: ms(it.started_at),
        ended_at_ms: ms(it.ended_at),
        cause: it.cause.clone().unwrap_or_default(),
    }
}

/// How far an operation is.
pub(crate) fn state(state: OperationState) -> pb::OperationState {
    match state {
        OperationState::Running => pb::OperationState::Running,
        OperationState::Succeeded => pb::OperationState::Succeeded,
        OperationState::Failed => pb::OperationState::Failed,
    }
}

fn step(it: &Step, sees_hosts: bool) -> pb::OperationStep {
    let state = match it.state {
        StepState::Pending => pb::StepState::Pending,
        StepState::Running => pb::StepState::Running,
        StepState::Done => pb::StepState::Done,
        StepState::Failed => pb::StepState::Failed,
    };
    pb::OperationStep {
        step: it.name.clone(),
        target: it.target.clone(),
        state: state.into(),
        detail: it.detail.clone(),
        output: if sees_hosts { it.output.clone() } else { String::new() },
        started_at_ms: ms(it.started_at),
        ended_at_ms: ms(it.ended_at),
    }
}
