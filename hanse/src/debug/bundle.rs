//! The support bundle: one JSON file with what a helper asks for first, and nothing that gives access.
//!
//! What is gathered holds no secret by itself: the configuration names files, findings name paths. Log lines and messages
//! may quote anything, so two more things are done: a line that speaks of a secret loses what follows the word, and the
//! finished text is searched for every secret that this machine can know (keys, token, setup code, environment), each
//! replaced. What could not be gathered stands in the bundle as the reason why.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hanse_server::config::Config;
use serde_json::{Value, json};

use super::Shown;
use crate::cli::{Global, status_of};
use crate::doctor;
use crate::output::Table;

/// Lines of the replica's log that are taken.
const LINES_MAX: usize = 500;
/// Bytes of the log's end in which they are looked for.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// Longest answer of the metrics.
const METRICS_BYTES_MAX: u64 = 4 << 20;
/// Longest wait for the metrics.
const METRICS_WAIT: Duration = Duration::from_secs(5);
/// Longest file that is taken for a secret.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Shorter lines of a secret's file are no secret: they would be found everywhere.
const SECRET_CHARS_MIN: usize = 8;
/// What stands in the place of a secret.
const REMOVED: &str = "[removed]";
/// Words after which the rest of a line is not shown.
const TELLING: [&str; 8] =
    ["password", "passwd", "secret", "token", "bearer ", "setup code", "setup-code", "private key"];

/// What `hanse debug bundle` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct BundleArgs {
    /// File to make; an existing one is not overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Configuration of the replica on this machine.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File that holds the replica's standard error; its last lines are taken.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Gathers and writes.
pub(super) async fn run(args: BundleArgs, global: &Global) -> Result<Shown> {
    let config = args.config.as_deref().map(Config::load);
    let findings = doctor::findings(args.config.as_deref(), global).await;
    let status = match status_of(global).await {
        Ok(status) => hanse_client::json::response::<hanse_client::pb::GetStatusRequest>(&status),
        Err(why) => missing(why),
    };
    let known = config.as_ref().and_then(|config| config.as_ref().ok());
    let metrics = match known.and_then(|config| config.metrics_listen) {
        Some(address) => fetch(address).map_or_else(|error| missing(format!("{error:#}")), |text| lines_of(&text)),
        None => missing("no `metrics_listen` is configured, or no --config was given"),
    };
    let log = match &args.log {
        Some(path) => tail(path).map_or_else(|error| missing(format!("{error:#}")), |lines| json!(lines)),
        None => missing("no --log was given"),
    };
    let shown_config = match &config {
        Some(Ok(config)) => serde_json::to_value(config).context("the configuration as JSON")?,
        Some(Err(_)) => missing("it is not sound; see the findings"),
        None => missing("no --config was given"),
    };
    let bundle = json!({
        "bundle_version": 1,
        "made_at_ms": hanse_server::context::clock().0,
        "versions": versions(),
        "machine": machine(),
        "config": shown_config,
        "data_folder": known.map_or_else(|| missing("no sound configuration"), |config| listing(&config.data)),
        "findings": doctor::to_json(&findings)["findings"],
        "status": status,
        "metrics": metrics,
        "log": log,
    });
    let text = without_secrets(&format!("{:#}\n", mapped(bundle)), &secrets(known, global));
    write(&args.out, &text)?;
    let json = json!({ "file": args.out.display().to_string(), "bytes": text.len() });
    let row = vec![args.out.display().to_string(), format!("{} bytes", text.len())];
    let head = "read it before you send it: it names machines, addresses and tenants\n".to_owned();
    let names = format!("{}\n", args.out.display());
    Ok(Shown { json, head, table: Table { headings: Vec::new(), rows: vec![row] }, names })
}

fn missing(why: impl Into<String>) -> Value {
    json!({ "missing": why.into() })
}

fn lines_of(text: &str) -> Value {
    json!(text.lines().collect::<Vec<_>>())
}

fn versions() -> Value {
    json!({
        "hanse": env!("CARGO_PKG_VERSION"),
        "kernel": one_line("/proc/sys/kernel/osrelease"),
        "system": fs::read_to_string("/etc/os-release").ok().and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"').to_owned())
        }),
    })
}

fn machine() -> Value {
    let memory = fs::read_to_string("/proc/meminfo").ok();
    json!({
        "processors": std::thread::available_parallelism().map(std::num::NonZero::get).ok(),
        "memory": memory.map(|text| lines_of(&text.lines().take(3).collect::<Vec<_>>().join("\n"))),
        "load": one_line("/proc/loadavg"),
        "uptime_s": one_line("/proc/uptime"),
    })
}

fn one_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Names and lengths of what lies in the replica's folder; nothing is opened.
fn listing(data: &Path) -> Value {
    let mut files = Vec::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if let Ok(meta) = entry.metadata() {
                files.push(json!({ "file": entry.path().display().to_string(), "bytes": meta.len() }));
            }
        }
    }
    files.sort_by_key(|file| file["file"].as_str().unwrap_or_default().to_owned());
    json!(files)
}

/// Asks a replica of this machine for its metrics.
fn fetch(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, METRICS_WAIT).with_context(|| format!("ask {address}"))?;
    stream.set_read_timeout(Some(METRICS_WAIT))?;
    stream.set_write_timeout(Some(METRICS_WAIT))?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.take(METRICS_BYTES_MAX).read_to_string(&mut text).context("read the metrics")?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer that is not HTTP")?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "the metrics answered {}", head.lines().next().unwrap_or(""));
    Ok(body.to_owned())
}

/// Gives the last lines of a log.
fn tail(path: &Path) -> Result<Vec<String>> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is cut in the middle where the file is longer.
    let mut lines: Vec<&str> = text.lines().skip(usize::from(length > LOG_BYTES_MAX)).collect();
    let from = lines.len().saturating_sub(LINES_MAX);
    Ok(lines.split_off(from).into_iter().map(str::to_owned).collect())
}

/// Applies [`telling`] to every text.
fn mapped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(telling(&text)),
        Value::Array(items) => items.into_iter().map(mapped).collect(),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(key, value)| (key, mapped(value))).collect()),
        other => other,
    }
}

/// Cuts what follows a word that announces a secret with `=`, `:`, a quote or a space.
fn telling(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let ends = TELLING.iter().filter_map(|word| {
        let end = lower.find(word)? + word.len();
        // A word that ends the text announces nothing.
        (end < text.len() && text.is_char_boundary(end)).then_some(end)
    });
    match ends.min() {
        Some(end) => format!("{} {REMOVED}", &text[..end]),
        None => text.to_owned(),
    }
}

/// Every line of every file that holds a secret, and what the environment holds.
fn secrets(config: Option<&Config>, global: &Global) -> BTreeSet<String> {
    let (mut files, mut clouds) = (Vec::new(), Vec::new());
    if let Some(config) = config {
        let folder = config.cloud_credentials.iter().filter_map(|folder| fs::read_dir(folder).ok());
        clouds.extend(folder.flatten().flatten().map(|entry| entry.path()));
        files.extend(["peer.key", "api.key", hanse_server::ca::AUDIT_KEY].map(|name| config.tls.join(name)));
        files.extend(config.ssh_identity.clone());
        files.push(config.data.join("setup-code"));
    }
    files.extend(global.token_path().ok());
    let mut found = BTreeSet::new();
    let mut keep = |text: &str| {
        for line in text.lines().map(str::trim) {
            if line.len() >= SECRET_CHARS_MIN && !line.starts_with("-----") {
                found.insert(line.to_owned());
            }
        }
    };
    for path in files {
        if fs::metadata(&path).is_ok_and(|meta| meta.len() <= SECRET_BYTES_MAX)
            && let Ok(text) = fs::read_to_string(&path)
        {
            keep(&text);
        }
    }
    // `key = "value"`: the value is the secret, however it is quoted elsewhere.
    for path in clouds {
        if fs::metadata(&path).is_ok_and(|meta| meta.len() <= SECRET_BYTES_MAX)
            && let Ok(text) = fs::read_to_string(&path)
        {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .for_each(|(_, value)| keep(value.trim().trim_matches(['"', '\''])));
        }
    }
    for name in ["HANSE_PASSWORD", "HANSE_SETUP_CODE", "HANSE_TOKEN"] {
        if let Ok(text) = std::env::var(name) {
            keep(&text);
        }
    }
    found
}

fn without_secrets(text: &str, secrets: &BTreeSet<String>) -> String {
    // Longest first: a secret may begin with another.
    let mut secrets: Vec<&String> = secrets.iter().collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text.to_owned(), |text, secret| {
        let quoted = Value::String(secret.clone()).to_string();
        text.replace(quoted.trim_matches('"'), REMOVED)
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("make {}", path.display()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_telling_word_is_cut_and_known_secrets_go_wherever_they_are() {
        assert_eq!(telling("level=info password=abc rest"), "level=info password [removed]");
        assert_eq!(telling("Authorization: Bearer abc.def"), "Authorization: Bearer  [removed]");
        assert_eq!(telling("nothing of that sort"), "nothing of that sort");
        let secrets = BTreeSet::from(["abcdefgh".to_owned(), "abcdefgh\"ij".to_owned()]);
        let text = Value::String("x abcdefgh\"ij y abcdefgh".to_owned()).to_string();
        assert_eq!(without_secrets(&text, &secrets), "\"x [removed] y [removed]\"");
    }
}
