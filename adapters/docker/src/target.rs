//! Which engine, and what its containers may use.
//!
//! Everything is checked before the first connection, so that a fault is named by its field. It never holds a secret.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hanse_adapters_core::{AdapterError, Result};

/// Least memory that an engine gives a container (Docker Engine's own rule is 6 MiB).
const MEMORY_MIN: u64 = 16 * 1024 * 1024;

/// One engine as a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerTarget {
    /// `unix:///absolute/path`, or `tcp://127.0.0.1:port` without encryption, which only the loopback may be.
    pub endpoint: String,
    /// The engine's own id (`docker info`): another engine behind the same endpoint is refused.
    pub engine_id: String,
    /// The one address of the host at which ports of nodes are published.
    pub publish_address: IpAddr,
    /// What each node may use.
    pub limits: Limits,
    /// How long the image and the artifacts stay at least from when they were made, though no node needs them: what was just
    /// put for a node that is about to be made must not go with another one's end.
    pub keep: Duration,
}

/// What one container may use; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes; no swap beside it.
    pub memory_bytes: u64,
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// Processes and threads.
    pub pids: u32,
}

/// How the engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Loopback(String),
}

impl DockerTarget {
    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` names the field, what is wrong and what to write.
    pub(crate) fn check(&self) -> Result<Endpoint> {
        let endpoint = parse(&self.endpoint)?;
        if self.publish_address.is_unspecified() || self.publish_address.is_multicast() {
            let what = "name one address of the host: what is published on all of them is open to whoever reaches any";
            return Err(invalid("publish_address", what));
        }
        if self.limits.memory_bytes != 0 && self.limits.memory_bytes < MEMORY_MIN {
            return Err(invalid("memory", format!("at least {MEMORY_MIN} bytes, or 0 for no limit")));
        }
        Ok(endpoint)
    }
}

/// Reads an endpoint.
///
/// # Errors
/// `Invalid` says what may be written.
pub(crate) fn parse(endpoint: &str) -> Result<Endpoint> {
    if let Some(path) = endpoint.strip_prefix("unix://")
        && path.starts_with('/')
        && !path.chars().any(char::is_control)
    {
        return Ok(Endpoint::Unix(path.into()));
    }
    let address = endpoint.strip_prefix("tcp://").and_then(|address| address.parse::<std::net::SocketAddr>().ok());
    if let Some(address) = address.filter(|address| address.ip().is_loopback()) {
        return Ok(Endpoint::Loopback(address.to_string()));
    }
    let reason = "write unix:///absolute/path/of/docker.sock, or tcp://127.0.0.1:PORT (a tunnel's end): whoever reaches an \
                  engine is root on its host, so it is not spoken to over a network in the clear";
    Err(invalid(endpoint, reason))
}

pub(crate) fn invalid(subject: impl std::fmt::Display, reason: impl Into<String>) -> AdapterError {
    AdapterError::Invalid { subject: subject.to_string(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_an_endpoint_may_be() {
        assert_eq!(parse("unix:///run/docker.sock").unwrap(), Endpoint::Unix("/run/docker.sock".into()));
        assert_eq!(parse("tcp://127.0.0.1:2375").unwrap(), Endpoint::Loopback("127.0.0.1:2375".into()));
        for bad in
            ["unix://run/docker.sock", "tcp://10.0.0.1:2375", "tcp://localhost:1", "/run/docker.sock", "", "ssh://h"]
        {
            assert!(matches!(parse(bad), Err(AdapterError::Invalid { .. })), "{bad}");
        }
    }

    #[test]
    fn a_target_is_checked_by_its_fields() {
        let good = DockerTarget {
            endpoint: "unix:///run/docker.sock".into(),
            engine_id: "E".into(),
            publish_address: [127, 0, 0, 1].into(),
            limits: Limits::default(),
            keep: Duration::ZERO,
        };
        good.check().unwrap();
        let everywhere = DockerTarget { publish_address: [0, 0, 0, 0].into(), ..good.clone() };
        assert!(everywhere.check().unwrap_err().to_string().contains("publish_address"));
        let tight = DockerTarget { limits: Limits { memory_bytes: 1, ..Limits::default() }, ..good };
        assert!(tight.check().unwrap_err().to_string().contains("memory"));
    }
}
