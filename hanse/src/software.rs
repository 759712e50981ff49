//! The program that runs on hosts: the configured file, or this very program.
//!
//! Its name among artifacts is the hash of its content. Reading tens of megabytes takes longer than an election, so it
//! is done when the first host is to be reached, once, from the file that was opened at the start: a program that is
//! replaced meanwhile does not become what this replica takes for its own.
//!
//! It never lets a host be reached before the hash is known.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use hanse_adapters_core::{AdapterError, Artifact};
use hanse_engines_cometbft::{CometBftEngine, Profile};
use hanse_server::config::CometBftSoftware;
use tokio::sync::Mutex;

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
        let hashed = tokio::task::spawn_blocking(move || hanse_hostrun::content_sha256(opened))
            .await
            .map_err(|e| failed(e.to_string()))?;
        let sha256 = hashed.map_err(|e| failed(e.to_string()))?;
        Ok(self.known.get_or_init(|| Artifact { sha256, path: self.path.clone() }))
    }
}

/// Returns the engine of the program that the operator brought. Reads all of it: what lies on the disk must be what the
/// configuration names.
///
/// # Errors
/// Names the setting or the file, why, and what to do.
pub(crate) async fn cometbft(configured: CometBftSoftware) -> Result<CometBftEngine> {
    let read = move || {
        let text = std::fs::read_to_string(&configured.profile)
            .with_context(|| format!("read {} (`cometbft.profile`)", configured.profile.display()))?;
        let profile = Profile::parse(&text)
            .map_err(|reason| anyhow::anyhow!("{} (`cometbft.profile`): {reason}", configured.profile.display()))?;
        let bundle = hanse_hostrun::load_bundle(&configured.manifest, &configured.files)
            .map_err(|reason| anyhow::anyhow!("`cometbft.manifest`, `cometbft.files`: {reason}"))?;
        if bundle.manifest.sha256 != configured.sha256 {
            anyhow::bail!(
                "{} (`cometbft.manifest`) has the SHA-256 {}, `cometbft.sha256` says {}: put the right file there, or write \
                 its hash on every replica",
                configured.manifest.display(),
                bundle.manifest.sha256,
                configured.sha256
            );
        }
        Ok(CometBftEngine::new(bundle, profile))
    };
    tokio::task::spawn_blocking(read).await.context("read the software of CometBFT chains")?
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

    /// A folder of one file with its manifest and a profile.
    fn brought(dir: &Path) -> CometBftSoftware {
        let (files, manifest, profile) = (dir.join("files"), dir.join("bundle.json"), dir.join("profile.toml"));
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("program"), "abc").unwrap();
        std::fs::write(&profile, include_str!("../../engines/cometbft/profiles/injective.toml")).unwrap();
        let described = hanse_hostrun::describe_bundle(&files, "program").unwrap();
        std::fs::write(&manifest, serde_json::to_vec(&described).unwrap()).unwrap();
        let sha256 = hanse_hostrun::file_sha256(&manifest).unwrap();
        CometBftSoftware { manifest, sha256, files, profile }
    }

    #[tokio::test]
    async fn software_that_was_brought_is_what_the_configuration_names() {
        let dir = tempfile::tempdir().unwrap();
        let good = brought(dir.path());
        let engine = cometbft(good.clone()).await.unwrap();
        assert_eq!(hanse_engines_core::Engine::artifact(&engine).sha256, good.sha256);
        let wrong = cometbft(CometBftSoftware { sha256: "ab".repeat(32), ..good.clone() }).await.unwrap_err();
        assert!(wrong.to_string().contains("`cometbft.sha256` says abab"), "{wrong}");
        let none = cometbft(CometBftSoftware { profile: "/nowhere".into(), ..good.clone() }).await.unwrap_err();
        assert!(none.to_string().contains("`cometbft.profile`"), "{none}");
        std::fs::write(good.files.join("program"), "abd").unwrap();
        let changed = cometbft(good).await.unwrap_err();
        assert!(changed.to_string().contains("the manifest says"), "{changed}");
    }

    /// The state places nodes by the template, the engine asks for its ports by name.
    #[tokio::test]
    async fn templates_give_nodes_the_ports_that_their_engines_ask_for() {
        use hanse_engines_core::Engine;
        use hanse_state::chain::template::TEMPLATES;
        let dir = tempfile::tempdir().unwrap();
        let embedded =
            hanse_engines_embedded::EmbeddedEngine::new(Artifact { sha256: String::new(), path: "x".into() });
        let engines: [&dyn Engine; 2] = [&embedded, &cometbft(brought(dir.path())).await.unwrap()];
        for template in TEMPLATES {
            let engine = engines.iter().find(|engine| engine.name() == template.engine);
            assert_eq!(engine.map(|engine| engine.ports()), Some(template.ports), "{}", template.name);
        }
    }
}
