//! The way to a host behind SSH, as far as it is not the plain one: machines between, what it must show, how the platform
//! logs in, and whether it works there as root.
//!
//! Keys are not here: what the platform logs in with lies beside each replica, and only the kind is said of a host. Every machine
//! on the way is pinned as the host is; one that shows another key makes the host distrusted.
//!
//! What this never does: change what was pinned by itself, or who owns the files of nodes that are on the host already.

use serde::{Deserialize, Serialize};

use super::{Host, HostState, Reach, apply, query};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::ids::HostId;
use crate::{Rejection, State, check, name};

/// Machines on the way to one host.
pub const JUMPS_MAX: usize = 4;

/// How a host behind SSH is reached, beyond address and user. Its default is what there was before cluster version 5: straight,
/// the host's own key pinned, by the platform's key, as the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// Machines on the way, the first one first; at most [`JUMPS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jumps: Vec<Jump>,
    /// What the host's pinned fingerprint is of.
    #[serde(default, skip_serializing_if = "Pin::is_key")]
    pub pin: Pin,
    /// What the platform shows, to the host and to every machine on the way.
    #[serde(default, skip_serializing_if = "Login::is_key")]
    pub login: Login,
    /// Whether everything on the host is done as root, through `sudo -n`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sudo: bool,
}

impl Way {
    /// Whether it is the plain one.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// A machine on the way, as OpenSSH's `ProxyJump` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jump {
    /// Name or address, as the machine before it on the way knows it.
    pub address: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Pinned key, `SHA256:...`.
    pub fingerprint: String,
}

impl Jump {
    /// `user@address:port`.
    pub fn machine(&self) -> String {
        format!("{}@{}:{}", self.user, self.address, self.port)
    }
}

/// What a host's pinned fingerprint is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pin {
    /// Its own key.
    #[default]
    Key,
    /// The authority that signs a certificate for its address.
    Authority,
}

impl Pin {
    /// Whether it is [`Pin::Key`].
    pub fn is_key(&self) -> bool {
        *self == Self::Key
    }
}

/// What the platform shows when it logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Login {
    /// The replica's key (`ssh_identity`).
    #[default]
    Key,
    /// That key's certificate (`ssh_certificate`).
    Certificate,
    /// What the replica's agent holds (`ssh_agent`).
    Agent,
}

impl Login {
    /// Whether it is [`Login::Key`].
    pub fn is_key(&self) -> bool {
        *self == Self::Key
    }
}

/// What changes of how a host behind SSH is reached; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReachChange {
    /// Name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// User; not while nodes are on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the host must show: the fingerprint, and what it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<(Pin, String)>,
    /// All machines on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jumps: Option<Vec<Jump>>,
    /// What the platform shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// Whether it works as root; not while nodes are on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<bool>,
}

impl ReachChange {
    /// Returns what `reach` becomes; unchanged if it is not behind SSH.
    pub fn applied(&self, reach: &Reach) -> Reach {
        let mut next = reach.clone();
        let Reach::Ssh { address, port, user, fingerprint, way, .. } = &mut next else { return next };
        set_if_named(address, &self.address);
        set_if_named(port, &self.port);
        set_if_named(user, &self.user);
        if let Some((kind, pinned)) = &self.pin {
            way.pin = *kind;
            fingerprint.clone_from(pinned);
        }
        set_if_named(&mut way.jumps, &self.jumps);
        set_if_named(&mut way.login, &self.login);
        set_if_named(&mut way.sudo, &self.sudo);
        next
    }
}

fn set_if_named<T: Clone>(to: &mut T, named: &Option<T>) {
    if let Some(value) = named {
        to.clone_from(value);
    }
}

/// Changes how a host behind SSH is reached. A distrusted host is trusted again, as what is then pinned. By an administrator, for
/// it pins keys. Since version 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetHostReach {
    /// Which.
    pub host: HostId,
    /// What changes.
    pub change: ReachChange,
}

pub(crate) fn set(state: &mut State, cx: &mut Cx<'_>, c: &SetHostReach) -> Result<Outcome, Rejection> {
    let before = query::get(state, &c.host)?;
    let resource = name::host(&c.host);
    if !matches!(before.reach, Reach::Ssh { .. }) {
        let needs = "only a host behind SSH is reached in another way; retire it and enrol it anew";
        return Err(check::wrong_state("host", resource, before.state, needs));
    }
    let next = c.change.applied(&before.reach);
    apply::check_reach(&next)?;
    check_owner(state, before, &next)?;
    if next == before.reach && before.state != HostState::Distrusted {
        return Ok(Outcome::Unchanged { resource });
    }

    let mut host = Host { reach: next, seen_fingerprint: None, seen_jump: None, ..before.clone() };
    if host.state != HostState::Distrusted {
        state.hosts.insert(c.host.clone(), host);
        cx.updated(resource.clone());
        return Ok(Outcome::Done { resource });
    }
    host.state_reason = String::new();
    let outcome = apply::go(state, cx, host, HostState::Ready, "");
    apply::place_waiting(state, cx);
    Ok(outcome)
}

/// Files of nodes belong to who made them: another account could neither read nor stop them.
fn check_owner(state: &State, host: &Host, next: &Reach) -> Result<(), Rejection> {
    let account = |reach: &Reach| match reach {
        Reach::Ssh { user, way, .. } => Some((user.clone(), way.sudo)),
        Reach::Local { .. } | Reach::Docker { .. } => None,
    };
    let is_used = state.nodes.values().any(|node| node.host.as_ref() == Some(&host.id));
    if !is_used || account(&host.reach) == account(next) {
        return Ok(());
    }
    let needs =
        "user and sudo stay while nodes are on it, whose files belong to that account: move or remove them first";
    Err(check::wrong_state("host", name::host(&host.id), host.state, needs))
}

/// Checks what is said of a way.
pub(crate) fn check(way: &Way) -> Result<(), Rejection> {
    if way.jumps.len() > JUMPS_MAX {
        let rule = format!("at most {JUMPS_MAX} machines");
        return Err(check::invalid("reach.jumps", way.jumps.len(), rule));
    }
    for jump in &way.jumps {
        apply::check_word("reach.jumps.address", &jump.address)?;
        apply::check_word("reach.jumps.user", &jump.user)?;
        check::range("reach.jumps.port", u64::from(jump.port), 1, u64::from(u16::MAX))?;
        apply::check_fingerprint("reach.jumps.fingerprint", &jump.fingerprint)?;
    }
    Ok(())
}
