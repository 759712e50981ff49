//! Power cuts: a store works on a disk, the disk dies at a random moment, and every disk that may be left is opened.
//!
//! How it works. Each cut starts a fresh [`rig`], puts the store under load in a process of its own
//! ([`driver`](crate::store::driver)), kills the disk's daemon after a random number of acknowledgements, and rebuilds
//! from the block log the four disks of [`replay`]. Each is mounted (the kernel replays the journal) and given to the
//! [judge](crate::store::judge), again a process of its own. A power cut alone may never make a store refuse.
//!
//! What it never does. It never counts a cut whose disk could not be rebuilt, and leaves nothing mounted.

pub mod replay;
pub mod rig;
pub mod whole;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use self::replay::{BlockLog, Mode, Pristine};
use self::rig::{Folder, Mounted, Rig, bound_to_us, output, wait_until};
use crate::rng::Rng;
use crate::store::judge::Verdict;

/// Acknowledgements before a cut at most.
const ACKS_MAX: u64 = 1_500;
/// Longest time from the last awaited acknowledgement to the cut, in microseconds.
const MOMENT_MAX_US: u64 = 30_000;
/// Cuts whose log has a hole, in a row, before the run gives up.
const HOLES_MAX: u64 = 5;
/// Failures told at most.
const FAILURES_MAX: usize = 20;

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Power cuts; each gives four images.
    #[arg(long, default_value_t = 200)]
    pub cuts: u64,
    /// Where the randomness begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// `json` prints the figures as one JSON object.
    #[arg(long, short = 'o', default_value = "text", value_parser = ["text", "json"])]
    pub output: String,
    /// A mutant that the rig must catch: these system calls of the store do nothing and report success.
    #[arg(long, value_parser = ["fsync", "fdatasync", "all"])]
    pub skip_sync: Option<String>,
    /// A mutant that the rig must catch: entries are acknowledged before they are durable.
    #[arg(long)]
    pub ack_early: bool,
}

impl Options {
    /// Gives the options of a short run.
    #[must_use]
    pub fn short(cuts: u64, seed: u64) -> Self {
        Self { cuts, seed, output: "text".into(), skip_sync: None, ack_early: false }
    }
}

/// What came out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Power cuts that counted.
    pub cuts: u64,
    /// Disks opened.
    pub images: u64,
    /// Acknowledgements compared, over all images.
    pub acked: u64,
    /// Acknowledged entries and snapshots that were gone.
    pub lost: u64,
    /// Votes that went back.
    pub votes_lost: u64,
    /// Things that were there and must not be, unnoticed by the store.
    pub silent: u64,
    /// Stores that refused to open or to go on, though only the power was cut.
    pub refused: u64,
    /// Judges that ended without a verdict: a panic or a hang of the store.
    pub crashed: u64,
    /// Disks that differed from what was flushed, so that the modes meant something.
    pub images_unflushed: u64,
    /// Cuts that did not count because the block log had a hole.
    pub holes: u64,
    /// In words, the first few failures.
    pub failures: Vec<String>,
}

impl Figures {
    /// Says whether every invariant held on at least one image.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.images > 0 && self.lost + self.votes_lost + self.silent + self.refused + self.crashed == 0
    }

    fn add(&mut self, place: &str, verdict: &Verdict) {
        self.images += 1;
        self.acked += verdict.acked;
        // No disk fault here: the newest snapshot must be whole.
        self.lost += verdict.lost + verdict.snapshots_behind;
        self.votes_lost += verdict.votes_lost;
        self.silent += verdict.silent;
        self.refused += verdict.refused + verdict.found_on_read;
        if !verdict.is_sound() || verdict.snapshots_behind > 0 {
            self.fail(format!("{place}: {}", verdict.reasons.join("; ")));
        }
    }

    fn fail(&mut self, why: String) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(why);
        }
    }
}

/// Runs it and prints the figures; says whether every invariant held.
///
/// # Errors
/// If this machine cannot, and says what it lacks.
pub fn run(options: &Options) -> Result<bool> {
    let program = std::env::current_exe().context("find this program")?;
    let figures = measure(options, &program)?;
    if options.output == "json" {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures:#?}");
    }
    Ok(figures.passed())
}

/// Does the cuts with `program` as driver and judge.
///
/// # Errors
/// If this machine cannot, and says what it lacks.
pub fn measure(options: &Options, program: &Path) -> Result<Figures> {
    let folder = Folder::new()?;
    let base = folder.path().join("pristine.raw");
    rig::format(&base)?;
    let run = Run { options, program, folder: folder.path(), pristine: Pristine::read(&base)? };
    let mut figures = Figures::default();
    let mut rng = Rng::new(options.seed);
    let mut holes = 0;
    while figures.cuts < options.cuts {
        let mut rng = rng.fork();
        match run.cut(&mut rng)? {
            Some(log) => {
                holes = 0;
                figures.cuts += 1;
                run.judge(&log, &mut rng, &mut figures)?;
            }
            None => {
                (holes, figures.holes) = (holes + 1, figures.holes + 1);
                ensure!(holes < HOLES_MAX, "{HOLES_MAX} block logs in a row have a hole");
            }
        }
        eprintln!("power-cut: {} of {} cuts, {} images", figures.cuts, options.cuts, figures.images);
    }
    Ok(figures)
}

struct Run<'a> {
    options: &'a Options,
    program: &'a Path,
    folder: &'a Path,
    pristine: Pristine,
}

/// A process that is ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Run<'_> {
    fn acks(&self) -> PathBuf {
        self.folder.join("acks")
    }

    /// Lets a store work and cuts the power. `None` if the log has a hole.
    fn cut(&self, rng: &mut Rng) -> Result<Option<BlockLog>> {
        let live = self.folder.join("live");
        fs::create_dir_all(&live).context("make a folder")?;
        fs::write(self.acks(), "").context("make the file of acknowledgements")?;
        drop(self.pristine.write(&live.join("base.raw"))?);
        let mut rig = Rig::start(&live)?;
        let mut driver = Ended(self.driver(&rig.point().join("data"), rng.number())?);
        // Early moments matter as much as late ones: the files are young.
        let size = rng.within(1, 10);
        let wanted = rng.within(0, ACKS_MAX.min(2 << size));
        let reached = wait_until("the acknowledgements before the cut", || {
            if let Some(status) = driver.0.try_wait().context("look at the driver")? {
                bail!("the driver ended by itself: {status}: {}", self.driver_said());
            }
            let text = fs::read(self.acks()).context("read the acknowledgements")?;
            Ok(text.iter().filter(|b| **b == b'\n').count() as u64 >= wanted)
        });
        reached?;
        // Not only right after an acknowledgement: in the middle of whatever comes next.
        std::thread::sleep(Duration::from_micros(rng.within(0, MOMENT_MAX_US)));
        rig.cut()?;
        drop(driver);
        let log = BlockLog::read(&rig.log());
        drop(rig);
        match log {
            Ok(log) => Ok(Some(log)),
            Err(error) if error.to_string().contains("a hole") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn driver(&self, data: &Path, seed: u64) -> Result<Child> {
        let mut command = match self.options.skip_sync.as_deref() {
            None => bound_to_us(self.program),
            Some(calls) => {
                let calls = if calls == "all" { "fsync,fdatasync,sync_file_range,msync,syncfs,sync" } else { calls };
                let mut command = bound_to_us("strace");
                command.args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e"]);
                command.arg(format!("inject={calls}:retval=0")).arg(self.program);
                command
            }
        };
        command.args(["driver", "--seed", &seed.to_string(), "--data"]).arg(data).arg("--acks").arg(self.acks());
        if self.options.ack_early {
            command.arg("--ack-early");
        }
        let said = fs::File::create(self.folder.join("driver.log")).context("make the driver's log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().context("start the driver")
    }

    fn driver_said(&self) -> String {
        fs::read_to_string(self.folder.join("driver.log")).unwrap_or_default()
    }

    /// Opens every disk that may be left.
    fn judge(&self, log: &BlockLog, rng: &mut Rng, figures: &mut Figures) -> Result<()> {
        let (requests, unflushed) = log.len();
        for mode in Mode::ALL {
            let image = self.folder.join("image.raw");
            log.rebuild(&self.pristine, &image, mode, rng)?;
            figures.images_unflushed += u64::from(unflushed > 0);
            let place =
                format!("cut {}, {} ({unflushed} of {requests} requests not flushed)", figures.cuts, mode.name());
            match self.judge_image(&image) {
                Ok(verdict) => figures.add(&place, &verdict),
                Err(error) => {
                    figures.images += 1;
                    figures.crashed += 1;
                    figures.fail(format!("{place}: {error:#}"));
                }
            }
        }
        Ok(())
    }

    fn judge_image(&self, image: &Path) -> Result<Verdict> {
        let point = self.folder.join("left");
        let mounted = Mounted::new(image, &point)?;
        let mut judge = bound_to_us("timeout");
        judge.args(["--kill-after=1", "120"]).arg(self.program).args(["judge", "--data"]).arg(point.join("data"));
        let said = output(judge.arg("--acks").arg(self.acks()))?;
        drop(mounted);
        serde_json::from_str(&said).context("read the verdict")
    }
}
