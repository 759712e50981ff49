//! `hanse chain plan`, `hanse proposal plan` and `--plan`: what a change would do, before anybody orders it.

use hanse_client::{json, pb};
use pb::plan_chain_request::Planned;
use serde_json::Value;

use super::context::Context;
use super::error::CliError;
use super::view::{Shown, View, list};
use crate::output::{self, Format};

/// Orders that can be planned; what is voted on is planned with `hanse proposal`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PlanCommand {
    /// Every node is configured and started anew, one after another.
    Roll,
    /// One node is started anew.
    Restart {
        /// Which, e.g. n0.
        node: String,
    },
    /// One node goes to another host.
    Move {
        /// Which, e.g. n0.
        node: String,
        /// Where it goes; by default the best host.
        #[arg(long, value_name = "HOST")]
        to: Option<String>,
        /// Its host is lost, and its key is given up.
        #[arg(long)]
        lost: bool,
    },
    /// Its nodes are stopped and keep everything.
    Pause,
    /// Its nodes run again.
    Resume,
    /// Nodes that an upgrade has reached go back to the program before.
    Rollback,
    /// A deletion is taken back.
    Undelete,
}

const PLAN: View = View { key: "plan", name: "chain", columns: &[] };
const NODES: &[(&str, &str)] = &[
    ("NODE", "node"),
    ("WORK", "work"),
    ("FROM", "from_host"),
    ("TO", "to_host"),
    ("ZONE", "zone"),
    ("OWNER", "owner"),
];
const ZONES: &[(&str, &str)] = &[("ZONE", "zone"), ("NODES", "nodes"), ("VALIDATORS", "validators")];
const COSTS: &[(&str, &str)] = &[
    ("TENANT", "tenant"),
    ("NODES NOW", "nodes_before"),
    ("THEN", "nodes_after"),
    ("AN HOUR NOW", "before_per_hour.amount"),
    ("THEN", "after_per_hour.amount"),
    ("CURRENCY", "after_per_hour.currency"),
];

/// Shows the plan of an order.
///
/// # Errors
/// The call failed, or the order would be refused.
pub(crate) async fn of_order(
    consortium: String,
    chain: String,
    order: PlanCommand,
    accept_outage: bool,
    context: &Context,
) -> Result<(), CliError> {
    use pb::planned_order::Order;
    let order = match order {
        PlanCommand::Roll => Order::Roll(pb::PlannedRoll {}),
        PlanCommand::Restart { node } => Order::Restart(pb::PlannedRestart { node }),
        PlanCommand::Move { node, to, lost } => {
            Order::MoveNode(pb::PlannedMove { node, to_host: to.unwrap_or_default(), lost })
        }
        PlanCommand::Rollback => Order::RollBack(pb::PlannedRollBack {}),
        PlanCommand::Pause => Order::Pause(pb::PauseChange {}),
        PlanCommand::Resume => Order::Resume(pb::ResumeChange {}),
        PlanCommand::Undelete => Order::Undelete(pb::UndeleteChange {}),
    };
    let order = pb::PlannedOrder { chain, accept_outage, order: Some(order) };
    show(consortium, Planned::Order(order), context).await
}

/// Shows the plan of what `request` would put to the vote.
///
/// # Errors
/// The call failed, or the proposal would be refused.
pub(crate) async fn of_action(request: pb::OpenProposalRequest, context: &Context) -> Result<(), CliError> {
    let action = request.action.unwrap_or_default();
    show(request.consortium, Planned::Action(action), context).await
}

/// Shows a plan.
///
/// # Errors
/// The call failed, or what is planned would be refused.
pub(crate) async fn show(consortium: String, planned: Planned, context: &Context) -> Result<(), CliError> {
    let response = context.call(pb::PlanChainRequest { consortium, planned: Some(planned) }).await?;
    if let Some(refusal) = &response.refusal {
        let field = if refusal.field.is_empty() { String::new() } else { format!("{}: ", refusal.field) };
        let why = format!("it would be refused ({}): {field}{}", refusal.reason, refusal.message);
        return Err(CliError::local(why, refusal.advice.clone()));
    }
    let value = json::response::<pb::PlanChainRequest>(&response);
    if context.global.format() == Format::Table {
        output::print(&text(&value["plan"]))?;
        return Ok(());
    }
    context.print(Shown { value, view: PLAN })
}

/// The plan for people: sentences first, then tables.
fn text(plan: &Value) -> String {
    let mut text = String::new();
    let lines = |of: &Value| -> Vec<String> {
        of.as_array().into_iter().flatten().filter_map(Value::as_str).map(output::harmless).collect()
    };
    lines(&plan["words"]).iter().for_each(|line| text.push_str(&format!("{line}\n")));
    lines(&plan["risks"]).iter().for_each(|line| text.push_str(&format!("! {line}\n")));
    let order = lines(&plan["order"]);
    if !order.is_empty() {
        text.push_str(&format!("in this order: {}\n", order.join(", ")));
    }
    for (of, columns) in [("nodes", NODES), ("zones", ZONES), ("costs", COSTS)] {
        let items = plan[of].as_array().cloned().unwrap_or_default();
        if !items.is_empty() {
            text.push('\n');
            text.push_str(&list(&items, columns).render());
        }
    }
    if text.is_empty() { "nothing would change\n".into() } else { text }
}
