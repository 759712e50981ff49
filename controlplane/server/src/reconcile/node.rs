//! Acts on a node: intent, ensure, fact. And a chain's genesis, which is made of its nodes' facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use hanse_adapters_core::{Adapter, AdapterError, InstanceKey};
use hanse_engines_core::{ChainPlan, Engine, EngineError, GovernancePlan, NodePlan, Peer};
use hanse_planner::Run;
use hanse_state::chain::governance::GovernanceSpec;
use hanse_state::chain::life::NodeWish;
use hanse_state::chain::node::{
    Node, NodeAct, NodeFact, NodeIdentity, RecordIntent, RecordNodeFact, RestartNode, Signed, instance_object,
};
use hanse_state::chain::template::Template;
use hanse_state::chain::{Chain, RecordGenesis};
use hanse_state::cloud::reason_kept;
use hanse_state::cluster::version::Version;
use hanse_state::host::way::{Pin, Way};
use hanse_state::host::{Host, Reach, RecordHostKeyChanged};
use hanse_state::ids::{ChainKey, NodeKey};
use hanse_state::{Blob, Command, State};

use super::World;
use super::act::Trouble;
use super::mask::masked;
use super::transcript::{Notes, Transcript};

/// The cluster version from which on steps have outputs.
const OUTPUTS_SINCE: Version = Version(5);

/// A node with everything that acting on it needs.
pub(super) struct Site {
    pub(super) node: Node,
    pub(super) chain: Chain,
    pub(super) plan: NodePlan,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) adapter: Arc<dyn Adapter>,
}

impl Site {
    /// Gathers what the state says of `key` and reaches for its host.
    pub(super) async fn reach(world: &World, state: &State, key: &NodeKey) -> Result<Self, Trouble> {
        let stale = |what: &str| Trouble::Stale(format!("{key}: {what}"));
        let node = state.nodes.get(key).ok_or_else(|| stale("is gone"))?.clone();
        let chain = state.chains.get(&key.chain).ok_or_else(|| stale("its chain is gone"))?.clone();
        let host = node.host.as_ref().and_then(|id| state.hosts.get(id)).ok_or_else(|| stale("has no host"))?.clone();
        let engine = engine_of(world, &chain)?;
        let plan = node_plan(state, &node, &host).ok_or_else(|| stale("cannot be named on a host"))?;
        let adapter = world.hosts.connect(&host).await?;
        Ok(Self { node, chain, plan, engine, adapter })
    }
}

/// The engine that the chain's template names.
pub(super) fn engine_of(world: &World, chain: &Chain) -> Result<Arc<dyn Engine>, Trouble> {
    let template = Template::find(&chain.spec.template, chain.spec.template_version)
        .map_err(|rejection| Trouble::Stale(rejection.message()))?;
    world.engines.get(template.engine).cloned().ok_or_else(|| {
        // Waited for and not failed: a replica that has it may lead next.
        let reason = "this replica has no such engine; configure it, and run the same version, on every replica";
        Trouble::Engine(EngineError::NotNow { node: format!("engine `{}`", template.engine), reason: reason.into() })
    })
}

/// The chain as its engine needs to know it.
pub(super) fn chain_plan(chain: &Chain) -> Result<ChainPlan, Trouble> {
    Ok(ChainPlan {
        chain_id: chain.spec.chain_id,
        genesis_time_ms: chain.created_at.0,
        parameters: parameters(chain).ok_or_else(|| Trouble::Stale(format!("{}: its template is gone", chain.key)))?,
        alloc: chain.spec.alloc.clone(),
        governance: chain.spec.governance.as_ref().map(governance),
        anchor: chain.spec.anchor.clone(),
    })
}

/// What was ordered, with the template's defaults; `None` if this build does not know the template.
fn parameters(chain: &Chain) -> Option<BTreeMap<String, u64>> {
    let template = Template::find(&chain.spec.template, chain.spec.template_version).ok()?;
    let resolved = template.resolve(&chain.spec.parameters).ok()?;
    Some(resolved.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

/// What a node is called on its host; `None` if it cannot be named there. The one place that names instances: two ways of
/// naming would make two instances of one node.
pub(crate) fn instance_key(state: &State, node: &Node) -> Option<InstanceKey> {
    let cluster = state.cluster.as_ref()?.id.to_string();
    InstanceKey::new(&cluster, &instance_object(&node.key))
}

/// The node as its engine needs to know it; `None` if it cannot be named on a host.
pub(crate) fn node_plan(state: &State, node: &Node, host: &Host) -> Option<NodePlan> {
    Some(NodePlan {
        key: instance_key(state, node)?,
        generation: node.generation,
        host_address: host.peer_address.clone(),
        own_network: matches!(host.reach, Reach::Docker { .. }),
        p2p_port: node.p2p_port,
        rpc_port: node.rpc_port,
        ports: node.ports.clone(),
        parameters: parameters(state.chains.get(&node.key.chain)?)?
            .into_iter()
            .chain(node.outfit.settings.clone())
            .collect(),
        identity: node.identity.as_ref().map(public),
        signed: node.signed.map(last_signed),
        halt: node.halt.map(|halt| halt.height),
        // Found only for what runs it: whoever but asks the node need not have it.
        program: None,
    })
}

/// Touches the host of node `key`: first the intent, which only a leader can commit, then the act, then the fact.
pub(super) async fn act(
    world: &World,
    state: &State,
    key: &NodeKey,
    generation: u64,
    act: NodeAct,
) -> Result<(), Trouble> {
    let node = state.nodes.get(key).ok_or_else(|| Trouble::Stale(format!("{key}: is gone")))?;
    world.order(Command::RecordIntent(RecordIntent { node: key.clone(), generation, act })).await?;
    let notes = notes_for(state);
    match attempt(world, state, key, act, &notes).await {
        Ok(()) => Ok(()),
        Err(trouble) => Err(explain(world, state, node, trouble, &notes).await),
    }
}

/// Wishes a new generation of node `key`.
pub(super) async fn restart(world: &World, key: &NodeKey, generation: u64, reason: String) -> Result<(), Trouble> {
    world
        .order(Command::RestartNode(RestartNode { node: key.clone(), generation, reason, accept_outage: false }))
        .await?;
    world.observed.forget(key);
    Ok(())
}

/// What is done is noted where it can be kept.
fn notes_for(state: &State) -> Option<Notes> {
    (state.version() >= OUTPUTS_SINCE).then(Notes::default)
}

fn noted(adapter: &Arc<dyn Adapter>, notes: &Option<Notes>) -> Arc<dyn Adapter> {
    match notes {
        Some(notes) => Transcript::over(Arc::clone(adapter), notes.clone()),
        None => Arc::clone(adapter),
    }
}

async fn attempt(
    world: &World,
    state: &State,
    key: &NodeKey,
    act: NodeAct,
    notes: &Option<Notes>,
) -> Result<(), Trouble> {
    let mut site = Site::reach(world, state, key).await?;
    site.adapter = noted(&site.adapter, notes);
    site.plan.program = world.programs.find(state, &site.node.outfit).await?;
    let generation = site.node.generation;
    let (adapter, plan) = (site.adapter.as_ref(), &site.plan);
    match act {
        NodeAct::Prepare => {
            if state.retired.contains_key(&key.chain) {
                super::adopting::check_not_anothers(adapter, &plan.key).await?;
                // What was to remove a former chain of this name may still be on its way.
                adapter.fence(&plan.key, generation, STOP_GRACE).await?;
            }
            let made = site.engine.prepare(adapter, plan).await?;
            let contributed = site.engine.contribute(adapter, plan, &chain_plan(&site.chain)?, &made).await?;
            let contribution = contributed.map(|text| Blob(text.into_bytes()));
            let identity = NodeIdentity { node_id: made.node_id, public_key: made.public_key, contribution };
            tell(world, key, generation, NodeFact::Prepared { identity }, notes).await
        }
        NodeAct::Configure => {
            let (genesis, identity, peers) = network(state, &site)?;
            super::at_height::check_way_back(&site, plan).await?;
            site.engine.configure(adapter, plan, &identity, &genesis, &peers).await?;
            super::at_height::write_halt(&site, plan).await?;
            tell(world, key, generation, NodeFact::Configured, notes).await
        }
        NodeAct::Start => {
            super::adopting::check_alone(state, &site).await?;
            let plan = &NodePlan { signed: plan.signed.max(world.observed.signed(key)), ..plan.clone() };
            let status = site.engine.start(adapter, plan).await?;
            let view = super::look::view(&status);
            let runs = view.run == Run::Running;
            world.observed.saw(key, view);
            if runs { tell(world, key, generation, NodeFact::Started, notes).await } else { Ok(()) }
        }
        NodeAct::Stop
        | NodeAct::Remove
        | NodeAct::Fence
        | NodeAct::Carry
        | NodeAct::Clear
        | NodeAct::Seat
        | NodeAct::Return => Err(Trouble::Stale(format!("{key}: {act:?} is no way to make it run"))),
    }
}

/// Ends node `key`: the intent, then its process is stopped and fenced (or it is removed with all it holds), then it is looked
/// at again, then the fact. Takes no engine: a replica that cannot run the ledger can stop it.
pub(super) async fn end(
    world: &World,
    state: &State,
    key: &NodeKey,
    generation: u64,
    act: NodeAct,
) -> Result<(), Trouble> {
    let node = state.nodes.get(key).ok_or_else(|| Trouble::Stale(format!("{key}: is gone")))?;
    world.order(Command::RecordIntent(RecordIntent { node: key.clone(), generation, act })).await?;
    let notes = notes_for(state);
    let ended = attempt_end(world, state, node, act, &notes).await;
    // Whatever it was, it is not what was seen last.
    world.observed.forget(key);
    match ended {
        Ok(fact) => tell(world, key, generation, fact, &notes).await,
        Err(trouble) => Err(explain(world, state, node, trouble, &notes).await),
    }
}

async fn attempt_end(
    world: &World,
    state: &State,
    node: &Node,
    act: NodeAct,
    notes: &Option<Notes>,
) -> Result<NodeFact, Trouble> {
    let stale = |what: &str| Trouble::Stale(format!("{}: {what}", node.key));
    let host = node.host.as_ref().and_then(|id| state.hosts.get(id)).ok_or_else(|| stale("has no host"))?;
    let instance = instance_key(state, node).ok_or_else(|| stale("cannot be named on a host"))?;
    let adapter = noted(&world.hosts.connect(host).await?, notes);
    if act == NodeAct::Remove {
        if state.cluster.as_ref().is_some_and(|cluster| cluster.restored.is_some()) {
            // The backup may be older than what is there, and what is there is to go.
            adapter.remove(&instance).await?;
        } else {
            adapter.remove_at(&instance, node.generation).await?;
        }
        return match adapter.look(&instance).await? {
            None => Ok(NodeFact::Removed),
            Some(_) => Err(stale("is still on its host after it was removed; it is removed again")),
        };
    }
    adapter.fence(&instance, node.generation, STOP_GRACE).await?;
    match adapter.look(&instance).await?.map(|status| super::look::view(&status).run) {
        Some(Run::Running) => Err(stale("still runs after it was stopped; it is stopped again")),
        _ => Ok(NodeFact::Stopped),
    }
}

/// How long a ledger's process may take to end by itself.
pub(super) const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(10);

/// Genesis, own identity and every peer's address, all from the log.
fn network(state: &State, site: &Site) -> Result<(Vec<u8>, hanse_engines_core::NodeIdentity, Vec<Peer>), Trouble> {
    let stale = |what: &str| Trouble::Stale(format!("{}: {what}", site.node.key));
    let genesis = site.chain.genesis.as_ref().ok_or_else(|| stale("its chain has no genesis yet"))?.bytes.0.clone();
    let own = site.node.identity.as_ref().ok_or_else(|| stale("has no identity yet"))?;
    let mut peers = Vec::new();
    let stays = |node: &&Node| node.key.chain == site.node.key.chain && node.wish != NodeWish::Remove;
    for node in state.nodes.values().filter(stays) {
        let identity = node.identity.as_ref().ok_or_else(|| stale("a peer has no identity yet"))?;
        let host = node.host.as_ref().and_then(|id| state.hosts.get(id)).ok_or_else(|| stale("a peer has no host"))?;
        peers.push(Peer { identity: public(identity), address: format!("{}:{}", host.peer_address, node.p2p_port) });
    }
    Ok((genesis, public(own), peers))
}

pub(super) fn public(identity: &NodeIdentity) -> hanse_engines_core::NodeIdentity {
    hanse_engines_core::NodeIdentity {
        node_id: identity.node_id.clone(),
        public_key: identity.public_key.clone(),
        // It came from an engine as text.
        contribution: identity.contribution.as_ref().and_then(|blob| String::from_utf8(blob.0.clone()).ok()),
    }
}

fn last_signed(signed: Signed) -> hanse_engines_core::Signed {
    hanse_engines_core::Signed { height: signed.height, round: signed.round, step: signed.step }
}

/// How many heights a validator goes on before it is written down again how far it has signed; the leader itself
/// remembers each look.
const SIGNED_EVERY: u64 = 50;

/// Looks how far node `key` has signed, remembers it, and writes it down from time to time.
pub(super) async fn watch_signed(world: &World, key: &NodeKey, site: &Site) -> Result<(), Trouble> {
    // Not taken for the silence of its host: the node itself has just answered.
    let seen = site.engine.signed(site.adapter.as_ref(), &site.plan).await;
    let seen = seen.map_err(|error| Trouble::Stale(format!("how far it has signed cannot be read: {error}")))?;
    let Some(seen) = seen else { return Ok(()) };
    world.observed.has_signed(key, seen);
    super::figures::signed(world, key, seen);
    let due = site.plan.signed.is_none_or(|known| seen.height >= known.height.saturating_add(SIGNED_EVERY));
    if !due {
        return Ok(());
    }
    let signed = Signed { height: seen.height, round: seen.round, step: seen.step };
    report(world, key, site.node.generation, NodeFact::Signed { signed }).await
}

/// If some node is to leave the chain of `site`, or a lost key is counted by its ledger: who validates by the word of this one, whose process runs. The answer of a node
/// that is behind may be old, so only one that follows is asked.
pub(super) async fn watch_validators(world: &World, state: &State, site: &Site, syncing: bool) -> Result<(), Trouble> {
    let chain = &site.node.key.chain;
    let leaves = |node: &Node| node.wish == NodeWish::Leave;
    let is_asked = hanse_state::chain::query::nodes_of(state, chain).any(leaves) || !site.chain.lost.is_empty();
    if !is_asked {
        // What was seen then says nothing of those that join and leave later.
        world.observed.validators_unknown(chain);
        return Ok(());
    }
    if syncing {
        return Ok(());
    }
    let validators = site.engine.validators(site.adapter.as_ref(), &site.plan).await;
    let validators = validators.map_err(|error| Trouble::Stale(format!("its validators cannot be read: {error}")))?;
    let keys = validators.into_iter().filter(|it| it.power > 0).map(|it| it.public_key).collect();
    world.observed.validate(chain, keys);
    Ok(())
}

/// Writes down what was seen.
pub(super) async fn report(world: &World, key: &NodeKey, generation: u64, fact: NodeFact) -> Result<(), Trouble> {
    tell(world, key, generation, fact, &None).await
}

/// As [`report`], with what was done on the host for it.
async fn tell(
    world: &World,
    key: &NodeKey,
    generation: u64,
    fact: NodeFact,
    notes: &Option<Notes>,
) -> Result<(), Trouble> {
    let output = notes.as_ref().map(Notes::kept).unwrap_or_default();
    world.order(Command::RecordNodeFact(RecordNodeFact { node: key.clone(), generation, fact, output })).await?;
    Ok(())
}

/// Turns a failure into words in the state: what waits, what needs a person, which host is no longer who it was.
pub(super) async fn explain(
    world: &World,
    state: &State,
    node: &Node,
    trouble: Trouble,
    notes: &Option<Notes>,
) -> Trouble {
    let Trouble::Engine(error) = &trouble else { return trouble };
    let fact = match error {
        EngineError::Host(AdapterError::Denied { .. }) => {
            // Where it is, and where it goes.
            let met = [node.host.as_ref(), node.moving.as_ref().map(|moving| &moving.to)];
            for host in met.into_iter().flatten().filter_map(|id| state.hosts.get(id)) {
                if let Err(second) = suspect(world, host).await {
                    return second;
                }
            }
            Some(NodeFact::Failed { reason: words(error) })
        }
        EngineError::Host(AdapterError::Invalid { .. }) | EngineError::Invalid { .. } | EngineError::Unsupported(_) => {
            Some(NodeFact::Failed { reason: words(error) })
        }
        // Not known whether it happened: the next round looks again, by the same key.
        EngineError::Host(AdapterError::Unknown { .. }) => None,
        EngineError::Host(AdapterError::Transient { .. })
        | EngineError::Node { .. }
        | EngineError::NotNow { .. }
        | EngineError::NotFound(_) => Some(NodeFact::Waiting { reason: words(error) }),
    };
    let known =
        |fact: &NodeFact| matches!(fact, NodeFact::Waiting { reason } if node.state_reason == reason_kept(reason));
    match fact {
        Some(fact) if !known(&fact) => match tell(world, &node.key, node.generation, fact, notes).await {
            Ok(()) => trouble,
            Err(second) => second,
        },
        Some(_) | None => trouble,
    }
}

/// An error in words, which may quote what a program printed.
fn words(error: &EngineError) -> String {
    masked(&error.to_string()).trim_end().to_owned()
}

/// After a refusal: if the host or a machine on the way shows another key than the pinned one, says so in the state, and
/// nothing more is done on it until a person has compared the keys.
pub(super) async fn suspect(world: &World, host: &Host) -> Result<(), Trouble> {
    let Reach::Ssh { address, port, fingerprint, way, .. } = &host.reach else { return Ok(()) };
    for (number, jump) in (0..).zip(&way.jumps) {
        let before = Way { jumps: way.jumps[..usize::from(number)].to_vec(), ..way.clone() };
        let seen = match world.hosts.scan(&jump.address, jump.port, &before).await {
            Ok(shown) => shown.fingerprint,
            // The machine before it lets nobody in: that was the refusal, and says nothing of keys.
            Err(AdapterError::Denied { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if seen != jump.fingerprint {
            return Err(distrust(world, host, seen, Some(number)).await);
        }
    }
    let shown = match world.hosts.scan(address, *port, way).await {
        Ok(shown) => shown,
        Err(AdapterError::Denied { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let seen = match way.pin {
        Pin::Key => Some(shown.fingerprint),
        // Without a certificate there is no other authority that could be accepted; that it lacks one was the refusal.
        Pin::Authority => shown.authority,
    };
    match seen.filter(|seen| seen != fingerprint) {
        Some(seen) => Err(distrust(world, host, seen, None).await),
        None => Ok(()),
    }
}

async fn distrust(world: &World, host: &Host, seen: String, jump: Option<u8>) -> Trouble {
    let changed = RecordHostKeyChanged { host: host.id.clone(), seen, jump };
    match world.order(Command::RecordHostKeyChanged(changed)).await {
        Ok(_) => Trouble::Stale(format!("host {} shows another key than the pinned one", host.id)),
        Err(error) => error.into(),
    }
}

/// Governance as the engine needs to know it: whose account is whose is the platform's knowledge.
fn governance(spec: &GovernanceSpec) -> GovernancePlan {
    let list = |list: &std::collections::BTreeSet<String>| list.iter().cloned().collect();
    GovernancePlan {
        members: spec.members.values().cloned().collect(),
        threshold: spec.threshold,
        senders: spec.senders.as_ref().map(list),
        deployers: spec.deployers.as_ref().map(list),
        restrict_nodes: spec.restrict_nodes,
    }
}

/// Makes the genesis: the same bytes from the same log, whoever makes them.
pub(super) async fn genesis(world: &World, state: &State, key: &ChainKey) -> Result<(), Trouble> {
    let chain = state.chains.get(key).ok_or_else(|| Trouble::Stale(format!("{key}: is gone")))?;
    let engine = engine_of(world, chain)?;
    let plan = chain_plan(chain)?;
    let nodes = state.nodes.values().filter(|node| node.key.chain == *key);
    let identities: Vec<_> = nodes.filter_map(|node| node.identity.as_ref()).map(public).collect();
    let bytes = Blob(engine.genesis(&plan, &identities)?);
    world.order(Command::RecordGenesis(RecordGenesis { chain: key.clone(), bytes })).await?;
    Ok(())
}
