//! Canaries: secrets whose every place at rest is known, looked for after a run in all that a cluster leaves behind.
//!
//! How it works. [`plant`] fills every secret field of the API (setup code, passwords that are right, wrong or refused,
//! session tokens that are open, closed or made up) and makes the keys that never leave their machine (a member's, an
//! account's, a backup's); the replicas' own private keys are canaries as well. [`look`] then makes a plain and an encrypted
//! backup, exports the audit trail, makes a bundle for helpers from each replica, stops the replicas and lets `grep` search
//! their folders and logs and all of that, for each secret as it is, in hexadecimal and in base64. A harmless text that must be
//! found in the same places shows that the search can see.
//!
//! What it never does. It does not search for keys as raw bytes, nor compressed or encrypted data, memory, swap or freed blocks of a disk. Where a secret
//! belongs is not a leak: private keys in the `tls` folders, the setup code in the terminal's output of a first start.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use hanse_client::{new_request_id, pb};

use crate::processes::cluster::Cluster;
use crate::processes::net::Net;
use crate::processes::stage::Stage;

/// Tenant whose owner's secrets are canaries.
pub(crate) const TENANT: &str = "canary";
/// Folder of the exports, and of the keys that stay with their owners.
const OUT: &str = "canary-out";
const KEPT: &str = "canary-kept";
/// Output of a replica's terminal, where a first start shows the setup code.
const TERMINAL: &str = "replica.out";
/// Leaks told at most.
const TOLD_MAX: usize = 10;
/// Letters of a secret that are looked for at least; anything shorter would be found by chance.
const LETTERS_MIN: usize = 12;

/// One secret.
#[derive(Clone, Debug)]
pub(crate) struct Canary {
    /// What it is.
    name: String,
    /// Its letters.
    text: String,
    /// Name of the file in which it may be.
    allowed: Option<&'static str>,
}

/// The secrets of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Canaries {
    secrets: Vec<Canary>,
    /// No secret: must be found, or the search sees nothing.
    witness: String,
}

/// What a search has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaks {
    /// Secrets that were looked for.
    pub(crate) canaries: u64,
    /// Files and secrets in them.
    pub(crate) found: u64,
    /// Bytes searched.
    pub(crate) bytes: u64,
    /// The first leaks, in words, without the secret.
    pub(crate) told: Vec<String>,
}

impl Canaries {
    fn add(&mut self, name: &str, text: &str) -> Result<()> {
        ensure!(text.len() >= LETTERS_MIN, "{name} is too short to be looked for");
        self.secrets.push(Canary { name: name.into(), text: text.into(), allowed: None });
        Ok(())
    }
}

/// Fills the secret fields of the API and remembers what it filled in.
pub(crate) fn plant(stage: &mut Stage) -> Result<Canaries> {
    let mut canaries = Canaries { witness: format!("witness-{}", new_request_id()), ..Canaries::default() };
    let [code, password, token] = &stage.clients.secrets;
    canaries.secrets.push(Canary { name: "setup code".into(), text: code.clone(), allowed: Some(TERMINAL) });
    canaries.add("administrator's password", password)?;
    canaries.add("administrator's token", token)?;
    let owner = format!("owner@{TENANT}");
    let own = secret();
    let tenant = pb::CreateTenantRequest {
        tenant: TENANT.into(),
        display_name: canaries.witness.clone(),
        owner_account: owner.clone(),
        owner_password: own.clone(),
        ..Default::default()
    };
    stage.clients.call(tenant)?.context("make the canaries' tenant")?;
    canaries.add("owner's password", &own)?;
    let login =
        |password: &str| pb::LoginRequest { account: owner.clone(), password: password.into(), ..Default::default() };
    let [open, closed] = [0, 1].map(|_| stage.clients.call(login(&own)));
    let (open, closed) = (open?.context("log the owner in")?.token, closed?.context("log the owner in")?.token);
    stage.clients.call_as(&closed, pb::LogoutRequest::default())?.context("log the owner out")?;
    canaries.add("open token", &open)?;
    canaries.add("closed token", &closed)?;
    refused(stage, &mut canaries, &owner)?;
    keys(stage, &mut canaries, &open)?;
    Ok(canaries)
}

/// Secrets in calls that are refused: nobody may find them either.
fn refused(stage: &Stage, canaries: &mut Canaries, owner: &str) -> Result<()> {
    let wrong = secret();
    let login = pb::LoginRequest { account: owner.into(), password: wrong.clone(), ..Default::default() };
    ensure!(stage.clients.call(login)?.is_err(), "a wrong password was taken");
    canaries.add("wrong password", &wrong)?;
    let second = secret();
    let account = pb::CreateAccountRequest {
        account: owner.into(),
        role: pb::Role::TenantOwner.into(),
        password: second.clone(),
        ..Default::default()
    };
    ensure!(stage.clients.call(account)?.is_err(), "an account was made twice");
    canaries.add("refused account's password", &second)?;
    let (code, third) = (secret(), secret());
    let bootstrap = pb::BootstrapRequest {
        setup_code: code.clone(),
        account: "second".into(),
        password: third.clone(),
        ..Default::default()
    };
    ensure!(stage.clients.call(bootstrap)?.is_err(), "a spent setup code was taken");
    canaries.add("wrong setup code", &code)?;
    canaries.add("second administrator's password", &third)?;
    let made_up = format!("hanse_{}", secret());
    let asked = stage.clients.call_as(&made_up, pb::WhoAmIRequest {})?;
    ensure!(asked.is_err(), "a made-up token was taken");
    canaries.add("made-up token", &made_up)
}

/// Keys that stay with their owners, used as far as a cluster without hosts lets them be.
fn keys(stage: &Stage, canaries: &mut Canaries, owner: &str) -> Result<()> {
    let kept = stage.cluster.dir().join(KEPT);
    std::fs::create_dir_all(&kept).with_context(|| format!("make {}", kept.display()))?;
    let file = |name: &str| kept.join(name).display().to_string();
    let cli = |args: &[&str]| stage.cluster.cli_as(&stage.net, &kept.join("owner.token"), args);
    hanse_client::files::replace(&kept.join("owner.token"), owner.as_bytes()).context("keep the owner's session")?;
    let (member, account) = (file("member.key"), file("account.key"));
    cli(&["key", "generate", &member])?;
    cli(&["key", "account-generate", &account])?;
    cli(&["backup", "keygen", &file("backup.key")])?;
    cli(&["consortium", "create", "canaries", "--create-chain-policy", "two-thirds", "--key", &member])?;
    for path in [kept.join("member.key"), kept.join("account.key"), kept.join("backup.key")] {
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let letters = longest_line(&text);
        canaries.add(&format!("key {}", path.file_name().unwrap_or_default().display()), letters)?;
    }
    Ok(())
}

/// The replicas' own private keys.
fn private_keys(homes: &[PathBuf], canaries: &mut Canaries) -> Result<()> {
    for home in homes {
        for name in ["peer.key", "api.key"] {
            let path = home.join("tls").join(name);
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            canaries.add(&format!("{} of {}", name, home.display()), longest_line(&text))?;
        }
    }
    Ok(())
}

fn longest_line(text: &str) -> &str {
    let lines = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim);
    lines.max_by_key(|line| line.len()).unwrap_or_default()
}

fn secret() -> String {
    format!("canary-{}", new_request_id())
}

/// Makes what a cluster gives away, stops the replicas, and searches everything.
///
/// # Errors
/// The search itself failed, or saw nothing of what must be there: then nothing is proven.
pub(crate) fn look(stage: &mut Stage, canaries: &Canaries) -> Result<Leaks> {
    let Stage { cluster, net, .. } = stage;
    let mut canaries = canaries.clone();
    let homes = cluster.homes();
    private_keys(&homes, &mut canaries)?;
    let out = cluster.dir().join(OUT);
    std::fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    give_away(cluster, net, &out)?;
    for id in cluster.ids() {
        cluster.stop(id)?;
    }
    let roots: Vec<PathBuf> = homes.into_iter().chain([out]).collect();
    let leaks = search(&canaries.secrets, &roots)?;
    let witness = Canary { name: "witness".into(), text: canaries.witness.clone(), allowed: None };
    for root in roots {
        // A replica that left early may not have had the tenant yet.
        let seen = search(std::slice::from_ref(&witness), std::slice::from_ref(&root))?;
        let must = root.ends_with(OUT) || cluster.ids().iter().any(|id| root.ends_with(format!("n{id}")));
        ensure!(
            !must || seen.found > 0,
            "{} does not even hold what is no secret: the search is blind",
            root.display()
        );
    }
    Ok(leaks)
}

fn give_away(cluster: &Cluster, net: &Net, out: &Path) -> Result<()> {
    let file = |name: &str| out.join(name).display().to_string();
    let key = cluster.dir().join(KEPT).join("backup.key").display().to_string();
    cluster.cli(net, &["backup", "create", &file("plain.hbk"), "--plain", "--timeout", "120s"])?;
    cluster.cli(net, &["backup", "create", &file("sealed.hbk"), "--key-file", &key, "--timeout", "120s"])?;
    for (name, args) in [
        ("audit.jsonl", &["audit", "export", "--timeout", "120s"][..]),
        ("status.json", &["cluster", "status", "-o", "json"]),
        ("sessions.json", &["session", "list", "-o", "json"]),
        ("accounts.json", &["account", "list", "-o", "json"]),
    ] {
        std::fs::write(out.join(name), cluster.cli(net, args)?).with_context(|| format!("write {name}"))?;
    }
    for id in cluster.ids() {
        let home = cluster.home(id)?;
        let (config, log) = (home.join("hanse.toml"), home.join("replica.log"));
        let (config, log) = (config.display().to_string(), log.display().to_string());
        let bundle = file(&format!("bundle-{id}.json"));
        cluster.cli(net, &["debug", "bundle", "--config", &config, "--log", &log, "--out", &bundle])?;
    }
    Ok(())
}

/// Searches files and folders for secrets, in every form.
fn search(secrets: &[Canary], roots: &[PathBuf]) -> Result<Leaks> {
    let mut patterns = String::new();
    for canary in secrets {
        for form in forms(&canary.text) {
            patterns.push_str(&form);
            patterns.push('\n');
        }
    }
    let mut leaks = Leaks { canaries: secrets.len() as u64, bytes: bytes_below(roots)?, ..Leaks::default() };
    let mut told = BTreeSet::new();
    for (path, found) in grep(&patterns, roots)? {
        let Some(canary) = secrets.iter().find(|canary| forms(&canary.text).contains(&found)) else {
            bail!("grep found what nobody looked for in {path}");
        };
        if canary.allowed.is_none_or(|name| Path::new(&path).file_name().is_none_or(|file| file != name)) {
            told.insert(format!("the {} lies in clear in {path}", canary.name));
        }
    }
    leaks.found = told.len() as u64;
    leaks.told = told.into_iter().take(TOLD_MAX).collect();
    Ok(leaks)
}

/// As it is, in hexadecimal, and in base64 at each of the three places a letter can have in it.
fn forms(text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![text.to_owned(), hex.to_uppercase(), hex];
    for skip in 0..3 {
        let rest = text.get(skip..).unwrap_or_default();
        let whole = rest.len() / 3 * 3;
        forms.push(base64(&rest.as_bytes()[..whole]));
    }
    forms
}

/// Base64 of whole groups of three bytes.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let groups = bytes.chunks_exact(3).map(|group| group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)));
    groups.flat_map(|bits| [bits >> 18, bits >> 12, bits >> 6, bits].map(letter)).collect()
}

/// Files and what was found in them. The folders of the replicas' certificates are left out.
fn grep(patterns: &str, roots: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let mut file = tempfile::NamedTempFile::new().context("make a file of patterns")?;
    file.write_all(patterns.as_bytes()).context("write the patterns")?;
    let output = Command::new("grep")
        .args(["--recursive", "--text", "--fixed-strings", "--only-matching", "--with-filename", "--null"])
        .args(["--exclude-dir=tls", "--file"])
        .arg(file.path())
        .arg("--")
        .args(roots)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("start grep")?;
    // 0: found; 1: nothing found; anything else: not everything was read.
    ensure!(matches!(output.status.code(), Some(0 | 1)), "grep: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| line.split_once('\0').map(|(path, found)| (path.to_owned(), found.to_owned())))
        .collect::<Option<Vec<_>>>()
        .context("grep printed what it should not")
}

fn bytes_below(roots: &[PathBuf]) -> Result<u64> {
    let mut open: Vec<PathBuf> = roots.to_vec();
    let mut bytes = 0;
    while let Some(path) = open.pop() {
        let meta = path.symlink_metadata().with_context(|| format!("look at {}", path.display()))?;
        if meta.is_dir() {
            for entry in path.read_dir().with_context(|| format!("list {}", path.display()))? {
                open.push(entry.context("list a folder")?.path());
            }
        } else {
            bytes += meta.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn canary(text: &str, allowed: Option<&'static str>) -> Canary {
        Canary { name: "password".into(), text: text.into(), allowed }
    }

    /// What a search finds of `text` planted as `bytes` into a file of that name, deep in a folder.
    fn planted(text: &str, bytes: &[u8], name: &str, allowed: Option<&'static str>) -> Leaks {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("n1/data/log");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("clean"), [0u8, 255, 10, 13]).unwrap();
        // Amid bytes that are no text and without a line's end near it.
        let content = [&[0u8, 159, 146, 150][..], &vec![b'x'; 100_000], bytes, &vec![0u8; 100_000]].concat();
        std::fs::create_dir_all(dir.path().join("n1/tls")).unwrap();
        std::fs::write(deep.join(name), content).unwrap();
        search(&[canary(text, allowed), canary("never-planted-anywhere", None)], &[dir.path().join("n1")]).unwrap()
    }

    #[test]
    fn a_planted_canary_is_found_in_every_form() {
        let text = "canary-0192-not-a-password";
        for form in forms(text) {
            let leaks = planted(text, form.as_bytes(), "000.segment", None);
            assert_eq!((leaks.canaries, leaks.found), (2, 1), "{form}");
            assert!(leaks.bytes > 200_000 && leaks.told[0].contains("000.segment"), "{leaks:?}");
            assert!(!leaks.told[0].contains(text), "the secret is not told again");
        }
        assert_eq!(planted(text, b"canary-0192-not-a-passwOrd", "000.segment", None).found, 0);
    }

    #[test]
    fn a_canary_is_no_leak_only_where_it_belongs() {
        let text = "canary-0192-not-a-password";
        assert_eq!(planted(text, text.as_bytes(), TERMINAL, Some(TERMINAL)).found, 0);
        assert_eq!(planted(text, text.as_bytes(), "replica.log", Some(TERMINAL)).found, 1);
        assert_eq!(planted(text, text.as_bytes(), TERMINAL, None).found, 1);
    }

    #[test]
    fn base64_at_every_place_holds_one_of_the_forms() {
        // Made by coreutils: printf 'password: canary-0192-not-a-password;' | base64, with one and two letters less before.
        let whole = "cGFzc3dvcmQ6IGNhbmFyeS0wMTkyLW5vdC1hLXBhc3N3b3JkOw==";
        let less = "YXNzd29yZDogY2FuYXJ5LTAxOTItbm90LWEtcGFzc3dvcmQ7";
        let least = "c3N3b3JkOiBjYW5hcnktMDE5Mi1ub3QtYS1wYXNzd29yZDs=";
        let forms = forms("canary-0192-not-a-password");
        for text in [whole, less, least] {
            assert!(forms[3..].iter().any(|form| text.contains(form)), "{text}: {forms:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_clean_one() {
        assert!(
            search(&[canary("canary-0192-not-a-password", None)], &[PathBuf::from("/nonexistent-folder")]).is_err()
        );
    }
}
