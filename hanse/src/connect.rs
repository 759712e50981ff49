//! Which adapter reaches which host: the one place that names the adapters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hanse_adapters_core::{Adapter, AdapterError, Artifact, Result};
use hanse_server::reconcile::connect::HostConnector;
use hanse_state::{Host, HostId, Reach};

/// Keeps one adapter, and so one connection, for each host.
pub(crate) struct Connector {
    artifact: Artifact,
    ssh_identity: Option<PathBuf>,
    known: Mutex<BTreeMap<HostId, (Reach, Arc<dyn Adapter>)>>,
}

impl Connector {
    /// A connector that puts `artifact` on hosts and shows `ssh_identity` to those reached by SSH.
    pub(crate) fn new(artifact: Artifact, ssh_identity: Option<PathBuf>) -> Self {
        Self { artifact, ssh_identity, known: Mutex::new(BTreeMap::new()) }
    }
}
