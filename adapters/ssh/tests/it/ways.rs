//! Ways in: keys of other kinds, certificates of hosts and users, agents, root through sudo, and what is shown to whom.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use hanse_adapters_core::{Adapter as _, AdapterError};
use hanse_adapters_ssh::{HostKeys, HostPin, Identity, Login, SshAdapter, SshTarget, scan, scan_host_key};
use hanse_fixtures::ssh_keys::{Agent, Authority};
use hanse_fixtures::sshd::{Account, Options, Sshd};

use super::{artifact, by_way_of, key, running, sshd, target};

async fn inspect(target: SshTarget) -> Result<(), AdapterError> {
    SshAdapter::new(target)?.inspect().await.map(drop)
}

/// The words of a refusal that a person must act on.
fn denied(outcome: Result<(), AdapterError>) -> String {
    match outcome {
        Err(AdapterError::Denied { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn invalid(outcome: Result<(), AdapterError>) -> String {
    match outcome {
        Err(AdapterError::Invalid { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_other_kinds_are_pinned_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["ecdsa", "rsa"] {
        let options = Options { host_key: Some(kind), client_key: Some(kind), ..Options::default() };
        let sshd = Sshd::spawn_with(&dir.path().join(kind), options).unwrap();
        assert_eq!(scan_host_key("127.0.0.1", sshd.port).await.unwrap(), sshd.fingerprint);
        inspect(target(&sshd)).await.unwrap();
        let log = sshd.log();
        assert!(log.contains("Accepted publickey") && !log.contains("pkalg ssh-rsa "), "{log}");
    }
}

/// An sshd whose key the authority has signed for `names`.
fn certified(dir: &Path, authority: &Authority, names: &str, validity: &str) -> Sshd {
    let mut sshd = Sshd::spawn(dir).unwrap();
    let certificate = authority.sign_host(&sshd.host_public_key(), names, validity).unwrap();
    sshd.reconfigure(&format!("HostCertificate {}\n", certificate.display())).unwrap();
    sshd
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_known_by_the_authority_that_signed_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) =
        (Authority::make(&dir.path().join("ours")).unwrap(), Authority::make(&dir.path().join("other")).unwrap());
    let pinned = |sshd: &Sshd| SshTarget { pin: HostPin::Authority(ours.fingerprint.clone()), ..target(sshd) };
    let mut good = certified(&dir.path().join("good"), &ours, "127.0.0.1", "-1h:+1h");
    inspect(pinned(&good)).await.unwrap();
    let host = SshAdapter::new(pinned(&good)).unwrap();
    assert!(host.expiries().await.is_empty(), "it was not reached yet");
    host.connect().await.unwrap();
    let [ends] = host.expiries().await.try_into().unwrap();
    let left = ends.until_ms.saturating_sub(hanse_hostrun::now_ms());
    assert!((3_000_000..=3_600_000).contains(&left) && ends.renew.contains("ssh-keygen -h"), "{ends:?}");
    // Renewed on the host, beside the connection that is kept: it is told from a look, and only if there is one.
    let certificate = ours.sign_host(&good.host_public_key(), "127.0.0.1", "-1h:+3h").unwrap();
    good.reconfigure(&format!("HostCertificate {}\n", certificate.display())).unwrap();
    assert_eq!(host.expiries().await, std::slice::from_ref(&ends), "nobody has looked again");
    let looking = SshAdapter::new(pinned(&good)).unwrap().looking_every(std::time::Duration::ZERO);
    looking.connect().await.unwrap();
    let logins = |sshd: &Sshd| sshd.log().matches("Accepted publickey").count();
    let before = logins(&good);
    let certificate = ours.sign_host(&good.host_public_key(), "127.0.0.1", "-1h:+5h").unwrap();
    good.reconfigure(&format!("HostCertificate {}\n", certificate.display())).unwrap();
    let [later] = looking.expiries().await.try_into().unwrap();
    assert!(later.until_ms >= ends.until_ms + 4 * 3_500_000, "{ends:?} {later:?}");
    assert_eq!(logins(&good), before, "without a login");
    // What would not let the platform in is not believed.
    let certificate = other.sign_host(&good.host_public_key(), "127.0.0.1", "-1h:+9h").unwrap();
    good.reconfigure(&format!("HostCertificate {}\n", certificate.display())).unwrap();
    assert_eq!(looking.expiries().await, [later]);
    let certificate = ours.sign_host(&good.host_public_key(), "127.0.0.1", "-1h:+1h").unwrap();
    good.reconfigure(&format!("HostCertificate {}\n", certificate.display())).unwrap();
    // Who has pinned the key itself is not shown the certificate.
    inspect(target(&good)).await.unwrap();
    let shown = scan("127.0.0.1", good.port, Vec::new(), None).await.unwrap();
    let keys = HostKeys { fingerprint: good.fingerprint.clone(), authority: Some(ours.fingerprint.clone()) };
    assert_eq!(shown, keys);

    let bad = [
        (certified(&dir.path().join("foreign"), &other, "127.0.0.1", "-1h:+1h"), "is signed by"),
        (certified(&dir.path().join("named"), &ours, "elsewhere.example", "-1h:+1h"), "not for 127.0.0.1"),
        (certified(&dir.path().join("old"), &ours, "127.0.0.1", "-2h:-1h"), "has expired"),
        (sshd(&dir), "without a certificate"),
    ];
    for (sshd, words) in &bad {
        let reason = denied(inspect(pinned(sshd)).await);
        assert!(reason.contains(words) && reason.contains("no credential was sent"), "{words}: {reason}");
        assert!(!sshd.log().contains("userauth"), "{}", sshd.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_is_known_by_a_certificate_that_is_read_at_each_login() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::make(&dir.path().join("authority")).unwrap();
    let mut sshd = sshd(&dir);
    sshd.forget_keys().unwrap();
    sshd.reconfigure(&format!("TrustedUserCAKeys {}\n", authority.public_key().display())).unwrap();
    let public = sshd.identity_path.with_extension("pub");
    let sign = |users: &str, validity: &str| authority.sign_user(&public, users, validity).unwrap();
    let certificate = sign(&sshd.user, "-1h:+1h");
    let by_certificate = || {
        let identity = Identity::File(sshd.identity_path.clone());
        SshTarget { login: Login::Certificate { identity, certificate: certificate.clone() }, ..target(&sshd) }
    };
    denied(inspect(target(&sshd)).await);
    let host = SshAdapter::new(by_certificate()).unwrap();
    host.inspect().await.unwrap();
    assert!(sshd.log().contains("ED25519-CERT"), "{}", sshd.log());

    let [ends] = host.expiries().await.try_into().unwrap();
    assert!(ends.what.contains("the platform's SSH certificate"), "{ends:?}");
    sign(&sshd.user, "-1h:+2h");
    let [later] = host.expiries().await.try_into().unwrap();
    assert!(later.until_ms >= ends.until_ms + 3_500_000, "{ends:?} {later:?}");

    // Renewed beside the platform: nothing is started anew.
    sign("somebody-else", "-1h:+1h");
    let reason = denied(inspect(by_certificate()).await);
    assert!(reason.contains("somebody-else") && reason.contains("TrustedUserCAKeys"), "{reason}");
    sign(&sshd.user, "-2h:-1h");
    assert!(invalid(inspect(by_certificate()).await).contains("has expired"));
    std::fs::write(&certificate, "no certificate").unwrap();
    assert!(invalid(inspect(by_certificate()).await).contains("ssh-keygen -s"));
    let foreign = Sshd::spawn(&dir.path().join("foreign")).unwrap();
    let of_other = authority.sign_user(&foreign.identity_path.with_extension("pub"), &sshd.user, "+1h").unwrap();
    std::fs::copy(of_other, &certificate).unwrap();
    assert!(invalid(inspect(by_certificate()).await).contains("another key"));
    // The connection that was made when it was good lives on.
    host.inspect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_signs_for_the_platform() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::make(&dir.path().join("authority")).unwrap();
    let agent = Agent::spawn(&dir.path().join("agent")).unwrap();
    let options = Options { client_key: Some("rsa"), ..Options::default() };
    let mut host = Sshd::spawn_with(&dir.path().join("host"), options).unwrap();
    let other = Sshd::spawn(&dir.path().join("other")).unwrap();
    let by_agent = |sshd: &Sshd| SshTarget { login: Login::Agent(agent.socket.clone()), ..target(sshd) };
    let silent = SshTarget { login: Login::Agent(dir.path().join("nowhere")), ..target(&host) };
    let error = inspect(silent).await.unwrap_err();
    assert!(matches!(&error, AdapterError::Transient { reason, .. } if reason.contains("ssh_agent")), "{error:?}");
    let error = inspect(by_agent(&host)).await.unwrap_err();
    assert!(matches!(&error, AdapterError::Transient { reason, .. } if reason.contains("ssh-add")), "{error:?}");
    // The second of two is the right one; an RSA key, which it signs with SHA-2.
    agent.add(&other.identity_path).unwrap();
    agent.add(&host.identity_path).unwrap();
    inspect(by_agent(&host)).await.unwrap();
    inspect(by_agent(&other)).await.unwrap();
    // A certificate that it holds.
    host.forget_keys().unwrap();
    host.reconfigure(&format!("TrustedUserCAKeys {}\n", authority.public_key().display())).unwrap();
    let reason = denied(inspect(by_agent(&host)).await);
    assert!(reason.contains("2 keys of the agent"), "{reason}");
    authority.sign_user(&other.identity_path.with_extension("pub"), &host.user, "-1h:+1h").unwrap();
    agent.empty().unwrap();
    agent.add(&other.identity_path).unwrap();
    inspect(by_agent(&host)).await.unwrap();
}

/// All of it together: through a machine whose key is pinned, to a host that is known by its authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_behind_another_is_scanned_and_reached_by_what_it_was_certified_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::make(&dir.path().join("authority")).unwrap();
    let mut first = Sshd::spawn(&dir.path().join("first")).unwrap();
    let last = certified(&dir.path().join("last"), &authority, "127.0.0.1", "-1h:+1h");
    std::fs::copy(first.identity_path.with_extension("pub"), dir.path().join("last/authorized_keys")).unwrap();
    let jump = by_way_of(&first);
    let login = Login::Key(Identity::File(first.identity_path.clone()));
    let shown = scan("127.0.0.1", last.port, vec![jump.clone()], Some(&login)).await.unwrap();
    assert_eq!(shown.authority.as_ref(), Some(&authority.fingerprint));
    assert!(!last.log().contains("userauth"), "the scan sends it no credential: {}", last.log());
    let pin = HostPin::Authority(authority.fingerprint.clone());
    inspect(SshTarget { pin, jumps: vec![jump.clone()], login: login.clone(), ..target(&last) }).await.unwrap();

    first.change_host_key().unwrap();
    std::fs::write(&first.log_path, "").unwrap();
    denied(scan("127.0.0.1", last.port, vec![jump], Some(&login)).await.map(drop));
    assert!(!first.log().contains("userauth"), "{}", first.log());
}

/// An account without rights, whose root folder belongs to root.
#[tokio::test(flavor = "multi_thread")]
async fn with_sudo_everything_on_the_host_is_done_as_root() {
    let dir = tempfile::tempdir().unwrap();
    let may = Account { name: "hanse-may", sudoers: Some("ALL=(root) NOPASSWD: ALL"), shell: "/bin/sh" };
    let may_not = Account { name: "hanse-may-not", sudoers: None, shell: "/bin/sh" };
    let with = |account: Account| {
        let options = Options { account: Some(account), ..Options::default() };
        Sshd::spawn_with(&dir.path().join(account.name), options).unwrap()
    };
    let (host, poor) = (with(may), with(may_not));
    let reason = denied(inspect(target(&host)).await);
    assert!(reason.contains("root folder"), "{reason}");
    let reason = denied(inspect(SshTarget { sudo: true, ..target(&poor) }).await);
    assert!(reason.contains("sudoers"), "{reason}");

    let adapter = SshAdapter::new(SshTarget { sudo: true, ..target(&host) }).unwrap();
    adapter.put_artifact(&artifact()).await.unwrap();
    let pid = running(&adapter, 1).await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t0\t0\t0\t0"), "{status}");
    adapter.remove(&key()).await.unwrap();
}

/// The account's own shell is asked first; one that is restricted, or none of POSIX's, can still start sh.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_have_shells_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    for (name, shell) in [("hanse-bash", "/bin/bash"), ("hanse-rbash", "/bin/rbash"), ("hanse-csh", "/bin/tcsh")] {
        let options = Options { account: Some(Account { name, sudoers: None, shell }), ..Options::default() };
        let host = Sshd::spawn_with(&dir.path().join(name), options).unwrap();
        let way = || SshTarget { root: Some(".hanse".into()), ..target(&host) };
        // Once without our program there, and once with it.
        for _ in 0..2 {
            inspect(way()).await.unwrap_or_else(|error| panic!("{shell}: {error}"));
        }
        let mut places = std::fs::read_dir(dir.path().join(name).join("home/.hanse/artifacts")).unwrap();
        let place = places.next().unwrap().unwrap().path();
        assert!(places.next().is_none() && place.join("hanse").is_file(), "{shell}: {place:?}");
    }
}
