//! Programs on the host, by content.
//!
//! A file gets its place under `artifacts/<sha256>/hanse` only after its content was hashed here, on the host, and made
//! durable; a place that is taken is never written again. It never uses a partial upload.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hanse_adapters_core::{AdapterError, Artifact};
use ring::digest::{Context, SHA256};

use crate::facts::now_ms;
use crate::layout::{Layout, invalid, io_error, make_dir, sync_parent};

/// Read at once while hashing.
const CHUNK_BYTES: usize = 256 * 1024;

/// An upload untouched for this long has no writer any more.
const STALE_UPLOAD: Duration = Duration::from_secs(3600);

/// File names of uploads start with this.
pub(crate) const UPLOAD_PREFIX: &str = ".upload-";

/// Returns whether `text` is a SHA-256 as this project writes it: 64 lower-case hex digits.
pub fn valid_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the SHA-256 of a file's content, lower-case hex.
///
/// # Errors
/// The file cannot be read.
pub fn file_sha256(path: &Path) -> io::Result<String> {
    content_sha256(File::open(path)?)
}

/// Returns the SHA-256 of what is left to be read of an open file, lower-case hex.
///
/// # Errors
/// It cannot be read.
pub fn content_sha256(mut file: File) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex::encode(context.finish())),
            n => context.update(&chunk[..n]),
        }
    }
}

pub(crate) fn hash_self() -> Result<String, AdapterError> {
    file_sha256(Path::new("/proc/self/exe")).map_err(|e| io_error("this program", &e))
}

pub(crate) fn has(layout: &Layout, sha256: &str) -> Result<bool, AdapterError> {
    check_sha(sha256)?;
    match file_sha256(&layout.artifact(sha256)) {
        Ok(found) => Ok(found == sha256),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error(sha256, &e)),
    }
}

/// Puts this very program, which was uploaded as `.upload-...` into the folder of its hash, in its place; if its content is
/// not what the folder says, deletes it. Returns the root folder that it lies under.
pub(crate) fn keep(exe: &Path) -> Result<PathBuf, AdapterError> {
    let name = |path: Option<&Path>| path.and_then(|it| it.file_name()?.to_str().map(str::to_owned));
    let (upload, sha256) = (name(Some(exe)).unwrap_or_default(), name(exe.parent()).unwrap_or_default());
    let root = exe.ancestors().nth(3).ok_or_else(|| invalid(exe.display(), "is not below a root folder"))?;
    adopt(&Layout::new(root), &sha256, &upload)?;
    Ok(root.to_path_buf())
}

/// Puts the uploaded file in its place if its content is `sha256`; else deletes it.
pub(crate) fn adopt(layout: &Layout, sha256: &str, upload: &str) -> Result<(), AdapterError> {
    check_sha(sha256)?;
    let tail = upload.strip_prefix(UPLOAD_PREFIX).unwrap_or_default();
    if tail.is_empty() || tail.len() > 64 || !tail.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(invalid(upload, "is not the name of an upload"));
    }
    let from = layout.artifact_dir(sha256).join(upload);
    let found = file_sha256(&from).map_err(|e| io_error(upload, &e))?;
    settle(layout, sha256, &from, &found)
}

/// Puts what arrives on `input`, exactly `bytes` of it, in its place if its content is `sha256`. All of it is read whatever
/// becomes of it, so that what follows on the input is the next request; `None` if it ended early.
pub(crate) fn receive(
    layout: &Layout,
    sha256: &str,
    bytes: u64,
    input: &mut impl Read,
) -> Option<Result<(), AdapterError>> {
    let mut input = input.take(bytes);
    let opened = check_sha(sha256).and_then(|()| open_upload(layout, sha256));
    let mut received = match opened {
        Ok((path, file)) => Ok((path, file, Context::new(&SHA256))),
        Err(error) => Err(error),
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    while input.limit() > 0 {
        let count = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if let Ok((path, file, context)) = &mut received {
            context.update(&chunk[..count]);
            if let Err(e) = file.write_all(&chunk[..count]) {
                let _ = fs::remove_file(&path);
                received = Err(io_error(&format!("artifact {sha256}"), &e));
            }
        }
    }
    let is_whole = input.limit() == 0;
    let done = received.and_then(|(path, file, context)| {
        drop(file);
        let found = if is_whole { hex::encode(context.finish()) } else { "of a part".into() };
        settle(layout, sha256, &path, &found)
    });
    is_whole.then_some(done)
}

/// A new file for an upload, in the folder of its artifact.
fn open_upload(layout: &Layout, sha256: &str) -> Result<(PathBuf, File), AdapterError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let dir = layout.artifact_dir(sha256);
    make_dir(&dir)?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("{UPLOAD_PREFIX}{:x}{count:x}{:x}", std::process::id(), now_ms()));
    let file = File::create_new(&path).map_err(|e| io_error(&path.display().to_string(), &e))?;
    Ok((path, file))
}

/// Places the file `from`, in which `found` was seen, or deletes it.
fn settle(layout: &Layout, sha256: &str, from: &Path, found: &str) -> Result<(), AdapterError> {
    if found != sha256 {
        fs::remove_file(from).map_err(|e| io_error(&from.display().to_string(), &e))?;
        return Err(AdapterError::Transient {
            subject: format!("artifact {sha256}"),
            reason: format!("what arrived has the hash {found}; it was deleted, upload again"),
        });
    }
    place(layout, sha256, from).map_err(|e| io_error(sha256, &e))?;
    drop_stale_uploads(&layout.artifact_dir(sha256));
    Ok(())
}

/// Copies `artifact` from this machine into the layout unless it is there with the right content.
///
/// # Errors
/// `Invalid` if the file does not have the hash it claims; the layout is unchanged then.
pub(crate) fn put_local(layout: &Layout, artifact: &Artifact, nonce: &str) -> Result<(), AdapterError> {
    if has(layout, &artifact.sha256)? {
        return Ok(());
    }
    let subject = artifact.path.display().to_string();
    make_dir(&layout.artifact_dir(&artifact.sha256))?;
    let upload = format!("{UPLOAD_PREFIX}{nonce}");
    let temp = layout.artifact_dir(&artifact.sha256).join(&upload);
    if let Err(e) = fs::copy(&artifact.path, &temp) {
        let _ = fs::remove_file(&temp);
        return Err(if e.kind() == io::ErrorKind::NotFound {
            invalid(subject, "is not there")
        } else {
            io_error(&subject, &e)
        });
    }
    adopt(layout, &artifact.sha256, &upload).map_err(|error| match error {
        AdapterError::Transient { reason, .. } => invalid(subject, reason),
        other => other,
    })
}

fn place(layout: &Layout, sha256: &str, from: &Path) -> io::Result<()> {
    fs::set_permissions(from, fs::Permissions::from_mode(0o755))?;
    File::open(from)?.sync_all()?;
    let to = layout.artifact(sha256);
    fs::rename(from, &to)?;
    sync_parent(&to)
}

/// Uploads that an earlier connection left half-way. One of the same content may be under way right now: only old ones.
fn drop_stale_uploads(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
        let old = modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > STALE_UPLOAD);
        if old && entry.file_name().to_string_lossy().starts_with(UPLOAD_PREFIX) {
            // Best effort: a leftover costs space, not correctness.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn check_sha(sha256: &str) -> Result<(), AdapterError> {
    if valid_sha256(sha256) { Ok(()) } else { Err(invalid(sha256, "is not a SHA-256 in lower-case hex")) }
}

/// Returns the place of an artifact that must be on the host.
pub(crate) fn placed_file(layout: &Layout, sha256: &str) -> Result<std::path::PathBuf, AdapterError> {
    check_sha(sha256)?;
    let path = crate::layout::absolute(&layout.artifact(sha256))?;
    if path.is_file() {
        return Ok(path);
    }
    Err(invalid(format!("artifact {sha256}"), "is not on the host: put it there first"))
}
