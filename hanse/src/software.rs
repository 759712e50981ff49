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
use std::time::Duration;

use anyhow::{Context as _, Result};
use hanse_adapters_core::{AdapterError, Artifact, Bundle};
use hanse_engines_cometbft::{CometBftEngine, Profile};
use hanse_server::artifacts::ArtifactStore;
use hanse_server::config::CometBftSoftware;
use hanse_state::Digest;
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

/// How a bundle that was imported becomes known to its engine.
pub(crate) struct Later {
    sha256: Digest,
    bundle: Arc<OnceLock<Bundle>>,
}

/// Returns the engine of the program that the operator brought: from files beside the configuration, all of which are read
/// now (what lies on the disk must be what the configuration names), or an imported artifact, whose files may come later.
///
/// # Errors
/// Names the setting or the file, why, and what to do.
pub(crate) async fn cometbft(
    configured: CometBftSoftware,
    store: &ArtifactStore,
) -> Result<(CometBftEngine, Option<Later>)> {
    let profile = profile(&configured.profile)?;
    let (Some(manifest), Some(files)) = (configured.manifest, configured.files) else {
        let sha256: Digest = configured.sha256.parse().context("`cometbft.sha256` is 64 lower-case hex digits")?;
        let artifact = Artifact { sha256: configured.sha256, path: store.place(&sha256) };
        let bundle = Arc::new(OnceLock::new());
        let engine = CometBftEngine::with_later(artifact, Arc::clone(&bundle), profile);
        return Ok((engine, Some(Later { sha256, bundle })));
    };
    let read = move || {
        let bundle = hanse_hostrun::load_bundle(&manifest, &files)
            .map_err(|reason| anyhow::anyhow!("`cometbft.manifest`, `cometbft.files`: {reason}"))?;
        if bundle.manifest.sha256 != configured.sha256 {
            anyhow::bail!(
                "{} (`cometbft.manifest`) has the SHA-256 {}, `cometbft.sha256` says {}: put the right file there, or write \
                 its hash on every replica",
                manifest.display(),
                bundle.manifest.sha256,
                configured.sha256
            );
        }
        Ok((CometBftEngine::new(bundle, profile), None))
    };
    tokio::task::spawn_blocking(read).await.context("read the software of CometBFT chains")?
}

fn profile(path: &Path) -> Result<Profile> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("read {} (`cometbft.profile`)", path.display()))?;
    Profile::parse(&text).map_err(|reason| anyhow::anyhow!("{} (`cometbft.profile`): {reason}", path.display()))
}

/// Between two looks whether an imported bundle has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Later {
    /// The artifact that the configuration names.
    pub(crate) fn sha256(&self) -> Digest {
        self.sha256
    }

    /// Waits until every file of the bundle is in the store, reads them all once, and tells the engine.
    pub(crate) async fn wait(self, store: ArtifactStore) {
        let mut said = String::new();
        loop {
            let (looked, sha256) = (store.clone(), self.sha256);
            let found = tokio::task::spawn_blocking(move || looked.bundle(&sha256)).await;
            let reason = match found {
                Ok(Ok(bundle)) => {
                    tracing::info!(artifact = %self.sha256, "the program of CometBFT chains is here");
                    return drop(self.bundle.set(bundle));
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            if said != reason {
                tracing::warn!(artifact = %self.sha256, reason, "CometBFT chains wait for their program");
                said = reason;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
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

    /// A folder of one file with its manifest and a profile.
    fn brought(dir: &Path) -> CometBftSoftware {
        let (files, manifest, profile) = (dir.join("files"), dir.join("bundle.json"), dir.join("profile.toml"));
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("program"), "abc").unwrap();
        std::fs::write(&profile, include_str!("../../engines/cometbft/profiles/injective.toml")).unwrap();
        let described = hanse_hostrun::describe_bundle(&files, "program").unwrap();
        std::fs::write(&manifest, serde_json::to_vec(&described).unwrap()).unwrap();
        let sha256 = hanse_hostrun::file_sha256(&manifest).unwrap();
        CometBftSoftware { manifest: Some(manifest), sha256, files: Some(files), profile }
    }

    #[tokio::test]
    async fn software_that_was_brought_is_what_the_configuration_names() {
        let dir = tempfile::tempdir().unwrap();
        let good = brought(dir.path());
        let store = ArtifactStore::open(&dir.path().join("store"), 0).unwrap();
        let cometbft = async |it| cometbft(it, &store).await.map(|(engine, _)| engine);
        let engine = cometbft(good.clone()).await.unwrap();
        assert_eq!(hanse_engines_core::Engine::artifact(&engine).sha256, good.sha256);
        let wrong = cometbft(CometBftSoftware { sha256: "ab".repeat(32), ..good.clone() }).await.unwrap_err();
        assert!(wrong.to_string().contains("`cometbft.sha256` says abab"), "{wrong}");
        let none = cometbft(CometBftSoftware { profile: "/nowhere".into(), ..good.clone() }).await.unwrap_err();
        assert!(none.to_string().contains("`cometbft.profile`"), "{none}");
        std::fs::write(dir.path().join("files/program"), "abd").unwrap();
        let changed = cometbft(good).await.unwrap_err();
        assert!(changed.to_string().contains("the manifest says"), "{changed}");
    }

    #[tokio::test]
    async fn software_that_is_imported_is_known_once_all_of_it_has_come() {
        let dir = tempfile::tempdir().unwrap();
        let brought = brought(dir.path());
        let store = ArtifactStore::open(&dir.path().join("store"), 0).unwrap();
        let manifest = std::fs::read(brought.manifest.as_ref().unwrap()).unwrap();
        let named = CometBftSoftware { manifest: None, files: None, ..brought };
        let (engine, later) = cometbft(named, &store).await.unwrap();
        let later = later.unwrap();
        assert_eq!(later.sha256().to_string(), hanse_engines_core::Engine::artifact(&engine).sha256);
        let bundle = Arc::clone(&later.bundle);
        let put = |content: &[u8]| store.put(&Digest::of(content), content.len() as u64, 0, content).unwrap();
        put(&manifest);
        let waiting = tokio::spawn(later.wait(store.clone()));
        assert!(bundle.get().is_none(), "its program is not here");
        put(b"abc");
        tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
        assert_eq!(bundle.get().unwrap().files.len(), 1);
    }

    /// The state places nodes by the template, the engine asks for its ports by name.
    #[tokio::test]
    async fn templates_give_nodes_the_ports_that_their_engines_ask_for() {
        use hanse_engines_core::Engine;
        use hanse_state::chain::template::TEMPLATES;
        let dir = tempfile::tempdir().unwrap();
        let embedded =
            hanse_engines_embedded::EmbeddedEngine::new(Artifact { sha256: String::new(), path: "x".into() });
        let store = ArtifactStore::open(&dir.path().join("store"), 0).unwrap();
        let (cometbft, _) = cometbft(brought(dir.path()), &store).await.unwrap();
        let engines: [&dyn Engine; 2] = [&embedded, &cometbft];
        for template in TEMPLATES {
            let engine = engines.iter().find(|engine| engine.name() == template.engine);
            assert_eq!(engine.map(|engine| engine.ports()), Some(template.ports), "{}", template.name);
        }
    }
}
