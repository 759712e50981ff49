//! `hanse operation`: long work, its steps, and waiting for its end.

use std::collections::BTreeMap;
use std::time::Duration;

use hanse_client::{Watch, WatchUpdate, pb};
use tokio::time::Instant;

use super::ListArgs;
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::view::{Shown, View};
use crate::output::{self, Format};

/// How long to wait unless --timeout says otherwise.
const WAIT: Duration = Duration::from_secs(600);
/// Longest time between two looks when the watch tells nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum OperationCommand {
    /// Show an operation with its steps.
    Get {
        /// Id, e.g. op-1.
        operation: String,
    },
    /// List operations, newest first.
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show what was done on hosts for an operation's steps, and what programs printed there; secrets are masked.
    Output {
        /// Id, e.g. op-1.
        operation: String,
        /// Only this step: prepare, configure, start, stop, remove, roll ...
        #[arg(long)]
        step: Option<String>,
        /// Only of this node, e.g. n0.
        #[arg(long)]
        node: Option<String>,
    },
    /// Wait until an operation has ended; Ctrl-C stops the waiting only.
    Wait {
        /// Id.
        operation: String,
    },
}

const OPERATION: View = View { key: "operation", name: "operation", columns: &[] };
const OPERATIONS: View = View {
    key: "operations",
    name: "operation",
    columns: &[
        ("OPERATION", "operation"),
        ("KIND", "kind"),
        ("TARGET", "target"),
        ("STATE", "state"),
        ("DONE", "steps_done"),
        ("STARTED", "started_at_ms"),
        ("ENDED", "ended_at_ms"),
        ("CAUSE", "cause"),
    ],
};

/// Runs a verb.
///
/// # Errors
/// The call failed, or the operation that was waited for failed or has not ended in time.
pub(crate) async fn run(command: OperationCommand, context: &Context) -> Result<(), CliError> {
    match command {
        OperationCommand::Get { operation } => {
            let mut answer = context.call(pb::GetOperationRequest { operation }).await?;
            // In a table it would be in the way; `operation output` shows it.
            if context.global.format() != Format::Json {
                answer.operation.iter_mut().flat_map(|it| &mut it.steps).for_each(|step| step.output.clear());
            }
            let value = hanse_client::json::response::<pb::GetOperationRequest>(&answer);
            context.print(Shown { value, view: OPERATION })
        }
        OperationCommand::Output { operation, step, node } => {
            let mut answer = context.call(pb::GetOperationRequest { operation }).await?;
            let ends =
                |it: &pb::OperationStep| node.as_ref().is_none_or(|node| it.target.rsplit('/').next() == Some(node));
            let is_meant = |it: &pb::OperationStep| {
                !it.output.is_empty() && ends(it) && step.as_ref().is_none_or(|step| *step == it.step)
            };
            answer.operation.iter_mut().for_each(|it| it.steps.retain(is_meant));
            if context.global.format() == Format::Json {
                let value = hanse_client::json::response::<pb::GetOperationRequest>(&answer);
                return context.print(Shown { value, view: OPERATION });
            }
            for it in answer.operation.iter().flat_map(|it| &it.steps) {
                let lines = it.output.lines().map(|line| format!("  {}\n", output::harmless(line)));
                output::print(&format!("{} {}\n{}", it.step, it.target, lines.collect::<String>()))?;
            }
            Ok(())
        }
        OperationCommand::List { list } => {
            let request = |page_token| pb::ListOperationsRequest {
                page_size: PAGE_SIZE,
                page_token,
                filter: list.filter(),
                state: pb::OperationState::Unspecified.into(),
            };
            context.show_pages(OPERATIONS, request, list.limit).await
        }
        OperationCommand::Wait { operation } => {
            let ended = wait(context, &operation).await?;
            let value = hanse_client::json::response::<pb::GetOperationRequest>(&ended);
            context.print(Shown { value, view: OPERATION })
        }
    }
}

/// Tells the steps on stderr as they change and returns the operation when it has succeeded.
///
/// # Errors
/// It failed (with its cause), had not ended in time, or a call failed.
pub(crate) async fn wait(context: &Context, id: &str) -> Result<pb::GetOperationResponse, CliError> {
    let deadline = Instant::now() + context.global.timeout.unwrap_or(WAIT);
    let mut watch = context.client.watch(0, format!("operations/{id}"));
    let mut told = BTreeMap::new();
    loop {
        let response = context.call(pb::GetOperationRequest { operation: id.to_owned() }).await?;
        let operation = response.operation.clone().unwrap_or_default();
        tell(context, &operation, &mut told);
        match operation.state() {
            pb::OperationState::Succeeded => return Ok(response),
            pb::OperationState::Failed => {
                return Err(CliError::Failed(format!("operation {id} failed: {}", operation.cause)));
            }
            pb::OperationState::Running | pb::OperationState::Unspecified => {}
        }
        if Instant::now() >= deadline {
            let (done, all) = (operation.steps_done, operation.steps.len());
            return Err(CliError::StillRunning(format!("operation {id} is still running ({done} of {all} steps)")));
        }
        tokio::select! {
            changed = change(&mut watch) => changed?,
            _ = tokio::signal::ctrl_c() => {
                return Err(CliError::StillRunning(format!("stopped waiting; operation {id} goes on")));
            }
        }
    }
}

/// Waits for a word of the watch, but not for ever: the picture is looked at anyway now and then.
async fn change(watch: &mut Watch) -> Result<(), CliError> {
    let limit = Instant::now() + LOOK_EVERY;
    while let Ok(update) = tokio::time::timeout_at(limit, watch.next()).await {
        if let WatchUpdate::Changes { .. } | WatchUpdate::Resync { .. } = update? {
            break;
        }
    }
    Ok(())
}

/// Says what changed since it was last told.
fn tell(context: &Context, operation: &pb::Operation, told: &mut BTreeMap<usize, (i32, String)>) {
    for (number, step) in operation.steps.iter().enumerate() {
        let now = (step.state, step.detail.clone());
        if step.state() != pb::StepState::Pending && told.get(&number) != Some(&now) {
            let word = match step.state() {
                pb::StepState::Running => "...",
                pb::StepState::Done => "done",
                pb::StepState::Failed => "FAILED",
                pb::StepState::Pending | pb::StepState::Unspecified => "",
            };
            context.say(format!("{} {}: {word} {}", step.step, step.target, step.detail).trim_end());
            told.insert(number, now);
        }
    }
}
