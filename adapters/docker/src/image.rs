//! The image that every container of ours is made from: the program, and the libraries its loader asks for.
//!
//! A program that is linked to libraries needs them beside it, and nothing is downloaded: they are the ones that the
//! loader of *this* machine finds for it (`ld.so --list`, which runs nothing of the program). A static program stands
//! alone. The archive is the same bytes for the same files.
//!
//! It never takes anything else of this machine into the image: no configuration, no certificates, no shell.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tar::{self, Kind};

/// Where the program is in the image.
pub(crate) const PROGRAM: &str = "/hanse/bin/hanse";
/// Folders of the image besides those of libraries, in order.
const FOLDERS: &[(&str, u32)] = &[
    ("etc/", 0o755),
    ("hanse/", 0o755),
    ("hanse/artifacts/", 0o755),
    ("hanse/bin/", 0o755),
    ("hanse/instances/", 0o755),
    ("tmp/", 0o1777),
];
/// ELF program header type of the path of the loader (ELF specification, part 1, "Program Header").
const PT_INTERP: u32 = 3;
/// Most program headers that are looked at.
const HEADERS_MAX: u16 = 64;
/// Read at once.
const CHUNK: usize = 256 * 1024;

/// A file of the image: its name there, and where it is here.
type Entry = (String, PathBuf);

/// Writes the archive of the image of `program` to `out`, which is called with each piece in order. Blocks.
///
/// # Errors
/// A file cannot be read, the loader does not find a library (named), or `out` failed.
pub(crate) fn write(program: &Path, out: &mut dyn FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut files = libraries(program)?;
    files.push((PROGRAM.trim_start_matches('/').to_owned(), program.to_path_buf()));
    let mut folders: BTreeSet<(String, u32)> = FOLDERS.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect();
    for (name, _) in &files {
        for (at, _) in name.match_indices('/') {
            let name = name[..=at].to_owned();
            if !folders.iter().any(|(known, _)| *known == name) {
                folders.insert((name, 0o755));
            }
        }
    }
    for (name, mode) in &folders {
        out(header(name, Kind::Folder, *mode, 0)?)?;
    }
    for (name, path) in &files {
        file(name, path, out)?;
    }
    out(tar::end())
}

fn header(name: &str, kind: Kind, mode: u32, size: u64) -> io::Result<Vec<u8>> {
    let block = tar::header(name, kind, mode, size);
    block.map(|block| block.to_vec()).ok_or_else(|| io::Error::other(format!("{name}: does not fit into an archive")))
}

/// Appends one file under `name`, executable.
pub(crate) fn file(name: &str, path: &Path, out: &mut dyn FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    let size = file.metadata()?.len();
    out(header(name, Kind::File, 0o755, size)?)?;
    let mut left = size;
    while left > 0 {
        let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        file.read_exact(&mut chunk)?;
        left -= chunk.len() as u64;
        out(chunk)?;
    }
    out(vec![0; tar::padding(size)])
}

/// The libraries of `program` and its loader, in order of their names.
fn libraries(program: &Path) -> io::Result<Vec<Entry>> {
    let Some(loader) = loader(program)? else { return Ok(Vec::new()) };
    let output = Command::new(&loader).arg("--list").arg(program).env_clear().output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("{}: its loader says: {said}", program.display())));
    }
    let mut found = listed(&String::from_utf8_lossy(&output.stdout)).map_err(io::Error::other)?;
    found.insert(loader);
    found.into_iter().map(entry).collect()
}

/// The name under which a program asks for a library stays; what is there is what the links lead to.
fn entry(path: PathBuf) -> io::Result<Entry> {
    let name = path.to_str().and_then(|text| text.strip_prefix('/'));
    let name = name.ok_or_else(|| io::Error::other(format!("{}: is no absolute path", path.display())))?.to_owned();
    Ok((name, path.canonicalize()?))
}

/// Reads what `ld.so --list` prints: `name => /path (address)`, or `/path (address)`.
fn listed(text: &str) -> Result<BTreeSet<PathBuf>, String> {
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            return Err(format!(
                "the library {name} is not on this machine: install it, or link the program statically"
            ));
        }
        // What is no path is the kernel's own (linux-vdso).
        if let Some(path) = place.split(" (").next().filter(|path| path.starts_with('/')) {
            found.insert(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// The loader that a 64-bit little-endian ELF program names; `None` for a static one.
fn loader(program: &Path) -> io::Result<Option<PathBuf>> {
    let mut file = File::open(program)?;
    let mut head = [0; 64];
    let is_program = file.read_exact(&mut head).is_ok() && head[..6] == *b"\x7fELF\x02\x01";
    if !is_program {
        return Err(io::Error::other(format!("{}: is no 64-bit program of this kind of machine", program.display())));
    }
    let start = u64::from_le_bytes(array(&head[32..40]));
    let (size, count) = (u16::from_le_bytes(array(&head[54..56])), u16::from_le_bytes(array(&head[56..58])));
    for number in 0..count.min(HEADERS_MAX) {
        let mut header = [0; 56];
        file.seek(SeekFrom::Start(start + u64::from(number) * u64::from(size)))?;
        file.read_exact(&mut header)?;
        if u32::from_le_bytes(array(&header[..4])) != PT_INTERP {
            continue;
        }
        let (at, length) = (u64::from_le_bytes(array(&header[8..16])), u64::from_le_bytes(array(&header[32..40])));
        let mut name = vec![0; usize::try_from(length.min(4096)).unwrap_or_default()];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut name)?;
        let name = String::from_utf8(name).map_err(io::Error::other)?;
        return Ok(Some(PathBuf::from(name.trim_end_matches('\0'))));
    }
    Ok(None)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_loader_lists_is_read() {
        let text =
            "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let found: Vec<PathBuf> = listed(text).unwrap().into_iter().collect();
        assert_eq!(found, [PathBuf::from("/lib/x/libm.so.6"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")]);
        assert!(listed("\tlibx.so => not found\n").unwrap_err().contains("libx.so"));
    }

    #[test]
    fn this_test_has_a_loader_and_a_script_is_no_program() {
        let own = std::env::current_exe().unwrap();
        assert!(loader(&own).unwrap().unwrap().is_file());
        assert!(libraries(&own).unwrap().iter().any(|(name, path)| name.contains("libc.so") && path.is_file()));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("script"), "#!/bin/sh\n").unwrap();
        assert!(loader(&dir.path().join("script")).is_err());
    }

    #[test]
    fn an_image_is_the_same_bytes_every_time_and_the_systems_tar_reads_it() {
        let own = std::env::current_exe().unwrap();
        let make = || {
            let mut all = Vec::new();
            write(&own, &mut |piece| {
                all.extend(piece);
                Ok(())
            })
            .unwrap();
            all
        };
        let archive = make();
        assert!(archive == make());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        std::fs::write(&path, archive).unwrap();
        let list = Command::new("tar").arg("-tf").arg(&path).output().unwrap();
        let names = String::from_utf8(list.stdout).unwrap();
        assert!(list.status.success() && names.lines().any(|name| name == "hanse/bin/hanse"), "{names}");
    }
}
