//! A publisher's signature in a file of its own: it travels beside the content into a closed site.
//!
//! What this never does: believe a key because it is in the file. The platform verifies with the key it has pinned.

use std::path::Path;

use hanse_client::MemberKey;
use serde::{Deserialize, Serialize};

use super::super::error::CliError;
use super::content::Content;

/// Version of the file.
const VERSION: u32 = 1;
/// Larger is no signature.
const BYTES_MAX: u64 = 64 << 10;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signature {
    /// [`VERSION`].
    hanse_signature: u32,
    /// What people call it.
    pub(crate) name: String,
    /// Which version.
    pub(crate) version: String,
    /// What it is.
    pub(crate) kind: String,
    /// The content's name.
    pub(crate) sha256: String,
    /// The publisher's key, hex, so that a site can find under which name it has pinned it.
    pub(crate) public_key: String,
    /// Ed25519 over the five lines of ArtifactService, hex.
    pub(crate) signature: String,
}

impl Signature {
    /// Signs the content under that name and version.
    pub(crate) fn make(key: &MemberKey, content: &Content, name: &str, version: &str) -> Self {
        let kind = content.kind.word();
        let sha256 = content.sha256.clone();
        let text = format!("hanse artifact v1\nsha256: {sha256}\nkind: {kind}\nname: {name}\nversion: {version}\n");
        Self {
            hanse_signature: VERSION,
            name: name.into(),
            version: version.into(),
            kind: kind.into(),
            sha256,
            public_key: key.public_hex(),
            signature: key.sign_hex(&text),
        }
    }

    /// Reads the file and compares it with the content it is to be of.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn read(path: &Path, content: &Content) -> Result<Self, CliError> {
        let size = std::fs::metadata(path).map_err(|e| CliError::file(path, &e))?.len();
        if size > BYTES_MAX {
            return Err(CliError::file(path, &"is too large for a signature"));
        }
        let bytes = std::fs::read(path).map_err(|e| CliError::file(path, &e))?;
        let this: Self = serde_json::from_slice(&bytes).map_err(|e| {
            CliError::local(format!("{}: is no signature: {e}", path.display()), "Ask the publisher for it.")
        })?;
        if this.hanse_signature != VERSION {
            return Err(CliError::file(
                path,
                &format!("has version {}, this program knows {VERSION}", this.hanse_signature),
            ));
        }
        let (kind, sha256) = (content.kind.word(), &content.sha256);
        if this.sha256 != *sha256 || this.kind != kind {
            let message = format!(
                "{} is of the {} {}, the content is the {kind} {sha256}",
                path.display(),
                this.kind,
                this.sha256
            );
            let advice = "The content is not what the publisher signed: get both again. For a bundle give the publisher's manifest with --manifest.";
            return Err(CliError::local(message, advice));
        }
        Ok(this)
    }
}
