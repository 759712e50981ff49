//! `hanse dev`: the README's first command, its summary, its second start, and every way it can be stopped.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::wait::until;

/// Longest story on a busy two-core machine.
const STORY_MAX: Duration = Duration::from_secs(240);

fn dev(keep: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hanse"));
    command.args(["dev", "--headless", "--keep"]).arg(keep).stdin(Stdio::null());
    command
}

fn once(keep: &Path) -> Output {
    dev(keep).args(["--once", "-o", "json"]).output().unwrap()
}

fn summary(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "exit {:?}:\n{words}", output.status.code());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Command lines of all processes that name `dir`.
pub(crate) fn processes_of(dir: &Path) -> Vec<String> {
    let needle = dir.canonicalize().unwrap().display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&needle) && !line.starts_with("/proc")).collect()
}

#[test]
fn story_is_told_twice_in_one_folder_and_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let first = summary(&once(dir.path()));
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());

    assert_eq!(first["proposal"]["outcome"], "PASSED");
    assert_eq!(first["proposal"]["tally"]["yes"], 3, "two thirds of four are certain with three");
    assert_eq!(first["proposal"]["artifact_hash"].as_str().unwrap().len(), 64);
    let replicas = first["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 3);
    assert!(replicas.iter().all(|r| r["digest"] == replicas[0]["digest"] && r["revision"] == replicas[0]["revision"]));
    assert_eq!(replicas.iter().filter(|r| r["role"] == "LEADER").count(), 1);
    let nodes = first["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 4);
    assert!(nodes.iter().all(|node| node["state"] == "RUNNING"), "{nodes:?}");
    let governance = &first["governance"];
    assert_eq!((&governance["threshold"], &governance["validators"]), (&3.into(), &4.into()), "{governance}");
    assert_eq!(governance["members"].as_array().unwrap().len(), 4, "{governance}");
    assert_eq!(first["invoice"]["total"], first["invoice"]["recomputed_total"]);
    assert!(first["transfer"]["block"].as_u64().unwrap() > 0);
    assert!(first["chain"]["height"].as_u64() >= first["transfer"]["block"].as_u64(), "{first}");
    assert!(first["seconds"]["provision"].as_f64().unwrap() > 0.0);

    let second = summary(&once(dir.path()));
    assert_eq!(second["proposal"]["id"], first["proposal"]["id"], "the second start continues");
    assert_eq!(second["contract"]["address"], first["contract"]["address"]);
    assert!(second["chain"]["height"].as_u64() > first["chain"]["height"].as_u64());
    assert!(second["revision"].as_u64() > first["revision"].as_u64());
    assert_ne!(second["transfer"]["hash"], first["transfer"]["hash"]);
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
}

/// Starts the story and returns when it says `words`.
fn started_until(keep: &Path, words: &str) -> Child {
    let mut child = dev(keep).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    for line in lines.by_ref() {
        told.push(line.unwrap());
        if told.last().unwrap().contains(words) {
            // Reading on keeps the pipe open and empty; it ends with the process.
            std::thread::spawn(move || lines.for_each(drop));
            return child;
        }
    }
    child.wait().unwrap();
    panic!("the story ended without `{words}`:\n{}", told.join("\n"));
}

fn interrupt(child: &mut Child) -> Option<i32> {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    until("the demo ends after Ctrl-C", STORY_MAX, || match child.try_wait().unwrap() {
        Some(status) => Ok(status.code()),
        None => Err("it runs".into()),
    })
}

#[test]
fn interrupted_while_provisioning_it_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = started_until(dir.path(), "four nodes are provisioned");
    assert_eq!(interrupt(&mut child), Some(130));
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
}

#[test]
fn interrupted_before_the_story_begins_it_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hanse"))
        .args(["dev", "--headless"])
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let made = || std::fs::read_dir(dir.path()).unwrap().next().is_some();
    until("its folder is there", STORY_MAX, || if made() { Ok(()) } else { Err("not yet".into()) });
    assert_eq!(interrupt(&mut child), Some(130));
    assert!(!made(), "its temporary folder is removed");
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
}

#[test]
fn a_second_run_in_the_same_folder_is_refused_and_one_beside_it_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = started_until(dir.path(), "elect a leader");
    let refused = once(dir.path());
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("in use by another `hanse dev`"), "{words}");

    let beside = tempfile::tempdir().unwrap();
    let mut second = started_until(beside.path(), "makes the administrator");
    assert_eq!(interrupt(&mut second), Some(130));
    assert_eq!(interrupt(&mut first), Some(130));
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
    assert_eq!(processes_of(beside.path()), Vec::<String>::new());
}

#[test]
fn a_busy_port_of_a_kept_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = started_until(dir.path(), "elect a leader");
    interrupt(&mut child);
    let layout: Value = serde_json::from_slice(&std::fs::read(dir.path().join("dev.json")).unwrap()).unwrap();
    let port = u16::try_from(layout["replicas"]["2"][0].as_u64().unwrap()).unwrap();
    // A connection of another test may have been given this number as its own for a moment.
    let held = until("the port is free to be held", Duration::from_secs(60), || {
        std::net::TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())
    });
    let refused = once(dir.path());
    drop(held);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains(&format!("port {port}")), "{words}");
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
}

#[test]
fn a_disk_without_room_is_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(dir.path()).status().unwrap();
    assert!(mounted.success(), "this test mounts a small file system, so it needs root");
    let refused = once(dir.path());
    let unmounted = Command::new("umount").arg(dir.path()).status().unwrap();
    assert!(unmounted.success());
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("are free on the disk"), "{words}");
}
