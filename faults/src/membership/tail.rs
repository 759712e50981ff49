//! The replicas' logs as they grow: the moment at which a leader begins to change the voters.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::{Context as _, Result};

use crate::processes::cluster::Cluster;

/// What a leader says right before it appends a joint configuration.
const BEGINS: [&str; 2] = ["a learner becomes a voter", "a replica leaves the cluster"];

/// How far each log was read.
#[derive(Debug, Default)]
pub(crate) struct Tail(BTreeMap<u64, u64>);

impl Tail {
    /// Begins at the logs' present ends.
    pub(crate) fn begin(cluster: &Cluster) -> Result<Self> {
        let mut tail = Self::default();
        tail.sees(cluster)?;
        Ok(tail)
    }

    /// Whether a leader has said since the last look that it begins to change the voters. A line that is just being written
    /// may be missed; then the change is, too.
    pub(crate) fn sees(&mut self, cluster: &Cluster) -> Result<bool> {
        let mut sees = false;
        for id in cluster.ids() {
            let path = cluster.home(id)?.join("replica.log");
            // One that was just ordered has none yet.
            let Ok(mut file) = File::open(&path) else { continue };
            let read = self.0.entry(id).or_default();
            let mut text = Vec::new();
            file.seek(SeekFrom::Start(*read))
                .and_then(|_| file.read_to_end(&mut text))
                .context("read a replica's log")?;
            *read += text.len() as u64;
            let text = String::from_utf8_lossy(&text);
            sees |= BEGINS.iter().any(|words| text.contains(words));
        }
        Ok(sees)
    }
}
