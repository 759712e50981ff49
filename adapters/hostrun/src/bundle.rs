//! Artifacts of several files, laid out on the host.
//!
//! A bundle's manifest and files lie under `artifacts/` by their hashes, each checked when it was put there. At the first
//! use the files get their names under `artifacts/<manifest>/files/`, as hard links, in a folder that is named only when
//! it is whole. It never copies what a link can do, and never follows a path that the manifest does not hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hanse_adapters_core::{AdapterError, Artifact, BUNDLE_FILES_MAX, Bundle, MANIFEST_VERSION, Manifest};

use crate::artifact::{file_sha256, placed_file};
use crate::layout::{Layout, invalid, io_error, make_dir, sync_parent};

/// Largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// A program on the host, and the folder with the files of its artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) folder: PathBuf,
}

/// Returns where the program of an artifact is that must be on the host: the artifact itself, or a file of a bundle.
pub(crate) fn placed(layout: &Layout, sha256: &str, program: Option<&str>) -> Result<Program, AdapterError> {
    let file = placed_file(layout, sha256)?;
    let Some(program) = program else {
        return Ok(Program { path: file, folder: crate::layout::absolute(&layout.artifact_dir(sha256))? });
    };
    let subject = format!("bundle {sha256}");
    let manifest = read(&file).map_err(|reason| invalid(&subject, reason))?;
    if !manifest.files.contains_key(program) {
        return Err(invalid(&subject, format!("has no file {program:?}")));
    }
    let folder = crate::layout::absolute(&layout.artifact_dir(sha256))?.join("files");
    if !folder.is_dir() {
        lay_out(layout, &manifest, &folder)?;
    }
    Ok(Program { path: folder.join(program), folder })
}

fn read(file: &Path) -> Result<Manifest, String> {
    let size = fs::metadata(file).map_err(|e| e.to_string())?.len();
    if size > MANIFEST_BYTES_MAX {
        return Err(format!("a manifest has at most {MANIFEST_BYTES_MAX} bytes; is it the program itself?"));
    }
    let bytes = fs::read(file).map_err(|e| e.to_string())?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| format!("is no manifest: {e}"))?;
    manifest.check()?;
    Ok(manifest)
}

/// Links every file into a folder of its own and then names it. Two requests at once may both do so; one of them wins. What
/// could not be finished is removed, for the next try makes a folder of its own.
fn lay_out(layout: &Layout, manifest: &Manifest, folder: &Path) -> Result<(), AdapterError> {
    let fail = |e: &io::Error| io_error(&folder.display().to_string(), e);
    // Two requests of one process may come in one millisecond, and must not work in one folder.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let unique = format!("new-{:x}-{:x}-{count:x}", std::process::id(), crate::facts::now_ms());
    let aside = folder.with_extension(unique);
    if let Err(error) = link_all(layout, manifest, &aside) {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&aside);
        return Err(error);
    }
    match fs::rename(&aside, folder) {
        Ok(()) => sync_parent(folder).map_err(|e| fail(&e)),
        Err(_) if folder.is_dir() => fs::remove_dir_all(&aside).map_err(|e| fail(&e)),
        Err(e) => Err(fail(&e)),
    }
}

fn link_all(layout: &Layout, manifest: &Manifest, folder: &Path) -> Result<(), AdapterError> {
    let fail = |e: &io::Error| io_error(&folder.display().to_string(), e);
    for (path, sha256) in &manifest.files {
        let from = placed_file(layout, sha256)?;
        let to = folder.join(path);
        make_dir(to.parent().unwrap_or(folder))?;
        // A file system without hard links has the file twice. Never onto what is there: it may be a link of `from`, and copying
        // a file onto itself empties it.
        let linked = match fs::hard_link(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => copy_new(&from, &to),
            other => other,
        };
        linked.map_err(|e| fail(&e))?;
        sync_parent(&to).map_err(|e| fail(&e))?;
    }
    Ok(())
}

/// Copies a file to a place where nothing is yet.
fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let (mut source, mut target) = (fs::File::open(from)?, fs::File::create_new(to)?);
    io::copy(&mut source, &mut target)?;
    target.set_permissions(source.metadata()?.permissions())
}

/// Returns the bundle whose files lie below `folder` on this machine and whose manifest is the file `manifest`. Each
/// file is hashed and must have the hash that the manifest names. Blocks.
///
/// # Errors
/// What is wrong with which file, in words.
pub fn load_bundle(manifest: &Path, folder: &Path) -> Result<Bundle, String> {
    let content = read(manifest).map_err(|reason| format!("{}: {reason}", manifest.display()))?;
    let hash = |path: &Path| file_sha256(path).map_err(|e| format!("{}: {e}", path.display()));
    let mut files = Vec::new();
    for (name, sha256) in &content.files {
        let path = folder.join(name);
        let found = hash(&path)?;
        if found != *sha256 {
            return Err(format!("{}: has the hash {found}, the manifest says {sha256}", path.display()));
        }
        files.push(Artifact { sha256: found, path });
    }
    let sha256 = hash(manifest)?;
    Ok(Bundle { manifest: Artifact { sha256, path: manifest.into() }, program: content.program, files })
}

/// Returns the manifest of every file below `folder` on this machine; links are followed. Blocks.
///
/// # Errors
/// What is wrong, in words: a file that cannot be read, too many files, a program that is not among them.
pub fn describe_bundle(folder: &Path, program: &str) -> Result<Manifest, String> {
    let mut manifest =
        Manifest { version: MANIFEST_VERSION, program: program.into(), files: std::collections::BTreeMap::new() };
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        let fail = |e: io::Error| format!("{}: {e}", next.display());
        for entry in fs::read_dir(&next).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
            let name = name.ok_or_else(|| format!("{}: its name is not text", path.display()))?.to_owned();
            let sha256 = file_sha256(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            manifest.files.insert(name, sha256);
            if manifest.files.len() > BUNDLE_FILES_MAX {
                return Err(format!("{}: more than {BUNDLE_FILES_MAX} files", folder.display()));
            }
        }
    }
    manifest.check().map_err(|reason| format!("{}: {reason}", folder.display()))?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Barrier;

    use super::*;

    /// Nodes of one chain that are prepared at once on one host: in one process, in one millisecond.
    #[test]
    fn a_bundle_that_is_laid_out_by_many_at_once_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let put = |content: &[u8]| {
            let upload = root.path().join("upload");
            fs::write(&upload, content).unwrap();
            let sha256 = file_sha256(&upload).unwrap();
            fs::create_dir_all(layout.artifact_dir(&sha256)).unwrap();
            fs::rename(&upload, layout.artifact(&sha256)).unwrap();
            sha256
        };
        let (program, library) = (put(b"the program"), put(b"the library"));
        let files = [("program".to_owned(), program), ("lib.so".to_owned(), library)].into();
        let manifest = Manifest { version: MANIFEST_VERSION, program: "program".into(), files };
        let sha256 = put(&serde_json::to_vec(&manifest).unwrap());
        for _ in 0..50 {
            let _none_before_the_first = fs::remove_dir_all(layout.artifact_dir(&sha256).join("files"));
            let gate = Barrier::new(4);
            std::thread::scope(|scope| {
                let ask = || {
                    gate.wait();
                    placed(&layout, &sha256, Some("program")).unwrap().path
                };
                let asked: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
                for path in asked.into_iter().map(|it| it.join().unwrap()) {
                    assert_eq!(fs::read(&path).unwrap(), b"the program");
                }
            });
        }
        let there = fs::read_dir(layout.artifact_dir(&sha256)).unwrap().count();
        assert_eq!(there, 2, "nothing is left beside the manifest and its files");
        assert!(copy_new(&layout.artifact(&sha256), &layout.artifact(&sha256)).is_err(), "never onto what is there");
    }
}
