//! The connection to one engine, what its errors mean, and the names and labels of what is ours.
//!
//! Every object that this adapter makes has its labels from the call that creates it on, so that a crash leaves nothing
//! unmarked; only what carries them is ever stopped or removed.

use std::collections::HashMap;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker};
use hanse_adapters_core::{AdapterError, InstanceKey, Result};
use ring::digest::{SHA256, digest};

use crate::target::{Endpoint, invalid};

/// Which cluster an object belongs to.
pub(crate) const CLUSTER: &str = "hanse.cluster";
/// Which node it belongs to.
pub(crate) const OBJECT: &str = "hanse.object";
/// The wish that a node's container was made from.
pub(crate) const GENERATION: &str = "hanse.generation";
/// What it is for; every object of ours has it.
pub(crate) const ROLE: &str = "hanse.role";
/// Followed by a port: the container listens on it.
pub(crate) const PORT: &str = "hanse.port.";
/// When a short container's work is over at the latest, seconds since 1970 by the asker's clock.
pub(crate) const UNTIL: &str = "hanse.until";

/// What an object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A node's container.
    Node,
    /// A short container.
    Tool,
    /// A node's volume.
    Home,
    /// The volume of artifacts.
    Store,
    /// The network of a cluster's nodes.
    Network,
    /// The image of a program.
    Image,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Tool => "tool",
            Self::Home => "home",
            Self::Store => "store",
            Self::Network => "network",
            Self::Image => "image",
        }
    }
}

/// Longest that an engine may take to begin an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The oldest API that has all that is used here (Docker Engine 20.10).
const API_MINOR_MIN: usize = 41;

pub(crate) type Labels = HashMap<String, String>;

/// Labels of an object of a cluster.
pub(crate) fn labels(role: Role, cluster: Option<&str>, object: Option<&str>) -> Labels {
    let parts = [(ROLE, Some(role.name())), (CLUSTER, cluster), (OBJECT, object)];
    parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}

/// A filter for lists: everything that has these labels.
pub(crate) fn filter(labels: &Labels) -> HashMap<String, Vec<String>> {
    [("label".to_owned(), labels.iter().map(|(name, value)| format!("{name}={value}")).collect())].into()
}

/// A name for an object of `key`: readable, and different for different keys.
pub(crate) fn name_of(kind: &str, key: &InstanceKey) -> String {
    let hash = hex::encode(&digest(&SHA256, key.to_string().as_bytes()).as_ref()[..8]);
    let object: String = key.object().chars().take(80).collect();
    format!("hanse-{kind}-{object}-{hash}")
}

/// Connects, and checks that the engine is one that can be used and the one that was pinned.
///
/// # Errors
/// `Transient` if it does not answer, `Denied` if it is another or refuses, `Invalid` if it cannot be used.
pub(crate) async fn connect(endpoint: &Endpoint, name: &str, engine_id: Option<&str>) -> Result<(Docker, SystemInfo)> {
    let limit = ANSWER_LIMIT.as_secs();
    let made = match endpoint {
        Endpoint::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), limit, API_DEFAULT_VERSION),
        Endpoint::Loopback(address) => Docker::connect_with_http(address, limit, API_DEFAULT_VERSION),
    };
    let docker = made.map_err(|e| explain(name, e, false))?;
    let docker = docker.negotiate_version().await.map_err(|e| explain(name, e, false))?;
    let version = docker.client_version();
    if (version.major_version, version.minor_version) < (1, API_MINOR_MIN) {
        return Err(invalid(
            name,
            format!("its API is {version}; Docker Engine 20.10 (1.{API_MINOR_MIN}) or newer is needed"),
        ));
    }
    let info = docker.info().await.map_err(|e| explain(name, e, false))?;
    check(name, &info, engine_id)?;
    Ok((docker, info))
}

/// Whether the engine can run what this machine runs, and is the pinned one.
pub(crate) fn check(name: &str, info: &SystemInfo, engine_id: Option<&str>) -> Result<()> {
    let found = info.id.clone().unwrap_or_default();
    if let Some(pinned) = engine_id.filter(|pinned| **pinned != found) {
        let reason = format!(
            "the engine there is {found}, but {pinned} is pinned: look whether this replica's endpoint leads to another \
             machine; enrol the other engine as a host of its own"
        );
        return Err(AdapterError::Denied { subject: name.into(), reason });
    }
    let (os, arch) = (info.os_type.as_deref().unwrap_or_default(), info.architecture.as_deref().unwrap_or_default());
    if os != "linux" || arch != std::env::consts::ARCH {
        let reason = format!("it runs {os} programs for {arch}; ours are for linux and {}", std::env::consts::ARCH);
        return Err(invalid(name, reason));
    }
    Ok(())
}

/// What an error of an engine means for the caller; `changes` says whether the call may have had an effect.
pub(crate) fn explain(subject: impl std::fmt::Display, error: Error, changes: bool) -> AdapterError {
    let subject = subject.to_string();
    match error {
        Error::DockerResponseServerError { status_code, message } => answered(subject, status_code, message),
        Error::SocketNotFoundError(path) => {
            AdapterError::Transient { subject, reason: format!("{path} is not there: is the engine running?") }
        }
        Error::HyperLegacyError { err } if err.is_connect() => {
            let reason = chain(&err);
            if is_permission(&err) {
                let reason = format!("{reason}: let the account of this replica use the engine's socket");
                return AdapterError::Denied { subject, reason };
            }
            AdapterError::Transient { subject, reason }
        }
        other if changes => AdapterError::Unknown { subject, reason: chain(&other) },
        other => AdapterError::Transient { subject, reason: chain(&other) },
    }
}

/// Words of an engine that no later try changes.
const FOR_GOOD: &[&str] = &[
    "port is already allocated",
    "address already in use",
    "cannot assign requested address",
    "no such file or directory",
];

fn answered(subject: String, status: u16, message: String) -> AdapterError {
    let reason = format!("the engine says: {message}");
    match status {
        401 | 403 => AdapterError::Denied { subject, reason },
        _ if FOR_GOOD.iter().any(|words| message.contains(words)) => AdapterError::Invalid { subject, reason },
        400 | 404..=406 => AdapterError::Invalid { subject, reason },
        _ => AdapterError::Transient { subject, reason },
    }
}

/// The status of an answer, if there was one.
pub(crate) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |all, cause| format!("{all}: {cause}"))
}

fn is_permission(error: &dyn std::error::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn server(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.into() }
    }

    #[test]
    fn an_answer_is_never_unknown_and_silence_is_if_something_may_have_changed() {
        let class = |error, changes| match explain("e", error, changes) {
            AdapterError::Transient { .. } => 't',
            AdapterError::Denied { .. } => 'd',
            AdapterError::Invalid { .. } => 'i',
            AdapterError::Unknown { .. } => 'u',
        };
        assert_eq!(class(server(500, "Bind for 10.0.0.1:1 failed: port is already allocated"), true), 'i');
        assert_eq!(class(server(500, "something else"), true), 't');
        assert_eq!((class(server(404, "no such image"), true), class(server(403, "no"), true)), ('i', 'd'));
        assert_eq!((class(Error::RequestTimeoutError, true), class(Error::RequestTimeoutError, false)), ('u', 't'));
    }

    #[test]
    fn another_engine_than_the_pinned_one_is_denied() {
        let arch = Some(std::env::consts::ARCH.to_owned());
        let info = SystemInfo {
            id: Some("A".into()),
            os_type: Some("linux".into()),
            architecture: arch,
            ..Default::default()
        };
        check("e", &info, Some("A")).unwrap();
        check("e", &info, None).unwrap();
        assert!(matches!(check("e", &info, Some("B")), Err(AdapterError::Denied { .. })));
        let other = SystemInfo { architecture: Some("riscv64".into()), ..info };
        assert!(matches!(check("e", &other, None), Err(AdapterError::Invalid { .. })));
    }

    #[test]
    fn names_of_different_keys_differ_and_fit() {
        let key = |cluster: &str, object: &str| InstanceKey::new(cluster, object).unwrap();
        let long = "a".repeat(200);
        let names =
            [key("c", "a.b"), key("c.a", "b"), key("c", &long), key("d", &long)].map(|key| name_of("node", &key));
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert!(different.len() == 4 && names.iter().all(|name| name.len() < 128), "{names:?}");
    }
}
