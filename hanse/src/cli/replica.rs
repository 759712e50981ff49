//! `hanse replica`: who belongs to the control plane.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hanse_client::pb;
use serde_json::Value;

use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::view::{Shown, View};

/// How often an order is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(500);
/// How long an order is waited for without --timeout.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ReplicaCommand {
    /// Show every replica: what it is, what it shall be, and what it waits for.
    List {
        /// Those that were removed too.
        #[arg(long)]
        all: bool,
    },
    /// Order a new replica. It gets a new id and is first a learner without a vote.
    Add {
        #[command(flatten)]
        new: NewArgs,
        /// Let it vote as soon as it has caught up.
        #[arg(long)]
        vote: bool,
    },
    /// Give a learner a vote.
    Promote {
        #[command(flatten)]
        order: OrderArgs,
    },
    /// Take a replica out for ever; its id never comes back.
    Remove {
        #[command(flatten)]
        order: OrderArgs,
    },
    /// Put a new replica in the place of an old one: add, promote, remove. Give it again to go on after an interruption.
    Replace {
        /// Id of the replica that goes.
        replica: String,
        #[command(flatten)]
        new: NewArgs,
    },
    /// Hand the lead to another voter.
    TransferLeader {
        /// Id of the voter that shall lead.
        replica: String,
        /// Why, for the audit trail.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Where a new replica will be.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    /// Where the other replicas reach it.
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// Where clients reach it.
    #[arg(long, value_name = "HOST:PORT")]
    api: String,
    /// Write its configuration file here; otherwise the answer says what goes into it.
    #[arg(long, value_name = "FILE")]
    config_out: Option<PathBuf>,
    /// Why, for the audit trail.
    #[arg(long, default_value = "")]
    reason: String,
}

/// An order about one replica.
#[derive(Debug, clap::Args)]
pub(crate) struct OrderArgs {
    /// Id.
    replica: String,
    /// Insist although it is not safe; needs --reason.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why, for the audit trail.
    #[arg(long, default_value = "")]
    reason: String,
}

const REPLICA: View = View { key: "replica", name: "id", columns: &[] };
const REPLICAS: View = View {
    key: "replicas",
    name: "id",
    columns: &[
        ("REPLICA", "id"),
        ("ROLE", "role"),
        ("SHALL BE", "wish"),
        ("LAG", "lag"),
        ("PEER", "peer_address"),
        ("API", "api_address"),
        ("WAITS FOR", "waits_for"),
        ("REASON", "reason"),
    ],
};

/// The number alone of `replicas/3`.
fn number(replica: &str) -> &str {
    replica.strip_prefix("replicas/").unwrap_or(replica)
}

/// Runs a verb.
///
/// # Errors
/// The call failed, or what was waited for did not come in time.
pub(crate) async fn run(command: ReplicaCommand, context: &Context) -> Result<(), CliError> {
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    match command {
        ReplicaCommand::List { all } => context.show_pages(REPLICAS, |token| page(token, all), None).await,
        ReplicaCommand::Add { new, vote } => {
            let NewArgs { peer, api, config_out, reason } = new;
            let request =
                pb::AddReplicaRequest { request_id, validate_only, peer_address: peer, api_address: api, vote, reason };
            ordered(context, context.json(request).await?, config_out.as_deref()).await
        }
        ReplicaCommand::Replace { replica, new } => {
            let question = format!("Remove replica {replica} for ever once a new one votes in its place?");
            context.confirm_by_name(&question, number(&replica))?;
            let NewArgs { peer, api, config_out, reason } = new;
            let request = pb::ReplaceReplicaRequest {
                request_id,
                validate_only,
                replica,
                peer_address: peer,
                api_address: api,
                reason,
            };
            ordered(context, context.json(request).await?, config_out.as_deref()).await
        }
        ReplicaCommand::Promote { order: OrderArgs { replica, force, reason } } => {
            let request = pb::PromoteReplicaRequest { request_id, validate_only, replica, force, reason };
            finished(context, context.json(request).await?).await
        }
        ReplicaCommand::Remove { order: OrderArgs { replica, force, reason } } => {
            context.confirm_by_name(&format!("Remove replica {replica} for ever?"), number(&replica))?;
            let request = pb::RemoveReplicaRequest { request_id, validate_only, replica, force, reason };
            finished(context, context.json(request).await?).await
        }
        ReplicaCommand::TransferLeader { replica, reason } => {
            let view = View { key: "", name: "leader_id", columns: &[] };
            context.show(pb::TransferLeaderRequest { request_id, validate_only, replica, reason }, view).await
        }
    }
}

fn page(page_token: String, show_gone: bool) -> pb::ListReplicasRequest {
    pb::ListReplicasRequest { page_size: PAGE_SIZE, page_token, show_gone }
}

/// Keeps the new replica's configuration, then waits for it if that is wished.
async fn ordered(context: &Context, answer: Value, config_out: Option<&Path>) -> Result<(), CliError> {
    if let Some(path) = config_out.filter(|_| !context.global.dry_run) {
        std::fs::write(path, config(&answer["join"])).map_err(|error| CliError::file(path, &error))?;
        context.say(&format!("{}: configuration of replica {}", path.display(), text(&answer["join"]["replica"])));
    }
    if context.waits() {
        let id = text(&answer["join"]["replica"]);
        let name = text(&answer["join"]["cluster_name"]);
        context.say(&format!(
            "Now issue its certificates (hanse ca issue --cluster {name} --replica {id} ...) and start it on an empty folder; \
             waiting for it."
        ));
    }
    finished(context, answer).await
}

/// Waits until the replica is as it shall be, if that is wished, and prints it.
async fn finished(context: &Context, mut answer: Value) -> Result<(), CliError> {
    if context.waits() {
        let id = text(&answer["replica"]["id"]).to_owned();
        answer["replica"] = wait(context, &id).await?;
    }
    context.print(Shown { value: answer, view: REPLICA })
}

async fn wait(context: &Context, id: &str) -> Result<Value, CliError> {
    let until = tokio::time::Instant::now() + context.global.timeout.unwrap_or(WAIT_MAX);
    let mut said = String::new();
    loop {
        let mut list = context.json(page(String::new(), true)).await?;
        let rows = list["replicas"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let replaced = rows.iter().find(|row| row["id"] == id).map(|row| text(&row["replaces"]).to_owned());
        // A replacement is done when the old one is out.
        let pending = |row: &&Value| {
            let concerns =
                row["id"] == id || replaced.as_deref().is_some_and(|old| !old.is_empty() && row["id"] == old);
            concerns && !text(&row["waits_for"]).is_empty()
        };
        let waits_for = rows
            .iter()
            .find(pending)
            .map(|row| format!("replica {} waits for {}", text(&row["id"]), text(&row["waits_for"])));
        let Some(waits_for) = waits_for else {
            let row = rows.into_iter().find(|row| row["id"] == id);
            return row.ok_or_else(|| CliError::Failed(format!("replica {id} is not in the list")));
        };
        if waits_for != said {
            context.say(&waits_for);
            said.clone_from(&waits_for);
        }
        if tokio::time::Instant::now() + LOOK > until {
            return Err(CliError::StillRunning(format!("{waits_for}; the order stands, see `hanse replica list`")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The new replica's configuration, with the places that docs/operations.md uses.
fn config(join: &Value) -> String {
    let own = join["members"].as_array().into_iter().flatten().find(|row| row["id"] == join["replica"]);
    let port = |key: &str| own.and_then(|row| text(&row[key]).rsplit_once(':')).map_or("0", |(_, port)| port);
    let mut config = format!(
        "# Replica {id} of cluster {name} ({uuid}), made by `hanse replica`.\n\
         # Its TLS folder is made by: hanse ca issue --dir ca --cluster {name} --replica {id} --host HOST --out tls\n\
         version = 1\ncluster = \"{name}\"\nreplica = {id}\njoin = true\ndata = \"data\"\ntls = \"tls\"\n\
         peer_listen = \"0.0.0.0:{peer}\"\napi_listen = \"0.0.0.0:{api}\"\n",
        id = text(&join["replica"]),
        name = text(&join["cluster_name"]),
        uuid = text(&join["cluster_id"]),
        peer = port("peer_address"),
        api = port("api_address"),
    );
    for row in join["members"].as_array().into_iter().flatten() {
        config.push_str(&format!(
            "\n[[replicas]]\nid = {}\npeer = \"{}\"\napi = \"{}\"\n",
            text(&row["id"]),
            text(&row["peer_address"]),
            text(&row["api_address"])
        ));
    }
    config
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_configuration_of_a_new_replica_is_one() {
        let row = |id: &str| json!({ "id": id, "peer_address": format!("10.0.0.{id}:7401"), "api_address": format!("10.0.0.{id}:7400") });
        let join =
            json!({ "cluster_name": "test", "cluster_id": "u", "replica": "4", "members": [row("1"), row("4")] });
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("hanse.toml");
        std::fs::write(&path, super::config(&join)).expect("written");
        let config = hanse_server::config::Config::load(&path).expect("a sound configuration");
        assert!(config.join && config.replica == 4 && config.replicas.len() == 2);
        assert_eq!(config.own().map(|own| own.api.as_str()), Some("10.0.0.4:7400"));
        assert_eq!(config.peer_listen.port(), 7401);
    }
}
