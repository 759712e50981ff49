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

fn generations(story: &Story) -> Vec<(String, u64)> {
    let nodes = story.nodes().unwrap();
    nodes.iter().map(|it| (it["node"].as_str().unwrap().to_owned(), it["generation"].as_u64().unwrap())).collect()
}

/// SIGSTOP to one ledger node: its process lives and says nothing. It is told, started anew once, by the system and with its
/// cause, while the others go on untouched.
pub(crate) fn a_node_that_hangs_is_started_anew(story: &Story) {
    let before = generations(story);
    let victim = story.nodes().unwrap().into_iter().find(|node| node["node"] == "n2").unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(victim["pid"].as_u64().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    until("it is told that the node does not answer", PROVISION_MAX, || {
        let found = findings(story)?;
        let down = found.iter().any(|it| {
            it["resource"].as_str().is_some_and(|name| name.ends_with("/nodes/n2"))
                && (it["code"] == "NODE_DOWN" || it["code"] == "NODE_HANGS")
        });
        if down { Ok(()) } else { Err(format!("{found:?}")) }
    });
    until("it is started anew and well", PROVISION_MAX, || {
        let nodes = story.nodes()?;
        let node = nodes.iter().find(|node| node["node"] == "n2").unwrap();
        let (old, new) = (victim["generation"].as_u64().unwrap(), node["generation"].as_u64().unwrap());
        let best = nodes.iter().filter_map(|node| node["height"].as_u64()).max().unwrap_or(0);
        let is_near = node["height"].as_u64().unwrap_or(0) + 2 >= best;
        let well = node["state"] == "RUNNING" && node["health"] == "HEALTHY" && is_near;
        if well && new == old + 1 && node["pid"] != victim["pid"] { Ok(()) } else { Err(node.to_string()) }
    });
    let others = |all: Vec<(String, u64)>| all.into_iter().filter(|(node, _)| node != "n2").collect::<Vec<_>>();
    assert_eq!(others(generations(story)), others(before), "the others are left alone");
    let audit = story.cluster.tell("admin", &["audit", "list", "--filter", "RestartNode"]);
    let restarted =
        audit["records"].as_array().unwrap().iter().find(|it| {
            it["actor"] == "system" && it["resource"].as_str().is_some_and(|name| name.ends_with("/nodes/n2"))
        });
    let restarted = restarted.unwrap_or_else(|| panic!("{audit}")).to_string();
    assert!(restarted.contains("its process lives and has given no answer for"), "{restarted}");
}

/// How often nodes are started again is said for each chain; wrong numbers are refused, and what was said is seen and told.
pub(crate) fn how_often_is_said(story: &Story) {
    let repair = |args: &[&str]| {
        let order = ["chain", "repair", "trade", "supply-1", "--reason", "try"];
        story.cluster.ask("admin", &[&order[..], args].concat())
    };
    let left =
        || -> Vec<u64> { story.nodes().unwrap().iter().map(|node| node["repairs_left"].as_u64().unwrap()).collect() };
    let before = left();
    let (_, words) = repair(&["--restarts-per-hour", "16"]).unwrap_err();
    assert!(words.contains("restarts_per_hour") && words.contains("from 0 to 15"), "{words}");
    assert_eq!(repair(&[]).unwrap_err().0, 2, "it has to be said how often");
    let off = repair(&["--off", "--yes"]).unwrap();
    assert_eq!(
        (&off["chain"]["repairs_per_hour"], &off["chain"]["repairs_default"]),
        (&0.into(), &false.into()),
        "{off}"
    );
    assert_eq!(left(), [0; 4]);
    assert!(of(&findings(story).unwrap(), "REPAIR_OFF").is_some());
    let tenant = story.cluster.ask("acme", &["chain", "repair", "trade", "supply-1", "--default", "--reason", "try"]);
    assert_eq!(tenant.unwrap_err().0, 4, "it is the platform's to say");
    let back = repair(&["--default"]).unwrap();
    assert_eq!(
        (&back["chain"]["repairs_per_hour"], &back["chain"]["repairs_default"]),
        (&5.into(), &true.into()),
        "{back}"
    );
    assert_eq!(left(), before);
    assert!(of(&findings(story).unwrap(), "REPAIR_OFF").is_none());
    let audit = story.cluster.tell("admin", &["audit", "list", "--filter", "SetChainRepair"]);
    assert!(audit["records"].as_array().is_some_and(|all| all.len() >= 2), "{audit}");
}

/// Two of four hosts are lost with their nodes: both are named, and the finding goes when they are back.
pub(crate) fn what_is_wrong_is_told_until_it_is_gone(story: &mut Story) {
    let wanted = ["up", "height", "peers", "cpu", "memory", "disk_used"];
    until("figures of every node", PROVISION_MAX, || {
        let seen = series(story, &["chain", "monitor", "trade", "supply-1"])?;
        let nodes = |metric: &str| {
            let of =
                |(name, it, points): &&(String, String, usize)| name.contains("/nodes/") && it == metric && *points > 0;
            seen.iter().filter(of).count()
        };
        if wanted.iter().all(|metric| nodes(metric) == 4) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    // The chain's own: blocks and transactions of the whole, and how old its newest block is.
    let own = ["height", "transactions", "peers", "block_age"];
    let shown = until("figures of the chain, with rates", PROVISION_MAX, || {
        let args = ["chain", "monitor", "trade", "supply-1", "--window", "6h", "--step", "60s"];
        let shown = story.cluster.ask("admin", &args).map_err(|(_, words)| words)?;
        let of = |metric: &str| {
            let all = shown["series"].as_array().into_iter().flatten();
            all.clone()
                .find(|it| it["metric"] == metric && it["resource"] == "consortiums/trade/chains/supply-1")
                .cloned()
        };
        let found: Vec<Option<Value>> = own.iter().map(|metric| of(metric)).collect();
        let height = found[0].clone().unwrap_or_default();
        let grows = height["rates_milli"]["now"].as_u64().is_some_and(|rate| rate > 0);
        if found.iter().all(Option::is_some) && grows { Ok(shown) } else { Err(shown.to_string()) }
    });
    assert_eq!(shown["to_ms"].as_u64().unwrap() - shown["from_ms"].as_u64().unwrap(), 6 * 3_600_000);
    let long = story.cluster.ask("admin", &["chain", "monitor", "trade", "supply-1", "--window", "25h"]);
    assert!(long.unwrap_err().1.contains("longer than the day that is kept"));
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

    let before = generations(story);
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

    // What lives of a chain that stands as a whole is left alone, for longer than a single node that hangs.
    let lives = |all: Vec<(String, u64)>| all.into_iter().filter(|(node, _)| !lost.contains(node)).collect::<Vec<_>>();
    assert_eq!(lives(generations(story)), lives(before), "a stalled chain is not restarted");

    for host in &mut story.sshd[..2] {
        host.start().unwrap();
    }
    until("it is gone when they are back", PROVISION_MAX, || {
        let found = findings(story)?;
        let serious = ["STALLED", "NO_QUORUM", "NODE_DOWN", "HOST_SILENT"].iter().find_map(|code| of(&found, code));
        serious.map_or(Ok(()), |it| Err(it.to_string()))
    });
}
