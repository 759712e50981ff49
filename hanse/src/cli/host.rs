//! `hanse host` and `hanse template`.

use hanse_client::pb;

mod reach;

use reach::{ReachArgs, WayArgs};

use super::ListArgs;
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::monitor::{self, MonitorArgs};
use super::view::View;

/// Verbs of `hanse host`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum HostCommand {
    /// Read the SSH host key of an address, or the id of a Docker Engine, to be compared by another way before enrolling.
    Scan {
        /// Name or address.
        #[arg(required_unless_present = "docker")]
        address: Option<String>,
        /// Port.
        #[arg(long, default_value_t = 22)]
        port: u16,
        /// Docker Engine: unix:///path of its socket on the replicas' machine, or tcp://127.0.0.1:PORT.
        #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["address", "port"])]
        docker: Option<String>,
        #[command(flatten)]
        way: WayArgs,
    },
    /// Take a host into service: this machine (--local), one behind SSH (--ssh) or a Docker Engine (--docker).
    Enrol(Box<EnrolArgs>),
    /// Look at everything that must hold on an enrolled host before nodes are placed there.
    Preflight {
        /// Id.
        host: String,
    },
    /// Show a host.
    Get {
        /// Id.
        host: String,
    },
    /// Show the last day of what was seen of a host.
    Monitor {
        /// Id.
        host: String,
        #[command(flatten)]
        args: MonitorArgs,
    },
    /// List hosts.
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// List what is on hosts and nothing asks for; the leader removes it after a grace time, or says why not.
    Orphans {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Place nothing new on a host.
    Cordon {
        /// Id.
        host: String,
        /// Why, for the audit trail.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Begin maintenance: nothing is placed, done or repaired on a host until it is uncordoned.
    Maintain {
        /// Id.
        host: String,
        /// Why, for people and the audit trail.
        #[arg(long)]
        reason: String,
        /// Also if a chain loses its quorum by it.
        #[arg(long)]
        force: bool,
    },
    /// Take no new nodes and want those that are there moved away; with --dry-run the plan.
    Drain {
        /// Id.
        host: String,
        /// Why, for people and the audit trail.
        #[arg(long)]
        reason: String,
        /// Move nodes away also from chains that make no block meanwhile.
        #[arg(long)]
        accept_outage: bool,
    },
    /// Forget a host on which nothing is.
    Retire {
        /// Id.
        host: String,
        /// Why, for people and the audit trail.
        #[arg(long)]
        reason: String,
    },
    /// Place on it again: ends a cordon, a maintenance or a drain.
    Uncordon {
        /// Id.
        host: String,
    },
    /// Change what steers placement: zone, labels, whose nodes it takes and how many; what is not named stays.
    Set(SetArgs),
    /// Change how a host behind SSH is reached; what is not named stays. It is looked at by the new way first.
    Reach(Box<ReachArgs>),
    /// Pin the new key of a distrusted host, after comparing it at the host's own console.
    AcceptKey {
        /// Id.
        host: String,
        /// The fingerprint you compared; `hanse host get` shows the one the host showed.
        #[arg(long, value_name = "SHA256:...")]
        fingerprint: String,
    },
}

/// What `enrol` takes.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("reach").required(true).args(["local", "ssh", "docker"]))]
pub(crate) struct EnrolArgs {
    /// Id.
    host: String,
    /// The replicas' own machine.
    #[arg(long)]
    local: bool,
    /// Name or address of a machine behind SSH.
    #[arg(long, value_name = "ADDRESS", requires_all = ["user", "pinned"])]
    ssh: Option<String>,
    /// SSH port.
    #[arg(long, default_value_t = 22)]
    port: u16,
    /// Login name.
    #[arg(long)]
    user: Option<String>,
    /// Pinned host key, as `hanse host scan` shows it.
    #[arg(long, value_name = "SHA256:...", group = "pinned")]
    fingerprint: Option<String>,
    /// Pinned authority that signs the host's certificate, instead of a pinned key.
    #[arg(long, value_name = "SHA256:...", group = "pinned", conflicts_with = "fingerprint", requires = "ssh")]
    authority: Option<String>,
    #[command(flatten)]
    way: WayArgs,
    /// Do everything on the host as root, by `sudo -n`.
    #[arg(long, requires = "ssh")]
    sudo: bool,
    /// Docker Engine: unix:///path of its socket on the replicas' machine, or tcp://127.0.0.1:PORT.
    #[arg(long, value_name = "ENDPOINT", requires = "engine_id")]
    docker: Option<String>,
    /// Pinned id of the Docker Engine, as `hanse host scan --docker ENDPOINT` shows it.
    #[arg(long, value_name = "ID", requires = "docker")]
    engine_id: Option<String>,
    /// Most memory of a node's container in MiB; 0 is no limit.
    #[arg(long, value_name = "MIB", default_value_t = 0, requires = "docker")]
    node_memory_mib: u32,
    /// Most processor time of a node's container in thousandths of a processor; 0 is no limit.
    #[arg(long, value_name = "MILLI", default_value_t = 0, requires = "docker")]
    node_cpu_milli: u32,
    /// Most processes and threads of a node's container; 0 is no limit.
    #[arg(long, value_name = "COUNT", default_value_t = 4096, requires = "docker")]
    node_pids: u32,
    /// Absolute folder that nodes live in (not of a Docker Engine).
    #[arg(
        long,
        value_name = "FOLDER",
        required_unless_present = "docker",
        conflicts_with = "docker",
        default_value = ""
    )]
    root: String,
    /// Address at which nodes elsewhere reach nodes here; of a Docker Engine the IP address at which it publishes ports.
    #[arg(long)]
    peer_address: String,
    /// First port given to nodes.
    #[arg(long)]
    port_first: u16,
    /// How many ports from there.
    #[arg(long, default_value_t = 100)]
    port_count: u16,
    /// How many nodes fit.
    #[arg(long)]
    slots: u32,
    /// Failure zone: what may fail with it as one (a rack, a room, a site).
    #[arg(long, default_value = "")]
    zone: String,
    /// Label, may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::pair)]
    labels: Vec<(String, String)>,
    /// Take this tenant's nodes only.
    #[arg(long, value_name = "TENANT", default_value = "")]
    dedicated_to: String,
    /// Do not look at the host first.
    #[arg(long)]
    no_preflight: bool,
    /// Enrol it whatever is found; what is found is shown all the same.
    #[arg(long, conflicts_with = "no_preflight")]
    accept_findings: bool,
}

/// What `set` takes.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["zone", "labels", "remove_labels", "dedicated_to", "shared", "slots"]))]
pub(crate) struct SetArgs {
    /// Id.
    host: String,
    /// Failure zone; "" for none.
    #[arg(long)]
    zone: Option<String>,
    /// Label to set, may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::pair)]
    labels: Vec<(String, String)>,
    /// Label to remove, may be repeated.
    #[arg(long = "remove-label", value_name = "KEY")]
    remove_labels: Vec<String>,
    /// Take this tenant's nodes only.
    #[arg(long, value_name = "TENANT", conflicts_with = "shared")]
    dedicated_to: Option<String>,
    /// Take all tenants' nodes.
    #[arg(long)]
    shared: bool,
    /// How many nodes fit.
    #[arg(long)]
    slots: Option<u32>,
}

/// Verbs of `hanse template`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TemplateCommand {
    /// List templates with their parameters.
    List,
}

const HOST: View = View { key: "host", name: "host", columns: &[] };
/// With what was found.
const ENROLLED: View = View { key: "", name: "host.host", columns: &[] };
const FINDINGS: View = View {
    key: "findings",
    name: "check",
    columns: &[("CHECK", "check"), ("SEVERITY", "severity"), ("FOUND", "found"), ("WHAT TO DO", "advice")],
};
/// With what is on it.
const DRAINED: View = View { key: "", name: "host.host", columns: &[] };
const RETIRED: View = View { key: "header", name: "header", columns: &[] };
const HOSTS: View = View {
    key: "hosts",
    name: "host",
    columns: &[
        ("HOST", "host"),
        ("STATE", "state"),
        ("USED", "slots_used"),
        ("SLOTS", "slots"),
        ("ZONE", "zone"),
        ("DEDICATED TO", "dedicated_to"),
        ("PEER ADDRESS", "peer_address"),
        ("SSH", "ssh.address"),
        ("DOCKER", "docker.endpoint"),
        ("REASON", "state_reason"),
    ],
};
const ORPHANS: View = View {
    key: "orphans",
    name: "object",
    columns: &[
        ("HOST", "host"),
        ("OBJECT", "object"),
        ("GEN", "generation"),
        ("RUNS", "runs"),
        ("LOOKS", "sightings"),
        ("FIRST SEEN", "first_seen_ms"),
        ("REMOVED FROM", "remove_at_ms"),
        ("KEPT BECAUSE", "kept_reason"),
    ],
};
const TEMPLATES: View = View {
    key: "templates",
    name: "template",
    columns: &[
        ("TEMPLATE", "template"),
        ("VERSION", "version"),
        ("ENGINE", "engine"),
        ("NODES MIN", "nodes_min"),
        ("NODES MAX", "nodes_max"),
        ("DESCRIPTION", "description"),
    ],
};

/// Runs a verb of `hanse host`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn run(command: HostCommand, context: &Context) -> Result<(), CliError> {
    let validate_only = context.global.dry_run;
    let request_id = String::new();
    match command {
        HostCommand::Scan { docker: Some(endpoint), .. } => {
            let view = View { key: "", name: "engine_id", columns: &[] };
            context.show(pb::ScanDockerEngineRequest { endpoint }, view).await
        }
        HostCommand::Scan { address, port, docker: None, way } => {
            let view = View { key: "", name: "fingerprint", columns: &[] };
            let (address, login) = (address.unwrap_or_default(), way.login());
            let request = pb::ScanHostKeyRequest { address, port: port.into(), jumps: way.jumps, login };
            context.show(request, view).await
        }
        HostCommand::Reach(args) => {
            if let Some(question) = args.question() {
                context.confirm(&question)?;
            }
            let mut request = args.request();
            request.validate_only = validate_only;
            context.show(request, ENROLLED).await
        }
        HostCommand::Enrol(args) => {
            let mut request = enrol_request(*args);
            request.validate_only = validate_only;
            context.show(request, ENROLLED).await
        }
        HostCommand::Monitor { host, args } => monitor::monitor(context, format!("hosts/{host}"), args).await,
        HostCommand::Preflight { host } => context.show(pb::PreflightHostRequest { host }, FINDINGS).await,
        HostCommand::Get { host } => context.show(pb::GetHostRequest { host }, HOST).await,
        HostCommand::List { list } => {
            let request = |page_token| pb::ListHostsRequest { page_size: PAGE_SIZE, page_token, filter: list.filter() };
            context.show_pages(HOSTS, request, list.limit).await
        }
        HostCommand::Orphans { list } => {
            let request =
                |page_token| pb::ListOrphansRequest { page_size: PAGE_SIZE, page_token, filter: list.filter() };
            context.show_pages(ORPHANS, request, list.limit).await
        }
        HostCommand::Cordon { host, reason } => {
            context.confirm(&format!("Place nothing new on {host}?"))?;
            context.show(pb::CordonHostRequest { request_id, validate_only, host, reason }, HOST).await
        }
        HostCommand::Maintain { host, reason, force } => {
            let forced = if force { " A chain may stop by it." } else { "" };
            context.confirm(&format!("Leave {host} and its nodes to whoever works on it?{forced}"))?;
            let request = pb::BeginHostMaintenanceRequest { request_id, validate_only, host, reason, forced: force };
            context.show(request, HOST).await
        }
        HostCommand::Drain { host, reason, accept_outage } => {
            context.confirm(&format!("Place nothing new on {host}, and want its nodes moved away?"))?;
            context.show(pb::DrainHostRequest { request_id, validate_only, host, reason, accept_outage }, DRAINED).await
        }
        HostCommand::Retire { host, reason } => {
            context.confirm(&format!("Forget {host} for ever?"))?;
            context.show(pb::RetireHostRequest { request_id, validate_only, host, reason }, RETIRED).await
        }
        HostCommand::Uncordon { host } => {
            context.show(pb::UncordonHostRequest { request_id, validate_only, host }, HOST).await
        }
        HostCommand::Set(args) => {
            let request = pb::SetHostPropertiesRequest {
                request_id,
                validate_only,
                host: args.host,
                zone: args.zone,
                set_labels: args.labels.into_iter().collect(),
                remove_labels: args.remove_labels,
                dedicated_to: if args.shared { Some(String::new()) } else { args.dedicated_to },
                slots: args.slots,
            };
            context.show(request, HOST).await
        }
        HostCommand::AcceptKey { host, fingerprint } => {
            context.confirm(&format!(
                "Trust {fingerprint} as {host} from now on? Whoever holds that key is given its nodes."
            ))?;
            context.show(pb::AcceptHostKeyRequest { request_id, validate_only, host, fingerprint }, HOST).await
        }
    }
}

/// Runs a verb of `hanse template`.
///
/// # Errors
/// The call failed.
pub(crate) async fn templates(command: TemplateCommand, context: &Context) -> Result<(), CliError> {
    let TemplateCommand::List = command;
    let request = |page_token| pb::ListTemplatesRequest { page_size: PAGE_SIZE, page_token };
    context.show_pages(TEMPLATES, request, None).await
}

fn enrol_request(args: EnrolArgs) -> pb::EnrolHostRequest {
    let reach = match (args.ssh, args.docker) {
        (_, Some(endpoint)) => pb::enrol_host_request::Reach::Docker(pb::DockerReach {
            endpoint,
            engine_id: args.engine_id.unwrap_or_default(),
            memory_mib: args.node_memory_mib,
            cpu_milli: args.node_cpu_milli,
            pids: args.node_pids,
        }),
        (Some(address), None) => pb::enrol_host_request::Reach::Ssh(pb::SshReach {
            address,
            port: args.port.into(),
            user: args.user.unwrap_or_default(),
            pins_authority: args.authority.is_some(),
            fingerprint: args.authority.or(args.fingerprint).unwrap_or_default(),
            root: args.root,
            login: args.way.login(),
            jumps: args.way.jumps,
            sudo: args.sudo,
        }),
        (None, None) => pb::enrol_host_request::Reach::Local(pb::LocalReach { root: args.root }),
    };
    pb::EnrolHostRequest {
        request_id: String::new(),
        validate_only: false,
        host: args.host,
        reach: Some(reach),
        peer_address: args.peer_address,
        port_first: args.port_first.into(),
        port_count: args.port_count.into(),
        slots: args.slots,
        zone: args.zone,
        labels: args.labels.into_iter().collect(),
        dedicated_to: args.dedicated_to,
        preflight: !args.no_preflight,
        accept_findings: args.accept_findings,
    }
}
