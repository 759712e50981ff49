//! What a long history costs a replica: disk, memory, start, paging.
//!
//! `fill` makes a data folder with so many audit records as a restore would: each comes from applying a request, so that
//! chain, state and digest fit; the setup code of the cluster is `code`. `run` starts a real replica on it in a process of its own and prints one line of JSON.
//! `cargo xtask bench history` runs one after the other; by itself it asserts nothing.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use hanse_raft::{Member, PeerTls, Replica, ReplicaConfig, ReplicaId, Seed, Timings, peer_name};
use hanse_state::cluster::InitCluster;
use hanse_state::cluster::version::Version;
use hanse_state::ids::{ClusterId, RequestId};
use hanse_state::{Command, Digest, Millis, Request, State, apply};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CLUSTER: &str = "bench";
/// Records read at once, as the server does for a list.
const PAGE: usize = 500;
/// Longest wait for the first read that a majority confirms.
const LEAD_MAX: Duration = Duration::from_secs(600);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.as_slice() {
        ["fill", dir, entries, members @ ..] => {
            runtime.block_on(fill(Path::new(dir), entries.parse()?, parse_members(members)?))
        }
        ["run", dir] => runtime.block_on(run(Path::new(dir))),
        _ => Err("usage: history fill DIR ENTRIES [ID PEER API]... | run DIR".into()),
    }
}

/// Reads the members; by default there is one, as `run` has it.
fn parse_members(words: &[&str]) -> Result<BTreeMap<ReplicaId, Member>> {
    let words = if words.is_empty() { &["1", "127.0.0.1:1", "127.0.0.1:2"] } else { words };
    let (members, rest) = words.as_chunks::<3>();
    if !rest.is_empty() {
        return Err("a member is an id and two addresses".into());
    }
    let member = |[id, peer, api]: &[&str; 3]| {
        let member = Member { peer_address: (*peer).to_owned(), api_address: (*api).to_owned() };
        Ok((ReplicaId(id.parse()?), member))
    };
    members.iter().map(member).collect()
}

/// Makes the folder.
async fn fill(dir: &Path, entries: u64, members: BTreeMap<ReplicaId, Member>) -> Result<()> {
    let start = Instant::now();
    let mut seed = Seed::begin(dir).await?;
    let mut state = State::default();
    for index in 1..=entries {
        let request = request(index)?;
        for record in apply(&mut state, index, &request).records {
            seed.record(&record).await?;
        }
    }
    seed.finish(&state, members).await?;
    println!("{{\"fill_s\": {:.1}}}", start.elapsed().as_secs_f64());
    Ok(())
}

/// A request of the system; only the first is accepted, every one is recorded.
fn request(index: u64) -> Result<Request> {
    let wrong = |rejection: hanse_state::Rejection| rejection.message();
    let at = 1_790_000_000_000 + index;
    // The time in a UUID of version 7 are its first 48 bits; version and variant have their places.
    let id = |tail: u64| uuid::Uuid::from_u128(u128::from(at) << 80 | 7 << 76 | 2 << 62 | u128::from(tail));
    let cluster = ClusterId::new(id(0)).map_err(wrong)?;
    let command = Command::InitCluster(InitCluster {
        cluster,
        name: CLUSTER.into(),
        setup_code_hash: Digest::of(b"code"),
        version: Version::NEWEST,
    });
    Ok(Request::system(RequestId::new(id(index)).map_err(wrong)?, Millis(at), command))
}

/// Certificates of an only replica.
fn tls() -> Result<PeerTls> {
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![peer_name(CLUSTER, ReplicaId(1))])?.signed_by(&key, &issuer)?;
    Ok(PeerTls { ca_pem: issuer.pem(), cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// Starts a replica, pages through, and prints what it took.
async fn run(dir: &Path) -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let member = Member { peer_address: address.to_string(), api_address: "127.0.0.1:2".into() };
    let config = ReplicaConfig {
        id: ReplicaId(1),
        cluster_name: CLUSTER.into(),
        data_dir: dir.to_path_buf(),
        peer_listen: address,
        members: BTreeMap::from([(ReplicaId(1), member)]),
        tls: tls()?,
        timings: Timings::default(),
        snapshot_every: 10_000,
        bootstrap: false,
    };
    let begin = Instant::now();
    let replica = Replica::start(config, CancellationToken::new()).await?;
    let opened = begin.elapsed();
    while replica.read().await.is_err() {
        if begin.elapsed() > LEAD_MAX {
            return Err("no read within the limit".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answered = begin.elapsed();
    let last = replica.local().heads()[0].1;
    let (rss_start, peak_start) = memory()?;
    let begin = Instant::now();
    let mut after = 0;
    while after < last {
        let records = replica.history("audit", after, PAGE).await?;
        after = records.last().ok_or("history ends early")?.seq();
    }
    let all = begin.elapsed();
    let (rss_paged, peak_paged) = memory()?;
    let begin = Instant::now();
    let places = [0, last / 4, last / 2, last / 4 * 3, last.saturating_sub(PAGE as u64)];
    for place in places {
        replica.history("audit", place, PAGE).await?;
    }
    let page = begin.elapsed() / u32::try_from(places.len())?;
    let begin = Instant::now();
    replica.shutdown().await;
    let stopped = begin.elapsed();
    println!(
        "{{\"entries\": {last}, \"opened_s\": {:.3}, \"answered_s\": {:.3}, \"rss_mb\": {rss_start}, \"peak_mb\": {peak_start}, \
         \"page_all_s\": {:.3}, \"page_ms\": {:.3}, \"rss_paged_mb\": {rss_paged}, \"peak_paged_mb\": {peak_paged}, \
         \"stop_s\": {:.3}}}",
        opened.as_secs_f64(),
        answered.as_secs_f64(),
        all.as_secs_f64(),
        page.as_secs_f64() * 1e3,
        stopped.as_secs_f64(),
    );
    Ok(())
}

/// Memory of this process, now and at most, in MB.
fn memory() -> Result<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let value = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line of memory")?;
        Ok(line.split_whitespace().next().ok_or("no value")?.parse::<u64>()? / 1024)
    };
    Ok((value("VmRSS:")?, value("VmHWM:")?))
}
