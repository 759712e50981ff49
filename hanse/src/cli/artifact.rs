//! `hanse artifact`: software for hosts that is not in this binary. Works on files of this machine; needs no replica.

use std::path::PathBuf;

use serde_json::json;

use super::context::Global;
use super::error::CliError;
use super::key::show;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Write the manifest of a folder of files: what they are called and the SHA-256 of each.
    Describe {
        /// Folder with the program and everything that must lie beside it, and nothing else.
        folder: PathBuf,
        /// The program, as a path inside the folder.
        #[arg(long)]
        program: String,
        /// The manifest's file; it must not exist yet, and lie outside the folder.
        #[arg(long)]
        out: PathBuf,
    },
    /// Compare a folder of files with its manifest.
    Verify {
        /// Folder with the files.
        folder: PathBuf,
        /// Its manifest.
        #[arg(long)]
        manifest: PathBuf,
    },
}

/// Runs a verb.
///
/// # Errors
/// A file cannot be read or written, or is not what the manifest says; names it.
pub(crate) fn run(command: ArtifactCommand, global: &Global) -> Result<(), CliError> {
    match command {
        ArtifactCommand::Describe { folder, program, out } => {
            let failed = |reason: String| CliError::local(reason, "Correct it and run the command again.");
            let manifest = hanse_hostrun::describe_bundle(&folder, &program).map_err(failed)?;
            let text = serde_json::to_string_pretty(&manifest).map_err(|e| failed(e.to_string()))? + "\n";
            write_new(&out, &text).map_err(|e| failed(format!("{}: {e}", out.display())))?;
            let sha256 = hanse_hostrun::file_sha256(&out).map_err(|e| failed(format!("{}: {e}", out.display())))?;
            let files = manifest.files.len();
            show(global, "sha256", json!({ "manifest": out, "sha256": sha256, "program": program, "files": files }))
        }
        ArtifactCommand::Verify { folder, manifest } => {
            let fix =
                "Put the files back that the manifest was made of, or make a new manifest and tell every replica.";
            let found =
                hanse_hostrun::load_bundle(&manifest, &folder).map_err(|reason| CliError::local(reason, fix))?;
            let (sha256, files) = (found.manifest.sha256, found.files.len());
            show(
                global,
                "sha256",
                json!({ "manifest": manifest, "sha256": sha256, "program": found.program, "files": files }),
            )
        }
    }
}

fn write_new(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
