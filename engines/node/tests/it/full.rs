//! A validator whose disk is full: a real file system without a free block. It says why it votes no more, answers what it
//! is asked, the others go on, and when there is room it goes on by itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::net::{Net, Node};
use crate::operate::ready;

/// A small file system; mounting it needs root. Unmounted when dropped, when the node on it is gone.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"]).arg(at).status().unwrap();
        assert!(mounted.success(), "cannot mount a tmpfs; this test needs root");
        Self(at.to_owned())
    }

    /// Takes all room that is left, to the last page.
    fn fill(&self) {
        let ballast = File::create(self.0.join("ballast")).unwrap();
        let mut end = 0u64;
        for step in [1 << 20, 1 << 12] {
            while ballast.write_all_at(&vec![1; step], end).is_ok() {
                end += step as u64;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn halted(node: &Node) -> Option<String> {
    node.result("consensus_status", json!([]))["halted"].as_str().map(str::to_owned)
}

fn signed(node: &Node, height: u64, by: &Node) -> bool {
    let certificate = node.result("consensus_certificate", json!([height]));
    certificate["signatures"].to_string().contains(&by.key.node_id().to_string())
}

#[test]
fn a_full_disk_stops_the_votes_not_the_answers_and_room_brings_them_back() {
    let mut net = Net::prepare(4, 0);
    let disk = SmallDisk::mount(&net.nodes[3].home.join("data"));
    net.start_all();
    for node in &net.nodes {
        node.wait_height(4);
    }
    disk.fill();
    net.nodes[3].wait("the halt", |node| halted(node).is_some_and(|reason| reason.starts_with("disk full")));
    assert!(net.nodes[3].log().contains("votes no more until there is room"));
    let stopped = net.nodes[3].height().unwrap();
    // What was under way may still come to its end, nothing after it.
    let goal = net.nodes[0].height().unwrap() + 8;
    net.nodes[0].wait_height(goal);
    for height in stopped + 3..=goal {
        assert!(!signed(&net.nodes[0], height, &net.nodes[3]), "a node without room does not vote");
    }
    let full = &net.nodes[3];
    assert!(full.height().unwrap() <= stopped + 1);
    assert_eq!(full.hash_at(2), net.nodes[0].hash_at(2), "it answers what it is asked");
    let (status, body) = ready(full).unwrap();
    assert!(status == 503 && body["reasons"].to_string().contains("disk full"), "{body}");

    std::fs::remove_file(full.home.join("data/ballast")).unwrap();
    full.wait("the end of the halt", |node| halted(node).is_none());
    full.wait_height(goal);
    assert_eq!(full.hash_at(goal), net.nodes[0].hash_at(goal));
    net.nodes[0].wait("its vote", |node| node.height().is_some_and(|h| h > goal && signed(node, h, full)));
    assert_eq!(full.result("consensus_evidence", json!([])), json!([]));
    // Started on a full disk it answers and does not vote, ends when told to, and goes on when there is room.
    net.nodes[3].kill();
    disk.fill();
    net.nodes[3].start();
    net.nodes[3].wait("its first answer", |node| node.height().is_some());
    net.nodes[3].wait("the halt", |node| halted(node).is_some_and(|reason| reason.starts_with("disk full")));
    assert_eq!(net.nodes[3].hash_at(goal), net.nodes[0].hash_at(goal));
    assert!(net.nodes[3].terminate(), "{}", net.nodes[3].log());
    std::fs::remove_file(net.nodes[3].home.join("data/ballast")).unwrap();
    net.nodes[3].start();
    let goal = net.nodes[0].height().unwrap() + 2;
    net.nodes[3].wait_height(goal);
    for node in &mut net.nodes {
        node.kill();
    }
}
