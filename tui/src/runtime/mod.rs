//! The only part of the console that does IO: terminal, clock, calls, files.
//!
//! One loop takes whatever comes first (a key, an answer, a change, a tenth of a second), hands it to `update`, carries
//! out the effects as tasks of one `JoinSet`, and draws at most ten times a second, only what changed. When it ends,
//! for whatever reason, its tasks are stopped and the terminal is given back.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use hanse_client::{Client, ClientConfig, ClientError, WatchUpdate, files};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::app::effect::Effect;
use crate::app::model::{Model, Settings};
use crate::app::msg::Msg;
use crate::app::update::{start, update};
use crate::i18n::Lang;
use crate::theme::Theme;

mod api;
mod keys;
mod signed;
mod terminal;
mod writes;

use keys::Keys;
use terminal::Terminal;

/// Shortest time between two frames, and the beat of `Msg::Tick`.
const FRAME: Duration = Duration::from_millis(100);
/// Events taken before a frame is drawn, so that a flood of input cannot starve the screen.
const BURST_MAX: usize = 256;

/// How a console is started.
#[derive(Clone, Debug)]
pub struct ConsoleOptions {
    /// Replicas, authority and limits. A token in here is used before that of `token_path`.
    pub client: ClientConfig,
    /// File in which the session token is kept, mode 0600; none keeps it in memory only.
    pub token_path: Option<PathBuf>,
    /// Language; none takes it from the locale's environment.
    pub lang: Option<Lang>,
    /// ASCII glyphs whatever the terminal can do.
    pub ascii: bool,
    /// No changes whatever the role.
    pub read_only: bool,
    /// First screen, e.g. `:chains`.
    pub start: Option<String>,
    /// Path offered for the member key of a ballot.
    pub key_path: Option<PathBuf>,
}

/// Why a console could not run.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// Standard input or output is no terminal.
    #[error("the console needs a terminal; scripts use the other commands with -o json")]
    NoTerminal,
    /// The terminal failed.
    #[error("the terminal failed")]
    Terminal(#[source] std::io::Error),
    /// The client's configuration cannot be used.
    #[error("the client cannot be set up")]
    Client(#[source] ClientError),
}

/// Runs the console until the person leaves it or a signal ends it; returns the exit code, 0 for both.
///
/// # Errors
/// No terminal, or a configuration that cannot be used; a cluster that does not answer is no error but a screen.
pub async fn run(options: ConsoleOptions) -> Result<u8, TuiError> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(TuiError::NoTerminal);
    }
    let mut config = options.client.clone();
    if config.token.is_none()
        && let Some(path) = &options.token_path
    {
        // A missing or unreadable token is a login, not an error.
        config.token = files::read(path).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    }
    let client = Client::new(config).map_err(TuiError::Client)?;
    let mut terminal = Terminal::take().map_err(TuiError::Terminal)?;
    let size = terminal.size().map_err(TuiError::Terminal)?;
    let model = Model::new(settings(&options), size, now());
    let (changes, changed) = watch::channel(0);
    let mut console = Console {
        model,
        client,
        token_path: options.token_path.clone(),
        tasks: JoinSet::new(),
        watcher: None,
        changes,
    };
    console.run(&mut terminal, changed).await.map_err(TuiError::Terminal)?;
    Ok(0)
}

fn settings(options: &ConsoleOptions) -> Settings {
    let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|n| var(n)).unwrap_or_default();
    let charset = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|n| var(n)).unwrap_or_default().to_lowercase();
    let utf8 = charset.contains("utf-8") || charset.contains("utf8");
    let no_color = var("NO_COLOR").is_some();
    Settings {
        lang: options.lang.unwrap_or_else(|| Lang::of(&locale)),
        theme: Theme { ascii: options.ascii || no_color || !utf8, color: !no_color },
        read_only: options.read_only,
        start: options.start.clone(),
        key_path: options.key_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
    }
}

/// Milliseconds since the epoch.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The model with what carries out its effects.
struct Console {
    model: Model,
    client: Client,
    token_path: Option<PathBuf>,
    /// Every running effect; its result is the message it answers with.
    tasks: JoinSet<Msg>,
    /// The task that follows changes.
    watcher: Option<AbortHandle>,
    /// Last changed revision: a burst of changes is one value.
    changes: watch::Sender<u64>,
}

impl Console {
    async fn run(&mut self, terminal: &mut Terminal, mut changed: watch::Receiver<u64>) -> std::io::Result<()> {
        let mut keys = Keys::open()?;
        let mut resized = signal(SignalKind::window_change())?;
        let mut beat = tokio::time::interval(FRAME);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut drawn_at: Option<Instant> = None;
        let effects = start(&mut self.model);
        let mut leave = self.carry_out(effects, terminal)?;
        while !leave {
            let msg = tokio::select! {
                event = keys.next() => match event {
                    Some(Ok(event)) => terminal::msg(event),
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                _ = resized.recv() => {
                    let (columns, rows) = terminal.size()?;
                    Some(Msg::Resize(columns, rows))
                }
                Some(done) = self.tasks.join_next() => done.ok(),
                Ok(()) = changed.changed() => Some(Msg::Changed { revision: *changed.borrow_and_update() }),
                _ = beat.tick() => None,
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
            };
            leave = self.take(msg, terminal)?;
            // All that waits is taken before a frame is drawn.
            for _ in 0..BURST_MAX {
                let Some(event) = keys.waiting() else { break };
                leave |= self.take(terminal::msg(event?), terminal)?;
            }
            if self.model.dirty && drawn_at.is_none_or(|at| at.elapsed() >= FRAME) {
                terminal.draw(&self.model)?;
                self.model.dirty = false;
                drawn_at = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Hands a message to `update`, always with the time before it; returns whether to leave.
    fn take(&mut self, msg: Option<Msg>, terminal: &mut Terminal) -> std::io::Result<bool> {
        let mut effects = update(&mut self.model, Msg::Tick(now()));
        if let Some(msg) = msg {
            effects.extend(update(&mut self.model, msg));
        }
        self.carry_out(effects, terminal)
    }

    fn carry_out(&mut self, effects: Vec<Effect>, terminal: &mut Terminal) -> std::io::Result<bool> {
        for effect in effects {
            let client = self.client.clone();
            match effect {
                Effect::Fetch { query, ticket } => {
                    self.tasks.spawn(async move {
                        let result = api::fetch(&client, &query).await;
                        Msg::Fetched { query, ticket, result }
                    });
                }
                Effect::Write(write) => {
                    let token_path = self.token_path.clone();
                    self.tasks
                        .spawn(async move { Msg::Wrote(writes::write(&client, token_path.as_deref(), write).await) });
                }
                Effect::Watch { after } => self.follow(after),
                Effect::Redraw => {
                    terminal.forget()?;
                    self.model.dirty = true;
                }
                Effect::Quit => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Follows changes in one task; a new one replaces it, because it may be another account's.
    fn follow(&mut self, after: u64) {
        if let Some(old) = self.watcher.take() {
            old.abort();
        }
        let mut stream = self.client.watch(after, "");
        let changes = self.changes.clone();
        let task = async move {
            loop {
                match stream.next().await {
                    Ok(WatchUpdate::Changes { revision, .. } | WatchUpdate::Resync { revision }) => {
                        changes.send_replace(revision);
                    }
                    Ok(WatchUpdate::Connected { .. } | WatchUpdate::Heartbeat { .. } | WatchUpdate::Lost { .. }) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the stream of changes ended");
                        return Msg::WatchEnded;
                    }
                }
            }
        };
        self.watcher = Some(self.tasks.spawn(task));
    }
}
