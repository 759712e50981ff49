//! The code that runs *on a host* while its requests are asked, and the small supervisor it leaves behind.
//!
//! `adapters/host` is nothing but this behind a command line, small enough for any line; the one binary mounts it as hidden
//! subcommands besides. `host-run` reads JSON [`Request`]s from standard input, one a line, answers each with a line of JSON, a
//! [`Response`], and ends with its input; `host-supervise DIR` keeps the process of one instance. The local adapter calls
//! [`Host::handle`] in its own process, the ssh adapter executes the small program that it uploaded, the docker adapter the
//! one binary in a short container; all get the same answers.
//!
//! Layout under the root (`$HOME/.hanse` unless configured):
//!
//! ```text
//! artifacts/<sha256>/hanse                     mode 0755, named by its content
//! artifacts/<sha256>/files/                    if that is a bundle's manifest: its files, by name
//! instances/<cluster>/<object>/home/           the only folder a node writes to
//!                              spec.json       what was wished last, with its generation
//!                              status.json     what the supervisor saw last, with pid and start time
//!                              fence.json      the first generation that may run, if it was stopped for good
//!                              written.json    the generation whose files were written last
//!                              log, log.1      standard output and error of the node, bounded
//!                              lock            flock: one request at a time for one instance
//! ```
//!
//! What it never does: listen on a port, stay when who asks is gone, restart a process that ended (the control plane
//! decides, within a budget), pass anything through a shell, or touch a process that does not carry its mark, but for the one that
//! holds a home of others which it is told to take over (`claim`): that is asked to end, and never killed.

mod artifact;
mod bundle;
mod carry;
mod claim;
mod dial;
mod facts;
mod files;
mod holders;
mod instance;
mod layout;
mod preflight;
mod proc;
mod run;
mod start;
mod supervise;
pub mod trial;
mod usage;
mod wire;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use hanse_adapters_core::{AdapterError, Artifact};

pub use artifact::{content_sha256, file_sha256, valid_sha256};
pub use bundle::{describe_bundle, load_bundle};
pub use dial::{REACHED, dial_stdio};
pub use facts::now_ms;
pub use files::is_home_path;
pub use layout::Layout;
pub use supervise::supervise;
pub use wire::{
    Act, Composed, Reply, Request, Response, WIRE_VERSION, WireClass, WireError, WireFile, WireHome, WirePiece,
};

/// Largest request read from standard input: files of an instance travel in it as hex.
pub const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A host as this code sees it: where its things are, and which program mounts `host-supervise`.
#[derive(Clone, Debug)]
pub struct Host {
    layout: Layout,
    exe: PathBuf,
    /// Whether this process ends soon, and whoever it has started is then pid 1's.
    is_brief: bool,
}

impl Host {
    /// Returns the host whose things are under `root` and whose supervisor is `exe host-supervise`.
    pub fn new(root: &Path, exe: &Path) -> Self {
        Self { layout: Layout::new(root), exe: exe.into(), is_brief: false }
    }

    /// Where things are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Copies `artifact` from this machine into its place unless its content is there. Blocks.
    ///
    /// # Errors
    /// `Invalid` if the file is missing or does not have the hash it claims; nothing was changed then.
    pub fn put_artifact(&self, artifact: &Artifact) -> Result<(), AdapterError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let nonce = format!("{:x}{count:x}{:x}", std::process::id(), facts::now_ms());
        artifact::put_local(&self.layout, artifact, &nonce)
    }

    /// Does what `request` asks and returns the answer; blocks until then. Every failure is inside the answer.
    pub fn handle(&self, request: Request) -> Response {
        if request.version != WIRE_VERSION {
            let reason = format!("version {} asked, this program speaks {WIRE_VERSION}", request.version);
            return Response::from_result(Err(AdapterError::Invalid { subject: "host-run".into(), reason }));
        }
        Response::from_result(self.act(request.act))
    }

    fn act(&self, act: Act) -> Result<Reply, AdapterError> {
        let layout = &self.layout;
        match act {
            Act::HashSelf => artifact::hash_self().map(Reply::Sha256),
            Act::Adopt { sha256, upload } => artifact::adopt(layout, &sha256, &upload).map(|()| Reply::Done),
            Act::Receive { sha256, .. } => {
                Err(layout::invalid(format!("artifact {sha256}"), "can be received over a stream only"))
            }
            Act::HasArtifact { sha256 } => artifact::has(layout, &sha256).map(Reply::Has),
            Act::Inspect => facts::inspect(layout).map(Reply::Facts),
            Act::Preflight { wish } => preflight::report(layout, &wish).map(|report| Reply::Report(Box::new(report))),
            Act::PutFiles { key, files, generation } => {
                files::put(layout, &key, generation, &files).map(|()| Reply::Done)
            }
            Act::ReadFile { key, path } => {
                files::read(layout, &key, &path).map(|content| Reply::Content(content.map(hex::encode)))
            }
            Act::Run { key, spec } => run::run(layout, &key, &spec).map(Reply::Output),
            Act::Ensure { spec } => {
                let mount = start::Mount { exe: &self.exe, is_brief: self.is_brief };
                start::ensure(layout, mount, &spec).map(Reply::Status)
            }
            Act::Compose { spec } => run::compose(layout, &spec).map(Reply::Composed),
            Act::KeepSelf { sha256 } => {
                let own = Artifact { sha256, path: "/proc/self/exe".into() };
                self.put_artifact(&own).map(|()| Reply::Done)
            }
            Act::Look { key } => instance::look(layout, &key).map(Reply::MaybeStatus),
            Act::Stop { key, grace } => instance::stop(layout, &key, grace).map(|()| Reply::Done),
            Act::Fence { key, generation, grace } => {
                instance::fence(layout, &key, generation, grace).map(|()| Reply::Done)
            }
            Act::ListHome { key } => carry::list(layout, &key).map(Reply::Home),
            Act::ReadPiece { key, path, offset } => {
                carry::read(layout, &key, &path, offset).map(|piece| Reply::Content(Some(hex::encode(piece))))
            }
            Act::WritePiece { key, generation, piece } => {
                carry::write(layout, &key, generation, &piece).map(|()| Reply::Done)
            }
            Act::SurveyHome { claim, reads, program } => claim::survey(layout, &claim, &reads, &program)
                .map(|seen| Reply::HomeSeen(Box::new(WireHome::from(seen)))),
            Act::SeizeHome { key, generation, claim, stop } => {
                claim::seize(layout, &key, generation, &claim, stop).map(|()| Reply::Done)
            }
            Act::TakeHome { key, generation, claim } => {
                claim::take(layout, &key, generation, &claim).map(|()| Reply::Done)
            }
            Act::ReturnHome { key, generation, claim, was_started } => {
                claim::give_back(layout, &key, generation, &claim, was_started).map(|()| Reply::Done)
            }
            Act::Remove { key, upto } => instance::remove(layout, &key, upto).map(|()| Reply::Done),
            Act::List { cluster } => instance::list(layout, &cluster).map(Reply::Statuses),
            Act::Tail { key, lines } => instance::tail(layout, &key, lines).map(Reply::Text),
            Act::Usage { key } => usage::usage(layout, &key).map(Reply::Usage),
            Act::Load => usage::load(layout).map(Reply::Load),
        }
    }
}

/// Does what `request` asks under `root`, with this very program as the supervisor, for a process that ends when it has
/// answered or is not asked any more. Blocks.
pub fn handle(root: &Path, request: Request) -> Response {
    match std::env::current_exe() {
        Ok(exe) => Host { is_brief: true, ..Host::new(root, &exe) }.handle(request),
        Err(e) => Response::from_result(Err(layout::io_error("this program", &e))),
    }
}

/// What sh(1) answers for a program that is not there, and what this one ends with, having done nothing, when its file was
/// deleted while it ran.
const EXIT_GONE: u8 = 127;

/// Serves requests until the end of standard input: JSON a line there, JSON a line on standard output. With no `root`, the
/// root is the one this program was uploaded under, else `$HOME/.hanse`. Exits 0 unless an answer could not be printed, or
/// its own file is gone: then with 127, before anything was done for the request.
pub fn run_stdio(root: Option<PathBuf>) -> ExitCode {
    let Some(root) = root.or_else(default_root) else {
        return answer(&refuse("no root folder: HOME is not set and the program is not under a root's artifacts"));
    };
    serve(&root, &mut std::io::stdin().lock(), true)
}

/// Serves until the end of `input`; that there is a request at all is demanded of a beginning only.
fn serve(root: &Path, input: &mut impl BufRead, is_beginning: bool) -> ExitCode {
    let mut is_first = is_beginning;
    loop {
        let request = match read_request(input) {
            Ok(Some(request)) => request,
            Ok(None) if is_first => return answer(&refuse("there is no request on standard input")),
            Ok(None) => return ExitCode::SUCCESS,
            // Where the next request would begin is not known any more.
            Err(reason) => return answer(&refuse(&reason)),
        };
        // Supervisors are started from the file, so one that lives on without it would be of no use.
        if !std::env::current_exe().is_ok_and(|exe| exe.exists()) {
            return ExitCode::from(EXIT_GONE);
        }
        let response = match request {
            Request { version: WIRE_VERSION, act: Act::Receive { sha256, bytes } } => {
                let received = artifact::receive(&Layout::new(root), &sha256, bytes, input);
                // Nobody is there to be answered.
                let Some(done) = received else { return ExitCode::FAILURE };
                Response::from_result(done.map(|()| Reply::Done))
            }
            request => handle(root, request),
        };
        let ended = answer(&response);
        if ended != ExitCode::SUCCESS {
            return ended;
        }
        is_first = false;
    }
}

/// Puts this very program, uploaded under another name into the folder of its hash, in its place, prints the answer as
/// [`run_stdio`] does, and if that went well goes on as that: who has sent it need not begin a second session, nor the host
/// start a second process. Exits as it does.
pub fn keep_self() -> ExitCode {
    let exe = std::env::current_exe().map_err(|e| layout::io_error("this program", &e));
    match exe.and_then(|exe| artifact::keep(&exe)) {
        Ok(root) => match answer(&Response::from_result(Ok(Reply::Done))) {
            ExitCode::SUCCESS => serve(&root, &mut std::io::stdin().lock(), false),
            failed => failed,
        },
        Err(error) => answer(&Response::from_result(Err(error))),
    }
}

fn answer(response: &Response) -> ExitCode {
    let mut out = std::io::stdout().lock();
    // On a line of its own: what the account's shell printed at its start stays apart from it.
    let written = out
        .write_all(b"\n")
        .and_then(|()| serde_json::to_writer(&mut out, response).map_err(std::io::Error::from))
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves one request whose JSON is in the file `request` and writes the JSON of the answer to the file `answer`, for
/// hosts that carry files rather than streams. Exits 0 whenever an answer was written.
pub fn run_files(root: &Path, request: &Path, answer: &Path) -> ExitCode {
    let opened = File::open(request).map_err(|e| format!("reading the request: {e}"));
    let response = match opened.and_then(|file| read_request(&mut BufReader::new(file))) {
        Ok(Some(request)) => handle(root, request),
        Ok(None) => refuse("there is no request in the file"),
        Err(reason) => refuse(&reason),
    };
    match serde_json::to_vec(&response).map(|bytes| std::fs::write(answer, bytes)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(_)) | Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(reason: &str) -> Response {
    Response::from_result(Err(AdapterError::Invalid { subject: "host-run".into(), reason: reason.into() }))
}

/// The next request, `None` at the end of the input.
fn read_request(input: &mut impl BufRead) -> Result<Option<Request>, String> {
    let mut bytes = Vec::new();
    let read = input.take(REQUEST_BYTES_MAX + 1).read_until(b'\n', &mut bytes);
    read.map_err(|e| format!("reading the request: {e}"))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() as u64 > REQUEST_BYTES_MAX {
        return Err(format!("the request is larger than {REQUEST_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|e| format!("the request is not one this program knows: {e}"))
}

/// `<root>/artifacts/<sha256>/<this program>` names its own root, so that no path needs to travel in a command line.
fn default_root() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok();
    let own = exe.as_deref().and_then(|exe| {
        let sha = exe.parent()?;
        let artifacts = sha.parent()?;
        let named = valid_sha256(sha.file_name()?.to_str()?) && artifacts.file_name()? == "artifacts";
        named.then(|| artifacts.parent().map(Path::to_path_buf))?
    });
    own.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".hanse")))
}
