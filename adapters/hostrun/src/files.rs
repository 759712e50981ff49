//! Files of an instance's home, each replaced atomically.
//!
//! Every folder on the way is opened relative to the one before and never through a symbolic link, so that neither
//! `..`, an absolute path nor a link planted by a node leads outside the home. Equal files stay untouched.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use hanse_adapters_core::{AdapterError, InstanceKey, READ_BYTES_MAX};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::instance;
use crate::layout::{Layout, invalid, io_error};
use crate::wire::WireFile;

/// Deepest folder of a file below its home.
pub(crate) const DEPTH_MAX: usize = 16;
/// Longest part of a path, so that the temporary name still fits into 255 bytes.
const NAME_BYTES_MAX: usize = 200;
/// Put before the name of a file while it is written.
pub(crate) const TEMP_PREFIX: &str = ".hanse-new-";

/// Writes `files` into the home of `key`, unless something newer than `generation` is there.
pub(crate) fn put(
    layout: &Layout,
    key: &InstanceKey,
    generation: Option<u64>,
    files: &[WireFile],
) -> Result<(), AdapterError> {
    // All paths are judged before the first byte is written.
    let mut judged = Vec::with_capacity(files.len());
    for file in files {
        let parts = split(&file.path).map_err(|reason| invalid(&file.path, reason))?;
        let content = hex::decode(&file.hex).map_err(|e| invalid(&file.path, format!("content: {e}")))?;
        if file.mode & !0o777 != 0 {
            return Err(invalid(&file.path, format!("mode {:o} has more than permission bits", file.mode)));
        }
        judged.push((file, parts, content));
    }
    let dir = layout.instance(key)?;
    let _lock = dir.lock()?;
    if let Some(generation) = generation {
        instance::claim(&dir, generation)?;
    }
    let home = File::open(dir.make_home()?).map_err(|e| io_error("home", &e))?;
    for (file, parts, content) in judged {
        replace(&home, &parts, file.mode, &content).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => {
                invalid(&file.path, "a folder, a link or something else is in the way")
            }
            other => io_error(&file.path, &io::Error::from(other)),
        })?;
    }
    Ok(())
}

/// Returns the content of one file in the home of `key`, `None` if there is none.
pub(crate) fn read(layout: &Layout, key: &InstanceKey, path: &str) -> Result<Option<Vec<u8>>, AdapterError> {
    let parts = split(path).map_err(|reason| invalid(path, reason))?;
    let home = layout.instance(key)?.home();
    let home = match File::open(&home) {
        Ok(home) => home,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(path, &e)),
    };
    match take(&home, &parts) {
        Ok(Some(content)) if content.len() <= READ_BYTES_MAX => Ok(Some(content)),
        Ok(Some(_)) => Err(invalid(path, format!("is larger than {READ_BYTES_MAX} bytes"))),
        Ok(None) => Err(invalid(path, "is no plain file")),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => Err(invalid(path, "a link or something else is in the way")),
        Err(e) => Err(io_error(path, &io::Error::from(e))),
    }
}

/// `None` if it is no plain file; one byte beyond the limit tells that it is too large.
fn take(home: &File, parts: &[&str]) -> rustix::io::Result<Option<Vec<u8>>> {
    let Some((name, folders)) = parts.split_last() else { return Err(Errno::INVAL) };
    let mut dir: OwnedFd = home.as_fd().try_clone_to_owned().map_err(|e| errno(&e))?;
    for folder in folders {
        dir = openat(&dir, *folder, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    }
    // NONBLOCK: a FIFO planted under the name must not hang the request.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(&dir, *name, flags, Mode::empty())?);
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
        return Ok(None);
    }
    let mut found = Vec::new();
    file.take(READ_BYTES_MAX as u64 + 1).read_to_end(&mut found).map_err(|e| errno(&e))?;
    Ok(Some(found))
}

/// Whether `path` is one that a file of a home may have.
pub fn is_home_path(path: &str) -> bool {
    split(path).is_ok()
}

pub(crate) fn split(path: &str) -> Result<Vec<&str>, &'static str> {
    if path.is_empty() || path.starts_with('/') {
        return Err("must be relative to the home");
    }
    if path.contains('\0') {
        return Err("has a zero byte");
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err("must not have empty parts, `.` or `..`");
    }
    if parts.len() > DEPTH_MAX || parts.iter().any(|part| part.len() > NAME_BYTES_MAX) {
        return Err("is too deep or has a part that is too long");
    }
    if parts.iter().any(|part| part.starts_with(TEMP_PREFIX)) {
        return Err("has a part with a reserved name");
    }
    Ok(parts)
}

fn replace(home: &File, parts: &[&str], mode: u32, content: &[u8]) -> rustix::io::Result<()> {
    let Some((name, folders)) = parts.split_last() else { return Err(Errno::INVAL) };
    let mut dir: OwnedFd = home.as_fd().try_clone_to_owned().map_err(|e| errno(&e))?;
    for folder in folders {
        match mkdirat(&dir, *folder, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        dir = openat(&dir, *folder, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    }
    if equal(&dir, name, mode, content)? {
        return Ok(());
    }
    let temp = format!("{TEMP_PREFIX}{name}");
    match unlinkat(&dir, &temp, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&dir, &temp, flags, Mode::from_raw_mode(0o600))?);
    let written = file.write_all(content).map_err(|e| errno(&e)).and_then(|()| {
        fchmod(&file, Mode::from_raw_mode(mode))?;
        rustix::fs::fsync(&file)?;
        renameat(&dir, &temp, &dir, *name)
    });
    if let Err(e) = written {
        // Best effort: the leftover is replaced by the next attempt anyway.
        let _ = unlinkat(&dir, &temp, AtFlags::empty());
        return Err(e);
    }
    rustix::fs::fsync(&dir)
}

fn equal(dir: &OwnedFd, name: &str, mode: u32, content: &[u8]) -> rustix::io::Result<bool> {
    // NONBLOCK: a FIFO planted under the name must not hang the request.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // Not there, a link (which the rename replaces), or unreadable: written anew.
        Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS | Errno::NXIO) => return Ok(false),
        Err(e) => return Err(e),
    };
    let stat = rustix::fs::fstat(&file)?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    if !regular || stat.st_mode & 0o7777 != mode || size != content.len() as u64 {
        return Ok(false);
    }
    let mut found = Vec::with_capacity(content.len());
    file.take(size + 1).read_to_end(&mut found).map_err(|e| errno(&e))?;
    Ok(found == content)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn file(path: &str, content: &str) -> WireFile {
        WireFile { path: path.into(), mode: 0o640, hex: hex::encode(content) }
    }

    #[test]
    fn paths_that_leave_the_home_are_refused() {
        for bad in ["", "/etc/x", "..", "a/../b", "a//b", "./a", "a/", "a\0b", ".hanse-new-x", &"d/".repeat(40)] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
        assert_eq!(split("a/b.c").unwrap(), ["a", "b.c"]);
    }

    #[test]
    fn links_are_not_followed_and_equal_files_stay() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let key = InstanceKey::new("c", "o").unwrap();
        put(&layout, &key, None, &[file("d/f", "one")]).unwrap();
        let home = layout.instance(&key).unwrap().home();
        let before = std::fs::metadata(home.join("d/f")).unwrap();
        put(&layout, &key, None, &[file("d/f", "one")]).unwrap();
        assert_eq!(std::fs::metadata(home.join("d/f")).unwrap().ino(), before.ino());

        symlink(outside.path(), home.join("link")).unwrap();
        assert!(matches!(put(&layout, &key, None, &[file("link/f", "x")]), Err(AdapterError::Invalid { .. })));
        assert!(std::fs::read_dir(outside.path()).unwrap().next().is_none());
        // A link under the file's own name is replaced, its target stays as it is.
        std::fs::write(outside.path().join("target"), "safe").unwrap();
        symlink(outside.path().join("target"), home.join("g")).unwrap();
        put(&layout, &key, None, &[file("g", "new")]).unwrap();
        assert_eq!(std::fs::read_to_string(outside.path().join("target")).unwrap(), "safe");
        assert_eq!(std::fs::read_to_string(home.join("g")).unwrap(), "new");
    }

    /// What a deposed leader still sends comes after what the newer one wrote, also before anything of that was started.
    #[test]
    fn files_of_an_older_generation_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let key = InstanceKey::new("c", "trade.supply-1.n0").unwrap();
        let file = |text: &str| WireFile { path: "config".into(), mode: 0o600, hex: hex::encode(text) };
        let put = |generation, text| put(&layout, &key, generation, &[file(text)]);
        let holds = || String::from_utf8(read(&layout, &key, "config").unwrap().unwrap()).unwrap();
        put(Some(1), "one").unwrap();
        put(Some(3), "three").unwrap();
        let late = put(Some(2), "two").unwrap_err();
        assert!(matches!(&late, AdapterError::Invalid { reason, .. } if reason.contains("generation 3")), "{late:?}");
        assert_eq!(holds(), "three");
        put(Some(3), "three again").unwrap();
        instance::fence(&layout, &key, 5, std::time::Duration::ZERO).unwrap();
        assert!(put(Some(4), "four").is_err() && put(Some(5), "five").is_ok());
        assert_eq!(holds(), "five");
    }
}
