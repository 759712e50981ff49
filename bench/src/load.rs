//! Clients that call one after another, for a while, and what came of it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::members::Members;

/// Clients that share a connection.
pub(crate) const CLIENTS_PER_CONNECTION: usize = 8;
/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 256;
/// Calls before counting begins.
const WARM_UP: Duration = Duration::from_millis(500);

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Op {
    /// A write of one value.
    Write,
    /// A linearizable read.
    Read,
}

/// A cluster that can be called.
pub(crate) trait Target: Clone + Send + Sync + 'static {
    /// Makes one call over the connection of this client.
    fn call(&self, op: Op, client: usize, count: u64) -> impl Future<Output = Result<(), Status>> + Send;
}

/// What came of one load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) per_s: f64,
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    pub(crate) errors: usize,
    /// Processor time of all members for one call.
    pub(crate) cpu_us: f64,
}

/// Gives a connection to a member, made as `hanse-client` makes its own; the same options for every cluster.
pub(crate) async fn channel(address: &str, ca: &str) -> Result<Channel> {
    let tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(hanse_proto::API_SERVER_NAME);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect_timeout(CONNECT_MAX);
    Ok(endpoint.connect_with_connector_lazy(hanse_cork::connector(None, CONNECT_MAX)))
}

/// A value that is never the one before.
pub(crate) fn value(count: u64) -> String {
    format!("{count:0>VALUE_BYTES$}")
}

/// Loads the target and gives what came of it.
pub(crate) async fn drive<T: Target>(
    target: &T,
    op: Op,
    clients: usize,
    length: Duration,
    members: &Members,
) -> Result<Figures> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + length;
    let tasks: Vec<_> = (0..clients).map(|client| tokio::spawn(one(target.clone(), op, client, begin, end))).collect();
    tokio::time::sleep_until(begin.into()).await;
    let cpu = members.cpu_s()?;
    tokio::time::sleep_until(end.into()).await;
    let cpu = members.cpu_s()? - cpu;
    let (mut times, mut errors) = (Vec::new(), Vec::new());
    for task in tasks {
        let (more, failed) = task.await?;
        times.extend(more);
        errors.extend(failed);
    }
    if times.is_empty() {
        bail!("no call was answered; the first error: {:?}", errors.first());
    }
    times.sort_unstable();
    let calls = times.len();
    Ok(Figures {
        per_s: calls as f64 / length.as_secs_f64(),
        p50_us: times[calls / 2],
        p99_us: times[(calls * 99 / 100).min(calls - 1)],
        errors: errors.len(),
        cpu_us: cpu * 1e6 / calls as f64,
    })
}

async fn one<T: Target>(target: T, op: Op, client: usize, begin: Instant, end: Instant) -> (Vec<u32>, Vec<Status>) {
    let (mut times, mut errors) = (Vec::new(), Vec::new());
    let mut count = 0;
    loop {
        count += 1;
        let start = Instant::now();
        if start >= end {
            return (times, errors);
        }
        let answer = target.call(op, client, count).await;
        let now = Instant::now();
        if start < begin || now > end {
            continue;
        }
        match answer {
            Ok(()) => times.push(u32::try_from((now - start).as_micros()).unwrap_or(u32::MAX)),
            Err(status) => errors.push(status),
        }
    }
}
