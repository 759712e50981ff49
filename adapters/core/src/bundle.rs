//! Software of several files: a program with the libraries, scripts or jars that it needs, as one artifact.
//!
//! A bundle is named by its manifest, a small JSON file that lists each file by path and content hash; so the hash of the
//! manifest pins all of it. Every file and the manifest itself are put on the host as artifacts of their own, each checked
//! there, and the host lays the files out under their names when the bundle is first used. Files that two bundles share
//! travel once. It never unpacks an archive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Adapter, Artifact, Result};

/// The version of the manifest that this program reads and writes.
pub const MANIFEST_VERSION: u32 = 1;
/// Most files of a bundle.
pub const BUNDLE_FILES_MAX: usize = 1_000;

/// What a bundle is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// Path of the program to run, one of `files`.
    pub program: String,
    /// By path (`/` between folders, no `..`, not absolute) the SHA-256 of the content, 64 lower-case hex digits.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// Checks the version, the number of files, and that every path stays inside the bundle and the program is there.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> std::result::Result<(), String> {
        if self.version != MANIFEST_VERSION {
            return Err(format!("manifest version {}, this program knows {MANIFEST_VERSION}", self.version));
        }
        if self.files.is_empty() || self.files.len() > BUNDLE_FILES_MAX {
            return Err(format!("{} files, a bundle has 1 to {BUNDLE_FILES_MAX}", self.files.len()));
        }
        if let Some(path) = self.files.keys().find(|path| !is_inside(path)) {
            return Err(format!("path {path:?} does not stay inside the bundle"));
        }
        if self.files.contains_key(&self.program) {
            return Ok(());
        }
        Err(format!("the program {:?} is not among its files", self.program))
    }
}

/// Whether `path` is plain: parts between single slashes, none of them empty, `.` or `..`.
fn is_inside(path: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 200 && !part.contains('\0');
    path.split('/').count() <= 16 && path.split('/').all(plain)
}

/// A bundle in the local artifact store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The manifest's file; its hash names the bundle.
    pub manifest: Artifact,
    /// Path of the program inside the bundle.
    pub program: String,
    /// Every file, in the order of their paths.
    pub files: Vec<Artifact>,
}

impl Bundle {
    /// Puts every file and then the manifest on `host`; what is there already stays.
    ///
    /// # Errors
    /// As [`Adapter::put_artifact`]; doing it again completes it.
    pub async fn put(&self, host: &dyn Adapter) -> Result<()> {
        for file in &self.files {
            host.put_artifact(file).await?;
        }
        host.put_artifact(&self.manifest).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_stays_inside_and_has_its_program() {
        let manifest = |program: &str, paths: &[&str]| Manifest {
            version: MANIFEST_VERSION,
            program: program.into(),
            files: paths.iter().map(|path| ((*path).to_owned(), "ab".repeat(32))).collect(),
        };
        assert_eq!(manifest("bin/x", &["bin/x", "lib/y.so"]).check(), Ok(()));
        for bad in ["../x", "/x", "a//x", "a/./x", "", "a/", "a\0"] {
            assert!(manifest("x", &["x", bad]).check().is_err(), "{bad:?}");
        }
        assert!(manifest("y", &["x"]).check().is_err());
        assert!(manifest("x", &[]).check().is_err());
        assert!(Manifest { version: 2, ..manifest("x", &["x"]) }.check().is_err());
    }
}
