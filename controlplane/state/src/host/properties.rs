//! What people say of a host: its failure zone, labels, whose nodes it takes, and how many.
//!
//! They steer placement and are shown; what runs on the host already stays. A change names only what it changes, so two
//! people who change different things do not undo each other.
//!
//! What this never does: move a node, or let a host be given to a tenant while another's nodes are on it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Host, PORTS_PER_NODE, SLOTS_MAX, apply, query};
use crate::apply::Cx;
use crate::command::Outcome;
use crate::ids::{HostId, TenantId};
use crate::{Rejection, State, check, name};

/// Labels of a host.
pub const LABELS_MAX: usize = 32;
/// Bytes of a label's key.
pub const LABEL_KEY_MAX: usize = 63;
/// Bytes of a label's value.
pub const LABEL_VALUE_MAX: usize = 128;
/// Bytes of a zone's name.
pub const ZONE_MAX: usize = 63;

/// Whose nodes a host takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tenancy {
    /// Those of all tenants.
    #[default]
    Shared,
    /// Those of this tenant only; its nodes are placed here before they are placed on shared hosts.
    Dedicated(TenantId),
}

impl Tenancy {
    /// Whether it is [`Tenancy::Shared`].
    pub fn is_shared(&self) -> bool {
        *self == Self::Shared
    }

    /// Whether nodes of `owner` may be placed.
    pub fn takes(&self, owner: &TenantId) -> bool {
        match self {
            Self::Shared => true,
            Self::Dedicated(tenant) => tenant == owner,
        }
    }
}

/// Changes what people say of a host; nodes that wait for a slot are placed in the same entry. By an administrator or
/// operator. Since version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetHostProperties {
    /// Which.
    pub host: HostId,
    /// The failure zone, empty for none; `None` leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Labels that change, by key: the new value, or `None` to remove it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// Whose nodes it takes; `None` leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenancy: Option<Tenancy>,
    /// How many nodes it takes; `None` leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
}

pub(crate) fn set(state: &mut State, cx: &mut Cx<'_>, c: &SetHostProperties) -> Result<Outcome, Rejection> {
    let before = query::get(state, &c.host)?;
    let resource = name::host(&c.host);
    let mut host = before.clone();
    if let Some(zone) = &c.zone {
        check_zone(zone)?;
        host.zone.clone_from(zone);
    }
    for (key, value) in &c.labels {
        match value {
            Some(value) => drop(host.labels.insert(key.clone(), value.clone())),
            None => drop(host.labels.remove(key)),
        }
    }
    check_labels(&host.labels)?;
    if let Some(tenancy) = &c.tenancy {
        check_tenancy(state, tenancy)?;
        check_no_strangers(state, before, tenancy)?;
        host.tenancy = tenancy.clone();
    }
    if let Some(slots) = c.slots {
        check_slots(before, slots)?;
        host.slots = slots;
    }
    if *before == host {
        return Ok(Outcome::Unchanged { resource });
    }

    state.hosts.insert(c.host.clone(), host);
    cx.updated(resource.clone());
    apply::place_waiting(state, cx);
    Ok(Outcome::Done { resource })
}

pub(crate) fn check_zone(zone: &str) -> Result<(), Rejection> {
    if zone.is_empty() || (zone.len() <= ZONE_MAX && is_key(zone)) {
        return Ok(());
    }
    let rule = format!("empty, or 1 to {ZONE_MAX} of a-z, 0-9, '.', '_', '-', '/', first a-z or 0-9");
    Err(check::invalid("zone", zone, rule))
}

pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Rejection> {
    for (key, value) in labels {
        if key.is_empty() || key.len() > LABEL_KEY_MAX || !is_key(key) {
            let rule = format!("a key of 1 to {LABEL_KEY_MAX} of a-z, 0-9, '.', '_', '-', '/', first a-z or 0-9");
            return Err(check::invalid("labels", key, rule));
        }
        if value.len() > LABEL_VALUE_MAX || value.chars().any(char::is_control) {
            let rule = format!("a value of at most {LABEL_VALUE_MAX} bytes without control characters");
            return Err(check::invalid("labels", format!("{key}={value}"), rule));
        }
    }
    check::quota("labels", "the number of labels of a host", labels.len().saturating_sub(1), LABELS_MAX)
}

pub(crate) fn check_tenancy(state: &State, tenancy: &Tenancy) -> Result<(), Rejection> {
    match tenancy {
        Tenancy::Shared => Ok(()),
        Tenancy::Dedicated(id) if state.tenants.contains_key(id) => Ok(()),
        Tenancy::Dedicated(id) => Err(Rejection::NotFound { field: "dedicated_to".into(), what: name::tenant(id) }),
    }
}

fn is_key(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-' | '/'))
}

/// Nodes stay where they are, so a host is given to a tenant only when no other's nodes are there.
fn check_no_strangers(state: &State, host: &Host, tenancy: &Tenancy) -> Result<(), Rejection> {
    let nodes: BTreeSet<_> = host.ports.values().collect();
    let stranger = nodes.iter().filter_map(|key| state.nodes.get(*key)).find(|node| !tenancy.takes(&node.owner));
    match stranger {
        Some(node) => {
            let needs = format!("{} of tenants/{} is on it: move it away first", name::node(&node.key), node.owner);
            Err(check::wrong_state("dedicated_to", name::host(&host.id), "in use", &needs))
        }
        None => Ok(()),
    }
}

fn check_slots(host: &Host, slots: u32) -> Result<(), Rejection> {
    let nodes: BTreeSet<_> = host.ports.values().collect();
    let used = nodes.len().max(1) as u64;
    let most = (u32::from(host.port_count) / PORTS_PER_NODE).min(SLOTS_MAX);
    check::range("slots", u64::from(slots), used, u64::from(most))
}
