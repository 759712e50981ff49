//! Measures the write-ahead log alone: appends a second and their latency with 1 and 64 in flight, and the opening.
//!
//! `cargo run --release -p hanse-raft --example wal_bench [FOLDER [SECONDS]]`; the folder must be on the disk in question.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use hanse_raft::inside::{EntryBytes, Folder, LogStore, Options, log_alone};
use hanse_raft::{Member, ReplicaId};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::RaftLogStorageExt;
use openraft::{EntryPayload, LogId};

type Entry = openraft::Entry<LeaderId<u64, ReplicaId>, EntryPayload<EntryBytes, ReplicaId, Member>>;

const PAYLOAD_BYTES: usize = 400;

fn entry(index: u64) -> Entry {
    let leader = LeaderId { term: 1, node_id: ReplicaId(1) };
    Entry {
        log_id: LogId::new(leader, index),
        payload: EntryPayload::Normal(EntryBytes(vec![7; PAYLOAD_BYTES].into())),
    }
}

async fn append(mut log: LogStore, index: u64) -> std::io::Result<Duration> {
    let start = Instant::now();
    log.blocking_append([entry(index)]).await?;
    Ok(start.elapsed())
}

async fn round(log: &LogStore, next: &mut u64, in_flight: usize, seconds: u64) -> std::io::Result<()> {
    let (start, mut times, mut waiting) = (Instant::now(), Vec::new(), FuturesUnordered::new());
    while start.elapsed() < Duration::from_secs(seconds) {
        while waiting.len() < in_flight {
            // A task begins to run only when it is polled: order is kept by spawning none.
            let mut one = Box::pin(append(log.clone(), *next));
            *next += 1;
            match futures::poll!(&mut one) {
                std::task::Poll::Ready(time) => times.push(time?),
                std::task::Poll::Pending => waiting.push(one),
            }
        }
        if let Some(time) = waiting.next().await {
            times.push(time?);
        }
    }
    while let Some(time) = waiting.next().await {
        times.push(time?);
    }
    times.sort();
    let per_second = times.len() as f64 / start.elapsed().as_secs_f64();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("{in_flight} in flight: {per_second:.0}/s, p50 {:?}, p99 {:?}", at(50), at(99));
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| ".".into())).join("wal-bench");
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let disk = || Folder::open(&folder).map(Arc::new);
    let (wal, log) = log_alone(disk()?, Options::default())?;
    let mut next = 0;
    for in_flight in [1, 64, 1, 64] {
        round(&log, &mut next, in_flight, seconds).await?;
    }
    wal.close();
    let start = Instant::now();
    let (wal, _) = log_alone(disk()?, Options::default())?;
    println!("opened {next} entries in {:?}", start.elapsed());
    wal.close();
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
