//! The program that runs on hosts: the configured file, or this very program.
//!
//! Its name among artifacts is the hash of its content. Reading tens of megabytes takes longer than an election, so it
//! is done when the first host is to be reached, once, from the file that was opened at the start: a program that is
//! replaced meanwhile does not become what this replica takes for its own.
//!
//! It never lets a host be reached before the hash is known.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use hanse_adapters_core::{AdapterError, Artifact};
use tokio::sync::Mutex;

/// Bytes read at once.
const PIECE: usize = 1 << 16;

/// The program that runs on hosts; its hash is known once [`Software::artifact`] has been asked for.
#[derive(Debug)]
pub(crate) struct Software {
    path: PathBuf,
    known: Arc<OnceLock<Artifact>>,
    /// Opened at the start; taken by who hashes it.
    file: Mutex<Option<File>>,
}

impl Software {
    /// Opens the file without reading it; this program's own if none is configured.
    ///
    /// # Errors
    /// It cannot be opened; names the setting.
    pub(crate) fn open(configured: Option<&Path>) -> Result<Self> {
        let path = match configured {
            Some(path) => path.to_path_buf(),
            None => std::env::current_exe().context("find this program's file")?,
        };
        let file = File::open(&path).with_context(|| format!("open {} (`node_artifact`)", path.display()))?;
        Ok(Self { path, known: Arc::default(), file: Mutex::new(Some(file)) })
    }

    /// Where the artifact will be.
    pub(crate) fn known(&self) -> Arc<OnceLock<Artifact>> {
        self.known.clone()
    }

    /// Gives the artifact; the first call reads the file.
    ///
    /// # Errors
    /// `Transient` if the file cannot be read; the next call reads it again.
    pub(crate) async fn artifact(&self) -> Result<&Artifact, AdapterError> {
        if let Some(artifact) = self.known.get() {
            return Ok(artifact);
        }
        let mut file = self.file.lock().await;
        if let Some(artifact) = self.known.get() {
            return Ok(artifact);
        }
        let failed = |reason: String| AdapterError::Transient { subject: self.path.display().to_string(), reason };
        let opened = file.take().map_or_else(|| File::open(&self.path), Ok).map_err(|e| failed(e.to_string()))?;
        let hashed = tokio::task::spawn_blocking(move || sha256(opened)).await.map_err(|e| failed(e.to_string()))?;
        let sha256 = hashed.map_err(|e| failed(e.to_string()))?;
        Ok(self.known.get_or_init(|| Artifact { sha256, path: self.path.clone() }))
    }
}

fn sha256(mut file: File) -> std::io::Result<String> {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut piece = vec![0u8; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(hex::encode(hash.finish()));
        }
        hash.update(&piece[..read]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_hash_is_of_what_was_there_at_the_start_and_known_once_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, "abc").unwrap();
        let software = Software::open(Some(&path)).unwrap();
        assert!(software.known().get().is_none(), "opening reads nothing");
        // As an upgrade does it: another file under the same name.
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        std::fs::write(&path, "abcd").unwrap();
        let (one, other) = tokio::join!(software.artifact(), software.artifact());
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((one.unwrap().sha256.as_str(), other.unwrap().sha256.as_str()), (abc, abc));
        assert_eq!(software.known().get().unwrap().sha256, abc);
    }

    #[test]
    fn a_file_that_is_not_there_is_told_at_the_start() {
        let error = Software::open(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert!(format!("{error}").contains("`node_artifact`"), "{error}");
    }
}
