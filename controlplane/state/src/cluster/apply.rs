//! Rules of the platform: all checks, then all changes.

use super::{Bootstrap, CheckDigest, Cluster, InitCluster, version};
use crate::account::{PlatformRole, Role};
use crate::apply::Cx;
use crate::check;
use crate::command::Outcome;
use crate::replica::Replicas;
use crate::{Divergence, Rejection, State, account, name};

pub(crate) fn init(state: &mut State, cx: &mut Cx<'_>, c: &InitCluster) -> Result<Outcome, Rejection> {
    let resource = || "cluster".to_owned();
    if let Some(cluster) = &state.cluster {
        // Two replicas that start together both propose it; the second changes nothing if it is the same wish.
        let is_same = cluster.id == c.cluster;
        return if is_same {
            Ok(Outcome::Unchanged { resource: resource() })
        } else {
            Err(Rejection::AlreadyExists { field: "cluster".into(), what: format!("cluster {}", cluster.id) })
        };
    }
    check::text("name", &c.name, check::DISPLAY_NAME_MAX)?;
    version::check_spoken(c.version)?;

    state.cluster = Some(Cluster {
        id: c.cluster,
        name: c.name.clone(),
        setup_code_hash: Some(c.setup_code_hash),
        created_at: cx.now,
        last_backup: None,
        restored: None,
        replicas: Replicas::default(),
        version: c.version,
    });
    cx.created(resource());
    Ok(Outcome::Done { resource: resource() })
}

pub(crate) fn bootstrap(state: &mut State, cx: &mut Cx<'_>, c: &Bootstrap) -> Result<Outcome, Rejection> {
    check::cluster_id(state)?;
    let Some(code) = state.cluster.as_ref().and_then(|cluster| cluster.setup_code_hash) else {
        return Err(check::wrong_state("setup_code", "the setup code".into(), "spent", "an administrator exists"));
    };
    if code != c.setup_code_hash {
        return Err(Rejection::PermissionDenied {
            actor: cx.request.actor.to_string(),
            action: "Bootstrap".into(),
            needs: "needs the setup code that the first leader printed".into(),
        });
    }
    let role = Role::Platform(PlatformRole::Administrator);
    account::apply::check_new(state, &c.account, &role, "password_hash", &c.password_hash)?;

    if let Some(cluster) = &mut state.cluster {
        cluster.setup_code_hash = None;
    }
    account::apply::add(state, cx, &c.account, role, &c.password_hash);
    cx.updated("cluster".into());
    Ok(Outcome::Done { resource: name::account(&c.account) })
}

pub(crate) fn check_digest(state: &mut State, cx: &mut Cx<'_>, c: &CheckDigest) -> Result<Outcome, Rejection> {
    if let Some(ours) = state.digest_at(c.revision).filter(|ours| *ours != c.digest) {
        cx.diverged = Some(Divergence { revision: c.revision, ours, theirs: c.digest });
    }
    Ok(Outcome::Unchanged { resource: "cluster".into() })
}
