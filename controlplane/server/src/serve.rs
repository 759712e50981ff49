//! Serving the API: every service behind the front, health and reflection beside them, limits on all of it.

use std::time::Duration;

use hanse_proto::FILE_DESCRIPTOR_SET;
use hanse_proto::v1::account_service_server::AccountServiceServer;
use hanse_proto::v1::artifact_service_server::ArtifactServiceServer;
use hanse_proto::v1::audit_service_server::AuditServiceServer;
use hanse_proto::v1::backup_service_server::BackupServiceServer;
use hanse_proto::v1::billing_service_server::BillingServiceServer;
use hanse_proto::v1::chain_service_server::ChainServiceServer;
use hanse_proto::v1::cloud_service_server::CloudServiceServer;
use hanse_proto::v1::cluster_service_server::ClusterServiceServer;
use hanse_proto::v1::consortium_service_server::ConsortiumServiceServer;
use hanse_proto::v1::explorer_service_server::ExplorerServiceServer;
use hanse_proto::v1::host_service_server::HostServiceServer;
use hanse_proto::v1::monitoring_service_server::MonitoringServiceServer;
use hanse_proto::v1::operation_service_server::OperationServiceServer;
use hanse_proto::v1::replica_service_server::ReplicaServiceServer;
use hanse_proto::v1::template_service_server::TemplateServiceServer;
use hanse_proto::v1::tenant_service_server::TenantServiceServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::api::{
    Accounts, Artifacts, Audit, Backups, Billing, Chains, Clouds, Cluster, Consortiums, Explorer, Hosts, Monitoring,
    Operations, ReplicaSet, Templates, Tenants,
};
use crate::context::{Context, Leadership};
use crate::listen::{self, ApiTls, ListenError};
use crate::proxy::FrontLayer;

/// Health's name for "this replica leads": a load balancer that wants the leader asks for it.
pub const LEADER_HEALTH: &str = "hanse.v1.Leader";

/// Calls a connection may have open at once.
const STREAMS_MAX: u32 = 128;

/// Largest message a caller may send: a deployed contract is at most 256 KiB.
const DECODE_BYTES_MAX: usize = 4 << 20;

/// Largest header list a caller may send.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Streams a caller may open and reset at once before the connection is closed (rapid reset, CVE-2023-44487).
const RESETS_MAX: usize = 64;

/// Pings on idle connections, so that half-open ones end.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Longest wait for a ping's answer.
const PING_MAX: Duration = Duration::from_secs(10);

/// Longest wait for a handler; longer than every limit inside the handlers, so that theirs speak first.
const CALL_MAX: Duration = Duration::from_secs(75);

/// How long calls under way may take to end once the replica stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How often health looks at who leads.
const LEADER_LOOK: Duration = Duration::from_millis(200);

/// Serves the API on `listener` until `shutdown`, then lets calls end for at most five seconds.
///
/// # Errors
/// [`ListenError`] if the certificates cannot be used or the server fails.
pub async fn serve(
    context: Context,
    listener: TcpListener,
    tls: &ApiTls,
    shutdown: CancellationToken,
) -> Result<(), ListenError> {
    let incoming = listen::spawn(listener, tls, shutdown.clone())?;
    let reporter = HealthReporter::new();
    let health = tokio::spawn(report_health(context.clone(), reporter.clone(), shutdown.clone()));
    let mut server = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_MAX))
        .timeout(CALL_MAX)
        .layer(FrontLayer::new(context.clone()));
    let router = server.add_routes(routes(&context, reporter)?);
    let serving =
        router.serve_with_incoming_shutdown(ReceiverStream::new(incoming), shutdown.clone().cancelled_owned());
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    let served = tokio::select! {
        served = serving => served.map_err(|error| ListenError::Serve(error.to_string())),
        () = drained => Ok(()),
    };
    health.abort();
    served
}

macro_rules! service {
    ($server:ident, $handler:ident, $context:expr) => {
        $server::new($handler::new($context.clone())).max_decoding_message_size(DECODE_BYTES_MAX)
    };
}

fn routes(context: &Context, reporter: HealthReporter) -> Result<Routes, ListenError> {
    let health = tonic_health::pb::health_server::HealthServer::new(
        tonic_health::server::HealthService::from_health_reporter(reporter),
    );
    let mut routes = Routes::new(health)
        .add_service(service!(AccountServiceServer, Accounts, context))
        .add_service(service!(ArtifactServiceServer, Artifacts, context))
        .add_service(service!(AuditServiceServer, Audit, context))
        .add_service(service!(BackupServiceServer, Backups, context))
        .add_service(service!(BillingServiceServer, Billing, context))
        .add_service(service!(ChainServiceServer, Chains, context))
        .add_service(service!(CloudServiceServer, Clouds, context))
        .add_service(service!(ClusterServiceServer, Cluster, context))
        .add_service(service!(ConsortiumServiceServer, Consortiums, context))
        .add_service(service!(ExplorerServiceServer, Explorer, context))
        .add_service(service!(HostServiceServer, Hosts, context))
        .add_service(service!(MonitoringServiceServer, Monitoring, context))
        .add_service(service!(OperationServiceServer, Operations, context))
        .add_service(service!(ReplicaServiceServer, ReplicaSet, context))
        .add_service(service!(TemplateServiceServer, Templates, context))
        .add_service(service!(TenantServiceServer, Tenants, context));
    if context.limits().reflection {
        let builder =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
        let fault = |error: tonic_reflection::server::Error| ListenError::Serve(format!("reflection: {error}"));
        routes = routes
            .add_service(builder().build_v1().map_err(fault)?)
            .add_service(builder().build_v1alpha().map_err(fault)?);
    }
    Ok(routes)
}

/// Keeps health's answers true: "" while the replica serves, [`LEADER_HEALTH`] only while it leads.
async fn report_health(context: Context, reporter: HealthReporter, shutdown: CancellationToken) {
    let mut led = None;
    let mut looks = tokio::time::interval(LEADER_LOOK);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = looks.tick() => {}
        }
        let leads = matches!(context.leadership(), Leadership::Me);
        if led != Some(leads) {
            let status = if leads { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(LEADER_HEALTH, status).await;
            led = Some(leads);
        }
    }
    for service in ["", LEADER_HEALTH] {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
    }
}
