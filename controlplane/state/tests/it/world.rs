//! A platform to test on: applies requests in order, as a replica would, and builds the usual stories.
//!
//! Shared by path with the planner's tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use hanse_state::account::{PlatformRole, Role, TenantRole};
use hanse_state::chain::life::{Change, ChangeChain};
use hanse_state::chain::node::*;
use hanse_state::chain::{ChainSpec, NodeSpec, RecordGenesis};
use hanse_state::cluster::version::Version;
use hanse_state::cluster::{Bootstrap, InitCluster};
use hanse_state::consortium::ballot::{CastBallot, Choice, ballot_text, join_text};
use hanse_state::consortium::policy::{ActionKind, Policy};
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::consortium::*;
use hanse_state::host::{EnrolHost, Reach};
use hanse_state::ids::*;
use hanse_state::tenant::CreateTenant;
use hanse_state::*;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// 2026-11-23T00:00:00Z.
pub(crate) const START: Millis = Millis(1_795_392_000_000);
/// How often the state is written and read back.
const ROUND_TRIP_EVERY: usize = 10;
/// The four members of the usual consortium.
pub(crate) const MEMBERS: [&str; 4] = ["acme", "globex", "hooli", "initech"];
/// A tenant that is no member.
pub(crate) const OUTSIDER: &str = "umbrella";

/// A state with its log's length, clock and history.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) at: Millis,
    pub(crate) log: Vec<Request>,
    pub(crate) records: Vec<Record>,
    pub(crate) ids: u64,
}

pub(crate) fn hash(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

pub(crate) fn key_of(name: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(hash(&format!("key of {name}")).as_bytes()).unwrap()
}

pub(crate) fn public_key(name: &str) -> PublicKey {
    PublicKey(key_of(name).public_key().as_ref().try_into().unwrap())
}

pub(crate) fn sign(name: &str, text: &str) -> Signature {
    Signature(key_of(name).sign(text.as_bytes()).as_ref().try_into().unwrap())
}

pub(crate) fn request_id(number: u64) -> RequestId {
    let mut bytes = [0_u8; 16];
    bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    RequestId::new(uuid::Uuid::from_bytes(bytes)).unwrap()
}

pub(crate) fn cluster() -> ClusterId {
    ClusterId::parse("0193f2a4-0000-7000-8000-000000000001").unwrap()
}

pub(crate) fn actor(text: &str) -> Actor {
    match text {
        "system" => Actor::System,
        "setup-code" => Actor::SetupCode,
        account => Actor::Account(AccountId::parse(account).unwrap()),
    }
}

pub(crate) fn owner(tenant: &str) -> Actor {
    actor(&format!("owner@{tenant}"))
}

pub(crate) fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

pub(crate) fn consortium() -> ConsortiumId {
    ConsortiumId::parse("trade").unwrap()
}

pub(crate) fn chain_key() -> ChainKey {
    ChainKey::parse("trade/supply-1").unwrap()
}

pub(crate) fn node_key(number: u64) -> NodeKey {
    NodeKey::new(chain_key(), NodeId::new(number))
}

pub(crate) fn password() -> Secret {
    Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo")
}

pub(crate) fn spec(nodes: usize) -> ChainSpec {
    ChainSpec {
        chain: chain_key().chain,
        template: "evm-standard".into(),
        template_version: 1,
        chain_id: 1_337,
        parameters: BTreeMap::from([("block_time_ms".into(), 500)]),
        nodes: (0..nodes).map(|i| NodeSpec { owner: tenant(MEMBERS[i % 4]) }).collect(),
        alloc: BTreeMap::from([(format!("0x{}", "11".repeat(20)), "1000000000000000000".into())]),
        governance: None,
        anchor: None,
    }
}

pub(crate) fn identity(number: u64) -> NodeIdentity {
    NodeIdentity { node_id: format!("id{number}"), public_key: format!("pub{number}"), contribution: None }
}

pub(crate) fn ballot(voter: &str, choice: Choice, proposal: &ProposalKey, artifact: Digest) -> CastBallot {
    let text = ballot_text(cluster(), proposal, &artifact, &tenant(voter), choice);
    CastBallot {
        proposal: proposal.clone(),
        voter: tenant(voter),
        choice,
        artifact_hash: artifact,
        signature: sign(voter, &text),
    }
}

/// The state without what a rejection may change.
pub(crate) fn essence(state: &State) -> State {
    let mut state = state.clone();
    state.revision = 0;
    state.now = Millis(0);
    state.audit = Default::default();
    state.dedup = Default::default();
    state.digest = Digest::default();
    state.digests.clear();
    state
}

impl World {
    /// Nothing at all.
    pub(crate) fn empty() -> Self {
        Self { state: State::default(), at: START, log: Vec::new(), records: Vec::new(), ids: 0 }
    }

    /// Cluster, administrator `root`, operator `oda`, the members' and the outsider's tenants with owners.
    pub(crate) fn platform() -> Self {
        let mut w = Self::empty();
        let init = InitCluster {
            cluster: cluster(),
            name: "test".into(),
            setup_code_hash: hash("code"),
            version: Version::FIRST,
        };
        w.ok(Actor::System, Command::InitCluster(init));
        let account = AccountId::parse("root").unwrap();
        let first = Bootstrap { account, password_hash: password(), setup_code_hash: hash("code") };
        w.ok(Actor::SetupCode, Command::Bootstrap(first));
        w.account("oda", Role::Platform(PlatformRole::Operator));
        for name in MEMBERS.iter().chain([&OUTSIDER]) {
            let create = CreateTenant {
                tenant: tenant(name),
                display_name: format!("Tenant {name}"),
                owner: AccountId::parse(&format!("owner@{name}")).unwrap(),
                owner_password_hash: password(),
            };
            w.ok(actor("root"), Command::CreateTenant(create));
        }
        w.account("dev@acme", Role::Tenant { tenant: tenant("acme"), role: TenantRole::Developer });
        w
    }

    /// ... and the active consortium `trade` of four equal members.
    pub(crate) fn consortium(policy: Policy) -> Self {
        let mut w = Self::platform();
        w.found(policy, &[1, 1, 1, 1]);
        w
    }

    /// Founds and activates `trade` with these weights.
    pub(crate) fn found(&mut self, policy: Policy, weights: &[u64]) {
        let create = CreateConsortium {
            consortium: consortium(),
            display_name: "Trade".into(),
            charter: Charter {
                policies: BTreeMap::from([(ActionKind::CreateChain, policy)]),
                voting_period_ms: 60_000,
            },
            founder: tenant(MEMBERS[0]),
            founder_weight: weights[0],
            member_key: public_key(MEMBERS[0]),
        };
        self.ok(owner(MEMBERS[0]), Command::CreateConsortium(create));
        for (name, weight) in MEMBERS.iter().zip(weights).skip(1) {
            let invite = InviteMember { consortium: consortium(), tenant: tenant(name), weight: *weight };
            self.ok(owner(MEMBERS[0]), Command::InviteMember(invite));
            self.ok(owner(name), Command::JoinConsortium(join(name)));
        }
        let activate = ActivateConsortium { consortium: consortium() };
        self.ok(owner(MEMBERS[0]), Command::ActivateConsortium(activate));
    }

    /// ... and hosts `h1`, `h2` with four slots each.
    pub(crate) fn hosts(policy: Policy) -> Self {
        let mut w = Self::consortium(policy);
        w.enrol("h1", 4);
        w.enrol("h2", 4);
        w
    }

    /// ... and an ordered chain of so many nodes.
    pub(crate) fn ordered(nodes: usize) -> Self {
        let mut w = Self::hosts(Policy::Majority);
        w.order(spec(nodes));
        w
    }

    /// ... that runs.
    pub(crate) fn running(nodes: usize) -> Self {
        let mut w = Self::ordered(nodes);
        w.run_chain(nodes as u64);
        w
    }

    /// Opens a proposal for the chain and votes it through.
    pub(crate) fn order(&mut self, spec: ChainSpec) -> ProposalKey {
        let (proposal, artifact) = self.propose(spec);
        for name in MEMBERS {
            if self.state.proposals[&proposal].state == proposal::ProposalState::Open {
                self.ok(owner(name), Command::CastBallot(ballot(name, Choice::Yes, &proposal, artifact)));
            }
        }
        proposal
    }

    /// Votes the chain's end through.
    pub(crate) fn delete(&mut self, grace_ms: u64) {
        self.change(Change::Delete { grace_ms });
    }

    /// Votes a change of the chain through.
    pub(crate) fn change(&mut self, change: Change) {
        let change = ChangeChain {
            chain: chain_key().chain,
            ordered_by: self.state.chains[&chain_key()].proposal.proposal,
            change,
        };
        let open = OpenProposal {
            consortium: consortium(),
            title: "A change".into(),
            action: Action::ChangeChain(change),
            voting_period_ms: None,
        };
        let Outcome::ProposalOpened { proposal, artifact_hash, .. } =
            self.ok(owner("acme"), Command::OpenProposal(open)).outcome.unwrap()
        else {
            panic!("another outcome")
        };
        for name in MEMBERS {
            if self.state.proposals[&proposal].state == proposal::ProposalState::Open {
                self.ok(owner(name), Command::CastBallot(ballot(name, Choice::Yes, &proposal, artifact_hash)));
            }
        }
    }

    pub(crate) fn propose(&mut self, spec: ChainSpec) -> (ProposalKey, Digest) {
        let open = OpenProposal {
            consortium: consortium(),
            title: "A chain".into(),
            action: Action::CreateChain(spec),
            voting_period_ms: None,
        };
        match self.ok(owner("acme"), Command::OpenProposal(open)).outcome.unwrap() {
            Outcome::ProposalOpened { proposal, artifact_hash, .. } => (proposal, artifact_hash),
            other => panic!("{other:?}"),
        }
    }

    /// Takes `trade/supply-1` from ordered to running.
    pub(crate) fn run_chain(&mut self, nodes: u64) {
        for n in 0..nodes {
            self.intent(n, NodeAct::Prepare);
            self.fact(n, NodeFact::Prepared { identity: identity(n) });
        }
        let genesis = RecordGenesis { chain: chain_key(), bytes: Blob(b"genesis".to_vec()) };
        self.ok(Actor::System, Command::RecordGenesis(genesis));
        for n in 0..nodes {
            self.intent(n, NodeAct::Configure);
            self.fact(n, NodeFact::Configured);
            self.intent(n, NodeAct::Start);
            self.fact(n, NodeFact::Started);
            self.fact(n, NodeFact::Healthy);
        }
    }

    pub(crate) fn intent(&mut self, n: u64, act: NodeAct) {
        let generation = self.state.nodes[&node_key(n)].generation;
        self.ok(Actor::System, Command::RecordIntent(RecordIntent { node: node_key(n), generation, act }));
    }

    pub(crate) fn fact(&mut self, n: u64, fact: NodeFact) {
        let generation = self.state.nodes[&node_key(n)].generation;
        self.ok(
            Actor::System,
            Command::RecordNodeFact(RecordNodeFact { node: node_key(n), generation, fact, output: String::new() }),
        );
    }

    pub(crate) fn account(&mut self, id: &str, role: Role) {
        let account = AccountId::parse(id).unwrap();
        let create = account::CreateAccount { account, role, password_hash: password() };
        self.ok(actor("root"), Command::CreateAccount(create));
    }

    pub(crate) fn enrol(&mut self, id: &str, slots: u32) {
        self.ok(actor("oda"), Command::EnrolHost(host(id, slots)));
    }

    /// Sends what must be accepted.
    pub(crate) fn ok(&mut self, actor: Actor, command: Command) -> Applied {
        let applied = self.send(actor, command.clone());
        assert!(applied.outcome.is_ok(), "{command:?}: {:?}", applied.outcome);
        applied
    }

    /// Sends with a new request id, a second after the entry before.
    pub(crate) fn send(&mut self, actor: Actor, command: Command) -> Applied {
        self.ids += 1;
        let id = request_id(self.ids);
        self.at = self.at.plus(1_000);
        self.apply(Request::new(id, actor, "192.0.2.1:5000", self.at, command))
    }

    /// Applies one request as a replica would, and holds it to what always holds.
    pub(crate) fn apply(&mut self, request: Request) -> Applied {
        let bytes = codec::encode_request(&request);
        let decoded = codec::decode_request(&bytes).unwrap();
        assert_eq!(decoded, request);
        let before = self.state.clone();
        let applied = hanse_state::apply(&mut self.state, before.revision + 1, &decoded);
        self.log.push(request);
        self.records.extend(applied.records.clone());
        if applied.outcome.is_err() || applied.replayed {
            assert!(essence(&before) == essence(&self.state), "{:?} left a trace", applied.outcome);
            assert!(applied.events.is_empty());
        }
        let audits = applied.records.iter().filter(|record| record.kind() == "audit").count();
        assert_eq!(audits, usize::from(!applied.replayed));
        // The whole state is written and read now and then only: it is what makes long random logs slow.
        if self.log.len().is_multiple_of(ROUND_TRIP_EVERY) {
            let encoded = codec::encode_state(&self.state);
            assert!(codec::decode_state(&encoded).unwrap() == self.state);
        }
        applied
    }
}

pub(crate) fn join(name: &str) -> JoinConsortium {
    let text = join_text(cluster(), &consortium(), &tenant(name), &public_key(name));
    JoinConsortium {
        consortium: consortium(),
        tenant: tenant(name),
        member_key: public_key(name),
        proof: sign(name, &text),
    }
}

pub(crate) fn host(id: &str, slots: u32) -> EnrolHost {
    EnrolHost {
        host: HostId::parse(id).unwrap(),
        reach: Reach::Ssh {
            address: format!("{id}.example"),
            port: 22,
            user: "hanse".into(),
            fingerprint: format!("SHA256:{}", "A".repeat(43)),
            root: "/var/lib/hanse".into(),
            way: hanse_state::host::way::Way::default(),
        },
        peer_address: format!("{id}.example"),
        port_first: 20_000,
        port_count: 100,
        slots,
        zone: String::new(),
        labels: std::collections::BTreeMap::new(),
        tenancy: hanse_state::host::properties::Tenancy::Shared,
    }
}
