//! What a change of program at a height asks of a node when it is configured: whether there is a way back, and where it stops or goes on.

use async_trait::async_trait;
use hanse_adapters_core::RunState;
use hanse_engines_core::{EngineError, NodePlan, WayBack};
use hanse_state::chain::height::{HeightStage, open};

use super::act::Trouble;
use super::node::{STOP_GRACE, Site};

/// On the way back to the program before a height: asks again whether there is one, and once more when the next program is stopped, for
/// it may have made that block since the order was given. One that cannot go back is left to people, with the reason: as it runs if
/// its process says so itself, else stopped.
pub(super) async fn check_way_back(site: &Site, plan: &NodePlan) -> Result<(), Trouble> {
    let back = open(&site.chain).filter(|at| at.stage == HeightStage::Back);
    let Some(at) = back.filter(|_| site.node.returns) else { return Ok(()) };
    let adapter = site.adapter.as_ref();
    match adapter.look(&plan.key).await?.map(|status| status.run) {
        Some(RunState::Running { .. } | RunState::Exited { .. }) => {}
        // Nothing of it ever ran here, as where its home was carried to.
        Some(RunState::Prepared) | None => return Ok(()),
    }
    ask_and_stop(&OnHost { site, plan, height: at.height }).await
}

/// Who is asked whether it can go back, and stopped.
#[async_trait]
trait Returning: Sync {
    async fn ask(&self) -> Result<WayBack, Trouble>;
    async fn stop(&self) -> Result<(), Trouble>;
}

struct OnHost<'a> {
    site: &'a Site,
    plan: &'a NodePlan,
    height: u64,
}

#[async_trait]
impl Returning for OnHost<'_> {
    async fn ask(&self) -> Result<WayBack, Trouble> {
        Ok(self.site.engine.way_back(self.site.adapter.as_ref(), self.plan, Some(self.height)).await?)
    }

    async fn stop(&self) -> Result<(), Trouble> {
        Ok(self.site.adapter.fence(&self.plan.key, self.plan.generation, STOP_GRACE).await?)
    }
}

/// What a process says of itself while it runs may be seen nowhere once it is stopped: a node that is tried again would go back then.
/// So one that says no is not stopped, and says the same at every look.
async fn ask_and_stop(node: &dyn Returning) -> Result<(), Trouble> {
    may_go_back(node.ask().await?)?;
    node.stop().await?;
    may_go_back(node.ask().await?)
}

fn may_go_back(answer: WayBack) -> Result<(), Trouble> {
    match answer {
        // Whoever ordered it knew that nobody can tell, or it could be told then.
        WayBack::Open | WayBack::Unknown(_) => Ok(()),
        WayBack::Closed(reason) => {
            let field = "the way back".to_owned();
            Err(Trouble::Engine(EngineError::Invalid { field, reason }))
        }
    }
}

/// Writes at which height the node stops, if it is to, and from which it goes on, if its program was exchanged there.
pub(super) async fn write_halt(site: &Site, plan: &NodePlan) -> Result<(), Trouble> {
    let adapter = site.adapter.as_ref();
    if let Some(halt) = site.node.halt {
        return Ok(site.engine.halt_at(adapter, plan, Some(halt.height)).await?);
    }
    let exchanged = open(&site.chain).filter(|at| at.stage == HeightStage::Exchanging);
    match exchanged {
        Some(at) => Ok(site.engine.go_on_from(adapter, plan, at.height).await?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A node whose process alone may know that it has made the block.
    #[derive(Default)]
    struct Node {
        has_made_it: bool,
        makes_it_meanwhile: bool,
        is_stopped: AtomicBool,
    }

    #[async_trait]
    impl Returning for Node {
        async fn ask(&self) -> Result<WayBack, Trouble> {
            Ok(match self.is_stopped.load(Ordering::Relaxed) {
                false if self.has_made_it => WayBack::Closed("it has executed block 200".into()),
                false => WayBack::Open,
                true if self.makes_it_meanwhile => WayBack::Closed("it has signed block 201".into()),
                true => WayBack::Unknown("it does not answer".into()),
            })
        }

        async fn stop(&self) -> Result<(), Trouble> {
            self.is_stopped.store(true, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn one_that_says_no_runs_on_and_says_so_again() {
        let node = Node { has_made_it: true, ..Node::default() };
        for _ in 0..3 {
            let refused = ask_and_stop(&node).await.unwrap_err();
            assert!(refused.to_string().contains("block 200"), "{refused}");
            assert!(!node.is_stopped.load(Ordering::Relaxed), "what it says would be forgotten");
        }
    }

    #[tokio::test]
    async fn one_that_made_it_while_it_was_asked_is_found_out_when_it_is_stopped() {
        let node = Node { makes_it_meanwhile: true, ..Node::default() };
        let refused = ask_and_stop(&node).await.unwrap_err();
        assert!(refused.to_string().contains("block 201") && node.is_stopped.load(Ordering::Relaxed), "{refused}");
        let node = Node::default();
        ask_and_stop(&node).await.unwrap();
        assert!(
            node.is_stopped.load(Ordering::Relaxed),
            "the next program has ended before the one before is configured"
        );
    }
}
