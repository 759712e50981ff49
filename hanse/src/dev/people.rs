//! The demo's people: an administrator and four owners, each with a session and, for the owners, a member key that the
//! platform never sees.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use hanse_client::{Client, ClientConfig, MemberKey, pb};

use super::ground::Ground;
use crate::wallet::Wallet;

/// The demo's tenants: id and display name. The first one founds the consortium.
pub(crate) const TENANTS: [(&str, &str); 4] =
    [("acme", "Acme Trading"), ("bocom", "Bocom Bank"), ("sgcc", "SGCC Grid"), ("huaneng", "Huaneng Power")];
/// The administrator's account.
pub(crate) const ADMIN: &str = "admin";

/// Everyone with a session.
pub(crate) struct People {
    /// The administrator's client.
    pub(crate) admin: Client,
    /// The administrator's session token.
    pub(crate) token: String,
    /// Each owner's client, by tenant.
    pub(crate) owners: BTreeMap<String, Client>,
    /// Each member's signing key, by tenant.
    pub(crate) keys: BTreeMap<String, MemberKey>,
}

impl People {
    /// The founder's client.
    pub(crate) fn founder(&self) -> Result<&Client> {
        self.owners.get(TENANTS[0].0).context("the founder has a session")
    }
}

/// The owner account of `tenant`.
pub(crate) fn owner(tenant: &str) -> String {
    format!("owner@{tenant}")
}

/// A client without a session.
pub(crate) fn stranger(ground: &Ground) -> Result<Client> {
    client(ground, ground.endpoints())
}

/// A client for exactly these replicas.
pub(crate) fn client(ground: &Ground, endpoints: Vec<String>) -> Result<Client> {
    let path = ground.api_ca();
    let ca = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(Client::new(ClientConfig::new(endpoints, ca))?)
}

/// Logs `account` in and returns its client and token.
pub(crate) async fn login(ground: &mut Ground, account: &str) -> Result<(Client, String)> {
    let password = ground.password(account)?;
    let client = stranger(ground)?;
    let request = pb::LoginRequest { account: account.into(), password, ..Default::default() };
    let response = client.call(request).await.with_context(|| format!("log {account} in"))?;
    client.set_token(Some(&response.token))?;
    Ok((client, response.token))
}

/// The account with which `tenant` signs changes of the running chain, made on first use.
pub(crate) fn governor(ground: &Ground, tenant: &str) -> Result<Wallet> {
    super::ledger::wallet(&ground.dir.join(format!("keys/{tenant}.account")))
}

/// The member key of `tenant`, made on first use and kept in the demo's folder.
pub(crate) fn member_key(ground: &Ground, tenant: &str) -> Result<MemberKey> {
    let path = ground.dir.join(format!("keys/{tenant}.member"));
    if path.exists() {
        return MemberKey::load(&path).with_context(|| format!("load {}", path.display()));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let key = MemberKey::generate()?;
    key.save_new(&path).with_context(|| format!("keep {}", path.display()))?;
    Ok(key)
}
