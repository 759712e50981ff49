//! Stops what the demo's hosts still run. Their files stay, so that `--keep` continues from them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hanse_adapters_core::Adapter as _;
use hanse_adapters_local::LocalAdapter;

use super::ground::Ground;

/// How long a ledger node may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Stops every instance on every host of `ground`, also after one of them failed; the first failure is returned.
pub(crate) async fn stop(ground: &Ground) -> Result<()> {
    let program = std::env::current_exe().context("find this program's file")?;
    let mut result = Ok(());
    for name in ground.layout.hosts.keys() {
        let root = ground.host_root(name);
        let clusters = match folders(&root.join("instances")) {
            Ok(clusters) => clusters,
            Err(error) => {
                result = result.and(Err(error));
                continue;
            }
        };
        let host = LocalAdapter::new(root, program.clone());
        for cluster in clusters {
            result = result.and(stop_all(&host, &cluster).await);
        }
    }
    result
}

/// Also what seems not to run is stopped: a start that was cut off may still be on its way.
async fn stop_all(host: &LocalAdapter, cluster: &str) -> Result<()> {
    let mut result = Ok(());
    for instance in host.list(cluster).await? {
        let stopped = host.stop(&instance.key, GRACE).await.with_context(|| format!("stop {}", instance.key));
        result = result.and(stopped);
    }
    result
}

/// Names of the folders in `path`; none if it is not there.
fn folders(path: &Path) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("look into {}", path.display()))?;
    entries.map(|entry| Ok(entry.context("look at a folder")?.file_name().to_string_lossy().into_owned())).collect()
}
