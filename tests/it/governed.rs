//! The consortium governs the chain it has voted for, through the platform alone: what is proposed, signed on members' own
//! machines and submitted is seen before and after it comes into force. And a node says of itself what it lacks.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::by_hand::{PROVISION_MAX, Story, pids_of};
use crate::cluster::hanse;
use crate::people::TENANTS;
use crate::wait::until;

/// Makes an account for each member; gives them as `open-create-chain` takes them.
pub(crate) fn governors(story: &Story) -> Vec<String> {
    let governor = |tenant: &str| format!("{tenant}={}", account(&story.path(&format!("{tenant}.account"))));
    TENANTS.iter().map(|tenant| governor(tenant)).collect()
}

/// Makes an account's key; gives its address.
fn account(path: &str) -> String {
    let made: Value = serde_json::from_str(&hanse(&["key", "account-generate", path, "-o", "json"])).unwrap();
    made["address"].as_str().unwrap().to_owned()
}

fn governance(story: &Story) -> Result<Value, String> {
    // Of another tenant than the one that submits: members see the same.
    let asked =
        story.cluster.ask("bocom", &["chain", "governance", "trade", "supply-1"]).map_err(|(_, words)| words)?;
    Ok(asked["governance"].clone())
}

fn power(governance: &Value, node: &str) -> u64 {
    let validators = governance["validators"].as_array().unwrap();
    let is_it = |validator: &&Value| validator["node"].as_str().unwrap().ends_with(node);
    validators.iter().find(is_it).unwrap_or_else(|| panic!("{governance}"))["power"].as_u64().unwrap()
}

/// `chain govern ...` of a member.
fn govern(story: &Story, args: &[&str]) -> Result<Value, (i32, String)> {
    story.cluster.ask("acme", &[&["chain", "govern"], args].concat())
}

/// What stands in the genesis, who is who, and what is refused before anything is sent.
fn before(story: &Story, file: &str) -> Value {
    let start = governance(story).unwrap();
    assert_eq!((&start["governed"], &start["threshold"], &start["sequence"]), (&json!(true), &json!(3), &json!(0)));
    let tenants: Vec<_> = start["members"].as_array().unwrap().iter().map(|member| &member["tenant"]).collect();
    assert!(tenants.len() == 4 && TENANTS.iter().all(|tenant| tenants.contains(&&json!(tenant))), "{start}");
    assert_eq!((power(&start, "/n3"), start["validators"].as_array().unwrap().len()), (1, 4));
    assert_eq!(start["silent_nodes"], json!([]), "{start}");

    let stranger = format!("setValidator={},1", "11".repeat(32));
    let args = ["propose", "trade", "supply-1", "--out", file, "--change", &stranger];
    let (_, words) = govern(story, &args).unwrap_err();
    assert!(words.contains("is not one that the platform runs for this chain"), "{words}");
    start
}

/// Members change a validator's power and who may send, three of four by signatures made without any replica.
pub(crate) fn members_change_their_chain(story: &Story, treasury: &str) {
    let file = story.path("proposal.json");
    before(story, &file);
    let nodes = story.nodes().unwrap();
    let key = nodes.iter().find(|node| node["node"] == "n3").unwrap()["public_key"].as_str().unwrap().to_owned();
    let (more, sender) = (format!("setValidator={key},2"), format!("setSender={treasury},1"));
    let propose = ["propose", "trade", "supply-1", "--out", &file, "--deadline", "1000000"];
    let changes = ["--change", &more, "--change", &sender, "--change", "restrictSenders=1"];
    let proposed = govern(story, &[&propose[..], &changes].concat()).unwrap();
    assert_eq!((&proposed["threshold"], &proposed["sequence"]), (&json!(3), &json!(0)), "{proposed}");

    let sign = |tenant: &str| {
        hanse(&[
            "chain",
            "govern",
            "sign",
            "--proposal",
            &file,
            "--key-file",
            &story.path(&format!("{tenant}.account")),
        ])
    };
    sign("acme");
    sign("bocom");
    let sender_key = story.path("huaneng.account");
    let submit = ["submit", "trade", "supply-1", "--proposal", &file, "--key-file", &sender_key, "--yes"];
    let (_, words) = govern(story, &submit).unwrap_err();
    assert!(words.contains("2 members signed, 3 must"), "{words}");
    assert_eq!(governance(story).unwrap()["sequence"], 0, "what the chain would refuse is not sent");
    sign("sgcc");
    let shown: Value =
        serde_json::from_str(&hanse(&["chain", "govern", "show", "--proposal", &file, "-o", "json"])).unwrap();
    assert_eq!(shown["signed_by"].as_array().unwrap().len(), 3, "{shown}");

    let effective = decided_and_pending(story, &submit);
    let now = until("the change is in force", PROVISION_MAX, || {
        let now = governance(story)?;
        if now["next_height"].as_u64() >= Some(effective) { Ok(now) } else { Err(now["next_height"].to_string()) }
    });
    assert_eq!((power(&now, "/n3"), &now["senders"]["restricted"]), (2, &json!(true)), "{now}");
    assert_eq!(now["senders"]["entries"], json!([treasury]), "{now}");
    assert_eq!((&now["sequence"], &now["pending_validators"]), (&json!(1), &json!([])), "{now}");
    afterwards(story, &submit);
}

/// Submits and watches meanwhile: the change is seen as decided and not in force. Gives the height of its effect.
fn decided_and_pending(story: &Story, submit: &[&str]) -> u64 {
    let (done, submitted) = (AtomicBool::new(false), || govern(story, submit));
    let (answer, seen) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(Ordering::SeqCst) {
                // Asking fails for no reason here; if it does, nothing is seen and that fails the test.
                seen.extend(governance(story));
            }
            seen.extend(governance(story));
            seen
        });
        let answer = submitted();
        done.store(true, Ordering::SeqCst);
        (answer.unwrap(), watcher.join().unwrap())
    });
    let effective = answer["effective_height"].as_u64().unwrap();
    assert_eq!(Some(effective), answer["height"].as_u64().map(|height| height + 2), "{answer}");
    let pending: Vec<_> = seen.iter().filter(|one| one["pending_validators"] != json!([])).collect();
    let one = pending.first().unwrap_or_else(|| panic!("never seen as pending: {seen:?}"));
    assert_eq!((power(one, "/n3"), &one["senders"]["restricted"]), (1, &json!(false)), "{one}");
    assert_eq!(one["senders"]["restricted_soon"], true, "{one}");
    assert_eq!(one["pending_validators"][0]["from_height"], effective, "{one}");
    assert_eq!(one["senders"]["pending"][0]["from_height"], effective, "{one}");
    effective
}

/// A proposal is executed once, who is not on the list sends nothing, and what was sent stands in the audit trail.
fn afterwards(story: &Story, submit: &[&str]) {
    let (_, words) = govern(story, submit).unwrap_err();
    assert!(words.contains("propose and sign it anew"), "{words}");

    let outsider = story.path("outsider.account");
    account(&outsider);
    let to = "0x00000000000000000000000000000000000000aa";
    let transfer = ["tx", "transfer", "trade", "supply-1", "--key", &outsider, "--to", to, "--value-wei", "0", "--yes"];
    let (_, words) = story.cluster.ask("acme", &transfer).unwrap_err();
    assert!(words.contains("is not on the chain's list of senders"), "{words}");

    let list = story.cluster.tell("acme", &["audit", "list", "--filter", "RecordTransaction"]);
    let records = list["records"].as_array().unwrap();
    let is_it = |record: &&Value| record["action"] == "RecordTransaction";
    let sent: Vec<_> = records.iter().filter(is_it).collect();
    // The transfer before, the proposal, and the transfer that the ledger refused.
    assert!(sent.len() >= 3 && sent.iter().all(|it| it["actor"] == "accounts/owner@acme"), "{list}");
}

/// Three of four hosts are lost with their nodes: the last node is alive and answers, and says that this is no quorum.
pub(crate) fn a_node_without_a_quorum_says_so(story: &mut Story) {
    for host in &mut story.sshd {
        host.kill();
    }
    for host in &story.sshd {
        for pid in pids_of(&host.root, " node start ") {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    let last = until("the node left says what it lacks", PROVISION_MAX, || {
        let nodes = story.nodes()?;
        let node = nodes.iter().find(|node| node["host"] == "h4").ok_or("no node on h4")?;
        let says = node["health_reason"].as_str().unwrap_or_default();
        let is_said = says.contains("more than two thirds are needed") && node["health"] == "UNHEALTHY";
        if is_said { Ok(node.clone()) } else { Err(node.to_string()) }
    });
    assert_eq!(last["state"], "RUNNING", "its process is well: {last}");
    let chain = until("the chain is degraded", PROVISION_MAX, || {
        let answer = story.cluster.ask("acme", &["chain", "get", "trade", "supply-1"]).map_err(|(_, words)| words)?;
        if answer["chain"]["state"] == "DEGRADED" { Ok(answer) } else { Err(answer.to_string()) }
    });
    assert!(chain["chain"]["state_reason"].as_str().unwrap().contains("more than two thirds are needed"), "{chain}");
}
