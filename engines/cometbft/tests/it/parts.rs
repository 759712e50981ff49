//! The real program, installed by `cargo xtask parts` below target/parts, as a bundle of two files.

use std::path::{Path, PathBuf};

use hanse_adapters_core::{Artifact, Bundle, MANIFEST_VERSION, Manifest};
use hanse_engines_cometbft::Profile;

/// The folder of `injectived` and its library.
fn folder() -> PathBuf {
    let parts = match std::env::var_os("HANSE_PARTS") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/parts"),
    };
    // The package is below the version of whatever Python made the environment.
    let libraries = parts.join("injective/lib");
    let found = std::fs::read_dir(&libraries).ok().and_then(|versions| {
        let folders = versions.flatten().map(|version| version.path().join("site-packages/injective_core/bin"));
        folders.into_iter().find(|folder| folder.join("injectived").exists())
    });
    found.unwrap_or_else(|| {
        panic!(
            "no injectived below {}: run `cargo xtask parts`, or name its folder in HANSE_PARTS",
            libraries.display()
        )
    })
}

/// The program and its library; the manifest is written into `scratch`.
pub(crate) fn bundle(scratch: &Path) -> Bundle {
    let folder = folder();
    // Not by `load_bundle`: it would hash a quarter of a gigabyte once more.
    let names = ["injectived", "libwasmvm.x86_64.so"];
    let artifact = |path: PathBuf| Artifact { sha256: hanse_hostrun::file_sha256(&path).unwrap(), path };
    let files: Vec<Artifact> = names.iter().map(|name| artifact(folder.join(name))).collect();
    let named = names.iter().zip(&files).map(|(name, file)| ((*name).to_owned(), file.sha256.clone()));
    let manifest = Manifest { version: MANIFEST_VERSION, program: "injectived".into(), files: named.collect() };
    let path = scratch.join("bundle.json");
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    Bundle { manifest: artifact(path), program: manifest.program, files }
}

pub(crate) fn profile() -> Profile {
    Profile::parse(include_str!("../../profiles/injective.toml")).unwrap()
}

/// What mounts `host-supervise`, as the one binary does: an example of this package, built with its tests.
pub(crate) fn supervisor() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/cometbft-host");
    assert!(path.exists(), "{} is missing: run `cargo build -p hanse-engines-cometbft --examples`", path.display());
    path
}
