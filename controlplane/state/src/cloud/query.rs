//! Reads of clouds and machines.

use super::{Cloud, Machine};
use crate::ids::{CloudId, HostId};
use crate::{Rejection, State, name};

/// Returns a cloud.
///
/// # Errors
/// `NotFound`.
pub fn cloud<'a>(state: &'a State, id: &CloudId) -> Result<&'a Cloud, Rejection> {
    let none = || Rejection::NotFound { field: "cloud".into(), what: name::cloud(id) };
    state.clouds.get(id).ok_or_else(none)
}

/// Returns a machine.
///
/// # Errors
/// `NotFound`.
pub fn machine<'a>(state: &'a State, id: &HostId) -> Result<&'a Machine, Rejection> {
    let none = || Rejection::NotFound { field: "machine".into(), what: name::machine(id) };
    state.machines.get(id).ok_or_else(none)
}

/// Returns the machines of a cloud, by id.
pub fn machines_of<'a>(state: &'a State, cloud: &CloudId) -> impl Iterator<Item = &'a Machine> {
    let cloud = cloud.clone();
    state.machines.values().filter(move |machine| machine.spec.cloud == cloud)
}
