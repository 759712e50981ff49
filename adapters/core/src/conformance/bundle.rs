//! The check of programs that are several files.

use super::{Bench, alive, pid, short, that};
use crate::{AdapterError, Artifact, Bundle, FileSpec, InstanceSpec, Manifest, RunSpec};

/// The trial program under another name, with a library beside it that is only data.
pub(super) async fn bundle(b: &Bench<'_>) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("{}-bundle", b.cluster));
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let made = use_bundle(b, &folder).await;
    std::fs::remove_dir_all(&folder).map_err(|e| e.to_string())?;
    made
}

async fn use_bundle(b: &Bench<'_>, folder: &std::path::Path) -> Result<(), String> {
    let manifest = Manifest {
        version: crate::MANIFEST_VERSION,
        program: "bin/trial".into(),
        files: ["bin/trial", "lib/data"].map(|path| (path.to_owned(), b.artifact.sha256.clone())).into(),
    };
    let path = folder.join("bundle.json");
    let content = serde_json::to_vec(&manifest).map_err(|e| e.to_string())?;
    std::fs::write(&path, &content).map_err(|e| e.to_string())?;
    // The trial program hashes files by itself, so that this crate needs no hash function.
    b.host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
    let key = b.key("bundled")?;
    let copy = FileSpec { path: "bundle.json".into(), mode: 0o600, content };
    b.host.put_files(&key, &[copy]).await.map_err(|e| e.to_string())?;
    let manifest = Artifact { sha256: b.says(&key, &["hash", "{home}/bundle.json"]).await?.trim().to_owned(), path };
    let bundle = Bundle { manifest, program: "bin/trial".into(), files: vec![b.artifact.clone()] };
    bundle.put(b.host.as_ref()).await.map_err(|e| e.to_string())?;
    bundle.put(b.host.as_ref()).await.map_err(|e| format!("again: {e}"))?;

    let env = [("WHERE".to_owned(), "{artifact}/lib:{home}".to_owned())];
    let inside = |args: &[&str]| RunSpec {
        program: Some(bundle.program.clone()),
        env: env.clone().into(),
        ..short(&bundle.manifest.sha256, args)
    };
    let out = b.host.run(&key, &inside(&["hash", "{artifact}/lib/data"])).await.map_err(|e| e.to_string())?;
    that(out.code == Some(0) && out.stdout.trim() == b.artifact.sha256, "its files lie beside its program")?;
    let out = b.host.run(&key, &inside(&["env"])).await.map_err(|e| e.to_string())?;
    that(out.stdout.lines().any(|l| l.starts_with("WHERE=/") && l.contains("/lib:/")), "the environment names them")?;
    let outside = RunSpec { program: Some("../../hanse".into()), ..inside(&["print"]) };
    let refused = matches!(b.host.run(&key, &outside).await, Err(AdapterError::Invalid { .. }));
    that(refused, "what is not in the manifest is not run")?;
    let spec = InstanceSpec {
        artifact_sha256: bundle.manifest.sha256.clone(),
        program: Some(bundle.program.clone()),
        env: env.into(),
        ..b.spec("bundled", 1, &["sleep"])?
    };
    let status = b.host.ensure(&spec).await.map_err(|e| e.to_string())?;
    that(alive(pid(&status)?), "a process of the bundle runs")?;
    let again = b.host.ensure(&spec).await.map_err(|e| e.to_string())?;
    that(again == status, "and is adopted")
}
