//! What this replica keeps to prove its audit trail: the Merkle tree over the records on its disk, and the key that signs it.
//!
//! Nothing of it is in the state or on the way of a write. The tree is made when somebody first asks, record by record, each
//! checked to continue the chain and the last one to be the head that the cluster agreed on; later questions add what came since.
//! The roots of full blocks (1,024 records) go to the file `audit-tree`, 72 bytes each, so that a start reads only what came
//! after. The file is no record of anything: one that is damaged or of another trail is made anew.
//!
//! What this never does: sign what it has not followed from the first record, or make a tree faster than the replica's other work
//! allows: it reads a few hundred records at a time, and a call that gives up leaves what was done.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hanse_raft::Replica;
use hanse_state::audit::{AuditHead, AuditRecord};
use hanse_state::{Digest, Record, State};
use hanse_trail::merkle::{self, leaf_hash};
use hanse_trail::{BLOCK_LEAVES, Checkpoint, Hash, NoteError, SigningKey, Tree, VerifierKey, View};
use tokio::sync::{Mutex, MutexGuard};
use zeroize::Zeroizing;

use crate::ca::AUDIT_KEY;
use crate::error::ApiError;

/// Records read and followed at once: about two milliseconds of work.
const STEP: u64 = 512;

/// Name of the file in the data folder.
const FILE: &str = "audit-tree";
/// Part of each entry's check, so that a file of another format does not fit.
const FORMAT: &[u8] = b"hanse audit-tree 1";
/// An entry: root of the block, chain hash of its last record, and a check of both and the block's number.
const ENTRY_BYTES: usize = 72;

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The file cannot be read.
    #[error("audit key {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds no key.
    #[error("audit key {path}")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: NoteError,
    },
    /// The key is another cluster's.
    #[error(
        "audit key {path} is of {found}, this cluster's is named {wanted}: issue it with `--cluster` as in the configuration"
    )]
    Name {
        /// Which.
        path: PathBuf,
        /// Its name.
        found: String,
        /// The name it must have.
        wanted: String,
    },
}

/// The kept tree and the key; a clone is another handle.
#[derive(Clone)]
pub struct Trail {
    key: Option<Arc<SigningKey>>,
    /// Held while the tree grows: whoever else asks waits for the same records.
    kept: Arc<Mutex<Kept>>,
}

/// A signed checkpoint, and what was proven for it.
#[derive(Clone, Debug)]
pub struct Proven {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// The signed note of it.
    pub note: String,
    /// The key it is signed with.
    pub key: VerifierKey,
    /// The proof that was asked for; empty if none was.
    pub proof: Vec<Hash>,
}

struct Kept {
    file: Index,
    tree: Tree,
    /// Head of the chain at the tree's last leaf.
    head: AuditHead,
    is_loaded: bool,
}

impl Trail {
    /// Reads the key in the TLS folder; without one, which is so on replicas whose certificates were issued before there were such keys,
    /// nothing is signed until they are issued anew.
    ///
    /// # Errors
    /// [`TrailError`] if there is a file and it holds not this cluster's key.
    pub fn open(tls: &Path, data: &Path, cluster: &str) -> Result<Self, TrailError> {
        let path = tls.join(AUDIT_KEY);
        let key = match std::fs::read_to_string(&path) {
            Ok(text) => Some(Zeroizing::new(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(TrailError::File { path, source }),
        };
        let key = key.map(|text| SigningKey::parse(&text)).transpose();
        let key = key.map_err(|source| TrailError::Key { path: path.clone(), source })?;
        let wanted = hanse_trail::origin(cluster);
        match &key {
            Some(key) if key.public().name() != wanted => {
                return Err(TrailError::Name { path, found: key.public().name().to_owned(), wanted });
            }
            Some(_) => {}
            None => tracing::warn!(path = %path.display(), "no audit key: this replica signs no checkpoints"),
        }
        let kept = Kept {
            file: Index { path: data.join(FILE), open: None },
            tree: Tree::default(),
            head: AuditHead::default(),
            is_loaded: false,
        };
        Ok(Self { key: key.map(Arc::new), kept: Arc::new(Mutex::new(kept)) })
    }

    /// Gives a checkpoint of at least the records that `state` knows.
    ///
    /// # Errors
    /// There is no key; the records cannot be read, or are not those that the cluster agreed on.
    pub async fn checkpoint(&self, replica: &Replica, state: &State) -> Result<Proven, ApiError> {
        let key = self.key()?;
        let kept = self.grown(replica, &state.audit).await?;
        prove(&key, state, &kept, kept.tree.view(), |_, _| Some(Vec::new()))
    }

    /// The same with the proof that record `seq` is among them.
    ///
    /// # Errors
    /// As [`Trail::checkpoint`].
    pub async fn inclusion(&self, replica: &Replica, state: &State, seq: u64) -> Result<Proven, ApiError> {
        let key = self.key()?;
        let kept = self.grown(replica, &state.audit).await?;
        let index = seq.saturating_sub(1);
        let view = opened(replica, &kept.tree, index).await?;
        prove(&key, state, &kept, view, |view, size| merkle::inclusion(view, index, size))
    }

    /// The same with the proof that its first `old` records are those of the tree of that size.
    ///
    /// # Errors
    /// As [`Trail::checkpoint`].
    pub async fn consistency(&self, replica: &Replica, state: &State, old: u64) -> Result<Proven, ApiError> {
        let key = self.key()?;
        let kept = self.grown(replica, &state.audit).await?;
        let view = opened(replica, &kept.tree, old.saturating_sub(1)).await?;
        prove(&key, state, &kept, view, |view, size| merkle::consistency(view, old, size))
    }

    /// Gives the public key of its checkpoints.
    ///
    /// # Errors
    /// There is no key.
    pub fn verifier(&self) -> Result<VerifierKey, ApiError> {
        Ok(self.key()?.public().clone())
    }

    /// Gives the secret of the account that sends this trail's heads to a chain. It follows from the audit key, so every leader
    /// has the same account, and it is written nowhere.
    ///
    /// # Errors
    /// There is no key.
    pub fn sender(&self, chain_id: u64) -> Result<Zeroizing<[u8; 32]>, ApiError> {
        Ok(self.key()?.derive(&format!("hanse anchor 1 sender {chain_id}")))
    }

    fn key(&self) -> Result<Arc<SigningKey>, ApiError> {
        let advice =
            "run `hanse ca issue` for every replica again, copy the new folders and restart the replicas one by one";
        let missing =
            || ApiError::precondition("NO_AUDIT_KEY", "this replica has no key to sign checkpoints with", advice);
        self.key.clone().ok_or_else(missing)
    }

    /// Gives the tree once it has all records up to `head`; it may have more.
    async fn grown(&self, replica: &Replica, head: &AuditHead) -> Result<MutexGuard<'_, Kept>, ApiError> {
        let mut kept = self.kept.lock().await;
        if !kept.is_loaded {
            kept.load(replica, head).await?;
        }
        while kept.head.count < head.count {
            let last = head.count.min(kept.head.count + STEP);
            let records = read(replica, kept.head.count + 1, last).await?;
            kept.follow(records).await?;
        }
        if kept.head.count == head.count && kept.head != *head {
            return Err(ApiError::broken_trail(format!(
                "record {} does not have the hash the cluster agreed on",
                head.count
            )));
        }
        Ok(kept)
    }
}

/// Signs the tree as it is now.
fn prove(
    key: &SigningKey,
    state: &State,
    kept: &Kept,
    view: View<'_>,
    proof: impl FnOnce(&View<'_>, u64) -> Option<Vec<Hash>>,
) -> Result<Proven, ApiError> {
    let size = kept.tree.size();
    let missing = || ApiError::internal("audit tree", "a node of the tree is not at hand");
    let checkpoint = Checkpoint {
        origin: key.public().name().to_owned(),
        size,
        root: merkle::root(&view, size).ok_or_else(missing)?,
        chain: *kept.head.head.as_bytes(),
        cluster: state.cluster.as_ref().map(|cluster| cluster.id.to_string()).unwrap_or_default(),
        at_ms: state.now.0,
    };
    let proof = proof(&view, size).ok_or_else(missing)?;
    Ok(Proven { note: checkpoint.sign(key), checkpoint, key: key.public().clone(), proof })
}

/// Looks at the tree with the block opened that holds leaf `index`.
async fn opened<'a>(replica: &Replica, tree: &'a Tree, index: u64) -> Result<View<'a>, ApiError> {
    let mut view = tree.view();
    if let Some(block) = tree.block_of(index) {
        let mut leaves = Vec::new();
        let (mut first, last) = (block * BLOCK_LEAVES + 1, (block + 1) * BLOCK_LEAVES);
        while first <= last {
            let records = read(replica, first, last.min(first + STEP - 1)).await?;
            first += records.len() as u64;
            leaves.extend(records.iter().map(leaf));
        }
        if !view.open(block, leaves) {
            let why = format!("records {} to {last} are not those that the tree was made of", block * BLOCK_LEAVES + 1);
            return Err(ApiError::broken_trail(why));
        }
    }
    Ok(view)
}

/// The leaf of a record: the hash of its chain hash, in which everything else of it is.
fn leaf(record: &AuditRecord) -> Hash {
    leaf_hash(record.hash.as_bytes())
}

/// Reads records `first..=last`, at most 10,000; fewer are a loss.
pub(crate) async fn read(replica: &Replica, first: u64, last: u64) -> Result<Vec<AuditRecord>, ApiError> {
    let wanted = usize::try_from((last + 1).saturating_sub(first)).unwrap_or(usize::MAX);
    let records = replica.history("audit", first.saturating_sub(1), wanted).await;
    let records = records.map_err(|error| ApiError::internal("audit history", error))?;
    let audit = records.into_iter().filter_map(|record| match record {
        Record::Audit(it) => Some(it),
        Record::Usage(_) | Record::OperationLog(_) => None,
    });
    let audit: Vec<_> = audit.collect();
    if audit.len() == wanted {
        return Ok(audit);
    }
    let found = first + audit.len() as u64;
    Err(ApiError::internal("audit history", format!("record {found} is missing")))
}

impl Kept {
    /// Adds records that must continue the chain.
    async fn follow(&mut self, records: Vec<AuditRecord>) -> Result<(), ApiError> {
        let mut head = self.head.clone();
        // Hashing records takes longer than a task may hold up others.
        let followed = tokio::task::spawn_blocking(move || {
            let follow = |record: &AuditRecord| head.follow(record).map(|()| (leaf(record), head.clone()));
            records.iter().map(follow).collect::<Result<Vec<_>, _>>()
        });
        let followed = followed.await.map_err(|error| ApiError::internal("audit tree", error))?;
        for (leaf, head) in followed.map_err(ApiError::broken_trail)? {
            let number = self.tree.blocks();
            self.head = head;
            if let Some(block) = self.tree.push(leaf) {
                self.file.append(number, &block, &self.head.head);
            }
        }
        Ok(())
    }

    /// Takes from the file the blocks that are of this trail.
    async fn load(&mut self, replica: &Replica, head: &AuditHead) -> Result<(), ApiError> {
        let mut entries = self.file.read();
        entries.truncate(usize::try_from(head.count / BLOCK_LEAVES).unwrap_or(usize::MAX));
        if let Some((_, chain)) = entries.last() {
            // A block's last record has the hashes of all before it in its own, so it speaks for every block.
            let seq = entries.len() as u64 * BLOCK_LEAVES;
            let found = read(replica, seq, seq).await?;
            if found.first().map(|record| record.hash) != Some(*chain) {
                tracing::warn!(path = %self.file.path.display(), "the kept tree is of another trail and is made anew");
                entries.clear();
            }
        }
        self.file.begin(entries.len());
        for (block, chain) in entries {
            self.tree.push_block(block);
            self.head = AuditHead { count: self.tree.size(), head: chain };
        }
        self.is_loaded = true;
        Ok(())
    }
}

/// The file of blocks. A failure to write only costs the next start its time.
struct Index {
    path: PathBuf,
    open: Option<File>,
}

impl Index {
    /// Gives the roots and chain hashes of all blocks up to the first that is not sound.
    fn read(&self) -> Vec<(Hash, Digest)> {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let sound = entries.iter().zip(0..).map_while(|(entry, number)| {
            let (root, chain) = (entry.first_chunk()?, entry[32..].first_chunk()?);
            let fits = *entry == encode(number, root, &Digest(*chain));
            fits.then_some((*root, Digest(*chain)))
        });
        sound.collect()
    }

    /// Begins to write after so many entries.
    fn begin(&mut self, entries: usize) {
        let step = || {
            let mut file = File::options().create(true).truncate(false).write(true).open(&self.path)?;
            file.set_len((entries * ENTRY_BYTES) as u64)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        self.open = self.kept(step());
    }

    fn append(&mut self, number: u64, root: &Hash, chain: &Digest) {
        if let Some(mut file) = self.open.take() {
            let written = file.write_all(&encode(number, root, chain)).map(|()| file);
            self.open = self.kept(written);
        }
    }

    fn kept(&self, file: io::Result<File>) -> Option<File> {
        file.inspect_err(|error| tracing::warn!(path = %self.path.display(), %error, "the audit tree is not kept")).ok()
    }
}

fn encode(number: u64, root: &Hash, chain: &Digest) -> [u8; ENTRY_BYTES] {
    let check = Digest::of_parts(&[FORMAT, &number.to_be_bytes(), root, chain.as_bytes()]);
    let mut entry = [0; ENTRY_BYTES];
    entry[..32].copy_from_slice(root);
    entry[32..64].copy_from_slice(chain.as_bytes());
    entry[64..].copy_from_slice(&check.as_bytes()[..8]);
    entry
}
