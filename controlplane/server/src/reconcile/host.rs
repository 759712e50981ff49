//! Looking at hosts: what they are, and whether they still show the pinned key.

use std::future::Future;
use std::pin::Pin;

use hanse_adapters_core::AdapterError;
use hanse_state::host::{HostFacts, HostState, RecordHostFacts};
use hanse_state::ids::HostId;
use hanse_state::{Command, State, name};

use super::World;
use super::act::Trouble;
use super::node::suspect;

/// Facts older than this are looked at again.
const FACTS_AGE_MAX_MS: u64 = 10 * 60 * 1_000;

/// Plans a look at every host whose facts are missing or old.
pub(super) fn plan<F>(world: &World, state: &State, mut start: F)
where
    F: FnMut(String, Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send>>),
{
    let now = (world.clock)();
    for (id, host) in &state.hosts {
        let due = host.facts_at.is_none_or(|at| now.since(at) >= FACTS_AGE_MAX_MS);
        if due && !matches!(host.state, HostState::Distrusted | HostState::Maintenance) {
            let (world, state, id) = (world.clone(), state.clone(), id.clone());
            start(name::host(&id), Box::pin(async move { inspect(&world, &state, &id).await }));
        }
    }
}

async fn inspect(world: &World, state: &State, id: &HostId) -> Result<(), Trouble> {
    let host = state.hosts.get(id).ok_or_else(|| Trouble::Stale(format!("host {id} is gone")))?;
    let adapter = world.hosts.connect(host).await?;
    let facts = match adapter.inspect().await {
        Ok(facts) => facts,
        Err(error @ AdapterError::Denied { .. }) => {
            suspect(world, host).await?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    let facts = HostFacts {
        hostname: facts.hostname,
        arch: facts.arch,
        kernel: facts.kernel,
        cpus: facts.cpus,
        memory_bytes: facts.memory_bytes,
        disk_free_bytes: facts.disk_free_bytes,
        systemd: facts.systemd,
    };
    world.order(Command::RecordHostFacts(RecordHostFacts { host: id.clone(), facts })).await?;
    Ok(())
}
