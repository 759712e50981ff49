//! What nodes run, and the changes of it.

use hanse_proto::v1 as pb;
use hanse_state::State;
use hanse_state::chain::height::HeightStage;
use hanse_state::chain::outfit::{Program, Refit};

use super::{id, ms};
use crate::error::ApiError;

/// A program.
pub(crate) fn program(it: &Program) -> pb::Program {
    pb::Program { name: it.name.clone(), version: it.version.clone(), sha256: it.sha256.to_string() }
}

/// A program as asked for; what the request leaves out, the hash or name and version, is that of the artifact as it is kept now.
///
/// # Errors
/// The hash is none, or the platform keeps no such artifact.
pub(crate) fn program_in(state: &State, it: pb::Program) -> Result<Program, ApiError> {
    const FIELD: &str = "action.change_chain.upgrade.program";
    const ADVICE: &str = "have a platform operator import it (`hanse artifact import`) and tell name and version";
    if !it.sha256.is_empty() {
        let sha256 = id(&format!("{FIELD}.sha256"), &it.sha256)?;
        let kept = state.artifacts.get(&sha256).filter(|_| it.name.is_empty() && it.version.is_empty());
        return Ok(match kept {
            Some(kept) => Program { name: kept.name.clone(), version: kept.version.clone(), sha256 },
            None => Program { name: it.name, version: it.version, sha256 },
        });
    }
    let kept = state.artifacts.values().find(|kept| kept.name == it.name && kept.version == it.version);
    let missing = || {
        let why = format!("{:?} in version {:?} is not an artifact that the platform keeps", it.name, it.version);
        ApiError::invalid(FIELD, &why, ADVICE)
    };
    let sha256 = kept.ok_or_else(missing)?.sha256;
    Ok(Program { name: it.name, version: it.version, sha256 })
}

/// A change of what a chain's nodes run.
pub(crate) fn refit(it: &Refit) -> pb::Refit {
    pb::Refit {
        before: it.before.program.as_ref().map(program),
        settings_before: it.before.settings.clone(),
        rollout: it.rollout,
        since_ms: ms(it.since),
        settled_at_ms: it.settled_at.map_or(0, ms),
        rolled_back: it.rolled_back.clone().unwrap_or_default(),
        at_height: it.at.as_ref().map_or(0, |at| at.height),
        stage: it.at.as_ref().map_or(pb::HeightStage::Unspecified, |at| stage(at.stage)).into(),
        next: it.at.as_ref().and_then(|at| at.to.program.as_ref()).map(program),
    }
}

fn stage(stage: HeightStage) -> pb::HeightStage {
    match stage {
        HeightStage::Telling => pb::HeightStage::Telling,
        HeightStage::CalledOff => pb::HeightStage::CalledOff,
        HeightStage::Exchanging => pb::HeightStage::Exchanging,
        HeightStage::Back => pb::HeightStage::Back,
    }
}
