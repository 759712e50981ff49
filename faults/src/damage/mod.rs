//! Damage on a stopped replica's disk: bit flips, zeroed pages, cut and lost files, stale copies of files.
//!
//! How it works. A store is filled by the [driver](crate::store::driver) and closed. Each round copies its folder, damages
//! one place of one file, and hands the copy to the [judge](crate::store::judge). The damage must be *refused* (the store
//! says that it is lost, exit code 78), *found on read* (history that lies under a snapshot is checked when it is read),
//! or *harmless* (everything acknowledged is there and equal). Anything else is *silent* and fails the run.
//!
//! What it never does. A stale copy of the *whole* folder is consistent in itself and cannot be told from the folder
//! itself; it is tried and counted apart, because only the other replicas can know better.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::power_cut::rig::bound_to_us;
use crate::rng::Rng;
use crate::store::judge::Verdict;

/// Steps of the driver before and after the stale copy is taken.
const STEPS: u64 = 150;
/// Rounds done with one filled store.
const ROUNDS_OF_ONE: u64 = 50;
/// A page, in bytes.
const PAGE: u64 = 4096;
/// Failures told at most.
const FAILURES_MAX: usize = 20;

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Damages, one a round.
    #[arg(long, default_value_t = 200)]
    pub rounds: u64,
    /// Where the randomness begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// `json` prints the figures as one JSON object.
    #[arg(long, short = 'o', default_value = "text", value_parser = ["text", "json"])]
    pub output: String,
}

/// How often what came of one kind of damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The store said that it is lost.
    pub refused: u64,
    /// It said so when the damaged part was read.
    pub found_on_read: u64,
    /// Everything acknowledged was there and equal.
    pub harmless: u64,
    /// Something acknowledged was missing or other, and the store did not say so.
    pub silent: u64,
    /// The store failed in another way: an error that does not say that it is lost, a panic, a hang.
    pub failed: u64,
}

/// What came out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Damages done.
    pub rounds: u64,
    /// Over all kinds.
    pub total: Counts,
    /// By kind of damage.
    pub kinds: BTreeMap<&'static str, Counts>,
    /// Stale copies of the whole folder: nothing in them says that they are stale.
    pub stale_folders: Counts,
    /// In words, the first few failures.
    pub failures: Vec<String>,
}

impl Figures {
    /// Says whether no damage was silent, and none made the store fail otherwise.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.rounds > 0 && self.total.silent + self.total.failed == 0
    }
}

/// Runs it and prints the figures; says whether no damage was silent.
///
/// # Errors
/// If the store cannot be filled or copied.
pub fn run(options: &Options) -> Result<bool> {
    let figures = measure(options, &std::env::current_exe().context("find this program")?)?;
    if options.output == "json" {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures:#?}");
    }
    Ok(figures.passed())
}

/// Does the rounds with `program` as driver and judge.
///
/// # Errors
/// If the store cannot be filled or copied.
pub fn measure(options: &Options, program: &Path) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut rng = Rng::new(options.seed);
    while figures.rounds < options.rounds {
        let filled = Filled::new(program, &mut rng)?;
        filled.stale_folder(&mut figures)?;
        for _ in 0..ROUNDS_OF_ONE.min(options.rounds - figures.rounds) {
            filled.round(&mut rng, &mut figures)?;
        }
    }
    Ok(figures)
}

/// A sound store, an older copy of it, and what was acknowledged.
struct Filled<'a> {
    program: &'a Path,
    folder: tempfile::TempDir,
}

/// What came of one damage.
enum Outcome {
    Judged(Verdict),
    Failed(String),
}

impl<'a> Filled<'a> {
    fn new(program: &'a Path, rng: &mut Rng) -> Result<Self> {
        let filled = Self { program, folder: tempfile::tempdir().context("make a folder")? };
        filled.fill(rng)?;
        copy(&filled.sound(), &filled.folder.path().join("old"))?;
        filled.fill(rng)?;
        copy(&filled.sound(), &filled.folder.path().join("copy"))?;
        match filled.judge()? {
            Outcome::Judged(verdict) if verdict.is_sound() => Ok(filled),
            Outcome::Judged(verdict) => anyhow::bail!("the sound store is not: {:?}", verdict.reasons),
            Outcome::Failed(why) => anyhow::bail!("the sound store is not: {why}"),
        }
    }

    fn sound(&self) -> PathBuf {
        self.folder.path().join("sound")
    }

    fn command(&self, kind: &str, data: &Path) -> std::process::Command {
        let mut command = bound_to_us("timeout");
        command.args(["--kill-after=1", "120"]).arg(self.program).arg(kind).arg("--data").arg(data);
        command.arg("--acks").arg(self.folder.path().join("acks")).stdin(Stdio::null());
        command
    }

    fn fill(&self, rng: &mut Rng) -> Result<()> {
        let (seed, steps) = (rng.number().to_string(), STEPS.to_string());
        let mut driver = self.command("driver", &self.sound());
        let done = driver.args(["--seed", &seed, "--steps", &steps]).output().context("start the driver")?;
        ensure!(done.status.success(), "the driver: {}: {}", done.status, String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn judge(&self) -> Result<Outcome> {
        let done = self.command("judge", &self.folder.path().join("copy")).output().context("start the judge")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            return Ok(Outcome::Failed(format!(
                "{}: {}",
                done.status,
                said.lines().take(3).collect::<Vec<_>>().join(" ")
            )));
        }
        Ok(Outcome::Judged(serde_json::from_slice(&done.stdout).context("read the verdict")?))
    }

    fn stale_folder(&self, figures: &mut Figures) -> Result<()> {
        copy(&self.folder.path().join("old"), &self.folder.path().join("copy"))?;
        match self.judge()? {
            Outcome::Judged(verdict) => count(&mut figures.stale_folders, &verdict),
            Outcome::Failed(_) => figures.stale_folders.failed += 1,
        }
        Ok(())
    }

    fn round(&self, rng: &mut Rng, figures: &mut Figures) -> Result<()> {
        let target = self.folder.path().join("copy");
        copy(&self.sound(), &target)?;
        let (kind, place) = damage(&target, &self.folder.path().join("old"), rng)?;
        figures.rounds += 1;
        let counts = figures.kinds.entry(kind).or_default();
        let why = match self.judge()? {
            Outcome::Judged(verdict) => {
                count(counts, &verdict);
                count(&mut figures.total, &verdict);
                is_silent(&verdict).then(|| verdict.reasons.join("; "))
            }
            Outcome::Failed(why) => {
                counts.failed += 1;
                figures.total.failed += 1;
                Some(why)
            }
        };
        if let Some(why) = why.filter(|_| figures.failures.len() < FAILURES_MAX) {
            figures.failures.push(format!("{kind} {place}: {why}"));
        }
        Ok(())
    }
}

fn is_silent(verdict: &Verdict) -> bool {
    verdict.refused + verdict.found_on_read == 0 && !verdict.is_sound()
}

fn count(counts: &mut Counts, verdict: &Verdict) {
    if verdict.refused > 0 {
        counts.refused += 1;
    } else if verdict.found_on_read > 0 {
        counts.found_on_read += 1;
    } else if verdict.is_sound() {
        counts.harmless += 1;
    } else {
        counts.silent += 1;
    }
}

/// Makes `to` an equal copy of `from`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).context("remove the last copy")?;
    }
    fs::create_dir_all(to).context("make a folder")?;
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from).context("a file of the folder")?);
        fs::create_dir_all(target.parent().context("a folder")?).context("make a folder")?;
        fs::copy(&file, &target).with_context(|| format!("copy {}", file.display()))?;
    }
    Ok(())
}

/// Gives every file below a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry.context("list a folder")?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Damages one place; gives the kind and the place in words.
fn damage(folder: &Path, old: &Path, rng: &mut Rng) -> Result<(&'static str, String)> {
    let files: Vec<PathBuf> = files(folder)?.into_iter().filter(|f| f.metadata().is_ok_and(|m| m.len() > 0)).collect();
    ensure!(!files.is_empty(), "the folder is empty");
    let path = &files[rng.index(files.len())];
    let name = path.strip_prefix(folder).context("a file of the folder")?;
    let length = path.metadata().context("look at a file")?.len();
    let file = File::options().read(true).write(true).open(path).context("open a file")?;
    match rng.within(1, 12) {
        1..=5 => {
            let place = rng.within(0, used(&file, length)? - 1);
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).context("read a byte")?;
            byte[0] ^= 1 << rng.within(0, 7);
            file.write_all_at(&byte, place).context("write a byte")?;
            Ok(("bit flip", format!("{} at {place} of {length}", name.display())))
        }
        6..=8 => {
            let page = rng.within(0, (used(&file, length)? - 1) / PAGE) * PAGE;
            let zeros = vec![0; usize::try_from(PAGE.min(length - page))?];
            file.write_all_at(&zeros, page).context("zero a page")?;
            Ok(("zeroed page", format!("{} at {page} of {length}", name.display())))
        }
        9 | 10 => {
            let shorter = rng.within(0, used(&file, length)? - 1);
            file.set_len(shorter).context("cut a file")?;
            Ok(("truncation", format!("{} to {shorter} of {length}", name.display())))
        }
        11 => {
            fs::remove_file(path).context("delete a file")?;
            Ok(("deleted file", name.display().to_string()))
        }
        _ => {
            let stale = old.join(name);
            if stale.exists() {
                fs::copy(&stale, path).context("put a stale file")?;
            } else {
                fs::remove_file(path).context("delete a file")?;
            }
            Ok(("stale file", name.display().to_string()))
        }
    }
}

/// Gives the length of a file without the zeros that were only reserved at its end; at least 1.
fn used(file: &File, length: u64) -> Result<u64> {
    let mut bytes = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut bytes, 0).context("read a file")?;
    Ok(bytes.iter().rposition(|b| *b != 0).map_or(1, |place| place as u64 + 1))
}
