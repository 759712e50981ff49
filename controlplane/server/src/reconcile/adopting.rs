//! Steps by which a node of others is taken over on its host, and given back: the same acts and facts as a move's, within one host.
//!
//! What is on the host is looked at anew by each step, so that any leader can take it up at any point: the key is set aside once, what is
//! copied already is not copied again, and a home that was given back is not given back twice.

use hanse_adapters_core::{Adapter, AdapterError, InstanceKey};
use hanse_planner::Run;
use hanse_state::State;
use hanse_state::chain::node::{Node, NodeAct, NodeFact};

use super::World;
use super::act::Trouble;
use super::node::{STOP_GRACE, Site, engine_of};
use crate::watched::{self, Answer, pinned};

/// Does one step, and says what was seen.
pub(super) async fn attempt(world: &World, state: &State, node: &Node, act: NodeAct) -> Result<NodeFact, Trouble> {
    let stale = |what: &str| Trouble::Stale(format!("{}: {what}", node.key));
    let adopting = node.adopting.as_ref().ok_or_else(|| stale("is not taken over"))?;
    let site = Site::reach(world, state, &node.key).await?;
    let claim = engine_of(world, &site.chain)?.claim(&adopting.home)?;
    let (adapter, key, generation) = (site.adapter.as_ref(), &site.plan.key, node.generation);
    match act {
        NodeAct::Fence => {
            let stop = adopting.stop.then_some(STOP_GRACE);
            adapter.seize_home(key, generation, &claim, stop).await?;
            check_silent(state, &site).await?;
            Ok(NodeFact::Fenced)
        }
        NodeAct::Carry => {
            // Seized again first: the mark and the fence are this generation's then, and whoever holds the home is not overlooked.
            adapter.seize_home(key, generation, &claim, None).await?;
            check_silent(state, &site).await?;
            adapter.take_home(key, generation, &claim).await?;
            site.engine.check_copy(adapter, &site.plan).await?;
            Ok(NodeFact::Carried)
        }
        NodeAct::Return => {
            adapter.return_home(key, generation, &claim, adopting.started).await?;
            Ok(NodeFact::Returned)
        }
        NodeAct::Prepare
        | NodeAct::Configure
        | NodeAct::Start
        | NodeAct::Stop
        | NodeAct::Remove
        | NodeAct::Clear
        | NodeAct::Seat => Err(stale("is taken over, and this is no step of that")),
    }
}

/// Refuses to make a node where a home lies that was taken over from its owner for a former chain of this name and was written off since: it
/// may be the only copy of what its key has signed, and its process may run.
pub(super) async fn check_not_anothers(adapter: &dyn Adapter, key: &InstanceKey) -> Result<(), Trouble> {
    let Some(status) = adapter.look(key).await?.filter(|status| status.taken) else { return Ok(()) };
    let reason = format!(
        "what was taken over from its owner's home for a former chain of this name is still here (generation {}), and nothing of it is touched: \
         bring it away by hand (operations.md, \"a host is lost for good\"), or choose another name",
        status.generation
    );
    Err(AdapterError::Invalid { subject: key.to_string(), reason }.into())
}

/// Refuses to start a node that was taken over while its owner's may run anywhere; ours, if it runs, is not taken for that.
pub(super) async fn check_alone(state: &State, site: &Site) -> Result<(), Trouble> {
    if site.node.adopting.is_none() {
        return Ok(());
    }
    let seen = site.adapter.look(&site.plan.key).await?;
    match seen.map(|status| super::look::view(&status).run) {
        Some(Run::Running) => Ok(()),
        _ => check_silent(state, site).await,
    }
}

/// Waits while a node answers where its owner's did. The home may be held by nobody and be a copy of the one that it runs in, here or on
/// another machine: nothing but its own silence says that the key is in no process.
async fn check_silent(state: &State, site: &Site) -> Result<(), Trouble> {
    let Some(adopting) = &site.node.adopting else { return Ok(()) };
    let stale = || Trouble::Stale(format!("{}: cannot be named", site.node.key));
    let question = watched::plan(state, &site.node, &adopting.endpoint).ok_or_else(stale)?;
    let why = match watched::answers(site.engine.as_ref(), &adopting.endpoint, &question, pinned(&site.chain)).await {
        Answer::None => return Ok(()),
        Answer::Some(how) => format!(
            "{how}, though no process holds this home: its node may run from another home with the same key; stop it there, or give this \
             one back"
        ),
        Answer::Unknown(why) => format!(
            "{why}. Its node may run there from another home with the same key, and only a refused connection says that it does not: see \
             that the replicas reach that address, or give this one back"
        ),
    };
    Err(AdapterError::Transient { subject: adopting.home.clone(), reason: why }.into())
}
