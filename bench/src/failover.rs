//! The leader is killed: how long until a survivor acknowledges a write.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::load::{Op, Target};
use crate::members::{COUNT, Members, until};

/// Longest single try; one that went to the dead leader must not hide that another is elected.
const TRY_MAX: Duration = Duration::from_millis(300);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);
/// Calm between the return of the killed one and the next kill.
const CALM: Duration = Duration::from_millis(1_500);

/// A cluster whose members can be killed.
pub(crate) trait Cluster {
    /// Its calls.
    type Calls: Target;
    /// Its processes.
    fn members(&mut self) -> &mut Members;
    /// Place of the leader, if there is one.
    async fn leader(&self) -> Option<usize>;
    /// Calls to one member.
    async fn calls_to(&self, place: usize) -> Result<Self::Calls>;
    /// Whether a member has what the others have.
    async fn is_caught_up(&self, place: usize) -> bool;
}

/// Writes to all of `places` at once until one acknowledges.
async fn first_write<C: Cluster>(cluster: &C, places: &[usize], client: usize) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for place in places {
        let calls = cluster.calls_to(*place).await?;
        tasks.spawn(async move {
            let mut count = 0;
            loop {
                count += 1;
                let call = calls.call(Op::Write, client, count);
                if let Ok(Ok(())) = tokio::time::timeout(TRY_MAX, call).await {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    let first = tokio::time::timeout(Duration::from_secs(60), tasks.join_next()).await;
    first.context("no write within a minute")?.context("a write")??;
    Ok(())
}

/// Kills the leader so many times; gives the seconds of each.
pub(crate) async fn run<C: Cluster>(cluster: &mut C, kills: usize) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for kill in 0..kills {
        let leader = until("a leader to kill", || cluster.leader()).await?;
        let survivors: Vec<usize> = (0..COUNT).filter(|place| *place != leader).collect();
        // Connections are warm, as those of a console or a script are.
        for place in &survivors {
            first_write(cluster, &[*place], kill % 8).await?;
        }
        let begin = Instant::now();
        cluster.members().kill(leader).await?;
        first_write(cluster, &survivors, kill % 8).await?;
        times.push(begin.elapsed().as_secs_f64());
        crate::say(format_args!("kill {kill}: {:.3} s", times[kill]));
        cluster.members().start_one(leader)?;
        until("the killed one to catch up", || async { cluster.is_caught_up(leader).await.then_some(()) }).await?;
        tokio::time::sleep(CALM).await;
    }
    Ok(times)
}

/// Ends all members in order and starts them; gives the seconds until the first acknowledged write.
pub(crate) async fn restart<C: Cluster>(cluster: &mut C) -> Result<f64> {
    cluster.members().stop().await?;
    let begin = Instant::now();
    for place in 0..COUNT {
        cluster.members().start_one(place)?;
    }
    first_write(cluster, &[0, 1, 2], 0).await?;
    Ok(begin.elapsed().as_secs_f64())
}
