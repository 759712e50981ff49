//! AuditService: the trail, read from history on disk.

use hanse_proto::v1 as pb;
use hanse_proto::v1::audit_service_server::AuditService;
use hanse_state::account::TenantRole;
use hanse_state::audit::AuditRecord;
use hanse_state::ids::TenantId;
use hanse_state::name;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::page::{PAGE_DEFAULT, Page, write_token};
use super::{Call, convert, matches};
use crate::context::Context;
use crate::error::ApiError;
use crate::trail;

/// Records read from disk at once.
const CHUNK: u64 = 500;

/// Records looked through for one page of a filtered list; the page may then be short, and its token goes on.
const LOOKED_AT_MAX: u64 = 20_000;

/// The same where the platform's bookkeeping is left out: consoles ask for that every other second.
const CHANGES_LOOKED_AT_MAX: u64 = 2_000;

/// What the platform writes down by itself all the time, and nobody needs to hear of.
const BOOKKEEPING: [&str; 8] = [
    "CheckDigest",
    "Meter",
    "RecordContractFact",
    "RecordGenesis",
    "RecordHostFacts",
    "RecordIntent",
    "RecordNodeFact",
    "RecordReplica",
];

/// Messages of an export that may wait for a slow reader.
const EXPORT_WAITING: usize = 4;

/// Reads the trail.
pub(crate) struct Audit(Context);

impl Audit {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

/// Reads records `first..=last`, ascending.
async fn read(context: &Context, first: u64, last: u64) -> Result<Vec<AuditRecord>, ApiError> {
    trail::read(context.replica(), first, last).await
}

/// Whose records the caller reads: all, or those of its tenant.
fn whose(call: &Call) -> Result<Option<TenantId>, ApiError> {
    if call.caller.is_platform() {
        return Ok(None);
    }
    match (call.caller.tenant_role(), call.caller.tenant()) {
        (Some(TenantRole::Owner | TenantRole::Auditor), Some(tenant)) => Ok(Some(tenant.clone())),
        _ => Err(ApiError::denied("this role does not read the audit trail", "ask the tenant's owner or auditor")),
    }
}

/// Whether a record is about the tenant: done by one of its accounts, or done to it or one of them.
fn concerns(record: &AuditRecord, tenant: &TenantId) -> bool {
    let own = |resource: &str| {
        resource
            .strip_prefix("accounts/")
            .is_some_and(|id| id.split_once('@').is_some_and(|(_, of)| of == tenant.as_str()))
    };
    own(&record.actor) || own(&record.resource) || record.resource == name::tenant(tenant)
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit(
        &self,
        request: Request<pb::ListAuditRequest>,
    ) -> Result<Response<pb::ListAuditResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let of = whose(&call)?;
        let page = Page::<u64>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let newest =
            page.after.map_or(call.state.audit.count, |after| after.saturating_sub(1).min(call.state.audit.count));
        let looked_at_max = if it.changes_only { CHANGES_LOOKED_AT_MAX } else { LOOKED_AT_MAX };
        let (mut last, mut looked_at, mut records) = (newest, 0, Vec::new());
        while last > 0 && records.len() < page.size && looked_at < looked_at_max {
            let first = last.saturating_sub(CHUNK - 1).max(1);
            let chunk = read(&self.0, first, last).await?;
            for record in chunk.into_iter().rev() {
                let texts = [&record.actor, &record.action, &record.resource, &record.outcome].map(String::as_str);
                let kept = of.as_ref().is_none_or(|tenant| concerns(&record, tenant))
                    && matches(&it.filter, &texts)
                    && !(it.changes_only && BOOKKEEPING.contains(&record.action.as_str()));
                (last, looked_at) = (record.seq - 1, looked_at + 1);
                if kept {
                    records.push(convert::audit::record(&record));
                }
                if records.len() == page.size {
                    break;
                }
            }
        }
        let next_page_token = if last > 0 { write_token(&(last + 1)) } else { String::new() };
        Ok(Response::new(pb::ListAuditResponse { header: call.read_header(), records, next_page_token }))
    }

    async fn get_audit_head(
        &self,
        request: Request<pb::GetAuditHeadRequest>,
    ) -> Result<Response<pb::GetAuditHeadResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        whose(&call)?;
        let (count, head_hash) = (call.state.audit.count, call.state.audit.head.to_string());
        Ok(Response::new(pb::GetAuditHeadResponse { header: call.read_header(), count, head_hash }))
    }

    async fn get_audit_checkpoint(
        &self,
        request: Request<pb::GetAuditCheckpointRequest>,
    ) -> Result<Response<pb::GetAuditCheckpointResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        whose(&call)?;
        let proven = self.0.trail().checkpoint(self.0.replica(), &call.state).await?;
        let checkpoint = Some(convert::audit::checkpoint(&proven));
        Ok(Response::new(pb::GetAuditCheckpointResponse { header: call.read_header(), checkpoint }))
    }

    async fn get_audit_record_proof(
        &self,
        request: Request<pb::GetAuditRecordProofRequest>,
    ) -> Result<Response<pb::GetAuditRecordProofResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let (of, seq) = (whose(&call)?, request.get_ref().seq);
        // A record of others and one that does not exist give the same answer.
        let not_found = || ApiError::not_found("seq", &format!("audit record {seq}"));
        if seq == 0 || seq > call.state.audit.count {
            return Err(not_found().into());
        }
        let records = read(&self.0, seq, seq).await?;
        let record = records.first().filter(|record| of.as_ref().is_none_or(|tenant| concerns(record, tenant)));
        let line = convert::audit::line(record.ok_or_else(not_found)?)?;
        let proven = self.0.trail().inclusion(self.0.replica(), &call.state, seq).await?;
        let (checkpoint, proof) = (Some(convert::audit::checkpoint(&proven)), convert::audit::proof(&proven));
        Ok(Response::new(pb::GetAuditRecordProofResponse { header: call.read_header(), checkpoint, line, proof }))
    }

    async fn get_audit_consistency_proof(
        &self,
        request: Request<pb::GetAuditConsistencyProofRequest>,
    ) -> Result<Response<pb::GetAuditConsistencyProofResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        whose(&call)?;
        let (old, count) = (request.get_ref().old_size, call.state.audit.count);
        if old > count {
            let message = format!("the trail has {count} records, fewer than the {old} it is asked to continue");
            let advice =
                "if a checkpoint of that size is signed by this cluster's key, the end of the trail was cut off";
            return Err(ApiError::precondition("TRAIL_SHORTER", &message, advice).with_field("old_size").into());
        }
        let proven = self.0.trail().consistency(self.0.replica(), &call.state, old).await?;
        let (checkpoint, proof) = (Some(convert::audit::checkpoint(&proven)), convert::audit::proof(&proven));
        Ok(Response::new(pb::GetAuditConsistencyProofResponse { header: call.read_header(), checkpoint, proof }))
    }

    type ExportAuditStream = ReceiverStream<Result<pb::ExportAuditResponse, Status>>;

    async fn export_audit(
        &self,
        request: Request<pb::ExportAuditRequest>,
    ) -> Result<Response<Self::ExportAuditStream>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let of = whose(&call)?;
        let after = request.get_ref().after_seq;
        let (sender, receiver) = mpsc::channel(EXPORT_WAITING);
        let (context, header, last) = (self.0.clone(), call.read_header(), call.state.audit.count);
        tokio::spawn(async move {
            let mut after = after;
            while after < last {
                if context.shutdown().is_cancelled() {
                    // A clean end would read as a whole export; the reader may have gone away.
                    let _gone = sender.send(Err(ApiError::stopping().into())).await;
                    return;
                }
                let until = (after + CHUNK).min(last);
                let chunk = export(&context, after + 1, until, of.as_ref()).await;
                let failed = chunk.is_err();
                let message =
                    chunk.map(|lines| pb::ExportAuditResponse { header: header.clone(), lines, through_seq: until });
                // A closed channel is a reader that went away.
                if sender.send(message.map_err(Status::from)).await.is_err() || failed {
                    return;
                }
                after = until;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The lines of records `first..=last` that concern `of` (everything if `None`).
async fn export(context: &Context, first: u64, last: u64, of: Option<&TenantId>) -> Result<Vec<String>, ApiError> {
    let records = read(context, first, last).await?;
    let kept = records.iter().filter(|record| of.is_none_or(|tenant| concerns(record, tenant)));
    kept.map(convert::audit::line).collect()
}
