//! From what the planner says to what is done: one arm for each act.

use hanse_adapters_core::AdapterError;
use hanse_engines_core::EngineError;
use hanse_planner::Act;
use hanse_state::billing::Meter;
use hanse_state::chain::adopting::EndAdoption;
use hanse_state::chain::height::ExchangeProgram;
use hanse_state::chain::life::PurgeChain;
use hanse_state::chain::moving::MoveNode;
use hanse_state::chain::node::{NodeAct, NodeFact};
use hanse_state::chain::outfit::RollBackChain;
use hanse_state::chain::rollout::{HaltRollout, ReleaseNode, RollNode};
use hanse_state::chain::seat::RecordUnseated;
use hanse_state::consortium::proposal::CloseProposal;
use hanse_state::{Command, State};

use super::order::OrderError;
use super::{World, contract, look, machine, moving, node, seat};

/// Why an act had no effect this time; it is planned again after a pause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The log did not take it.
    #[error("{0}")]
    Order(#[from] OrderError),
    /// The host or the ledger.
    #[error("{0}")]
    Engine(#[source] EngineError),
    /// The state lacks something that the act needs; the next round plans from a newer one.
    #[error("{0}")]
    Stale(String),
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<AdapterError> for Trouble {
    fn from(error: AdapterError) -> Self {
        Self::Engine(EngineError::Host(error))
    }
}

/// Carries out `act`, planned from `state`.
pub(super) async fn carry_out(world: &World, state: &State, act: Act) -> Result<(), Trouble> {
    match act {
        Act::Prepare { node: key, generation } => node::act(world, state, &key, generation, NodeAct::Prepare).await,
        Act::Configure { node: key, generation } => node::act(world, state, &key, generation, NodeAct::Configure).await,
        Act::Start { node: key, generation } => node::act(world, state, &key, generation, NodeAct::Start).await,
        Act::Genesis { chain } => node::genesis(world, state, &chain).await,
        Act::CheckHealth { node: key, .. } => look::look(world, state, &key).await,
        Act::RecordHealth { node: key, generation, fact } => node::report(world, &key, generation, fact).await,
        Act::Block { node: key, generation, reason } => {
            node::report(world, &key, generation, NodeFact::Failed { reason }).await
        }
        Act::Restart { node: key, generation, reason } => node::restart(world, &key, generation, reason).await,
        Act::Stop { node: key, generation } => node::end(world, state, &key, generation, NodeAct::Stop).await,
        Act::Remove { node: key, generation } => node::end(world, state, &key, generation, NodeAct::Remove).await,
        Act::Roll { node: key, generation, number } => {
            world.order(Command::RollNode(RollNode { node: key.clone(), generation, number })).await?;
            world.observed.forget(&key);
            Ok(())
        }
        Act::HaltRollout { chain, number, reason } => {
            world.order(Command::HaltRollout(HaltRollout { chain, number, reason })).await?;
            Ok(())
        }
        Act::CallOff { chain, reason } => {
            world
                .order(Command::RollBackChain(RollBackChain { chain, reason, accept_risk: false, number: None }))
                .await?;
            Ok(())
        }
        Act::Exchange { chain, number } => {
            world.order(Command::ExchangeProgram(ExchangeProgram { chain, number })).await?;
            Ok(())
        }
        Act::Unseated { chain, public_key } => {
            world.order(Command::RecordUnseated(RecordUnseated { chain, public_key })).await?;
            Ok(())
        }
        Act::Release { node: key, generation } => {
            world.order(Command::ReleaseNode(ReleaseNode { node: key, generation })).await?;
            Ok(())
        }
        Act::MoveStep { node: key, generation, act } => moving::step(world, state, &key, generation, act).await,
        Act::Move { node: key, generation, to, reason, accept_outage } => {
            let order = MoveNode { node: key.clone(), generation, to, reason, accept_outage, lost: false };
            world.order(Command::MoveNode(order)).await?;
            world.observed.forget(&key);
            Ok(())
        }
        Act::Seat { node: key, generation } => seat::step(world, state, &key, generation).await,
        Act::EndAdoption { chain } => {
            world.order(Command::EndAdoption(EndAdoption { chain })).await?;
            Ok(())
        }
        Act::Purge { chain } => {
            world.order(Command::PurgeChain(PurgeChain { chain })).await?;
            Ok(())
        }
        Act::CreateMachine { machine: id } => machine::create(world, state, &id).await,
        Act::LookMachine { machine: id } => machine::look(world, state, &id).await,
        Act::DeleteMachine { machine: id } => machine::delete(world, state, &id).await,
        Act::SendContract { contract: key } => contract::send_contract(world, state, &key).await,
        Act::LookContract { contract: key } => contract::look_contract(world, state, &key).await,
        Act::CloseProposal { proposal } => {
            world.order(Command::CloseProposal(CloseProposal { proposal })).await?;
            Ok(())
        }
        Act::Meter { until } => {
            world.order(Command::Meter(Meter { until })).await?;
            Ok(())
        }
    }
}
