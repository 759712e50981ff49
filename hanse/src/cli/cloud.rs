//! `hanse cloud`.

use hanse_client::pb;

use super::ListArgs;
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::view::View;

/// Verbs of `hanse cloud`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CloudCommand {
    /// Add a cloud: one region of one account.
    Add(Box<AddArgs>),
    /// Show a cloud, and what of this cluster is there that no machine is.
    Get {
        /// Id.
        cloud: String,
    },
    /// List clouds.
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Forget a cloud that no machine is of.
    Remove {
        /// Id.
        cloud: String,
    },
    /// Look at credentials, region, image, type, subnet, limits and rights; what is not named is not looked at.
    Check {
        /// Id.
        cloud: String,
        #[command(flatten)]
        like: Like,
    },
    /// Machines of clouds: each becomes a host.
    #[command(subcommand)]
    Machine(MachineCommand),
}

/// What `add` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Id.
    cloud: String,
    /// Where it is asked: https://HOST or https://HOST:PORT, http:// on the replicas' own machine only; a hypervisor as libvirt writes
    /// it, qemu+ssh://USER@HOST:PORT/system.
    #[arg(long, value_name = "URL")]
    url: String,
    /// What it speaks; the URL says it if this does not.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Name of the region; what a hypervisor is called, which becomes its machines' failure zone.
    #[arg(long)]
    region: String,
    /// Name of the file with its credentials in `cloud_credentials` of each replica (not a path).
    #[arg(long, value_name = "NAME")]
    credentials_file: String,
    /// Reach its machines at public addresses.
    #[arg(long)]
    public: bool,
    /// Addresses that may log in to its machines, the replicas' own; may be repeated.
    #[arg(long = "ssh-from", value_name = "CIDR", required = true)]
    ssh_from: Vec<String>,
    /// Addresses besides its own machines' that may reach nodes there; may be repeated.
    #[arg(long = "peers-from", value_name = "CIDR")]
    peers_from: Vec<String>,
    /// Account that its images let in by key.
    #[arg(long)]
    user: String,
    /// Absolute folder that nodes live in on its machines.
    #[arg(long, value_name = "FOLDER")]
    root: String,
    /// First port given to nodes.
    #[arg(long, default_value_t = 30_000)]
    port_first: u16,
    /// How many ports from there.
    #[arg(long, default_value_t = 100)]
    port_count: u16,
    /// How many machines it may be given.
    #[arg(long, default_value_t = 20)]
    machines_max: u32,
}

/// What a cloud speaks.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// The interface of Amazon EC2.
    Ec2,
    /// A hypervisor with libvirt.
    Libvirt,
}

impl Kind {
    fn of(url: &str) -> Self {
        if url.contains("+ssh://") { Self::Libvirt } else { Self::Ec2 }
    }
}

impl From<Kind> for i32 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ec2 => pb::CloudKind::Ec2.into(),
            Kind::Libvirt => pb::CloudKind::Libvirt.into(),
        }
    }
}

/// What a machine is like.
#[derive(Debug, clap::Args)]
pub(crate) struct Like {
    /// The cloud's name of the image.
    #[arg(long, default_value = "")]
    image: String,
    /// The cloud's name of the size.
    #[arg(long = "type", value_name = "TYPE", default_value = "")]
    machine_type: String,
    /// The cloud's zone; it becomes the host's failure zone.
    #[arg(long, default_value = "")]
    zone: String,
    /// The cloud's name of the subnet; one of the zone if not named.
    #[arg(long, default_value = "")]
    subnet: String,
}

/// Verbs of `hanse cloud machine`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MachineCommand {
    /// Make a machine; it becomes a host of the same id when it answers with its key.
    Create(Box<CreateArgs>),
    /// Show a machine.
    Get {
        /// Id.
        machine: String,
    },
    /// List machines.
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Delete a machine on which nothing is, with its disks (but a data disk that is kept); its host is forgotten at once.
    Delete {
        /// Id.
        machine: String,
        /// Why, for the audit trail.
        #[arg(long)]
        reason: String,
    },
}

/// What `machine create` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Id, of the machine and of the host.
    machine: String,
    /// Id of the cloud.
    #[arg(long)]
    cloud: String,
    #[command(flatten)]
    like: Like,
    /// Root disk in GiB; 0 is the image's.
    #[arg(long, default_value_t = 0)]
    disk_gib: u32,
    /// Give it a data disk of so many GiB, on which its nodes live: its first start (cloud-init) formats and mounts it at the cloud's
    /// root folder.
    #[arg(long, value_name = "GIB")]
    data_disk_gib: Option<u32>,
    /// The cloud's name of the data disk's kind, as gp3; its own choice if not named.
    #[arg(long, value_name = "KIND", default_value = "", requires = "data_disk_gib")]
    data_disk_kind: String,
    /// Leave the data disk in the cloud when the machine goes: it is listed, and never removed by itself.
    #[arg(long, requires = "data_disk_gib")]
    keep_data_disk: bool,
    /// How many nodes fit.
    #[arg(long)]
    slots: u32,
    /// Host key that the image has. Without it the platform makes one, and the machine gets it with its first start (cloud-init).
    #[arg(long, value_name = "SHA256:...", default_value = "")]
    host_key: String,
    /// Do not look at the cloud first.
    #[arg(long)]
    no_preflight: bool,
}

const CLOUD: View = View { key: "cloud", name: "cloud", columns: &[] };
const CLOUDS: View = View {
    key: "clouds",
    name: "cloud",
    columns: &[
        ("CLOUD", "cloud"),
        ("KIND", "spec.kind"),
        ("REGION", "spec.region"),
        ("ENDPOINT", "spec.endpoint"),
        ("CREDENTIALS", "spec.credentials"),
        ("MACHINES", "machines"),
        ("MAX", "spec.machines_max"),
    ],
};
const REMOVED: View = View { key: "header", name: "header", columns: &[] };
const FINDINGS: View = View {
    key: "findings",
    name: "check",
    columns: &[("CHECK", "check"), ("SEVERITY", "severity"), ("FOUND", "found"), ("WHAT TO DO", "advice")],
};
const MACHINE: View = View { key: "machine", name: "machine", columns: &[] };
/// With what was found.
const CREATED: View = View { key: "", name: "machine.machine", columns: &[] };
const MACHINES: View = View {
    key: "machines",
    name: "machine",
    columns: &[
        ("MACHINE", "machine"),
        ("CLOUD", "spec.cloud"),
        ("STATE", "state"),
        ("TYPE", "spec.machine_type"),
        ("ZONE", "spec.zone"),
        ("INSTANCE", "instance"),
        ("ADDRESS", "address"),
        ("REASON", "state_reason"),
    ],
};

/// Runs a verb of `hanse cloud`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn run(command: CloudCommand, context: &Context) -> Result<(), CliError> {
    let validate_only = context.global.dry_run;
    let request_id = String::new();
    match command {
        CloudCommand::Add(args) => {
            let (cloud, spec) = (args.cloud.clone(), Some(spec(*args)));
            context.show(pb::AddCloudRequest { request_id, validate_only, cloud, spec }, CLOUD).await
        }
        CloudCommand::Get { cloud } => context.show(pb::GetCloudRequest { cloud }, CLOUD).await,
        CloudCommand::List { list } => {
            let request =
                |page_token| pb::ListCloudsRequest { page_size: PAGE_SIZE, page_token, filter: list.filter() };
            context.show_pages(CLOUDS, request, list.limit).await
        }
        CloudCommand::Remove { cloud } => {
            context.confirm(&format!("Forget the cloud {cloud}?"))?;
            context.show(pb::RemoveCloudRequest { request_id, validate_only, cloud }, REMOVED).await
        }
        CloudCommand::Check { cloud, like } => {
            let Like { image, machine_type, zone, subnet } = like;
            context.show(pb::CheckCloudRequest { cloud, image, machine_type, zone, subnet }, FINDINGS).await
        }
        CloudCommand::Machine(command) => machine(command, context).await,
    }
}

async fn machine(command: MachineCommand, context: &Context) -> Result<(), CliError> {
    let validate_only = context.global.dry_run;
    let request_id = String::new();
    match command {
        MachineCommand::Create(args) => {
            let Like { image, machine_type, zone, subnet } = args.like;
            let (disk_gib, slots, host_key) = (args.disk_gib, args.slots, args.host_key);
            let cloud = args.cloud;
            let (kind, keep) = (args.data_disk_kind, args.keep_data_disk);
            let data_disk = args.data_disk_gib.map(|gib| pb::DataDisk { gib, kind, keep });
            let spec =
                pb::MachineSpec { cloud, image, machine_type, zone, subnet, disk_gib, slots, host_key, data_disk };
            let (machine, preflight) = (args.machine, !args.no_preflight);
            let spec = Some(spec);
            let request = pb::CreateMachineRequest { request_id, validate_only, machine, spec, preflight };
            context.show(request, CREATED).await
        }
        MachineCommand::Get { machine } => context.show(pb::GetMachineRequest { machine }, MACHINE).await,
        MachineCommand::List { list } => {
            let request =
                |page_token| pb::ListMachinesRequest { page_size: PAGE_SIZE, page_token, filter: list.filter() };
            context.show_pages(MACHINES, request, list.limit).await
        }
        MachineCommand::Delete { machine, reason } => {
            context.confirm(&format!(
                "Delete {machine} in its cloud, with its disks (but a data disk that is kept), for ever?"
            ))?;
            context.show(pb::DeleteMachineRequest { request_id, validate_only, machine, reason }, REMOVED).await
        }
    }
}

fn spec(args: AddArgs) -> pb::CloudSpec {
    pb::CloudSpec {
        kind: args.kind.unwrap_or_else(|| Kind::of(&args.url)).into(),
        endpoint: args.url,
        region: args.region,
        credentials: args.credentials_file,
        public: args.public,
        ssh_from: args.ssh_from,
        peers_from: args.peers_from,
        user: args.user,
        root: args.root,
        port_first: args.port_first.into(),
        port_count: args.port_count.into(),
        machines_max: args.machines_max,
    }
}
