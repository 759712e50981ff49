//! Asking a chain's nodes: which one, over which host, for how long at most.
//!
//! Reads go to the running node that the leader saw highest; the answer names it. A call has one limit over everything
//! (reaching the host included) and is not repeated here: the caller decides.

use std::future::Future;
use std::sync::Arc;

use hanse_adapters_core::{Adapter, AdapterError};
use hanse_engines_core::{Engine, EngineError, NodePlan};
use hanse_state::chain::node::{Health, Node, NodeState};
use hanse_state::chain::template::Template;
use hanse_state::host::HostState;
use hanse_state::ids::ChainKey;
use hanse_state::name;

use super::Call;
use super::convert::chain::nodes_of;
use crate::context::Context;
use crate::error::ApiError;
use crate::reconcile::node::node_plan;
use crate::watched::{self, Watched};

/// A node that can be asked.
pub(crate) struct Reached {
    /// Resource name of the node, for the answer.
    pub(crate) name: String,
    pub(crate) plan: NodePlan,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) adapter: Arc<dyn Adapter>,
    context: Context,
}

impl Reached {
    /// Waits for the engine's answer to a change, within the limit of a node call.
    ///
    /// # Errors
    /// What the engine's failure means to the caller; an unknown outcome if no answer came in time.
    pub(crate) async fn change<T>(&self, work: impl Future<Output = Result<T, EngineError>>) -> Result<T, ApiError> {
        match tokio::time::timeout(self.context.limits().node_call, work).await {
            Ok(answer) => answer.map_err(|error| engine_error(&self.name, error)),
            Err(_) => Err(ApiError::node_outcome_unknown(&self.name, "did not answer in time")),
        }
    }

    /// Waits for the engine's answer to a question, within the limit of a node call.
    ///
    /// # Errors
    /// What the engine's failure means to the caller.
    pub(crate) async fn ask<T>(&self, work: impl Future<Output = Result<T, EngineError>>) -> Result<T, ApiError> {
        match tokio::time::timeout(self.context.limits().node_call, work).await {
            Ok(answer) => answer.map_err(|error| engine_error(&self.name, error)),
            Err(_) => Err(ApiError::node_unavailable(&self.name, "did not answer in time")),
        }
    }
}

/// Reaches the best node of a chain that the caller may see.
///
/// # Errors
/// Not found; a precondition if no node runs; unavailable if its host is out of reach.
pub(crate) async fn reach_chain(call: &Call, chain: &ChainKey) -> Result<Reached, ApiError> {
    call.sight().chain(chain)?;
    let best = nodes_of(&call.state, chain)
        .filter(|node| {
            let is_believed = node.state == NodeState::Watched && node.health == Health::Healthy;
            node.state == NodeState::Running || is_believed
        })
        .max_by_key(|node| {
            let view = call.context.observed().node(&node.key);
            (node.health == Health::Healthy, view.map_or(0, |view| view.height))
        })
        .ok_or_else(|| {
            let message = format!("no node of {} runs at this moment", name::chain(chain));
            ApiError::precondition("NO_RUNNING_NODE", &message, "look at the chain's operation and its nodes")
        })?;
    reach_node(call, best).await
}

/// Reaches one node.
///
/// # Errors
/// A precondition if it is not placed; unavailable if its host is out of reach.
pub(crate) async fn reach_node(call: &Call, node: &Node) -> Result<Reached, ApiError> {
    let named = name::node(&node.key);
    if let Some(endpoint) = &node.watched {
        let engine = engine_of(call, node)?;
        let plan = watched::plan(&call.state, node, endpoint).ok_or_else(|| ApiError::internal("node plan", &named))?;
        let adapter = Arc::new(Watched::new(endpoint));
        return Ok(Reached { name: named, plan, engine, adapter, context: call.context.clone() });
    }
    let host = node.host.as_ref().and_then(|id| call.state.hosts.get(id)).ok_or_else(|| {
        let message = format!("{named} is not placed on a host yet");
        ApiError::precondition("NOT_PLACED", &message, "enrol or uncordon a host")
    })?;
    if host.state == HostState::Distrusted {
        let message = format!("{} is distrusted: {}", name::host(&host.id), host.state_reason);
        return Err(ApiError::precondition("HOST_DISTRUSTED", &message, "an administrator must accept its new key"));
    }
    let engine = engine_of(call, node)?;
    let plan = node_plan(&call.state, node, host).ok_or_else(|| ApiError::internal("node plan", &named))?;
    let adapter = within(&call.context, &named, call.context.hosts().connect(host)).await?;
    Ok(Reached { name: named, plan, engine, adapter, context: call.context.clone() })
}

fn engine_of(call: &Call, node: &Node) -> Result<Arc<dyn Engine>, ApiError> {
    let chain = call.sight().chain(&node.key.chain)?;
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    let missing = || {
        let message = format!("this replica has no engine {:?}", template.engine);
        ApiError::precondition("NO_ENGINE", &message, "run the same version of hanse on every replica")
    };
    call.context.engine(template.engine).ok_or_else(missing)
}

/// Waits for an adapter's answer, within the limit of a node call.
///
/// # Errors
/// What the adapter's failure means to the caller.
pub(crate) async fn within<T>(
    context: &Context,
    subject: &str,
    work: impl Future<Output = Result<T, AdapterError>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(context.limits().node_call, work).await {
        Ok(answer) => answer.map_err(|error| adapter_error(&error)),
        Err(_) => Err(ApiError::node_unavailable(subject, "did not answer in time")),
    }
}

fn adapter_error(error: &AdapterError) -> ApiError {
    match error {
        AdapterError::Transient { subject, reason } => ApiError::node_unavailable(subject, reason),
        AdapterError::Unknown { subject, reason } => ApiError::node_outcome_unknown(subject, reason),
        AdapterError::Denied { subject, reason } | AdapterError::Invalid { subject, reason } => {
            let advice = "an operator must look at the host";
            ApiError::precondition("HOST_REFUSED", &format!("{subject}: {reason}"), advice)
        }
    }
}

fn engine_error(node: &str, error: EngineError) -> ApiError {
    match error {
        EngineError::Host(error) => adapter_error(&error),
        EngineError::Node { node, reason } => ApiError::ledger_refused(&format!("{node}: {reason}")),
        EngineError::NotNow { node, reason } => ApiError::node_unavailable(&node, &reason),
        EngineError::NotFound(what) => ApiError::not_on_ledger(&what),
        EngineError::Invalid { field, reason } => ApiError::invalid(&field, &reason, "correct it"),
        EngineError::Unsupported(what) => {
            tracing::debug!(node, what, "unsupported by the ledger");
            ApiError::unsupported(&what)
        }
    }
}
