//! `hanse cluster`: the replicas, the first administrator, the stream of changes.

use std::path::PathBuf;

use hanse_client::{CallOptions, Code, WatchUpdate, pb};
use serde_json::{Value, json};

use super::context::Context;
use super::error::CliError;
use super::password::{PasswordArgs, ask, from_file};
use super::units::time;
use super::view::{Shown, View, list};
use crate::output::{self, Format, harmless};

/// Environment variable that holds the one-time setup code.
const SETUP_CODE_VARIABLE: &str = "HANSE_SETUP_CODE";

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the replicas as the first reachable one sees them.
    Status,
    /// Make the first administrator with the one-time setup code.
    Bootstrap {
        /// Name of the administrator's account.
        account: String,
        /// File with the setup code; otherwise HANSE_SETUP_CODE, otherwise the terminal is asked.
        #[arg(long, value_name = "FILE")]
        setup_code_file: Option<PathBuf>,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Follow changes until Ctrl-C; one JSON object a line with -o json.
    Watch {
        /// Begin after this revision; by default now.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Only resources whose name starts with this.
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Show the replica's version.
    Version,
    /// Raise the cluster to the version of its build, for ever, once every replica runs that build. Until then each replica
    /// can go back to the build before; with --dry-run it is only checked.
    Upgrade {
        /// The version; by default the newest that the leader's build speaks.
        #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
        to: u32,
    },
    /// Let a restored cluster act on hosts again, once the cluster that the backup was taken of is gone for certain.
    Resume,
}

const STATUS: View = View { key: "", name: "cluster_id", columns: &[] };
const REPLICAS: &[(&str, &str)] = &[
    ("REPLICA", "id"),
    ("ROLE", "role"),
    ("TERM", "term"),
    ("APPLIED", "applied_index"),
    ("DIGEST AT", "digest_revision"),
    ("DIGEST", "digest"),
    ("API", "api_address"),
    ("BUILD", "version"),
    ("SPEAKS", "speaks"),
];

/// Runs a verb.
///
/// # Errors
/// The call failed.
pub(crate) async fn run(command: ClusterCommand, context: &Context) -> Result<(), CliError> {
    match command {
        ClusterCommand::Status => status(context).await,
        ClusterCommand::Bootstrap { account, setup_code_file, password } => {
            context.refuse_dry_run("bootstrap")?;
            let setup_code = match setup_code_file {
                Some(path) => from_file(&path)?,
                None => match std::env::var(SETUP_CODE_VARIABLE) {
                    Ok(code) if !code.is_empty() => code.into(),
                    _ => ask("Setup code: ")?,
                },
            };
            let password = password.get_new(&account)?;
            let request = pb::BootstrapRequest {
                request_id: String::new(),
                setup_code: setup_code.to_string(),
                account,
                password: password.to_string(),
            };
            context.show(request, View { key: "", name: "account", columns: &[] }).await
        }
        ClusterCommand::Watch { after, prefix } => watch(context, after, prefix).await,
        ClusterCommand::Upgrade { to } => upgrade(context, to).await,
        ClusterCommand::Resume => resume(context).await,
        ClusterCommand::Version => {
            context.show(pb::GetVersionRequest {}, View { key: "", name: "version", columns: &[] }).await
        }
    }
}

async fn status(context: &Context) -> Result<(), CliError> {
    let value = context.json(pb::GetStatusRequest {}).await?;
    if context.global.format() != Format::Table {
        return context.print(Shown { value, view: STATUS });
    }
    let mut shown = value;
    for replica in shown["replicas"].as_array_mut().into_iter().flatten() {
        let short: String = replica["digest"].as_str().unwrap_or_default().chars().take(12).collect();
        replica["digest"] = json!(short);
        replica["speaks"] = json!(speaks(replica));
    }
    let line = |key: &str| harmless(shown[key].as_str().unwrap_or_default());
    let head = format!(
        "cluster {} ({})  leader {}  revision {}{}\n",
        line("cluster_name"),
        line("cluster_id"),
        if line("leader_id").is_empty() { "none".to_owned() } else { line("leader_id") },
        shown["revision"],
        match shown["cluster_version"].as_u64() {
            Some(version) if version > 0 => format!("  version {version}"),
            Some(_) | None => String::new(),
        }
    );
    let backup = match shown["backup_at_ms"].as_i64() {
        // Without a session the answer does not say.
        _ if line("cluster_id").is_empty() => String::new(),
        Some(at) if at > 0 => format!("last backup asked for {} (revision {})\n\n", time(at), shown["backup_revision"]),
        _ => "no backup was ever made\n\n".to_owned(),
    };
    let paused = match shown["paused"].as_bool() {
        Some(true) => "PAUSED: restored from a backup; no host is touched until `hanse cluster resume`\n",
        _ => "",
    };
    let table = list(shown["replicas"].as_array().map_or(&[], Vec::as_slice), REPLICAS).render();
    output::print(&(head + paused + &backup + &table))?;
    Ok(())
}

/// The cluster versions that a replica speaks, in words; empty if it gave no answer.
fn speaks(replica: &Value) -> String {
    match (replica["speaks_oldest"].as_u64(), replica["speaks_newest"].as_u64()) {
        _ if replica["version"].as_str().unwrap_or_default().is_empty() => String::new(),
        (Some(oldest), Some(newest)) if newest > oldest => format!("{oldest} to {newest}"),
        (_, Some(newest)) if newest > 0 => newest.to_string(),
        _ => "1".to_owned(),
    }
}

async fn upgrade(context: &Context, version: u32) -> Result<(), CliError> {
    let validate_only = context.global.dry_run;
    if !validate_only {
        let name = context.call(pb::GetStatusRequest {}).await?.cluster_name;
        let question = "Afterwards no replica can go back to the build before. Raise the cluster's version?";
        context.confirm_by_name(question, &name)?;
    }
    let request = pb::RaiseClusterVersionRequest { request_id: String::new(), validate_only, version };
    let view = View { key: "", name: "version", columns: &[] };
    match context.show(request, view).await {
        Err(CliError::Client(error)) if error.code == Code::Unimplemented => Err(CliError::local(
            "the leader runs a build from before there were cluster versions",
            "Replace that replica's build too, then ask again: `hanse cluster status` shows who leads.",
        )),
        other => other,
    }
}

async fn resume(context: &Context) -> Result<(), CliError> {
    let seen = context.call(pb::GetStatusRequest {}).await?;
    if seen.incarnation.is_empty() {
        return Err(CliError::local("this cluster was not restored from a backup", "There is nothing to resume."));
    }
    context.say(
        "a chain that got another program or other settings after the backup was taken is started with the older ones: read \"Restoring\" in \
         docs/operations.md first",
    );
    context.confirm(
        "Is the cluster that the backup was taken of stopped for good? Two that act on the same hosts destroy chains.",
    )?;
    let request = pb::ResumeClusterRequest {
        incarnation: seen.incarnation,
        validate_only: context.global.dry_run,
        ..Default::default()
    };
    context.show(request, View { key: "header", name: "revision", columns: &[] }).await
}

async fn watch(context: &Context, after: u64, prefix: String) -> Result<(), CliError> {
    // One answer first, so that a wrong address or session is said at once instead of tried for ever.
    let options = CallOptions { overall: context.global.timeout, ..CallOptions::default() };
    context.client.call_with(pb::GetVersionRequest {}, options).await?;
    let mut watch = context.client.watch(after, prefix);
    loop {
        let update = tokio::select! {
            update = watch.next() => update?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match update {
            WatchUpdate::Connected { address } => context.say(&format!("connected to {address}")),
            WatchUpdate::Lost { error } => context.say(&format!("lost: {error}")),
            WatchUpdate::Resync { revision } => context.say(&format!("changes before revision {revision} are lost")),
            WatchUpdate::Heartbeat { .. } => {}
            WatchUpdate::Changes { events, .. } => {
                for event in events {
                    print_event(context.global.format(), &event)?;
                }
            }
        }
    }
}

fn print_event(format: Format, event: &pb::Event) -> Result<(), CliError> {
    let value = hanse_client::json::message("Event", event);
    let resource = harmless(&event.resource);
    let text = match format {
        Format::Json => format!("{value}\n"),
        Format::Name => format!("{resource}\n"),
        Format::Table => {
            let change = value["change"].as_str().unwrap_or_default().to_lowercase();
            format!("{:>10}  {change:<8}  {resource}\n", event.revision)
        }
    };
    output::print(&text)?;
    Ok(())
}

/// Returns a line that says when a session ends.
pub(crate) fn until(ms: i64) -> String {
    format!("until {}", time(ms))
}
