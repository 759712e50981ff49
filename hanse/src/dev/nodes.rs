//! Stops what the demo's hosts still run. Their files stay, so that `--keep` continues from them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hanse_adapters_core::{Adapter as _, RunState};
use hanse_adapters_local::LocalAdapter;

use super::ground::Ground;

/// How long a ledger node may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Stops every instance on every host of `ground`.
pub(crate) async fn stop(ground: &Ground) -> Result<()> {
    let program = std::env::current_exe().context("find this program's file")?;
    for name in ground.layout.hosts.keys() {
        let root = ground.host_root(name);
        let instances = root.join("instances");
        if !instances.exists() {
            continue;
        }
        let host = LocalAdapter::new(root, program.clone());
        for cluster in std::fs::read_dir(&instances).with_context(|| format!("look into {}", instances.display()))? {
            let cluster = cluster.context("look at a folder")?.file_name().to_string_lossy().into_owned();
            for instance in host.list(&cluster).await? {
                if matches!(instance.run, RunState::Running { .. }) {
                    host.stop(&instance.key, GRACE).await.with_context(|| format!("stop {}", instance.key))?;
                }
            }
        }
    }
    Ok(())
}
