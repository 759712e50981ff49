//! `hanse plan`, `hanse usage`, `hanse invoice`.

use hanse_client::pb;

use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::view::View;

/// Verbs of `hanse plan`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PlanCommand {
    /// Set the price from a moment on.
    Set {
        /// Id of the plan.
        plan: String,
        /// Three upper-case letters.
        #[arg(long)]
        currency: String,
        /// Millionths of the currency for a node and hour.
        #[arg(long)]
        rate_micro_per_node_hour: u64,
        /// From when, milliseconds since 1970 UTC; by default now.
        #[arg(long, default_value_t = 0)]
        effective_from_ms: i64,
    },
    /// List plans.
    List,
}

/// Verbs of `hanse usage`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum UsageCommand {
    /// Show a tenant's metered use.
    Get {
        /// The tenant; by default the session's.
        tenant: Option<String>,
        /// UTC month, e.g. 2026-11; by default the current one.
        #[arg(long, default_value = "")]
        month: String,
    },
}

/// Verbs of `hanse invoice`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum InvoiceCommand {
    /// Show what a month's invoice would be now, with its recomputation.
    Draft {
        /// The tenant; by default the session's.
        tenant: Option<String>,
        /// UTC month, e.g. 2026-11; by default the current one.
        #[arg(long, default_value = "")]
        month: String,
    },
}

const PLANS: View = View {
    key: "plans",
    name: "plan",
    columns: &[("PLAN", "plan"), ("CURRENCY", "currency"), ("RATES: FROM, MICRO PER NODE AND HOUR", "rates")],
};

/// Runs a verb of `hanse plan`.
///
/// # Errors
/// The call failed.
pub(crate) async fn plans(command: PlanCommand, context: &Context) -> Result<(), CliError> {
    match command {
        PlanCommand::Set { plan, currency, rate_micro_per_node_hour, effective_from_ms } => {
            let request = pb::SetPlanRequest {
                request_id: String::new(),
                validate_only: context.global.dry_run,
                plan,
                currency,
                rate_micro_per_node_hour,
                effective_from_ms,
            };
            context.show(request, View { key: "plan", name: "plan", columns: &[] }).await
        }
        PlanCommand::List => {
            let request = |page_token| pb::ListPlansRequest { page_size: PAGE_SIZE, page_token };
            context.show_pages(PLANS, request, None).await
        }
    }
}

/// Runs a verb of `hanse usage`.
///
/// # Errors
/// The call failed.
pub(crate) async fn usage(command: UsageCommand, context: &Context) -> Result<(), CliError> {
    let UsageCommand::Get { tenant, month } = command;
    let tenant = context.tenant(tenant).await?;
    context.show(pb::GetUsageRequest { tenant, month }, View { key: "", name: "tenant", columns: &[] }).await
}

/// Runs a verb of `hanse invoice`.
///
/// # Errors
/// The call failed, or total and recomputation differ.
pub(crate) async fn invoices(command: InvoiceCommand, context: &Context) -> Result<(), CliError> {
    let InvoiceCommand::Draft { tenant, month } = command;
    let tenant = context.tenant(tenant).await?;
    let value = context.json(pb::GetInvoiceDraftRequest { tenant, month }).await?;
    let differs = value["total"] != value["recomputed_total"];
    context.print(super::view::Shown { value, view: View { key: "", name: "name", columns: &[] } })?;
    if differs {
        return Err(CliError::Failed("the total and its recomputation from the usage records differ".to_owned()));
    }
    Ok(())
}
