//! What the clients want: tenants, a consortium of four, proposals and racing ballots.

use std::collections::BTreeMap;

use hanse_state::account::{CreateAccount, Role};
use hanse_state::chain::node::{Node, NodeState, RestartNode};
use hanse_state::chain::{ChainSpec, NodeSpec};
use hanse_state::cloud::{AddCloud, CloudKind, CloudSpec, CreateMachine, DeleteMachine, HostKey, MachineSpec};
use hanse_state::cluster::version::Version;
use hanse_state::cluster::{Bootstrap, InitCluster};
use hanse_state::consortium::ballot::{CastBallot, Choice, ballot_text, join_text};
use hanse_state::consortium::policy::{ActionKind, Policy};
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::consortium::{ActivateConsortium, Charter, CreateConsortium, InviteMember, JoinConsortium};
use hanse_state::contract::DeployContract;
use hanse_state::host::properties::Tenancy;
use hanse_state::host::{EnrolHost, Reach};
use hanse_state::ids::{
    AccountId, ChainId, ChainKey, CloudId, ClusterId, ConsortiumId, ContractId, ContractKey, HostId, NodeKey,
    ProposalKey, RequestId, TenantId,
};
use hanse_state::tenant::CreateTenant;
use hanse_state::{Actor, Blob, Command, Digest, PublicKey, Secret, Signature, State};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::adapter::FINGERPRINT;
use crate::chains::{Deploys, signed};
use crate::dice::Dice;

/// The consortium's members.
pub(crate) const MEMBERS: [&str; 4] = ["acme", "globex", "hooli", "initech"];

/// The hosts: room for a few chains, so that later ones are refused.
const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
/// Nodes of a host.
const SLOTS: u32 = 3;

/// One wish: who asks for what.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) actor: Actor,
    pub(crate) command: Command,
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn key_of(name: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(digest(name).as_bytes()).expect("a seed has 32 bytes")
}

fn public_key(name: &str) -> PublicKey {
    PublicKey(key_of(name).public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes"))
}

fn sign(name: &str, text: &str) -> Signature {
    Signature(key_of(name).sign(text.as_bytes()).as_ref().try_into().expect("an Ed25519 signature has 64 bytes"))
}

/// The cluster's id.
pub(crate) fn cluster() -> ClusterId {
    ClusterId::parse("0193f2a4-0000-7000-8000-000000000001").expect("a fixed id")
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("a fixed or counted name")
}

fn account(name: &str) -> AccountId {
    AccountId::parse(name).expect("a fixed or counted name")
}

fn owner(name: &str) -> Actor {
    Actor::Account(account(&format!("owner@{name}")))
}

/// The consortium.
pub(crate) fn consortium() -> ConsortiumId {
    ConsortiumId::parse("trade").expect("a fixed name")
}

fn password() -> Secret {
    Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo")
}

/// Gives the id of the n-th request: UUIDv7 in form, growing as time would.
pub(crate) fn request_id(number: u64) -> RequestId {
    let mut bytes = [0_u8; 16];
    bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
    (bytes[6], bytes[8]) = (0x70, 0x80);
    RequestId::new(uuid::Uuid::from_bytes(bytes)).expect("a UUID of version 7")
}

/// An order of the first administrator.
pub(crate) fn by_root(command: Command) -> Wish {
    Wish { actor: Actor::Account(account("root")), command }
}

fn create_tenant(name: &str) -> Wish {
    let command = Command::CreateTenant(CreateTenant {
        tenant: tenant(name),
        display_name: format!("Tenant {name}"),
        owner: account(&format!("owner@{name}")),
        owner_password_hash: password(),
    });
    Wish { actor: Actor::Account(account("root")), command }
}

pub(crate) fn enrol(host: &str) -> Wish {
    let address = format!("{host}.example");
    let command = Command::EnrolHost(EnrolHost {
        host: HostId::parse(host).expect("a fixed name"),
        reach: Reach::Ssh {
            address: address.clone(),
            port: 22,
            user: "hanse".into(),
            fingerprint: FINGERPRINT.into(),
            root: "/var/lib/hanse".into(),
            way: hanse_state::host::way::Way::default(),
        },
        peer_address: address,
        port_first: 20_000,
        port_count: 100,
        slots: SLOTS,
        zone: String::new(),
        labels: BTreeMap::new(),
        tenancy: Tenancy::Shared,
    });
    Wish { actor: Actor::Account(account("root")), command }
}

fn restart(node: &NodeKey, generation: u64, reason: &str) -> Wish {
    let command = Command::RestartNode(RestartNode {
        node: node.clone(),
        generation,
        reason: reason.into(),
        accept_outage: true,
    });
    Wish { actor: Actor::Account(account("root")), command }
}

/// Gives what must be there before anything else, in order: platform, tenants, the active consortium.
pub(crate) fn founding() -> Vec<Wish> {
    let init = InitCluster {
        cluster: cluster(),
        name: "sim".into(),
        setup_code_hash: digest("code"),
        version: Version::NEWEST,
    };
    let first = Bootstrap { account: account("root"), password_hash: password(), setup_code_hash: digest("code") };
    let mut wishes = vec![
        Wish { actor: Actor::System, command: Command::InitCluster(init) },
        Wish { actor: Actor::SetupCode, command: Command::Bootstrap(first) },
    ];
    wishes.extend(MEMBERS.map(create_tenant));
    wishes.extend(HOSTS.map(enrol));
    let create = CreateConsortium {
        consortium: consortium(),
        display_name: "Trade".into(),
        charter: Charter {
            policies: BTreeMap::from([(ActionKind::CreateChain, Policy::Majority)]),
            voting_period_ms: 60_000,
        },
        founder: tenant(MEMBERS[0]),
        founder_weight: 1,
        member_key: public_key(MEMBERS[0]),
    };
    wishes.push(Wish { actor: owner(MEMBERS[0]), command: Command::CreateConsortium(create) });
    for name in &MEMBERS[1..] {
        let invite = InviteMember { consortium: consortium(), tenant: tenant(name), weight: 1 };
        wishes.push(Wish { actor: owner(MEMBERS[0]), command: Command::InviteMember(invite) });
        let key = public_key(name);
        let proof = sign(name, &join_text(cluster(), &consortium(), &tenant(name), &key));
        let join = JoinConsortium { consortium: consortium(), tenant: tenant(name), member_key: key, proof };
        wishes.push(Wish { actor: owner(name), command: Command::JoinConsortium(join) });
    }
    let activate = ActivateConsortium { consortium: consortium() };
    wishes.push(Wish { actor: owner(MEMBERS[0]), command: Command::ActivateConsortium(activate) });
    wishes
}

/// Gives what must be there before a cloud's machines: the platform.
pub(crate) fn platform() -> Vec<Wish> {
    founding().into_iter().take(2).collect()
}

/// The one cloud.
pub(crate) fn cloud() -> CloudId {
    CloudId::parse("north").expect("a fixed name")
}

/// A host, or a machine of the cloud.
pub(crate) fn host_id(name: &str) -> HostId {
    HostId::parse(name).expect("a fixed name")
}

/// The order of the cloud.
pub(crate) fn add_cloud() -> Wish {
    let spec = CloudSpec {
        kind: CloudKind::Ec2,
        endpoint: "https://cloud.example".into(),
        region: "north".into(),
        credentials: "north".into(),
        public: false,
        ssh_from: vec!["10.0.0.0/24".into()],
        peers_from: Vec::new(),
        user: "hanse".into(),
        root: "/var/lib/hanse".into(),
        port_first: 20_000,
        port_count: 100,
        machines_max: 10,
    };
    by_root(Command::AddCloud(AddCloud { cloud: cloud(), spec }))
}

/// The order of a machine.
pub(crate) fn create_machine(name: &str) -> Wish {
    let spec = MachineSpec {
        cloud: cloud(),
        image: "image-1".into(),
        machine_type: "small".into(),
        zone: String::new(),
        subnet: String::new(),
        disk_gib: 0,
        slots: SLOTS,
        host_key: HostKey::Made,
        data_disk: None,
    };
    by_root(Command::CreateMachine(CreateMachine { machine: host_id(name), spec }))
}

/// The end of a machine.
pub(crate) fn delete_machine(name: &str) -> Wish {
    by_root(Command::DeleteMachine(DeleteMachine { machine: host_id(name), reason: "by hand".into() }))
}

/// The node that a member owns.
pub(crate) fn node_of(name: &str) -> NodeSpec {
    NodeSpec { owner: tenant(name) }
}

/// The order of a chain.
pub(crate) fn action(number: u64, nodes: usize) -> Action {
    action_of("evm-standard", number, nodes)
}

/// The order of a chain of a template.
pub(crate) fn action_of(template: &str, number: u64, nodes: usize) -> Action {
    Action::CreateChain(ChainSpec {
        chain: ChainId::parse(&format!("chain-{number}")).expect("a counted name"),
        template: template.into(),
        template_version: 1,
        chain_id: 1_000 + number,
        parameters: BTreeMap::new(),
        nodes: MEMBERS.iter().take(nodes).map(|name| node_of(name)).collect(),
        alloc: BTreeMap::new(),
        governance: None,
        anchor: None,
    })
}

/// The opening of a vote.
pub(crate) fn open(name: &str, action: Action) -> Wish {
    let open = OpenProposal { consortium: consortium(), title: "A chain".into(), action, voting_period_ms: None };
    Wish { actor: owner(name), command: Command::OpenProposal(open) }
}

fn ballot(name: &str, proposal: &ProposalKey, artifact_hash: Digest, choice: Choice) -> Wish {
    let voter = tenant(name);
    let signature = sign(name, &ballot_text(cluster(), proposal, &artifact_hash, &voter, choice));
    let ballot = CastBallot { proposal: proposal.clone(), voter, choice, artifact_hash, signature };
    Wish { actor: owner(name), command: Command::CastBallot(ballot) }
}

/// A node, as a read showed it.
#[derive(Clone, Debug)]
struct Seen {
    key: NodeKey,
    generation: u64,
    state: NodeState,
    placed: bool,
}

/// What the clients know together: how many of each thing were wished for.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    tenants: u64,
    proposals: u64,
    accounts: u64,
    /// Proposals that a client was told are open, with the hash of what is voted on.
    open: Vec<(ProposalKey, Digest)>,
    /// Nodes as of the last read.
    nodes: Vec<Seen>,
    hosts: u64,
    /// Chains that have run, as of the last read.
    chains: Vec<ChainKey>,
    contracts: u64,
    /// Whether the last contract was wished for.
    tried: bool,
}

impl Plans {
    /// Gives a client's next wish.
    pub(crate) fn next(&mut self, dice: &mut Dice) -> Wish {
        match dice.range(0, 99) {
            0..20 => {
                self.tenants += 1;
                create_tenant(&format!("tenant-{}", self.tenants))
            }
            20..35 if !self.chains.is_empty() => self.deploy(dice),
            20..45 => self.account(dice),
            45..55 => self.propose(dice),
            55..60 if !self.nodes.is_empty() => {
                let Seen { key, generation, .. } = dice.pick(&self.nodes);
                restart(&key, generation, "by hand")
            }
            _ if self.open.is_empty() => self.propose(dice),
            _ => self.vote(dice),
        }
    }

    /// Gives the wish for one more account.
    pub(crate) fn account(&mut self, dice: &mut Dice) -> Wish {
        self.accounts += 1;
        let name = dice.pick(&MEMBERS);
        let role = Role::Platform(hanse_state::account::PlatformRole::Operator);
        let command = Command::CreateAccount(CreateAccount {
            account: account(&format!("user-{}", self.accounts)),
            role,
            password_hash: password(),
        });
        // A member's owner may not: an ordinary refusal now and then.
        let actor = if dice.chance(20) { owner(name) } else { Actor::Account(account("root")) };
        Wish { actor, command }
    }

    /// Keeps what a read showed.
    pub(crate) fn saw(&mut self, state: &State) {
        let seen = |node: &Node| Seen {
            key: node.key.clone(),
            generation: node.generation,
            state: node.state,
            placed: node.host.is_some(),
        };
        self.nodes = state.nodes.values().map(seen).collect();
        self.chains =
            state.chains.values().filter(|chain| chain.ran_at.is_some()).map(|chain| chain.key.clone()).collect();
    }

    /// Gives the wish for one more contract, or for the last one once more.
    pub(crate) fn deploy(&mut self, dice: &mut Dice) -> Wish {
        if self.contracts == 0 || dice.chance(90) {
            self.contracts += 1;
        }
        // What a name deploys is the same each time: somebody signed it once.
        let mut fixed = Dice::new(self.contracts, "contract");
        let deploys = match fixed.range(0, 9) {
            0 => Deploys::Reverts,
            1 => Deploys::Nothing,
            2 => Deploys::Refused,
            _ => Deploys::Well,
        };
        let chain = dice.pick(&self.chains);
        let contract = ContractId::parse(&format!("contract-{}", self.contracts)).expect("a counted name");
        let raw = signed(contract.as_str(), &format!("user-{}", self.contracts), 0, deploys);
        let command = Command::DeployContract(DeployContract {
            contract: ContractKey { chain, contract },
            raw_transaction: Blob(raw),
        });
        Wish { actor: owner(dice.pick(&MEMBERS)), command }
    }

    /// Keeps an open proposal.
    pub(crate) fn opened(&mut self, proposal: &ProposalKey, artifact_hash: Digest) {
        let opened = (proposal.clone(), artifact_hash);
        if !self.open.contains(&opened) {
            self.open.push(opened);
        }
    }

    /// Gives what a person would do about the nodes of the last read: another host, or a blocked one started again.
    pub(crate) fn unblock(&mut self) -> Option<Wish> {
        if self.nodes.iter().any(|node| !node.placed) {
            self.nodes.clear();
            self.hosts += 1;
            return Some(enrol(&format!("spare{}", self.hosts)));
        }
        let at = self.nodes.iter().position(|node| node.state == NodeState::Blocked)?;
        let Seen { key, generation, .. } = self.nodes.remove(at);
        Some(restart(&key, generation, "looked at"))
    }

    /// Gives the wish for a contract that is deployed while the healed cluster is tried, once.
    pub(crate) fn last_contract(&mut self, dice: &mut Dice) -> Option<Wish> {
        let due = !self.tried && !self.chains.is_empty();
        self.tried |= due;
        due.then(|| self.deploy(dice))
    }

    /// Gives the proposal of the first chain.
    pub(crate) fn first_chain(&mut self) -> Wish {
        self.proposals += 1;
        open(MEMBERS[0], action(self.proposals, MEMBERS.len()))
    }

    /// Gives everybody's yes to the last proposal.
    pub(crate) fn all_agree(&self) -> Vec<Wish> {
        let (proposal, artifact_hash) = self.open.last().expect("a proposal is open");
        MEMBERS.map(|name| ballot(name, proposal, *artifact_hash, Choice::Yes)).into()
    }

    fn propose(&mut self, dice: &mut Dice) -> Wish {
        self.proposals += 1;
        let name = dice.pick(&MEMBERS);
        open(name, action(self.proposals, dice.pick(&[1, 3, 4])))
    }

    /// One of the latest proposals, any member, any choice: most ballots race with others of the same member.
    fn vote(&self, dice: &mut Dice) -> Wish {
        let latest = self.open.len().saturating_sub(4);
        let (proposal, artifact_hash) = dice.pick(&self.open[latest..]);
        let name = dice.pick(&MEMBERS);
        let choice = dice.pick(&[Choice::Yes, Choice::Yes, Choice::Yes, Choice::No, Choice::Abstain]);
        ballot(name, &proposal, artifact_hash, choice)
    }
}
