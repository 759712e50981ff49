//! The audit trail seen from outside: a witness follows it over changes of leader and notices when the platform is set back; an
//! export is checked by two verifiers that share no code, and 500 tamperings with it are found by both.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hanse_state::audit::AuditRecord;
use hanse_trail::{Checkpoint, Head, Verifier, VerifierKey, Witness};
use serde_json::Value;

use crate::backup::{bootstrapped, set_plan};
use crate::cluster::Cluster;
use crate::wait::until;

const LONG: Duration = Duration::from_secs(120);
/// Tamperings of one export, each by other dice.
const TAMPERINGS: u64 = 500;
/// Ways to tamper.
const KINDS: u64 = 12;

/// A cluster, and beside it somebody who keeps files of his own.
struct Outside {
    cluster: Cluster,
    dir: PathBuf,
}

impl Outside {
    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn key(&self) -> String {
        self.path("cluster/ca/audit.vkey")
    }

    fn watch(&self) -> Result<Value, (i32, String)> {
        self.cluster.ask("admin", &["audit", "verify", "--witness", &self.path("witness"), "--key", &self.key()])
    }

    /// Sets prices until there are so many more; whoever leads.
    fn work(&self, name: &str, count: usize) {
        for number in 0..count {
            until("a price is set", LONG, || {
                set_plan(&self.cluster, &format!("{name}-{number}")).map_err(|(_, words)| words)
            });
        }
    }

    /// Runs the CLI and keeps what it prints, byte for byte.
    fn keep(&self, name: &str, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_hanse"))
            .args(args)
            .envs(self.cluster.environment("admin"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(self.dir.join(name), &output.stdout).unwrap();
        self.path(name)
    }
}

fn begin(dir: &Path) -> Outside {
    let cluster_dir = dir.join("cluster");
    std::fs::create_dir(&cluster_dir).unwrap();
    Outside { cluster: bootstrapped(&cluster_dir), dir: dir.to_path_buf() }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_witness_notices_that_the_platform_was_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut outside = begin(dir.path());
    let first = outside.watch().unwrap();
    assert_eq!((&first["ok"], &first["checkpoints"]), (&Value::Bool(true), &Value::from(1)), "{first}");
    let home = |id: u64, name: &str| dir.path().join(format!("cluster/n{id}/{name}"));
    (1..=3).for_each(|id| outside.cluster.terminate(id));
    (1..=3).for_each(|id| copy_folder(&home(id, "data"), &home(id, "before")));
    (1..=3).for_each(|id| outside.cluster.start_replica(id));
    outside.work("kept", 40);
    let grown = outside.watch().unwrap();
    assert!(grown["grown_by"].as_u64() >= Some(40) && grown["checkpoints"] == 2, "{grown}");
    // The next leader's tree is its own, made from its own disk; the key is the same.
    let leader = outside.cluster.leader("admin");
    outside.cluster.kill(leader);
    outside.work("by-another", 3);
    let after = outside.watch().unwrap();
    assert!(after["grown_by"].as_u64() >= Some(3), "{after}");
    let (seen, file) = (after["tree_size"].as_u64().unwrap(), std::fs::read(dir.path().join("witness")).unwrap());

    outside.cluster.stop();
    for id in 1..=3 {
        std::fs::remove_dir_all(home(id, "data")).unwrap();
        std::fs::rename(home(id, "before"), home(id, "data")).unwrap();
        outside.cluster.start_replica(id);
    }
    // The chain alone is in order: no replica can tell.
    until("a leader", LONG, || outside.cluster.ask("admin", &["audit", "verify"]).map_err(|(_, words)| words));
    let (code, words) = outside.watch().unwrap_err();
    assert!(code == 1 && words.contains("the end was cut off") && words.contains(&seen.to_string()), "{code}: {words}");
    for part in 0.. {
        let head = outside.cluster.tell("admin", &["audit", "head"]);
        if head["count"].as_u64().unwrap() > seen {
            break;
        }
        outside.work(&format!("another-past-{part}"), 10);
    }
    let (code, words) = outside.watch().unwrap_err();
    assert!(code == 1 && words.contains("changed or written anew"), "{code}: {words}");
    assert_eq!(std::fs::read(dir.path().join("witness")).unwrap(), file, "nothing was added");
    // The words of the API for the one who asks it himself.
    let (code, words) = outside.cluster.ask("admin", &["audit", "prove", "--since", "1000000"]).unwrap_err();
    assert!(code == 5 && words.contains("TRAIL_SHORTER"), "{code}: {words}");
}

#[test]
fn two_verifiers_agree_on_an_export_and_find_every_tampering() {
    let dir = tempfile::tempdir().unwrap();
    let mut outside = begin(dir.path());
    outside.work("early", 10);
    outside.watch().unwrap();
    let earlier = outside.keep("earlier", &["audit", "checkpoint"]);
    outside.work("late", 20);
    // A retry is answered again and leaves no record.
    let id = "019aa000-0000-7000-8000-00000000000f";
    let plan = ["plan", "set", "twice", "--currency", "CNY", "--rate-micro-per-node-hour", "5", "--request-id", id];
    (0..2).for_each(|_| drop(outside.cluster.tell("admin", &plan)));
    outside.watch().unwrap();
    let checkpoint = outside.keep("checkpoint", &["audit", "checkpoint"]);
    let trail = outside.keep("trail", &["audit", "export"]);
    let (key, witness) = (outside.key(), outside.path("witness"));
    for against in [["--checkpoint", &checkpoint], ["--checkpoint", &earlier], ["--witness", &witness]] {
        let args = [&["audit", "verify", &trail, "--key", &key], against.as_slice()].concat();
        let verified = outside.cluster.tell("nobody", &args);
        assert_eq!(verified["ok"], true, "{verified}");
    }
    let public = VerifierKey::parse(&std::fs::read_to_string(&key).unwrap()).unwrap();
    let open = |path: &str| Checkpoint::open(&std::fs::read_to_string(path).unwrap(), &public).unwrap();
    let (old, last) = (open(&earlier), open(&checkpoint));
    let (size, root) = (old.size.to_string(), hex::encode(old.root));
    let consistency = outside.keep("consistency", &["audit", "prove", "--since", &size, "--root", &root, "-o", "json"]);
    let mut args = vec![
        ["--key".to_owned(), key],
        ["--checkpoint".to_owned(), checkpoint],
        ["--witness".to_owned(), witness.clone()],
        ["--since".to_owned(), earlier],
        ["--consistency".to_owned(), consistency],
    ];
    for seq in [1, 2, old.size, last.size] {
        let proof =
            outside.keep(&format!("record-{seq}"), &["audit", "prove", "--seq", &seq.to_string(), "-o", "json"]);
        args.push(["--record".to_owned(), proof]);
    }
    let python = args.concat();
    let (ok, said) = verify_in_python(&python, std::slice::from_ref(&trail));
    assert!(ok && said.iter().all(|line| line.starts_with("ok ")) && said.len() == 7, "{said:#?}");
    let forged = forged_proofs(dir.path(), &python);
    let (ok, said) = verify_in_python(&forged, &[]);
    let bad = said.iter().filter(|line| line.starts_with("BAD ")).count();
    assert!(!ok && bad == 5 && said.len() == 6, "four records and the consistency, not the witness: {said:#?}");

    let text = std::fs::read_to_string(trail).unwrap();
    let lines: Vec<String> = text.lines().take(last.size as usize).map(str::to_owned).collect();
    assert_eq!(lines.len() as u64, last.size);
    each_leaf_is_an_applied_command(&mut outside, &lines);
    let seen = Witness::read(&std::fs::read_to_string(witness).unwrap()).unwrap();
    every_tampering_is_found(dir.path(), &lines, &[seen.seen(), &[last]].concat(), &python);
}

/// The same arguments with copies of the proofs in which one digit of the last hash is another.
fn forged_proofs(dir: &Path, args: &[String]) -> Vec<String> {
    let mut forged = args.to_vec();
    for pair in forged.chunks_mut(2).filter(|pair| ["--record", "--consistency"].contains(&pair[0].as_str())) {
        let mut proof: Value = serde_json::from_str(&std::fs::read_to_string(&pair[1]).unwrap()).unwrap();
        let last = proof["proof"].as_array_mut().unwrap().last_mut().unwrap();
        let hash = last.as_str().unwrap();
        let digit = if hash.starts_with('0') { "1" } else { "0" };
        *last = Value::String(format!("{digit}{}", &hash[1..]));
        let name = Path::new(&pair[1]).file_name().unwrap().to_str().unwrap().to_owned();
        pair[1] = dir.join(format!("forged-{name}")).display().to_string();
        std::fs::write(&pair[1], proof.to_string()).unwrap();
    }
    forged
}

/// What version 1 wrote is read by the verifier that shares no code with it, too.
#[test]
fn the_second_verifier_reads_the_frozen_witness_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/audit-v1/witness.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let head: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let key = head["key"].as_str().unwrap().to_owned();
    let verify = |file: &Path| {
        let args = ["--key".to_owned(), key.clone(), "--witness".to_owned(), file.display().to_string()];
        verify_in_python(&args, &[])
    };
    let (ok, said) = verify(&file);
    assert!(ok && said.len() == 1 && said[0].ends_with(": 5 checkpoints"), "{said:#?}");
    let dir = tempfile::tempdir().unwrap();
    let without_a_line: Vec<&str> =
        text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 3).map(|(_, line)| line).collect();
    std::fs::write(dir.path().join("cut"), without_a_line.concat()).unwrap();
    let (ok, said) = verify(&dir.path().join("cut"));
    assert!(!ok && said[0].starts_with("BAD "), "{said:#?}");
}

/// Runs the independent verifier; whether all was well, and what it said line by line.
fn verify_in_python(args: &[String], trails: &[String]) -> (bool, Vec<String>) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/witness/verify.py");
    let output = Command::new("python3").arg(program).args(args).args(trails).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said.lines().map(str::to_owned).collect())
}

/// Reads the leader's log from its disk: its requests, without retries, are the records, one each and in this order.
fn each_leaf_is_an_applied_command(outside: &mut Outside, lines: &[String]) {
    let leader = outside.cluster.leader("admin");
    outside.cluster.kill(leader);
    let data = outside.path(&format!("cluster/n{leader}/data"));
    let log = outside.cluster.tell("admin", &["debug", "log", "--data", &data, "--limit", "1000000"]);
    assert!(log["purged"].is_null(), "the log is there from its first entry");
    let requests = log["entries"].as_array().unwrap().iter().filter_map(|entry| entry["requests"].as_array()).flatten();
    let ids: Vec<&str> = requests.map(|request| request["id"].as_str().unwrap()).collect();
    let mut known = HashSet::new();
    let applied: Vec<&str> = ids.iter().copied().filter(|id| known.insert(*id)).collect();
    assert!(applied.len() < ids.len(), "there was a retry");
    let records: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let audited: Vec<&str> = records.iter().map(|record| record["request_id"].as_str().unwrap()).collect();
    assert_eq!(audited, applied[..audited.len()]);
}

fn every_tampering_is_found(dir: &Path, lines: &[String], checkpoints: &[Checkpoint], python: &[String]) {
    let check = |mut verifier: Verifier, lines: &[String]| {
        let taken = lines.iter().try_for_each(|line| verifier.take(line));
        taken.and_then(|()| verifier.finish().map(drop))
    };
    check(Verifier::against(checkpoints), lines).unwrap();
    let nothing = || Verifier::new(Head { count: 0, hash: "0".repeat(64) });
    let (mut files, mut sound_chains) = (Vec::new(), 0);
    for seed in 0..TAMPERINGS {
        let tampered = tamper(seed, lines);
        assert_ne!(tampered, lines, "seed {seed}");
        let found = check(Verifier::against(checkpoints), &tampered);
        assert!(found.is_err(), "seed {seed}: not found");
        sound_chains += u64::from(check(nothing(), &tampered).is_ok());
        let file = dir.join(format!("tampered-{seed}"));
        std::fs::write(&file, tampered.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        files.push(file.display().to_string());
    }
    // What only a checkpoint tells: half of the tamperings leave a chain that is in order.
    assert_eq!(sound_chains, (0..TAMPERINGS).filter(|seed| seed % KINDS >= KINDS / 2).count() as u64);
    let (ok, said) = verify_in_python(python, &files);
    let missed: Vec<_> = said.iter().filter(|line| line.starts_with("ok ") && line.contains("tampered")).collect();
    let found = said.iter().filter(|line| line.starts_with("BAD ") && line.contains("tampered")).count() as u64;
    assert!(!ok && found == TAMPERINGS && missed.is_empty(), "{found} found; {missed:#?}");
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// One tampering. The first half of the kinds leaves marks in the chain, the other half makes the chain anew.
fn tamper(seed: u64, lines: &[String]) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut lines = lines.to_vec();
    let mut records: Vec<AuditRecord> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = dice.below(lines.len());
    // Another place.
    let other = (at + 1 + dice.below(lines.len() - 1)) % lines.len();
    match seed % KINDS {
        0 => lines[at] = other_letter(&lines[at], &mut dice),
        // Not the last, which nothing follows that could tell.
        1 => {
            let at = at.min(lines.len() - 2);
            edit(&mut records[at], &mut dice);
            records[at].hash = records[at].expected_hash();
            lines[at] = line(&records[at]);
        }
        2 => drop(lines.remove(at.min(lines.len() - 2))),
        3 => lines.swap(at, other),
        4 => lines.insert(other, lines[at].clone()),
        5 => {
            let mut forged = records[at].clone();
            edit(&mut forged, &mut dice);
            forged.hash = forged.expected_hash();
            lines.insert(at, line(&forged));
        }
        6 => lines.truncate(at),
        7 => return anew(records, |records| edit(&mut records[at], &mut dice)),
        8 => return anew(records, |records| drop(records.remove(at))),
        9 => {
            return anew(records, |records| {
                records.remove(at);
                let mut forged = records[0].clone();
                edit(&mut forged, &mut dice);
                records.push(forged);
            });
        }
        10 => return anew(records, |records| records.swap(at, other)),
        _ => {
            return anew(records, |records| {
                let mut forged = records[at].clone();
                edit(&mut forged, &mut dice);
                records.insert(at, forged);
            });
        }
    }
    lines
}

/// Numbers and chains all records after a change, as somebody does who may write everywhere.
pub(crate) fn anew(mut records: Vec<AuditRecord>, change: impl FnOnce(&mut Vec<AuditRecord>)) -> Vec<String> {
    change(&mut records);
    let mut before = hanse_state::Digest::default();
    for (record, seq) in records.iter_mut().zip(1..) {
        (record.seq, record.prev_hash) = (seq, before);
        record.hash = record.expected_hash();
        before = record.hash;
    }
    records.iter().map(line).collect()
}

fn line(record: &AuditRecord) -> String {
    serde_json::to_string(record).unwrap()
}

fn edit(record: &mut AuditRecord, dice: &mut Dice) {
    match dice.below(6) {
        0 => record.actor.push('x'),
        1 => record.action.push('x'),
        2 => record.resource.push('x'),
        3 => record.outcome.push('x'),
        4 => record.detail.push(' '),
        _ => record.at = record.at.plus(1),
    }
}

/// The line with one letter or digit changed, wherever it stands.
fn other_letter(line: &str, dice: &mut Dice) -> String {
    let places: Vec<usize> =
        line.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric()).map(|(at, _)| at).collect();
    let at = places[dice.below(places.len())];
    let mut bytes = line.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
    String::from_utf8(bytes).unwrap()
}
