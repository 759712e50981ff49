//! The real console on a real pseudo-terminal against a replica in this process. Every wait is for what the screen
//! shows, with a generous limit; nothing sleeps.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::fake::{self, PASSWORD, Running};

/// Only a console that hangs takes this long.
const LIMIT: Duration = Duration::from_secs(90);

struct Seen {
    parser: vt100::Parser,
    raw: Vec<u8>,
    ended: bool,
}

/// A console on a PTY; killed when dropped.
struct Console {
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    folder: tempfile::TempDir,
}

/// Cargo builds a package's examples with its tests, beside the folder of the test programs.
fn probe() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let probe = test.parent().unwrap().parent().unwrap().join("examples/console_probe");
    assert!(probe.exists(), "{} is not built; run the tests with cargo test or cargo nextest", probe.display());
    probe
}

impl Console {
    fn start(server: &Running, columns: u16, rows: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, &server.ca_pem).unwrap();
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let mut command = CommandBuilder::new(probe());
        command.arg(&server.address);
        command.arg(&ca);
        command.arg(folder.path().join("token"));
        command.arg(":chains");
        command.env_clear();
        command.env("TERM", "xterm-256color");
        command.env("LANG", "en_US.UTF-8");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let parser = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 0);
        let seen = Arc::new((Mutex::new(Seen { parser, raw: Vec::new(), ended: false }), Condvar::new()));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut bytes = [0; 8_192];
            loop {
                let n = reader.read(&mut bytes).unwrap_or(0);
                let mut seen = shared.0.lock().unwrap();
                seen.parser.process(&bytes[..n]);
                seen.raw.extend_from_slice(&bytes[..n]);
                seen.ended = n == 0;
                shared.1.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        let writer = pair.master.take_writer().unwrap();
        Self { master: pair.master, writer, child, seen, folder }
    }

    fn send(&mut self, bytes: &str) {
        self.writer.write_all(bytes.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    /// Waits until the screen is as wished.
    fn wait(&self, what: &str, wished: impl Fn(&str) -> bool) {
        let end = Instant::now() + LIMIT;
        let mut seen = self.seen.0.lock().unwrap();
        loop {
            let screen = seen.parser.screen().contents();
            if wished(&screen) {
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !seen.ended, "never saw {what} (ended: {}):\n{screen}", seen.ended);
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    fn see(&self, text: &str) {
        self.wait(text, |screen| screen.contains(text));
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.seen.0.lock().unwrap().parser.screen_mut().set_size(rows.try_into().unwrap(), columns.try_into().unwrap());
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// Waits for the end; returns the exit code and all that was written.
    fn end(&mut self) -> (u32, String) {
        let end = Instant::now() + LIMIT;
        let mut seen = self.seen.0.lock().unwrap();
        while !seen.ended {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it does not end:\n{}", seen.parser.screen().contents());
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
        let raw = String::from_utf8_lossy(&seen.raw).into_owned();
        drop(seen);
        (self.child.wait().unwrap().exit_code(), raw)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.process_id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn log_in(&mut self) {
        self.see("Log in");
        self.send("root\t");
        self.see("root");
        self.send("wrong\r");
        self.see("account or password is wrong");
        // Ctrl-U empties the field.
        self.send("\u{15}");
        self.send(PASSWORD);
        self.send("\r");
        self.see("trade/supply-1");
        self.see("LIVE");
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn size(cols: u16, rows: u16) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

/// Returns whether the cursor's row is that of `name`.
fn cursor_on(screen: &str, name: &str) -> bool {
    screen.lines().any(|l| l.starts_with('▶') && l.contains(name))
}

#[test]
fn a_lost_leader_a_resize_and_back() {
    let server = fake::start();
    let mut console = Console::start(&server, 100, 30);
    console.log_in();
    let token = console.folder.path().join("token");
    assert_eq!(std::fs::read_to_string(&token).unwrap(), fake::TOKEN);

    // A change comes by the stream.
    console.wait("the stream", |_| server.fake.watches.load(std::sync::atomic::Ordering::SeqCst) > 0);
    server.fake.block();
    console.wait("height 101", |s| s.contains("101  ") || s.contains(" 101"));

    console.send("j");
    console.wait("the cursor on supply-1", |s| cursor_on(s, "supply-1"));
    server.fake.lose(true);
    console.see("STALE");
    console.see("Retrying in");
    console.see("writes disabled");
    console.wait("old data", |s| cursor_on(s, "supply-1"));

    console.resize(80, 24);
    console.wait("the smaller frame", |s| {
        let lines: Vec<_> = s.lines().collect();
        lines.len() == 24 && lines[23].contains("Enter open") && lines[0].contains("probe") && s.contains("STALE")
    });
    console.resize(70, 18);
    console.see("terminal too small (need 80x20)");
    console.resize(120, 40);
    console.wait("the larger frame", |s| {
        s.lines().nth(39).is_some_and(|l| l.contains("Enter open")) && cursor_on(s, "supply-1")
    });

    server.fake.lose(false);
    console.wait("live again", |s| s.contains("LIVE") && !s.contains("STALE") && cursor_on(s, "supply-1"));
    server.fake.block();
    console.wait("height 102", |s| s.contains(" 102"));
    console.send(":q\r");
    let (code, raw) = console.end();
    assert_eq!(code, 0);
    assert!(raw.contains("\u{1b}[?2026h") && raw.contains("\u{1b}[?2026l"), "frames are synchronized updates");
    assert!(!raw.contains("\u{1b}[6n"), "the terminal is never asked for its cursor");
    assert!(!raw.contains(PASSWORD), "the password is never drawn");
    assert_given_back(&raw);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let server = fake::start();
    let mut console = Console::start(&server, 80, 24);
    console.see("Log in");
    console.signal("-TERM");
    let (code, raw) = console.end();
    assert_eq!(code, 0);
    assert_given_back(&raw);
}

/// With the reader that had the fault, one of about forty rounds hung on a busy machine.
const ROUNDS: usize = 60;

/// A reader that waits edge-triggered forgets keys that come together with a resize, until the next key.
#[test]
fn keys_that_come_with_a_resize_are_not_kept_waiting() {
    let server = fake::start();
    let mut console = Console::start(&server, 80, 24);
    console.log_in();
    for round in 0..ROUNDS {
        let (columns, rows) = if round % 2 == 0 { (100, 30) } else { (80, 24) };
        console.resize(columns, rows);
        console.send(if round % 2 == 0 { ":nodes\r" } else { ":chains\r" });
        console.see(if round % 2 == 0 { "Nodes" } else { "Chains" });
    }
    console.send(":q\r");
    assert_eq!(console.end().0, 0);
}

fn assert_given_back(raw: &str) {
    let left = raw.rfind("\u{1b}[?1049l").expect("the alternate screen is left");
    assert!(raw.rfind("\u{1b}[?1049h").unwrap() < left);
    assert!(raw.rfind("\u{1b}[?25h").is_some_and(|shown| shown > left), "the cursor is shown again");
}
