//! A small consortium as the API would tell it: four tenants, one running chain, one on its way, one broken thing of
//! each kind, and one tenant whose name tries to break the terminal.

use hanse_tui::app::model::data::*;

use super::seed_cloud::{clouds, hosts, machines};
use super::seed_watch::{artifacts, findings, series};

/// 2026-11-23 12:04:31 UTC.
pub(crate) const NOW: i64 = 1_795_435_471_000;
pub(crate) const CHAIN: &str = "consortiums/trade/chains/supply-1";
pub(crate) const PROPOSAL: &str = "consortiums/trade/proposals/p-2";
pub(crate) const TX: &str = "0x7f3ac1d27f3ac1d27f3ac1d27f3ac1d27f3ac1d27f3ac1d27f3ac1d27f3ac1d2";

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn s(text: &str) -> String {
    text.to_owned()
}

pub(crate) fn status(leader: bool) -> Status {
    let replica = |id: &str, role: &str, applied, lag| Replica {
        id: s(id),
        role: s(role),
        address: format!("10.0.0.{}:7443", &id[1..]),
        applied,
        lag,
        version: s("0.1.0"),
        speaks: Some((1, 2)),
        digest: "5e1f".repeat(16),
    };
    Status {
        cluster: s("bj-prod"),
        cluster_id: s("0197b5a0-7c1e-7000-8000-000000000001"),
        bootstrapped: true,
        leader: leader.then(|| s("n1")),
        term: 42,
        revision: 81_234,
        version: 1,
        replicas: vec![
            replica("n1", if leader { "LEADER" } else { "UNREACHABLE" }, Some(81_234), Some(0)),
            replica("n2", "FOLLOWER", Some(81_234), Some(0)),
            replica("n3", "FOLLOWER", Some(81_114), Some(120)),
        ],
    }
}

pub(crate) fn session(account: &str, role: &str, tenant: &str) -> Session {
    Session { account: s(account), role: s(role), tenant: s(tenant), expires_at: NOW + 8 * HOUR }
}

fn tenants() -> Vec<Tenant> {
    let tenant = |id: &str, display: &str, state: &str| Tenant {
        name: format!("tenants/{id}"),
        display_name: s(display),
        state: s(state),
        created_at: NOW - 30 * 24 * HOUR,
    };
    vec![
        tenant("acme", "Acme Trading", "ACTIVE"),
        tenant("bocom", "交通银行", "ACTIVE"),
        tenant("evil", "Ev\u{1b}[31mil\u{202e}Corp\u{200b}", "ACTIVE"),
        tenant("sgcc", "国家电网", "ACTIVE"),
    ]
}

fn consortiums() -> Vec<Consortium> {
    let member = |tenant: &str, weight, state: &str| Member {
        tenant: s(tenant),
        weight,
        state: s(state),
        key: "d75a980182b10ab7".repeat(4),
    };
    vec![Consortium {
        name: s("consortiums/trade"),
        display_name: s("供应链 Trade Alliance"),
        state: s("ACTIVE"),
        founder: s("acme"),
        members: vec![member("acme", 3, "ACTIVE"), member("bocom", 2, "ACTIVE"), member("sgcc", 2, "ACTIVE")],
        policies: vec![(s("CREATE_CHAIN"), s("TWO_THIRDS"))],
        voting_period_ms: 72 * 3_600_000,
        created_at: NOW - 20 * 24 * HOUR,
    }]
}

fn ballot(tenant: &str, weight: u64, choice: &str, at: i64) -> Ballot {
    Ballot { tenant: s(tenant), weight, choice: s(choice), at }
}

fn proposals() -> Vec<Proposal> {
    let artifact = r#"{"version":2,"create_chain":{"chain":"bill-2","template":"evm-standard","template_version":1,"chain_id":7002,"parameters":{"block_time_ms":1000},"nodes":[{"owner":"acme"},{"owner":"bocom"}],"alloc":{},"governance":{"members":{"acme":"0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","bocom":"0xbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"},"threshold":2}}}"#;
    let open = Proposal {
        name: s(PROPOSAL),
        title: s("Create chain bill-2"),
        action: s("CREATE_CHAIN"),
        state: s("OPEN"),
        reason: String::new(),
        policy: s("TWO_THIRDS"),
        by: s("li@acme"),
        opened_at: NOW - HOUR,
        deadline: NOW + 178 * MINUTE,
        decided_at: 0,
        tally: Tally { yes: 3, no: 0, abstain: 0, total: 7, needed: 5 },
        ballots: vec![ballot("acme", 3, "YES", NOW - 50 * MINUTE), ballot("bocom", 2, "", 0), ballot("sgcc", 2, "", 0)],
        artifact: s(artifact),
        artifact_hash: "ab12".repeat(16),
        operation: String::new(),
        ordered: String::new(),
    };
    let passed = Proposal {
        name: s("consortiums/trade/proposals/p-1"),
        title: s("Create chain supply-1"),
        state: s("PASSED"),
        decided_at: NOW - 12 * 24 * HOUR,
        tally: Tally { yes: 5, no: 0, abstain: 2, total: 7, needed: 5 },
        operation: s("op-1"),
        ordered: s(CHAIN),
        ..open.clone()
    };
    vec![open, passed]
}

fn chains() -> Vec<Chain> {
    let running = Chain {
        name: s(CHAIN),
        template: s("evm-standard v1"),
        chain_id: 7001,
        state: s("RUNNING"),
        reason: String::new(),
        since: NOW - 12 * 24 * HOUR,
        height: Some(1_204_331),
        nodes_ready: (4, 4),
        operation: s("op-1"),
        proposal: s("p-1"),
        genesis_hash: "9c0d".repeat(16),
        anchor: Some(AnchorSeen { records: 48_211, height: 1_204_180, at: NOW - 3 * MINUTE, error: String::new() }),
        parameters: vec![(s("block_gas_limit"), s("30000000")), (s("block_time_ms"), s("1000"))],
        governors: Some((2, 3)),
        created_at: NOW - 12 * 24 * HOUR,
        paused: false,
        purge_at: 0,
        rolling: String::new(),
        halted: String::new(),
        program: String::new(),
        settings: Vec::new(),
        way_back: false,
        repairs: 5,
        repairs_default: true,
    };
    let making = Chain {
        name: s("consortiums/trade/chains/trace-3"),
        chain_id: 7003,
        state: s("PROVISIONING"),
        height: None,
        nodes_ready: (0, 2),
        operation: s("op-3"),
        created_at: NOW - 3 * MINUTE,
        genesis_hash: String::new(),
        governors: None,
        anchor: None,
        ..running.clone()
    };
    let broken = Chain {
        name: s("consortiums/trade/chains/pay-4"),
        chain_id: 7004,
        state: s("DEGRADED"),
        reason: s("node n1 does not answer"),
        height: Some(510_002),
        nodes_ready: (1, 2),
        rolling: s("1/2"),
        halted: s("n1 has not come back: exited"),
        program: s("ledgerd 2.0.0 (3f9a61c07d52)"),
        settings: vec![(s("rpc_connections"), s("64"))],
        way_back: true,
        operation: s("op-2"),
        created_at: NOW - 9 * 24 * HOUR,
        ..running.clone()
    };
    let paused = Chain {
        name: s("consortiums/trade/chains/idle-5"),
        chain_id: 7005,
        state: s("PAUSED"),
        reason: s("new disks"),
        height: None,
        nodes_ready: (0, 4),
        paused: true,
        operation: s("op-6"),
        ..running.clone()
    };
    let deleted = Chain {
        name: s("consortiums/trade/chains/old-6"),
        chain_id: 7006,
        state: s("DELETED"),
        reason: s("its nodes are stopped, and removed when the grace is over"),
        height: None,
        nodes_ready: (0, 4),
        purge_at: NOW + 7 * 24 * HOUR,
        operation: s("op-7"),
        ..running.clone()
    };
    let imported = Chain {
        name: s("consortiums/trade/chains/theirs-7"),
        chain_id: 7007,
        state: s("IMPORTED"),
        reason: s("it is being taken over; 0 of 2 nodes are the platform's; 1 of 2 nodes are healthy"),
        height: Some(88),
        nodes_ready: (1, 2),
        rolling: s("1/2"),
        operation: s("op-7"),
        anchor: None,
        governors: None,
        ..running.clone()
    };
    vec![broken, running, making, paused, deleted, imported]
}

fn nodes() -> Vec<Node> {
    let node = |chain: &str, id: usize, state: &str, health: &str, reason: &str| Node {
        name: format!("consortiums/trade/chains/{chain}/nodes/n{id}"),
        owner: s(["acme", "bocom", "sgcc"][id % 3]),
        host: format!("h{}", id % 3 + 1),
        state: s(state),
        reason: s(reason),
        since: NOW - HOUR,
        health: s(health),
        says: String::new(),
        seat: (s("VALIDATOR"), String::new()),
        generation: 1,
        height: (state == "RUNNING").then_some(1_204_331 - id as u64),
        ports: (26_600 + id as u32, 8_500 + id as u32),
        restarts: 0,
        repairs_left: if state == "BLOCKED" { 0 } else { 5 },
        taken_from: if state == "MOVING" { s("/srv/ledger0") } else { String::new() },
        peers: 3,
        identity: s("0x52908400098527886e0f7030069857d2e4169ee7"),
    };
    let mut nodes: Vec<_> = (0..4).map(|i| node("supply-1", i, "RUNNING", "HEALTHY", "")).collect();
    nodes.push(Node {
        says: s("validators with power 1 of 2 are connected, more than two thirds are needed"),
        ..node("pay-4", 0, "RUNNING", "UNHEALTHY", "it has no peers")
    });
    nodes.push(node("pay-4", 1, "BLOCKED", "UNHEALTHY", "restart budget spent: 5 in one hour"));
    nodes.push(node("trace-3", 0, "PREPARING", "UNKNOWN", "copying the program (41 MiB)"));
    nodes.push(node("trace-3", 1, "REQUESTED", "UNKNOWN", ""));
    nodes.push(node("theirs-7", 0, "MOVING", "UNKNOWN", "it is taken over from /srv/ledger0"));
    nodes
}

fn checks() -> Vec<HostCheck> {
    let finding = |check: &str, severity: &str, found: &str, advice: &str| HostCheck {
        check: s(check),
        severity: s(severity),
        found: s(found),
        advice: s(advice),
    };
    vec![
        finding("connection", "FINE", "logged in as hanse@10.1.0.1:22", ""),
        finding("memory", "WARNING", "512 of 2048 MiB available", "give it at most 2 slots, or add memory"),
        finding(
            "ports",
            "ERROR",
            "of 30000 to 30099 something listens on 30000, 30001",
            "choose another range, or end what listens there",
        ),
    ]
}

fn operations() -> Vec<Operation> {
    let step = |name: &str, target: &str, state: &str, detail: &str| Step {
        name: s(name),
        target: s(target),
        state: s(state),
        detail: s(detail),
        output: ["node init: 95 ms", "ended with code 1", "no space left"]
            .join("\n")
            .repeat((state == "FAILED").into()),
        started_at: if state == "PENDING" { 0 } else { NOW - 100_000 },
        ended_at: if state == "DONE" { NOW - 97_900 } else { 0 },
    };
    let running = Operation {
        name: s("operations/op-3"),
        kind: s("CREATE_CHAIN"),
        target: s("consortiums/trade/chains/trace-3"),
        by: s("li@acme"),
        request_id: s("0197b5a0-7c1e-7abc-8000-000000000003"),
        state: s("RUNNING"),
        steps: vec![
            step("place", "", "DONE", "2 hosts"),
            step("prepare", "n0", "RUNNING", "copying the program (41 MiB)"),
            step("prepare", "n1", "PENDING", ""),
            step("genesis", "", "PENDING", ""),
            step("start", "n0", "PENDING", ""),
            step("start", "n1", "PENDING", ""),
            step("verify", "", "PENDING", ""),
        ],
        started_at: NOW - 100_000,
        ended_at: 0,
        cause: String::new(),
    };
    let failed = Operation {
        name: s("operations/op-2"),
        target: s("consortiums/trade/chains/pay-4"),
        state: s("FAILED"),
        steps: vec![step("place", "", "DONE", ""), step("start", "n1", "FAILED", "port 26601 is in use on h2")],
        ended_at: NOW - 40_000,
        cause: s("port 26601 is in use on h2"),
        ..running.clone()
    };
    vec![running, failed]
}

fn audit() -> Vec<Audit> {
    let entry = |seq: u64, actor: &str, action: &str, resource: &str, outcome: &str| Audit {
        seq,
        revision: 81_000 + seq,
        at: NOW - 1_000 * (20 - seq as i64),
        actor: s(actor),
        source: s("10.9.0.4:51122"),
        action: s(action),
        resource: s(resource),
        outcome: s(outcome),
        request_id: s("0197b5a0-7c1e-7abc-8000-000000000003"),
        detail: s(r#"{"choice":"yes"}"#),
        hash: "77aa".repeat(16),
    };
    vec![
        entry(12, "system", "RecordNodeFact", "consortiums/trade/chains/supply-1/nodes/n0", "ok"),
        entry(11, "li@acme", "CastBallot", PROPOSAL, "ok"),
        entry(10, "wu@bocom", "OpenProposal", "consortiums/trade", "TOO_FEW_HOSTS"),
    ]
}

fn invoice(tenant: &str, month: &str) -> Invoice {
    let line = |node: usize, ms: u64| InvoiceLine {
        node: format!("{CHAIN}/nodes/n{node}"),
        ms,
        rate_micro: Some(125_000),
        micro: i128::from(ms) * 125_000 / 3_600_000,
    };
    let lines = vec![line(0, 1_036_800_000), line(3, 1_036_800_000)];
    let total = lines.iter().map(|l| l.micro).sum();
    Invoice {
        name: format!("invoices/{tenant}/{month}"),
        tenant: s(tenant),
        month: s(month),
        currency: s("CNY"),
        lines,
        total_micro: total,
        recomputed_micro: total,
        unpriced_ms: 0,
        metered_until: NOW - 31_000,
        note: String::new(),
    }
}

fn block(height: u64) -> Block {
    Block {
        height,
        hash: format!("0x{height:064x}"),
        parent: format!("0x{:064x}", height - 1),
        at: NOW - (1_204_331 - height as i64) * 1_000 - 800,
        proposer: s("0x52908400098527886e0f7030069857d2e4169ee7"),
        state_root: format!("0x{}", "d1".repeat(32)),
        gas: (if height % 3 == 2 { 21_000 } else { 0 }, 30_000_000),
        transactions: if height % 3 == 2 { vec![s(TX)] } else { Vec::new() },
    }
}

fn found(sought: &str) -> Result<Found, Failure> {
    match sought {
        TX => Ok(Found::Transaction(Transaction {
            hash: s(TX),
            height: Some(1_204_331),
            from: s("0x52908400098527886e0f7030069857d2e4169ee7"),
            to: s("0xde709f2102306220921060314715629080e2fb77"),
            value: s("1500000000000000000"),
            gas_used: 21_000,
            state: s("SUCCEEDED"),
            contract: String::new(),
            input: String::new(),
            facts: vec![(s("NONCE"), s("7"))],
        })),
        "0xde709f2102306220921060314715629080e2fb77" => Ok(Found::Account(ChainAccount {
            address: s(sought),
            balance: s("1500000000000000000"),
            nonce: 0,
            code_bytes: 0,
        })),
        other => match other.parse() {
            Ok(height) if height > 0 => Ok(Found::Block(block(height))),
            _ => Err(Failure {
                reason: s("INVALID_SEARCH"),
                message: format!("{other:?} is no height, hash or address"),
                advice: s("A height is a number."),
                ..Failure::default()
            }),
        },
    }
}

/// Everything that can be in force or on its way.
fn governance() -> Governance {
    let ids = ["52908400098527886e0f7030069857d2e4169ee7", "8617e340b3d01fa5f11f306f4090fd50e238070d"];
    let set = |from_height, powers: [u64; 4]| ValidatorSet {
        from_height,
        validators: powers
            .iter()
            .enumerate()
            .map(|(i, power)| Validator {
                node: if i == 3 { String::new() } else { format!("{CHAIN}/nodes/n{i}") },
                owner: s(["acme", "bocom", "sgcc", ""][i]),
                power: *power,
                node_id: s(ids[i % 2]),
            })
            .collect(),
    };
    let account = |digit: &str| format!("0x{}", digit.repeat(40));
    let change = |digit: &str, allowed, from_height| ListChange { entry: account(digit), allowed, from_height };
    Governance {
        node: format!("{CHAIN}/nodes/n0"),
        governed: true,
        next_height: 1_204_332,
        threshold: 2,
        sequence: 7,
        members: vec![(account("a"), s("acme")), (account("b"), s("bocom")), (account("c"), String::new())],
        validators: vec![set(0, [1, 1, 1, 1]), set(1_204_333, [1, 1, 2, 1])],
        nodes: AllowList::default(),
        senders: AllowList {
            restricted: (false, true),
            entries: vec![account("1")],
            pending: vec![change("2", true, 1_204_333), change("1", false, 1_204_333)],
        },
        deployers: AllowList { restricted: (true, true), entries: vec![account("3")], pending: Vec::new() },
        upgrade: Some((2, 1_300_000)),
        protocol: (1, 1),
        halted: String::new(),
        evidence: vec![DoubleSigning {
            who: format!("{CHAIN}/nodes/n2"),
            owner: s("sgcc"),
            kind: s("precommit"),
            height: 1_180_011,
        }],
        silent: vec![format!("{CHAIN}/nodes/n3")],
    }
}

/// Returns what the API would answer.
pub(crate) fn answer(query: &Query, session: &Session) -> Result<Payload, Failure> {
    Ok(match query {
        Query::Status => Payload::Status(status(true)),
        Query::Session => Payload::Session(session.clone()),
        Query::Tenants => Payload::Tenants(tenants()),
        Query::Consortiums => Payload::Consortiums(consortiums()),
        Query::Proposals(_) => Payload::Proposals(proposals()),
        Query::Proposal(name) => Payload::Proposals(proposals().into_iter().filter(|p| p.name == *name).collect()),
        Query::Chains => Payload::Chains(chains()),
        Query::Nodes => Payload::Nodes(nodes()),
        Query::Hosts => Payload::Hosts(hosts()),
        Query::Clouds => Payload::Clouds(clouds()),
        Query::Machines => Payload::Machines(machines()),
        Query::Findings => Payload::Findings(findings()),
        Query::Series(of, window) => Payload::Series(series(of, *window)),
        Query::Artifacts => Payload::Artifacts(artifacts()),
        Query::Operations => Payload::Operations(operations()),
        Query::Operation(name) => Payload::Operations(operations().into_iter().filter(|o| o.name == *name).collect()),
        Query::Audit => Payload::Audit(audit()),
        Query::AuditTree => Payload::AuditTree(Some(AuditTree { size: 1_204, root: "5dc9da79a70659a9".repeat(4) })),
        Query::Recent => Payload::Audit(audit().into_iter().filter(|a| !a.action.starts_with("Record")).collect()),
        Query::Invoice(tenant, month) => Payload::Invoice(invoice(tenant, month)),
        Query::Preflight(_) => Payload::Preflight(checks()),
        Query::Governance(_) => Payload::Governance(governance()),
        Query::Plan(of) => Payload::Plan(crate::seed_watch::plan(of)),
        Query::Blocks(_) => Payload::Blocks((1_204_302..=1_204_331).rev().map(block).collect()),
        Query::Find(_, sought) => Payload::Found(found(sought)?),
    })
}

/// Returns the answer of a cluster that holds nothing yet.
pub(crate) fn empty(query: &Query, session: &Session) -> Result<Payload, Failure> {
    Ok(match answer(query, session)? {
        Payload::Tenants(_) => Payload::Tenants(Vec::new()),
        Payload::Consortiums(_) => Payload::Consortiums(Vec::new()),
        Payload::Proposals(_) => Payload::Proposals(Vec::new()),
        Payload::Chains(_) => Payload::Chains(Vec::new()),
        Payload::Nodes(_) => Payload::Nodes(Vec::new()),
        Payload::Hosts(_) => Payload::Hosts(Vec::new()),
        Payload::Clouds(_) => Payload::Clouds(Vec::new()),
        Payload::Machines(_) => Payload::Machines(Vec::new()),
        Payload::Findings(_) => Payload::Findings(Vec::new()),
        Payload::Series(_) => Payload::Series(Vec::new()),
        Payload::Artifacts(_) => Payload::Artifacts(Vec::new()),
        Payload::Operations(_) => Payload::Operations(Vec::new()),
        Payload::Audit(_) => Payload::Audit(Vec::new()),
        Payload::AuditTree(_) => Payload::AuditTree(None),
        Payload::Blocks(_) => Payload::Blocks(Vec::new()),
        other => other,
    })
}
