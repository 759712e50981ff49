//! What the node counts, in the text form that Prometheus reads.
//!
//! Parts count where things happen, with atomics and short locks; [`page`] adds what is known at the moment of asking
//! (heights, peers, pool) and writes everything. The number of series is bounded: by the peers, the validators and the
//! methods that this node knows. It never waits for a reader and never influences what it counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::block::Block;
use crate::consensus::wire::CertificateForm;
use crate::exec::Executed;
use crate::keys::NodeId;
use crate::node::Shared;

/// Upper bounds in microseconds, and as Prometheus writes them.
const BUCKETS: [(u64, &str); 14] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

/// Durations by size.
#[derive(Default)]
pub(crate) struct Histogram {
    /// Observations up to each bound and above the one before; the last is above all bounds.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BUCKETS.iter().position(|(bound, _)| micros <= *bound).unwrap_or(BUCKETS.len());
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Notes how long the guard lived.
    pub(crate) fn start(&self) -> Timer<'_> {
        Timer { histogram: self, start: Instant::now() }
    }

    /// Runs `work` and notes how long it took.
    pub(crate) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let _timer = self.start();
        work()
    }
}

/// See [`Histogram::start`].
pub(crate) struct Timer<'a> {
    histogram: &'a Histogram,
    start: Instant,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.histogram.observe(self.start.elapsed());
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallOutcome {
    Ok,
    /// The caller's fault, or a no of the chain.
    Refused,
    /// Over a limit; may be asked again.
    Limited,
    /// The node failed.
    Failed,
}

impl CallOutcome {
    /// What the code of a JSON-RPC error says; `None` is success.
    pub(crate) fn of_code(code: Option<i32>) -> Self {
        match code {
            None => Self::Ok,
            Some(-32603) => Self::Failed,
            Some(-32005) => Self::Limited,
            Some(_) => Self::Refused,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

/// Everything that is counted. Lives as long as the node; starts at zero.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Execution of one block, proposed or checked.
    pub(crate) execution: Histogram,
    /// One sync of the consensus log.
    pub(crate) log_sync: Histogram,
    /// Storing one block with its state.
    pub(crate) store_commit: Histogram,
    /// From block to block by their times.
    pub(crate) block_interval: Histogram,
    /// Rounds that were needed beyond the first, of all blocks.
    pub(crate) extra_rounds: AtomicU64,
    pub(crate) transactions: AtomicU64,
    pub(crate) gas: AtomicU64,
    /// HTTP requests that were refused before they were read, by reason.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    /// Subscriptions that were cut because their client did not read.
    pub(crate) slow_subscribers: AtomicU64,
    pub(crate) subscriptions: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Calls that have their turn now.
    pub(crate) running: AtomicU64,
    calls: Mutex<BTreeMap<(&'static str, CallOutcome), u64>>,
    call_times: Mutex<BTreeMap<&'static str, Histogram>>,
    /// Blocks whose certificate here has no signature of the validator.
    missed: Mutex<BTreeMap<NodeId, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of a counter's lock panics")
}

impl Metrics {
    /// Notes an HTTP request that was refused.
    pub(crate) fn refused(&self, reason: &'static str) {
        *lock(&self.refusals).entry(reason).or_default() += 1;
    }

    /// Notes one call of a method that this node knows.
    pub(crate) fn called(&self, method: &'static str, outcome: CallOutcome, took: Duration) {
        *lock(&self.calls).entry((method, outcome)).or_default() += 1;
        lock(&self.call_times).entry(method).or_default().observe(took);
    }

    /// Notes a stored block: what was in it, how many rounds it took, who did not sign.
    pub(crate) fn stored(&self, block: &Block, executed: &Executed, certificate: &[u8], validators: &[NodeId]) {
        self.transactions.fetch_add(executed.receipts.len() as u64, Ordering::Relaxed);
        self.gas.fetch_add(block.header().gas_used, Ordering::Relaxed);
        // It was verified before it was stored.
        let Ok(certificate) = CertificateForm::read(certificate) else { return };
        self.extra_rounds.fetch_add(u64::try_from(certificate.round).unwrap_or(0), Ordering::Relaxed);
        let signers: Vec<_> = certificate.signatures.iter().map(|(signer, _)| NodeId(*signer)).collect();
        let mut missed = lock(&self.missed);
        for validator in validators {
            if !signers.contains(validator) {
                *missed.entry(*validator).or_default() += 1;
            }
        }
    }
}

/// All of it as text, version 0.0.4 of the format.
pub(crate) fn page(shared: &Shared) -> String {
    let mut page = Page::default();
    chain(&mut page, shared);
    peers(&mut page, shared);
    consensus(&mut page, shared);
    calls(&mut page, &shared.metrics);
    process(&mut page, shared);
    page.0
}

fn chain(page: &mut Page, shared: &Shared) {
    let (status, metrics) = (shared.status().clone(), &shared.metrics);
    let version = env!("CARGO_PKG_VERSION");
    let (chain_id, me) = (shared.genesis.chain_id.to_string(), shared.me.to_string());
    page.family("hanse_ledger_info", "gauge", "Who this is; always 1.");
    page.sample("hanse_ledger_info", &[("version", version), ("chain_id", &chain_id), ("node_id", &me)], 1);
    page.one("hanse_ledger_height", "gauge", "Number of the newest stored block.", status.height);
    page.one("hanse_ledger_round", "gauge", "Round of the height under way.", u64::from(status.round));
    page.one("hanse_ledger_halted", "gauge", "1 if this node goes on no more.", u64::from(shared.halted().is_some()));
    page.one("hanse_ledger_syncing", "gauge", "1 while blocks are fetched from peers.", u64::from(status.syncing));
    let time = "hanse_ledger_block_timestamp_seconds";
    page.family(time, "gauge", "Time of the newest block, seconds since 1970.");
    page.seconds(time, &[], status.time_ms.saturating_mul(1_000));
    let (total, help) = ("hanse_ledger_transactions_total", "Transactions in blocks stored since the start.");
    page.one(total, "counter", help, metrics.transactions.load(Ordering::Relaxed));
    page.one("hanse_ledger_gas_total", "counter", "Gas of those transactions.", metrics.gas.load(Ordering::Relaxed));
    let (ready, gapped) = shared.mempool.counts();
    let name = "hanse_ledger_pool_transactions";
    page.family(name, "gauge", "Waiting transactions: ready can run, gapped wait for a nonce before theirs.");
    page.sample(name, &[("state", "ready")], ready as u64);
    page.sample(name, &[("state", "gapped")], gapped as u64);
    page.histogram(
        "hanse_ledger_block_interval_seconds",
        "From block to block by their times.",
        &metrics.block_interval,
    );
    page.histogram("hanse_ledger_execution_seconds", "Execution of one block.", &metrics.execution);
    page.histogram("hanse_ledger_store_commit_seconds", "Storing one block.", &metrics.store_commit);
    page.histogram("hanse_ledger_log_sync_seconds", "One sync of the consensus log.", &metrics.log_sync);
}

fn peers(page: &mut Page, shared: &Shared) {
    let configured = shared.net.peers().count() as u64;
    page.one("hanse_ledger_peers", "gauge", "Configured peers.", configured);
    let connected = shared.net.connected() as u64;
    page.one("hanse_ledger_peers_connected", "gauge", "Peers that this node is connected to.", connected);
    let peers: Vec<_> = shared.net.peers().map(|peer| (peer.config.node_id.to_string(), peer)).collect();
    let name = "hanse_ledger_peer_height";
    page.family(name, "gauge", "Newest block that the peer told of.");
    for (id, peer) in &peers {
        page.sample(name, &[("peer", id)], peer.height());
    }
    let name = "hanse_ledger_peer_dropped_messages_total";
    page.family(name, "counter", "Messages dropped because the peer's queue was full.");
    for (id, peer) in &peers {
        page.sample(name, &[("peer", id)], peer.dropped());
    }
}

fn consensus(page: &mut Page, shared: &Shared) {
    let metrics = &shared.metrics;
    // What cannot be read is told of where it is needed; here the page goes on without it.
    let validators: Vec<_> = shared.validators().unwrap_or_default().iter().map(|v| v.public_key.node_id()).collect();
    page.one("hanse_ledger_validators", "gauge", "Validators of the chain.", validators.len() as u64);
    let is_validator = u64::from(validators.contains(&shared.me));
    page.one("hanse_ledger_validator", "gauge", "1 if this node is a validator.", is_validator);
    let (name, help) = ("hanse_ledger_extra_rounds_total", "Rounds beyond the first that blocks needed.");
    page.one(name, "counter", help, metrics.extra_rounds.load(Ordering::Relaxed));
    let (name, help) = ("hanse_ledger_equivocations_total", "Times a validator was seen to sign two things at once.");
    page.one(name, "counter", help, shared.status().equivocations);
    let name = "hanse_ledger_validator_missed_signatures_total";
    page.family(name, "counter", "Blocks whose certificate at this node lacks the validator's signature.");
    let missed = lock(&metrics.missed);
    for validator in &validators {
        page.sample(name, &[("validator", &validator.to_string())], missed.get(validator).copied().unwrap_or(0));
    }
}

fn calls(page: &mut Page, metrics: &Metrics) {
    let name = "hanse_ledger_rpc_calls_total";
    page.family(name, "counter", "JSON-RPC calls by method and outcome.");
    for ((method, outcome), count) in lock(&metrics.calls).iter() {
        page.sample(name, &[("method", method), ("outcome", outcome.name())], *count);
    }
    let name = "hanse_ledger_rpc_call_seconds";
    page.family(name, "histogram", "Time of JSON-RPC calls by method, waiting for a turn included.");
    for (method, times) in lock(&metrics.call_times).iter() {
        page.buckets(name, &[("method", method)], times);
    }
    let name = "hanse_ledger_rpc_refused_requests_total";
    page.family(name, "counter", "HTTP requests refused before they were read, by reason.");
    for (reason, count) in lock(&metrics.refusals).iter() {
        page.sample(name, &[("reason", reason)], *count);
    }
    let gauge = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    page.one("hanse_ledger_rpc_connections", "gauge", "Open connections of clients.", gauge(&metrics.connections));
    page.one("hanse_ledger_rpc_running", "gauge", "JSON-RPC calls that run now.", gauge(&metrics.running));
    page.one("hanse_ledger_rpc_subscriptions", "gauge", "Subscriptions under way.", gauge(&metrics.subscriptions));
    let (name, help) = ("hanse_ledger_rpc_slow_subscribers_total", "Subscriptions cut because nobody read them.");
    page.one(name, "counter", help, gauge(&metrics.slow_subscribers));
}

fn process(page: &mut Page, shared: &Shared) {
    if let Some(bytes) = shared.store.disk_bytes() {
        page.one("hanse_ledger_store_bytes", "gauge", "Size of the ledger's store on disk.", bytes);
    }
    if let Some(bytes) = resident_bytes() {
        page.one("process_resident_memory_bytes", "gauge", "Memory of the process.", bytes);
    }
    let name = "hanse_ledger_uptime_seconds";
    page.family(name, "gauge", "Time since the node was started.");
    page.seconds(name, &[], u64::try_from(shared.started.elapsed().as_micros()).unwrap_or(u64::MAX));
}

/// From Linux's own account of the process; `None` where there is none.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The text under way. Values of labels are ids and names of this program, so nothing has to be escaped.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.0.write_fmt(line).expect("writing to a string does not fail");
        self.0.push('\n');
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.line(format_args!("{name}{} {value}", Labels(labels, None)));
    }

    fn seconds(&mut self, name: &str, labels: &[(&str, &str)], micros: u64) {
        let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
        self.line(format_args!("{name}{} {whole}.{rest:06}", Labels(labels, None)));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        self.buckets(name, &[], histogram);
    }

    fn buckets(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut total = 0;
        let bounds = BUCKETS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        for (bound, count) in bounds.zip(&histogram.counts) {
            total += count.load(Ordering::Relaxed);
            self.line(format_args!("{name}_bucket{} {total}", Labels(labels, Some(bound))));
        }
        self.seconds(&format!("{name}_sum"), labels, histogram.sum_micros.load(Ordering::Relaxed));
        self.sample(&format!("{name}_count"), labels, total);
    }
}

/// Labels and perhaps a bucket's bound.
struct Labels<'a>(&'a [(&'a str, &'a str)], Option<&'a str>);

impl std::fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound = self.1.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in self.0.iter().copied().chain(bound) {
            write!(f, "{separator}{name}=\"{value}\"")?;
            separator = ',';
        }
        if separator == ',' { f.write_str("}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_labels_are_written() {
        let histogram = Histogram::default();
        for millis in [0, 1, 3, 20_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        page.buckets("x", &[("method", "m")], &histogram);
        let text = page.0;
        assert!(text.contains("x_bucket{method=\"m\",le=\"0.0005\"} 1\n"), "{text}");
        assert!(text.contains("x_bucket{method=\"m\",le=\"0.001\"} 2\n"), "{text}");
        assert!(text.contains("x_bucket{method=\"m\",le=\"10\"} 3\n"), "{text}");
        assert!(text.contains("x_bucket{method=\"m\",le=\"+Inf\"} 4\n"), "{text}");
        assert!(text.contains("x_sum{method=\"m\"} 20.004000\n"), "{text}");
        assert!(text.contains("x_count{method=\"m\"} 4\n"), "{text}");
    }
}
