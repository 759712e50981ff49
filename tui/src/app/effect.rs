//! What the console wants from the world. `runtime` is the only place that carries these out.

use super::model::data::Query;
use super::model::dialog::Choice;
use super::model::edit::{Import, WayChange};
use super::model::order::{NewCloud, NewMachine};

/// An order to the runtime; its answer, if any, comes back as a `Msg`.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask the API; answered by `Msg::Fetched` with the same ticket.
    Fetch {
        /// What.
        query: Query,
        /// Orders answers: a late one does not overwrite a newer.
        ticket: u64,
    },
    /// Open the stream of changes after a revision; answered by `Msg::Changed` and, at its end, `Msg::WatchEnded`.
    Watch {
        /// Revision already seen.
        after: u64,
    },
    /// Change something; answered by `Msg::Wrote`.
    Write(Write),
    /// Draw everything anew.
    Redraw,
    /// Leave the console.
    Quit,
}

/// A change. The runtime mints its request id.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Open a session and keep its token.
    Login {
        /// Account.
        account: String,
        /// Password.
        password: String,
    },
    /// Make the first administrator, then log in as it.
    Bootstrap {
        /// One-time code that the first replica printed.
        code: String,
        /// Account to make.
        account: String,
        /// Its password.
        password: String,
    },
    /// Sign a ballot with the key in a file of this machine and cast it.
    CastBallot {
        /// Resource name of the proposal.
        proposal: String,
        /// Choice.
        choice: Choice,
        /// What the voter saw; anything else is not signed.
        artifact: String,
        /// Voting tenant.
        tenant: String,
        /// Id of the cluster the voter saw, part of the signed text.
        cluster_id: String,
        /// Path of the member key.
        key_path: String,
    },
    /// Restart a node.
    RestartNode {
        /// Resource name.
        node: String,
    },
    /// Move a node to the host that suits its chain best.
    MoveNode {
        /// Resource name.
        node: String,
    },
    /// Stop a chain's nodes.
    PauseChain {
        /// Resource name.
        chain: String,
    },
    /// Have a paused chain's nodes run again.
    ResumeChain {
        /// Resource name.
        chain: String,
    },
    /// Start a chain's nodes anew, one after another.
    RollChain {
        /// Resource name.
        chain: String,
    },
    /// Have the nodes that an upgrade has reached go back.
    RollBackChain {
        /// Resource name.
        chain: String,
    },
    /// Let a halted rolling change go on.
    ContinueRollout {
        /// Resource name.
        chain: String,
    },
    /// Say how often a chain's nodes are started again by the platform.
    SetChainRepair {
        /// Resource name.
        chain: String,
        /// Within an hour; 0 for never, none for every chain's number.
        restarts_per_hour: Option<u32>,
        /// Why.
        reason: String,
    },
    /// Make a chain of others known; its nodes are asked first.
    ImportChain(Box<Import>),
    /// Take a chain of others over; its homes are looked at first.
    AdoptChain {
        /// Resource name.
        chain: String,
        /// Node, host, home folder there, and whether the platform asks its process to stop.
        nodes: Vec<(String, String, String, bool)>,
        /// Why.
        reason: String,
    },
    /// Forget a chain of others.
    ForgetChain {
        /// Resource name.
        chain: String,
        /// Nodes that are written off with their hosts.
        lost: Vec<String>,
    },
    /// Give a node that was taken over back to its owner.
    GiveBackNode {
        /// Resource name.
        node: String,
    },
    /// Change how a host behind SSH is reached; it is looked at by the new way first.
    SetHostReach {
        /// Resource name.
        host: String,
        /// What is to be another.
        change: Box<WayChange>,
    },
    /// Take a chain's deletion back.
    UndeleteChain {
        /// Resource name.
        chain: String,
    },
    /// Place nothing more on a host.
    CordonHost {
        /// Resource name.
        host: String,
    },
    /// Begin maintenance of a host.
    MaintainHost {
        /// Resource name.
        host: String,
    },
    /// Want a host empty.
    DrainHost {
        /// Resource name.
        host: String,
    },
    /// Add a cloud.
    AddCloud {
        /// What is said of it.
        cloud: Box<NewCloud>,
    },
    /// Forget a cloud that no machine is of.
    RemoveCloud {
        /// Resource name.
        cloud: String,
    },
    /// Make a machine in a cloud; the cloud is looked at first.
    CreateMachine {
        /// What is said of it.
        machine: Box<NewMachine>,
    },
    /// Delete an empty machine in its cloud.
    DeleteMachine {
        /// Resource name.
        machine: String,
    },
    /// Forget an empty host.
    RetireHost {
        /// Resource name.
        host: String,
    },
    /// Allow placing again.
    UncordonHost {
        /// Resource name.
        host: String,
    },
    /// Pin the new key of a distrusted host.
    AcceptHostKey {
        /// Resource name.
        host: String,
        /// The key that was compared.
        fingerprint: String,
    },
    /// Hand the lead to a replica.
    TransferLeader {
        /// Id.
        replica: String,
    },
    /// Give a learner a vote.
    PromoteReplica {
        /// Id.
        replica: String,
    },
    /// Take a replica out for ever.
    RemoveReplica {
        /// Id.
        replica: String,
    },
    /// Raise the cluster to the newest version that the leader speaks.
    RaiseVersion,
}

impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fetch { query, ticket } => write!(f, "Fetch({query:?}, {ticket})"),
            Self::Watch { after } => write!(f, "Watch({after})"),
            Self::Write(write) => write!(f, "Write({write:?})"),
            Self::Redraw => f.write_str("Redraw"),
            Self::Quit => f.write_str("Quit"),
        }
    }
}

// By hand, so that a password or a setup code never gets into a log or a test's output.
impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Login { account, .. } => write!(f, "Login({account})"),
            Self::Bootstrap { account, .. } => write!(f, "Bootstrap({account})"),
            Self::CastBallot { proposal, choice, tenant, key_path, .. } => {
                write!(f, "CastBallot({proposal}, {choice:?}, {tenant}, {key_path})")
            }
            Self::RestartNode { node } => write!(f, "RestartNode({node})"),
            Self::MoveNode { node } => write!(f, "MoveNode({node})"),
            Self::PauseChain { chain } => write!(f, "PauseChain({chain})"),
            Self::ResumeChain { chain } => write!(f, "ResumeChain({chain})"),
            Self::RollChain { chain } => write!(f, "RollChain({chain})"),
            Self::RollBackChain { chain } => write!(f, "RollBackChain({chain})"),
            Self::ContinueRollout { chain } => write!(f, "ContinueRollout({chain})"),
            Self::SetChainRepair { chain, restarts_per_hour, reason } => {
                write!(f, "SetChainRepair({chain}, {restarts_per_hour:?}, {reason})")
            }
            Self::ImportChain(import) => write!(f, "ImportChain({import:?})"),
            Self::AdoptChain { chain, nodes, reason } => write!(f, "AdoptChain({chain}, {nodes:?}, {reason})"),
            Self::ForgetChain { chain, lost } if lost.is_empty() => write!(f, "ForgetChain({chain})"),
            Self::ForgetChain { chain, lost } => write!(f, "ForgetChain({chain}, {lost:?})"),
            Self::GiveBackNode { node } => write!(f, "GiveBackNode({node})"),
            Self::SetHostReach { host, change } => write!(f, "SetHostReach({host}, {change:?})"),
            Self::UndeleteChain { chain } => write!(f, "UndeleteChain({chain})"),
            Self::CordonHost { host } => write!(f, "CordonHost({host})"),
            Self::MaintainHost { host } => write!(f, "MaintainHost({host})"),
            Self::DrainHost { host } => write!(f, "DrainHost({host})"),
            Self::AddCloud { cloud } => write!(f, "AddCloud({})", cloud.command()),
            Self::RemoveCloud { cloud } => write!(f, "RemoveCloud({cloud})"),
            Self::CreateMachine { machine } => write!(f, "CreateMachine({})", machine.command()),
            Self::DeleteMachine { machine } => write!(f, "DeleteMachine({machine})"),
            Self::RetireHost { host } => write!(f, "RetireHost({host})"),
            Self::UncordonHost { host } => write!(f, "UncordonHost({host})"),
            Self::AcceptHostKey { host, fingerprint } => write!(f, "AcceptHostKey({host}, {fingerprint})"),
            Self::TransferLeader { replica } => write!(f, "TransferLeader({replica})"),
            Self::PromoteReplica { replica } => write!(f, "PromoteReplica({replica})"),
            Self::RemoveReplica { replica } => write!(f, "RemoveReplica({replica})"),
            Self::RaiseVersion => f.write_str("RaiseVersion"),
        }
    }
}
