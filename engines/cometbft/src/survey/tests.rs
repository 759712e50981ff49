#![allow(clippy::unwrap_used)]
use std::sync::{Mutex, OnceLock};

use async_trait::async_trait;
use hanse_adapters_core::preflight::Severity;
use hanse_adapters_core::{
    AdapterError, Artifact, FileSpec, Holder, HostFacts, InstanceSpec, InstanceStatus, RunOutput, Stream,
};

use super::*;

type Done<T> = hanse_adapters_core::Result<T>;

fn said() -> Said {
    let identity = NodeIdentity { node_id: "ab".repeat(20), public_key: "cd".repeat(32), contribution: None };
    Said { identity, version: "v1.20.1".into() }
}

fn told() -> Told {
    let first_block = Ok("0x12".to_owned());
    Told { node_id: "ab".repeat(20), public_key: Some("cd".repeat(32)), version: "v1.20.1".into(), first_block }
}

/// The first block that counts, and the checks with a fault.
fn compared(change: impl FnOnce(&mut Told)) -> (Option<String>, Vec<(String, Severity)>) {
    let (mut told, mut findings) = (told(), Vec::new());
    change(&mut told);
    let first = compare(&said(), told, &mut findings);
    findings.retain(|it| it.severity != Severity::Fine);
    (first, findings.into_iter().map(|it| (it.check, it.severity)).collect())
}

#[test]
fn the_node_must_be_the_homes_and_run_the_same_program() {
    assert_eq!(compared(|_| {}), (Some("0x12".into()), vec![]));
    let of_home = (None, vec![("home".to_owned(), Severity::Error)]);
    assert_eq!(compared(|told| told.node_id = "ef".repeat(20)), of_home);
    assert_eq!(compared(|told| told.public_key = Some("ef".repeat(32))), of_home, "the key that it signs with");
    assert_eq!(compared(|told| told.public_key = None), of_home);
    let of_program = (Some("0x12".into()), vec![("program".to_owned(), Severity::Error)]);
    assert_eq!(compared(|told| told.version = "v1.20.2".into()), of_program);
    let unknown = (None, vec![("chain".to_owned(), Severity::Warning)]);
    assert_eq!(compared(|told| told.first_block = Err("pruned".into())), unknown);
}

#[test]
fn the_version_is_the_one_that_the_application_says() {
    assert_eq!(version_of("Version v1.20.1 (eef179e)\nCompiled at 20260711 using Go go1.26.5 (amd64)"), "v1.20.1");
    assert_eq!(
        (version_of("v0.9.0").as_str(), version_of("dev"), version_of("")),
        ("v0.9.0", "dev".into(), String::new())
    );
}

/// A host that has one home, and notes where the program was run.
struct OneHome {
    seen: HomeSeen,
    runs: Mutex<Vec<String>>,
}

#[async_trait]
impl Adapter for OneHome {
    async fn survey_home(&self, _: &Claim, _: &[String], program: &RunSpec) -> Done<HomeSeen> {
        self.runs.lock().unwrap().push(program.args.join(" "));
        let words = match program.args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["comet", "show-validator", ..] => {
                r#"{"@type":"/cosmos.crypto.ed25519.PubKey","key":"zHt44BDR+1tVly05hV/Ru0LtxQ7BfgXxEKDHKPT9wv8="}"#
            }
            ["comet", "show-node-id", ..] => "5014eb6c19d3d909add74e51c1443b2db0df8d05",
            _ => "Version v1.20.1 (eef179e)",
        };
        let said = RunOutput { code: Some(0), stdout: words.into(), stderr: String::new() };
        Ok(HomeSeen { said: Some(said), ..self.seen.clone() })
    }
    async fn inspect(&self) -> Done<HostFacts> {
        unreachable!()
    }
    async fn put_artifact(&self, _: &Artifact) -> Done<()> {
        unreachable!()
    }
    async fn put_files(&self, _: &InstanceKey, _: &[FileSpec]) -> Done<()> {
        unreachable!()
    }
    async fn run(&self, _: &InstanceKey, _: &RunSpec) -> Done<RunOutput> {
        unreachable!()
    }
    async fn ensure(&self, _: &InstanceSpec) -> Done<InstanceStatus> {
        unreachable!()
    }
    async fn look(&self, _: &InstanceKey) -> Done<Option<InstanceStatus>> {
        unreachable!()
    }
    async fn stop(&self, _: &InstanceKey, _: Duration) -> Done<()> {
        unreachable!()
    }
    async fn remove(&self, _: &InstanceKey) -> Done<()> {
        unreachable!()
    }
    async fn list(&self, _: &str) -> Done<Vec<InstanceStatus>> {
        unreachable!()
    }
    async fn tail(&self, _: &InstanceKey, _: u32) -> Done<String> {
        unreachable!()
    }
    async fn dial(&self, port: u16) -> Done<Box<dyn Stream>> {
        Err(AdapterError::Transient { subject: port.to_string(), reason: "refused".into() })
    }
}

/// A home whose node does not run.
fn home() -> HomeSeen {
    let genesis = r#"{"app_state":{"evm":{"params":{"chain_config":{"eip155_chain_id":"777"}}}}}"#;
    let state = r#"{"height":"24","round":0,"step":3}"#;
    let files = [
        (GENESIS_FILE, genesis),
        (NODE_FILE, settings::tests::NODE),
        (APP_FILE, settings::tests::APP),
        (CLIENT_FILE, ""),
        (STATE_FILE, state),
        (CURRENT_FILE, "MANIFEST-000001"),
    ];
    HomeSeen {
        home: "/srv/theirs".into(),
        obstacle: String::new(),
        files: 9,
        bytes: 1_000,
        disk_free_bytes: 1 << 30,
        holders: Vec::new(),
        taken_by: None,
        listening: Default::default(),
        contents: files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into(),
        said: None,
    }
}

/// What is found, the checks with an error, and where the program was run.
async fn surveyed(change: impl FnOnce(&mut HomeSeen)) -> (Option<Found>, Vec<String>, Vec<String>) {
    let mut host = OneHome { seen: home(), runs: Mutex::default() };
    change(&mut host.seen);
    let artifact = Artifact { sha256: "00".repeat(32), path: "none".into() };
    let bundle = Bundle { manifest: artifact.clone(), program: "injectived".into(), files: Vec::new() };
    let profile = Profile::parse(include_str!("../../profiles/injective.toml")).unwrap();
    let engine = CometBftEngine::with_later(artifact, std::sync::Arc::new(OnceLock::new()), profile.clone());
    let look = Look { engine: &engine, bundle: &bundle, profile: &profile, host: &host };
    let survey = look.survey("/srv/theirs").await.unwrap();
    let errors = survey.findings.into_iter().filter(|it| it.severity == Severity::Error).map(|it| it.check);
    (survey.found, errors.collect(), host.runs.into_inner().unwrap())
}

#[tokio::test]
async fn a_home_whose_node_does_not_run_is_found_without_its_first_block() {
    let (found, errors, runs) = surveyed(|_| {}).await;
    let found = found.unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!((found.chain_id, found.first_block, found.is_held), (777, None, false));
    assert_eq!(found.signed.unwrap().height, 24);
    assert_eq!(found.identity.node_id, "5014eb6c19d3d909add74e51c1443b2db0df8d05");
    assert!(
        runs[0].contains("--home /dev/null") && runs[1..].iter().all(|run| run.contains("--home {home}")),
        "{runs:?}"
    );
}

/// It would make files there.
#[tokio::test]
async fn the_program_is_run_in_no_home_that_lacks_its_files() {
    for file in [GENESIS_FILE, NODE_FILE, APP_FILE, CLIENT_FILE] {
        let (found, errors, runs) = surveyed(|seen| drop(seen.contents.remove(file))).await;
        assert!(found.is_none() && errors == ["home"], "{file}: {errors:?}");
        assert!(runs.iter().all(|run| run.contains("--home /dev/null")), "{file}: {runs:?}");
    }
}

#[tokio::test]
async fn whatever_stands_in_the_way_is_an_error() {
    let (found, errors, _) = surveyed(|seen| seen.home.clear()).await;
    assert!(found.is_none() && errors == ["home"], "{errors:?}");
    let (_, errors, _) = surveyed(|seen| drop(seen.contents.remove(CURRENT_FILE))).await;
    assert_eq!(errors, ["store"]);
    let (_, errors, _) = surveyed(|seen| drop(seen.contents.insert(STATE_FILE.into(), b"{}".to_vec()))).await;
    assert_eq!(errors, ["signed"]);
    let (_, errors, _) = surveyed(|seen| drop(seen.contents.insert(GENESIS_FILE.into(), b"{}".to_vec()))).await;
    assert_eq!(errors, ["genesis"]);
    // It runs, and does not answer: who it is must be known.
    let running = |seen: &mut HomeSeen| {
        seen.holders = vec![Holder { pid: 7, command: "injectived start".into() }];
        seen.listening = [(26_657, true)].into();
    };
    let (found, errors, _) = surveyed(running).await;
    assert!(found.unwrap().first_block.is_none() && errors == ["program"], "{errors:?}");
}

/// Homes that were taken by an older build are known by these very words; and they are read as no key.
#[test]
fn what_stands_in_the_place_of_a_key_never_changes() {
    let words = claim("/srv/theirs").in_place.unwrap();
    assert_eq!(
        words,
        "This validator is run by the platform that TAKEN-BY-HANSE.json names. Its key was set aside so that nothing signs with it here.\n"
    );
    assert!(serde_json::from_str::<Value>(&words).is_err());
}
