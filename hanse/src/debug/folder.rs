//! The folder of a stopped replica, as tables and JSON.

use std::path::Path;

use anyhow::{Context as _, Result};
use hanse_raft::inspect::{ContentView, EntryView, Inspector, RequestView};
use serde_json::{Value, json};

use super::Shown;
use crate::output::Table;

/// Opens `data`, or the `raft` folder in it.
fn open(data: &Path) -> Result<Inspector> {
    let inner = data.join("raft");
    let folder = if inner.is_dir() { inner } else { data.to_owned() };
    Ok(Inspector::open(&folder)?)
}

/// Shows entries of the log.
pub(super) fn log(data: &Path, from: u64, limit: usize) -> Result<Shown> {
    let inspector = open(data)?;
    let log = inspector.log()?;
    let entries = inspector.entries(from, limit)?;
    let vote = log.vote.map(|(term, replica, leads)| json!({ "term": term, "replica": replica, "leads": leads }));
    let json = json!({
        "purged": log.purged,
        "last": log.last,
        "committed": log.committed,
        "vote": vote,
        "segments": log.segments,
        "entries": entries.iter().map(entry_json).collect::<Vec<_>>(),
    });
    let number = |at: Option<u64>| at.map_or("none".to_owned(), |index| index.to_string());
    let vote = log.vote.map_or("no vote".to_owned(), |(term, replica, leads)| {
        format!("vote for {replica} in term {term}{}", if leads { ", which leads" } else { "" })
    });
    let head = format!(
        "purged up to {}  last {}  committed {}  {vote}  {} segments\n",
        number(log.purged),
        number(log.last),
        number(log.committed),
        log.segments
    );
    let rows = entries.iter().flat_map(entry_rows).collect();
    let headings = ["INDEX", "TERM", "LEADER", "BYTES", "WHAT", "WHO", "REQUEST"].map(String::from).to_vec();
    let names = entries.iter().map(|entry| format!("{}\n", entry.index)).collect();
    Ok(Shown { json, head, table: Table { headings, rows }, names })
}

fn request_json(request: &RequestView) -> Value {
    json!({ "command": request.command, "actor": request.actor, "id": request.id, "at_ms": request.at_ms })
}

fn entry_json(entry: &EntryView) -> Value {
    let mut value = json!({
        "index": entry.index,
        "term": entry.term,
        "leader": entry.leader,
        "bytes": entry.bytes,
    });
    match &entry.content {
        ContentView::Blank => value["kind"] = json!("blank"),
        ContentView::Membership { voters, members } => {
            let members = members.iter().map(|(id, peer)| json!({ "id": id, "peer_address": peer }));
            value["kind"] = json!("membership");
            value["voters"] = json!(voters);
            value["members"] = members.collect();
        }
        ContentView::Requests(requests) => {
            value["kind"] = json!("requests");
            value["requests"] = requests.iter().map(request_json).collect();
        }
        ContentView::Unknown(why) => {
            value["kind"] = json!("unknown");
            value["why"] = json!(why);
        }
    }
    value
}

fn entry_rows(entry: &EntryView) -> Vec<Vec<String>> {
    let row = |what: String, who: &str, id: &str| {
        let numbers = [entry.index, entry.term, entry.leader, entry.bytes as u64].map(|number| number.to_string());
        [numbers.as_slice(), &[what, who.to_owned(), id.to_owned()]].concat()
    };
    match &entry.content {
        ContentView::Blank => vec![row("(a leader began its term)".into(), "", "")],
        ContentView::Membership { voters, .. } => vec![row(format!("(membership: voters {voters:?})"), "", "")],
        ContentView::Unknown(why) => vec![row(format!("(unreadable: {why})"), "", "")],
        ContentView::Requests(requests) => {
            requests.iter().map(|it| row(it.command.to_owned(), &it.actor, &it.id)).collect()
        }
    }
}

/// Shows the snapshots.
pub(super) fn snapshots(data: &Path) -> Result<Shown> {
    let found = open(data)?.snapshots()?;
    let (mut values, mut rows, mut names) = (Vec::new(), Vec::new(), String::new());
    for snapshot in found {
        let name = snapshot.path.file_name().context("a snapshot has a name")?.to_string_lossy().into_owned();
        names.push_str(&format!("{name}\n"));
        match snapshot.content {
            Ok(it) => {
                rows.push(vec![
                    name.clone(),
                    snapshot.bytes.to_string(),
                    it.index.to_string(),
                    it.term.to_string(),
                    it.revision.to_string(),
                    it.digest.chars().take(12).collect(),
                    it.heads.iter().map(|(kind, last)| format!("{kind} {last}")).collect::<Vec<_>>().join(", "),
                ]);
                values.push(json!({
                    "file": name, "bytes": snapshot.bytes, "index": it.index, "term": it.term, "revision": it.revision,
                    "digest": it.digest, "state_bytes": it.state_bytes, "history": it.heads,
                }));
            }
            Err(why) => {
                let blank = || String::new();
                rows.push(vec![
                    name.clone(),
                    snapshot.bytes.to_string(),
                    blank(),
                    blank(),
                    blank(),
                    blank(),
                    why.clone(),
                ]);
                values.push(json!({ "file": name, "bytes": snapshot.bytes, "damage": why }));
            }
        }
    }
    let headings = ["FILE", "BYTES", "INDEX", "TERM", "REVISION", "DIGEST", "HISTORY"].map(String::from).to_vec();
    let head = if rows.is_empty() { "there is no snapshot yet\n".into() } else { String::new() };
    Ok(Shown { json: json!({ "snapshots": values }), head, table: Table { headings, rows }, names })
}

/// Shows the state's digest.
pub(super) fn state(data: &Path) -> Result<Shown> {
    let state = open(data)?.state()?;
    let json = json!({
        "snapshot": state.snapshot, "applied": state.applied, "revision": state.revision, "digest": state.digest,
    });
    let number = |at: Option<u64>| at.map_or("none".to_owned(), |index| index.to_string());
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = vec![
        row("snapshot up to entry", number(state.snapshot)),
        row("applied up to entry", number(state.applied)),
        row("revision", state.revision.to_string()),
        row("digest", state.digest.clone()),
    ];
    let names = format!("{}\n", state.digest);
    Ok(Shown { json, head: String::new(), table: Table { headings: Vec::new(), rows }, names })
}
