//! Tar archives, as far as they are needed to carry files to and from an engine.
//!
//! POSIX ustar with short names (what is sent has no others) and, for reading, the first plain file of an archive. Written
//! archives are the same bytes for the same content: no owner, no time of day. It never follows or makes a link.

/// Size of a block; a header is one, and content is padded to whole ones.
const BLOCK: usize = 512;
/// Longest name of an entry.
const NAME_MAX: usize = 100;
/// Largest size that fits into the header: eleven octal digits.
const SIZE_MAX: u64 = (1 << 33) - 1;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
}

/// Returns the header of an entry, `None` if the name or the size does not fit.
pub(crate) fn header(name: &str, kind: Kind, mode: u32, size: u64) -> Option<[u8; BLOCK]> {
    if name.is_empty() || name.len() > NAME_MAX || size > SIZE_MAX || mode > 0o7777 {
        return None;
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, if kind == Kind::File { "0" } else { "5" });
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

/// How many zero bytes follow content of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

/// What ends an archive.
pub(crate) fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

/// Returns a whole archive of one small file; `None` if its name does not fit.
pub(crate) fn one(name: &str, mode: u32, content: &[u8]) -> Option<Vec<u8>> {
    let size = content.len() as u64;
    let mut archive = header(name, Kind::File, mode, size)?.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len() + padding(size), 0);
    archive.extend(end());
    Some(archive)
}

/// The first entry of an archive that an engine sent for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// A plain file with its content, cut where the archive was.
    File { size: u64, content: Vec<u8> },
    /// A folder, a link or anything else.
    Other,
}

/// Reads the first entry; `None` if these bytes do not begin an archive.
pub(crate) fn first(mut archive: &[u8]) -> Option<First> {
    loop {
        let (head, rest) = archive.split_at_checked(BLOCK)?;
        let size = octal(&head[124..136])?;
        match head[156] {
            0 | b'0' => {
                let length = rest.len().min(usize::try_from(size).ok()?);
                return Some(First::File { size, content: rest[..length].to_vec() });
            }
            // Extended headers speak of the entry that follows; nothing they say is needed.
            b'x' | b'g' | b'L' | b'K' => {
                archive = rest.get(usize::try_from(size).ok()? + padding(size)..)?;
            }
            _ => return Some(First::Other),
        }
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// The system's own tar reads what is written here, and is read here.
    #[test]
    fn the_systems_tar_agrees() {
        let dir = tempfile::tempdir().unwrap();
        let archive = one("request.json", 0o640, b"{\"a\":1}").unwrap();
        let mut child = Command::new("tar").arg("-xC").arg(dir.path()).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read(dir.path().join("request.json")).unwrap(), b"{\"a\":1}");
        let written = Command::new("tar").arg("-cC").arg(dir.path()).arg("request.json").output().unwrap();
        assert_eq!(first(&written.stdout), Some(First::File { size: 7, content: b"{\"a\":1}".to_vec() }));
        let pax =
            Command::new("tar").args(["--format=pax", "-cC"]).arg(dir.path()).arg("request.json").output().unwrap();
        assert_eq!(first(&pax.stdout), Some(First::File { size: 7, content: b"{\"a\":1}".to_vec() }));
        let folder = Command::new("tar").arg("-cC").arg(dir.path()).arg(".").output().unwrap();
        assert_eq!(first(&folder.stdout), Some(First::Other));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(header(&"n".repeat(101), Kind::File, 0o644, 0).is_none());
        assert!(header("n", Kind::File, 0o644, 1 << 33).is_none());
        assert!(header("", Kind::Folder, 0o755, 0).is_none());
        assert_eq!(first(b"short"), None);
        assert_eq!((padding(0), padding(1), padding(512), padding(513)), (0, 511, 0, 511));
    }
}
