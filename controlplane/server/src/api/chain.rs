//! ChainService: chains, nodes, contracts.

use hanse_proto::v1 as pb;
use hanse_proto::v1::chain_service_server::ChainService;
use hanse_state::account::TenantRole;
use hanse_state::chain::RecordTransaction;
use hanse_state::chain::life::{PauseChain, ResumeChain, UndeleteChain};
use hanse_state::chain::node::RestartNode;
use hanse_state::chain::repair::SetChainRepair;
use hanse_state::chain::rollout::{ContinueRollout, HaltRollout, RollChain};
use hanse_state::contract::{DeployContract, RAW_TRANSACTION_BYTES_MAX};
use hanse_state::ids::{ChainKey, ConsortiumId, ContractId, ContractKey, NodeKey};
use hanse_state::{Blob, Command, Digest, Outcome, name};
use tonic::{Request, Response, Status};

use super::convert::ledger::is_hex;
use super::node_call::{reach_chain, reach_node, within};
use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, adopting, convert, found, governance, imported, matches, moving, plan, request_id, rollback};
use crate::context::Context;
use crate::error::ApiError;

/// Lines of a log if none are asked for, and at most.
const LOG_LINES_DEFAULT: u32 = 100;
const LOG_LINES_MAX: u32 = 1_000;

/// Longest call data.
const CALL_BYTES_MAX: usize = 128 * 1_024;

/// Ledgers the consortiums have ordered.
pub(crate) struct Chains(Context);

impl Chains {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }

    /// Has the chain changed; gives it as it is then, with the operation that this began.
    async fn change(
        &self,
        call: &Call,
        wish: Wish<'_>,
        key: &ChainKey,
        command: Command,
    ) -> Result<(Option<pb::ResponseHeader>, Option<pb::Chain>, String), ApiError> {
        let done = call.write(wish, command).await?;
        let chain = convert::chain::chain(&done.state, self.0.observed(), found("chain", done.state.chains.get(key))?);
        let operation = match done.outcome {
            Outcome::OperationStarted { operation, .. } => operation.to_string(),
            _ => String::new(),
        };
        Ok((call.header(done.revision), Some(chain), operation))
    }

    fn show(&self, call: &Call, it: &hanse_state::chain::Chain) -> pb::Chain {
        convert::chain::chain(&call.state, self.0.observed(), it)
    }
}

/// The chain that a request names.
pub(crate) fn chain_key(consortium: &str, chain: &str) -> Result<ChainKey, ApiError> {
    Ok(ChainKey::new(convert::id("consortium", consortium)?, convert::id("chain", chain)?))
}

pub(crate) fn node_key(consortium: &str, chain: &str, node: &str) -> Result<NodeKey, ApiError> {
    Ok(NodeKey::new(chain_key(consortium, chain)?, convert::id("node", node)?))
}

/// Roles of a tenant that may send to a chain; the platform's accounts have no business with contents.
fn may_send(call: &Call) -> Result<(), ApiError> {
    match call.caller.tenant_role() {
        Some(TenantRole::Owner | TenantRole::Operator | TenantRole::Developer) => Ok(()),
        Some(TenantRole::Billing | TenantRole::Auditor) | None => {
            let advice = "use an owner, operator or developer account of a member";
            Err(ApiError::denied("this role does not send transactions", advice))
        }
    }
}

/// A signed transaction within the limit.
fn raw_transaction(bytes: Vec<u8>) -> Result<Vec<u8>, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::invalid("raw_transaction", "is missing", "sign a transaction and send its bytes"));
    }
    if bytes.len() > RAW_TRANSACTION_BYTES_MAX {
        let why = format!("has {} bytes, at most {RAW_TRANSACTION_BYTES_MAX} are taken", bytes.len());
        return Err(ApiError::invalid("raw_transaction", &why, "send less"));
    }
    Ok(bytes)
}

#[tonic::async_trait]
impl ChainService for Chains {
    async fn get_chain(&self, request: Request<pb::GetChainRequest>) -> Result<Response<pb::GetChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.get_ref();
        let key = chain_key(&it.consortium, &it.chain)?;
        let chain = Some(self.show(&call, call.sight().chain(&key)?));
        Ok(Response::new(pb::GetChainResponse { header: call.read_header(), chain }))
    }

    async fn get_chain_governance(
        &self,
        request: Request<pb::GetChainGovernanceRequest>,
    ) -> Result<Response<pb::GetChainGovernanceResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.get_ref();
        let key = chain_key(&it.consortium, &it.chain)?;
        let chain = call.sight().chain(&key)?;
        let (node, governance) = governance::ask(&call, chain).await?;
        let governance = Some(governance);
        Ok(Response::new(pb::GetChainGovernanceResponse { header: call.read_header(), governance, node }))
    }

    async fn list_chains(
        &self,
        request: Request<pb::ListChainsRequest>,
    ) -> Result<Response<pb::ListChainsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<ChainKey>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let of: Option<ConsortiumId> = optional("consortium", &it.consortium)?;
        let sight = call.sight();
        let seen = call.state.chains.iter().filter(|(key, _)| {
            sight.sees_consortium(&key.consortium)
                && of.as_ref().is_none_or(|of| key.consortium == *of)
                && matches(&it.filter, &[key.chain.as_str()])
        });
        let (found, next_page_token) = page.take(Order::Ascending, seen.map(|(key, chain)| (key.clone(), chain)));
        let chains = found.into_iter().map(|chain| self.show(&call, chain)).collect();
        Ok(Response::new(pb::ListChainsResponse { header: call.read_header(), chains, next_page_token }))
    }

    async fn get_node(&self, request: Request<pb::GetNodeRequest>) -> Result<Response<pb::GetNodeResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.get_ref();
        let key = node_key(&it.consortium, &it.chain, &it.node)?;
        let node = Some(convert::chain::node(&call.state, self.0.observed(), call.sight().node(&key)?));
        Ok(Response::new(pb::GetNodeResponse { header: call.read_header(), node }))
    }

    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<NodeKey>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let consortium: Option<ConsortiumId> = optional("consortium", &it.consortium)?;
        let chain: Option<hanse_state::ids::ChainId> = optional("chain", &it.chain)?;
        if chain.is_some() && consortium.is_none() {
            return Err(ApiError::invalid("consortium", "is missing", "a chain is named with its consortium").into());
        }
        let sight = call.sight();
        let seen = call.state.nodes.iter().filter(|(key, node)| {
            let host = node.host.as_ref().map(ToString::to_string).unwrap_or_default();
            sight.sees_consortium(&key.chain.consortium)
                && consortium.as_ref().is_none_or(|of| key.chain.consortium == *of)
                && chain.as_ref().is_none_or(|of| key.chain.chain == *of)
                && matches(&it.filter, &[&name::node(key), &host])
        });
        let (found, next_page_token) = page.take(Order::Ascending, seen.map(|(key, node)| (key.clone(), node)));
        let show = |node| convert::chain::node(&call.state, self.0.observed(), node);
        let nodes = found.into_iter().map(show).collect();
        Ok(Response::new(pb::ListNodesResponse { header: call.read_header(), nodes, next_page_token }))
    }

    async fn restart_node(
        &self,
        request: Request<pb::RestartNodeRequest>,
    ) -> Result<Response<pb::RestartNodeResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = node_key(&it.consortium, &it.chain, &it.node)?;
        let node = call.sight().node(&key)?;
        // A request that is known replaced the generation before the present one; asked again it must be the same order.
        let known = call
            .state
            .dedup
            .seen
            .get(&request_id(&it.request_id, self.0.log_clock())?)
            .is_some_and(|seen| seen.outcome.is_ok());
        let generation = if known { node.generation.saturating_sub(1) } else { node.generation };
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let accept_outage = it.accept_outage;
        let command = Command::RestartNode(RestartNode { node: key.clone(), generation, reason, accept_outage });
        let done = call.write(wish, command).await?;
        let made = found("node", done.state.nodes.get(&key))?;
        let node = Some(convert::chain::node(&done.state, self.0.observed(), made));
        Ok(Response::new(pb::RestartNodeResponse { header: call.header(done.revision), node }))
    }

    async fn move_node(&self, request: Request<pb::MoveNodeRequest>) -> Result<Response<pb::MoveNodeResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        Ok(Response::new(moving::answer(&self.0, &call, request.into_inner()).await?))
    }

    async fn pause_chain(
        &self,
        request: Request<pb::PauseChainRequest>,
    ) -> Result<Response<pb::PauseChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&key)?;
        let reason = convert::text("reason", it.reason)?;
        let command = Command::PauseChain(PauseChain { chain: key.clone(), reason });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, chain, operation) = self.change(&call, wish, &key, command).await?;
        Ok(Response::new(pb::PauseChainResponse { header, chain, operation }))
    }

    async fn import_chain(
        &self,
        request: Request<pb::ImportChainRequest>,
    ) -> Result<Response<pb::ImportChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        Ok(Response::new(imported::import(&self.0, &call, request.into_inner()).await?))
    }

    async fn forget_chain(
        &self,
        request: Request<pb::ForgetChainRequest>,
    ) -> Result<Response<pb::ForgetChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        Ok(Response::new(imported::forget(&self.0, &call, request.into_inner()).await?))
    }

    async fn adopt_chain(
        &self,
        request: Request<pb::AdoptChainRequest>,
    ) -> Result<Response<pb::AdoptChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        Ok(Response::new(adopting::adopt(&self.0, &call, request.into_inner()).await?))
    }

    async fn give_back_node(
        &self,
        request: Request<pb::GiveBackNodeRequest>,
    ) -> Result<Response<pb::GiveBackNodeResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        Ok(Response::new(adopting::give_back(&self.0, &call, request.into_inner()).await?))
    }

    async fn resume_chain(
        &self,
        request: Request<pb::ResumeChainRequest>,
    ) -> Result<Response<pb::ResumeChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&key)?;
        let reason = convert::text("reason", it.reason)?;
        let command = Command::ResumeChain(ResumeChain { chain: key.clone(), reason });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, chain, operation) = self.change(&call, wish, &key, command).await?;
        Ok(Response::new(pb::ResumeChainResponse { header, chain, operation }))
    }

    async fn undelete_chain(
        &self,
        request: Request<pb::UndeleteChainRequest>,
    ) -> Result<Response<pb::UndeleteChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&key)?;
        let reason = convert::text("reason", it.reason)?;
        let command = Command::UndeleteChain(UndeleteChain { chain: key.clone(), reason });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, chain, operation) = self.change(&call, wish, &key, command).await?;
        Ok(Response::new(pb::UndeleteChainResponse { header, chain, operation }))
    }

    async fn roll_chain(
        &self,
        request: Request<pb::RollChainRequest>,
    ) -> Result<Response<pb::RollChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&key)?;
        let reason = convert::text("reason", it.reason)?;
        let command = Command::RollChain(RollChain { chain: key.clone(), reason, accept_outage: it.accept_outage });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, chain, operation) = self.change(&call, wish, &key, command).await?;
        Ok(Response::new(pb::RollChainResponse { header, chain, operation }))
    }

    async fn roll_back_chain(
        &self,
        request: Request<pb::RollBackChainRequest>,
    ) -> Result<Response<pb::RollBackChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let (key, command) = rollback::order(&self.0, &call, &it).await?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, chain, operation) = self.change(&call, wish, &key, command).await?;
        Ok(Response::new(pb::RollBackChainResponse { header, chain, operation }))
    }

    async fn halt_rollout(
        &self,
        request: Request<pb::HaltRolloutRequest>,
    ) -> Result<Response<pb::HaltRolloutResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = chain_key(&it.consortium, &it.chain)?;
        let number = call.sight().chain(&key)?.rollout.as_ref().map_or(0, |rollout| rollout.number);
        let reason = convert::text("reason", it.reason)?;
        let command = Command::HaltRollout(HaltRollout { chain: key.clone(), number, reason });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, chain, _) = self.change(&call, wish, &key, command).await?;
        Ok(Response::new(pb::HaltRolloutResponse { header, chain }))
    }

    async fn continue_rollout(
        &self,
        request: Request<pb::ContinueRolloutRequest>,
    ) -> Result<Response<pb::ContinueRolloutResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&key)?;
        let reason = convert::text("reason", it.reason)?;
        let command = Command::ContinueRollout(ContinueRollout { chain: key.clone(), reason });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, chain, _) = self.change(&call, wish, &key, command).await?;
        Ok(Response::new(pb::ContinueRolloutResponse { header, chain }))
    }

    async fn set_chain_repair(
        &self,
        request: Request<pb::SetChainRepairRequest>,
    ) -> Result<Response<pb::SetChainRepairResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&key)?;
        let reason = convert::text("reason", it.reason)?;
        let set = SetChainRepair { chain: key.clone(), restarts_per_hour: it.restarts_per_hour, reason };
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let (header, chain, _) = self.change(&call, wish, &key, Command::SetChainRepair(set)).await?;
        Ok(Response::new(pb::SetChainRepairResponse { header, chain }))
    }

    async fn plan_chain(
        &self,
        request: Request<pb::PlanChainRequest>,
    ) -> Result<Response<pb::PlanChainResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        Ok(Response::new(plan::answer(&call, request.into_inner())?))
    }

    async fn get_node_log(
        &self,
        request: Request<pb::GetNodeLogRequest>,
    ) -> Result<Response<pb::GetNodeLogResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key = node_key(&it.consortium, &it.chain, &it.node)?;
        let node = call.sight().node(&key)?;
        if !call.caller.is_platform() && call.caller.tenant() != Some(&node.owner) {
            return Err(ApiError::denied("a node's log is for its owner", "ask the tenant that owns the node").into());
        }
        let wanted = if it.lines_max == 0 { LOG_LINES_DEFAULT } else { it.lines_max.min(LOG_LINES_MAX) };
        let reached = reach_node(&call, node).await?;
        // One line more than wanted tells whether older ones were left out.
        let log = within(&self.0, &reached.name, reached.adapter.tail(&reached.plan.key, wanted + 1)).await?;
        let mut lines: Vec<String> = log.lines().map(str::to_string).collect();
        let excess = lines.len().saturating_sub(wanted as usize);
        lines.drain(..excess);
        Ok(Response::new(pb::GetNodeLogResponse { header: call.read_header(), lines, truncated: excess > 0 }))
    }

    async fn send_transaction(
        &self,
        request: Request<pb::SendTransactionRequest>,
    ) -> Result<Response<pb::SendTransactionResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        request_id(&it.request_id, self.0.log_clock())?;
        let key = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&key)?;
        may_send(&call)?;
        let raw = raw_transaction(it.raw_transaction)?;
        // Before the record, so that what could not even be tried leaves none.
        let node = reach_chain(&call, &key).await?;
        let command = RecordTransaction { chain: key, sha256: Digest::of(&raw), bytes: raw.len() as u64 };
        let command = Command::RecordTransaction(command);
        if command.since() <= call.state.version() {
            call.write(Wish { request_id: &it.request_id, validate_only: false }, command).await?;
        }
        // The ledger knows a transaction by its hash: sending one again, as a retry of this request does, is harmless.
        let hash = node.change(node.engine.send_raw(&*node.adapter, &node.plan, &raw)).await;
        let transaction_hash = hash.map_err(|error| error.with_request(&it.request_id))?;
        Ok(Response::new(pb::SendTransactionResponse { header: call.read_header(), transaction_hash }))
    }

    async fn call_contract(
        &self,
        request: Request<pb::CallContractRequest>,
    ) -> Result<Response<pb::CallContractResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        if !is_hex(&it.to, 40) {
            return Err(ApiError::invalid("to", "is not 0x and 40 hex digits", "give the contract's address").into());
        }
        if it.data.len() > CALL_BYTES_MAX {
            return Err(ApiError::invalid("data", "is longer than 128 KiB", "send less").into());
        }
        let node = reach_chain(&call, &chain_key(&it.consortium, &it.chain)?).await?;
        let to = it.to.to_ascii_lowercase();
        let output = node.ask(node.engine.call(&*node.adapter, &node.plan, &to, &it.data)).await?;
        Ok(Response::new(pb::CallContractResponse { header: call.read_header(), output }))
    }

    async fn deploy_contract(
        &self,
        request: Request<pb::DeployContractRequest>,
    ) -> Result<Response<pb::DeployContractResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let chain = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&chain)?;
        let key = ContractKey::new(chain, convert::id("contract", &it.contract)?);
        let raw = raw_transaction(it.raw_transaction)?;
        let command = DeployContract { contract: key.clone(), raw_transaction: Blob(raw) };
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, Command::DeployContract(command)).await?;
        let Outcome::OperationStarted { operation, .. } = done.outcome else {
            return Err(ApiError::internal("deploy contract", "another outcome than an operation").into());
        };
        let contract = Some(convert::chain::contract(found("contract", done.state.contracts.get(&key))?));
        let (header, operation) = (call.header(done.revision), operation.to_string());
        Ok(Response::new(pb::DeployContractResponse { header, contract, operation }))
    }

    async fn get_contract(
        &self,
        request: Request<pb::GetContractRequest>,
    ) -> Result<Response<pb::GetContractResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.get_ref();
        let key = ContractKey::new(chain_key(&it.consortium, &it.chain)?, convert::id("contract", &it.contract)?);
        let contract = Some(convert::chain::contract(call.sight().contract(&key)?));
        Ok(Response::new(pb::GetContractResponse { header: call.read_header(), contract }))
    }

    async fn list_contracts(
        &self,
        request: Request<pb::ListContractsRequest>,
    ) -> Result<Response<pb::ListContractsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<ContractId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let chain = chain_key(&it.consortium, &it.chain)?;
        call.sight().chain(&chain)?;
        let of = call.state.contracts.iter().filter(|(key, _)| key.chain == chain);
        let seen = of.filter(|(key, _)| matches(&it.filter, &[key.contract.as_str()]));
        let show = |(key, one): (&ContractKey, _)| (key.contract.clone(), convert::chain::contract(one));
        let (contracts, next_page_token) = page.take(Order::Ascending, seen.map(show));
        Ok(Response::new(pb::ListContractsResponse { header: call.read_header(), contracts, next_page_token }))
    }
}

fn optional<T: std::str::FromStr<Err = hanse_state::Rejection>>(
    field: &str,
    text: &str,
) -> Result<Option<T>, ApiError> {
    if text.is_empty() { Ok(None) } else { convert::id(field, text).map(Some) }
}
