//! The block log that qemu's `blklogwrites` keeps, and the disks that may be left of it after a power cut.
//!
//! Format (that of Linux's dm-log-writes): a super block (magic, version, entries, sector size), then for each request a
//! sector with its header (sector, count, flags, data length; little-endian, 64 bits each) and its data. A disk with a
//! volatile cache owes only what came before the last completed FLUSH; of what came after it any part may be there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::rng::Rng;

/// Smallest unit that a disk writes whole, in bytes.
pub const SECTOR: u64 = 512;
/// Unit in which a pristine disk is kept in memory.
const BLOCK: usize = 64 * 1024;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
/// Requests missing at the end of a disk of mode prefix at most.
const PREFIX_MAX: u64 = 24;
/// Longest request that can be meant, in sectors; more is no log.
const SECTORS_MAX: u64 = 4 * 1024 * 1024;

/// What a disk does with requests that no FLUSH has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All are there.
    Lenient,
    /// All but the last few.
    Prefix,
    /// None is.
    Strict,
    /// Some are, some are torn, in any order.
    Random,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Lenient, Self::Prefix, Self::Strict, Self::Random];

    /// Gives its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lenient => "lenient",
            Self::Prefix => "prefix",
            Self::Strict => "strict",
            Self::Random => "random",
        }
    }
}

/// One request to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    sector: u64,
    count: u64,
    flags: u64,
    /// Where its data is in the log, in bytes.
    data: u64,
}

/// The disk before the first request: only its blocks that are not zero.
#[derive(Debug)]
pub struct Pristine {
    bytes: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Pristine {
    /// Reads a disk image.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let bytes = file.metadata().context("look at the image")?.len();
        let mut blocks = BTreeMap::new();
        let mut place = 0;
        while place < bytes {
            let mut block = vec![0; BLOCK.min(usize::try_from(bytes - place)?)];
            file.read_exact(&mut block).context("read the image")?;
            let length = block.len() as u64;
            if block.iter().any(|b| *b != 0) {
                blocks.insert(place, block);
            }
            place += length;
        }
        Ok(Self { bytes, blocks })
    }

    /// Writes it to a new file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<File> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.with_context(|| format!("make {}", path.display()))?;
        file.set_len(self.bytes).context("size the image")?;
        for (place, block) in &self.blocks {
            file.write_all_at(block, *place).context("write the image")?;
        }
        Ok(file)
    }
}

/// The log of one disk's life.
#[derive(Debug)]
pub struct BlockLog {
    file: File,
    requests: Vec<Request>,
    /// Requests up to and with the last FLUSH.
    flushed: usize,
}

impl BlockLog {
    /// Reads a log; its end is where the daemon was killed.
    ///
    /// # Errors
    /// If it is no log, or has a hole: then a request that was under way when the daemon died hides later ones, the disk
    /// cannot be rebuilt and the cut does not count.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let [magic, version, promised, sector] = numbers(&file, 0)?;
        ensure!(magic == MAGIC && version == 1 && sector & 0xffff_ffff == SECTOR, "no block log: {magic:x} {version}");
        let mut requests = Vec::new();
        let mut place = SECTOR;
        loop {
            let [sector, count, flags, length] = numbers(&file, place)?;
            if [sector, count, flags, length] == [0; 4] {
                break;
            }
            ensure!(length == 0 && count <= SECTORS_MAX, "request {} of the block log is damaged", requests.len());
            requests.push(Request { sector, count, flags, data: place + SECTOR });
            place += SECTOR + if flags & DISCARD == 0 { count * SECTOR } else { 0 };
        }
        if (requests.len() as u64) < promised {
            bail!("the block log has a hole after {} of {promised} requests", requests.len());
        }
        let flushed = requests.iter().rposition(|r| r.flags & FLUSH != 0).map_or(0, |i| i + 1);
        Ok(Self { file, requests, flushed })
    }

    /// How many requests there are, and how many of them no FLUSH has covered.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.requests.len(), self.requests.len() - self.flushed)
    }

    /// Writes the disk that is left in this mode. The seed decides what of the rest is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn rebuild(&self, pristine: &Pristine, out: &Path, mode: Mode, rng: &mut Rng) -> Result<()> {
        let disk = pristine.write(out)?;
        let rest = self.requests.len() - self.flushed;
        let kept = match mode {
            Mode::Lenient | Mode::Random => rest,
            Mode::Prefix => rest.saturating_sub(usize::try_from(rng.within(1, PREFIX_MAX))?),
            Mode::Strict => 0,
        };
        for (number, request) in self.requests.iter().enumerate() {
            let owed = number < self.flushed || request.flags & FUA != 0;
            let runs = match mode {
                _ if owed => vec![(0, request.count)],
                Mode::Random => torn(request.count, rng),
                _ if number < self.flushed + kept => vec![(0, request.count)],
                _ => continue,
            };
            let is_last = number + 1 == self.requests.len();
            for (from, to) in runs {
                self.put(&disk, *request, from, to, is_last)?;
            }
        }
        Ok(())
    }

    /// Does sectors `from..to` of a request.
    fn put(&self, disk: &File, request: Request, from: u64, to: u64, is_last: bool) -> Result<()> {
        let mut bytes = vec![0; usize::try_from((to - from) * SECTOR)?];
        if request.flags & DISCARD == 0 {
            let read = read_up_to(&self.file, &mut bytes, request.data + from * SECTOR)?;
            bytes.truncate(read);
            if is_last {
                // The daemon may have died while it wrote this into its log; what is not in it, the disk never had.
                let full = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i / SECTOR as usize + 1);
                bytes.truncate(full * SECTOR as usize);
            }
        }
        disk.write_all_at(&bytes, (request.sector + from) * SECTOR).context("write the image")
    }
}

/// Gives the sectors of a request that reached the disk: none, all, or some runs of them.
fn torn(count: u64, rng: &mut Rng) -> Vec<(u64, u64)> {
    match rng.within(1, 3) {
        1 => Vec::new(),
        2 => vec![(0, count)],
        _ => {
            let mut runs = Vec::new();
            let mut place = 0;
            while place < count {
                let end = (place + rng.within(1, 8)).min(count);
                if rng.one_in(2) {
                    runs.push((place, end));
                }
                place = end;
            }
            runs
        }
    }
}

/// Reads four numbers; zeros behind the end of the file.
fn numbers(file: &File, place: u64) -> Result<[u64; 4]> {
    let mut bytes = [0; 32];
    read_up_to(file, &mut bytes, place)?;
    let mut numbers = [0; 4];
    for (number, chunk) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = chunk.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    }
    Ok(numbers)
}

/// Reads as much as there is; gives how much that was.
fn read_up_to(file: &File, bytes: &mut [u8], place: u64) -> Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], place + read as u64).context("read the block log")? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Makes a log of requests (sector, count, flags, byte that fills it).
    fn log(requests: &[(u64, u64, u64, u8)], promised: u64) -> tempfile::NamedTempFile {
        let mut bytes = Vec::new();
        let head = |numbers: [u64; 4]| {
            let mut sector: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            sector.resize(SECTOR as usize, 0);
            sector
        };
        bytes.extend(head([MAGIC, 1, promised, SECTOR]));
        for (sector, count, flags, fill) in requests {
            bytes.extend(head([*sector, *count, *flags, 0]));
            if flags & DISCARD == 0 {
                bytes.extend(vec![*fill; (count * SECTOR) as usize]);
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn disk(log: &BlockLog, mode: Mode, seed: u64) -> Vec<u8> {
        let pristine = Pristine { bytes: 16 * SECTOR, blocks: BTreeMap::from([(0, vec![1; 16 * SECTOR as usize])]) };
        let out = tempfile::NamedTempFile::new().unwrap();
        log.rebuild(&pristine, out.path(), mode, &mut Rng::new(seed)).unwrap();
        std::fs::read(out.path()).unwrap().chunks(SECTOR as usize).map(|sector| sector[0]).collect()
    }

    #[test]
    fn a_disk_owes_what_was_flushed_and_nothing_else() {
        let file =
            log(&[(0, 2, 0, 7), (8, 4, DISCARD, 0), (0, 0, FLUSH, 0), (1, 1, 0, 8), (15, 1, FUA, 9), (4, 2, 0, 5)], 3);
        let log = BlockLog::read(file.path()).unwrap();
        assert_eq!(log.len(), (6, 3));
        assert_eq!(disk(&log, Mode::Strict, 1), [7, 7, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 9]);
        assert_eq!(disk(&log, Mode::Lenient, 1), [7, 8, 1, 1, 5, 5, 1, 1, 0, 0, 0, 0, 1, 1, 1, 9]);
        let random: std::collections::BTreeSet<Vec<u8>> = (0..40).map(|seed| disk(&log, Mode::Random, seed)).collect();
        assert!(random.len() >= 4 && random.iter().all(|d| d[0] == 7 && d[15] == 9 && [7, 8].contains(&d[1])));
        let prefix: std::collections::BTreeSet<Vec<u8>> = (0..40).map(|seed| disk(&log, Mode::Prefix, seed)).collect();
        assert!(prefix.iter().all(|d| d[4] == 1), "the last request is always missing");
    }

    #[test]
    fn a_log_with_a_hole_is_refused() {
        let file = log(&[(0, 1, 0, 7)], 3);
        assert!(BlockLog::read(file.path()).unwrap_err().to_string().contains("a hole"));
    }
}
