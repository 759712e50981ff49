//! Carrying a home to another host: what is in it, and its files piece by piece.
//!
//! Whoever carries has fenced the instance on the host it leaves, so nothing changes there while it is read; pieces are taken
//! only by an instance that was never started here and that is fenced at exactly the generation that carries, so that a piece
//! of an older attempt, however late it arrives, is refused. A file is whole once its last piece came; whether a home is, is
//! told by comparing what is listed on both hosts.
//!
//! It never follows a link, and carries nothing but plain files: a home with anything else but sockets and pipes, which processes
//! make anew, is not carried.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, PermissionsExt};
use std::path::Path;

use hanse_adapters_core::{AdapterError, HOME_FILES_MAX, HomeFile, InstanceKey, PIECE_BYTES_MAX};
use rustix::fs::{Mode, OFlags, fchmod, fsync, mkdirat, openat};
use rustix::io::Errno;

use crate::artifact::file_sha256;
use crate::files::{DEPTH_MAX, TEMP_PREFIX, split};
use crate::instance;
use crate::layout::{Layout, invalid, io_error};
use crate::wire::WirePiece;

/// Every plain file of the home of `key`, in order of path; none if there is no home.
pub(crate) fn list(layout: &Layout, key: &InstanceKey) -> Result<Vec<HomeFile>, AdapterError> {
    list_in(&layout.instance(key)?.home())
}

/// Every plain file below a folder, in order of path; none if there is no such folder.
pub(crate) fn list_in(home: &Path) -> Result<Vec<HomeFile>, AdapterError> {
    let mut found = Vec::new();
    if home.is_dir() {
        walk(home, "", 0, &mut found, &file_sha256)?;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// How many plain files are below a folder, and their bytes; refused as by [`list_in`], without reading them.
pub(crate) fn sizes(home: &Path) -> Result<(u64, u64), AdapterError> {
    let mut found = Vec::new();
    walk(home, "", 0, &mut found, &|path| File::open(path).map(|_| String::new()))?;
    Ok((found.len() as u64, found.iter().map(|file| file.bytes).sum()))
}

/// What is told of a file's content, or that it cannot be read.
type Told<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut Vec<HomeFile>,
    told: Told<'_>,
) -> Result<(), AdapterError> {
    let fail = |e: &io::Error| io_error(&folder.display().to_string(), e);
    if depth >= DEPTH_MAX {
        return Err(invalid(folder.display(), "is too deep to be carried"));
    }
    for entry in fs::read_dir(folder).map_err(|e| fail(&e))? {
        let entry = entry.map_err(|e| fail(&e))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(invalid(entry.path().display(), "has a name that is not UTF-8, so it cannot be carried"));
        };
        // What an interrupted write left.
        if name.starts_with(TEMP_PREFIX) {
            continue;
        }
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let meta = fs::symlink_metadata(entry.path()).map_err(|e| fail(&e))?;
        let kind = meta.file_type();
        if kind.is_dir() {
            walk(&entry.path(), &path, depth + 1, found, told)?;
        } else if kind.is_file() {
            let sha256 = told(&entry.path()).map_err(|e| fail(&e))?;
            found.push(HomeFile { path, mode: meta.permissions().mode() & 0o777, bytes: meta.len(), sha256 });
        } else if !kind.is_socket() && !kind.is_fifo() {
            return Err(invalid(entry.path().display(), "is a link or a device, so the home cannot be carried"));
        }
        if found.len() > HOME_FILES_MAX {
            return Err(invalid(folder.display(), format!("has more than {HOME_FILES_MAX} files")));
        }
    }
    Ok(())
}

/// The piece of a file from `offset` on, at most [`PIECE_BYTES_MAX`] bytes.
pub(crate) fn read(layout: &Layout, key: &InstanceKey, path: &str, offset: u64) -> Result<Vec<u8>, AdapterError> {
    let parts = split(path).map_err(|reason| invalid(path, reason))?;
    let dir = layout.instance(key)?;
    let home = File::open(dir.home()).map_err(|e| io_error(path, &e))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let (mut file, _) = open(&home, &parts, flags, false).map_err(|e| in_the_way(path, e))?;
    let mut piece = Vec::new();
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.take(PIECE_BYTES_MAX as u64).read_to_end(&mut piece))
        .map_err(|e| io_error(path, &e))?;
    Ok(piece)
}

/// Writes one piece into the home of an instance that was never started here, if it is fenced at `generation`.
pub(crate) fn write(
    layout: &Layout,
    key: &InstanceKey,
    generation: u64,
    piece: &WirePiece,
) -> Result<(), AdapterError> {
    let parts = split(&piece.path).map_err(|reason| invalid(&piece.path, reason))?;
    let content = hex::decode(&piece.hex).map_err(|e| invalid(&piece.path, format!("content: {e}")))?;
    if piece.mode & !0o777 != 0 || content.len() > PIECE_BYTES_MAX {
        return Err(invalid(&piece.path, "has a mode with more than permission bits, or is too large a piece"));
    }
    let dir = layout.instance(key)?;
    let _lock = dir.lock()?;
    let fenced = instance::fenced(&dir)?;
    if fenced != generation {
        let reason =
            format!("is fenced at generation {fenced}, generation {generation} carries: read the newest state");
        return Err(invalid(key, reason));
    }
    if instance::load(&dir)?.spec.is_some() {
        return Err(invalid(key, "was started on this host, so nothing is carried into its home"));
    }
    let home = File::open(dir.make_home()?).map_err(|e| io_error("home", &e))?;
    let (file, folder) =
        open(&home, &parts, OFlags::WRONLY | OFlags::CREATE, true).map_err(|e| in_the_way(&piece.path, e))?;
    put(&file, &folder, piece, &content).map_err(|e| io_error(&piece.path, &e))
}

fn put(file: &File, folder: &OwnedFd, piece: &WirePiece, content: &[u8]) -> io::Result<()> {
    file.write_all_at(content, piece.offset)?;
    if piece.offset + content.len() as u64 >= piece.bytes {
        file.set_len(piece.bytes)?;
        fchmod(file, Mode::from_raw_mode(piece.mode))?;
        file.sync_all()?;
        // Its name too: the other copy is removed once this one is there.
        fsync(folder)?;
    }
    Ok(())
}

fn in_the_way(path: &str, error: Errno) -> AdapterError {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => {
            invalid(path, "a folder, a link or something else is in the way")
        }
        other => io_error(path, &io::Error::from(other)),
    }
}

/// Opens a file below the home, and gives the folder it is in; each folder relative to the one before and never through a link.
fn open(home: &File, parts: &[&str], flags: OFlags, make: bool) -> rustix::io::Result<(File, OwnedFd)> {
    let Some((name, folders)) = parts.split_last() else { return Err(Errno::INVAL) };
    let mut dir: OwnedFd = home.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    for folder in folders {
        if make {
            match mkdirat(&dir, *folder, Mode::from_raw_mode(0o700)) {
                Ok(()) => fsync(&dir)?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
        }
        dir = openat(&dir, *folder, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(&dir, *name, flags, Mode::from_raw_mode(0o600))?);
    Ok((file, dir))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    const GRACE: Duration = Duration::ZERO;

    struct Pair {
        _dirs: [tempfile::TempDir; 2],
        from: Layout,
        to: Layout,
        key: InstanceKey,
    }

    /// A home with a key, a large file and an empty one on the first host; the second has fenced at generation 5.
    fn pair() -> Pair {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [from, to] = [0, 1].map(|n: usize| Layout::new(dirs[n].path()));
        let key = InstanceKey::new("c", "trade.supply-1.n0").unwrap();
        let home = from.instance(&key).unwrap().make_home().unwrap();
        fs::create_dir_all(home.join("keys")).unwrap();
        fs::write(home.join("keys/node.key"), b"secret").unwrap();
        fs::set_permissions(home.join("keys/node.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let large: Vec<u8> = (0..PIECE_BYTES_MAX * 2 + 7).map(|n| u8::try_from(n % 251).unwrap()).collect();
        fs::write(home.join("ledger"), large).unwrap();
        fs::write(home.join("empty"), b"").unwrap();
        instance::fence(&to, &key, 5, GRACE).unwrap();
        Pair { _dirs: dirs, from, to, key }
    }

    fn piece(pair: &Pair, file: &HomeFile, offset: u64) -> WirePiece {
        let content = read(&pair.from, &pair.key, &file.path, offset).unwrap();
        let (path, hex) = (file.path.clone(), hex::encode(content));
        WirePiece { path, mode: file.mode, bytes: file.bytes, offset, hex }
    }

    fn carry(pair: &Pair, generation: u64) -> Result<(), AdapterError> {
        for file in list(&pair.from, &pair.key)? {
            let mut offset = 0;
            while offset == 0 || offset < file.bytes {
                write(&pair.to, &pair.key, generation, &piece(pair, &file, offset))?;
                offset += PIECE_BYTES_MAX as u64;
            }
        }
        Ok(())
    }

    #[test]
    fn a_home_arrives_whole_with_its_modes_and_again() {
        let pair = pair();
        let wanted = list(&pair.from, &pair.key).unwrap();
        assert_eq!(wanted.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["empty", "keys/node.key", "ledger"]);
        assert_eq!(wanted[1].mode, 0o600);
        assert_eq!(list(&pair.to, &pair.key).unwrap(), []);
        // Interrupted after the first piece of the large file, then carried from the beginning.
        write(&pair.to, &pair.key, 5, &piece(&pair, &wanted[2], 0)).unwrap();
        assert_ne!(list(&pair.to, &pair.key).unwrap(), wanted);
        carry(&pair, 5).unwrap();
        carry(&pair, 5).unwrap();
        assert_eq!(list(&pair.to, &pair.key).unwrap(), wanted);
    }

    /// What an older attempt sends too late, and what is sent into a home that was started, changes nothing.
    #[test]
    fn late_pieces_are_refused() {
        let pair = pair();
        carry(&pair, 5).unwrap();
        let there = list(&pair.to, &pair.key).unwrap();
        instance::fence(&pair.to, &pair.key, 6, GRACE).unwrap();
        let late = WirePiece { path: "ledger".into(), mode: 0o600, bytes: 3, offset: 0, hex: hex::encode("old") };
        let refused = |generation| write(&pair.to, &pair.key, generation, &late).unwrap_err();
        assert!(matches!(refused(5), AdapterError::Invalid { .. }), "an older generation");
        assert!(matches!(refused(7), AdapterError::Invalid { .. }), "one that has not fenced");
        let dir = pair.to.instance(&pair.key).unwrap();
        let spec = hanse_adapters_core::InstanceSpec {
            key: pair.key.clone(),
            generation: 6,
            artifact_sha256: String::new(),
            program: None,
            args: Vec::new(),
            env: std::collections::BTreeMap::default(),
            ports: hanse_adapters_core::Ports::default(),
        };
        let stored =
            instance::StoredSpec { version: instance::FILE_VERSION, spec, program: "/none".into(), folder: "/".into() };
        crate::layout::write_json(&dir.spec(), &stored).unwrap();
        let reason = refused(6).to_string();
        assert!(reason.contains("was started on this host"), "{reason}");
        assert_eq!(list(&pair.to, &pair.key).unwrap(), there);
    }

    #[test]
    fn links_are_neither_followed_nor_carried() {
        let pair = pair();
        let outside = tempfile::tempdir().unwrap();
        let home = pair.to.instance(&pair.key).unwrap().make_home().unwrap();
        std::os::unix::fs::symlink(outside.path(), home.join("keys")).unwrap();
        assert!(matches!(carry(&pair, 5), Err(AdapterError::Invalid { .. })));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        let said = list(&pair.to, &pair.key).unwrap_err().to_string();
        assert!(said.contains("is a link"), "{said}");
    }
}
