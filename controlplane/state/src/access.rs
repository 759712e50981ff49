//! Who may do what: one rule for each command, default deny.
//!
//! A rule names the roles, and the scope that ties a tenant's account to the thing it acts on. The whole matrix is a
//! golden file (`tests/golden/access.txt`); a change of a rule is a change of that file.

use crate::account::{PlatformRole, Role, TenantRole};
use crate::artifact::Word;
use crate::command::{Actor, Command, Request};
use crate::consortium::{Consortium, MemberState};
use crate::ids::{AccountId, ConsortiumId, TenantId};
use crate::{Digest, Rejection, State, name};

const ADMINISTRATOR: &[PlatformRole] = &[PlatformRole::Administrator];
const OPERATORS: &[PlatformRole] = &[PlatformRole::Administrator, PlatformRole::Operator];
const ANY_PLATFORM: &[PlatformRole] = &[PlatformRole::Administrator, PlatformRole::Operator, PlatformRole::Auditor];
const OWNER: &[TenantRole] = &[TenantRole::Owner];
const VOTERS: &[TenantRole] = &[TenantRole::Owner, TenantRole::Operator];
const SENDERS: &[TenantRole] = &[TenantRole::Owner, TenantRole::Operator, TenantRole::Developer];
const DEVELOPERS: &[TenantRole] = &[TenantRole::Owner, TenantRole::Developer];
const ANY_TENANT: &[TenantRole] =
    &[TenantRole::Owner, TenantRole::Operator, TenantRole::Developer, TenantRole::Billing, TenantRole::Auditor];

/// Who may give a command.
struct Rule<'a> {
    system: bool,
    setup_code: bool,
    platform: &'static [PlatformRole],
    tenant: &'static [TenantRole],
    scope: Scope<'a>,
}

/// What an account must have to do with the thing, besides its role.
enum Scope<'a> {
    /// Nothing.
    All,
    /// A tenant's account must be of this tenant.
    Tenant(&'a TenantId),
    /// A tenant's account must be of the tenant of this account.
    TenantOf(&'a AccountId),
    /// A tenant's account must be of the founder.
    Founder(&'a ConsortiumId),
    /// A tenant's account must be of an active member.
    Member(&'a ConsortiumId),
    /// Any account must own this session.
    OwnSession(&'a Digest),
}

/// Checks that `actor` may give `command`.
///
/// # Errors
/// `PermissionDenied`, `AccountUnusable`, `NotAMember`, or `NotFound` of what the scope names.
pub fn check(state: &State, actor: &Actor, command: &Command) -> Result<(), Rejection> {
    let rule = rule(command);
    let denied =
        |needs: String| Rejection::PermissionDenied { actor: actor.to_string(), action: command.name().into(), needs };
    let id = match actor {
        Actor::System if rule.system => return Ok(()),
        Actor::SetupCode if rule.setup_code => return Ok(()),
        Actor::System | Actor::SetupCode => return Err(denied(needs(&rule))),
        Actor::Account(id) => id,
    };
    let Some(account) = state.accounts.get(id) else {
        return Err(denied("the account does not exist".into()));
    };
    if account.suspended.is_some() {
        return Err(Rejection::AccountUnusable { account: name::account(id), state: "suspended".into() });
    }
    let own_tenant = match &account.role {
        Role::Platform(role) if rule.platform.contains(role) => None,
        Role::Tenant { tenant, role } if rule.tenant.contains(role) => Some(tenant),
        Role::Platform(_) | Role::Tenant { .. } => return Err(denied(needs(&rule))),
    };
    match (&rule.scope, own_tenant) {
        (Scope::OwnSession(token), _) => match state.sessions.get(*token) {
            Some(session) if session.account == *id => Ok(()),
            // Whether another's session exists is not told.
            Some(_) | None => Err(denied("the session must be the account's own".into())),
        },
        (_, None) | (Scope::All, Some(_)) => Ok(()),
        (Scope::Tenant(tenant), Some(own)) if own == *tenant => Ok(()),
        (Scope::TenantOf(other), Some(own)) if other.tenant() == Some(own) => Ok(()),
        (Scope::Founder(consortium), Some(own)) if find(state, consortium)?.founder == *own => Ok(()),
        (Scope::Member(consortium), Some(own)) => member(find(state, consortium)?, own),
        (Scope::Tenant(tenant), Some(_)) => Err(denied(format!("needs an account of tenants/{tenant}"))),
        (Scope::TenantOf(_), Some(_)) => Err(denied("needs an account of the same tenant, or an administrator".into())),
        (Scope::Founder(_), Some(_)) => Err(denied("needs an account of the consortium's founder".into())),
    }
}

/// Checks that the session in which a request was asked for, if it names one, is open and its account's own.
///
/// The API authenticates against a state that may be a moment behind; this is the word that counts.
///
/// # Errors
/// `SessionOver`; a suspension closes the sessions of its account.
pub(crate) fn check_session(state: &State, request: &Request) -> Result<(), Rejection> {
    let Some(key) = &request.session else { return Ok(()) };
    let over = || Rejection::SessionOver { actor: request.actor.to_string() };
    let Actor::Account(account) = &request.actor else { return Err(over()) };
    match state.sessions.get(key) {
        Some(session) if session.account == *account && session.expires_at > state.now => Ok(()),
        Some(_) | None => Err(over()),
    }
}

fn rule(command: &Command) -> Rule<'_> {
    match command {
        Command::InitCluster(_)
        | Command::CheckDigest(_)
        | Command::RestoreCluster(_)
        | Command::OpenSession(_)
        | Command::RecordLoginFailure(_)
        | Command::CloseProposal(_)
        | Command::RecordHostFacts(_)
        | Command::RecordHostKeyChanged(_)
        | Command::RecordGenesis(_)
        | Command::RecordIntent(_)
        | Command::RecordNodeFact(_)
        | Command::RecordContractFact(_)
        | Command::RecordReplica(_)
        | Command::RemoveOrphan(_)
        | Command::RecordMachineIntent(_)
        | Command::RecordMachineFact(_)
        | Command::RemoveCloudOrphan(_)
        | Command::PurgeChain(_)
        | Command::RollNode(_)
        | Command::ReleaseNode(_)
        | Command::ExchangeProgram(_)
        | Command::RecordUnseated(_)
        | Command::EndAdoption(_)
        | Command::RecordEvicted(_)
        | Command::Meter(_) => Rule { system: true, ..deny() },
        Command::Bootstrap(_) => Rule { setup_code: true, ..deny() },
        Command::CreateAccount(c) => accounts(&c.account),
        Command::SuspendAccount(c) => accounts(&c.account),
        Command::RestoreAccount(c) => accounts(&c.account),
        Command::CloseSession(c) => Rule {
            system: true,
            platform: ANY_PLATFORM,
            tenant: ANY_TENANT,
            scope: Scope::OwnSession(&c.token_hash),
            ..deny()
        },
        Command::CreateTenant(_)
        | Command::SetPlan(_)
        | Command::AcceptHostKey(_)
        | Command::SetHostReach(_)
        | Command::RetireHost(_)
        | Command::CreateBackup(_)
        | Command::ResumeCluster(_)
        | Command::AddReplica(_)
        | Command::PromoteReplica(_)
        | Command::RemoveReplica(_)
        | Command::TransferLeader(_)
        | Command::UndeleteChain(_)
        | Command::RaiseClusterVersion(_)
        | Command::PinPublisher(_)
        | Command::AddCloud(_)
        | Command::RemoveCloud(_)
        | Command::UnpinPublisher(_) => Rule { platform: ADMINISTRATOR, ..deny() },
        Command::SetTenantMetadata(c) => {
            Rule { platform: ADMINISTRATOR, tenant: VOTERS, scope: Scope::Tenant(&c.tenant), ..deny() }
        }
        Command::CreateConsortium(c) => Rule { tenant: OWNER, scope: Scope::Tenant(&c.founder), ..deny() },
        Command::InviteMember(c) => Rule { tenant: OWNER, scope: Scope::Founder(&c.consortium), ..deny() },
        Command::JoinConsortium(c) => Rule { tenant: OWNER, scope: Scope::Tenant(&c.tenant), ..deny() },
        Command::ActivateConsortium(c) => Rule { tenant: OWNER, scope: Scope::Founder(&c.consortium), ..deny() },
        Command::OpenProposal(c) => Rule { tenant: VOTERS, scope: Scope::Member(&c.consortium), ..deny() },
        Command::CastBallot(c) => Rule { tenant: VOTERS, scope: Scope::Tenant(&c.voter), ..deny() },
        Command::EnrolHost(_)
        | Command::CordonHost(_)
        | Command::UncordonHost(_)
        | Command::SetHostProperties(_)
        | Command::BeginHostMaintenance(_)
        | Command::DrainHost(_)
        | Command::CreateMachine(_)
        | Command::DeleteMachine(_)
        | Command::PauseChain(_)
        | Command::ResumeChain(_)
        | Command::RollChain(_)
        | Command::ImportChain(_)
        | Command::ForgetChain(_)
        | Command::AdoptChain(_)
        | Command::GiveBackNode(_)
        | Command::SetChainRepair(_)
        | Command::ContinueRollout(_) => Rule { platform: OPERATORS, ..deny() },
        Command::DeleteArtifact(_) => Rule { platform: OPERATORS, ..deny() },
        Command::ImportArtifact(c) => match c.word {
            Word::Signed { .. } => Rule { platform: OPERATORS, ..deny() },
            Word::Unsigned { .. } => Rule { platform: ADMINISTRATOR, ..deny() },
        },
        Command::MoveNode(c) if c.lost => Rule { platform: ADMINISTRATOR, ..deny() },
        // The system calls off what comes too late.
        Command::MoveNode(_) | Command::RestartNode(_) | Command::HaltRollout(_) | Command::RollBackChain(_) => {
            Rule { system: true, platform: OPERATORS, ..deny() }
        }
        Command::DeployContract(c) => {
            Rule { tenant: DEVELOPERS, scope: Scope::Member(&c.contract.chain.consortium), ..deny() }
        }
        Command::RecordTransaction(c) => Rule { tenant: SENDERS, scope: Scope::Member(&c.chain.consortium), ..deny() },
    }
}

fn deny<'a>() -> Rule<'a> {
    Rule { system: false, setup_code: false, platform: &[], tenant: &[], scope: Scope::All }
}

fn accounts(account: &AccountId) -> Rule<'_> {
    Rule { platform: ADMINISTRATOR, tenant: OWNER, scope: Scope::TenantOf(account), ..deny() }
}

fn needs(rule: &Rule<'_>) -> String {
    let mut who: Vec<String> = Vec::new();
    who.extend(rule.system.then(|| "the system".into()));
    who.extend(rule.setup_code.then(|| "the setup code".into()));
    who.extend(rule.platform.iter().map(|role| format!("platform {role:?}")));
    who.extend(rule.tenant.iter().map(|role| format!("tenant {role:?}")));
    format!("needs {}", who.join(" or "))
}

fn find<'a>(state: &'a State, id: &ConsortiumId) -> Result<&'a Consortium, Rejection> {
    crate::consortium::query::get(state, id)
}

fn member(consortium: &Consortium, tenant: &TenantId) -> Result<(), Rejection> {
    match consortium.members.get(tenant) {
        Some(member) if member.state == MemberState::Active => Ok(()),
        Some(_) | None => Err(Rejection::NotAMember {
            field: "actor".into(),
            tenant: tenant.to_string(),
            what: name::consortium(&consortium.id),
        }),
    }
}
