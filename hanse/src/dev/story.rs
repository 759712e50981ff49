//! The demo story, told through the public API only: what a script could do, nothing more.
//!
//! Every step looks first whether it was done already, so that a second run in the same folder continues.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hanse_client::{Client, ClientError, Code, ballot, join, pb};

use super::ground::{Ground, PORTS_PER_HOST};
use super::people::{ADMIN, People, TENANTS, governor, login, member_key, owner, stranger};
use super::teller::note;
use crate::wallet::Wallet;

/// The demo's consortium and chain.
pub(crate) const CONSORTIUM: &str = "trade-alliance";
pub(crate) const CHAIN: &str = "supply-1";
pub(crate) const CHAIN_ID: u64 = 20_261;
/// Price of the demo: 0.36 CNY for a node and hour.
const RATE_MICRO_PER_NODE_HOUR: u64 = 360_000;
/// What the treasury account holds at genesis: a million ether in wei.
const TREASURY_WEI: &str = "1000000000000000000000000";
/// Longest wait for one thing to come true.
const WAIT_MAX: Duration = Duration::from_secs(180);
/// Pause between two looks.
const WAIT_PERIOD: Duration = Duration::from_millis(150);

/// Asks until `Some`; `what` says what was waited for when the time is over.
pub(crate) async fn wait_for<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let end = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        if let Some(value) = ask().await? {
            return Ok(value);
        }
        if tokio::time::Instant::now() > end {
            bail!("{what}: not within {} s", WAIT_MAX.as_secs());
        }
        tokio::time::sleep(WAIT_PERIOD).await;
    }
}

/// `None` for what is not there, an error for everything else.
pub(crate) fn found<T>(result: Result<T, ClientError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits for a leader.
pub(crate) async fn leader(ground: &Ground) -> Result<String> {
    let client = stranger(ground)?;
    wait_for("a leader", || async {
        match client.call(pb::GetStatusRequest {}).await {
            Ok(status) if !status.leader_id.is_empty() => Ok(Some(status.leader_id)),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.code, Code::Unavailable | Code::DeadlineExceeded) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// The first administrator, by the one-time code; and a session.
pub(crate) async fn administrator(ground: &mut Ground) -> Result<(Client, String)> {
    let client = stranger(ground)?;
    if !client.call(pb::GetStatusRequest {}).await?.bootstrapped {
        let files: Vec<_> =
            ground.layout.replicas.keys().map(|id| ground.dir.join(format!("n{id}/data/setup-code"))).collect();
        let code = wait_for("the one-time setup code", || async {
            Ok(files.iter().find_map(|file| std::fs::read_to_string(file).ok()))
        })
        .await?;
        note("one-time setup code found; it is spent now");
        let password = ground.password(ADMIN)?;
        // The code's hash may be a moment behind its file.
        wait_for("the cluster's first entry", || async {
            let request = pb::BootstrapRequest {
                setup_code: code.trim().into(),
                account: ADMIN.into(),
                password: password.clone(),
                ..Default::default()
            };
            match client.call(request).await {
                Ok(_) => Ok(Some(())),
                Err(error) if error.code == Code::FailedPrecondition || error.code == Code::Unavailable => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
    }
    login(ground, ADMIN).await
}

/// The price plan.
pub(crate) async fn plan(admin: &Client) -> Result<()> {
    if !admin.call(pb::ListPlansRequest::default()).await?.plans.is_empty() {
        return Ok(());
    }
    let request = pb::SetPlanRequest {
        plan: "standard".into(),
        currency: "CNY".into(),
        rate_micro_per_node_hour: RATE_MICRO_PER_NODE_HOUR,
        ..Default::default()
    };
    admin.call(request).await?;
    note("plan standard: 0.36 CNY for a node and hour");
    Ok(())
}

/// Four hosts, each a folder of this machine.
pub(crate) async fn hosts(ground: &Ground, admin: &Client) -> Result<()> {
    for (name, port_first) in &ground.layout.hosts {
        if found(admin.call(pb::GetHostRequest { host: name.clone() }).await)?.is_some() {
            continue;
        }
        let root = ground.host_root(name);
        std::fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
        let reach = pb::LocalReach { root: root.display().to_string() };
        let request = pb::EnrolHostRequest {
            host: name.clone(),
            reach: Some(pb::enrol_host_request::Reach::Local(reach)),
            peer_address: "127.0.0.1".into(),
            port_first: (*port_first).into(),
            port_count: PORTS_PER_HOST.into(),
            slots: 2,
            ..Default::default()
        };
        admin.call(request).await.with_context(|| format!("enrol {name}"))?;
        note(format_args!("host {name}: ports {port_first} to {}", port_first + PORTS_PER_HOST - 1));
    }
    Ok(())
}

/// Four tenants with an owner each, and everyone's session and key.
pub(crate) async fn tenants(ground: &mut Ground, admin: Client, token: String) -> Result<People> {
    let mut people = People { admin, token, owners: Default::default(), keys: Default::default() };
    for (tenant, display_name) in TENANTS {
        let owner = owner(tenant);
        let owner_password = ground.password(&owner)?;
        if found(people.admin.call(pb::GetTenantRequest { tenant: tenant.into() }).await)?.is_none() {
            let request = pb::CreateTenantRequest {
                tenant: tenant.into(),
                display_name: display_name.into(),
                owner_account: owner.clone(),
                owner_password,
                ..Default::default()
            };
            people.admin.call(request).await.with_context(|| format!("create {tenant}"))?;
            note(format_args!("tenant {tenant} with its owner {owner}"));
        }
        people.owners.insert(tenant.into(), login(ground, &owner).await?.0);
        people.keys.insert(tenant.into(), member_key(ground, tenant)?);
    }
    Ok(people)
}

/// A consortium of the four with a charter, active.
pub(crate) async fn consortium(people: &People) -> Result<()> {
    let founder = people.founder()?;
    let get = || async { found(founder.call(pb::GetConsortiumRequest { consortium: CONSORTIUM.into() }).await) };
    if get().await?.is_none() {
        let rule = pb::PolicyRule { action: pb::ActionKind::CreateChain.into(), policy: pb::Policy::TwoThirds.into() };
        let request = pb::CreateConsortiumRequest {
            consortium: CONSORTIUM.into(),
            display_name: "Trade Alliance".into(),
            charter: Some(pb::Charter { policies: vec![rule], voting_period_ms: 600_000 }),
            member_key: key(people, TENANTS[0].0)?.public_hex(),
            weight: 1,
            ..Default::default()
        };
        founder.call(request).await?;
        note("charter: a chain needs two thirds of the weight, votes are open for 10 minutes");
    }
    let known = get().await?.and_then(|response| response.consortium).context("the consortium is there")?;
    if known.state() == pb::ConsortiumState::Active {
        return Ok(());
    }
    let cluster = founder.call(pb::GetStatusRequest {}).await?.cluster_id;
    for (tenant, _) in &TENANTS[1..] {
        let seat = known.members.iter().find(|member| member.tenant == *tenant);
        if seat.is_none() {
            let (consortium, tenant) = (CONSORTIUM.into(), (*tenant).into());
            founder.call(pb::InviteMemberRequest { consortium, tenant, weight: 1, ..Default::default() }).await?;
        }
        if seat.is_none_or(|member| member.state() != pb::MemberState::Active) {
            let request = join::sign(key(people, tenant)?, &cluster, CONSORTIUM, tenant)?;
            session(people, tenant)?.call(request).await.with_context(|| format!("{tenant} joins"))?;
            note(format_args!("{tenant} joined with its own key"));
        }
    }
    founder.call(pb::ActivateConsortiumRequest { consortium: CONSORTIUM.into(), ..Default::default() }).await?;
    Ok(())
}

/// A proposal to create the chain, and signed ballots until it is decided. Returns the decided proposal.
pub(crate) async fn vote(ground: &Ground, people: &People, treasury: &Wallet) -> Result<pb::Proposal> {
    let founder = people.founder()?;
    let list = pb::ListProposalsRequest { consortium: CONSORTIUM.into(), ..Default::default() };
    let mut known = founder.call(list).await?.proposals.into_iter();
    let mut proposal =
        match known.rfind(|p| matches!(p.outcome(), pb::ProposalOutcome::Open | pb::ProposalOutcome::Passed)) {
            Some(proposal) => proposal,
            None => open(ground, founder, treasury).await?,
        };
    let cluster = founder.call(pb::GetStatusRequest {}).await?.cluster_id;
    for (tenant, _) in TENANTS {
        if proposal.outcome() != pb::ProposalOutcome::Open {
            break;
        }
        if proposal.ballots.iter().any(|ballot| ballot.voter == tenant) {
            continue;
        }
        let get = pb::GetProposalRequest { consortium: CONSORTIUM.into(), proposal: proposal.proposal.clone() };
        let shown = session(people, tenant)?.call(get).await?.proposal.context("the proposal is there")?;
        let signed = ballot::sign(key(people, tenant)?, &cluster, &shown, tenant, pb::Choice::Yes)?;
        let response = session(people, tenant)?.call(signed).await.with_context(|| format!("{tenant} votes"))?;
        proposal = response.proposal.context("the proposal is there")?;
        let tally = proposal.tally.unwrap_or_default();
        note(format_args!("{tenant}: yes, signed with its own key ({} of {} weight)", tally.yes, tally.total));
    }
    if proposal.outcome() != pb::ProposalOutcome::Passed {
        bail!("the proposal did not pass: {}", proposal.state_reason);
    }
    note(format_args!("{} passed and ordered {}", proposal.name, proposal.ordered_resource));
    Ok(proposal)
}

/// Three of the four members change the running chain, each with an account of its own.
fn governance(ground: &Ground) -> Result<pb::GovernanceSpec> {
    let mut members = BTreeMap::new();
    for (tenant, _) in TENANTS {
        members.insert(tenant.to_owned(), governor(ground, tenant)?.address());
    }
    note("governance: 3 of the 4 members' accounts change the chain while it runs");
    Ok(pb::GovernanceSpec { members, threshold: 3, ..Default::default() })
}

async fn open(ground: &Ground, founder: &Client, treasury: &Wallet) -> Result<pb::Proposal> {
    let spec = pb::ChainSpec {
        chain: CHAIN.into(),
        template: "evm-standard".into(),
        template_version: 1,
        chain_id: CHAIN_ID,
        parameters: [("block_time_ms".to_string(), 1_000)].into(),
        nodes: TENANTS.iter().map(|(tenant, _)| pb::NodeSpec { owner: (*tenant).into() }).collect(),
        alloc: [(treasury.address(), TREASURY_WEI.to_string())].into(),
        governance: Some(governance(ground)?),
        anchor: Some(pb::ChainAnchor::default()),
    };
    let request = pb::OpenProposalRequest {
        consortium: CONSORTIUM.into(),
        title: "A chain for our supply records".into(),
        action: Some(pb::Action { kind: Some(pb::action::Kind::CreateChain(spec)) }),
        ..Default::default()
    };
    let proposal = founder.call(request).await?.proposal.context("the proposal is there")?;
    note(format_args!("{}: artifact {}", proposal.name, proposal.artifact_hash));
    Ok(proposal)
}

/// Follows an operation to its end, telling each step as it ends.
pub(crate) async fn follow(client: &Client, operation: &str) -> Result<()> {
    let mut told = BTreeSet::new();
    let mut last = String::new();
    let ended = wait_for("the operation", || async {
        let request = pb::GetOperationRequest { operation: operation.rsplit('/').next().unwrap_or(operation).into() };
        let found = match client.call(request).await {
            Ok(response) => response.operation.context("the operation is there")?,
            Err(error) if error.code == Code::Unavailable => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(found))
    });
    let mut current = ended.await?;
    let end = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        for line in newly_done(&current.steps, &mut told) {
            note(line);
        }
        match current.state() {
            pb::OperationState::Succeeded => return Ok(()),
            pb::OperationState::Failed => bail!("{}: {}", current.name, current.cause),
            pb::OperationState::Running | pb::OperationState::Unspecified => {}
        }
        if let Some(step) = current.steps.iter().find(|step| step.state() == pb::StepState::Running) {
            last = format!("{} {}: {}", step.step, step.target, step.detail);
        }
        if tokio::time::Instant::now() > end {
            bail!("{} is not done after {} s; it is at: {last}", current.name, WAIT_MAX.as_secs());
        }
        tokio::time::sleep(WAIT_PERIOD).await;
        let request = pb::GetOperationRequest { operation: current.operation.clone() };
        match client.call(request).await {
            Ok(response) => current = response.operation.context("the operation is there")?,
            Err(error) if error.code == Code::Unavailable => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A line for each step that is done and not among those `told`, which it joins. Nodes are worked on at the same time, so
/// steps end in another order than they stand in.
fn newly_done(steps: &[pb::OperationStep], told: &mut BTreeSet<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for (place, step) in steps.iter().enumerate().filter(|(_, step)| step.state() == pb::StepState::Done) {
        if told.insert(place) {
            lines.push(format!("{}/{} {} {}", told.len(), steps.len(), step.step, short(&step.target)));
        }
    }
    lines
}

fn short(target: &str) -> &str {
    target.rsplit('/').next().unwrap_or(target)
}

/// Waits until the chain runs and has made a block above `above`; returns it.
pub(crate) async fn blocks(people: &People, above: u64) -> Result<pb::Chain> {
    let client = people.founder()?;
    wait_for("the chain makes blocks", || async {
        let request = pb::GetChainRequest { consortium: CONSORTIUM.into(), chain: CHAIN.into() };
        let chain = client.call(request).await?.chain.context("the chain is there")?;
        let makes_blocks = chain.state() == pb::ChainState::Running && chain.height > above;
        if !makes_blocks {
            unblock(people).await?;
        }
        Ok(makes_blocks.then_some(chain))
    })
    .await
}

/// Every start of a kept demo restarts the nodes, which spends their budget; a person may restart them all the same.
async fn unblock(people: &People) -> Result<()> {
    let request = pb::ListNodesRequest { consortium: CONSORTIUM.into(), chain: CHAIN.into(), ..Default::default() };
    for node in people.admin.call(request).await?.nodes {
        if node.state() == pb::NodeState::Blocked {
            note(format_args!("{} is blocked ({}); restarted by hand", node.name, node.state_reason));
            let request = pb::RestartNodeRequest {
                consortium: node.consortium,
                chain: node.chain,
                node: node.node,
                reason: "the demo is started again".into(),
                ..Default::default()
            };
            people.admin.call(request).await?;
        }
    }
    Ok(())
}

fn key<'a>(people: &'a People, tenant: &str) -> Result<&'a hanse_client::MemberKey> {
    people.keys.get(tenant).with_context(|| format!("{tenant} has a key"))
}

fn session<'a>(people: &'a People, tenant: &str) -> Result<&'a Client> {
    people.owners.get(tenant).with_context(|| format!("{tenant} has a session"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_told_once_in_whatever_order_they_end() {
        let mut steps: Vec<pb::OperationStep> = ["n0", "n1", "n2"]
            .map(|target| pb::OperationStep { step: "prepare".into(), target: target.into(), ..Default::default() })
            .into();
        let mut told = BTreeSet::new();
        let mut end = |places: &[usize]| {
            for place in places {
                steps[*place].set_state(pb::StepState::Done);
            }
            newly_done(&steps, &mut told)
        };
        assert_eq!(end(&[2]), ["1/3 prepare n2"]);
        assert_eq!(end(&[]), Vec::<String>::new());
        assert_eq!(end(&[0, 1]), ["2/3 prepare n0", "3/3 prepare n1"]);
    }
}
