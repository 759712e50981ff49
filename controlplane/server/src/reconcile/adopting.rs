//! Steps by which a node of others is taken over on its host, and given back: the same acts and facts as a move's, within one host.
//!
//! What is on the host is looked at anew by each step, so that any leader can take it up at any point: the key is set aside once, what is
//! copied already is not copied again, and a home that was given back is not given back twice.

use hanse_adapters_core::{Adapter, Claim, InstanceKey};
use hanse_state::State;
use hanse_state::chain::node::{Node, NodeAct, NodeFact};

use super::World;
use super::act::Trouble;
use super::node::{STOP_GRACE, Site, engine_of};

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
            Ok(NodeFact::Fenced)
        }
        NodeAct::Carry => {
            copy(adapter, key, generation, &claim).await?;
            site.engine.check_copy(adapter, &site.plan).await?;
            Ok(NodeFact::Carried)
        }
        NodeAct::Return => {
            adapter.return_home(key, generation, &claim).await?;
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

/// Seized again first: the mark and the fence are this generation's then, and whoever holds the home is not overlooked.
async fn copy(adapter: &dyn Adapter, key: &InstanceKey, generation: u64, claim: &Claim) -> Result<(), Trouble> {
    adapter.seize_home(key, generation, claim, None).await?;
    adapter.take_home(key, generation, claim).await?;
    Ok(())
}
