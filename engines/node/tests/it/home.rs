//! `init` and `show` on a home folder.

use std::process::Command;

use serde_json::Value;

use crate::net::Net;

fn run(args: &[&str], home: &std::path::Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hanse-node")).args(args).arg("--home").arg(home).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "one JSON line: {text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn init_is_idempotent_and_show_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("new");
    let first = run(&["init"], &home);
    assert_eq!(run(&["init"], &home), first);
    let shown = run(&["show"], &home);
    assert_eq!(shown["node_id"], first["node_id"]);
    assert_eq!(shown["public_key"], first["public_key"]);
    assert_eq!(first["node_id"].as_str().unwrap().len(), 40);
}

#[test]
fn an_export_begins_another_home_and_nothing_is_overwritten() {
    let mut net = Net::prepare(1, 1);
    net.nodes[0].start();
    net.nodes[0].wait_height(3);
    let file = net.nodes[0].home.join("snapshot");
    let export = |home: &std::path::Path| {
        Command::new(env!("CARGO_BIN_EXE_hanse-node"))
            .args(["export", "--home"])
            .arg(home)
            .arg("--out")
            .arg(&file)
            .output()
            .unwrap()
    };
    let busy = export(&net.nodes[0].home);
    assert!(String::from_utf8_lossy(&busy.stderr).contains("is another node running on this home?"), "{busy:?}");
    assert!(net.nodes[0].terminate(), "{}", net.nodes[0].log());
    let written = export(&net.nodes[0].home);
    assert!(written.status.success(), "{written:?}");
    let written: Value = serde_json::from_slice(&written.stdout).unwrap();
    assert!(written["height"].as_u64().unwrap() >= 3, "{written}");
    assert!(!export(&net.nodes[0].home).status.success(), "the file is there already");

    let home = net.nodes[1].home.clone();
    let from = file.to_str().unwrap();
    assert_eq!(run(&["import", "--from", from], &home), written);
    let again =
        Command::new(env!("CARGO_BIN_EXE_hanse-node")).args(["import", "--from", from, "--home"]).arg(&home).output();
    let again = String::from_utf8_lossy(&again.unwrap().stderr).into_owned();
    assert!(again.contains("it holds a chain already"), "{again}");
    // Both go on from there.
    net.start_all();
    let height = written["height"].as_u64().unwrap();
    net.nodes[0].wait_height(height + 1);
    net.nodes[1].wait_height(height);
    assert_eq!(net.nodes[1].hash_at(height), net.nodes[0].hash_at(height));
}
