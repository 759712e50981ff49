//! `init` and `show` on a home folder.

use std::process::Command;

use serde_json::Value;

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
