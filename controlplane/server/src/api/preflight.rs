//! Looking at hosts before nodes are placed on them, as the API is asked to.
//!
//! What this never does: decide about a host that is enrolled. What is found there is told and nothing is changed.

use std::collections::BTreeSet;
use std::time::Duration;

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::preflight::{Finding, PreflightWish, Severity};
use hanse_state::State;
use hanse_state::host::{EnrolHost, Host};
use hanse_state::ids::HostId;

use crate::context::Context;
use crate::error::ApiError;
use crate::reconcile::data_disk::unenrolled;

/// Longest look: our program is uploaded to a new host over whatever line leads there. A caller who gave up and asks again
/// finds what the first look has brought there.
const LIMIT: Duration = Duration::from_secs(60);

/// Looks at a host that is to be enrolled.
///
/// # Errors
/// `Invalid` if this replica has no means to reach such a host; it took too long.
pub(super) async fn before_enrolment(
    context: &Context,
    state: &State,
    enrol: &EnrolHost,
) -> Result<Vec<Finding>, ApiError> {
    look(context, state, &unenrolled(enrol), BTreeSet::new()).await
}

/// Looks at an enrolled host; ports of its own nodes may be taken.
///
/// # Errors
/// As [`before_enrolment`].
pub(super) async fn of_host(context: &Context, state: &State, host: &Host) -> Result<Vec<Finding>, ApiError> {
    let is_placed = |key: &&hanse_state::ids::NodeKey| state.nodes.contains_key(*key);
    let own = host.ports.iter().filter(|(_, key)| is_placed(key)).map(|(port, _)| *port).collect();
    look(context, state, host, own).await
}

async fn look(
    context: &Context,
    state: &State,
    host: &Host,
    own_ports: BTreeSet<u16>,
) -> Result<Vec<Finding>, ApiError> {
    if state.cluster.as_ref().is_some_and(hanse_state::cluster::Cluster::is_paused) {
        let found = "not looked at: the platform was restored and touches no host before it is told to";
        return Ok(vec![Finding::warning("connection", found, "look again after `hanse cluster resume`")]);
    }
    // A cloud's machine with a data disk has its nodes there.
    let own_disk = state.machines.get(&host.id).is_some_and(|it| it.spec.data_disk.is_some());
    let (port_first, port_count, slots) = (host.port_first, host.port_count, host.slots);
    let wish = PreflightWish { port_first, port_count, own_ports, slots, own_disk };
    let subject = hanse_state::name::host(&host.id);
    // Goes on when the caller has given up: an upload that is cut off with every try would never end on a slow line.
    let (hosts, host) = (context.hosts().clone(), host.clone());
    let work = async move { hosts.connect(&host).await?.preflight(&wish).await };
    let looked = tokio::spawn(tokio::time::timeout(LIMIT, work)).await;
    match looked.map_err(|error| ApiError::internal("the look at a host", error))? {
        Ok(Ok(findings)) => Ok(findings),
        Ok(Err(error @ (AdapterError::Invalid { .. } | AdapterError::Denied { .. }))) => {
            Err(ApiError::unfit_host(&subject, &error.to_string()))
        }
        Ok(Err(error)) => Err(ApiError::node_unavailable(&subject, &error.to_string())),
        Err(_) => Err(ApiError::node_unavailable(&subject, "did not answer in time")),
    }
}

/// Refuses a host on which an error was found, with every error and what to do about it.
///
/// # Errors
/// A precondition that names them all.
pub(super) fn refuse_errors(host: &HostId, findings: &[Finding]) -> Result<(), ApiError> {
    refuse_errors_of(&hanse_state::name::host(host), findings)
}

/// As [`refuse_errors`], of anything.
///
/// # Errors
/// A precondition that names them all.
pub(super) fn refuse_errors_of(resource: &str, findings: &[Finding]) -> Result<(), ApiError> {
    let errors: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| format!("{}: {} ({})", finding.check, finding.found, finding.advice))
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::unfit_host(resource, &errors.join("; ")))
}
