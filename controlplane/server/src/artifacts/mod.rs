//! The folder in which a replica keeps the content of artifacts: files named by the SHA-256 of what is in them.
//!
//! How it works. A file grows as `<sha256>.part`, piece by piece from its beginning; when it has its size, its hash is
//! compared and only then it gets its name, synced. So whatever has a name was whole once, and an upload or a fetch that
//! broke goes on where it stopped. What is kept is decided by the state (`sync`): this folder only knows files.
//!
//! What this never does: name a file whose hash differs, take the last of the disk from the log ([`RESERVE_BYTES`]), or
//! download anything by itself.

mod check;
pub mod sync;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hanse_adapters_core::{Bundle, Manifest};
use hanse_state::Digest;
use hanse_state::artifact::{ARTIFACT_BYTES_MAX, Artifact, ArtifactKind};

pub(crate) use check::{Checks, Found};

/// Bytes of the disk that stay free for the log, far above the mark at which the replica itself takes no more.
pub const RESERVE_BYTES: u64 = 256 << 20;
/// Largest piece that is written or read at once.
pub const PIECE_BYTES_MAX: usize = 2 << 20;
/// Files that may be growing at once; each remembers how far its hash is.
const GROWING_MAX: usize = 16;
/// Largest manifest of a bundle.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Piece in which a file is read to be hashed.
const HASH_BYTES: usize = 1 << 20;

/// Why the folder could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is not enough room; nothing was written.
    #[error("{folder} has {} MiB free; {} MiB are needed, {} MiB of them stay free for the log", free_bytes >> 20, needed_bytes >> 20, reserve_bytes >> 20)]
    Full {
        /// The folder.
        folder: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What would have to be free.
        needed_bytes: u64,
        /// What of that is for the log.
        reserve_bytes: u64,
    },
    /// The whole file has another hash than its name; it was dropped and has to come again from the beginning.
    #[error("the content has the SHA-256 {found}, not {wanted}")]
    Hash {
        /// What was promised.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
    /// The file is larger or smaller than may be.
    #[error("{0}")]
    Size(String),
    /// Too many files are growing at once.
    #[error("{GROWING_MAX} other files are being received")]
    Busy,
    /// A file that must be there is not.
    #[error("{0} is not here")]
    Missing(Digest),
    /// A bundle's manifest is none.
    #[error("manifest {sha256}: {reason}")]
    Manifest {
        /// Its hash.
        sha256: Digest,
        /// Why, in words.
        reason: String,
    },
    /// The disk or the system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How much of a file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes from the beginning.
    pub bytes: u64,
    /// That is all, and it has its hash.
    pub whole: bool,
}

/// The folder; a clone is another handle. Its functions block on the disk.
#[derive(Clone)]
pub struct ArtifactStore {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    reserve_bytes: u64,
    /// How far the hash of each growing file is.
    growing: Mutex<BTreeMap<Digest, Growing>>,
    checks: Checks,
}

/// A file on its way.
struct Growing {
    hash: ring::digest::Context,
    bytes: u64,
}

impl ArtifactStore {
    /// Opens the folder, and makes it if it is not there. `reserve_bytes` of its disk stay free.
    ///
    /// # Errors
    /// `Io` if it cannot be made.
    pub fn open(folder: &Path, reserve_bytes: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|source| StoreError::Io { path: folder.into(), source })?;
        let growing = Mutex::default();
        let inner = Inner { folder: folder.into(), reserve_bytes, growing, checks: Checks::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns where the whole file `sha256` is.
    ///
    /// # Errors
    /// `Missing`.
    pub fn path(&self, sha256: &Digest) -> Result<PathBuf, StoreError> {
        let path = self.named(sha256);
        if path.is_file() { Ok(path) } else { Err(StoreError::Missing(*sha256)) }
    }

    /// Returns how much of the file `sha256` is here; asking keeps what is not imported yet from being cleared away.
    ///
    /// # Errors
    /// `Io`.
    pub fn held(&self, sha256: &Digest) -> Result<Held, StoreError> {
        let (path, part) = (self.named(sha256), self.part(sha256));
        if let Some(bytes) = length(&path)? {
            touch(&path);
            return Ok(Held { bytes, whole: true });
        }
        let bytes = length(&part)?.unwrap_or(0);
        Ok(Held { bytes, whole: false })
    }

    /// Takes the next piece of the file `sha256` of `size` bytes. A piece that does not begin where the file ends so far is
    /// not taken; the answer says where it ends.
    ///
    /// # Errors
    /// `Full` (nothing was written), `Size`, `Busy`, `Hash` (what was there is dropped), `Io`.
    pub fn put(&self, sha256: &Digest, size: u64, offset: u64, data: &[u8]) -> Result<Held, StoreError> {
        if size == 0 || size > ARTIFACT_BYTES_MAX {
            return Err(StoreError::Size(format!("a file has 1 to {ARTIFACT_BYTES_MAX} bytes, not {size}")));
        }
        let mut growing = self.inner.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held(sha256)?;
        if held.whole || offset != held.bytes {
            return Ok(held);
        }
        let end = offset.saturating_add(data.len() as u64);
        if end > size || data.is_empty() || data.len() > PIECE_BYTES_MAX {
            let length = data.len();
            return Err(StoreError::Size(format!(
                "a piece of {length} bytes at {offset} does not belong to a file of {size}"
            )));
        }
        self.check_room(size - offset)?;
        if !growing.contains_key(sha256) && growing.len() >= GROWING_MAX {
            self.forget_oldest(&mut growing)?;
        }
        let mut one = match growing.remove(sha256).filter(|one| one.bytes == offset) {
            Some(one) => one,
            // Begun before this process; nobody knows its hash so far.
            None => Growing { hash: hash_of(&self.part(sha256), offset)?, bytes: offset },
        };
        self.append(sha256, offset, data)?;
        one.hash.update(data);
        one.bytes = end;
        if end < size {
            growing.insert(*sha256, one);
            return Ok(Held { bytes: end, whole: false });
        }
        self.name(sha256, one.hash)?;
        Ok(Held { bytes: end, whole: true })
    }

    /// Returns the size of the whole file `sha256` and its bytes from `offset` on, at most [`PIECE_BYTES_MAX`].
    ///
    /// # Errors
    /// `Missing`, `Io`.
    pub fn read(&self, sha256: &Digest, offset: u64) -> Result<(u64, Vec<u8>), StoreError> {
        let path = self.path(sha256)?;
        let fail = |source| StoreError::Io { path: path.clone(), source };
        let mut file = File::open(&path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        let mut data = Vec::new();
        file.take(PIECE_BYTES_MAX as u64).read_to_end(&mut data).map_err(fail)?;
        Ok((size, data))
    }

    /// Returns the hashes of all files of an artifact, a bundle's manifest first. What is not known yet, because the
    /// manifest is not here, is left out.
    ///
    /// # Errors
    /// `Manifest`, `Io`.
    pub fn files_of(&self, artifact: &Artifact) -> Result<Vec<Digest>, StoreError> {
        let mut files = vec![artifact.sha256];
        if artifact.kind == ArtifactKind::Bundle && self.named(&artifact.sha256).is_file() {
            files.extend(self.manifest(&artifact.sha256)?.1);
        }
        Ok(files)
    }

    /// Returns the manifest of a bundle that is here, and the hashes of its files, each once.
    ///
    /// # Errors
    /// `Missing`, `Manifest`, `Io`.
    pub fn manifest(&self, sha256: &Digest) -> Result<(Manifest, Vec<Digest>), StoreError> {
        let path = self.path(sha256)?;
        let refused = |reason: String| StoreError::Manifest { sha256: *sha256, reason };
        if length(&path)?.is_some_and(|bytes| bytes > MANIFEST_BYTES_MAX) {
            return Err(refused(format!("has more than {MANIFEST_BYTES_MAX} bytes; is it the program itself?")));
        }
        let bytes = fs::read(&path).map_err(|source| StoreError::Io { path, source })?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| refused(format!("is no manifest: {e}")))?;
        manifest.check().map_err(refused)?;
        let parse = |text: &String| text.parse().map_err(|_| refused(format!("{text:?} is no SHA-256")));
        let hashes: std::collections::BTreeSet<Digest> =
            manifest.files.values().map(parse).collect::<Result<_, _>>()?;
        Ok((manifest, hashes.into_iter().collect()))
    }

    /// Where the file `sha256` is or will be.
    pub fn place(&self, sha256: &Digest) -> PathBuf {
        self.named(sha256)
    }

    /// Returns the bundle whose manifest is `sha256`, for an adapter to put on hosts; every file is read and compared.
    ///
    /// # Errors
    /// `Missing` if a file is not here, `Hash` if one is damaged (it is dropped), `Manifest`, `Io`.
    pub fn bundle(&self, sha256: &Digest) -> Result<Bundle, StoreError> {
        let (_, hashes) = self.manifest(sha256)?;
        for hash in std::iter::once(sha256).chain(&hashes) {
            self.verify(hash)?;
        }
        self.named_bundle(sha256)
    }

    /// Returns the files of a bundle as its manifest names them, compared with nothing.
    pub(crate) fn named_bundle(&self, sha256: &Digest) -> Result<Bundle, StoreError> {
        let (manifest, hashes) = self.manifest(sha256)?;
        let artifact =
            |hash: &Digest| hanse_adapters_core::Artifact { sha256: hash.to_string(), path: self.named(hash) };
        Ok(Bundle {
            manifest: artifact(sha256),
            program: manifest.program,
            files: hashes.iter().map(artifact).collect(),
        })
    }

    /// Returns what a person must say of the content: bytes of all files together, their number (a bundle's manifest not
    /// counted), and a bundle's program.
    ///
    /// # Errors
    /// `Missing` if a file is not whole; `Manifest`, `Io`.
    pub fn measure(&self, sha256: &Digest, kind: ArtifactKind) -> Result<(u64, u32, String), StoreError> {
        let size = |sha256: &Digest| length(&self.path(sha256)?).map(Option::unwrap_or_default);
        let own = size(sha256)?;
        if kind != ArtifactKind::Bundle {
            return Ok((own, 1, String::new()));
        }
        let (manifest, hashes) = self.manifest(sha256)?;
        let mut bytes = own;
        for hash in &hashes {
            bytes += size(hash)?;
        }
        Ok((bytes, u32::try_from(manifest.files.len()).unwrap_or(u32::MAX), manifest.program))
    }

    /// Reads the whole file `sha256` and compares its hash; one that differs is dropped.
    ///
    /// # Errors
    /// `Missing`, `Hash`, `Io`.
    pub fn verify(&self, sha256: &Digest) -> Result<(), StoreError> {
        let path = self.path(sha256)?;
        let found = finish(hash_of(&path, u64::MAX)?);
        if found == *sha256 {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|source| StoreError::Io { path, source })?;
        Err(StoreError::Hash { wanted: *sha256, found })
    }

    /// Says which files of an artifact are here, without reading them.
    pub(crate) fn look(&self, artifact: &Artifact) -> Result<Found, StoreError> {
        Ok(check::look(self, artifact, false))
    }

    /// Comparisons under way.
    pub(crate) fn checks(&self) -> &Checks {
        &self.inner.checks
    }

    fn named(&self, sha256: &Digest) -> PathBuf {
        self.inner.folder.join(sha256.to_string())
    }

    fn part(&self, sha256: &Digest) -> PathBuf {
        self.inner.folder.join(format!("{sha256}.part"))
    }

    fn check_room(&self, more: u64) -> Result<(), StoreError> {
        let (folder, reserve_bytes) = (self.inner.folder.clone(), self.inner.reserve_bytes);
        let fail = |e: rustix::io::Errno| StoreError::Io { path: folder.clone(), source: e.into() };
        let disk = rustix::fs::statvfs(&folder).map_err(fail)?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed_bytes = more.saturating_add(reserve_bytes);
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        Err(StoreError::Full { folder, free_bytes, needed_bytes, reserve_bytes })
    }

    /// Writes the piece at its place; what a failed write left is cut off again.
    fn append(&self, sha256: &Digest, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        let path = self.part(sha256);
        let fail = |source| StoreError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(fail)?;
        let written = file.write_all(data);
        if written.is_err() {
            // If even that fails, the hash will tell.
            let _ = file.set_len(offset);
        }
        match written {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.check_room(data.len() as u64)?;
                Err(fail(error))
            }
            other => other.map_err(fail),
        }
    }

    /// Gives the whole file its name if its hash is right.
    fn name(&self, sha256: &Digest, hash: ring::digest::Context) -> Result<(), StoreError> {
        let (part, path) = (self.part(sha256), self.named(sha256));
        let fail = |source| StoreError::Io { path: path.clone(), source };
        let found = finish(hash);
        if found != *sha256 {
            fs::remove_file(&part).map_err(fail)?;
            return Err(StoreError::Hash { wanted: *sha256, found });
        }
        File::open(&part).and_then(|file| file.sync_all()).map_err(fail)?;
        fs::rename(&part, &path).map_err(fail)?;
        File::open(&self.inner.folder).and_then(|folder| folder.sync_all()).map_err(fail)
    }

    /// Makes room among the growing: the one whose file was touched least lately gives up its hash, not its bytes.
    fn forget_oldest(&self, growing: &mut BTreeMap<Digest, Growing>) -> Result<(), StoreError> {
        let age = |sha256: &Digest| fs::metadata(self.part(sha256)).and_then(|it| it.modified()).ok();
        let oldest = growing.keys().min_by_key(|sha256| age(sha256)).copied().ok_or(StoreError::Busy)?;
        growing.remove(&oldest);
        Ok(())
    }
}

fn length(path: &Path) -> Result<Option<u64>, StoreError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io { path: path.into(), source }),
    }
}

/// Sets the time of a file that is asked about to now. That it cannot be set matters only if it is cleared away meanwhile,
/// and then the import says what is missing.
fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(std::time::SystemTime::now());
    }
}

/// The hash of the first `bytes` of a file, to be gone on with.
fn hash_of(path: &Path, bytes: u64) -> Result<ring::digest::Context, StoreError> {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    if bytes == 0 {
        return Ok(hash);
    }
    let fail = |source| StoreError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(fail)?.take(bytes);
    let mut piece = vec![0; HASH_BYTES];
    loop {
        match file.read(&mut piece).map_err(fail)? {
            0 => return Ok(hash),
            read => hash.update(&piece[..read]),
        }
    }
}

fn finish(hash: ring::digest::Context) -> Digest {
    let mut digest = Digest::default();
    digest.0.copy_from_slice(hash.finish().as_ref());
    digest
}
