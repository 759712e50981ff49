//! Power cuts of a whole replica: the real `hanse server`, the only one of its cluster, with its data folder on the disk
//! that dies.
//!
//! How it works. Clients write prices through the public API and note which were acknowledged. After a random number of
//! acknowledgements the disk's daemon is killed, and the replica with it. From the block log the four disks of
//! [`replay`](super::replay) are rebuilt; on each the same binary is started again, and must give every acknowledged price,
//! take a new one, and have an audit trail as long as before. Snapshots are taken often, so that the log is purged meanwhile.
//!
//! What it never does. It never counts a write whose answer did not come, nor a start that it did not see.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hanse_client::{CallOptions, Client, ClientConfig, pb};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::Ended;
use super::replay::{BlockLog, Mode, Pristine};
use super::rig::{self, Folder, Mounted, Rig, bound_to_us, output, wait_until};
use crate::rng::Rng;

/// Clients that write at once.
const WRITERS: usize = 3;
/// Writes of each at most: a cluster takes 100 plans, and one more is written after the cut.
const WRITES_MAX: u64 = 30;
/// Acknowledgements before a cut at most.
const ACKS_MAX: u64 = 80;
/// Longest time from the last awaited acknowledgement to the cut, in microseconds.
const MOMENT_MAX_US: u64 = 30_000;
/// Entries between snapshots: a few in each run.
const SNAPSHOT_EVERY: u64 = 25;
/// Cuts whose log has a hole, in a row, before the run gives up.
const HOLES_MAX: u64 = 5;
/// Longest call; the disk that died never answers.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Plans asked for at once.
const PAGE: i32 = 100;
/// The administrator.
const ADMIN: &str = "root";
/// Exit code of a replica that does not trust its disk.
const EXIT_LOST: i32 = 78;

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Power cuts; each gives four images.
    #[arg(long, default_value_t = 20)]
    pub cuts: u64,
    /// Where the randomness begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// `json` prints the figures as one JSON object.
    #[arg(long, short = 'o', default_value = "text", value_parser = ["text", "json"])]
    pub output: String,
    /// The binary to run; by default the workspace's, built now.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// A mutant that the rig must catch: the replica's syncs do nothing and report success.
    #[arg(long)]
    pub skip_sync: bool,
}

/// What came out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Power cuts that counted.
    pub cuts: u64,
    /// Disks on which the replica was started again.
    pub images: u64,
    /// Acknowledged writes compared, over all images.
    pub acked: u64,
    /// Acknowledged writes that were gone.
    pub lost: u64,
    /// Replicas that did not trust their disk, though only the power was cut.
    pub refused: u64,
    /// Replicas that did not come up, or took no new write, for another reason.
    pub crashed: u64,
    /// Snapshots that lay on the disks: the log had been purged behind them.
    pub snapshots: u64,
    /// Cuts that did not count because the block log had a hole.
    pub holes: u64,
    /// In words, what failed.
    pub failures: Vec<String>,
}

impl Figures {
    /// Says whether every invariant held on at least one image.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.images > 0 && self.lost + self.refused + self.crashed == 0
    }
}

/// Runs it and prints the figures; says whether every invariant held.
///
/// # Errors
/// If this machine cannot, and says what it lacks.
pub fn run(options: &Options) -> Result<bool> {
    let figures = measure(options)?;
    if options.output == "json" {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures:#?}");
    }
    Ok(figures.passed())
}

/// Does the cuts.
///
/// # Errors
/// If this machine cannot, and says what it lacks.
pub fn measure(options: &Options) -> Result<Figures> {
    let program = crate::processes::program(options.program.as_deref())?;
    let folder = Folder::new()?;
    let base = folder.path().join("pristine.raw");
    rig::format(&base)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let whole = Whole {
        program,
        folder: folder.path(),
        pristine: Pristine::read(&base)?,
        skip_sync: options.skip_sync,
        ports: ports()?,
        runtime,
    };
    whole.make_certificates()?;
    let (mut figures, mut rng, mut holes) = (Figures::default(), Rng::new(options.seed), 0);
    while figures.cuts < options.cuts {
        let mut rng = rng.fork();
        let (log, book) = whole.cut(&mut rng)?;
        match log {
            Some(log) => {
                (holes, figures.cuts) = (0, figures.cuts + 1);
                whole.judge(&log, &book, &mut rng, &mut figures)?;
            }
            None => {
                (holes, figures.holes) = (holes + 1, figures.holes + 1);
                ensure!(holes < HOLES_MAX, "{HOLES_MAX} block logs in a row have a hole");
            }
        }
        eprintln!("power-cut-replica: {} of {} cuts, {} images", figures.cuts, options.cuts, figures.images);
    }
    Ok(figures)
}

/// Two free ports: of the peer listener and the API.
fn ports() -> Result<[u16; 2]> {
    let held = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([held[0].local_addr()?.port(), held[1].local_addr()?.port()])
}

/// What the clients know.
#[derive(Default)]
struct Book {
    acked: Mutex<BTreeSet<String>>,
    token: String,
}

impl Book {
    fn acked(&self) -> BTreeSet<String> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Whole<'a> {
    program: PathBuf,
    folder: &'a Path,
    pristine: Pristine,
    skip_sync: bool,
    ports: [u16; 2],
    runtime: Runtime,
}

impl Whole<'_> {
    fn make_certificates(&self) -> Result<()> {
        let (ca, tls) = (self.folder.join("ca"), self.folder.join("tls"));
        let init = ["ca", "init", "--cluster", "cut", "--dir"];
        output(Command::new(&self.program).args(init).arg(&ca))?;
        let issue = ["ca", "issue", "--cluster", "cut", "--replica", "1", "--host", "127.0.0.1", "--dir"];
        output(Command::new(&self.program).args(issue).arg(&ca).arg("--out").arg(&tls)).map(drop)
    }

    /// Starts the replica on a data folder.
    fn server(&self, data: &Path, skip_sync: bool) -> Result<Ended> {
        let [peer, api] = self.ports;
        let config = format!(
            "version = 1\ncluster = \"cut\"\nreplica = 1\ndata = \"{}\"\ntls = \"tls\"\npeer_listen = \"127.0.0.1:{peer}\"\n\
             api_listen = \"127.0.0.1:{api}\"\n[[replicas]]\nid = 1\npeer = \"127.0.0.1:{peer}\"\napi = \"127.0.0.1:{api}\"\n\
             [timing]\nsnapshot_every = {SNAPSHOT_EVERY}\n",
            data.display()
        );
        let path = self.folder.join("hanse.toml");
        fs::write(&path, config).context("write the configuration")?;
        let said = File::create(self.said()).context("make the replica's log")?;
        let mut command = if skip_sync {
            let mut command = bound_to_us("strace");
            command.args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e"]);
            command.arg("inject=fsync,fdatasync,sync_file_range,msync,syncfs,sync:retval=0").arg(&self.program);
            command
        } else {
            bound_to_us(&self.program)
        };
        command.args(["server", "--die-with-parent", "--config"]).arg(&path).env("HANSE_LOG", "info,openraft=warn");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn();
        Ok(Ended(child.context("start the replica")?))
    }

    fn said(&self) -> PathBuf {
        self.folder.join("replica.log")
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.said()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(6)..].join(" | ")
    }

    fn client(&self, token: Option<&str>) -> Result<Client> {
        let ca = fs::read_to_string(self.folder.join("ca/api-ca.pem")).context("read the API authority")?;
        // The client's connections live in the runtime.
        let _inside = self.runtime.enter();
        let client = Client::new(ClientConfig::new(vec![format!("127.0.0.1:{}", self.ports[1])], ca))?;
        client.set_token(token)?;
        Ok(client)
    }

    /// Lets clients write and cuts the power. No log if it has a hole.
    fn cut(&self, rng: &mut Rng) -> Result<(Option<BlockLog>, Book)> {
        let live = self.folder.join("live");
        fs::create_dir_all(&live).context("make a folder")?;
        drop(self.pristine.write(&live.join("base.raw"))?);
        let mut rig = Rig::start(&live)?;
        let data = rig.point().join("data");
        let mut server = self.server(&data, self.skip_sync)?;
        let book = Arc::new(self.enter(&mut server, &data)?);
        let size = rng.within(1, 6);
        let wanted = rng.within(1, ACKS_MAX.min(4 << size));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| Ok(self.runtime.spawn(write(self.client(Some(&book.token))?, book.clone(), writer))))
            .collect::<Result<_>>()?;
        wait_until("the acknowledgements before the cut", || {
            if let Some(status) = server.0.try_wait().context("look at the replica")? {
                bail!("the replica ended by itself: {status}: {}", self.last_words());
            }
            Ok(book.acked().len() as u64 >= wanted)
        })?;
        std::thread::sleep(Duration::from_micros(rng.within(0, MOMENT_MAX_US)));
        rig.cut()?;
        // What was answered up to here was acknowledged; what a replica without a disk says later would be its shame too.
        drop(server);
        for writer in writers {
            self.runtime.block_on(writer).context("a client panicked")?;
        }
        let log = BlockLog::read(&rig.log());
        drop(rig);
        let book = Arc::into_inner(book).context("the clients have ended")?;
        match log {
            Ok(log) => Ok((Some(log), book)),
            Err(error) if error.to_string().contains("a hole") => Ok((None, book)),
            Err(error) => Err(error),
        }
    }

    /// Makes the administrator and logs in.
    fn enter(&self, server: &mut Ended, data: &Path) -> Result<Book> {
        let mut code = String::new();
        wait_until("the setup code", || {
            if let Some(status) = server.0.try_wait().context("look at the replica")? {
                bail!("the replica ended by itself: {status}: {}", self.last_words());
            }
            code = fs::read_to_string(data.join("setup-code")).unwrap_or_default().trim().to_owned();
            Ok(!code.is_empty())
        })?;
        let client = self.client(None)?;
        let password = hanse_client::new_request_id();
        let first = pb::BootstrapRequest {
            setup_code: code,
            account: ADMIN.into(),
            password: password.clone(),
            ..Default::default()
        };
        let login = pb::LoginRequest { account: ADMIN.into(), password, ..Default::default() };
        let token = self.runtime.block_on(async {
            client.call(first).await?;
            Ok::<_, hanse_client::ClientError>(client.call(login).await?.token)
        })?;
        Ok(Book { token, ..Book::default() })
    }

    /// Starts the replica on every disk that may be left.
    fn judge(&self, log: &BlockLog, book: &Book, rng: &mut Rng, figures: &mut Figures) -> Result<()> {
        let (requests, unflushed) = log.len();
        let acked = book.acked();
        for mode in Mode::ALL {
            let image = self.folder.join("image.raw");
            log.rebuild(&self.pristine, &image, mode, rng)?;
            let mounted = Mounted::new(&image, &self.folder.join("left"))?;
            let data = self.folder.join("left/data");
            figures.images += 1;
            figures.acked += acked.len() as u64;
            let snapshots = fs::read_dir(data.join("raft/snapshots")).into_iter().flatten().flatten();
            figures.snapshots +=
                snapshots.filter(|e| e.path().extension().is_some_and(|e| e == "snapshot")).count() as u64;
            let place =
                format!("cut {}, {} ({unflushed} of {requests} requests not flushed)", figures.cuts, mode.name());
            match self.look(&data, book) {
                Ok(Seen::Plans(plans)) => {
                    let gone: Vec<&String> = acked.difference(&plans).collect();
                    figures.lost += gone.len() as u64;
                    if !gone.is_empty() {
                        figures.failures.push(format!("{place}: gone: {gone:?}"));
                    }
                }
                Ok(Seen::Refused(words)) => {
                    figures.refused += 1;
                    figures.failures.push(format!("{place}: {words}"));
                }
                Err(error) => {
                    figures.crashed += 1;
                    figures.failures.push(format!("{place}: {error:#}: {}", self.last_words()));
                }
            }
            drop(mounted);
        }
        Ok(())
    }

    /// Starts the replica and asks for everything; then it must take a new write.
    fn look(&self, data: &Path, book: &Book) -> Result<Seen> {
        let mut server = self.server(data, false)?;
        let client = self.client(Some(&book.token))?;
        let mut seen = None;
        wait_until("the replica answers", || {
            if let Some(status) = server.0.try_wait().context("look at the replica")? {
                if status.code() == Some(EXIT_LOST) {
                    seen = Some(Seen::Refused(self.last_words()));
                    return Ok(true);
                }
                bail!("it ended by itself: {status}");
            }
            match self.runtime.block_on(plans(&client)) {
                Ok(plans) => seen = Some(Seen::Plans(plans)),
                // The session was acknowledged before any write: with it everything is gone.
                Err(error) if error.code == hanse_client::Code::Unauthenticated => {
                    seen = Some(Seen::Plans(BTreeSet::new()))
                }
                // Not up yet, or no leader yet. Anything else is an answer that must not be.
                Err(error) if error.code == hanse_client::Code::Unavailable => {}
                Err(error) if error.code == hanse_client::Code::DeadlineExceeded => {}
                Err(error) => bail!("it answers {error}"),
            }
            Ok(seen.is_some())
        })?;
        if let Some(Seen::Plans(plans)) = &seen
            && !plans.is_empty()
        {
            self.runtime.block_on(client.call(plan("after-the-cut"))).context("it takes no new write")?;
        }
        seen.context("it was looked at")
    }
}

/// What a replica showed after the cut.
enum Seen {
    Plans(BTreeSet<String>),
    Refused(String),
}

fn plan(name: &str) -> pb::SetPlanRequest {
    pb::SetPlanRequest {
        plan: name.to_owned(),
        currency: "EUR".into(),
        rate_micro_per_node_hour: 5,
        ..Default::default()
    }
}

/// Writes until a write is not acknowledged.
async fn write(client: Client, book: Arc<Book>, writer: usize) {
    for number in 0..WRITES_MAX {
        let name = format!("w{writer}-{number}");
        let options = CallOptions { overall: Some(CALL_MAX), single_attempt: true, ..CallOptions::default() };
        match tokio::time::timeout(CALL_MAX, client.call_with(plan(&name), options)).await {
            Ok(Ok(_)) => drop(book.acked.lock().unwrap_or_else(PoisonError::into_inner).insert(name)),
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Gives the names of all plans.
async fn plans(client: &Client) -> Result<BTreeSet<String>, hanse_client::ClientError> {
    let (mut names, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let options = CallOptions { overall: Some(CALL_MAX), single_attempt: true, ..CallOptions::default() };
        let page = client.call_with(pb::ListPlansRequest { page_size: PAGE, page_token }, options).await?;
        names.extend(page.plans.into_iter().map(|plan| plan.plan));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(names);
        }
    }
}
