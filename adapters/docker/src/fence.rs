//! What keeps orders of an older generation out: the mark of a fence, and what is known to be there.

use hanse_adapters_core::{Adapter, AdapterError, FileSpec, InstanceKey, Result};
use hanse_hostrun::{Act, WireFile};

use crate::{DockerAdapter, node};

/// In a node's home: the first generation that may run, in decimal.
pub(crate) const FENCE_FILE: &str = ".hanse-fence";

impl DockerAdapter {
    /// The first generation of `key` that may run; 0 if it was never fenced.
    pub(crate) async fn fenced(&self, key: &InstanceKey) -> Result<u64> {
        let Some(content) = self.read_file(key, FENCE_FILE).await? else { return Ok(0) };
        let fence = String::from_utf8(content).ok().and_then(|text| text.trim().parse().ok());
        fence.ok_or_else(|| AdapterError::Invalid {
            subject: key.to_string(),
            reason: format!("{FENCE_FILE} in its home is no generation: look at the host"),
        })
    }

    /// Checks that nothing newer than `generation` is on the host.
    pub(crate) async fn check_newest(
        &self,
        key: &InstanceKey,
        found: Option<&node::Found>,
        generation: u64,
        what: &str,
    ) -> Result<()> {
        let known = found.map_or(0, |found| found.generation).max(self.fenced(key).await?);
        if known <= generation {
            return Ok(());
        }
        let reason = format!("generation {known} is there, {generation} was to be {what}: read the newest state");
        Err(AdapterError::Invalid { subject: key.to_string(), reason })
    }

    /// Writes files into the home; with a generation, unless those of a newer one were written, which is kept beside the home.
    pub(crate) async fn write(&self, key: &InstanceKey, generation: Option<u64>, files: &[FileSpec]) -> Result<()> {
        let files = files.iter().map(WireFile::from).collect();
        self.act(Some(key), Act::PutFiles { key: key.clone(), files, generation }).await?.done()
    }
}
