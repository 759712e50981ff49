//! How a host behind SSH is reached, on the command line: machines on the way, logins, and `hanse host reach`.

use hanse_client::pb;

/// How machines between are passed, and how the platform logs in.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct WayArgs {
    /// Machine on the way, with its pinned key; may be repeated, the first one first.
    #[arg(long = "jump", value_name = "USER@ADDRESS[:PORT]=SHA256:...", value_parser = hanse_client::way::parse_jump)]
    pub(super) jumps: Vec<pb::SshJump>,
    /// What the platform shows, to the host and to machines on the way: the replicas' key, its certificate, or their agent's keys.
    #[arg(long, value_enum)]
    login: Option<LoginArg>,
}

impl WayArgs {
    /// As the API takes it.
    pub(super) fn login(&self) -> i32 {
        self.login.map_or(0, i32::from)
    }
}

/// What the platform logs in with.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LoginArg {
    /// `ssh_identity`.
    Key,
    /// `ssh_certificate`.
    Certificate,
    /// `ssh_agent`.
    Agent,
}

impl From<LoginArg> for i32 {
    fn from(login: LoginArg) -> Self {
        match login {
            LoginArg::Key => pb::SshLogin::Key.into(),
            LoginArg::Certificate => pb::SshLogin::Certificate.into(),
            LoginArg::Agent => pb::SshLogin::Agent.into(),
        }
    }
}

/// What `reach` takes.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["address", "port", "user", "fingerprint", "authority", "jumps", "straight", "login", "sudo", "no_sudo"]))]
pub(crate) struct ReachArgs {
    /// Id.
    host: String,
    /// Name or address.
    #[arg(long)]
    address: Option<String>,
    /// SSH port.
    #[arg(long)]
    port: Option<u16>,
    /// Login name; not while nodes are on the host.
    #[arg(long)]
    user: Option<String>,
    /// Pin the host's own key.
    #[arg(long, value_name = "SHA256:...", conflicts_with = "authority")]
    fingerprint: Option<String>,
    /// Pin the authority that signs the host's certificate.
    #[arg(long, value_name = "SHA256:...")]
    authority: Option<String>,
    #[command(flatten)]
    way: WayArgs,
    /// Through no machine.
    #[arg(long, conflicts_with = "jumps")]
    straight: bool,
    /// Do everything on the host as root, by `sudo -n`; not while nodes are on it.
    #[arg(long, conflicts_with = "no_sudo")]
    sudo: bool,
    /// Do it as the user.
    #[arg(long)]
    no_sudo: bool,
    /// Do not look at the host by the new way first.
    #[arg(long)]
    no_preflight: bool,
    /// Change it whatever is found; what is found is shown all the same.
    #[arg(long, conflicts_with = "no_preflight")]
    accept_findings: bool,
}

impl ReachArgs {
    /// What a person must agree to: keys that are pinned.
    pub(super) fn question(&self) -> Option<String> {
        let pins = self.fingerprint.is_some() || self.authority.is_some() || !self.way.jumps.is_empty();
        pins.then(|| format!("Pin what is named for {}? Whoever holds those keys is given its nodes.", self.host))
    }

    /// As the API takes it.
    pub(super) fn request(self) -> pb::SetHostReachRequest {
        pb::SetHostReachRequest {
            request_id: String::new(),
            validate_only: false,
            host: self.host,
            address: self.address,
            port: self.port.map(u32::from),
            user: self.user,
            pins_authority: self.authority.is_some(),
            fingerprint: self.authority.or(self.fingerprint),
            set_jumps: self.straight || !self.way.jumps.is_empty(),
            jumps: self.way.jumps,
            login: self.way.login.map(i32::from),
            sudo: if self.sudo { Some(true) } else { self.no_sudo.then_some(false) },
            preflight: !self.no_preflight,
            accept_findings: self.accept_findings,
        }
    }
}
