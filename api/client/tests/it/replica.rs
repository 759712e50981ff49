//! A replica that does what its script says: the real transport, scripted answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hanse_client::{Client, ClientConfig, Timeouts, pb};
use pb::audit_service_server::{AuditService, AuditServiceServer};
use pb::backup_service_server::{BackupService, BackupServiceServer};
use pb::cluster_service_server::{ClusterService, ClusterServiceServer};
use pb::tenant_service_server::{TenantService, TenantServiceServer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// A limit no healthy machine reaches; it only ends a test that hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// One answer of a scripted replica.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// UNAVAILABLE, with the leader's address if one is given.
    NotLeader(Option<String>),
    /// Takes the request, acts and never answers.
    Silence,
    /// DEADLINE_EXCEEDED with reason OUTCOME_UNKNOWN.
    OutcomeUnknown,
    /// A refusal with every kind of detail, before the log saw the request.
    Refuse,
    /// The same refusal by the log.
    RefuseByLog,
}

/// What a replica was told and what it saw.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Answers in order; afterwards every request succeeds.
    pub(crate) steps: Mutex<VecDeque<Step>>,
    /// Request ids in order of arrival.
    pub(crate) seen: Mutex<Vec<String>>,
    /// `after_revision` of every watch.
    pub(crate) watched: Mutex<Vec<u64>>,
    /// One list of messages a watch; the stream ends after them unless it shall hang.
    pub(crate) watches: Mutex<VecDeque<Vec<Result<pb::WatchResponse, Status>>>>,
    /// `after_seq` of every export.
    pub(crate) exported: Mutex<Vec<u64>>,
    /// One list of messages an export.
    pub(crate) exports: Mutex<VecDeque<Vec<Result<pb::ExportAuditResponse, Status>>>>,
    /// One list of messages a backup.
    pub(crate) backups: Mutex<VecDeque<Vec<Result<pb::CreateBackupResponse, Status>>>>,
    /// Tokens that came with the requests.
    pub(crate) tokens: Mutex<Vec<String>>,
}

impl Script {
    pub(crate) fn of(steps: impl IntoIterator<Item = Step>) -> Arc<Script> {
        Arc::new(Script { steps: Mutex::new(steps.into_iter().collect()), ..Script::default() })
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// A certificate authority that lives as long as a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["hanse-api".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }
}

/// A running scripted replica; ends when dropped.
pub(crate) struct Replica {
    pub(crate) address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    pub(crate) async fn start(authority: &Authority, script: &Arc<Script>) -> Replica {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        Replica::serve(authority, script, listener)
    }

    pub(crate) fn serve(authority: &Authority, script: &Arc<Script>, listener: TcpListener) -> Replica {
        let address = listener.local_addr().unwrap().to_string();
        let service = Scripted(Arc::clone(script));
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(authority.identity()))
            .unwrap()
            .add_service(ClusterServiceServer::new(service.clone()))
            .add_service(AuditServiceServer::new(service.clone()))
            .add_service(BackupServiceServer::new(service.clone()))
            .add_service(TenantServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move {
            server.await.unwrap();
        });
        Replica { address, task }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

pub(crate) fn client(authority: &Authority, endpoints: &[&str]) -> Client {
    client_with(authority, endpoints, |_| {})
}

pub(crate) fn client_with(authority: &Authority, endpoints: &[&str], change: impl FnOnce(&mut Timeouts)) -> Client {
    let mut config = ClientConfig::new(endpoints.iter().map(|text| (*text).to_owned()).collect(), authority.pem());
    config.token = Some("hanse_test".to_owned());
    config.timeouts.overall = LONG;
    change(&mut config.timeouts);
    Client::new(config).unwrap()
}

pub(crate) fn header(revision: u64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, replica_id: "r1".to_owned(), ..pb::ResponseHeader::default() })
}

#[derive(Clone)]
struct Scripted(Arc<Script>);

#[tonic::async_trait]
impl TenantService for Scripted {
    async fn create_tenant(
        &self,
        request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::CreateTenantResponse>, Status> {
        if let Some(token) = request.metadata().get("authorization") {
            self.0.tokens.lock().unwrap().push(token.to_str().unwrap().to_owned());
        }
        self.0.seen.lock().unwrap().push(request.get_ref().request_id.clone());
        let step = self.0.steps.lock().unwrap().pop_front();
        match step {
            None => Ok(Response::new(pb::CreateTenantResponse { header: header(7), tenant: None })),
            Some(Step::NotLeader(hint)) => {
                let mut status = Status::unavailable("this replica is not the leader");
                if let Some(hint) = hint {
                    status.metadata_mut().insert(hanse_proto::LEADER_TRAILER, hint.parse().unwrap());
                }
                Err(status)
            }
            Some(Step::Silence) => std::future::pending().await,
            Some(Step::OutcomeUnknown) => {
                let details = ErrorDetails::with_error_info("OUTCOME_UNKNOWN", "hanse", []);
                Err(Status::with_error_details(Code::DeadlineExceeded, "proposed, not yet known", details))
            }
            Some(step @ (Step::Refuse | Step::RefuseByLog)) => {
                let logged = matches!(step, Step::RefuseByLog);
                let metadata = [("advice", "Choose another id."), ("logged", if logged { "true" } else { "" })];
                let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
                let mut details = ErrorDetails::with_error_info("ALREADY_EXISTS", "hanse", metadata);
                details.add_bad_request_violation("tenant", "exists");
                Err(Status::with_error_details(Code::AlreadyExists, "tenant acme exists", details))
            }
        }
    }

    async fn get_tenant(&self, _: Request<pb::GetTenantRequest>) -> Result<Response<pb::GetTenantResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn set_tenant_metadata(
        &self,
        _: Request<pb::SetTenantMetadataRequest>,
    ) -> Result<Response<pb::SetTenantMetadataResponse>, Status> {
        Err(Status::unimplemented("not part of the script"))
    }

    async fn list_tenants(
        &self,
        _: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

type Lists<T> = Mutex<VecDeque<Vec<Result<T, Status>>>>;

/// Answers a stream with the script's next list; it ends after it.
fn stream<T>(lists: &Lists<T>) -> Result<Response<ReceiverStream<Result<T, Status>>>, Status> {
    let Some(messages) = lists.lock().unwrap().pop_front() else {
        return Err(Status::unauthenticated("the script has no more streams"));
    };
    let (sender, receiver) = mpsc::channel(messages.len().max(1));
    for message in messages {
        assert!(sender.try_send(message).is_ok(), "there is room for all");
    }
    Ok(Response::new(ReceiverStream::new(receiver)))
}

#[tonic::async_trait]
impl AuditService for Scripted {
    type ExportAuditStream = ReceiverStream<Result<pb::ExportAuditResponse, Status>>;

    async fn list_audit(&self, _: Request<pb::ListAuditRequest>) -> Result<Response<pb::ListAuditResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_audit_head(
        &self,
        _: Request<pb::GetAuditHeadRequest>,
    ) -> Result<Response<pb::GetAuditHeadResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_audit_checkpoint(
        &self,
        _: Request<pb::GetAuditCheckpointRequest>,
    ) -> Result<Response<pb::GetAuditCheckpointResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_audit_record_proof(
        &self,
        _: Request<pb::GetAuditRecordProofRequest>,
    ) -> Result<Response<pb::GetAuditRecordProofResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_audit_consistency_proof(
        &self,
        _: Request<pb::GetAuditConsistencyProofRequest>,
    ) -> Result<Response<pb::GetAuditConsistencyProofResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn export_audit(
        &self,
        request: Request<pb::ExportAuditRequest>,
    ) -> Result<Response<Self::ExportAuditStream>, Status> {
        self.0.exported.lock().unwrap().push(request.get_ref().after_seq);
        stream(&self.0.exports)
    }
}

#[tonic::async_trait]
impl BackupService for Scripted {
    type CreateBackupStream = ReceiverStream<Result<pb::CreateBackupResponse, Status>>;

    async fn create_backup(
        &self,
        _: Request<pb::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        stream(&self.0.backups)
    }

    async fn resume_cluster(
        &self,
        _: Request<pb::ResumeClusterRequest>,
    ) -> Result<Response<pb::ResumeClusterResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

#[tonic::async_trait]
impl ClusterService for Scripted {
    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Result<Response<pb::GetStatusResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn bootstrap(&self, _: Request<pb::BootstrapRequest>) -> Result<Response<pb::BootstrapResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.0.watched.lock().unwrap().push(request.get_ref().after_revision);
        stream(&self.0.watches)
    }

    async fn get_version(&self, _: Request<pb::GetVersionRequest>) -> Result<Response<pb::GetVersionResponse>, Status> {
        let version = "test".to_owned();
        Ok(Response::new(pb::GetVersionResponse {
            header: header(1),
            version,
            command_version: 1,
            ..Default::default()
        }))
    }

    async fn raise_cluster_version(
        &self,
        _: Request<pb::RaiseClusterVersionRequest>,
    ) -> Result<Response<pb::RaiseClusterVersionResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}
