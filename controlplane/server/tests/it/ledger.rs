//! The whole way by the API: a consortium votes, a chain runs (its host and ledger are stand-ins here), it is read, used
//! and billed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hanse_adapters_core::{
    Adapter, AdapterError, Artifact, FileSpec, HostFacts, InstanceKey, InstanceSpec, InstanceStatus, RunOutput,
    RunSpec, Stream,
};
use hanse_engines_core as engine;
use hanse_engines_core::{BlockRef, ChainPlan, Engine, EngineError, NodePlan, Peer};
use hanse_proto::v1 as pb;
use hanse_server::reconcile::connect::{HostConnector, HostKeys};
use hanse_state::billing::Meter;
use hanse_state::chain::RecordGenesis;
use hanse_state::chain::node::{NodeAct, NodeFact, NodeIdentity, RecordIntent, RecordNodeFact};
use hanse_state::consortium::ballot::{Choice as Vote, ballot_text, join_text};
use hanse_state::host::way::Way;
use hanse_state::ids::{ChainKey, ClusterId, NodeId, NodeKey, ProposalKey};
use hanse_state::{Blob, Command, Digest, PublicKey};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tonic::Code;

use crate::harness::*;

/// A host that has a log and nothing else.
struct Stub;

fn no<T>() -> Result<T, AdapterError> {
    Err(AdapterError::Transient { subject: "stub".into(), reason: "not in this test".into() })
}

#[async_trait]
impl Adapter for Stub {
    async fn inspect(&self) -> Result<HostFacts, AdapterError> {
        no()
    }
    async fn put_artifact(&self, _: &Artifact) -> Result<(), AdapterError> {
        no()
    }
    async fn put_files(&self, _: &InstanceKey, _: &[FileSpec]) -> Result<(), AdapterError> {
        no()
    }
    async fn run(&self, _: &InstanceKey, _: &RunSpec) -> Result<RunOutput, AdapterError> {
        no()
    }
    async fn ensure(&self, _: &InstanceSpec) -> Result<InstanceStatus, AdapterError> {
        no()
    }
    async fn look(&self, _: &InstanceKey) -> Result<Option<InstanceStatus>, AdapterError> {
        no()
    }
    async fn stop(&self, _: &InstanceKey, _: Duration) -> Result<(), AdapterError> {
        no()
    }
    async fn remove(&self, _: &InstanceKey) -> Result<(), AdapterError> {
        no()
    }
    async fn list(&self, _: &str) -> Result<Vec<InstanceStatus>, AdapterError> {
        no()
    }
    async fn tail(&self, key: &InstanceKey, lines: u32) -> Result<String, AdapterError> {
        Ok((0..lines).map(|n| format!("{} line {n}\n", key.object())).collect())
    }
    async fn dial(&self, _: u16) -> Result<Box<dyn Stream>, AdapterError> {
        no()
    }
}

struct StubHosts;

#[async_trait]
impl HostConnector for StubHosts {
    async fn connect(&self, _: &hanse_state::host::Host) -> Result<Arc<dyn Adapter>, AdapterError> {
        Ok(Arc::new(Stub))
    }
    async fn scan(&self, address: &str, port: u16, _: &Way) -> Result<HostKeys, AdapterError> {
        Ok(HostKeys { fingerprint: format!("SHA256:of-{address}-{port}"), authority: None })
    }
    async fn scan_docker(&self, endpoint: &str) -> Result<String, AdapterError> {
        Ok(format!("engine-of-{endpoint}"))
    }
}

/// A ledger of a hundred blocks.
struct StubLedger(Artifact);

const TOP: u64 = 99;

/// The one transaction it knows.
fn told() -> String {
    format!("0x{}", "7e".repeat(32))
}

#[async_trait]
impl Engine for StubLedger {
    fn name(&self) -> &'static str {
        "embedded"
    }
    fn artifact(&self) -> &Artifact {
        &self.0
    }
    async fn prepare(&self, _: &dyn Adapter, _: &NodePlan) -> engine::Result<engine::NodeIdentity> {
        Err(EngineError::Unsupported("prepare".into()))
    }
    fn genesis(&self, _: &ChainPlan, _: &[engine::NodeIdentity]) -> engine::Result<Vec<u8>> {
        Err(EngineError::Unsupported("genesis".into()))
    }
    async fn configure(
        &self,
        _: &dyn Adapter,
        _: &NodePlan,
        _: &engine::NodeIdentity,
        _: &[u8],
        _: &[Peer],
    ) -> engine::Result<()> {
        Err(EngineError::Unsupported("configure".into()))
    }
    async fn start(&self, _: &dyn Adapter, _: &NodePlan) -> engine::Result<InstanceStatus> {
        Err(EngineError::Unsupported("start".into()))
    }
    async fn health(&self, _: &dyn Adapter, _: &NodePlan) -> engine::Result<engine::NodeHealth> {
        Err(EngineError::Unsupported("health".into()))
    }
    async fn block(&self, _: &dyn Adapter, _: &NodePlan, which: &BlockRef) -> engine::Result<engine::Block> {
        let height = match which {
            BlockRef::Latest => TOP,
            BlockRef::Height(height) if *height <= TOP => *height,
            BlockRef::Height(height) => return Err(EngineError::NotFound(format!("block {height}"))),
            BlockRef::Hash(hash) => return Err(EngineError::NotFound(hash.clone())),
        };
        Ok(engine::Block {
            height,
            hash: format!("0x{height:064x}"),
            parent_hash: String::new(),
            time_ms: height * 1_000,
            state_root: String::new(),
            proposer: String::new(),
            gas_used: 0,
            gas_limit: 30_000_000,
            base_fee: Some("0".into()),
            transactions: Vec::new(),
        })
    }
    async fn transaction(&self, _: &dyn Adapter, _: &NodePlan, hash: &str) -> engine::Result<engine::Transaction> {
        if hash != told() {
            return Err(EngineError::NotFound(hash.into()));
        }
        let log = engine::Log { address: "0xc0".into(), topics: vec!["0x07".into()], data: "0xab".into() };
        Ok(engine::Transaction {
            hash: hash.into(),
            block: Some(7),
            block_hash: Some("0xb7".into()),
            index: Some(3),
            from: "0xf0".into(),
            to: None,
            value: "5".into(),
            nonce: 1,
            input: "0x01".into(),
            gas_limit: 90_000,
            gas_price: "2".into(),
            success: Some(true),
            gas_used: Some(50_000),
            fee: Some("100000".into()),
            contract: None,
            logs: vec![log],
        })
    }
    async fn account(&self, _: &dyn Adapter, _: &NodePlan, address: &str) -> engine::Result<engine::Account> {
        let address = address.to_string();
        Ok(engine::Account { address, balance: "5".into(), nonce: 1, code_bytes: 0, height: TOP })
    }
    async fn governance(&self, _: &dyn Adapter, plan: &NodePlan) -> engine::Result<engine::Governance> {
        // Each node has seen something else.
        Ok(super::governance::said(if plan.key.object().ends_with("n0") { &[3] } else { &[3, 5] }))
    }
    async fn send_raw(&self, _: &dyn Adapter, plan: &NodePlan, raw: &[u8]) -> engine::Result<String> {
        if raw == b"bad" {
            let node = plan.key.object().to_string();
            return Err(EngineError::Node { node, reason: "nonce too low".into() });
        }
        Ok(format!("0x{}", Digest::of(raw)))
    }
    async fn call(&self, _: &dyn Adapter, _: &NodePlan, _: &str, input: &[u8]) -> engine::Result<Vec<u8>> {
        Ok(input.iter().rev().copied().collect())
    }
}

fn key_pair(seed: u8) -> (Ed25519KeyPair, PublicKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let mut public = [0; 32];
    public.copy_from_slice(pair.public_key().as_ref());
    (pair, PublicKey(public))
}

fn signed(pair: &Ed25519KeyPair, text: &str) -> String {
    hex::encode(pair.sign(text.as_bytes()).as_ref())
}

/// Everything a vote needs, and the proposal that is open.
struct Trade {
    acme: Client,
    bank: Client,
    cluster: ClusterId,
    proposal: pb::Proposal,
}

async fn trade(root: &Client) -> Trade {
    let (acme, bank) = (root.tenant("acme").await, root.tenant("bank").await);
    let ((_, acme_key), (bank_pair, bank_key)) = (key_pair(1), key_pair(2));
    let made = acme.consortiums().create_consortium(super::lists::consortium("trade", &acme_key.to_string())).await;
    let cluster = ClusterId::parse(&made.unwrap().into_inner().header.unwrap().cluster_id).unwrap();
    let invite = pb::InviteMemberRequest {
        request_id: request_id(),
        validate_only: false,
        consortium: "trade".into(),
        tenant: "bank".into(),
        weight: 1,
    };
    acme.consortiums().invite_member(invite).await.unwrap();
    let text = join_text(cluster, &"trade".parse().unwrap(), &"bank".parse().unwrap(), &bank_key);
    let join = pb::JoinConsortiumRequest {
        request_id: request_id(),
        validate_only: false,
        consortium: "trade".into(),
        member_key: bank_key.to_string(),
        proof: signed(&bank_pair, &text),
    };
    bank.consortiums().join_consortium(join).await.unwrap();
    let activate =
        pb::ActivateConsortiumRequest { request_id: request_id(), validate_only: false, consortium: "trade".into() };
    let active = acme.consortiums().activate_consortium(activate).await.unwrap().into_inner().consortium.unwrap();
    assert_eq!((active.state(), active.members.len()), (pb::ConsortiumState::Active, 2));

    let open = open_proposal();
    let few = acme.consortiums().open_proposal(open.clone()).await.unwrap_err();
    assert_eq!((few.code(), reason(&few).as_str()), (Code::FailedPrecondition, "TOO_FEW_HOSTS"));
    let local = pb::LocalReach { root: "/var/lib/hanse/h1".into() };
    let enrol = pb::EnrolHostRequest {
        request_id: request_id(),
        validate_only: false,
        host: "h1".into(),
        reach: Some(pb::enrol_host_request::Reach::Local(local)),
        peer_address: "127.0.0.1".into(),
        port_first: 30_000,
        port_count: 100,
        slots: 4,
        ..Default::default()
    };
    root.hosts().enrol_host(enrol).await.unwrap();
    let open = pb::OpenProposalRequest { request_id: request_id(), ..open };
    let proposal = acme.consortiums().open_proposal(open).await.unwrap().into_inner().proposal.unwrap();
    assert_eq!(hex::encode(ring::digest::digest(&ring::digest::SHA256, &proposal.artifact)), proposal.artifact_hash);
    Trade { acme, bank, cluster, proposal }
}

fn open_proposal() -> pb::OpenProposalRequest {
    let owner = |owner: &str| pb::NodeSpec { owner: owner.into() };
    let spec = pb::ChainSpec {
        chain: "supply-1".into(),
        template: "evm-standard".into(),
        template_version: 1,
        chain_id: 4_242,
        parameters: BTreeMap::new(),
        nodes: vec![owner("acme"), owner("bank")],
        alloc: BTreeMap::new(),
        governance: Some(super::governance::ordered()),
        anchor: None,
    };
    pb::OpenProposalRequest {
        request_id: request_id(),
        validate_only: false,
        consortium: "trade".into(),
        title: "a chain for the supply".into(),
        action: Some(pb::Action { kind: Some(pb::action::Kind::CreateChain(spec)) }),
        voting_period_ms: 0,
    }
}

impl Trade {
    fn ballot(&self, voter: &str, seed: u8) -> pb::CastBallotRequest {
        let key = ProposalKey::parse("trade/p-1").unwrap();
        let hash = Digest::parse(&self.proposal.artifact_hash).unwrap();
        let text = ballot_text(self.cluster, &key, &hash, &voter.parse().unwrap(), Vote::Yes);
        pb::CastBallotRequest {
            request_id: request_id(),
            validate_only: false,
            consortium: "trade".into(),
            proposal: "p-1".into(),
            voter: voter.into(),
            choice: pb::Choice::Yes.into(),
            artifact_hash: hash.to_string(),
            signature: signed(&key_pair(seed).0, &text),
        }
    }
}

/// What the reconcilers would write down while they make the chain.
async fn provision(leader: &One) {
    let chain = ChainKey::parse("trade/supply-1").unwrap();
    let nodes: Vec<NodeKey> = (0..2).map(|n| NodeKey::new(chain.clone(), NodeId::new(n))).collect();
    let intent = async |node: &NodeKey, act| {
        leader.system(Command::RecordIntent(RecordIntent { node: node.clone(), generation: 1, act })).await;
    };
    let fact = async |node: &NodeKey, fact| {
        leader
            .system(Command::RecordNodeFact(RecordNodeFact {
                node: node.clone(),
                generation: 1,
                fact,
                output: "made its key".into(),
            }))
            .await;
    };
    for (n, node) in nodes.iter().enumerate() {
        intent(node, NodeAct::Prepare).await;
        let identity = NodeIdentity { node_id: format!("id{n}"), public_key: format!("{n:064x}"), contribution: None };
        fact(node, NodeFact::Prepared { identity }).await;
    }
    leader.system(Command::RecordGenesis(RecordGenesis { chain, bytes: Blob(b"genesis".to_vec()) })).await;
    for node in &nodes {
        intent(node, NodeAct::Configure).await;
        fact(node, NodeFact::Configured).await;
        intent(node, NodeAct::Start).await;
        fact(node, NodeFact::Started).await;
        fact(node, NodeFact::Healthy).await;
    }
}

async fn cluster() -> Cluster {
    let artifact = Artifact { sha256: String::new(), path: PathBuf::new() };
    let ledger: Arc<dyn Engine> = Arc::new(StubLedger(artifact));
    let engines = [("embedded".to_string(), ledger)].into();
    Cluster::start_with(1, Choice { hosts: Some(Arc::new(StubHosts)), engines }).await
}

#[tokio::test]
async fn a_vote_makes_a_chain_that_can_be_read_used_and_billed() {
    let cluster = cluster().await;
    let root = cluster.bootstrapped().await;
    let plan = pb::SetPlanRequest {
        request_id: request_id(),
        validate_only: false,
        plan: "standard".into(),
        currency: "CNY".into(),
        rate_micro_per_node_hour: 3_600_000_000_000,
        effective_from_ms: 0,
    };
    root.billing().set_plan(plan).await.unwrap();
    let trade = trade(&root).await;

    let wrong = trade.bank.consortiums().cast_ballot(trade.ballot("bank", 1)).await.unwrap_err();
    assert_eq!((wrong.code(), reason(&wrong).as_str()), (Code::PermissionDenied, "WRONG_KEY"));
    trade.acme.consortiums().cast_ballot(trade.ballot("acme", 1)).await.unwrap();
    let again = trade.acme.consortiums().cast_ballot(trade.ballot("acme", 1)).await.unwrap_err();
    assert_eq!(reason(&again), "ALREADY_VOTED");
    let decided = trade.bank.consortiums().cast_ballot(trade.ballot("bank", 2)).await.unwrap().into_inner();
    let decided = decided.proposal.unwrap();
    assert_eq!(decided.outcome(), pb::ProposalOutcome::Passed, "{decided:?}");
    let tally = decided.tally.unwrap();
    assert_eq!((tally.yes, tally.needed, tally.total), (2, 2, 2));
    assert_eq!(decided.ordered_resource, "consortiums/trade/chains/supply-1");

    provision(cluster.leader().await).await;
    let get = pb::GetOperationRequest { operation: decided.operation };
    let seen = root.operations().get_operation(get.clone()).await.unwrap().into_inner().operation.unwrap();
    let said = |it: &pb::Operation| it.steps.iter().filter(|step| step.output == "made its key").count();
    assert_eq!(said(&seen), 6, "prepare, configure and start of two nodes: {seen:?}");
    let operation = trade.bank.operations().get_operation(get).await.unwrap().into_inner().operation.unwrap();
    assert!(
        operation.steps.iter().all(|step| step.output.is_empty()),
        "hosts are not a tenant's to see: {operation:?}"
    );
    assert_eq!(operation.state(), pb::OperationState::Succeeded, "{operation:?}");
    assert_eq!(operation.steps_done as usize, operation.steps.len());
    let get = pb::GetChainRequest { consortium: "trade".into(), chain: "supply-1".into() };
    let chain = trade.acme.chains().get_chain(get).await.unwrap().into_inner().chain.unwrap();
    assert_eq!((chain.state(), chain.nodes_total, chain.nodes_running), (pb::ChainState::Running, 2, 2));

    explore(&trade.acme).await;
    super::governance::is_shown(&trade.bank).await;
    use_it(&trade).await;
    bill(&cluster, &root, &trade).await;
    cluster.stop().await;
}

async fn explore(acme: &Client) {
    let (mut token, mut heights) = (String::new(), Vec::new());
    for _ in 0..3 {
        let request = pb::ListBlocksRequest {
            page_size: 4,
            page_token: token,
            consortium: "trade".into(),
            chain: "supply-1".into(),
        };
        let answer = acme.explorer().list_blocks(request).await.unwrap().into_inner();
        assert!(answer.node.starts_with("consortiums/trade/chains/supply-1/nodes/n"));
        heights.extend(answer.blocks.iter().map(|block| block.height));
        token = answer.next_page_token;
    }
    assert_eq!(heights, (TOP - 11..=TOP).rev().collect::<Vec<_>>());
    let which = Some(pb::get_block_request::Block::Height(TOP + 1));
    let request = pb::GetBlockRequest { consortium: "trade".into(), chain: "supply-1".into(), block: which };
    let absent = acme.explorer().get_block(request).await.unwrap_err();
    assert_eq!((absent.code(), reason(&absent).as_str()), (Code::NotFound, "NOT_ON_LEDGER"));
    let request = pb::GetTransactionRequest { consortium: "trade".into(), chain: "supply-1".into(), hash: told() };
    let seen = acme.explorer().get_transaction(request).await.unwrap().into_inner().transaction.unwrap();
    assert_eq!((seen.block, seen.index, seen.gas_limit, seen.gas_price_wei.as_str()), (7, 3, 90_000, "2"));
    let log = pb::LedgerLog { address: "0xc0".into(), topics: vec!["0x07".into()], data: vec![0xab] };
    assert_eq!((seen.state(), seen.logs), (pb::TransactionState::Succeeded, vec![log]));
    let request =
        pb::GetAccountRequest { consortium: "trade".into(), chain: "supply-1".into(), address: "0xnothex".into() };
    let bad = acme.explorer().get_account(request).await.unwrap_err();
    assert_eq!((bad.code(), metadata(&bad, "field").as_str()), (Code::InvalidArgument, "address"));
}

async fn use_it(trade: &Trade) {
    let send = |raw: &[u8]| pb::SendTransactionRequest {
        request_id: request_id(),
        consortium: "trade".into(),
        chain: "supply-1".into(),
        raw_transaction: raw.to_vec(),
    };
    let hash = trade.acme.chains().send_transaction(send(b"tx")).await.unwrap().into_inner().transaction_hash;
    assert_eq!(hash, format!("0x{}", Digest::of(b"tx")));
    let refused = trade.acme.chains().send_transaction(send(b"bad")).await.unwrap_err();
    assert_eq!(reason(&refused), "LEDGER_REFUSED");
    assert!(refused.message().contains("nonce too low"));
    super::governance::what_is_sent_is_audited(&trade.acme, send).await;
    let call = pb::CallContractRequest {
        consortium: "trade".into(),
        chain: "supply-1".into(),
        to: format!("0x{}", "a".repeat(40)),
        data: vec![1, 2, 3],
    };
    assert_eq!(trade.bank.chains().call_contract(call).await.unwrap().into_inner().output, [3, 2, 1]);

    let deploy = pb::DeployContractRequest {
        request_id: request_id(),
        validate_only: false,
        consortium: "trade".into(),
        chain: "supply-1".into(),
        contract: "registry".into(),
        raw_transaction: b"code".to_vec(),
    };
    let first = trade.acme.chains().deploy_contract(deploy.clone()).await.unwrap().into_inner();
    assert_eq!(first.contract.unwrap().state(), pb::ContractState::Requested);
    let again = trade.acme.chains().deploy_contract(deploy).await.unwrap().into_inner();
    assert_eq!((again.operation, again.header.unwrap().revision), (first.operation, first.header.unwrap().revision));

    let log = |node: &str| pb::GetNodeLogRequest {
        consortium: "trade".into(),
        chain: "supply-1".into(),
        node: node.into(),
        lines_max: 5,
    };
    let own = trade.acme.chains().get_node_log(log("n0")).await.unwrap().into_inner();
    assert_eq!((own.lines.len(), own.truncated), (5, true));
    let foreign = trade.acme.chains().get_node_log(log("n1")).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
}

async fn bill(cluster: &Cluster, root: &Client, trade: &Trade) {
    // Each entry moves log time on by a millisecond at least: this clock must have passed it.
    let ahead = cluster.leader().await.replica.local().now;
    wait_for("this clock to pass log time", async || (now() > ahead).then_some(())).await;
    cluster.leader().await.system(Command::Meter(Meter { until: now() })).await;
    let ask = |tenant: &str| pb::GetInvoiceDraftRequest { tenant: tenant.into(), month: String::new() };
    for client in [root, &trade.acme] {
        let draft = client.billing().get_invoice_draft(ask("acme")).await.unwrap().into_inner();
        let total = draft.total.clone().unwrap();
        assert_eq!(draft.total, draft.recomputed_total, "{draft:?}");
        assert_eq!(total.currency, "CNY");
        let ms: u64 = draft.lines.iter().map(|line| line.running_ms).sum();
        // 3,600,000 units an hour are one a millisecond.
        assert_eq!(total.amount, format!("{ms}.000000"), "{draft:?}");
        assert!(ms > 0 && draft.usage_records > 0 && draft.note.is_empty(), "{draft:?}");
    }
    let foreign = trade.bank.billing().get_invoice_draft(ask("acme")).await.unwrap_err();
    assert_eq!(foreign.code(), Code::NotFound);
}
