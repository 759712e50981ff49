//! The tasks of a running replica: answering peers, following openraft, and the orderly end.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, Raft, RaftMetrics, ServerState};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::config::Timings;
use crate::door;
use crate::durable::Durable;
use crate::error::RaftError;
use crate::machine::{Core, Machine, blocking};
use crate::network::MESSAGE_BYTES_MAX;
use crate::pb::peer_server::PeerServer;
use crate::peer::PeerService;
use crate::replay;
use crate::stop::Stop;
use crate::tls::PeerTls;
use crate::types::{ReplicaId, Types};

/// Streams a peer may have open on one connection (tonic's default is no limit).
const STREAMS_MAX: u32 = 128;
/// How long the peer service may take to let its callers go.
const SERVER_END: Duration = Duration::from_secs(2);

/// Gives the task that answers peers until the end.
pub(crate) fn serve(
    tls: PeerTls,
    listener: TcpListener,
    service: PeerService,
    end: CancellationToken,
    stop: Stop,
) -> Result<impl Future<Output = ()> + Send, RaftError> {
    let (accepting, incoming) = door::open(listener, tls.server()?, service.clone(), end.clone());
    let service = PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let router = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(service);
    Ok(async move {
        let graceful = end.clone();
        let incoming = ReceiverStream::new(incoming);
        let serving = router.serve_with_incoming_shutdown(incoming, async move { graceful.cancelled().await });
        let both = async { tokio::join!(serving, accepting).0 };
        let limit = async {
            end.cancelled().await;
            tokio::time::sleep(SERVER_END).await;
        };
        tokio::select! {
            served = both => if let Err(error) = served {
                // Deaf to its peers it could neither follow nor lead.
                stop.set(RaftError::Fatal(format!("the peer service ended: {}", chain(&error))));
            },
            () = limit => {}
        }
    })
}

/// Gives an error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |e| e.source()).fold(error.to_string(), |text, e| format!("{text}: {e}"))
}

/// Follows openraft's metrics: who leads, whether we do, whether the core still runs.
pub(crate) async fn observe(
    raft: Raft<Types, Machine>,
    timings: Timings,
    stop: Stop,
    leader: watch::Sender<Option<ReplicaId>>,
    leading: watch::Sender<Option<u64>>,
) {
    let (metrics, mut server) = (raft.metrics(), raft.server_metrics());
    let mut tick = tokio::time::interval(Duration::from_millis(timings.heartbeat_ms));
    loop {
        let now = lead(&metrics.borrow_watched(), timings);
        match now {
            Ok(now) => {
                set(&leading, now.leading);
                set(&leader, now.leader);
            }
            Err(fatal) => {
                leader.send_replace(None);
                leading.send_replace(None);
                stop.set(fatal);
                return;
            }
        }
        tokio::select! {
            // Not `metrics`, which changes with every entry; what slips between the two is seen with the next tick.
            changed = server.changed() => if changed.is_err() {
                stop.set(RaftError::Stopped);
                return;
            },
            _ = tick.tick() => {}
        }
    }
}

/// Who leads, as far as this replica knows.
struct Lead {
    leader: Option<ReplicaId>,
    /// The term in which it leads itself.
    leading: Option<u64>,
}

/// Gives who leads.
///
/// # Errors
/// [`RaftError::Fatal`] if the core has stopped.
fn lead(now: &RaftMetrics<Types>, timings: Timings) -> Result<Lead, RaftError> {
    now.running_state.as_ref().map_err(|fatal| RaftError::Fatal(fatal.to_string()))?;
    // A leader that no longer hears a majority is none: another may already be elected. A sole voter is a majority,
    // and nobody acknowledges to it.
    let heard = || {
        let silence = Duration::from_millis(timings.election_max_ms);
        now.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() < silence)
            || now.membership_config.membership().voter_ids().count() == 1
    };
    let leads = now.state == ServerState::Leader && heard();
    Ok(Lead {
        leader: now.current_leader.filter(|id| *id != now.id || leads),
        leading: leads.then_some(now.current_term),
    })
}

fn set<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|old| {
        let differs = *old != value;
        if differs {
            *old = value;
        }
        differs
    });
}

/// Waits for the end and then lets everything go, in order: peers, Raft, store.
pub(crate) async fn finish(
    end: CancellationToken,
    raft: Raft<Types, Machine>,
    core: Arc<Core>,
    stop: Stop,
    mut tasks: JoinSet<()>,
    ended: watch::Sender<bool>,
) {
    end.cancelled().await;
    replay::shorten(&raft, &core).await;
    core.store.space().end();
    if let Err(error) = raft.shutdown().await {
        tracing::warn!(%error, "consensus did not end cleanly");
    }
    stop.set(RaftError::Stopped);
    while let Some(task) = tasks.join_next().await {
        if let Err(error) = task {
            tracing::error!(%error, "a task of the replica panicked");
        }
    }
    // A snapshot that is just being written is not left behind to appear after the end.
    drop(core.saving.lock().await);
    close(core.store.clone()).await;
    ended.send_replace(true);
}

/// Closes the store aside.
pub(crate) async fn close(store: Durable) {
    let closed = blocking(move || {
        store.close();
        Ok(())
    });
    if let Err(error) = closed.await {
        tracing::error!(%error, "the store did not close");
    }
}
