//! Who holds a file, and who listens at which port, by `/proc`.
//!
//! A process of another account cannot be looked into, but the kernel's list of locks names whoever has locked the file. What cannot be
//! told apart is told as held: nobody is taken for ended because it could not be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hanse_adapters_core::Holder;

/// Longest command line that is told.
const COMMAND_CHARS_MAX: usize = 200;

/// Every process that holds `file` open or has locked it, in order; 0 stands for one that cannot be seen. None if there is no such file.
///
/// # Errors
/// The host could not look; there may be more than is known.
pub(crate) fn holders(file: &Path) -> io::Result<Vec<Holder>> {
    let meta = match fs::metadata(file) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = BTreeSet::new();
    for pid in pids()? {
        if links(pid)?.iter().any(|(path, _)| is_same(path, &meta)) {
            found.insert(pid);
        }
    }
    let locks = lockers(&fs::read_to_string("/proc/locks")?, &meta);
    // A lock of an open file has no process of its own: it is one of those that hold it open, or of one that cannot be seen.
    found.extend(locks.iter().filter(|pid| **pid > 0));
    if found.is_empty() && !locks.is_empty() {
        found.insert(0);
    }
    Ok(found.into_iter().map(|pid| Holder { pid, command: command(pid) }).collect())
}

/// TCP ports that are listened at, and whether it is by one of `own`.
///
/// # Errors
/// The host could not look.
pub(crate) fn listening(own: &[Holder]) -> io::Result<BTreeMap<u16, bool>> {
    let mut sockets = BTreeSet::new();
    for holder in own {
        sockets.extend(links(holder.pid)?.into_iter().filter_map(|(_, socket)| socket));
    }
    let mut ports: BTreeMap<u16, bool> = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = match fs::read_to_string(table) {
            Ok(text) => text,
            // A kernel without that protocol.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for (port, socket) in text.lines().filter_map(listener) {
            let is_own = sockets.contains(&socket);
            // Two may listen at one port, at different addresses: it is theirs only if all are.
            ports.entry(port).and_modify(|all| *all &= is_own).or_insert(is_own);
        }
    }
    Ok(ports)
}

/// Port and socket of a line of `/proc/net/tcp` (proc(5)) that is of a listener.
fn listener(line: &str) -> Option<(u16, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, state, socket) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let port = u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()?;
    (*state == "0A").then_some((port, socket.parse().ok()?))
}

fn pids() -> io::Result<Vec<u32>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        all.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    // Whoever looks opens nothing of the home for longer than it looks.
    all.retain(|pid| *pid != std::process::id());
    Ok(all)
}

/// What the descriptors of a process are: the path under `/proc` and, of a socket, its number. None of a process that has ended or may
/// not be looked into.
fn links(pid: u32) -> io::Result<Vec<(std::path::PathBuf, Option<u64>)>> {
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(e) if is_out_of_sight(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(e) if is_out_of_sight(&e) => break,
            Err(e) => return Err(e),
        };
        let socket = fs::read_link(&path)
            .ok()
            .and_then(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        all.push((path, socket));
    }
    Ok(all)
}

fn is_out_of_sight(error: &io::Error) -> bool {
    let is_gone = error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
    is_gone || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// Whether what a descriptor leads to is that file.
fn is_same(path: &Path, meta: &fs::Metadata) -> bool {
    fs::metadata(path).is_ok_and(|found| found.dev() == meta.dev() && found.ino() == meta.ino())
}

/// Processes by `/proc/locks` (proc(5)) that have locked the file; 0 where the kernel names none.
fn lockers(locks: &str, meta: &fs::Metadata) -> BTreeSet<u32> {
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let of_file = locks.lines().filter_map(|line| {
        // A line of one that waits for a lock has an arrow in it.
        let fields: Vec<&str> = line.split_whitespace().filter(|word| *word != "->").collect();
        (fields.get(5)? == &wanted.as_str()).then(|| fields.get(4).and_then(|pid| pid.parse().ok()).unwrap_or(0))
    });
    of_file.collect()
}

fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&line).replace('\0', " ");
    words
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(COMMAND_CHARS_MAX)
        .collect::<String>()
        .trim()
        .into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process of its own that has `file` as its standard input.
    fn holder(file: &fs::File) -> Child {
        let held = file.as_fd().try_clone_to_owned().unwrap();
        Command::new("sleep").arg("600").stdin(held).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn who_holds_a_file_open_or_locked_is_found_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("ledger"), dir.path().join("other"));
        fs::write(&path, b"x").unwrap();
        fs::write(&other, b"x").unwrap();
        assert_eq!(holders(&dir.path().join("missing")).unwrap(), []);
        assert_eq!(holders(&path).unwrap(), []);
        let file = fs::File::open(&path).unwrap();
        let mut child = holder(&file);
        let found = holders(&path).unwrap();
        assert_eq!(found.iter().map(|it| it.pid).collect::<Vec<_>>(), [child.id()]);
        assert!(found[0].command.contains("sleep 600"), "{found:?}");
        assert_eq!(holders(&other).unwrap(), []);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(holders(&path).unwrap(), []);
    }

    #[test]
    fn a_lock_is_found_in_the_kernels_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        fs::write(&path, b"x").unwrap();
        let meta = fs::metadata(&path).unwrap();
        let name =
            format!("{:02x}:{:02x}:{}", rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()), meta.ino());
        let lines = format!(
            "1: FLOCK  ADVISORY  WRITE 41 {name} 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 42 {name} 0 EOF\n2: OFDLCK ADVISORY  WRITE -1 \
             {name} 0 EOF\n3: POSIX  ADVISORY  WRITE 43 00:00:1 0 EOF\n"
        );
        assert_eq!(lockers(&lines, &meta), [0, 41, 42].into());
    }

    #[test]
    fn a_port_is_theirs_only_if_they_listen_at_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let me = Holder { pid: std::process::id(), command: String::new() };
        assert_eq!(listening(&[me]).unwrap().get(&port), Some(&true));
        assert_eq!(listening(&[]).unwrap().get(&port), Some(&false));
        drop(listener);
        assert_eq!(listening(&[]).unwrap().get(&port), None);
    }
}
