//! Whose chain it is: four tenants with an owner each, and their consortium.

use std::path::Path;

use crate::cluster::{Cluster, hanse};

/// Everybody's.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Names of the tenants, and of the files in which their sessions are kept.
pub(crate) const TENANTS: [&str; 4] = ["acme", "bocom", "sgcc", "huaneng"];

/// Makes the tenants and their consortium `trade`, which decides by two thirds; each tenant's key is `<tenant>.key` in `dir`.
pub(crate) fn form_consortium(cluster: &Cluster, dir: &Path) {
    let with_password = |token: &str, args: &[&str]| {
        let done = cluster.ask_with(token, args, &[("HANSE_PASSWORD", PASSWORD)]);
        done.unwrap_or_else(|(code, words)| panic!("hanse {args:?}: exit {code}: {words}"));
    };
    let key = |tenant: &str| dir.join(format!("{tenant}.key")).display().to_string();
    for tenant in TENANTS {
        let owner = format!("owner@{tenant}");
        with_password("admin", &["tenant", "create", tenant, "--owner", &owner]);
        with_password(tenant, &["login", &owner]);
        hanse(&["key", "generate", &key(tenant)]);
    }
    let policy = ["--create-chain-policy", "two-thirds", "--key", &key("acme")];
    cluster.tell("acme", &[&["consortium", "create", "trade"][..], &policy].concat());
    for tenant in &TENANTS[1..] {
        cluster.tell("acme", &["consortium", "invite", "trade", tenant]);
        cluster.tell(tenant, &["consortium", "join", "trade", "--key", &key(tenant)]);
    }
    cluster.tell("acme", &["consortium", "activate", "trade", "--yes"]);
}
