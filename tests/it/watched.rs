//! What operators see of a chain: the last hours as series, also of the leader before; and what is wrong, by name and with
//! what to do, until it is gone.

use serde_json::Value;

use crate::by_hand::{PROVISION_MAX, Story, pids_of};
use crate::wait::until;

fn findings(story: &Story) -> Result<Vec<Value>, String> {
    let found = story.cluster.ask("admin", &["chain", "diagnose"]).map_err(|(_, words)| words)?;
    Ok(found["findings"].as_array().cloned().unwrap_or_default())
}

fn of(found: &[Value], code: &str) -> Option<Value> {
    found.iter().find(|it| it["code"] == code).cloned()
}

/// Series of a resource and of what is below it, as `(resource, metric)` and points.
fn series(story: &Story, args: &[&str]) -> Result<Vec<(String, String, usize)>, String> {
    let shown = story.cluster.ask("admin", args).map_err(|(_, words)| words)?;
    let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    let one = |it: &Value| (text(it, "resource"), text(it, "metric"), it["points"].as_array().map_or(0, Vec::len));
    Ok(shown["series"].as_array().into_iter().flatten().map(one).collect())
}

/// Two of four hosts are lost with their nodes: both are named, and the finding goes when they are back.
pub(crate) fn what_is_wrong_is_told_until_it_is_gone(story: &mut Story) {
    let wanted = ["up", "height", "peers", "cpu", "memory", "disk_used"];
    until("figures of every node", PROVISION_MAX, || {
        let seen = series(story, &["chain", "monitor", "trade", "supply-1"])?;
        let has = |metric: &str| seen.iter().filter(|(_, it, points)| it == metric && *points > 0).count() == 4;
        if wanted.iter().all(|metric| has(metric)) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    until("figures of a host", PROVISION_MAX, || {
        let seen = series(story, &["host", "monitor", "h1", "--metric", "disk_free", "--metric", "clock_offset"])?;
        if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    let csv = story.cluster.ask("admin", &["node", "monitor", "trade", "supply-1", "n0", "--metric", "nonsense"]);
    assert!(csv.unwrap_err().1.contains("use up, height"), "a wrong figure is told with the right ones");
    // A tenant sees its chain and no host.
    assert!(!series(story, &["chain", "monitor", "trade", "supply-1"]).unwrap().is_empty());
    assert_eq!(story.cluster.ask("acme", &["host", "monitor", "h1"]).unwrap_err().0, 3, "hosts are the platform's");
    until("nothing serious is wrong", PROVISION_MAX, || {
        let found = findings(story)?;
        if of(&found, "STALLED").or(of(&found, "NODE_DOWN")).is_none() { Ok(()) } else { Err(format!("{found:?}")) }
    });

    for host in &mut story.sshd[..2] {
        host.kill();
    }
    for host in &story.sshd[..2] {
        for pid in pids_of(&host.root, " node start ") {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    let lost: Vec<String> = story
        .nodes()
        .unwrap()
        .iter()
        .filter(|node| node["host"] == "h1" || node["host"] == "h2")
        .map(|node| node["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(lost.len(), 2);
    let stalled = until("the stalled chain is told with both", PROVISION_MAX, || {
        let found = findings(story)?;
        let stalled = of(&found, "STALLED").ok_or_else(|| format!("{found:?}"))?;
        let cause = stalled["cause"].as_str().unwrap_or_default();
        let named = lost.iter().all(|node| cause.contains(&format!("{node}: ")));
        if named && of(&found, "HOST_SILENT").is_some() { Ok(stalled) } else { Err(format!("{found:?}")) }
    });
    let (cause, recipe) = (stalled["cause"].as_str().unwrap(), stalled["recipe"].as_str().unwrap());
    assert!(cause.starts_with("2 of 4 validators take part, 3 are needed"), "{stalled}");
    assert!(recipe.starts_with(&format!("bring 1 of {} back", lost.join(", "))), "{stalled}");

    for host in &mut story.sshd[..2] {
        host.start().unwrap();
    }
    until("it is gone when they are back", PROVISION_MAX, || {
        let found = findings(story)?;
        let serious = ["STALLED", "NO_QUORUM", "NODE_DOWN", "HOST_SILENT"].iter().find_map(|code| of(&found, code));
        serious.map_or(Ok(()), |it| Err(it.to_string()))
    });
}
