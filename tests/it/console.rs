//! The real console on a real terminal against real replicas: live, stale when no leader is left, live again, resized.

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::cluster::Cluster;
use crate::wait::until;

/// Longest wait for a screen on a busy two-core machine, an election included.
const SCREEN_MAX: Duration = Duration::from_secs(90);
const PASSWORD: &str = "correct horse battery staple";

/// A console process on a terminal of its own, and what that terminal shows.
struct Console {
    child: Box<dyn portable_pty::Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn std::io::Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
    ended: mpsc::Receiver<()>,
}

impl Console {
    fn open(cluster: &Cluster, token: &str, start: &str) -> Self {
        let size = PtySize { rows: 30, cols: 100, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_hanse"));
        command.args(["console", start]);
        for (name, value) in cluster.environment(token) {
            command.env(name, value);
        }
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(30), cells(100), 0)));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (parser, (said, ended)) = (Arc::clone(&screen), mpsc::channel());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                parser.lock().unwrap().process(&bytes[..read]);
            }
            // Nobody may be waiting for it.
            said.send(()).ok();
        });
        let keys = pair.master.take_writer().unwrap();
        Self { child, master: pair.master, keys, screen, ended }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn shows(&self, what: &str, all: &[&str]) {
        until(what, SCREEN_MAX, || {
            let text = self.text();
            if all.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
        });
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn resize(&mut self, rows: u16, cols: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(cells(rows), cells(cols));
        self.master.resize(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

impl Drop for Console {
    fn drop(&mut self) {
        // It has ended by itself in a test that passed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn console_tells_the_truth_when_the_leader_is_lost_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), "");
    cluster.bootstrap(PASSWORD);

    let mut console = Console::open(&cluster, "admin", ":control-plane");
    console.shows("three replicas, live", &["LIVE", "leader", "follower", "admin"]);
    let leader = cluster.leader("admin");
    let other = if leader == 1 { 2 } else { 1 };
    cluster.kill(leader);
    cluster.kill(other);
    console.shows("no majority is left", &["STALE"]);
    assert!(console.text().contains("follower"), "what was known stays on the screen:\n{}", console.text());
    cluster.start_replica(other);
    console.shows("two of three elect a leader", &["LIVE"]);

    console.resize(24, 80);
    console.shows("the smaller screen is drawn whole", &["LIVE", "leader"]);
    console.resize(15, 60);
    console.shows("too small is said", &["terminal too small"]);
    console.resize(30, 100);
    console.press(":q\r");
    assert!(console.ended.recv_timeout(SCREEN_MAX).is_ok(), ":q does not end it:\n{}", console.text());
    assert!(console.child.wait().unwrap().success());
}
