//! How the reconcilers and the API get at a host, whatever reaches it.

use std::sync::Arc;

use async_trait::async_trait;
use hanse_adapters_core::cloud::Cloud;
use hanse_adapters_core::{Adapter, AdapterError, Result};
use hanse_state::host::Host;
use hanse_state::host::way::Way;

/// What an SSH server shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeys {
    /// Its key, `SHA256:...`.
    pub fingerprint: String,
    /// The authority that has signed its certificate, `SHA256:...`, if it shows one.
    pub authority: Option<String>,
}

/// Gives the adapter for a host. Implemented where the binary is wired, the one place that names adapters; tests have
/// their own.
#[async_trait]
pub trait HostConnector: Send + Sync {
    /// Returns the adapter of `host`; connections are kept between calls.
    ///
    /// # Errors
    /// `Invalid` if this replica has no means to reach such a host (no SSH identity configured).
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Adapter>>;

    /// Returns what the SSH server at `address:port` shows of itself, for a person to compare before enrolling. To the machines
    /// of `way` the platform logs in; to the server itself no credential is sent.
    ///
    /// # Errors
    /// `Denied` if a machine on the way shows another key than the pinned one; `Transient` if nothing answers there.
    async fn scan(&self, address: &str, port: u16, way: &Way) -> Result<HostKeys>;

    /// Returns the id of the Docker Engine at `endpoint`, for a person to compare before enrolling.
    ///
    /// # Errors
    /// `Invalid` if there can be no such endpoint, or the engine there cannot be used; `Transient` if nothing answers.
    async fn scan_docker(&self, endpoint: &str) -> Result<String>;

    /// Returns the driver of `cloud`, with the credentials that lie on this replica now.
    ///
    /// # Errors
    /// `Invalid` if this replica has no means to ask such a cloud: no credentials, or this program knows no clouds.
    async fn cloud(&self, cloud: &hanse_state::cloud::Cloud) -> Result<Arc<dyn Cloud>> {
        let reason = "this program reaches no clouds".into();
        Err(AdapterError::Invalid { subject: format!("cloud {}", cloud.id), reason })
    }

    /// Returns the key, one line as in `authorized_keys`, by which this replica logs in to hosts over SSH.
    ///
    /// # Errors
    /// `Invalid` if this replica has none.
    async fn login_key(&self) -> Result<String> {
        Err(AdapterError::Invalid {
            subject: "login key".into(),
            reason: "this program reaches no hosts over SSH".into(),
        })
    }
}
