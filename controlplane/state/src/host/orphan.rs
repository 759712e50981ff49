//! What is on a host and nothing in the state asks for: the leader writes down that it removes it before it does.
//!
//! Nothing of the state changes by that. The entry is the word that counts on whether somebody asks for it after all (an
//! order may have come between the look and the act), the fence against a deposed leader, and the line in the audit trail.

use serde::{Deserialize, Serialize};

use super::{HostState, TEXT_MAX, apply, query};
use crate::apply::Cx;
use crate::chain::node::instance_object;
use crate::command::Outcome;
use crate::ids::HostId;
use crate::time::Millis;
use crate::{Rejection, State, check, name};

/// Removes from a host what carries this cluster's mark there and no node is. By the system. Since version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveOrphan {
    /// On which host.
    pub host: HostId,
    /// Its name there, as [`instance_object`] makes them.
    pub object: String,
    /// The generation that was seen there; 0 if nothing was ever started.
    pub generation: u64,
    /// Since when it was seen there without being asked for, by the leader's clock.
    pub seen_since: Millis,
}

pub(crate) fn remove(state: &State, cx: &mut Cx<'_>, c: &RemoveOrphan) -> Result<Outcome, Rejection> {
    let host = query::get(state, &c.host)?;
    if host.state == HostState::Distrusted {
        return Err(apply::distrusted(host));
    }
    check::text("object", &c.object, TEXT_MAX)?;
    if state.nodes.keys().any(|key| instance_object(key) == c.object) {
        return Err(check::invalid("object", &c.object, "something that no node of the platform is"));
    }
    // A thing may be made and be seen by a clock that is ahead of the log's.
    if c.seen_since > cx.now {
        return Err(check::invalid("seen_since", c.seen_since.0, "before now"));
    }
    cx.updated(name::host(&c.host));
    Ok(Outcome::Done { resource: name::orphan(&c.host, &c.object) })
}
