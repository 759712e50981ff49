//! Logging in and out, accounts, sessions.

use std::time::Duration;

use hanse_client::{files, pb};

use super::ListArgs;
use super::cluster::until;
use super::context::{Context, PAGE_SIZE};
use super::error::CliError;
use super::password::PasswordArgs;
use super::units::{millis, parse_duration};
use super::view::{Shown, View};

/// What `hanse login` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// Account: `name`, or `name@tenant`.
    account: String,
    #[command(flatten)]
    password: PasswordArgs,
    /// Lifetime of the session, at most 12h.
    #[arg(long, value_parser = parse_duration)]
    lifetime: Option<Duration>,
}

/// Verbs of `hanse account`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AccountCommand {
    /// Make an account.
    Create {
        /// `name` for the platform, `name@tenant` for a tenant.
        account: String,
        /// What it may do.
        #[arg(long, value_enum)]
        role: RoleArg,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// List accounts.
    List {
        /// Only this tenant's.
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Stop an account from acting and close its sessions.
    Suspend {
        /// Which.
        account: String,
        /// Why, for the audit trail.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a suspended account act again.
    Restore {
        /// Which.
        account: String,
    },
}

/// Verbs of `hanse session`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SessionCommand {
    /// List open sessions.
    List {
        /// Whose; by default the caller's.
        #[arg(long)]
        account: Option<String>,
    },
    /// Close a session.
    Revoke {
        /// Its id.
        session: String,
    },
}

/// Roles by the names of the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum RoleArg {
    /// Everything on the platform.
    PlatformAdministrator,
    /// Hosts, nodes, operations.
    PlatformOperator,
    /// Reads everything.
    PlatformAuditor,
    /// Everything of the tenant.
    TenantOwner,
    /// The tenant's nodes and proposals.
    TenantOperator,
    /// The tenant's contracts.
    TenantDeveloper,
    /// The tenant's usage and invoices.
    TenantBilling,
    /// Reads everything of the tenant.
    TenantAuditor,
}

impl From<RoleArg> for pb::Role {
    fn from(role: RoleArg) -> pb::Role {
        match role {
            RoleArg::PlatformAdministrator => pb::Role::PlatformAdministrator,
            RoleArg::PlatformOperator => pb::Role::PlatformOperator,
            RoleArg::PlatformAuditor => pb::Role::PlatformAuditor,
            RoleArg::TenantOwner => pb::Role::TenantOwner,
            RoleArg::TenantOperator => pb::Role::TenantOperator,
            RoleArg::TenantDeveloper => pb::Role::TenantDeveloper,
            RoleArg::TenantBilling => pb::Role::TenantBilling,
            RoleArg::TenantAuditor => pb::Role::TenantAuditor,
        }
    }
}

const ACCOUNT: View = View { key: "account", name: "account", columns: &[] };
const ACCOUNTS: View = View {
    key: "accounts",
    name: "account",
    columns: &[("ACCOUNT", "account"), ("ROLE", "role"), ("STATE", "state"), ("CREATED", "created_at_ms")],
};
const SESSIONS: View = View {
    key: "sessions",
    name: "session",
    columns: &[
        ("SESSION", "session"),
        ("ACCOUNT", "account"),
        ("SOURCE", "source"),
        ("OPENED", "opened_at_ms"),
        ("EXPIRES", "expires_at_ms"),
        ("CURRENT", "current"),
    ],
};

/// Opens a session and keeps its token in the token file.
///
/// # Errors
/// The login failed, or the token cannot be kept (the session is closed again).
pub(crate) async fn login(args: LoginArgs, context: &Context) -> Result<(), CliError> {
    context.refuse_dry_run("login")?;
    let path = context.global.token_path()?;
    let password = args.password.get(&args.account)?;
    let request = pb::LoginRequest {
        request_id: String::new(),
        account: args.account,
        password: password.to_string(),
        lifetime_ms: args.lifetime.map_or(0, millis),
    };
    let response = context.call(request).await?;
    if let Err(error) = files::replace(&path, format!("{}\n", response.token).as_bytes()) {
        context.client.set_token(Some(&response.token))?;
        // A session whose token is lost must not stay open; if this fails too it ends by itself.
        let _ = context.client.call(pb::LogoutRequest::default()).await;
        return Err(CliError::file(&path, &error));
    }
    context.say(&format!("logged in {}; token kept in {}", until(response.expires_at_ms), path.display()));
    // The token is in the file; it is not printed.
    let shown = pb::LoginResponse { token: String::new(), ..response };
    let mut value = hanse_client::json::message("LoginResponse", &shown);
    if let Some(object) = value.as_object_mut() {
        object.remove("token");
    }
    context.print(Shown { value, view: ACCOUNT })
}

/// Closes the session and forgets its token, also when the session has ended already.
///
/// # Errors
/// The call or removing the file failed.
pub(crate) async fn logout(context: &Context) -> Result<(), CliError> {
    context.refuse_dry_run("logout")?;
    let path = context.global.token_path()?;
    match context.call(pb::LogoutRequest::default()).await {
        Ok(_) => {}
        Err(CliError::Client(error)) if error.code == hanse_client::Code::Unauthenticated => {
            context.say("the session had ended already");
        }
        Err(error) => return Err(error),
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CliError::file(&path, &error)),
        _ => Ok(()),
    }
}

/// Shows who is logged in.
///
/// # Errors
/// The call failed.
pub(crate) async fn whoami(context: &Context) -> Result<(), CliError> {
    context.show(pb::WhoAmIRequest {}, ACCOUNT).await
}

/// Runs a verb of `hanse account`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn run(command: AccountCommand, context: &Context) -> Result<(), CliError> {
    let validate_only = context.global.dry_run;
    let request_id = String::new();
    match command {
        AccountCommand::Create { account, role, password } => {
            let password = password.get_new(&account)?.to_string();
            let role = pb::Role::from(role).into();
            context.show(pb::CreateAccountRequest { request_id, validate_only, account, role, password }, ACCOUNT).await
        }
        AccountCommand::List { tenant, list } => {
            let request = |page_token| pb::ListAccountsRequest {
                page_size: PAGE_SIZE,
                page_token,
                filter: list.filter(),
                tenant: tenant.clone().unwrap_or_default(),
            };
            context.show_pages(ACCOUNTS, request, list.limit).await
        }
        AccountCommand::Suspend { account, reason } => {
            context.confirm(&format!("Suspend {account} and close its sessions?"))?;
            context.show(pb::SuspendAccountRequest { request_id, validate_only, account, reason }, ACCOUNT).await
        }
        AccountCommand::Restore { account } => {
            context.show(pb::RestoreAccountRequest { request_id, validate_only, account }, ACCOUNT).await
        }
    }
}

/// Runs a verb of `hanse session`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn sessions(command: SessionCommand, context: &Context) -> Result<(), CliError> {
    match command {
        SessionCommand::List { account } => {
            let account = account.unwrap_or_default();
            let request =
                |page_token| pb::ListSessionsRequest { page_size: PAGE_SIZE, page_token, account: account.clone() };
            context.show_pages(SESSIONS, request, None).await
        }
        SessionCommand::Revoke { session } => {
            context.refuse_dry_run("revoking a session")?;
            context.confirm(&format!("Close session {session}?"))?;
            context.call(pb::RevokeSessionRequest { request_id: String::new(), session }).await?;
            Ok(())
        }
    }
}
