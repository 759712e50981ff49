//! `hanse consortium`: founding, inviting, joining, activating.

use std::path::PathBuf;
use std::time::Duration;

use hanse_client::{MemberKey, join, pb};

use super::ListArgs;
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::units::{millis, parse_duration};
use super::view::View;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConsortiumCommand {
    /// Found a consortium; the caller's tenant is its first member.
    Create {
        /// Id.
        consortium: String,
        /// Name for people; by default the id.
        #[arg(long)]
        display_name: Option<String>,
        /// What creating a chain needs.
        #[arg(long, value_enum, default_value_t = PolicyArg::Majority)]
        create_chain_policy: PolicyArg,
        /// What changing a chain (pausing, resuming) needs; by default what creating one does.
        #[arg(long, value_enum)]
        change_chain_policy: Option<PolicyArg>,
        /// What deleting a chain needs; by default what creating one does.
        #[arg(long, value_enum)]
        delete_chain_policy: Option<PolicyArg>,
        /// How long a proposal is open, 1s to 90d.
        #[arg(long, value_parser = parse_duration, default_value = "7d")]
        voting_period: Duration,
        /// Member key file of the founder; only its public part is sent.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Weight of the founder's vote.
        #[arg(long, default_value_t = 1)]
        weight: u32,
    },
    /// Show a consortium.
    Get {
        /// Id.
        consortium: String,
    },
    /// List consortiums.
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Invite a tenant while the consortium is forming.
    Invite {
        /// The consortium.
        consortium: String,
        /// Who is invited.
        tenant: String,
        /// Weight of its vote.
        #[arg(long, default_value_t = 1)]
        weight: u32,
    },
    /// Accept an invitation; the proof is signed on this machine.
    Join {
        /// The consortium.
        consortium: String,
        /// Member key file; only its public part and the proof are sent.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The joining tenant; by default the session's.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// End the forming; from then on only votes change the consortium.
    Activate {
        /// The consortium.
        consortium: String,
    },
}

/// Policies by the names of the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum PolicyArg {
    /// More than half of the weight.
    Majority,
    /// At least two thirds.
    TwoThirds,
    /// All of it.
    Unanimous,
}

impl From<PolicyArg> for pb::Policy {
    fn from(policy: PolicyArg) -> pb::Policy {
        match policy {
            PolicyArg::Majority => pb::Policy::Majority,
            PolicyArg::TwoThirds => pb::Policy::TwoThirds,
            PolicyArg::Unanimous => pb::Policy::Unanimous,
        }
    }
}

const CONSORTIUM: View = View { key: "consortium", name: "consortium", columns: &[] };
const CONSORTIUMS: View = View {
    key: "consortiums",
    name: "consortium",
    columns: &[
        ("CONSORTIUM", "consortium"),
        ("NAME", "display_name"),
        ("FOUNDER", "founder"),
        ("STATE", "state"),
        ("SINCE", "state_since_ms"),
    ],
};

/// Runs a verb.
///
/// # Errors
/// The call failed, the key cannot be used, or the user did not agree.
pub(crate) async fn run(command: ConsortiumCommand, context: &Context) -> Result<(), CliError> {
    let validate_only = context.global.dry_run;
    let request_id = String::new();
    match command {
        ConsortiumCommand::Create {
            consortium,
            display_name,
            create_chain_policy,
            change_chain_policy,
            delete_chain_policy,
            voting_period,
            key,
            weight,
        } => {
            let rules = [
                (pb::ActionKind::CreateChain, Some(create_chain_policy)),
                (pb::ActionKind::ChangeChain, change_chain_policy),
                (pb::ActionKind::DeleteChain, delete_chain_policy),
            ];
            let rule = |(action, policy): (pb::ActionKind, Option<PolicyArg>)| {
                policy.map(|policy| pb::PolicyRule { action: action.into(), policy: pb::Policy::from(policy).into() })
            };
            let policies = rules.into_iter().filter_map(rule).collect();
            let request = pb::CreateConsortiumRequest {
                request_id,
                validate_only,
                display_name: display_name.unwrap_or_else(|| consortium.clone()),
                consortium,
                charter: Some(pb::Charter { policies, voting_period_ms: millis(voting_period) }),
                member_key: MemberKey::load(&key)?.public_hex(),
                weight,
            };
            context.show(request, CONSORTIUM).await
        }
        ConsortiumCommand::Get { consortium } => {
            context.show(pb::GetConsortiumRequest { consortium }, CONSORTIUM).await
        }
        ConsortiumCommand::List { list } => {
            let request =
                |page_token| pb::ListConsortiumsRequest { page_size: PAGE_SIZE, page_token, filter: list.filter() };
            context.show_pages(CONSORTIUMS, request, list.limit).await
        }
        ConsortiumCommand::Invite { consortium, tenant, weight } => {
            let request = pb::InviteMemberRequest { request_id, validate_only, consortium, tenant, weight };
            context.show(request, CONSORTIUM).await
        }
        ConsortiumCommand::Join { consortium, key, tenant } => {
            let key = MemberKey::load(&key)?;
            let tenant = context.tenant(tenant).await?;
            let cluster_id = context.call(pb::GetStatusRequest {}).await?.cluster_id;
            let mut request = join::sign(&key, &cluster_id, &consortium, &tenant)?;
            request.validate_only = validate_only;
            context.show(request, CONSORTIUM).await
        }
        ConsortiumCommand::Activate { consortium } => {
            context.confirm(&format!("Activate {consortium}? From then on only votes change it."))?;
            let request = pb::ActivateConsortiumRequest { request_id, validate_only, consortium };
            context.show(request, CONSORTIUM).await
        }
    }
}
