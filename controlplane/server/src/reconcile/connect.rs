//! How the reconcilers and the API get at a host, whatever reaches it.

use std::sync::Arc;

use async_trait::async_trait;
use hanse_adapters_core::{Adapter, Result};
use hanse_state::host::Host;

/// Gives the adapter for a host. Implemented where the binary is wired, the one place that names adapters; tests have
/// their own.
#[async_trait]
pub trait HostConnector: Send + Sync {
    /// Returns the adapter of `host`; connections are kept between calls.
    ///
    /// # Errors
    /// `Invalid` if this replica has no means to reach such a host (no SSH identity configured).
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Adapter>>;

    /// Returns the SHA-256 fingerprint of the SSH host key at `address:port`, for a person to compare before enrolling.
    /// No credential is sent.
    ///
    /// # Errors
    /// `Transient` if nothing answers there.
    async fn scan(&self, address: &str, port: u16) -> Result<String>;

    /// Returns the id of the Docker Engine at `endpoint`, for a person to compare before enrolling.
    ///
    /// # Errors
    /// `Invalid` if there can be no such endpoint, or the engine there cannot be used; `Transient` if nothing answers.
    async fn scan_docker(&self, endpoint: &str) -> Result<String>;
}
