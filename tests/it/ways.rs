//! Other ways to hosts, by the CLI against the story's own sshd: through another machine, whose key is pinned and may change, and
//! by an authority that signs hosts' keys.

use hanse_fixtures::ssh_keys::Authority;
use serde_json::Value;

use crate::by_hand::{PROVISION_MAX, Story};
use crate::wait::until;

fn host(story: &Story) -> Value {
    story.cluster.tell("admin", &["host", "get", "h6"])["host"].clone()
}

/// The answer of `hanse host reach h6` with these flags.
fn reach(story: &Story, flags: &[&str]) -> Result<Value, (i32, String)> {
    story.cluster.ask("admin", &[&["host", "reach", "h6", "--yes"], flags].concat())
}

/// Enrols h6 through the first sshd with the wrong key pinned of it, puts that right as an operator would, and leaves nothing.
pub(crate) fn hosts_are_reached_by_other_ways(story: &mut Story) {
    let (first, port) = (&story.sshd[0], story.sshd[1].port.to_string());
    let (user, pinned) = (story.sshd[1].user.clone(), story.sshd[1].fingerprint.clone());
    let machine = format!("{}@127.0.0.1:{}", first.user, first.port);
    let (right, wrong) = (format!("{machine}={}", first.fingerprint), format!("{machine}={pinned}"));
    let first_key = first.fingerprint.clone();
    let shown = story.cluster.tell("admin", &["host", "scan", "127.0.0.1", "--port", &port, "--jump", &right]);
    assert_eq!(shown["fingerprint"], pinned.as_str(), "{shown}");

    let root = story.path("sshd2/other-root");
    let enrol = ["host", "enrol", "h6", "--ssh", "127.0.0.1", "--port", &port, "--user", &user, "--root", &root];
    let rest = ["--fingerprint", &pinned, "--jump", &wrong, "--peer-address", "127.0.0.1", "--port-first", "31100"];
    let slots = ["--port-count", "4", "--slots", "2"];
    let enrol = [&enrol[..], &rest, &slots].concat();
    let (_, words) = story.cluster.ask("admin", &enrol).unwrap_err();
    assert!(words.contains("HOST_UNFIT") && words.contains("the host key changed"), "{words}");
    story.cluster.tell("admin", &[&enrol[..], &["--accept-findings"]].concat());
    until("the host is distrusted for the machine on its way", PROVISION_MAX, || {
        let host = host(story);
        if host["state"] == "DISTRUSTED" && host["seen_machine"] == machine.as_str() {
            return Ok(());
        }
        Err(host.to_string())
    });
    story.cluster.tell("admin", &["host", "accept-key", "h6", "--fingerprint", &first_key, "--yes"]);
    let findings = story.cluster.tell("admin", &["host", "preflight", "h6"]);
    assert!(
        findings["findings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["check"] != "connection" || it["severity"] == "FINE")
    );
    assert_eq!(host(story)["ssh"]["jumps"][0]["fingerprint"], first_key.as_str());

    certified(story, &port);
    story.cluster.tell("admin", &["host", "retire", "h6", "--reason", "tried", "--yes"]);
}

/// The host is known by its authority instead, and a mistake is found before anything is changed.
fn certified(story: &mut Story, port: &str) {
    let authority = Authority::make(story.path("authority").as_ref()).unwrap();
    let certificate = authority.sign_host(&story.sshd[1].host_public_key(), "127.0.0.1", "-1h:+1h").unwrap();
    let (code, words) = reach(story, &["--authority", &authority.fingerprint]).unwrap_err();
    assert!(code != 0 && words.contains("without a certificate"), "{words}");
    story.sshd[1].reconfigure(&format!("HostCertificate {}\n", certificate.display())).unwrap();
    let shown = story.cluster.tell("admin", &["host", "scan", "127.0.0.1", "--port", port]);
    assert_eq!(shown["authority"], authority.fingerprint.as_str());
    reach(story, &["--authority", &authority.fingerprint, "--straight"]).unwrap();
    let ssh = host(story)["ssh"].clone();
    assert!(ssh["pins_authority"] == true && ssh["jumps"].as_array().is_none_or(Vec::is_empty), "{ssh}");
    let (_, words) = reach(story, &["--login", "agent"]).unwrap_err();
    assert!(words.contains("ssh_agent"), "{words}");
    until("the host is looked at by its authority", PROVISION_MAX, || {
        let host = host(story);
        if host["state"] == "READY" && host["facts"].is_object() { Ok(()) } else { Err(host.to_string()) }
    });
    until("its certificate, which ends within the hour, is told with what renews it", PROVISION_MAX, || {
        let found = story.cluster.ask("admin", &["chain", "diagnose"]).map_err(|(_, words)| words)?;
        let all = found["findings"].as_array().cloned().unwrap_or_default();
        let told = all.iter().find(|it| it["code"] == "CERTIFICATE_EXPIRES" && it["resource"] == "hosts/h6");
        let told = told.ok_or_else(|| found.to_string())?;
        let recipe = told["recipe"].as_str().unwrap_or_default();
        if told["severity"] == "CRITICAL" && recipe.contains("ssh-keygen -h") { Ok(()) } else { Err(told.to_string()) }
    });
}
