//! From the API's messages to the console's own types. Pure; the only place besides `runtime` that knows the API.

use hanse_client::{ClientError, Code, Effect, pb};

use crate::app::model::data::{
    AllowList, AnchorSeen, Audit, AuditTree, Ballot, Block, Chain, ChainAccount, Consortium, DoubleSigning, Failure,
    FailureKind, Governance, Invoice, InvoiceLine, ListChange, Member, Node, Operation, Proposal, Replica, Session,
    Status, Step, Tally, Tenant, Transaction, Validator, ValidatorSet,
};
use crate::app::model::edit::Import;

/// The server's reason when it could not reach a ledger node.
const NODE_UNAVAILABLE: &str = "NODE_UNAVAILABLE";

pub(crate) mod cloud;
mod host;
pub(crate) mod plan;
pub(crate) mod watch;

pub(crate) use host::{host, host_check, is_jump, set_reach};

/// Returns the state word of an enum's full name without its prefix; `UNSPECIFIED` becomes `UNKNOWN`.
fn word(full: &str, prefix: &str) -> String {
    match full.strip_prefix(prefix).unwrap_or(full) {
        "UNSPECIFIED" => "UNKNOWN".to_owned(),
        word => word.to_owned(),
    }
}

pub(crate) fn failure(error: &ClientError) -> Failure {
    let kind = match error.code {
        _ if error.effect == Effect::Unknown => FailureKind::OutcomeUnknown,
        // A ledger node that does not answer says nothing about the control plane.
        Code::Unavailable if error.reason == NODE_UNAVAILABLE => FailureKind::Other,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => FailureKind::Unavailable,
        Code::Unauthenticated => FailureKind::Unauthenticated,
        Code::PermissionDenied => FailureKind::Denied,
        // A connection that broke under a call is the client's own `UNKNOWN`.
        Code::Unknown if error.reason == hanse_client::reason::UNREACHABLE => FailureKind::Unavailable,
        _ => FailureKind::Other,
    };
    Failure {
        kind,
        reason: error.reason.clone(),
        message: error.message.clone(),
        advice: error.advice.clone(),
        field: error.field.as_str().into(),
        request_id: error.request_id.as_str().into(),
    }
}

pub(crate) fn status(s: pb::GetStatusResponse) -> Status {
    let newest = s.replicas.iter().map(|r| r.last_log_index).max().unwrap_or(0);
    let replicas = s.replicas.into_iter().map(|r| {
        let silent = r.role() == pb::ReplicaRole::Unreachable;
        let known = (!silent || r.applied_index > 0).then_some(r.applied_index);
        Replica {
            role: word(r.role().as_str_name(), "REPLICA_ROLE_"),
            address: r.api_address.clone(),
            lag: known.filter(|_| !silent).map(|applied| newest.saturating_sub(applied)),
            applied: known,
            version: r.version.clone(),
            // A build from before there were versions speaks the first.
            speaks: (!silent).then_some((r.speaks_oldest.max(1), r.speaks_newest.max(1))),
            digest: r.digest.clone(),
            id: r.id,
        }
    });
    Status {
        replicas: replicas.collect(),
        cluster: s.cluster_name,
        cluster_id: s.cluster_id,
        bootstrapped: s.bootstrapped,
        leader: Some(s.leader_id).filter(|id| !id.is_empty()),
        term: s.term,
        revision: s.revision,
        version: s.cluster_version,
    }
}

pub(crate) fn session(s: pb::WhoAmIResponse) -> Session {
    let account = s.account.unwrap_or_default();
    Session {
        role: word(account.role().as_str_name(), "ROLE_"),
        account: account.account,
        tenant: account.tenant,
        expires_at: s.session.map(|s| s.expires_at_ms).unwrap_or_default(),
    }
}

pub(crate) fn tenant(t: pb::Tenant) -> Tenant {
    let state = word(t.state().as_str_name(), "TENANT_STATE_");
    Tenant { state, name: t.name, display_name: t.display_name, created_at: t.created_at_ms }
}

pub(crate) fn consortium(c: pb::Consortium) -> Consortium {
    let state = word(c.state().as_str_name(), "CONSORTIUM_STATE_");
    let members = c.members.into_iter().map(|m| Member {
        state: word(m.state().as_str_name(), "MEMBER_STATE_"),
        tenant: m.tenant,
        weight: m.weight.into(),
        key: m.member_key,
    });
    let charter = c.charter.unwrap_or_default();
    let policies = charter
        .policies
        .iter()
        .map(|r| (word(r.action().as_str_name(), "ACTION_KIND_"), word(r.policy().as_str_name(), "POLICY_")));
    Consortium {
        name: c.name,
        display_name: c.display_name,
        state,
        founder: c.founder,
        members: members.collect(),
        policies: policies.collect(),
        voting_period_ms: u64::try_from(charter.voting_period_ms).unwrap_or(0),
        created_at: c.created_at_ms,
    }
}

pub(crate) fn proposal(p: pb::Proposal) -> Proposal {
    let tally = p.tally.unwrap_or_default();
    let ballots = p.electorate.iter().map(|e| {
        let cast = p.ballots.iter().find(|b| b.voter == e.tenant);
        Ballot {
            tenant: e.tenant.clone(),
            weight: e.weight.into(),
            choice: cast.map(|b| word(b.choice().as_str_name(), "CHOICE_")).unwrap_or_default(),
            at: cast.map(|b| b.cast_at_ms).unwrap_or_default(),
        }
    });
    Proposal {
        ballots: ballots.collect(),
        action: word(p.action_kind().as_str_name(), "ACTION_KIND_"),
        state: word(p.outcome().as_str_name(), "PROPOSAL_OUTCOME_"),
        policy: word(p.policy().as_str_name(), "POLICY_"),
        tally: Tally { yes: tally.yes, no: tally.no, abstain: tally.abstain, total: tally.total, needed: tally.needed },
        artifact: String::from_utf8_lossy(&p.artifact).into_owned(),
        name: p.name,
        title: p.title,
        reason: p.state_reason,
        by: p.opened_by,
        opened_at: p.opened_at_ms,
        deadline: p.deadline_ms,
        decided_at: p.decided_at_ms,
        artifact_hash: p.artifact_hash,
        operation: p.operation,
        ordered: p.ordered_resource,
    }
}

pub(crate) fn chain(c: pb::Chain) -> Chain {
    let state = word(c.state().as_str_name(), "CHAIN_STATE_");
    let spec = c.spec.unwrap_or_default();
    let at_rest = matches!(state.as_str(), "STOPPING" | "PAUSED");
    Chain {
        rolling: c.rollout.as_ref().map(rolling).unwrap_or_default(),
        halted: c.rollout.map(|it| it.halted).unwrap_or_default(),
        program: program(c.program),
        settings: c.settings.into_iter().map(|(k, v)| (k, v.to_string())).collect(),
        way_back: c.refit.is_some_and(|it| it.settled_at_ms == 0 && it.rolled_back.is_empty()),
        paused: at_rest && c.purge_at_ms == 0,
        purge_at: c.purge_at_ms,
        name: c.name,
        template: format!("{} v{}", spec.template, spec.template_version),
        chain_id: spec.chain_id,
        state,
        reason: c.state_reason,
        since: c.state_since_ms,
        height: (c.height_seen_at_ms > 0).then_some(c.height),
        nodes_ready: (c.nodes_running.into(), c.nodes_total.into()),
        operation: if c.change_operation.is_empty() { c.operation } else { c.change_operation },
        proposal: c.proposal,
        genesis_hash: c.genesis_hash,
        anchor: c.anchor.map(|it| AnchorSeen {
            records: it.tree_size,
            height: it.height,
            at: it.at_ms,
            error: it.error,
        }),
        parameters: spec.parameters.into_iter().map(|(k, v)| (k, v.to_string())).collect(),
        governors: spec.governance.map(|governance| (governance.threshold, governance.members.len())),
        created_at: c.created_at_ms,
        repairs: c.repairs_per_hour,
        repairs_default: c.repairs_default,
    }
}

/// A chain of others that is to be made known.
pub(crate) fn import(it: Import) -> pb::ImportChainRequest {
    let endpoint = |(host, rpc, consensus): (String, u16, u16)| pb::Endpoint {
        host,
        rpc_port: rpc.into(),
        consensus_port: consensus.into(),
    };
    pb::ImportChainRequest {
        consortium: it.consortium,
        chain: it.chain,
        template: it.template,
        chain_id: it.chain_id,
        first_block: it.first_block,
        owner: it.owner,
        endpoints: it.endpoints.into_iter().map(endpoint).collect(),
        reason: it.reason,
        ..Default::default()
    }
}

/// A program as people call it, with the beginning of its hash; empty if it is the platform's own.
fn program(it: Option<pb::Program>) -> String {
    let short = |hash: String| hash.chars().take(12).collect::<String>();
    it.map(|it| format!("{} {} ({})", it.name, it.version, short(it.sha256))).unwrap_or_default()
}

/// How far a rolling change is, empty if it is done.
fn rolling(it: &pb::Rollout) -> String {
    let is_done = it.nodes_reached >= it.nodes_total;
    if is_done { String::new() } else { format!("{}/{}", it.nodes_reached, it.nodes_total) }
}

pub(crate) fn node(n: pb::Node) -> Node {
    Node {
        state: word(n.state().as_str_name(), "NODE_STATE_"),
        health: word(n.health().as_str_name(), "NODE_HEALTH_"),
        name: n.name,
        owner: n.owner,
        host: n.host,
        reason: n.state_reason,
        seat: (seat(n.validates, n.seat.as_ref()).to_owned(), n.seat.map(|seat| seat.waits).unwrap_or_default()),
        says: n.health_reason,
        since: n.state_since_ms,
        generation: n.generation,
        height: (n.height_seen_at_ms > 0).then_some(n.height),
        ports: (n.p2p_port, n.rpc_port),
        restarts: n.restarts_last_hour.into(),
        repairs_left: n.repairs_left,
        taken_from: n.taken_from,
        peers: n.peers.into(),
        identity: n.node_id,
    }
}

/// What a node is on its ledger, or is to become.
fn seat(validates: bool, seat: Option<&pb::NodeSeat>) -> &'static str {
    match seat.filter(|seat| seat.wished != seat.held) {
        Some(seat) if seat.wished => "TO_VALIDATE",
        Some(_) => "TO_FOLLOW",
        None if validates => "VALIDATOR",
        None => "FOLLOWER",
    }
}

pub(crate) fn governance(answer: pb::GetChainGovernanceResponse) -> Governance {
    let g = answer.governance.unwrap_or_default();
    let one = |v: pb::LedgerValidator| Validator { node: v.node, owner: v.owner, power: v.power, node_id: v.node_id };
    let set = |from_height: u64, set: Vec<pb::LedgerValidator>| ValidatorSet {
        from_height,
        validators: set.into_iter().map(one).collect(),
    };
    let pending = g.pending_validators.into_iter().map(|p| set(p.from_height, p.validators));
    let proof = |e: pb::DoubleSigning| DoubleSigning {
        who: if e.node.is_empty() { e.node_id } else { e.node },
        owner: e.owner,
        kind: e.kind,
        height: e.height,
    };
    Governance {
        node: answer.node,
        governed: g.governed,
        next_height: g.next_height,
        threshold: g.threshold,
        sequence: g.sequence,
        members: g.members.into_iter().map(|m| (m.account, m.tenant)).collect(),
        validators: std::iter::once(set(0, g.validators)).chain(pending).collect(),
        nodes: allow_list(g.nodes),
        senders: allow_list(g.senders),
        deployers: allow_list(g.deployers),
        upgrade: g.upgrade.map(|u| (u.version, u.after_height)),
        // A chain that never scheduled an upgrade runs by the first rules.
        protocol: (g.protocol, g.protocol_needed.max(1)),
        halted: g.halted,
        evidence: g.evidence.into_iter().map(proof).collect(),
        silent: g.silent_nodes,
    }
}

fn allow_list(list: Option<pb::AllowList>) -> AllowList {
    let list = list.unwrap_or_default();
    let change = |c: pb::AllowListChange| ListChange { entry: c.entry, allowed: c.allowed, from_height: c.from_height };
    AllowList {
        restricted: (list.restricted, list.restricted_soon),
        entries: list.entries,
        pending: list.pending.into_iter().map(change).collect(),
    }
}

pub(crate) fn operation(o: pb::Operation) -> Operation {
    let (kind, state) =
        (word(o.kind().as_str_name(), "OPERATION_KIND_"), word(o.state().as_str_name(), "OPERATION_STATE_"));
    let steps = o.steps.into_iter().map(|s| Step {
        state: word(s.state().as_str_name(), "STEP_STATE_"),
        name: s.step,
        target: s.target,
        detail: s.detail,
        output: s.output,
        started_at: s.started_at_ms,
        ended_at: s.ended_at_ms,
    });
    Operation {
        steps: steps.collect(),
        kind,
        state,
        name: o.name,
        target: o.target,
        by: o.started_by,
        request_id: o.request_id,
        started_at: o.started_at_ms,
        ended_at: o.ended_at_ms,
        cause: o.cause,
    }
}

pub(crate) fn audit(a: pb::AuditRecord) -> Audit {
    Audit {
        seq: a.seq,
        revision: a.revision,
        at: a.at_ms,
        actor: a.actor,
        source: a.source,
        action: a.action,
        resource: a.resource,
        outcome: a.outcome,
        request_id: a.request_id,
        detail: a.detail,
        hash: a.hash,
    }
}

pub(crate) fn audit_tree(c: pb::AuditCheckpoint) -> AuditTree {
    AuditTree { size: c.tree_size, root: c.root_hash }
}

/// Returns the draft as the console shows it.
///
/// # Errors
/// An amount that is no exact decimal: money is never guessed.
pub(crate) fn invoice(i: pb::GetInvoiceDraftResponse) -> Result<Invoice, Failure> {
    let total = i.total.unwrap_or_default();
    let recomputed = i.recomputed_total.unwrap_or_default();
    let mut lines = Vec::new();
    for line in i.lines {
        lines.push(InvoiceLine {
            ms: line.running_ms,
            rate_micro: line.rate_micro_per_node_hour,
            micro: micro(&line.amount.unwrap_or_default().amount)?,
            node: line.node,
        });
    }
    Ok(Invoice {
        lines,
        total_micro: micro(&total.amount)?,
        recomputed_micro: micro(&recomputed.amount)?,
        currency: total.currency,
        name: i.name,
        tenant: i.tenant,
        month: i.month,
        unpriced_ms: i.unpriced_ms,
        metered_until: i.metered_until_ms,
        note: i.note,
    })
}

/// Returns millionths of an exact decimal; an absent amount is zero.
fn micro(amount: &str) -> Result<i128, Failure> {
    let parse = || {
        let (negative, digits) = amount.strip_prefix('-').map_or((false, amount), |rest| (true, rest));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        if part.len() > 6 || !(whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit())) {
            return None;
        }
        let micro = format!("{whole}{part:0<6}").parse::<i128>().ok()?;
        Some(if negative { -micro } else { micro })
    };
    if amount.is_empty() {
        return Ok(0);
    }
    parse().ok_or_else(|| Failure {
        reason: hanse_client::reason::BAD_RESPONSE.to_owned(),
        message: format!("{amount:?} is no amount of money"),
        ..Failure::default()
    })
}

pub(crate) fn block(b: pb::Block) -> Block {
    Block {
        height: b.height,
        hash: b.hash,
        parent: b.parent_hash,
        at: b.timestamp_ms,
        proposer: b.proposer,
        state_root: b.state_root,
        gas: (b.gas_used, b.gas_limit),
        transactions: b.transaction_hashes,
    }
}

pub(crate) fn transaction(t: pb::Transaction) -> Transaction {
    let hex = |bytes: &[u8]| format!("0x{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
    let mut facts = vec![
        ("NONCE".to_owned(), t.nonce.to_string()),
        ("GAS LIMIT".to_owned(), t.gas_limit.to_string()),
        ("GAS PRICE".to_owned(), format!("{} wei", t.gas_price_wei)),
        ("INDEX".to_owned(), t.index.to_string()),
        ("LOGS".to_owned(), t.logs.len().to_string()),
    ];
    for (i, log) in t.logs.iter().enumerate() {
        facts.push((format!("LOG {i}"), format!("{} {} {}", log.address, log.topics.join(" "), hex(&log.data))));
    }
    Transaction {
        state: word(t.state().as_str_name(), "TRANSACTION_STATE_"),
        height: (!t.block_hash.is_empty()).then_some(t.block),
        input: if t.input.is_empty() { String::new() } else { hex(&t.input) },
        hash: t.hash,
        from: t.from,
        to: t.to,
        value: t.value_wei,
        gas_used: t.gas_used,
        contract: t.contract_address,
        facts,
    }
}

pub(crate) fn account(a: pb::LedgerAccount) -> ChainAccount {
    ChainAccount { address: a.address, balance: a.balance_wei, nonce: a.nonce, code_bytes: a.code_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_or_refused() {
        assert_eq!(micro("12.345678"), Ok(12_345_678));
        assert_eq!(micro("-0.5"), Ok(-500_000));
        assert_eq!(micro("7"), Ok(7_000_000));
        assert_eq!(micro(""), Ok(0));
        assert!(micro("1.2345678").is_err() && micro("1e3").is_err() && micro("x").is_err());
    }

    #[test]
    fn a_silent_ledger_node_is_not_a_lost_leader() {
        let kind = |reason| failure(&ClientError::local(Code::Unavailable, reason, "", "")).kind;
        assert_eq!(kind("NODE_UNAVAILABLE"), FailureKind::Other);
        assert_eq!(kind("NO_LEADER"), FailureKind::Unavailable);
        assert_eq!(kind(hanse_client::reason::UNREACHABLE), FailureKind::Unavailable);
    }

    #[test]
    fn words_lose_their_prefix() {
        assert_eq!(word(pb::NodeState::Running.as_str_name(), "NODE_STATE_"), "RUNNING");
        assert_eq!(word(pb::NodeHealth::Unspecified.as_str_name(), "NODE_HEALTH_"), "UNKNOWN");
    }

    #[test]
    fn a_silent_replica_has_no_lag() {
        let replica = |id: &str, role: pb::ReplicaRole, last, applied| pb::Replica {
            id: id.to_owned(),
            role: role.into(),
            last_log_index: last,
            applied_index: applied,
            ..pb::Replica::default()
        };
        let replicas = vec![
            replica("n1", pb::ReplicaRole::Leader, 10, 10),
            replica("n2", pb::ReplicaRole::Follower, 9, 8),
            replica("n3", pb::ReplicaRole::Unreachable, 0, 0),
        ];
        let status = status(pb::GetStatusResponse { replicas, ..pb::GetStatusResponse::default() });
        let lags: Vec<_> = status.replicas.iter().map(|r| (r.applied, r.lag)).collect();
        assert_eq!(lags, [(Some(10), Some(0)), (Some(8), Some(2)), (None, None)]);
        assert_eq!(status.leader, None);
    }
}
