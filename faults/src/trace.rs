//! System calls as evidence: before each acknowledgement the bytes that it speaks of were written and synced.
//!
//! How it works. The [driver](crate::store::driver) runs under `strace`. Each entry carries a text that names it
//! ([`marker`]), so the trace shows into which file it was written; that file must then see an
//! `fsync` or `fdatasync` that began after the write had ended and succeeded before the line `e …` was written to the file
//! of acknowledgements. A vote must see such a sync of any file of the store between its lines `V` and `v`.
//!
//! What it never does. It counts no `sync_file_range` and no call that strace was told to fake.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::power_cut::rig::bound_to_us;
use crate::store::marker;

/// Longest data of a call that is shown; an append is shorter.
const SHOWN_MAX: &str = "4000000";
/// Violations told at most.
const TOLD_MAX: usize = 10;
/// Begins every marker.
const MARKER: &str = "hanse-entry-";
/// Length of a marker.
const MARKER_BYTES: usize = 30;

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Steps of the driver.
    #[arg(long, default_value_t = 200)]
    pub steps: u64,
    /// Where the randomness begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// `json` prints the figures as one JSON object.
    #[arg(long, short = 'o', default_value = "text", value_parser = ["text", "json"])]
    pub output: String,
    /// A mutant that must be caught: the store's syncs do nothing and report success.
    #[arg(long)]
    pub skip_sync: bool,
    /// A mutant that must be caught: entries are acknowledged before they are durable.
    #[arg(long)]
    pub ack_early: bool,
}

/// What the trace says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Acknowledged entries whose write and sync were looked for.
    pub entries: u64,
    /// Acknowledged votes.
    pub votes: u64,
    /// Syncs that were done.
    pub syncs: u64,
    /// Acknowledgements without a sync before them.
    pub violations: u64,
    /// In words, the first few.
    pub told: Vec<String>,
}

/// Runs it and prints the figures; says whether every acknowledgement was covered.
///
/// # Errors
/// If strace is missing or the driver fails.
pub fn run(options: &Options) -> Result<bool> {
    let figures = measure(options, &std::env::current_exe().context("find this program")?)?;
    if options.output == "json" {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures:#?}");
    }
    Ok(figures.violations == 0 && figures.entries > 0)
}

/// Traces `program` as the driver and reads the trace.
///
/// # Errors
/// If strace is missing or the driver fails.
pub fn measure(options: &Options, program: &Path) -> Result<Figures> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let folder = folder.path().canonicalize().context("find the folder")?;
    let (trace, data, acks) = (folder.join("trace"), folder.join("data"), folder.join("acks"));
    let mut strace = bound_to_us("strace");
    strace.args(["-f", "-y", "--seccomp-bpf", "-qq", "-s", SHOWN_MAX, "-o"]).arg(&trace);
    strace.args(["-e", "trace=fsync,fdatasync,pwrite64,write,writev,pwritev,pwritev2"]);
    if options.skip_sync {
        strace.args(["-e", "inject=fsync,fdatasync:retval=0"]);
    }
    strace.arg(program).args(["driver", "--seed", &options.seed.to_string(), "--steps", &options.steps.to_string()]);
    strace.arg("--data").arg(&data).arg("--acks").arg(&acks);
    if options.ack_early {
        strace.arg("--ack-early");
    }
    let done =
        strace.stdin(Stdio::null()).output().context("start strace (Debian package strace; cargo xtask parts)")?;
    ensure!(done.status.success(), "the traced driver: {}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    let text = std::fs::read(&trace).context("read the trace")?;
    let mut reader = Reader { data, acks, ..Reader::default() };
    for line in String::from_utf8_lossy(&text).lines() {
        reader.line(line).with_context(|| format!("trace: {}", line.chars().take(200).collect::<String>()))?;
    }
    Ok(reader.figures)
}

/// A call that has begun.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    file: PathBuf,
    markers: BTreeSet<String>,
    /// Place in the trace.
    began: u64,
}

#[derive(Debug, Default)]
struct Reader {
    data: PathBuf,
    acks: PathBuf,
    place: u64,
    under_way: BTreeMap<u64, Call>,
    /// Where each marker was first written: marker and file to place. The store may write the same page again.
    written: BTreeMap<(String, PathBuf), u64>,
    durable: BTreeSet<String>,
    /// Where the last vote began, and the last sync that counts for it.
    vote_began: u64,
    last_sync_began: u64,
    figures: Figures,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<()> {
        self.place += 1;
        let (pid, rest) = line.trim_start().split_once(' ').context("no process id")?;
        let (pid, rest) = (pid.parse::<u64>().context("no process id")?, rest.trim_start());
        if rest.starts_with("+++") || rest.starts_with("---") {
            return Ok(());
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some(call) = self.under_way.remove(&pid) else { bail!("a call resumes that never began") };
            return self.end(&call, resumed);
        }
        let (name, arguments) = rest.split_once('(').context("no call")?;
        let file = arguments.split_once('<').and_then(|(_, a)| a.split_once('>')).map_or("", |(file, _)| file);
        let markers = arguments.match_indices(MARKER).filter_map(|(at, _)| arguments.get(at..at + MARKER_BYTES));
        let markers = markers.map(str::to_owned).collect();
        let call = Call { name: name.to_owned(), file: file.into(), markers, began: self.place };
        if call.file == self.acks {
            self.acknowledge(arguments)?;
        }
        if arguments.ends_with("<unfinished ...>") {
            self.under_way.insert(pid, call);
            return Ok(());
        }
        self.end(&call, arguments)
    }

    /// A call has ended; `rest` holds its result.
    fn end(&mut self, call: &Call, rest: &str) -> Result<()> {
        let Some((_, result)) = rest.rsplit_once(" = ") else {
            // The process was ended in the middle of it.
            ensure!(rest.contains('?') || rest.contains("unfinished"), "no result");
            return Ok(());
        };
        if result.starts_with('-') || result.contains("INJECTED") || !call.file.starts_with(&self.data) {
            return Ok(());
        }
        if !call.name.contains("sync") {
            for marker in &call.markers {
                self.written.entry((marker.clone(), call.file.clone())).or_insert(self.place);
            }
            return Ok(());
        }
        self.figures.syncs += 1;
        self.last_sync_began = self.last_sync_began.max(call.began);
        for ((marker, file), ended) in &self.written {
            if *file == call.file && *ended < call.began {
                self.durable.insert(marker.clone());
            }
        }
        Ok(())
    }

    /// A line is being written to the file of acknowledgements.
    fn acknowledge(&mut self, arguments: &str) -> Result<()> {
        let line = arguments.split('"').nth(1).context("no text")?.trim_end_matches("\\n");
        let words: Vec<&str> = line.split(' ').collect();
        let violation = match words.as_slice() {
            // The first entry is blank and bears no marker.
            ["e", _, "0", _] => false,
            ["e", term, index, _] => {
                self.figures.entries += 1;
                !self.durable.contains(&marker(term.parse()?, index.parse()?))
            }
            ["V", ..] => {
                self.vote_began = self.place;
                false
            }
            ["v", ..] => {
                self.figures.votes += 1;
                self.last_sync_began <= self.vote_began
            }
            _ => false,
        };
        if violation {
            self.figures.violations += 1;
            if self.figures.told.len() < TOLD_MAX {
                self.figures.told.push(format!("acknowledged, not synced before: {line}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(lines: &[&str]) -> Figures {
        let mut reader = Reader { data: "/d".into(), acks: "/acks".into(), ..Reader::default() };
        for line in lines {
            reader.line(line).unwrap();
        }
        reader.figures
    }

    #[test]
    fn only_a_sync_between_write_and_acknowledgement_counts() {
        let entry = marker(3, 7);
        assert_eq!(entry.len(), MARKER_BYTES);
        let write = format!("12 pwrite64(5</d/log>, \"..{entry}..\", 99, 0) = 99");
        let (sync, ack) = ("12 fdatasync(5</d/log>) = 0", "13 write(4</acks>, \"e 3 7 123\\n\", 10) = 10");
        let (begins, ends) = ("14 fdatasync(5</d/log> <unfinished ...>", "14 <... fdatasync resumed>) = 0");
        let other = "12 fdatasync(6</d/other>) = 0";
        let faked = "12 fdatasync(5</d/log>) = 0 (INJECTED)";
        for (lines, violations) in [
            (vec![write.as_str(), sync, ack], 0),
            (vec![sync, write.as_str(), ack], 1),
            (vec![write.as_str(), ack, sync], 1),
            (vec![write.as_str(), other, ack], 1),
            (vec![write.as_str(), faked, ack], 1),
            (vec![write.as_str(), begins, ends, ack], 0),
            (vec![write.as_str(), begins, ack, ends], 1),
            (vec![begins, write.as_str(), ends, ack], 1),
        ] {
            let figures = read(&lines);
            assert_eq!((figures.entries, figures.violations), (1, violations), "{lines:#?}");
        }
    }
}
