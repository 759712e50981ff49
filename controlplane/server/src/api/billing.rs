//! BillingService: plans, usage, draft invoices and their proof.

use hanse_proto::v1 as pb;
use hanse_proto::v1::billing_service_server::BillingService;
use hanse_state::billing::invoice::{InvoiceDraft, invoice_draft, recompute_invoice};
use hanse_state::billing::{SetPlan, UsageRecord};
use hanse_state::ids::{PlanId, TenantId};
use hanse_state::time::Millis;
use hanse_state::{Command, Month, Record, State, name};
use tonic::{Request, Response, Status};

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, convert, found};
use crate::context::Context;
use crate::error::ApiError;

/// Usage records read from disk at once.
const USAGE_CHUNK: usize = 2_000;

/// What nodes cost.
pub(crate) struct Billing(Context);

impl Billing {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }

    /// Reads every usage record up to `last` and keeps those of one tenant and month.
    async fn usage_records(&self, tenant: &TenantId, month: Month, last: u64) -> Result<Vec<UsageRecord>, ApiError> {
        let (mut after, mut kept) = (0, Vec::new());
        while after < last {
            let records = self.0.replica().history("usage", after, USAGE_CHUNK).await;
            let records = records.map_err(|error| ApiError::internal("usage history", error))?;
            let Some(end) = records.last().map(Record::seq) else {
                return Err(ApiError::internal("usage history", format!("ends at {after}, the state says {last}")));
            };
            for record in records {
                if let Record::Usage(it) = record
                    && it.seq <= last
                    && it.tenant == *tenant
                    && it.from.month() == month
                {
                    kept.push(it);
                }
            }
            after = end;
        }
        Ok(kept)
    }
}

/// The month that is asked for; the present one of log time if none is.
fn month_of(state: &State, text: &str) -> Result<Month, ApiError> {
    if text.is_empty() { Ok(state.now.month()) } else { convert::id("month", text) }
}

/// The tenant that is asked for, if the caller may see its bills.
fn tenant_of(call: &Call, text: &str) -> Result<TenantId, ApiError> {
    let id: TenantId = convert::id("tenant", text)?;
    call.sight().tenant(&id)?;
    if call.sight().sees_bills(&id) {
        return Ok(id);
    }
    Err(ApiError::denied("this role does not read bills", "ask the tenant's owner, billing or auditor account"))
}

/// Up to when every running node of the tenant is metered.
fn metered_until(state: &State, tenant: &TenantId) -> i64 {
    let running = state.nodes.values().filter(|node| node.owner == *tenant).filter_map(|node| node.metered_until);
    convert::ms(running.min())
}

#[tonic::async_trait]
impl BillingService for Billing {
    async fn set_plan(&self, request: Request<pb::SetPlanRequest>) -> Result<Response<pb::SetPlanResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let plan: PlanId = convert::id("plan", &it.plan)?;
        let from = convert::consortium::period("effective_from_ms", it.effective_from_ms)?;
        let command = Command::SetPlan(SetPlan {
            plan: plan.clone(),
            currency: convert::text("currency", it.currency)?,
            rate_micro_per_node_hour: it.rate_micro_per_node_hour,
            effective_from: (from != 0).then_some(Millis(from)),
        });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        let plan = Some(convert::billing::plan(found("plan", done.state.plans.get(&plan))?));
        Ok(Response::new(pb::SetPlanResponse { header: call.header(done.revision), plan }))
    }

    async fn list_plans(
        &self,
        request: Request<pb::ListPlansRequest>,
    ) -> Result<Response<pb::ListPlansResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<PlanId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let items = call.state.plans.iter().map(|(id, plan)| (id.clone(), convert::billing::plan(plan)));
        let (plans, next_page_token) = page.take(Order::Ascending, items);
        Ok(Response::new(pb::ListPlansResponse { header: call.read_header(), plans, next_page_token }))
    }

    async fn get_usage(&self, request: Request<pb::GetUsageRequest>) -> Result<Response<pb::GetUsageResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.get_ref();
        let tenant = tenant_of(&call, &it.tenant)?;
        let month = month_of(&call.state, &it.month)?;
        let draft = invoice_draft(&call.state, &tenant, month);
        Ok(Response::new(pb::GetUsageResponse {
            header: call.read_header(),
            tenant: tenant.to_string(),
            month: month.to_string(),
            lines: convert::billing::lines(&draft),
            running_ms: draft.lines.iter().fold(0, |sum: u64, line| sum.saturating_add(line.ms)),
            metered_until_ms: metered_until(&call.state, &tenant),
        }))
    }

    async fn get_invoice_draft(
        &self,
        request: Request<pb::GetInvoiceDraftRequest>,
    ) -> Result<Response<pb::GetInvoiceDraftResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.get_ref();
        let tenant = tenant_of(&call, &it.tenant)?;
        let month = month_of(&call.state, &it.month)?;
        let draft = invoice_draft(&call.state, &tenant, month);
        let records = self.usage_records(&tenant, month, call.state.last_usage).await?;
        let count = records.len() as u64;
        let again = recompute_invoice(records.into_iter(), &tenant, month);
        Ok(Response::new(pb::GetInvoiceDraftResponse {
            header: call.read_header(),
            name: format!("invoices/{tenant}/{month}"),
            tenant: tenant.to_string(),
            month: month.to_string(),
            lines: convert::billing::lines(&draft),
            total: Some(convert::billing::money(draft.currency.as_deref(), draft.total_micro)),
            recomputed_total: Some(convert::billing::money(again.currency.as_deref(), again.total_micro)),
            usage_records: count,
            unpriced_ms: draft.unpriced_ms,
            note: note(&call.state, &draft, &again),
            metered_until_ms: metered_until(&call.state, &tenant),
        }))
    }
}

/// What a person should know of this draft.
fn note(state: &State, draft: &InvoiceDraft, again: &InvoiceDraft) -> String {
    let mut notes = Vec::new();
    if draft != again {
        tracing::error!(tenant = %draft.tenant, month = %draft.month, "an invoice differs from its recomputation");
        notes.push("THE BOOKS DIFFER: the recomputation from usage records gives another draft".to_string());
    }
    let plan = state.tenants.get(&draft.tenant).map(|tenant| &tenant.plan);
    if let Some(plan) = plan.filter(|plan| !state.plans.contains_key(*plan)) {
        notes.push(format!("{} has no price: usage is recorded without one", name::plan(plan)));
    } else if draft.unpriced_ms > 0 {
        notes.push("some usage lies before the plan's first price and costs nothing".to_string());
    }
    notes.join("; ")
}
