//! Commands of the scripts: `Command key=value ...`, everything left out takes the usual value of the test world.
#![allow(clippy::unwrap_used)]

mod cloud;
mod host;

use std::collections::BTreeMap;

use hanse_state::account::*;
use hanse_state::artifact::{
    ArtifactKind, DeleteArtifact, ImportArtifact, PinPublisher, UnpinPublisher, Word, signed_text,
};
use hanse_state::billing::{Meter, SetPlan};
use hanse_state::chain::governance::GovernanceSpec;
use hanse_state::chain::node::*;
use hanse_state::chain::{NodeSpec, RecordGenesis};
use hanse_state::cluster::backup::{CreateBackup, RestoreCluster, ResumeCluster};
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::cluster::{Bootstrap, CheckDigest, InitCluster};
use hanse_state::consortium::ballot::{CastBallot, Choice, ballot_text, join_text};
use hanse_state::consortium::policy::{ActionKind, Policy};
use hanse_state::consortium::proposal::{Action, CloseProposal, OpenProposal};
use hanse_state::consortium::*;
use hanse_state::contract::{ContractFact, DeployContract, RecordContractFact};
use hanse_state::replica::*;
use hanse_state::tenant::{CreateTenant, SetTenantMetadata};
use hanse_state::{Blob, Command, Digest, Millis, Secret};

use super::world::{self, World};

/// One line: words, then `key=value` pairs (`_` in a value stands for a space).
pub(crate) struct Args {
    words: Vec<String>,
    pairs: BTreeMap<String, String>,
}

impl Args {
    pub(crate) fn parse(line: &str) -> Self {
        let (mut words, mut pairs) = (Vec::new(), BTreeMap::new());
        for part in line.split_whitespace() {
            match part.split_once('=') {
                Some((key, value)) => drop(pairs.insert(key.to_owned(), value.replace('_', " "))),
                None => words.push(part.to_owned()),
            }
        }
        Self { words, pairs }
    }

    pub(crate) fn verb(&self) -> &str {
        &self.words[0]
    }

    pub(crate) fn word(&self, index: usize) -> &str {
        &self.words[index]
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(String::as_str)
    }

    pub(crate) fn text(&self, key: &str, default: &str) -> String {
        self.get(key).unwrap_or(default).to_owned()
    }

    pub(crate) fn id<T: std::str::FromStr<Err = hanse_state::Rejection>>(&self, key: &str, default: &str) -> T {
        self.get(key).unwrap_or(default).parse().unwrap()
    }

    pub(crate) fn number(&self, key: &str, default: u64) -> u64 {
        self.get(key).map_or(default, |text| text.parse().unwrap())
    }

    fn secret(&self) -> Secret {
        self.get("password").map_or_else(world::password, Secret::new)
    }
}

pub(crate) fn command(w: &World, a: &Args) -> Command {
    match a.word(1) {
        "InitCluster" => Command::InitCluster(InitCluster {
            cluster: a.id("cluster", &world::cluster().to_string()),
            name: a.text("name", "test"),
            setup_code_hash: world::hash(a.get("code").unwrap_or("code")),
            version: version(a, 1),
        }),
        "RaiseClusterVersion" => Command::RaiseClusterVersion(RaiseClusterVersion { version: version(a, 2) }),
        "Bootstrap" => Command::Bootstrap(Bootstrap {
            account: a.id("account", "root"),
            password_hash: a.secret(),
            setup_code_hash: world::hash(a.get("code").unwrap_or("code")),
        }),
        "CheckDigest" => {
            let revision = a.number("revision", w.state.revision);
            let digest = a.get("digest").map_or(w.state.digest_at(revision), |text| Some(world::hash(text)));
            Command::CheckDigest(CheckDigest { revision, digest: digest.unwrap() })
        }
        "CreateBackup" => Command::CreateBackup(CreateBackup {
            backup: a.id("backup", "0193f2a4-0000-7000-8000-00000000000b"),
            base: a.get("base").map(|text| text.parse().unwrap()),
        }),
        "RestoreCluster" => Command::RestoreCluster(RestoreCluster {
            backup: a.id("backup", "0193f2a4-0000-7000-8000-00000000000b"),
            revision: a.number("revision", w.state.revision),
            digest: w.state.digest(),
            incarnation: a.id("incarnation", "0193f2a4-0000-7000-8000-00000000000c"),
            name: a.text("name", "test-2"),
        }),
        "ResumeCluster" => Command::ResumeCluster(ResumeCluster {
            incarnation: a.id("incarnation", "0193f2a4-0000-7000-8000-00000000000c"),
        }),
        "ImportArtifact" => Command::ImportArtifact(import(a)),
        "DeleteArtifact" => {
            Command::DeleteArtifact(DeleteArtifact { sha256: world::hash(a.get("content").unwrap_or("program")) })
        }
        "PinPublisher" => Command::PinPublisher(PinPublisher {
            publisher: a.id("publisher", "acme-releases"),
            key: world::public_key(a.get("key").unwrap_or("acme")),
        }),
        "UnpinPublisher" => Command::UnpinPublisher(UnpinPublisher { publisher: a.id("publisher", "acme-releases") }),
        "SetPlan" => Command::SetPlan(SetPlan {
            plan: a.id("plan", "standard"),
            currency: a.text("currency", "EUR"),
            rate_micro_per_node_hour: a.number("rate", 3_600_000),
            effective_from: a.get("from").map(|text| Millis(w.state.now.0.strict_add_signed(text.parse().unwrap()))),
        }),
        "Meter" => Command::Meter(Meter { until: Millis(w.at.0 + a.number("ahead", 1_000)) }),
        "DeployContract" => Command::DeployContract(DeployContract {
            contract: a.id("contract", "trade/supply-1/registry"),
            raw_transaction: Blob(vec![7; usize::try_from(a.number("bytes", 100)).unwrap()]),
        }),
        "RecordContractFact" => Command::RecordContractFact(RecordContractFact {
            contract: a.id("contract", "trade/supply-1/registry"),
            fact: match a.word(2) {
                "Sent" => ContractFact::Sent { tx_hash: format!("0x{}", a.text("tx", &"ab".repeat(32))) },
                "Deployed" => ContractFact::Deployed {
                    address: format!("0x{}", a.text("address", &"cd".repeat(20))),
                    block: a.number("block", 7),
                },
                _ => ContractFact::Failed { reason: a.text("reason", "reverted") },
            },
        }),
        _ => accounts(a)
            .or_else(|| replicas(a))
            .or_else(|| consortiums(w, a))
            .or_else(|| host::hosts(a))
            .or_else(|| cloud::clouds(w, a))
            .or_else(|| nodes(w, a))
            .or_else(|| super::parse_life::commands(w, a))
            .unwrap(),
    }
}

fn version(a: &Args, default: u64) -> Version {
    Version(u16::try_from(a.number("version", default)).unwrap())
}

fn replicas(a: &Args) -> Option<Command> {
    let replica = a.number("replica", 1);
    let forced = a.get("forced").is_some();
    let reason = a.text("reason", "");
    let peer_address = a.text("peer", &format!("10.0.0.{replica}:7401"));
    let api_address = a.text("api", &format!("10.0.0.{replica}:7400"));
    Some(match a.word(1) {
        "AddReplica" => Command::AddReplica(AddReplica {
            peer_address: a.text("peer", "10.0.0.4:7401"),
            api_address: a.text("api", "10.0.0.4:7400"),
            vote: a.get("vote").is_some_and(|text| text == "yes"),
            replaces: a.get("replaces").map(|text| text.parse().unwrap()),
            floor: a.number("floor", 3),
            reason,
        }),
        "PromoteReplica" => Command::PromoteReplica(PromoteReplica { replica, forced, reason }),
        "RemoveReplica" => Command::RemoveReplica(RemoveReplica { replica, forced, reason }),
        "TransferLeader" => Command::TransferLeader(TransferLeader { replica, reason }),
        "RecordReplica" => Command::RecordReplica(RecordReplica {
            replica,
            fact: match a.word(2) {
                "Member" => ReplicaFact::Member { peer_address, api_address, votes: a.text("votes", "yes") == "yes" },
                "Heard" => ReplicaFact::Heard { incarnation: a.text("incarnation", &"0a".repeat(16)) },
                _ => ReplicaFact::Gone,
            },
        }),
        _ => return None,
    })
}

fn accounts(a: &Args) -> Option<Command> {
    let account = || a.id("account", "ann");
    let token_hash = world::hash(a.get("token").unwrap_or("token"));
    let source = "192.0.2.9:1000".to_owned();
    Some(match a.word(1) {
        "CreateTenant" => {
            let tenant = a.text("tenant", "newco");
            Command::CreateTenant(CreateTenant {
                owner: a.id("owner", &format!("owner@{tenant}")),
                tenant: tenant.parse().unwrap(),
                display_name: a.text("name", "New Co"),
                owner_password_hash: a.secret(),
            })
        }
        // `key=…` with `size=N` for a value of that many bytes, `remove=KEY`, `many=N` for that many keys; or note=….
        "SetTenantMetadata" => {
            let mut changes = BTreeMap::new();
            let value = || match a.get("size") {
                Some(size) => "v".repeat(size.parse().unwrap()),
                None => a.text("value", "1"),
            };
            changes.extend(a.get("note").map(|note| ("note".to_owned(), Some(note.replace("BELL", "\u{7}")))));
            changes.extend(a.get("key").map(|key| (key.to_owned(), Some(value()))));
            changes.extend(a.get("remove").map(|key| (key.to_owned(), None)));
            changes.extend((0..a.number("many", 0)).map(|n| (format!("many/{n:03}"), Some("x".to_owned()))));
            Command::SetTenantMetadata(SetTenantMetadata { tenant: a.id("tenant", "acme"), changes })
        }
        "CreateAccount" => {
            let role = match (a.get("tenant"), a.get("role").unwrap_or("Auditor")) {
                (None, "Administrator") => Role::Platform(PlatformRole::Administrator),
                (None, "Operator") => Role::Platform(PlatformRole::Operator),
                (None, _) => Role::Platform(PlatformRole::Auditor),
                (Some(tenant), role) => Role::Tenant {
                    tenant: tenant.parse().unwrap(),
                    role: match role {
                        "Owner" => TenantRole::Owner,
                        "Operator" => TenantRole::Operator,
                        "Developer" => TenantRole::Developer,
                        "Billing" => TenantRole::Billing,
                        _ => TenantRole::Auditor,
                    },
                },
            };
            Command::CreateAccount(CreateAccount { account: account(), role, password_hash: a.secret() })
        }
        "SuspendAccount" => {
            Command::SuspendAccount(SuspendAccount { account: account(), reason: a.text("reason", "left") })
        }
        "RestoreAccount" => Command::RestoreAccount(RestoreAccount { account: account() }),
        "OpenSession" => {
            let expires_at = Millis(world::START.0 + a.number("until", 3_600_000));
            Command::OpenSession(OpenSession { account: account(), token_hash, expires_at, source })
        }
        "CloseSession" => Command::CloseSession(CloseSession { token_hash }),
        "RecordLoginFailure" => Command::RecordLoginFailure(RecordLoginFailure { account: account(), source }),
        _ => return None,
    })
}

fn consortiums(w: &World, a: &Args) -> Option<Command> {
    let consortium = || a.id("consortium", "trade");
    Some(match a.word(1) {
        "CreateConsortium" => Command::CreateConsortium(CreateConsortium {
            consortium: consortium(),
            display_name: a.text("name", "Trade"),
            charter: Charter {
                policies: match a.get("policy").unwrap_or("Majority") {
                    "none" => BTreeMap::new(),
                    "TwoThirds" => BTreeMap::from([(ActionKind::CreateChain, Policy::TwoThirds)]),
                    "DeleteByAll" => BTreeMap::from([
                        (ActionKind::CreateChain, Policy::Majority),
                        (ActionKind::DeleteChain, Policy::Unanimous),
                    ]),
                    "Unanimous" => BTreeMap::from([(ActionKind::CreateChain, Policy::Unanimous)]),
                    _ => BTreeMap::from([(ActionKind::CreateChain, Policy::Majority)]),
                },
                voting_period_ms: a.number("period", 60_000),
            },
            founder: a.id("founder", "acme"),
            founder_weight: a.number("weight", 1),
            member_key: world::public_key(a.get("key").unwrap_or("acme")),
        }),
        "InviteMember" => Command::InviteMember(InviteMember {
            consortium: consortium(),
            tenant: a.id("tenant", "globex"),
            weight: a.number("weight", 1),
        }),
        "JoinConsortium" => {
            let tenant = a.text("tenant", "globex");
            let key = a.text("key", &tenant);
            let member_key = world::public_key(&key);
            let consortium: hanse_state::ids::ConsortiumId = consortium();
            let tenant = tenant.parse().unwrap();
            let text = join_text(world::cluster(), &consortium, &tenant, &member_key);
            let proof = world::sign(a.get("signer").unwrap_or(&key), &text);
            Command::JoinConsortium(JoinConsortium { consortium, tenant, member_key, proof })
        }
        "ActivateConsortium" => Command::ActivateConsortium(ActivateConsortium { consortium: consortium() }),
        "OpenProposal" => Command::OpenProposal(OpenProposal {
            consortium: consortium(),
            title: a.text("title", "A chain"),
            action: a
                .get("change")
                .map_or_else(|| Action::CreateChain(spec(a)), |word| super::parse_life::change(w, a, word)),
            voting_period_ms: a.get("period").map(|text| text.parse().unwrap()),
        }),
        "CastBallot" => Command::CastBallot(cast(w, a)),
        "CloseProposal" => Command::CloseProposal(CloseProposal { proposal: a.id("proposal", "trade/p-1") }),
        _ => return None,
    })
}

fn spec(a: &Args) -> hanse_state::chain::ChainSpec {
    let mut spec = world::spec(usize::try_from(a.number("nodes", 4)).unwrap());
    spec.chain = a.id("chain", "supply-1");
    spec.chain_id = a.number("chain-id", 1_337);
    spec.template = a.text("template", "evm-standard");
    if let Some(value) = a.get("block-time-ms") {
        spec.parameters.insert("block_time_ms".into(), value.parse().unwrap());
    }
    if let Some(name) = a.get("parameter") {
        spec.parameters.insert(name.into(), 1);
    }
    // `owners=acme,globex`: by turns.
    if let Some(owners) = a.get("owners") {
        for (node, owner) in spec.nodes.iter_mut().zip(owners.split(',').cycle()) {
            node.owner = owner.parse().unwrap();
        }
    }
    if let Some(owner) = a.get("owner") {
        spec.nodes.push(NodeSpec { owner: owner.parse().unwrap() });
    }
    spec.governance = governance(a);
    if let Some(address) = a.get("alloc") {
        spec.alloc.insert(address.into(), a.text("wei", "1"));
    }
    spec
}

/// `govern=acme,globex`: members with an account each; `account=` is the first one's, `threshold=` 2 unless said.
fn governance(a: &Args) -> Option<GovernanceSpec> {
    let names = a.get("govern")?;
    let account = |digit: usize| format!("0x{}", digit.to_string().repeat(40));
    let names = names.split(',').filter(|name| !name.is_empty()).zip(1..);
    let mut members: BTreeMap<_, _> = names.map(|(name, n)| (name.parse().unwrap(), account(n))).collect();
    if let (Some(own), Some(mut first)) = (a.get("account"), members.first_entry()) {
        own.clone_into(first.get_mut());
    }
    let list = |key: &str| a.get(key).map(|list| list.split(',').map(str::to_owned).collect());
    let threshold = u32::try_from(a.number("threshold", 2)).unwrap();
    let restrict_nodes = a.get("nodes-restricted").is_some();
    Some(GovernanceSpec { members, threshold, senders: list("senders"), deployers: list("deployers"), restrict_nodes })
}

fn import(a: &Args) -> ImportArtifact {
    let kind = match a.get("kind") {
        None | Some("program") => ArtifactKind::Program,
        Some("bundle") => ArtifactKind::Bundle,
        Some("image") => ArtifactKind::Image,
        Some(other) => panic!("no kind {other}"),
    };
    let sha256 = world::hash(a.get("content").unwrap_or("program"));
    let (name, version) = (a.text("name", "ledgerd"), a.text("version", "1.2.0"));
    // What the key really signed may be another version than is claimed.
    let signed = signed_text(&sha256, kind, &name, a.get("signed").unwrap_or(&version));
    let word = match a.get("unsigned") {
        Some(reason) => Word::Unsigned { reason: reason.to_owned() },
        None => Word::Signed {
            publisher: a.id("publisher", "acme-releases"),
            signature: world::sign(a.get("signer").unwrap_or("acme"), &signed),
        },
    };
    let files = u32::try_from(a.number("files", 1)).unwrap();
    let program = a.text("program", "");
    ImportArtifact { sha256, name, version, kind, size_bytes: a.number("size", 1_000), files, program, word }
}

fn cast(w: &World, a: &Args) -> CastBallot {
    let proposal = a.id("proposal", "trade/p-1");
    let known = w.state.proposals.get(&proposal).map_or(Digest::default(), |proposal| proposal.artifact_hash);
    let artifact_hash = a.get("artifact").map_or(known, world::hash);
    let voter = a.text("voter", a.verb().split('@').nth(1).unwrap_or("acme"));
    let choice = match a.get("choice").unwrap_or("yes") {
        "yes" => Choice::Yes,
        "no" => Choice::No,
        _ => Choice::Abstain,
    };
    let key = a.text("key", &voter);
    let voter = voter.parse().unwrap();
    // A ballot whose signature is over another text than it claims: `signed` is what the key really signed.
    let signed = match a.get("signed") {
        Some("no") => Choice::No,
        Some(_) | None => choice,
    };
    let text = ballot_text(world::cluster(), &proposal, &artifact_hash, &voter, signed);
    CastBallot { proposal, voter, choice, artifact_hash, signature: world::sign(&key, &text) }
}

fn nodes(w: &World, a: &Args) -> Option<Command> {
    let number = a.number("node", 0);
    let node = world::node_key(number);
    let current = w.state.nodes.get(&node).map_or(1, |node| node.generation);
    let generation = a.number("generation", current);
    let chain = a.id("chain", "trade/supply-1");
    Some(match a.word(1) {
        "RecordGenesis" => {
            Command::RecordGenesis(RecordGenesis { chain, bytes: Blob(a.text("bytes", "genesis").into_bytes()) })
        }
        "RecordIntent" => Command::RecordIntent(RecordIntent {
            node,
            generation,
            act: match a.word(2) {
                "Prepare" => NodeAct::Prepare,
                "Configure" => NodeAct::Configure,
                "Start" => NodeAct::Start,
                "Remove" => NodeAct::Remove,
                "Fence" => NodeAct::Fence,
                "Carry" => NodeAct::Carry,
                "Clear" => NodeAct::Clear,
                "Seat" => NodeAct::Seat,
                "Return" => NodeAct::Return,
                _ => NodeAct::Stop,
            },
        }),
        "RecordNodeFact" => {
            let reason = a.text("reason", "why");
            let fact = match a.word(2) {
                "Prepared" => {
                    let identity = world::identity(a.number("identity", number));
                    let contribution = a.get("contribution").map(|text| Blob(text.as_bytes().into()));
                    NodeFact::Prepared { identity: NodeIdentity { contribution, ..identity } }
                }
                "Signed" => {
                    let (height, round, step) = (a.number("height", 1), a.number("round", 0), a.number("step", 3));
                    let small = |number: u64| u32::try_from(number).expect("a small number");
                    NodeFact::Signed { signed: Signed { height, round: small(round), step: small(step) } }
                }
                "Configured" => NodeFact::Configured,
                "Started" => NodeFact::Started,
                "Healthy" => NodeFact::Healthy,
                "Stopped" => NodeFact::Stopped,
                "Removed" => NodeFact::Removed,
                "Fenced" => NodeFact::Fenced,
                "Carried" => NodeFact::Carried,
                "Cleared" => NodeFact::Cleared,
                "Returned" => NodeFact::Returned,
                "Seated" => NodeFact::Seated { validates: a.get("validates") != Some("no") },
                "Halted" => NodeFact::Halted { height: a.number("height", 1) },
                "Seating" => NodeFact::Seating { reason },
                "Unhealthy" => NodeFact::Unhealthy { reason },
                "Failed" => NodeFact::Failed { reason },
                _ => NodeFact::Waiting { reason },
            };
            Command::RecordNodeFact(RecordNodeFact { node, generation, fact, output: a.text("output", "") })
        }
        _ => return None,
    })
}
