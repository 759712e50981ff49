//! What lies at a path of this machine and can become an artifact: a program, a folder or archive that is a bundle, an image.
//!
//! What this never does: follow what an archive says out of the folder it is unpacked into, or keep that folder.

use std::fs::File;
use std::path::{Path, PathBuf};

use hanse_client::pb;

use super::super::error::CliError;

/// Largest manifest of a bundle.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What an artifact is, as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One program.
    Program,
    /// A program with files beside it.
    Bundle,
    /// An archive of a container image.
    Image,
}

impl Kind {
    /// The word in the text that a publisher signs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Bundle => "bundle",
            Self::Image => "image",
        }
    }

    /// The kind on the wire.
    pub(crate) fn wire(self) -> pb::ArtifactKind {
        match self {
            Self::Program => pb::ArtifactKind::Program,
            Self::Bundle => pb::ArtifactKind::Bundle,
            Self::Image => pb::ArtifactKind::Image,
        }
    }
}

/// How the content is named on the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ContentArgs {
    /// A program, a folder with a program and what must lie beside it, a tar archive of such a folder, or an image.
    pub(crate) path: PathBuf,
    /// What it is; by default a folder is a bundle and a file a program.
    #[arg(long, value_enum)]
    pub(crate) kind: Option<Kind>,
    /// The program of a bundle, as a path inside it; makes the manifest.
    #[arg(long, conflicts_with = "manifest")]
    pub(crate) program: Option<String>,
    /// The manifest of a bundle that was described before; the content must be just that.
    #[arg(long)]
    pub(crate) manifest: Option<PathBuf>,
}

/// One file that makes up an artifact.
pub(crate) struct Piece {
    /// SHA-256, hex.
    pub(crate) sha256: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Where it is.
    pub(crate) source: Source,
}

/// Where bytes come from.
pub(crate) enum Source {
    /// A file.
    File(PathBuf),
    /// Made here.
    Bytes(Vec<u8>),
}

/// An artifact as it lies on this machine.
pub(crate) struct Content {
    /// What it is.
    pub(crate) kind: Kind,
    /// SHA-256 that names it.
    pub(crate) sha256: String,
    /// Bytes of everything.
    pub(crate) size: u64,
    /// Files, a manifest not counted.
    pub(crate) files: u32,
    /// A bundle's program.
    pub(crate) program: String,
    /// Every file once, a bundle's manifest first.
    pub(crate) pieces: Vec<Piece>,
    /// Where an archive was unpacked; removed with this.
    _unpacked: Option<Unpacked>,
}

impl Content {
    /// Reads and hashes all of it.
    ///
    /// # Errors
    /// Names the file, why, and what to do.
    pub(crate) fn read(args: &ContentArgs) -> Result<Content, CliError> {
        let found = std::fs::metadata(&args.path).map_err(|e| CliError::file(&args.path, &e))?;
        let bundle = found.is_dir() || args.program.is_some() || args.manifest.is_some();
        match args.kind.unwrap_or(if bundle { Kind::Bundle } else { Kind::Program }) {
            Kind::Bundle => bundle_at(args, found.is_dir()),
            kind if bundle => {
                let message = format!("{} is a bundle, not a {}", args.path.display(), kind.word());
                Err(CliError::local(message, "Leave --kind, --program and --manifest out for a single file."))
            }
            kind => {
                let piece = piece(args.path.clone())?;
                let (sha256, size) = (piece.sha256.clone(), piece.size);
                let program = String::new();
                Ok(Content { kind, sha256, size, files: 1, program, pieces: vec![piece], _unpacked: None })
            }
        }
    }
}

fn bundle_at(args: &ContentArgs, is_folder: bool) -> Result<Content, CliError> {
    let unpacked = if is_folder { None } else { Some(Unpacked::of(&args.path)?) };
    let folder = unpacked.as_ref().map_or(args.path.as_path(), |it| it.0.as_path());
    let failed = |reason: String| CliError::local(reason, "Correct it and run the command again.");
    let (manifest, bytes) = match (&args.manifest, &args.program) {
        (Some(path), _) => {
            // Compares every file with it.
            hanse_hostrun::load_bundle(path, folder).map_err(failed)?;
            let bytes = read_small(path)?;
            (serde_json::from_slice(&bytes).map_err(|e| CliError::file(path, &e))?, bytes)
        }
        (None, Some(program)) => {
            let manifest = hanse_hostrun::describe_bundle(folder, program).map_err(failed)?;
            let text = super::manifest_text(&manifest).map_err(|e| failed(e.to_string()))?;
            (manifest, text.into_bytes())
        }
        (None, None) => {
            let advice = "Give --program PATH, the program inside it, or --manifest FILE.";
            return Err(CliError::local(format!("{}: which file is the program?", args.path.display()), advice));
        }
    };
    let sha256 = sha256_of(&bytes);
    let mut pieces = vec![Piece { sha256: sha256.clone(), size: bytes.len() as u64, source: Source::Bytes(bytes) }];
    for (path, hash) in &manifest.files {
        if pieces.iter().all(|known| known.sha256 != *hash) {
            pieces.push(piece(folder.join(path))?);
        }
    }
    let size = pieces.iter().map(|piece| piece.size).sum();
    let files = u32::try_from(manifest.files.len()).unwrap_or(u32::MAX);
    Ok(Content { kind: Kind::Bundle, sha256, size, files, program: manifest.program, pieces, _unpacked: unpacked })
}

fn read_small(path: &Path) -> Result<Vec<u8>, CliError> {
    let size = std::fs::metadata(path).map_err(|e| CliError::file(path, &e))?.len();
    if size > MANIFEST_BYTES_MAX {
        return Err(CliError::file(path, &"is too large for a manifest"));
    }
    std::fs::read(path).map_err(|e| CliError::file(path, &e))
}

fn piece(path: PathBuf) -> Result<Piece, CliError> {
    let size = std::fs::metadata(&path).map_err(|e| CliError::file(&path, &e))?.len();
    if size == 0 {
        return Err(CliError::local(
            format!("{} is empty", path.display()),
            "Leave it out, or put the right file there.",
        ));
    }
    let sha256 = hanse_hostrun::file_sha256(&path).map_err(|e| CliError::file(&path, &e))?;
    Ok(Piece { sha256, size, source: Source::File(path) })
}

/// SHA-256 of bytes, hex.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

/// A folder that an archive was unpacked into; gone when dropped.
struct Unpacked(PathBuf);

impl Unpacked {
    /// Unpacks plain files and folders; anything else in the archive is refused.
    fn of(archive: &Path) -> Result<Self, CliError> {
        let failed = |why: &dyn std::fmt::Display| {
            let advice =
                "A bundle's archive is an uncompressed tar of plain files; unpack others yourself and give the folder.";
            CliError::local(format!("{}: {why}", archive.display()), advice)
        };
        let folder = Self(std::env::temp_dir().join(format!("hanse-artifact-{}", uuid::Uuid::new_v4())));
        let made = std::fs::create_dir(&folder.0);
        made.map_err(|e| CliError::file(&folder.0, &e))?;
        let file = File::open(archive).map_err(|e| CliError::file(archive, &e))?;
        let mut archive = tar::Archive::new(file);
        for entry in archive.entries().map_err(|e| failed(&e))? {
            let mut entry = entry.map_err(|e| failed(&e))?;
            let path = entry.path().map_err(|e| failed(&e))?.display().to_string();
            let kind = entry.header().entry_type();
            if !kind.is_file() && !kind.is_dir() {
                return Err(failed(&format!("{path} is neither a plain file nor a folder")));
            }
            // Refuses what would leave the folder.
            if !entry.unpack_in(&folder.0).map_err(|e| failed(&e))? {
                return Err(failed(&format!("{path} does not stay inside")));
            }
        }
        Ok(folder)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "what an archive was unpacked into is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(path: &Path, program: Option<&str>) -> ContentArgs {
        ContentArgs { path: path.into(), kind: None, program: program.map(Into::into), manifest: None }
    }

    fn archive(path: &Path, entries: &[(&str, tar::EntryType, &[u8])]) {
        let mut builder = tar::Builder::new(File::create(path).unwrap());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            // Past the crate's own check, as a hostile archive would be made.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.finish().unwrap();
    }

    #[test]
    fn a_folder_and_its_archive_are_the_same_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("files");
        std::fs::create_dir_all(folder.join("lib")).unwrap();
        std::fs::write(folder.join("run"), "program").unwrap();
        std::fs::write(folder.join("lib/a.so"), "library").unwrap();
        let of_folder = Content::read(&args(&folder, Some("run"))).unwrap();
        let tar = dir.path().join("bundle.tar");
        let file = tar::EntryType::Regular;
        archive(&tar, &[("run", file, b"program"), ("lib/a.so", file, b"library")]);
        let of_archive = Content::read(&args(&tar, Some("run"))).unwrap();
        assert_eq!(of_folder.sha256, of_archive.sha256);
        assert_eq!((of_archive.files, of_archive.pieces.len(), of_archive.kind), (2, 3, Kind::Bundle));
        let place = of_archive._unpacked.as_ref().unwrap().0.clone();
        assert!(place.is_dir());
        drop(of_archive);
        assert!(!place.exists());
    }

    #[test]
    fn an_archive_cannot_reach_out_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let tar = dir.path().join("bad.tar");
        for (name, kind) in [("../out", tar::EntryType::Regular), ("link", tar::EntryType::Symlink)] {
            archive(&tar, &[("run", tar::EntryType::Regular, b"program"), (name, kind, b"")]);
            let refused = Content::read(&args(&tar, Some("run"))).err().unwrap().to_string();
            assert!(refused.contains("does not stay inside") || refused.contains("neither a plain file"), "{refused}");
        }
        std::fs::write(&tar, "no archive at all").unwrap();
        assert!(Content::read(&args(&tar, Some("run"))).is_err());
    }

    #[test]
    fn bad_input_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::write(&path, "").unwrap();
        let refused = |args: &ContentArgs| Content::read(args).err().unwrap().to_string();
        assert!(refused(&args(&path, None)).contains("is empty"));
        assert!(refused(&args(dir.path(), None)).contains("which file is the program?"));
        assert!(refused(&args(&dir.path().join("none"), None)).contains("No such file"));
        let image = ContentArgs { kind: Some(Kind::Image), ..args(dir.path(), Some("empty")) };
        assert!(refused(&image).contains("is a bundle, not a image") || refused(&image).contains("bundle"));
    }
}
