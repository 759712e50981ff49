//! AccountService: logins, sessions, accounts.

use std::time::Duration;

use hanse_proto::v1 as pb;
use hanse_proto::v1::account_service_server::AccountService;
use hanse_state::account::{
    CloseSession, CreateAccount, OpenSession, RecordLoginFailure, RestoreAccount, SESSION_LIFETIME_MS_MAX,
    SuspendAccount,
};
use hanse_state::ids::AccountId;
use hanse_state::{Actor, Command, Digest, Secret, State};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, convert, found, matches, request_id, source};
use crate::auth::token;
use crate::context::Context;
use crate::error::ApiError;
use crate::propose::{Done, Order as Wanted, propose, system_id};

/// A session ends this long before the longest life that the state allows: log time may run ahead of this clock.
const CLOCK_SLACK_MS: u64 = 60_000;

/// A refused login is answered at a multiple of this after its begin, so that the time tells nothing of the account:
/// whether it exists, is locked, or cost an entry of the log. Longer than a hash and an entry take together.
const REFUSAL_BEAT: Duration = Duration::from_millis(500);

/// Who may act.
pub(crate) struct Accounts(Context);

impl Accounts {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }

    /// Proposes in the name of the platform itself.
    async fn as_system(&self, source: &str, command: Command) -> Result<Done, ApiError> {
        let order = Wanted { id: system_id()?, actor: Actor::System, session: None, source: source.into(), command };
        propose(&self.0, order).await
    }

    /// Verifies the password and gives the account; every failure costs the same and reads the same.
    async fn verify(&self, text: &str, password: Zeroizing<String>, source: &str) -> Result<AccountId, ApiError> {
        if let Some(wait) = self.0.throttle().wait_ms(source, self.0.now().0) {
            let why = "too many failed logins from this address";
            return Err(ApiError::exhausted("TOO_MANY_ATTEMPTS", why, Duration::from_millis(wait).as_secs() + 1));
        }
        let state = self.0.read().await?;
        let account = text.parse().ok().and_then(|id: AccountId| state.accounts.get(&id));
        let stored = account.map(|account| account.password_hash.expose().to_string());
        let matches = self.0.passwords().verify(password, stored).await?;
        if let (true, Some(account)) = (matches, account) {
            return Ok(account.id.clone());
        }
        self.0.throttle().failed(source, self.0.now().0);
        if let Some(account) = account {
            let command = RecordLoginFailure { account: account.id.clone(), source: source.into() };
            // A refusal (locked already) changes nothing for the caller; a lost leader must not read as a wrong password.
            match self.as_system(source, Command::RecordLoginFailure(command)).await {
                Err(error) if error.code() == tonic::Code::Unavailable => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Err(ApiError::unauthenticated("WRONG_CREDENTIALS", "account or password is wrong, or the account is locked"))
    }

    /// Opens a session for a verified account and gives its token.
    async fn open(
        &self,
        account: AccountId,
        wished_ms: i64,
        source: &str,
    ) -> Result<(token::Token, Digest, Done), ApiError> {
        let longest = SESSION_LIFETIME_MS_MAX - CLOCK_SLACK_MS;
        let lifetime = u64::try_from(wished_ms).ok().filter(|ms| *ms > 0).map_or(longest, |ms| ms.min(longest));
        let token = token::mint().ok_or_else(|| ApiError::internal("randomness", "the system gave none"))?;
        let key = Digest::of(token.as_bytes());
        // Log time may be ahead of this clock, if a former leader's clock was; the session is judged by the log's.
        let expires_at = self.0.now().max(self.0.replica().local().now).plus(lifetime);
        let command = OpenSession { account, token_hash: key, expires_at, source: source.into() };
        let done = self.as_system(source, Command::OpenSession(command)).await.map_err(as_login_refusal)?;
        Ok((token, key, done))
    }
}

/// When a login that began at `begun` and was refused at `now` is answered.
fn next_beat(begun: Instant, now: Instant) -> Instant {
    let beats = now.duration_since(begun).as_millis() / REFUSAL_BEAT.as_millis() + 1;
    begun + REFUSAL_BEAT * u32::try_from(beats).unwrap_or(u32::MAX)
}

/// A locked or suspended account is told like a wrong password: a guesser must not learn that the guess was right.
fn as_login_refusal(error: ApiError) -> ApiError {
    if error.reason() == "ACCOUNT_UNUSABLE" {
        let text = "account or password is wrong, or the account is locked";
        return ApiError::unauthenticated("WRONG_CREDENTIALS", text);
    }
    error
}

/// Salt of a new password: different for every account and request, and the same when the same request is tried again,
/// so that a retry is the same command. A salt need not be secret, only not shared.
pub(crate) fn salt(state: &State, request_id: &str, account: &AccountId) -> [u8; 16] {
    let cluster = state.cluster.as_ref().map(|cluster| cluster.id.to_string()).unwrap_or_default();
    let text = format!("hanse salt v1\n{cluster}\n{request_id}\n{account}\n");
    let mut salt = [0; 16];
    salt.copy_from_slice(&Digest::of(text.as_bytes()).as_bytes()[..16]);
    salt
}

#[tonic::async_trait]
impl AccountService for Accounts {
    async fn login(&self, mut request: Request<pb::LoginRequest>) -> Result<Response<pb::LoginResponse>, Status> {
        let password = Zeroizing::new(std::mem::take(&mut request.get_mut().password));
        let source = source(&request);
        let it = request.into_inner();
        // A token is shown once and kept nowhere, so a retry cannot get the first one again: it opens a session of its own.
        request_id(&it.request_id, self.0.log_clock())?;
        let named = |error: ApiError| error.with_request(&it.request_id);
        let begun = Instant::now();
        let opened = async {
            let account = self.verify(&it.account, password, &source).await?;
            let (token, key, done) = self.open(account.clone(), it.lifetime_ms, &source).await?;
            Ok((account, token, key, done))
        };
        let (account, token, key, done) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                tokio::time::sleep_until(next_beat(begun, Instant::now())).await;
                return Err(named(error).into());
            }
        };
        let session = found("session", done.state.sessions.get(&key))?;
        let account = found("account", done.state.accounts.get(&account))?;
        Ok(Response::new(pb::LoginResponse {
            header: super::header(&self.0, &done.state, done.revision),
            token: token.to_string(),
            expires_at_ms: convert::ms(session.expires_at),
            account: Some(convert::account::account(account, done.state.now)),
        }))
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Result<Response<pb::LogoutResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let command = Command::CloseSession(CloseSession { token_hash: call.caller.session_key });
        let wish = Wish { request_id: &request.get_ref().request_id, validate_only: false };
        let done = call.write(wish, command).await?;
        Ok(Response::new(pb::LogoutResponse { header: call.header(done.revision) }))
    }

    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Result<Response<pb::WhoAmIResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let caller = &call.caller;
        Ok(Response::new(pb::WhoAmIResponse {
            header: call.read_header(),
            account: Some(convert::account::account(&caller.account, call.state.now)),
            session: Some(convert::account::session(&caller.session_key, &caller.session, Some(&caller.session_key))),
        }))
    }

    async fn create_account(
        &self,
        mut request: Request<pb::CreateAccountRequest>,
    ) -> Result<Response<pb::CreateAccountResponse>, Status> {
        let password = Zeroizing::new(std::mem::take(&mut request.get_mut().password));
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let account: AccountId = convert::id("account", &it.account)?;
        if let (Some(tenant), false) = (account.tenant(), call.caller.is_platform()) {
            call.sight().tenant(tenant)?;
        }
        let role = convert::account::role_of(&account, it.role)?;
        let salt = salt(&call.state, &it.request_id, &account);
        let order = |hash: String| {
            let (account, role) = (account.clone(), role.clone());
            Command::CreateAccount(CreateAccount { account, role, password_hash: Secret::new(hash) })
        };
        // Nobody makes this replica hash a password who may not use the result.
        call.may(&order(String::new()))?;
        let command = order(self.0.passwords().hash("password", password, salt).await?);
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        let made = found("account", done.state.accounts.get(&account))?;
        let account = Some(convert::account::account(made, done.state.now));
        Ok(Response::new(pb::CreateAccountResponse { header: call.header(done.revision), account }))
    }

    async fn list_accounts(
        &self,
        request: Request<pb::ListAccountsRequest>,
    ) -> Result<Response<pb::ListAccountsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<AccountId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let tenant = if it.tenant.is_empty() { None } else { Some(convert::id("tenant", &it.tenant)?) };
        let sight = call.sight();
        let keep = |id: &AccountId| {
            sight.sees_account(id)
                && (tenant.is_none() || id.tenant() == tenant.as_ref())
                && matches(&it.filter, &[&id.to_string()])
        };
        let items = call.state.accounts.iter().filter(|(id, _)| keep(id));
        let show = |(id, account): (&AccountId, _)| (id.clone(), convert::account::account(account, call.state.now));
        let (accounts, next_page_token) = page.take(Order::Ascending, items.map(show));
        Ok(Response::new(pb::ListAccountsResponse { header: call.read_header(), accounts, next_page_token }))
    }

    async fn suspend_account(
        &self,
        request: Request<pb::SuspendAccountRequest>,
    ) -> Result<Response<pb::SuspendAccountResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let account: AccountId = convert::id("account", &it.account)?;
        call.sight().account(&account)?;
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let command = SuspendAccount { account: account.clone(), reason };
        let done = call.write(wish, Command::SuspendAccount(command)).await?;
        let made = found("account", done.state.accounts.get(&account))?;
        let account = Some(convert::account::account(made, done.state.now));
        Ok(Response::new(pb::SuspendAccountResponse { header: call.header(done.revision), account }))
    }

    async fn restore_account(
        &self,
        request: Request<pb::RestoreAccountRequest>,
    ) -> Result<Response<pb::RestoreAccountResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let account: AccountId = convert::id("account", &it.account)?;
        call.sight().account(&account)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let command = RestoreAccount { account: account.clone() };
        let done = call.write(wish, Command::RestoreAccount(command)).await?;
        let made = found("account", done.state.accounts.get(&account))?;
        let account = Some(convert::account::account(made, done.state.now));
        Ok(Response::new(pb::RestoreAccountResponse { header: call.header(done.revision), account }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<SessionPlace>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let of = if it.account.is_empty() {
            call.caller.account.id.clone()
        } else {
            call.sight().account(&convert::id("account", &it.account)?)?.id.clone()
        };
        let own = Some(&call.caller.session_key);
        let open = call.state.sessions.iter().filter(|(_, session)| {
            session.account == of && session.expires_at > call.state.now && call.sight().session(session)
        });
        let mut items: Vec<_> = open
            .map(|(key, session)| {
                (SessionPlace(session.opened_at.0, *key), convert::account::session(key, session, own))
            })
            .collect();
        items.sort_by_key(|(place, _)| *place);
        let (sessions, next_page_token) = page.take(Order::Ascending, items.into_iter());
        Ok(Response::new(pb::ListSessionsResponse { header: call.read_header(), sessions, next_page_token }))
    }

    async fn revoke_session(
        &self,
        request: Request<pb::RevokeSessionRequest>,
    ) -> Result<Response<pb::RevokeSessionResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let key: Digest = convert::hex("session", &it.session)?;
        // A session that is gone already may be the work of this very request's first try: the state decides.
        if call.state.sessions.get(&key).is_some_and(|session| !call.sight().session(session)) {
            return Err(ApiError::not_found("session", "sessions").into());
        }
        let wish = Wish { request_id: &it.request_id, validate_only: false };
        let done = call.write(wish, Command::CloseSession(CloseSession { token_hash: key })).await?;
        Ok(Response::new(pb::RevokeSessionResponse { header: call.header(done.revision) }))
    }
}

/// Place of a session in a list ordered by when it was opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SessionPlace(u64, Digest);

impl std::fmt::Display for SessionPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl std::str::FromStr for SessionPlace {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (opened, key) = text.split_once('.').ok_or(())?;
        Ok(Self(opened.parse().map_err(|_| ())?, key.parse().map_err(|_| ())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_come_on_the_beat_whatever_they_cost() {
        let begun = Instant::now();
        for (took_ms, answered_ms) in [(0, 500), (1, 500), (60, 500), (499, 500), (500, 1_000), (1_234, 1_500)] {
            let at = next_beat(begun, begun + Duration::from_millis(took_ms));
            assert_eq!(at.duration_since(begun), Duration::from_millis(answered_ms), "after {took_ms} ms");
        }
    }
}
