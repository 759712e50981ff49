//! Three replicas of the real binary, set up as docs/operations.md tells, and the CLI to talk to them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::wait::until;

/// How long a cluster may take to elect a leader on a busy machine.
const ELECTION_MAX: Duration = Duration::from_secs(60);

/// A running cluster; everything it started ends when it is dropped.
pub(crate) struct Cluster {
    pub(crate) dir: PathBuf,
    replicas: BTreeMap<u64, Option<Child>>,
    endpoints: String,
}

impl Cluster {
    /// Makes certificates and configurations with the CLI and starts three replicas.
    pub(crate) fn start(dir: &Path, extra_config: &str) -> Self {
        let mut cluster = Self::prepare(dir, "test", extra_config);
        for id in 1..=3 {
            cluster.start_replica(id);
        }
        cluster
    }

    /// Makes certificates and configurations of a cluster of that name; starts nothing.
    pub(crate) fn prepare(dir: &Path, name: &str, extra_config: &str) -> Self {
        let held: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|l| l.local_addr().unwrap().port()).collect();
        drop(held);
        let ca = dir.join("ca");
        hanse(&["ca", "init", "--cluster", name, "--dir", ca.to_str().unwrap()]);
        let list: String = (1..=3)
            .map(|id| {
                format!(
                    "[[replicas]]\nid = {id}\npeer = \"127.0.0.1:{}\"\napi = \"127.0.0.1:{}\"\n",
                    ports[id * 2 - 2],
                    ports[id * 2 - 1]
                )
            })
            .collect();
        for id in 1..=3 {
            let home = dir.join(format!("n{id}"));
            std::fs::create_dir_all(&home).unwrap();
            let out = home.join("tls");
            let id_text = id.to_string();
            hanse(&[
                "ca",
                "issue",
                "--cluster",
                name,
                "--dir",
                ca.to_str().unwrap(),
                "--replica",
                &id_text,
                "--host",
                "127.0.0.1",
                "--out",
                out.to_str().unwrap(),
            ]);
            let config = format!(
                "version = 1\ncluster = \"{name}\"\nreplica = {id}\ndata = \"data\"\ntls = \"tls\"\npeer_listen = \"127.0.0.1:{}\"\n\
                 api_listen = \"127.0.0.1:{}\"\n{extra_config}\n{list}\n[timing]\nmeter_ms = 2000\nheartbeat_ms = 100\nelection_min_ms = 600\nelection_max_ms = 1200\n",
                ports[id * 2 - 2],
                ports[id * 2 - 1]
            );
            std::fs::write(home.join("hanse.toml"), config).unwrap();
        }
        let endpoints = (1..=3).map(|id| format!("127.0.0.1:{}", ports[id * 2 - 1])).collect::<Vec<_>>().join(",");
        Self { dir: dir.to_path_buf(), replicas: BTreeMap::new(), endpoints }
    }

    /// Adds a line to the periods of every replica, before it is started.
    pub(crate) fn add_timing(&self, line: &str) {
        for id in 1..=3 {
            let path = self.dir.join(format!("n{id}/hanse.toml"));
            let mut file = File::options().append(true).open(path).unwrap();
            writeln!(file, "{line}").unwrap();
        }
    }

    /// Starts replica `id`, its output appended to `n<id>/replica.log`.
    pub(crate) fn start_replica(&mut self, id: u64) {
        let log = self.dir.join(format!("n{id}/replica.log"));
        self.start_replica_of(id, Path::new(env!("CARGO_BIN_EXE_hanse")), &log);
    }

    /// The same with its output appended to `log`.
    pub(crate) fn start_replica_with_log(&mut self, id: u64, log: &Path) {
        self.start_replica_of(id, Path::new(env!("CARGO_BIN_EXE_hanse")), log);
    }

    /// The same with another program.
    pub(crate) fn start_replica_with(&mut self, id: u64, program: &Path) {
        let log = self.dir.join(format!("n{id}/replica.log"));
        self.start_replica_of(id, program, &log);
    }

    fn start_replica_of(&mut self, id: u64, program: &Path, log: &Path) {
        let home = self.dir.join(format!("n{id}"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(program)
            .args(["server", "--die-with-parent", "--config"])
            .arg(home.join("hanse.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.replicas.insert(id, Some(child));
    }

    /// Kills replica `id` with SIGKILL.
    pub(crate) fn kill(&mut self, id: u64) {
        let mut child = self.replicas.get_mut(&id).unwrap().take().expect("the replica runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks replica `id` to stop and waits until it has.
    pub(crate) fn terminate(&mut self, id: u64) {
        let mut child = self.replicas.get_mut(&id).unwrap().take().expect("the replica runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Says whether the process of replica `id` still runs.
    pub(crate) fn runs(&mut self, id: u64) -> bool {
        let child = self.replicas.get_mut(&id).and_then(Option::as_mut);
        child.is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    fn log(&self, id: u64) -> PathBuf {
        self.dir.join(format!("n{id}/replica.log"))
    }

    /// All that replica `id` ever wrote.
    pub(crate) fn words(&self, id: u64) -> String {
        std::fs::read_to_string(self.log(id)).unwrap_or_default()
    }

    /// Waits until replica `id` ends by itself; gives its exit code and all it ever wrote.
    pub(crate) fn ended(&mut self, id: u64, limit: Duration) -> (Option<i32>, String) {
        let mut child = self.replicas.get_mut(&id).unwrap().take().expect("the replica runs");
        let log = self.log(id);
        let words = || std::fs::read_to_string(&log).unwrap_or_default();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("the replica ends by itself", limit, || child.try_wait().unwrap().ok_or_else(words))
        }));
        match ended {
            Ok(status) => (status.code(), words()),
            Err(cause) => {
                // Nothing is left behind, also when the test fails here.
                drop(child.kill());
                drop(child.wait());
                std::panic::resume_unwind(cause)
            }
        }
    }

    /// Runs the CLI against the cluster and returns what it printed as JSON.
    ///
    /// # Errors
    /// Exit code and standard error of the command.
    pub(crate) fn ask(&self, token: &str, args: &[&str]) -> Result<Value, (i32, String)> {
        self.ask_with(token, args, &[])
    }

    /// The same with environment variables.
    pub(crate) fn ask_with(&self, token: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Value, (i32, String)> {
        let output = Command::new(env!("CARGO_BIN_EXE_hanse"))
            .args(args)
            .args(["-o", "json"])
            .envs(self.environment(token))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err((output.status.code().unwrap_or(-1), words));
        }
        let text = String::from_utf8(output.stdout).unwrap();
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Like [`Cluster::ask`]; panics with the command's words if it fails.
    pub(crate) fn tell(&self, token: &str, args: &[&str]) -> Value {
        self.ask(token, args).unwrap_or_else(|(code, words)| panic!("hanse {args:?}: exit {code}: {words}"))
    }

    /// Waits for a leader and returns its id.
    pub(crate) fn leader(&self, token: &str) -> u64 {
        until("a leader", ELECTION_MAX, || {
            let status = self.ask(token, &["cluster", "status"]).map_err(|(_, words)| words)?;
            let leader = status["leader_id"].as_str().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
            if leader > 0 && self.replicas.get(&leader).is_some_and(Option::is_some) {
                Ok(leader)
            } else {
                Err(status.to_string())
            }
        })
    }

    /// Waits until the log knows `count` replicas with the names of their folders, as the leader writes it down by itself.
    pub(crate) fn known_to_the_log(&self, token: &str, count: usize) {
        until("the log knows every replica", ELECTION_MAX, || {
            let list = self.ask(token, &["replica", "list"]).map_err(|(_, words)| words)?;
            let rows = list["replicas"].as_array().ok_or("no replicas")?;
            let known = rows.iter().filter(|row| row["incarnation"].as_str().is_some_and(|it| !it.is_empty())).count();
            if known == count { Ok(()) } else { Err(list.to_string()) }
        });
    }

    /// Waits for the one-time setup code that one of the replicas left in its data folder.
    pub(crate) fn setup_code(&self) -> String {
        until("a setup code", ELECTION_MAX, || {
            (1..=3)
                .find_map(|id| std::fs::read_to_string(self.dir.join(format!("n{id}/data/setup-code"))).ok())
                .map(|code| code.trim().to_string())
                .ok_or_else(|| "no file".to_string())
        })
    }
}

impl Cluster {
    /// Makes the first administrator, `admin`, and logs it in.
    pub(crate) fn bootstrap(&self, password: &str) {
        let code = self.dir.join("code").display().to_string();
        std::fs::write(&code, self.setup_code()).unwrap();
        let password = [("HANSE_PASSWORD", password)];
        let args = ["cluster", "bootstrap", "admin", "--setup-code-file", &code];
        until("bootstrap", ELECTION_MAX, || self.ask_with("admin", &args, &password).map_err(|(_, words)| words));
        self.ask_with("admin", &["login", "admin"], &password).unwrap();
    }

    /// What a client of this cluster needs, with the session kept under the name `token`.
    pub(crate) fn environment(&self, token: &str) -> [(&'static str, String); 3] {
        [
            ("HANSE_ENDPOINT", self.endpoints.clone()),
            ("HANSE_CA", self.dir.join("ca/api-ca.pem").display().to_string()),
            ("HANSE_TOKEN_FILE", self.dir.join(format!("{token}.token")).display().to_string()),
        ]
    }

    /// Kills every replica that runs.
    pub(crate) fn stop(&mut self) {
        for child in self.replicas.values_mut().flatten() {
            // Nothing can be done about a failure here, and the next test does not depend on it.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs the binary without a cluster; panics with its words if it fails.
pub(crate) fn hanse(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hanse")).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "hanse {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
