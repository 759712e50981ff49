//! A small cluster in memory, and backups of it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hanse_backup::chain::{Chain, Verified, head_of};
use hanse_backup::{BackupError, Content, Head, Key, Protection, Writer};
use hanse_state::cluster::backup::CreateBackup;
use hanse_state::cluster::version::Version;
use hanse_state::cluster::{Bootstrap, CheckDigest, InitCluster};
use hanse_state::codec::encode_state;
use hanse_state::ids::{BackupId, ClusterId, RequestId};
use hanse_state::{Actor, Command, Digest, Millis, Record, Request, Secret, State, apply};
use uuid::Uuid;

pub(crate) const KEY: &str = "hanse-backup-key-1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

pub(crate) fn key() -> Key {
    Key::parse(KEY).unwrap()
}

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) records: Vec<Record>,
    requests: u128,
}

fn uuid(version_7: u128) -> Uuid {
    Uuid::from_u128(0x0193_f2a4_0000_7000_8000_0000_0000_0000 | version_7)
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self { state: State::default(), records: Vec::new(), requests: 0 };
        let cluster = ClusterId::new(uuid(1)).unwrap();
        let init =
            InitCluster { cluster, name: "test".into(), setup_code_hash: Digest::of(b"code"), version: Version::FIRST };
        world.send(Actor::System, Command::InitCluster(init));
        let bootstrap = Bootstrap {
            account: "root".parse().unwrap(),
            password_hash: Secret::new("$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"),
            setup_code_hash: Digest::of(b"code"),
        };
        world.send(Actor::SetupCode, Command::Bootstrap(bootstrap));
        world
    }

    fn send(&mut self, actor: Actor, command: Command) {
        self.requests += 1;
        let id = RequestId::new(uuid(self.requests)).unwrap();
        let at = Millis(1_795_392_000_000 + u64::try_from(self.requests).unwrap());
        let index = self.state.revision + 1;
        let applied = apply(&mut self.state, index, &Request::new(id, actor, "192.0.2.1", at, command));
        assert!(applied.outcome.is_ok(), "{:?}", applied.outcome);
        self.records.extend(applied.records);
    }

    /// Goes on for `entries` entries.
    pub(crate) fn work(&mut self, entries: usize) {
        for _ in 0..entries {
            let check = CheckDigest { revision: self.state.revision, digest: self.state.digest() };
            self.send(Actor::System, Command::CheckDigest(check));
        }
    }

    /// Content of a backup, continuing `base`.
    pub(crate) fn content(&mut self, number: u128, base: Option<&Head>) -> Vec<u8> {
        let backup = BackupId::new(uuid(0xb000 + number)).unwrap();
        let create = CreateBackup { backup, base: base.map(|head| head.backup) };
        self.send(Actor::Account("root".parse().unwrap()), Command::CreateBackup(create));
        let encoded = encode_state(&self.state);
        let after: BTreeMap<String, u64> =
            base.iter().flat_map(|head| &head.history).map(|(kind, span)| (kind.clone(), span.last)).collect();
        let head = head_of(&self.state, &encoded, backup, base.map(|head| (head.as_base(), after.clone()))).unwrap();
        let mut content = Content::default();
        let mut bytes = content.head(&head);
        bytes.extend(content.state(&encoded).concat());
        let mut records: Vec<&Record> = self.records.iter().collect();
        records.sort_by_key(|record| (record.kind(), record.seq()));
        for record in records {
            if record.seq() > after.get(record.kind()).copied().unwrap_or(0) {
                bytes.extend(content.record(record));
            }
        }
        bytes.extend(content.end());
        bytes
    }
}

/// Seals content with a salt that depends on `salt` only.
pub(crate) fn seal(content: &[u8], protection: Protection<'_>, salt: u8) -> Vec<u8> {
    let mut writer = Writer::with_salt(Vec::new(), protection, [salt; 32]).unwrap();
    writer.push(content).unwrap();
    writer.finish().unwrap()
}

/// Verifies files in order.
pub(crate) fn verify(files: &[&[u8]], protection: Protection<'_>) -> Result<Vec<Verified>, BackupError> {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::default();
    let mut all = Vec::new();
    for (number, bytes) in files.iter().enumerate() {
        let path = dir.path().join(number.to_string());
        std::fs::write(&path, bytes).unwrap();
        all.push(chain.file(&path, protection, |_| Ok::<_, BackupError>(()))?);
    }
    Ok(all)
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/backup-v1")
}
