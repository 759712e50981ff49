//! Importing chains of others: the endpoints are asked which chain they are of before anything is written down.

use std::collections::BTreeSet;

use hanse_engines_core::Engine;
use hanse_proto::v1 as pb;
use hanse_state::chain::imported::{ENDPOINTS_MAX, Endpoint, ForgetChain, ImportChain};
use hanse_state::chain::template::Template;
use hanse_state::ids::{ChainKey, NodeId, NodeKey};
use hanse_state::{Command, name};

use super::chain::chain_key;
use super::{Call, Wish, convert, found};
use crate::context::Context;
use crate::error::ApiError;
use crate::watched::{Watched, question, stranger};

/// Template versions that can be imported.
const TEMPLATE_VERSION: u32 = 1;

/// Makes a chain of others known.
///
/// # Errors
/// The state's refusal; an endpoint that answers as another chain, or none that answers.
pub(crate) async fn import(
    context: &Context,
    call: &Call,
    it: pb::ImportChainRequest,
) -> Result<pb::ImportChainResponse, ApiError> {
    // It opens connections from here: only those who manage hosts may aim it.
    call.sight().manages_hosts()?;
    let key = chain_key(&it.consortium, &it.chain)?;
    let endpoints = it.endpoints.iter().map(endpoint_in).collect::<Result<Vec<_>, _>>()?;
    let order = ImportChain {
        chain: key.clone(),
        template: convert::text("template", it.template)?,
        chain_id: it.chain_id,
        first_block: it.first_block.to_ascii_lowercase(),
        owner: convert::id("owner", &it.owner)?,
        endpoints,
        reason: convert::text("reason", it.reason)?,
    };
    if !call.knows(&it.request_id) {
        ask(context, call, &order).await?;
    }
    let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
    let done = call.write(wish, Command::ImportChain(order)).await?;
    let chain = convert::chain::chain(&done.state, context.observed(), found("chain", done.state.chains.get(&key))?);
    Ok(pb::ImportChainResponse { header: call.header(done.revision), chain: Some(chain) })
}

/// Forgets an imported chain.
///
/// # Errors
/// The state's refusal; a host that is said to be lost answers.
pub(crate) async fn forget(
    context: &Context,
    call: &Call,
    it: pb::ForgetChainRequest,
) -> Result<pb::ForgetChainResponse, ApiError> {
    let key = chain_key(&it.consortium, &it.chain)?;
    let lost = it.lost.iter().map(|node| convert::id("lost", node)).collect::<Result<BTreeSet<NodeId>, _>>()?;
    let reason = convert::text("reason", it.reason)?;
    let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
    let order = Command::ForgetChain(ForgetChain { chain: key.clone(), reason, lost: lost.clone() });
    if !call.knows(&it.request_id) {
        call.sight().chain(&key)?;
        call.may(&order)?;
        check_lost(context, call, &key, &lost).await?;
    }
    let done = call.write(wish, order).await?;
    Ok(pb::ForgetChainResponse { header: call.header(done.revision) })
}

/// Refuses to write off nodes whose hosts answer: what they have signed can go back to their owners.
async fn check_lost(context: &Context, call: &Call, chain: &ChainKey, lost: &BTreeSet<NodeId>) -> Result<(), ApiError> {
    for number in lost {
        let node = call.state.nodes.get(&NodeKey::new(chain.clone(), *number));
        let Some(host) = node.and_then(|node| call.state.hosts.get(node.host.as_ref()?)) else { continue };
        let look = async { context.hosts().connect(host).await?.inspect().await };
        if let Ok(Ok(_)) = tokio::time::timeout(context.limits().node_call, look).await {
            let why = format!("names {number}, but hosts/{} answers", host.id);
            return Err(ApiError::invalid("lost", &why, "give the node back: `hanse chain give-back`"));
        }
    }
    Ok(())
}

fn endpoint_in(it: &pb::Endpoint) -> Result<Endpoint, ApiError> {
    let consensus_port = match it.consensus_port {
        0 => None,
        port => Some(convert::host::port("endpoints.consensus_port", port)?),
    };
    let rpc_port = convert::host::port("endpoints.rpc_port", it.rpc_port)?;
    Ok(Endpoint { host: convert::text("endpoints.host", it.host.clone())?, rpc_port, consensus_port })
}

/// Asks every endpoint which chain it is of: one at least must answer, and none as another one.
async fn ask(context: &Context, call: &Call, order: &ImportChain) -> Result<(), ApiError> {
    let template = Template::find(&order.template, TEMPLATE_VERSION)?;
    let engine = context.engine(template.engine).ok_or_else(|| {
        let message = format!("this replica has no engine {:?}", template.engine);
        ApiError::precondition("NO_ENGINE", &message, "run the same version and configuration on every replica")
    })?;
    let pinned = (order.chain_id, order.first_block.as_str());
    if order.endpoints.len() > ENDPOINTS_MAX {
        let why = format!("are {}, more than {ENDPOINTS_MAX}", order.endpoints.len());
        return Err(ApiError::invalid("endpoints", &why, "name some nodes of the chain, not all"));
    }
    let mut silent = Vec::new();
    for endpoint in &order.endpoints {
        match ask_one(context, call, engine.as_ref(), endpoint, pinned).await {
            Ok(None) => {}
            Ok(Some(words)) => {
                let advice = "compare chain id and first block with the chain's operators, and correct what is wrong";
                return Err(ApiError::invalid("endpoints", &words, advice));
            }
            Err(error) => silent.push(error),
        }
    }
    if silent.len() == order.endpoints.len() {
        let message = format!("no endpoint of {} answers: {}", name::chain(&order.chain), silent.join("; "));
        return Err(ApiError::precondition("ENDPOINTS_SILENT", &message, "see that this replica reaches them"));
    }
    Ok(())
}

async fn ask_one(
    context: &Context,
    call: &Call,
    engine: &dyn Engine,
    endpoint: &Endpoint,
    pinned: (u64, &str),
) -> Result<Option<String>, String> {
    let cluster = call.state.cluster.as_ref().map(|it| it.id.to_string()).unwrap_or_default();
    let key = hanse_adapters_core::InstanceKey::new(&cluster, "imported").ok_or("the cluster has no name yet")?;
    let (adapter, plan) = (Watched::new(endpoint), question(key, endpoint));
    let asked = tokio::time::timeout(context.limits().node_call, stranger(engine, &adapter, &plan, pinned)).await;
    match asked {
        Ok(answer) => answer.map_err(|error| format!("{endpoint}: {error}")),
        Err(_) => Err(format!("{endpoint}: did not answer in time")),
    }
}
