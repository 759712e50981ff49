//! libvirt's own client, executed on the hypervisor: words in, text or XML out, and what it refuses in our classes.
//!
//! XML and images go over its standard input. Many questions are one call: virsh takes several commands, and says a mark between.
//! A question that was not answered may be asked again; a change whose end was not seen is `Unknown`.

use std::time::Duration;

use hanse_adapters_core::{AdapterError, Result};
use hanse_adapters_ssh::{Said, SshCommands};

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Questions of one call.
const QUESTIONS_MAX: usize = 40;
/// Stands between the answers of one call.
const MARK: &str = "@hanse@";
/// What sh(1) ends with if there is no such program.
const NO_PROGRAM: u32 = 127;

/// What virsh says of a thing that is not there.
const MISSING: &[&str] = &["not found", "failed to get domain", "no domain with matching"];
/// Of one that is there already.
const THERE: &[&str] = &["exists already", "already exists", "already active"];
/// Of a machine that does not run.
const IDLE: &[&str] = &["domain is not running"];
/// Of what is used.
const IN_USE: &[&str] = &["is in use", "in use by", "still in use"];
/// What a person must allow or make room for.
const DENIED: &[&str] = &[
    "authentication failed",
    "authentication unavailable",
    "ermission denied",
    "access denied",
    "forbidden",
    "No space left",
    "annot allocate memory",
    "annot set up guest memory",
];
/// What ends by itself, before anything was done.
const BUSY: &[&str] = &["ailed to connect", "state change lock", "unable to connect to server"];
/// Of a daemon that ended in between.
const LOST: &[&str] = &[
    "nd of file while reading",
    "annot recv data",
    "annot write data",
    "client socket is closed",
    "keepalive timeout",
];

/// What a refusal is about, as far as the caller can go on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Missing,
    There,
    Idle,
    InUse,
    Other,
}

/// What was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: Why,
    pub(crate) error: AdapterError,
}

impl From<Refused> for AdapterError {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl From<AdapterError> for Refused {
    fn from(error: AdapterError) -> Self {
        Self { why: Why::Other, error }
    }
}

/// A hypervisor's virsh.
pub(crate) struct Virsh {
    ssh: SshCommands,
    /// What it is connected to there.
    uri: String,
}

impl Virsh {
    pub(crate) fn new(ssh: SshCommands, uri: String) -> Self {
        Self { ssh, uri }
    }

    /// The hypervisor, for messages.
    pub(crate) fn name(&self) -> &str {
        self.ssh.name()
    }

    /// Asks one thing.
    pub(crate) async fn ask(&self, words: &[&str]) -> std::result::Result<String, Refused> {
        match self.run(words, None).await {
            Ok(said) => self.read(&said, false),
            Err(error) => Err(unchanged(error).into()),
        }
    }

    /// Changes one thing; `input` is what `/dev/stdin` among the words is.
    pub(crate) async fn change(&self, words: &[&str], input: Option<&[u8]>) -> std::result::Result<String, Refused> {
        tracing::debug!(hypervisor = self.name(), command = words.first(), "a change");
        self.read(&self.run(words, input).await?, true)
    }

    /// Asks many things; the answer about what is not there is empty.
    pub(crate) async fn ask_each(&self, questions: &[Vec<&str>]) -> Result<Vec<String>> {
        let mut answers = Vec::new();
        for some in questions.chunks(QUESTIONS_MAX) {
            let commands: String = some.iter().map(|words| format!("{}; echo {MARK}; ", line(words))).collect();
            let said = self.run(&[commands.trim_end_matches("; ")], None).await.map_err(unchanged)?;
            let output = text(&said);
            let parts: Vec<&str> = output.split(MARK).collect();
            let faults: Vec<&str> = reasons(&said.error).filter(|line| !has(line, MISSING)).collect();
            if parts.len() != some.len() + 1 || !faults.is_empty() {
                let error = if faults.is_empty() { said.error.clone() } else { faults.join("\n") };
                return Err(self.refused(&Said { error, ..said }, false).into());
            }
            answers.extend(parts.into_iter().take(some.len()).map(|part| part.trim().to_owned()));
        }
        Ok(answers)
    }

    async fn run(&self, words: &[&str], input: Option<&[u8]>) -> Result<Said> {
        // What it says is read, so it says it in one language.
        let client = ["env", "LC_ALL=C", "virsh", "--quiet", "--connect", &self.uri];
        self.ssh.run(&[&client, words].concat(), input, LIMIT).await
    }

    fn read(&self, said: &Said, changes: bool) -> std::result::Result<String, Refused> {
        if said.code == Some(0) { Ok(text(said)) } else { Err(self.refused(said, changes)) }
    }

    fn refused(&self, said: &Said, changes: bool) -> Refused {
        let subject = self.name().to_owned();
        let why = [(MISSING, Why::Missing), (THERE, Why::There), (IDLE, Why::Idle), (IN_USE, Why::InUse)];
        let why = why.into_iter().find(|(words, _)| has(&said.error, words)).map_or(Why::Other, |(_, why)| why);
        let mut reason = reasons(&said.error).collect::<Vec<_>>().join("; ");
        if reason.is_empty() {
            reason = format!("it ended with {:?} and said: {}", said.code, said.error.trim());
        }
        let error = if said.code == Some(NO_PROGRAM) {
            let reason =
                "has no virsh for this account: install libvirt's client there (Debian: libvirt-clients)".into();
            AdapterError::Invalid { subject, reason }
        } else if said.code.is_none() || has(&said.error, LOST) {
            let reason = format!("the hypervisor's daemon or client ended in between: {reason}");
            if changes {
                AdapterError::Unknown { subject, reason }
            } else {
                AdapterError::Transient { subject, reason }
            }
        } else if has(&said.error, DENIED) {
            AdapterError::Denied { subject, reason: format!("{reason}: give the account the right or make room there") }
        } else if has(&said.error, BUSY) || why == Why::InUse {
            AdapterError::Transient { subject, reason }
        } else {
            AdapterError::Invalid { subject, reason: format!("libvirt refuses: {reason}") }
        };
        Refused { why, error }
    }
}

/// A question changes nothing, whether its answer was seen or not.
fn unchanged(error: AdapterError) -> AdapterError {
    match error {
        AdapterError::Unknown { subject, reason } => AdapterError::Transient { subject, reason },
        error => error,
    }
}

fn text(said: &Said) -> String {
    String::from_utf8_lossy(&said.output).into_owned()
}

fn has(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// The lines that say what is wrong; others may have been said by the account's shell, or by sshd.
fn reasons(error: &str) -> impl Iterator<Item = &str> {
    error.lines().filter_map(|line| line.strip_prefix("error: ")).map(str::trim).filter(|line| !line.is_empty())
}

/// A command line of virsh's own, whose quotes are those of a shell.
fn line(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}
