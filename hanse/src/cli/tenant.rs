//! `hanse tenant`.

use hanse_client::pb;

use super::ListArgs;
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::password::PasswordArgs;
use super::view::View;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant and its owner's account.
    Create {
        /// Id.
        tenant: String,
        /// Name for people; by default the id.
        #[arg(long)]
        display_name: Option<String>,
        /// Local name of the owner's account.
        #[arg(long)]
        owner: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Show a tenant.
    Get {
        /// Id.
        tenant: String,
    },
    /// Set and remove keys of a tenant's metadata; other keys stay.
    Metadata {
        /// Id.
        tenant: String,
        /// Key and value to set, may be repeated (key: a-z, 0-9, '.', '_', '-', '/', at most 63; value: at most 1024 bytes).
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::pair)]
        set: Vec<(String, String)>,
        /// Key to remove, may be repeated.
        #[arg(long = "remove", value_name = "KEY", required_unless_present = "set")]
        remove: Vec<String>,
        /// Show the revision that did it instead of the tenant.
        #[arg(long)]
        brief: bool,
    },
    /// List tenants.
    List {
        #[command(flatten)]
        list: ListArgs,
    },
}

const TENANT: View = View { key: "tenant", name: "tenant", columns: &[] };
const HEADER: View = View { key: "header", name: "header", columns: &[] };
const TENANTS: View = View {
    key: "tenants",
    name: "tenant",
    columns: &[("TENANT", "tenant"), ("NAME", "display_name"), ("STATE", "state"), ("CREATED", "created_at_ms")],
};

/// Runs a verb.
///
/// # Errors
/// The call failed.
pub(crate) async fn run(command: TenantCommand, context: &Context) -> Result<(), CliError> {
    match command {
        TenantCommand::Create { tenant, display_name, owner, password } => {
            let password = password.get_new(&owner)?;
            let request = pb::CreateTenantRequest {
                request_id: String::new(),
                validate_only: context.global.dry_run,
                display_name: display_name.unwrap_or_else(|| tenant.clone()),
                tenant,
                owner_account: owner,
                owner_password: password.to_string(),
            };
            context.show(request, TENANT).await
        }
        TenantCommand::Get { tenant } => context.show(pb::GetTenantRequest { tenant }, TENANT).await,
        TenantCommand::Metadata { tenant, set, remove, brief } => {
            let request = pb::SetTenantMetadataRequest {
                request_id: String::new(),
                validate_only: context.global.dry_run,
                tenant,
                set: set.into_iter().collect(),
                remove,
                header_only: brief,
            };
            context.show(request, if brief { HEADER } else { TENANT }).await
        }
        TenantCommand::List { list } => {
            let request =
                |page_token| pb::ListTenantsRequest { page_size: PAGE_SIZE, page_token, filter: list.filter() };
            context.show_pages(TENANTS, request, list.limit).await
        }
    }
}
