//! Small secret files: keys and tokens, readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

/// No key or token of ours is larger; a mistaken path must not be read whole.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Writes a new secret file with mode 0600 and flushes it; makes the folders it needs with mode 0700.
///
/// # Errors
/// The file exists already (it is left as it is), or the IO failed (no part of it is left).
pub fn write_new(path: &Path, secret: &[u8]) -> io::Result<()> {
    make_parent(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(secret).and_then(|()| file.sync_all());
    if written.is_err() {
        // Best effort: half a key must not be found later; the write's own error is what the caller needs.
        let _ = fs::remove_file(path);
    }
    written
}

/// Writes a secret file with mode 0600, replacing an earlier one in one step.
///
/// # Errors
/// The IO failed; an earlier file is untouched.
pub fn replace(path: &Path, secret: &[u8]) -> io::Result<()> {
    make_parent(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::now_v7()));
    let fresh = path.with_file_name(name);
    write_new(&fresh, secret)?;
    fs::rename(&fresh, path).inspect_err(|_| {
        let _ = fs::remove_file(&fresh);
    })
}

/// Returns the content of a secret file.
///
/// # Errors
/// The IO failed, the file is too large, is not text, or others than its owner may read it.
pub fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = fs::File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a file"));
    }
    if meta.mode() & 0o077 != 0 {
        let text = format!("has mode {:04o}; others may read it (chmod 600)", meta.mode() & 0o7777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    if meta.len() > SECRET_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "is too large for a secret"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn make_parent(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)
        }
        _ => Ok(()),
    }
}
