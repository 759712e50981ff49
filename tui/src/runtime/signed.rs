//! What takes a secret of the user: logging in, and signing a ballot.

use std::path::{Path, PathBuf};

use hanse_client::{Client, MemberKey, ballot, files, pb};

use super::api::{revision, within};
use crate::app::model::data::Failure;
use crate::app::model::dialog::Choice;
use crate::app::msg::Written;
use crate::convert;

pub(super) async fn log_in(
    client: &Client,
    token_path: Option<&Path>,
    account: String,
    password: String,
) -> Result<Written, Failure> {
    let request = pb::LoginRequest { account: account.clone(), password, ..Default::default() };
    let answer = client.call(request).await.map_err(|e| convert::failure(&e))?;
    client.set_token(Some(&answer.token)).map_err(|e| convert::failure(&e))?;
    if let Some(path) = token_path {
        // The session works without the file; the next start just asks for the password again.
        if let Err(error) = files::replace(path, answer.token.as_bytes()) {
            tracing::warn!(%error, path = %path.display(), "the session token could not be kept");
        }
    }
    Ok(Written { resource: account, revision: revision(answer.header), logged_in: true, ..Written::default() })
}

/// What the voter was shown.
pub(super) struct Shown {
    pub(super) proposal: String,
    pub(super) artifact: String,
    pub(super) tenant: String,
    pub(super) cluster_id: String,
}

/// Signs and casts a ballot over the very text the voter was shown; the hash is computed here, never taken on trust.
pub(super) async fn cast(client: &Client, shown: Shown, choice: Choice, key_path: PathBuf) -> Result<Written, Failure> {
    let refuse = |reason: &str, message: String| Failure {
        reason: reason.to_owned(),
        message,
        advice: "Nothing was signed or sent.".to_owned(),
        ..Failure::default()
    };
    let key = tokio::task::spawn_blocking(move || MemberKey::load(&key_path)).await;
    let key = key.map_err(|e| refuse("KEY_FILE", e.to_string()))?.map_err(|e| refuse("KEY_FILE", e.to_string()))?;
    let (consortium, proposal) = within(&shown.proposal, "proposals")?;
    let proposal = pb::Proposal {
        consortium,
        proposal: proposal.to_owned(),
        artifact_hash: ballot::artifact_hash(shown.artifact.as_bytes()),
        artifact: shown.artifact.into_bytes(),
        ..Default::default()
    };
    let choice = match choice {
        Choice::Yes => pb::Choice::Yes,
        Choice::No => pb::Choice::No,
        Choice::Abstain => pb::Choice::Abstain,
    };
    let request = ballot::sign(&key, &shown.cluster_id, &proposal, &shown.tenant, choice)
        .map_err(|e| refuse("BALLOT", e.to_string()))?;
    let answer = client.call(request).await.map_err(|e| convert::failure(&e))?;
    Ok(Written { resource: shown.proposal, revision: revision(answer.header), ..Written::default() })
}
