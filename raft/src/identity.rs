//! Whose data folder this is: a small file beside the store.
//!
//! It names the cluster, the replica and the *incarnation*: a random name made when the store was empty. The leader
//! records the incarnation of each replica in the log once that replica has stored something, and every call between
//! replicas carries it. A folder that was emptied gets another incarnation, so the others refuse it and it stops: it would
//! vote as if it had promised nothing.
//!
//! It never takes a folder over from another replica.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::error::{RaftError, StoreError};
use crate::types::ReplicaId;

/// Key under which the file is sealed.
const IDENTITY_KEY: &[u8] = b"identity";
/// Name of the file in the data folder.
const IDENTITY_FILE: &str = "identity";

/// Whose folder it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdentityV1 {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Id of the replica.
    pub(crate) replica: u64,
    /// Random name, 32 hex digits, of the store beside it.
    pub(crate) incarnation: String,
}

/// Gives the bytes of the file.
pub(crate) fn encode(identity: &IdentityV1) -> Vec<u8> {
    codec::seal(IDENTITY_KEY, &codec::encode(identity))
}

/// Reads the bytes of the file.
pub(crate) fn decode(bytes: &[u8]) -> Result<IdentityV1, codec::CodecError> {
    codec::decode(codec::unseal(IDENTITY_KEY, bytes)?)
}

/// Reads whose folder it is, before anything in it is touched; `None` for a new one.
///
/// # Errors
/// [`RaftError::Foreign`] if it is another replica's; [`StoreError::Lost`] if the file is damaged.
pub(crate) fn check(data_dir: &Path, cluster: &str, id: ReplicaId) -> Result<Option<IdentityV1>, RaftError> {
    let bytes = match fs::read(data_dir.join(IDENTITY_FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("read whose data folder it is", e).into()),
    };
    let found = decode(&bytes).map_err(StoreError::unreadable("identity of the data folder"))?;
    if found.cluster != cluster || found.replica != id.0 {
        return Err(RaftError::Foreign {
            dir: data_dir.to_owned(),
            found: format!("replica {} of cluster {:?}", found.replica, found.cluster),
            wanted: format!("replica {id} of cluster {cluster:?}"),
        });
    }
    Ok(Some(found))
}

/// Gives the incarnation of the store, which is kept durably when this returns. A store that holds nothing gets a new
/// one, whatever lay beside it; one that holds something without a name takes `known`, its own log's word, if any.
pub(crate) fn settle(
    data_dir: &Path,
    cluster: &str,
    id: ReplicaId,
    found: Option<IdentityV1>,
    empty: bool,
    known: Option<String>,
) -> Result<String, StoreError> {
    let kept = found.filter(|_| !empty).map(|found| found.incarnation);
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let known = known.filter(|_| !empty);
    let incarnation = known.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    let identity = IdentityV1 { cluster: cluster.to_owned(), replica: id.0, incarnation: incarnation.clone() };
    write(data_dir, &identity).map_err(|e| StoreError::io("write whose data folder it is", e))?;
    Ok(incarnation)
}

fn write(data_dir: &Path, identity: &IdentityV1) -> std::io::Result<()> {
    let temporary = data_dir.join("identity.new");
    let mut file = File::create(&temporary)?;
    file.write_all(&encode(identity))?;
    file.sync_all()?;
    fs::rename(&temporary, data_dir.join(IDENTITY_FILE))?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn settled(dir: &Path, empty: bool) -> String {
        let found = check(dir, "test", ReplicaId(3)).unwrap();
        settle(dir, "test", ReplicaId(3), found, empty, None).unwrap()
    }

    #[test]
    fn an_emptied_store_is_another_incarnation_and_a_filled_one_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let first = settled(dir.path(), true);
        assert_eq!(first.len(), 32);
        assert_eq!(settled(dir.path(), false), first);
        assert_ne!(settled(dir.path(), true), first);
        let unnamed = tempfile::tempdir().unwrap();
        let known = settle(unnamed.path(), "test", ReplicaId(3), None, false, Some(first.clone())).unwrap();
        assert_eq!(known, first);
        assert_eq!(settled(unnamed.path(), false), first);
    }

    #[test]
    fn another_replicas_folder_and_a_damaged_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        settled(dir.path(), true);
        for (cluster, id) in [("test", 4), ("other", 3)] {
            let error = check(dir.path(), cluster, ReplicaId(id)).unwrap_err();
            assert!(error.is_lost() && error.to_string().contains("replica 3 of cluster \"test\""), "{error}");
        }
        let path = dir.path().join(IDENTITY_FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(check(dir.path(), "test", ReplicaId(3)).unwrap_err().is_lost(), "byte {at}");
        }
    }
}
