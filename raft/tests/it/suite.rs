//! openraft's own suite of checks on our log and state machine.

use hanse_raft::inside::{LogStore, Machine, Parts, Stop, Types};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts::open(dir.path(), Stop::default()).unwrap();
        Ok((dir, parts.log, parts.machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}
