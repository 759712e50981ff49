//! The orders that people give: a platform with one tenant and its consortium, hosts, and votes for chains.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use hanse_state::chain::{ChainSpec, NodeSpec};
use hanse_state::cluster::version::Version;
use hanse_state::cluster::{Bootstrap, InitCluster};
use hanse_state::consortium::ballot::{CastBallot, Choice, ballot_text};
use hanse_state::consortium::policy::{ActionKind, Policy};
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::consortium::{ActivateConsortium, Charter, CreateConsortium};
use hanse_state::host::properties::Tenancy;
use hanse_state::host::{EnrolHost, Reach};
use hanse_state::ids::{AccountId, ClusterId, ConsortiumId, HostId, ProposalKey, TenantId};
use hanse_state::tenant::CreateTenant;
use hanse_state::{Actor, Command, Digest, PublicKey, Secret, Signature};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::fleet::Map;

/// A name that holds for one run.
const CLUSTER: &str = "0193f2a4-0000-7000-8000-000000000001";
const TENANT: &str = "acme";
const CONSORTIUM: &str = "trade";
/// Of a password that nobody has.
const PASSWORD_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo";
/// Most nodes of one chain.
const CHAIN_NODES: usize = 16;

fn id<T: std::str::FromStr<Err = hanse_state::Rejection>>(text: &str) -> Result<T> {
    text.parse().map_err(|rejection: hanse_state::Rejection| anyhow!("{}", rejection.message()))
}

fn key() -> Result<Ed25519KeyPair> {
    let seed = Digest::of(b"the member's key");
    Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).map_err(|e| anyhow!("{e}"))
}

fn account(name: &str) -> Result<Actor> {
    Ok(Actor::Account(id::<AccountId>(name)?))
}

/// From nothing to an active consortium of one member.
pub(crate) fn platform() -> Result<Vec<(Actor, Command)>> {
    let (tenant, consortium): (TenantId, ConsortiumId) = (id(TENANT)?, id(CONSORTIUM)?);
    let code = Digest::of(b"code");
    let owner = format!("owner@{TENANT}");
    let member_key = PublicKey(key()?.public_key().as_ref().try_into()?);
    Ok(vec![
        (
            Actor::System,
            Command::InitCluster(InitCluster {
                cluster: id::<ClusterId>(CLUSTER)?,
                name: "bench".into(),
                setup_code_hash: code,
                version: Version::NEWEST,
            }),
        ),
        (
            Actor::SetupCode,
            Command::Bootstrap(Bootstrap {
                account: id("root")?,
                password_hash: Secret::new(PASSWORD_HASH),
                setup_code_hash: code,
            }),
        ),
        (
            account("root")?,
            Command::CreateTenant(CreateTenant {
                tenant: tenant.clone(),
                display_name: "Acme".into(),
                owner: id(&owner)?,
                owner_password_hash: Secret::new(PASSWORD_HASH),
            }),
        ),
        (
            account(&owner)?,
            Command::CreateConsortium(CreateConsortium {
                consortium: consortium.clone(),
                display_name: "Trade".into(),
                charter: Charter {
                    policies: BTreeMap::from([(ActionKind::CreateChain, Policy::Majority)]),
                    voting_period_ms: 600_000,
                },
                founder: tenant,
                founder_weight: 1,
                member_key,
            }),
        ),
        (account(&owner)?, Command::ActivateConsortium(ActivateConsortium { consortium })),
    ])
}

/// One enrolment for each host.
pub(crate) fn enrolments(map: &Map) -> Result<Vec<(Actor, Command)>> {
    let enrol = |host: &crate::fleet::HostAt| {
        let command = Command::EnrolHost(EnrolHost {
            host: id::<HostId>(&host.name)?,
            reach: Reach::Ssh {
                address: "127.0.0.1".into(),
                port: host.ssh_port,
                user: map.user.clone(),
                fingerprint: host.fingerprint.clone(),
                root: host.root.display().to_string(),
                way: hanse_state::host::way::Way::default(),
            },
            peer_address: "127.0.0.1".into(),
            port_first: host.service_port,
            port_count: 2,
            slots: 1,
            zone: String::new(),
            labels: BTreeMap::new(),
            tenancy: Tenancy::Shared,
        });
        Ok((account("root")?, command))
    };
    map.hosts.iter().map(enrol).collect()
}

/// How many nodes of which chain.
pub(crate) fn chains(nodes: usize) -> impl Iterator<Item = (u64, usize)> {
    let sizes = (0..nodes).step_by(CHAIN_NODES).map(move |from| CHAIN_NODES.min(nodes - from));
    (1..).zip(sizes)
}

/// Opening balances: somebody must have something.
pub(crate) fn alloc() -> BTreeMap<String, String> {
    BTreeMap::from([(format!("0x{}", "11".repeat(20)), "1".into())])
}

/// A chain is proposed.
pub(crate) fn proposal(number: u64, nodes: usize) -> Result<(Actor, Command)> {
    let spec = ChainSpec {
        chain: id(&format!("chain-{number}"))?,
        template: "evm-standard".into(),
        template_version: 1,
        chain_id: number,
        parameters: BTreeMap::new(),
        nodes: vec![NodeSpec { owner: id(TENANT)? }; nodes],
        alloc: alloc(),
        governance: None,
        anchor: None,
    };
    let open = OpenProposal {
        consortium: id(CONSORTIUM)?,
        title: "A chain".into(),
        action: Action::CreateChain(spec),
        voting_period_ms: None,
    };
    Ok((account(&format!("owner@{TENANT}"))?, Command::OpenProposal(open)))
}

/// The ballot that decides.
pub(crate) fn ballot(proposal: &ProposalKey, artifact_hash: Digest) -> Result<(Actor, Command)> {
    let (cluster, voter): (ClusterId, TenantId) = (id(CLUSTER)?, id(TENANT)?);
    let text = ballot_text(cluster, proposal, &artifact_hash, &voter, Choice::Yes);
    let signature = Signature(key()?.sign(text.as_bytes()).as_ref().try_into()?);
    let cast = CastBallot { proposal: proposal.clone(), voter, choice: Choice::Yes, artifact_hash, signature };
    Ok((account(&format!("owner@{TENANT}"))?, Command::CastBallot(cast)))
}
