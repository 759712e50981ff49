//! Taking chains of others over: each home is looked at before anything is ordered, and the order carries what was found there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join, join_all};
use hanse_adapters_core::preflight::{Finding, Severity};
use hanse_engines_core::{Engine, EngineError, Found, Survey};
use hanse_proto::v1 as pb;
use hanse_state::chain::Chain;
use hanse_state::chain::adopting::{AdoptChain, AdoptNode, GiveBackNode};
use hanse_state::chain::imported::ENDPOINTS_MAX;
use hanse_state::chain::node::{Node, NodeIdentity, NodeState, Signed};
use hanse_state::chain::query::nodes_of;
use hanse_state::chain::template::Template;
use hanse_state::host::Host;
use hanse_state::ids::{HostId, NodeId, NodeKey};
use hanse_state::{Blob, Command, State, name};

use super::chain::{chain_key, node_key};
use super::{Call, Wish, convert, found};
use crate::context::Context;
use crate::error::ApiError;
use crate::watched::{Answer, Watched, answers, pinned, plan};

/// Longest look at one home: the program is uploaded to a host that has none yet.
const LIMIT: Duration = Duration::from_secs(60);

/// A home as the operator names it, and what was seen there.
struct Looked {
    node: NodeId,
    host: HostId,
    home: String,
    stop: bool,
    survey: Survey,
}

/// Answers `AdoptChain`.
///
/// # Errors
/// The state's refusal; what stands in the way at a home.
pub(super) async fn adopt(
    context: &Context,
    call: &Call,
    it: pb::AdoptChainRequest,
) -> Result<pb::AdoptChainResponse, ApiError> {
    // It has our program read folders of hosts: only those who manage hosts may aim it.
    call.sight().manages_hosts()?;
    let key = chain_key(&it.consortium, &it.chain)?;
    let chain = call.sight().chain(&key)?;
    if call.succeeded(&it.request_id) {
        return answered(context, call, chain);
    }
    let engine = engine_of(context, chain)?;
    if it.nodes.is_empty() {
        let advice = "say of each node of the chain on which host and in which folder it is";
        return Err(ApiError::invalid("nodes", "are missing", advice));
    }
    if it.nodes.len() > ENDPOINTS_MAX {
        let why = format!("are {}, more than {ENDPOINTS_MAX}", it.nodes.len());
        return Err(ApiError::invalid("nodes", &why, "name each node of the chain once"));
    }
    let reason = convert::text("reason", it.reason)?;
    may(call, chain, &reason)?;
    // All at once: a caller waits for the slowest host, and not for one after another.
    let looks = it.nodes.iter().map(|node| look(context, &call.state, &engine, node));
    let mut looked = join_all(looks).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    compare(context, call, engine.as_ref(), chain, &mut looked).await;
    let Some(order) = order(&looked, chain, reason) else {
        return if it.validate_only { Ok(seen(context, call, chain, &looked)) } else { Err(refusal(chain, &looked)) };
    };
    let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
    let done = match call.write(wish, Command::AdoptChain(order)).await {
        Err(error) if it.validate_only => {
            // Who looks wants to see all of it, also before the vote.
            let finding = Finding::error("order", error.to_string(), "see to it before it is ordered");
            looked.iter_mut().take(1).for_each(|first| first.survey.findings.push(finding.clone()));
            return Ok(seen(context, call, chain, &looked));
        }
        done => done?,
    };
    let begun = found("chain", done.state.chains.get(&key))?;
    let operation = begun.change.map(|operation| operation.to_string()).filter(|_| !it.validate_only);
    Ok(pb::AdoptChainResponse {
        header: call.header(done.revision),
        chain: Some(convert::chain::chain(&done.state, context.observed(), begun)),
        operation: operation.unwrap_or_default(),
        homes: looked.iter().map(shown).collect(),
    })
}

/// What was seen, if nothing is ordered.
fn seen(context: &Context, call: &Call, chain: &Chain, looked: &[Looked]) -> pb::AdoptChainResponse {
    pb::AdoptChainResponse {
        header: call.read_header(),
        chain: Some(convert::chain::chain(&call.state, context.observed(), chain)),
        operation: String::new(),
        homes: looked.iter().map(shown).collect(),
    }
}

/// What a request that succeeded is answered again: what was found then is not there any more.
fn answered(context: &Context, call: &Call, chain: &Chain) -> Result<pb::AdoptChainResponse, ApiError> {
    Ok(pb::AdoptChainResponse {
        header: call.read_header(),
        chain: Some(convert::chain::chain(&call.state, context.observed(), chain)),
        operation: chain.change.map(|operation| operation.to_string()).unwrap_or_default(),
        homes: Vec::new(),
    })
}

/// Refuses who may not, before any host is asked.
fn may(call: &Call, chain: &Chain, reason: &str) -> Result<(), ApiError> {
    call.may(&Command::AdoptChain(AdoptChain {
        chain: chain.key.clone(),
        nodes: Vec::new(),
        genesis: Blob(Vec::new()),
        settings: Default::default(),
        reason: reason.to_owned(),
    }))
}

fn engine_of(context: &Context, chain: &Chain) -> Result<Arc<dyn Engine>, ApiError> {
    let template = Template::find(&chain.spec.template, chain.spec.template_version)?;
    context.engine(template.engine).ok_or_else(|| {
        let message = format!("this replica has no engine {:?}", template.engine);
        ApiError::precondition("NO_ENGINE", &message, "run the same version and configuration on every replica")
    })
}

async fn look(
    context: &Context,
    state: &State,
    engine: &Arc<dyn Engine>,
    it: &pb::AdoptedNode,
) -> Result<Looked, ApiError> {
    let node: NodeId = convert::id("nodes.node", &it.node)?;
    let field = |last: &str| format!("nodes.{node}.{last}");
    let host: HostId = convert::id(&field("host"), &it.host)?;
    let home = convert::text(&field("home"), it.home.clone())?;
    let known = state.hosts.get(&host).ok_or_else(|| {
        ApiError::invalid(&field("host"), &format!("hosts/{host} is not enrolled"), "enrol it: `hanse host enrol`")
    })?;
    if state.cluster.as_ref().is_some_and(hanse_state::cluster::Cluster::is_paused) {
        let message = "the platform was restored and touches no host before it is told to";
        return Err(ApiError::precondition("PAUSED", message, "say `hanse cluster resume` first"));
    }
    // Goes on when the caller has given up: an upload that is cut off with every try would never end on a slow line.
    let (hosts, known, engine, path) = (context.hosts().clone(), known.clone(), Arc::clone(engine), home.clone());
    let work = async move {
        let adapter = hosts.connect(&known).await.map_err(EngineError::Host)?;
        engine.survey(adapter.as_ref(), &path).await
    };
    let looked = tokio::spawn(tokio::time::timeout(LIMIT, work)).await;
    let survey = match looked.map_err(|error| ApiError::internal("the look at a home", error))? {
        Ok(Ok(survey)) => survey,
        Ok(Err(EngineError::Unsupported(what))) => return Err(ApiError::unsupported(&what)),
        Ok(Err(error)) => unseen(error.to_string()),
        Err(_) => unseen(format!("no answer within {} s", LIMIT.as_secs())),
    };
    Ok(Looked { node, host, home, stop: it.stop, survey })
}

fn unseen(why: String) -> Survey {
    let finding = Finding::error("host", why, "see that the host is reached and that our account can read the home");
    Survey { findings: vec![finding], found: None }
}

/// What the homes say of one another, and of the chain that is meant.
async fn compare(context: &Context, call: &Call, engine: &dyn Engine, chain: &Chain, looked: &mut [Looked]) {
    let keys: BTreeSet<String> =
        looked.iter().filter_map(|it| Some(it.survey.found.as_ref()?.identity.public_key.clone())).collect();
    let settings = looked.iter().find_map(|it| it.survey.found.as_ref()).map(|found| found.settings.clone());
    let has_genesis = looked.iter().filter_map(|it| it.survey.found.as_ref()).all(|it| !it.validators.is_empty());
    let shown = shown_genesis(chain, looked);
    let endpoints = join_all(looked.iter().map(|it| of_endpoint(context, call, engine, chain, it)));
    let (endpoints, ledger) = join(endpoints, of_ledger(context, call, engine, chain, &keys, has_genesis)).await;
    for (it, endpoint) in looked.iter_mut().zip(endpoints) {
        let Some(found) = &it.survey.found else { continue };
        let host = call.state.hosts.get(&it.host);
        let all = [
            of_chain(chain, found, &shown),
            of_address(host, found),
            of_validators(&keys, &found.validators, "its genesis"),
        ];
        let mut findings: Vec<Finding> = all.into_iter().flatten().collect();
        if settings.as_ref().is_some_and(|settings| *settings != found.settings) {
            let what = format!("its settings are not those of the first node: {:?}", found.settings);
            findings.push(Finding::error(
                "settings",
                what,
                "set the nodes alike first: the platform sets them all alike",
            ));
        }
        findings.extend(endpoint);
        it.survey.findings.extend(findings);
    }
    if let Some(first) = looked.first_mut() {
        first.survey.findings.extend(ledger);
    }
}

/// Genesis files of the homes whose nodes are known to be of the pinned chain.
fn shown_genesis(chain: &Chain, looked: &[Looked]) -> BTreeSet<Vec<u8>> {
    let found = looked.iter().filter_map(|it| it.survey.found.as_ref());
    let is_pinned = |it: &&Found| it.first_block.as_deref() == Some(pinned(chain).1);
    found.filter(is_pinned).map(|it| it.genesis.clone()).collect()
}

fn of_chain(chain: &Chain, found: &Found, shown: &BTreeSet<Vec<u8>>) -> Option<Finding> {
    let (chain_id, first_block) = pinned(chain);
    let first = found.first_block.as_deref();
    if (found.chain_id, first) == (chain_id, Some(first_block)) {
        return Some(Finding::fine("chain", format!("it is of the pinned first block {first_block}")));
    }
    // Of some ledgers only a node that runs can tell.
    if found.chain_id == chain_id && first.is_none() && shown.contains(&found.genesis) {
        return Some(Finding::fine("chain", "its genesis is that of a node that shows the pinned first block"));
    }
    if found.chain_id == chain_id && first.is_none() {
        let what = "its first block is not known: no node with this very genesis file runs and shows the pinned one";
        return Some(Finding::error(
            "chain",
            what,
            "order it while the chain runs, each home with the same genesis file",
        ));
    }
    let what = format!(
        "it is of chain id {} and first block {}; pinned are {chain_id} and {first_block}",
        found.chain_id,
        first.unwrap_or("unknown")
    );
    Some(Finding::error("chain", what, "name the home of a node of this chain"))
}

/// The others find it where the platform says that it is.
fn of_address(host: Option<&Host>, found: &Found) -> Option<Finding> {
    let host = host?;
    let is_everywhere = found.p2p_address.is_unspecified();
    match host.peer_address.parse::<IpAddr>() {
        Ok(address) if is_everywhere || address == found.p2p_address => None,
        Err(_) if is_everywhere => None,
        Ok(_) | Err(_) => {
            let what = format!(
                "it listens for peers at {} and the host's peer address is {}",
                found.p2p_address, host.peer_address
            );
            Some(Finding::error("address", what, "enrol the host with the address at which the others know its node"))
        }
    }
}

/// The home is the one that its node runs in: a copy of it would give its key to a second process.
async fn of_endpoint(
    context: &Context,
    call: &Call,
    engine: &dyn Engine,
    chain: &Chain,
    it: &Looked,
) -> Option<Finding> {
    let (found, home) = (it.survey.found.as_ref()?, &it.home);
    let known = call.state.nodes.get(&NodeKey::new(chain.key.clone(), it.node))?;
    let endpoint = known.watched.as_ref()?;
    let question = plan(&call.state, known, endpoint)?;
    if !found.is_held {
        return match answers(engine, endpoint, &question, pinned(chain)).await {
            Answer::None => None,
            Answer::Some(how) => {
                let what =
                    format!("{how}, and no process holds {home}: it is not the home of that node, or a copy of it");
                Some(Finding::error("endpoint", what, "name the home that the node runs in, or stop it first"))
            }
            Answer::Unknown(why) => {
                let what = format!("{why}; no process holds {home}, which may be a copy of the home that it runs in");
                let advice =
                    "see that the replicas reach that address: only a refused connection says that no node runs there";
                Some(Finding::error("endpoint", what, advice))
            }
        };
    }
    let adapter = Watched::new(endpoint);
    let own = &found.identity.node_id;
    match tokio::time::timeout(context.limits().node_call, engine.who(&adapter, &question)).await {
        Ok(Ok(None)) => None,
        Ok(Ok(Some(said))) if said == *own => {
            Some(Finding::fine("endpoint", format!("who answers at {endpoint} is {said}, of the home's key")))
        }
        Ok(Ok(Some(said))) => {
            let what = format!("who answers at {endpoint} is {said}, and the home's key is {own}'s");
            Some(Finding::error("endpoint", what, "name for each node the home that it runs in"))
        }
        Ok(Err(error)) => Some(unheard(&error.to_string())),
        Err(_) => Some(unheard("no answer in time")),
    }
}

fn unheard(why: &str) -> Finding {
    let what = format!("it does not say who it is: {why}");
    Finding::warning("endpoint", what, "see that this is the home that the node runs in: its key must be in no other")
}

/// Exactly those that are named validate: who else does would be unknown to the platform, which counts on them.
fn of_validators(keys: &BTreeSet<String>, validators: &[String], by: &str) -> Option<Finding> {
    let missing: Vec<&str> = validators.iter().filter(|key| !keys.contains(*key)).map(String::as_str).collect();
    if missing.is_empty() {
        return None;
    }
    let what = format!("validators by {by} that are at none of the homes: {}", missing.join(", "));
    Some(Finding::error("validators", what, "import every validator's node, and name the home of each"))
}

/// What a running node says of who validates now; `has_genesis` if the genesis says who did at first.
async fn of_ledger(
    context: &Context,
    call: &Call,
    engine: &dyn Engine,
    chain: &Chain,
    keys: &BTreeSet<String>,
    has_genesis: bool,
) -> Vec<Finding> {
    let owners = |node: &&Node| node.state == NodeState::Watched;
    let asks = nodes_of(&call.state, &chain.key).filter(owners).filter_map(|node| {
        let endpoint = node.watched.as_ref()?;
        let question = plan(&call.state, node, endpoint)?;
        Some(async move {
            let adapter = Watched::new(endpoint);
            let asked = tokio::time::timeout(context.limits().node_call, engine.validators(&adapter, &question)).await;
            (node.key.node, asked)
        })
    });
    let mut silent = Vec::new();
    for (node, asked) in join_all(asks).await {
        match asked {
            Ok(Ok(found)) => {
                let now: Vec<String> = found.into_iter().filter(|it| it.power > 0).map(|it| it.public_key).collect();
                let by = format!("{node}'s word");
                let gone = keys.iter().filter(|key| !now.contains(key)).cloned().collect::<Vec<_>>();
                let none = (!gone.is_empty()).then(|| {
                    let what = format!("named and no validators any more by {by}: {}", gone.join(", "));
                    Finding::error("validators", what, "leave them out of the import")
                });
                return of_validators(keys, &now, &by).into_iter().chain(none).collect();
            }
            Ok(Err(error)) => silent.push(format!("{node}: {error}")),
            Err(_) => silent.push(format!("{node}: no answer in time")),
        }
    }
    let what = format!("no node says who validates now: {}", silent.join("; "));
    if !has_genesis {
        return vec![Finding::error("validators", what, "order it while the chain runs")];
    }
    vec![Finding::warning("validators", what, "only the genesis was compared; order it while the chain runs")]
}

/// The order by what was found; `None` if something stands in the way.
fn order(looked: &[Looked], chain: &Chain, reason: String) -> Option<AdoptChain> {
    let is_bad = |it: &Looked| it.survey.findings.iter().any(|finding| finding.severity == Severity::Error);
    if looked.is_empty() || looked.iter().any(is_bad) {
        return None;
    }
    let first = looked.first()?.survey.found.as_ref()?;
    let node = |it: &Looked| {
        let found = it.survey.found.as_ref()?;
        Some(AdoptNode {
            node: it.node,
            host: it.host.clone(),
            home: it.home.clone(),
            stop: it.stop,
            identity: NodeIdentity {
                node_id: found.identity.node_id.clone(),
                public_key: found.identity.public_key.clone(),
                contribution: None,
            },
            p2p_port: found.p2p_port,
            rpc_port: found.rpc_port,
            ports: found.ports.clone(),
            signed: found.signed.map(|it| Signed { height: it.height, round: it.round, step: it.step }),
        })
    };
    Some(AdoptChain {
        chain: chain.key.clone(),
        nodes: looked.iter().map(node).collect::<Option<_>>()?,
        genesis: Blob(first.genesis.clone()),
        settings: first.settings.clone(),
        reason,
    })
}

fn refusal(chain: &Chain, looked: &[Looked]) -> ApiError {
    let errors = looked.iter().flat_map(|it| {
        let errors = it.survey.findings.iter().filter(|finding| finding.severity == Severity::Error);
        errors.map(move |finding| format!("{} {}: {} ({})", it.node, finding.check, finding.found, finding.advice))
    });
    ApiError::unfit_homes(&name::chain(&chain.key), &errors.collect::<Vec<_>>().join("; "))
}

fn shown(it: &Looked) -> pb::SurveyedHome {
    pb::SurveyedHome {
        node: it.node.to_string(),
        host: it.host.to_string(),
        home: it.home.clone(),
        findings: it.survey.findings.iter().map(convert::host::finding).collect(),
    }
}

/// Answers `GiveBackNode`.
///
/// # Errors
/// The state's refusal.
pub(super) async fn give_back(
    context: &Context,
    call: &Call,
    it: pb::GiveBackNodeRequest,
) -> Result<pb::GiveBackNodeResponse, ApiError> {
    let key = node_key(&it.consortium, &it.chain, &it.node)?;
    let node = call.sight().node(&key)?;
    // As of the request that was sent first: its generation is part of the order.
    let generation = if call.succeeded(&it.request_id) { node.generation.saturating_sub(1) } else { node.generation };
    let reason = convert::text("reason", it.reason)?;
    let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
    let done = call.write(wish, Command::GiveBackNode(GiveBackNode { node: key.clone(), generation, reason })).await?;
    let given = found("node", done.state.nodes.get(&key))?;
    let node = Some(convert::chain::node(&done.state, context.observed(), given));
    Ok(pb::GiveBackNodeResponse { header: call.header(done.revision), node })
}
