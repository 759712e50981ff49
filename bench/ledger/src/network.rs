//! A network under load, ours or theirs, and what is measured on it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::process::{Process, disk_bytes};
use crate::rpc::Rpc;
use crate::transfers::Accounts;

/// Validators. One more node is prepared, which joins late and only follows.
pub(crate) const NODES: usize = 4;
/// Gas of a block: room for 9,523 transfers, more than either network gets through in a second.
pub(crate) const GAS_LIMIT: u64 = 200_000_000;
/// How long a network may take to begin.
const START_MAX: Duration = Duration::from_secs(90);
/// How long the late node may take.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);
/// Blocks over which the time of an empty block is taken.
const EMPTY_BLOCKS: u64 = 15;

/// A network whose validators run.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: &'static str,
    /// Of all nodes, the late one last.
    pub(crate) rpc: Vec<SocketAddr>,
    pub(crate) data: Vec<PathBuf>,
    /// Arguments and log.
    pub(crate) starts: Vec<(Vec<OsString>, PathBuf)>,
    pub(crate) program: PathBuf,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) processes: Vec<Process>,
    /// What a unit of gas must cost, in wei.
    pub(crate) gas_price: u128,
}

/// What one run showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) per_s: f64,
    pub(crate) transfers: usize,
    pub(crate) refused: usize,
    pub(crate) first_refusal: String,
    pub(crate) blocks_under_load: u64,
    pub(crate) cpu_us_per_transfer: f64,
    pub(crate) empty_block_s: f64,
    pub(crate) receipt_median_s: f64,
    pub(crate) receipt_p99_s: f64,
    /// Of the largest validator.
    pub(crate) rss_idle_mb: f64,
    pub(crate) rss_loaded_mb: f64,
    /// Of each validator after the load.
    pub(crate) rss_each_mb: Vec<f64>,
    pub(crate) disk_bytes_per_transfer: f64,
    pub(crate) catch_up_blocks_per_s: f64,
}

impl Network {
    /// Starts a node.
    pub(crate) fn start(&mut self, n: usize) -> Result<()> {
        let (arguments, log) = &self.starts[n];
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.environment.iter().cloned());
        self.processes.push(Process::start(&mut command, log)?);
        Ok(())
    }

    /// Waits until all validators answer and have made two blocks.
    pub(crate) async fn ready(&self) -> Result<()> {
        let until = Instant::now() + START_MAX;
        for address in &self.rpc[..NODES] {
            while !matches!(self.height_of(*address).await, Ok(2..)) {
                if Instant::now() > until {
                    bail!("{} did not begin; its logs are in {}", self.name, self.starts[0].1.display());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    async fn height_of(&self, address: SocketAddr) -> Result<u64> {
        Rpc::connect(address).await?.height().await
    }

    pub(crate) fn cpu_s(&self) -> Result<f64> {
        self.processes.iter().map(Process::cpu_s).sum()
    }

    pub(crate) fn rss_mb(&self) -> Result<Vec<f64>> {
        self.processes.iter().map(Process::rss_mb).collect()
    }

    fn disk_bytes(&self) -> Result<u64> {
        self.data[..NODES].iter().map(|data| disk_bytes(data)).sum()
    }

    /// Seconds a block with nothing to do.
    async fn empty_block_s(&self) -> Result<f64> {
        let mut rpc = Rpc::connect(self.rpc[0]).await?;
        let first = rpc.height().await? + 1;
        wait_height(&mut rpc, first).await?;
        let start = Instant::now();
        wait_height(&mut rpc, first + EMPTY_BLOCKS).await?;
        Ok(start.elapsed().as_secs_f64() / EMPTY_BLOCKS as f64)
    }

    /// Seconds from sending one transfer until its receipt is there, with nothing else to do, sorted.
    async fn receipts_s(&self, accounts: &mut Accounts, count: usize) -> Result<Vec<f64>> {
        let mut taken = Vec::new();
        for n in 0..count {
            // Sent at all phases of a block, and asked of the node that it was sent to.
            tokio::time::sleep(Duration::from_millis(n as u64 * 137 % 1000)).await;
            let mut rpc = Rpc::connect(self.rpc[n % NODES]).await?;
            let raw = accounts.next(0, self.gas_price)?;
            let start = Instant::now();
            let hash = rpc.call("eth_sendRawTransaction", json!([raw])).await?;
            while rpc.call("eth_getTransactionReceipt", json!([hash])).await?.is_null() {
                if start.elapsed() > START_MAX {
                    bail!("{}: no receipt of {hash}", self.name);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            taken.push(start.elapsed().as_secs_f64());
        }
        taken.sort_by(f64::total_cmp);
        Ok(taken)
    }

    /// Blocks a second that the late node takes.
    async fn catch_up(&mut self) -> Result<f64> {
        let goal = self.height_of(self.rpc[0]).await?;
        self.start(NODES)?;
        let start = Instant::now();
        let mut first = None;
        loop {
            // Counted from its first answer on: what it takes to start is not catching up.
            if let Ok(height) = self.height_of(self.rpc[NODES]).await {
                let (at, from) = *first.get_or_insert((Instant::now(), height));
                if height >= goal {
                    let taken = at.elapsed().as_secs_f64().max(0.001);
                    return Ok((height - from) as f64 / taken);
                }
            }
            if start.elapsed() > CATCH_UP_MAX {
                bail!("{}: the late node did not catch up to {goal}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All figures of one run; the network is worn afterwards.
    pub(crate) async fn measure(&mut self, accounts: &mut Accounts, seconds: u64, receipts: usize) -> Result<Figures> {
        self.ready().await?;
        let mut figures = Figures { empty_block_s: self.empty_block_s().await?, ..Figures::default() };
        figures.rss_idle_mb = largest(&self.rss_mb()?);
        let taken = self.receipts_s(accounts, receipts).await?;
        figures.receipt_median_s = at(&taken, 0.5)?;
        figures.receipt_p99_s = at(&taken, 0.99)?;
        let before = self.disk_bytes()?;
        crate::load::run(self, accounts, Duration::from_secs(seconds), &mut figures).await?;
        figures.disk_bytes_per_transfer =
            self.disk_bytes()?.saturating_sub(before) as f64 / NODES as f64 / figures.transfers.max(1) as f64;
        figures.rss_each_mb = self.rss_mb()?;
        figures.rss_loaded_mb = largest(&figures.rss_each_mb);
        figures.catch_up_blocks_per_s = self.catch_up().await?;
        for process in self.processes.drain(..) {
            process.stop()?;
        }
        Ok(figures)
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn at(sorted: &[f64], share: f64) -> Result<f64> {
    let last = sorted.len().checked_sub(1).context("no receipt was taken")?;
    Ok(sorted[((last as f64) * share).round() as usize])
}

async fn wait_height(rpc: &mut Rpc, height: u64) -> Result<()> {
    while rpc.height().await? < height {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
