//! Everything about one resource, as labelled lines (`d`) or as JSON (`y`).
//!
//! The JSON is of the console's own types with the field names used here; it is for reading and copying, not a format
//! that programs depend on (they use the API or `hanse ... -o json`).

use crate::app::model::Model;
use crate::app::model::data::{
    Audit, Chain, Consortium, Host, Node, Operation, Payload, Proposal, Query, Replica, Tenant,
};
use crate::app::model::watch::{Artifact, Finding};
use crate::format::{date_time, fit, wrap};
use crate::i18n::T;
use crate::theme::Role;

use super::page::{Line, Page, State};

/// A value of a fact.
pub(super) enum Value {
    Text(String),
    Number(u64),
    /// Milliseconds since the epoch.
    Time(i64),
    Object(Facts),
    List(Vec<Value>),
}

/// Facts of one resource, in the order that they are shown.
pub(super) type Facts = Vec<(&'static str, Value)>;

pub(super) fn s(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Returns the page of one resource in a query's answer.
pub(super) fn page(model: &Model, query: &Query, id: &str, json: bool, columns: usize) -> Page {
    let Some(facts) = model.payload(query).and_then(|p| find(p, id)) else {
        return Page::bare(State::Empty(T::EmptyGone));
    };
    let texts = if json { super::details::pretty(&to_json(&Value::Object(facts))) } else { describe(&facts, 0) };
    let lines = texts.iter().flat_map(|text| {
        let indent = text.len() - text.trim_start().len();
        let pieces = wrap(text.trim_start(), columns.saturating_sub(indent + 2));
        pieces.into_iter().enumerate().map(move |(i, piece)| {
            let more = if i > 0 { 2 } else { 0 };
            Line::of(format!("{}{piece}", " ".repeat(indent + more)), Role::Text)
        })
    });
    let figures = match (json, query) {
        (false, Query::Nodes) => super::watch::figures(model, id, super::watch::OF_NODE, columns),
        (false, Query::Hosts) => super::watch::figures(model, id, super::watch::OF_HOST, columns),
        _ => Vec::new(),
    };
    // They are the first thing on the page: no blank line before them.
    Page::of(figures.into_iter().skip(1).chain(lines).collect())
}

fn find(payload: &Payload, id: &str) -> Option<Facts> {
    match payload {
        Payload::Status(status) => status.replicas.iter().find(|r| r.id == id).map(replica),
        Payload::Tenants(list) => list.iter().find(|t| t.name == id).map(tenant),
        Payload::Consortiums(list) => list.iter().find(|c| c.name == id).map(consortium),
        Payload::Proposals(list) => list.iter().find(|p| p.name == id).map(proposal),
        Payload::Chains(list) => list.iter().find(|c| c.name == id).map(chain),
        Payload::Nodes(list) => list.iter().find(|n| n.name == id).map(node),
        Payload::Hosts(list) => list.iter().find(|h| h.name == id).map(host),
        Payload::Clouds(list) => list.iter().find(|c| c.name == id).map(super::clouds::cloud_facts),
        Payload::Machines(list) => list.iter().find(|m| m.name == id).map(super::clouds::machine_facts),
        Payload::Operations(list) => list.iter().find(|o| o.name == id).map(operation),
        Payload::Audit(list) => list.iter().find(|a| format!("audit/{}", a.seq) == id).map(audit),
        Payload::Findings(list) => list.iter().find(|f| f.id() == id).map(finding),
        Payload::Artifacts(list) => list.iter().find(|a| a.name == id).map(artifact),
        Payload::Series(_)
        | Payload::Session(_)
        | Payload::Preflight(_)
        | Payload::Plan(_)
        | Payload::AuditTree(_)
        | Payload::Invoice(_)
        | Payload::Governance(_)
        | Payload::Blocks(_)
        | Payload::Found(_) => None,
    }
}

fn replica(r: &Replica) -> Facts {
    let mut facts = vec![("id", s(&r.id)), ("role", s(&r.role)), ("address", s(&r.address))];
    facts.extend(r.applied.map(|n| ("applied", Value::Number(n))));
    facts.extend(r.lag.map(|n| ("lag", Value::Number(n))));
    facts.extend([("version", s(&r.version)), ("digest", s(&r.digest))]);
    facts
}

fn tenant(t: &Tenant) -> Facts {
    vec![
        ("name", s(&t.name)),
        ("display_name", s(&t.display_name)),
        ("state", s(&t.state)),
        ("created", Value::Time(t.created_at)),
    ]
}

fn consortium(c: &Consortium) -> Facts {
    let members = c.members.iter().map(|m| {
        Value::Object(vec![
            ("tenant", s(&m.tenant)),
            ("weight", Value::Number(m.weight)),
            ("state", s(&m.state)),
            ("key", s(&m.key)),
        ])
    });
    let rules = c.policies.iter().map(|(a, p)| Value::Object(vec![("action", s(a)), ("policy", s(p))]));
    vec![
        ("name", s(&c.name)),
        ("display_name", s(&c.display_name)),
        ("founder", s(&c.founder)),
        ("state", s(&c.state)),
        ("created", Value::Time(c.created_at)),
        ("voting_period_ms", Value::Number(c.voting_period_ms)),
        ("policies", Value::List(rules.collect())),
        ("members", Value::List(members.collect())),
    ]
}

fn proposal(p: &Proposal) -> Facts {
    let ballots = p.ballots.iter().map(|b| {
        Value::Object(vec![
            ("tenant", s(&b.tenant)),
            ("weight", Value::Number(b.weight)),
            ("choice", s(&b.choice)),
            ("at", Value::Time(b.at)),
        ])
    });
    let tally = vec![
        ("yes", Value::Number(p.tally.yes)),
        ("no", Value::Number(p.tally.no)),
        ("abstain", Value::Number(p.tally.abstain)),
        ("total", Value::Number(p.tally.total)),
        ("needed", Value::Number(p.tally.needed)),
    ];
    vec![
        ("name", s(&p.name)),
        ("title", s(&p.title)),
        ("action", s(&p.action)),
        ("state", s(&p.state)),
        ("reason", s(&p.reason)),
        ("policy", s(&p.policy)),
        ("by", s(&p.by)),
        ("opened", Value::Time(p.opened_at)),
        ("deadline", Value::Time(p.deadline)),
        ("decided", Value::Time(p.decided_at)),
        ("tally", Value::Object(tally)),
        ("ballots", Value::List(ballots.collect())),
        ("operation", s(&p.operation)),
        ("ordered", s(&p.ordered)),
        ("artifact_hash", s(&p.artifact_hash)),
        ("artifact", s(&p.artifact)),
    ]
}

fn chain(c: &Chain) -> Facts {
    let parameters = c.parameters.iter().map(|(k, v)| Value::Object(vec![("name", s(k)), ("value", s(v))]));
    let mut facts = vec![
        ("name", s(&c.name)),
        ("template", s(&c.template)),
        ("chain_id", Value::Number(c.chain_id)),
        ("state", s(&c.state)),
        ("reason", s(&c.reason)),
        ("since", Value::Time(c.since)),
    ];
    facts.extend(c.height.map(|h| ("height", Value::Number(h))));
    facts.extend([
        ("nodes_running", Value::Number(c.nodes_ready.0)),
        ("nodes_total", Value::Number(c.nodes_ready.1)),
        ("operation", s(&c.operation)),
        ("proposal", s(&c.proposal)),
        ("genesis_hash", s(&c.genesis_hash)),
        ("parameters", Value::List(parameters.collect())),
        ("created", Value::Time(c.created_at)),
    ]);
    if let Some(anchor) = &c.anchor {
        facts.extend([
            ("anchor_records", Value::Number(anchor.records)),
            ("anchor_height", Value::Number(anchor.height)),
            ("anchor_time", Value::Time(anchor.at)),
            ("anchor_error", s(&anchor.error)),
        ]);
    }
    facts
}

fn node(n: &Node) -> Facts {
    let mut facts = vec![
        ("name", s(&n.name)),
        ("owner", s(&n.owner)),
        ("host", s(&n.host)),
        ("state", s(&n.state)),
        ("reason", s(&n.reason)),
        ("since", Value::Time(n.since)),
        ("health", s(&n.health)),
        ("health_reason", s(&n.says)),
        ("seat", s(&n.seat.0)),
        ("seat_waits", s(&n.seat.1)),
        ("generation", Value::Number(n.generation)),
    ];
    facts.extend(n.height.map(|h| ("height", Value::Number(h))));
    facts.extend([
        ("peers", Value::Number(n.peers)),
        ("p2p_port", Value::Number(n.ports.0.into())),
        ("rpc_port", Value::Number(n.ports.1.into())),
        ("restarts_last_hour", Value::Number(n.restarts)),
        ("repairs_left", Value::Number(n.repairs_left.into())),
        ("taken_from", s(&n.taken_from)),
        ("identity", s(&n.identity)),
    ]);
    facts
}

fn host(h: &Host) -> Facts {
    vec![
        ("name", s(&h.name)),
        ("state", s(&h.state)),
        ("reason", s(&h.reason)),
        ("reach", s(&h.reach)),
        ("way", Value::List(h.way.iter().map(|line| s(line)).collect())),
        ("fingerprint", s(&h.pinned)),
        ("seen_fingerprint", s(&h.seen)),
        ("peer_address", s(&h.address)),
        ("slots_used", Value::Number(h.slots.0)),
        ("slots", Value::Number(h.slots.1)),
        ("capacity", s(&h.capacity)),
        ("zone", s(&h.zone)),
        ("labels", Value::List(h.labels.iter().map(|label| s(label)).collect())),
        ("dedicated_to", s(&h.dedicated_to)),
        ("seen", Value::Time(h.seen_at)),
        ("orphans", Value::List(h.orphans.iter().map(|orphan| s(orphan)).collect())),
    ]
}

fn finding(f: &Finding) -> Facts {
    vec![
        ("severity", s(&f.severity)),
        ("code", s(&f.code)),
        ("resource", s(&f.resource)),
        ("what", s(&f.what)),
        ("cause", s(&f.cause)),
        ("what_to_do", s(&f.recipe)),
    ]
}

fn artifact(a: &Artifact) -> Facts {
    vec![
        ("name", s(&a.name)),
        ("title", s(&a.title)),
        ("version", s(&a.version)),
        ("kind", s(&a.kind)),
        ("size_bytes", Value::Number(a.size)),
        ("publisher_or_reason", s(&a.word)),
        ("imported_by", s(&a.by)),
        ("imported", Value::Time(a.at)),
    ]
}

fn operation(o: &Operation) -> Facts {
    let steps = o.steps.iter().map(|st| {
        Value::Object(vec![
            ("step", s(&st.name)),
            ("target", s(&st.target)),
            ("state", s(&st.state)),
            ("detail", s(&st.detail)),
            ("output", Value::List(st.output.lines().map(s).collect())),
            ("started", Value::Time(st.started_at)),
            ("ended", Value::Time(st.ended_at)),
        ])
    });
    vec![
        ("name", s(&o.name)),
        ("kind", s(&o.kind)),
        ("target", s(&o.target)),
        ("by", s(&o.by)),
        ("request_id", s(&o.request_id)),
        ("state", s(&o.state)),
        ("cause", s(&o.cause)),
        ("started", Value::Time(o.started_at)),
        ("ended", Value::Time(o.ended_at)),
        ("steps", Value::List(steps.collect())),
    ]
}

fn audit(a: &Audit) -> Facts {
    vec![
        ("seq", Value::Number(a.seq)),
        ("revision", Value::Number(a.revision)),
        ("at", Value::Time(a.at)),
        ("actor", s(&a.actor)),
        ("source", s(&a.source)),
        ("action", s(&a.action)),
        ("resource", s(&a.resource)),
        ("outcome", s(&a.outcome)),
        ("request_id", s(&a.request_id)),
        ("detail", s(&a.detail)),
        ("hash", s(&a.hash)),
    ]
}

fn describe(facts: &Facts, depth: usize) -> Vec<String> {
    let indent = "  ".repeat(depth);
    let mut lines = Vec::new();
    for (name, value) in facts {
        let label = fit(name, 20, false);
        match value {
            Value::Object(inner) => {
                lines.push(format!("{indent}{name}"));
                lines.extend(describe(inner, depth + 1));
            }
            Value::List(list) => {
                lines.push(format!("{indent}{name} ({})", list.len()));
                for item in list {
                    match item {
                        Value::Object(inner) => lines.push(format!("{indent}  {}", one_line(inner))),
                        other => lines.push(format!("{indent}  {}", plain(other))),
                    }
                }
            }
            value => lines.push(format!("{indent}{label}{}", plain(value))),
        }
    }
    lines
}

fn one_line(facts: &Facts) -> String {
    let parts: Vec<_> = facts.iter().map(|(n, v)| format!("{n}={}", plain(v))).filter(|p| !p.ends_with('=')).collect();
    parts.join("  ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Number(n) => n.to_string(),
        Value::Time(at) => date_time(*at),
        Value::Object(facts) => one_line(facts),
        Value::List(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
    }
}

fn to_json(value: &Value) -> String {
    match value {
        Value::Text(text) => quote(text),
        Value::Number(n) => n.to_string(),
        Value::Time(at) => at.to_string(),
        Value::Object(facts) => {
            let parts: Vec<_> = facts.iter().map(|(n, v)| format!("{}:{}", quote(n), to_json(v))).collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::List(list) => format!("[{}]", list.iter().map(to_json).collect::<Vec<_>>().join(",")),
    }
}

/// Returns a JSON string (RFC 8259, section 7); what is not plain is escaped, so nothing is lost to cleaning.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if crate::format::clean(c.encode_utf8(&mut [0; 4])).is_empty() || c.is_control() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_the_screen_would_drop() {
        assert_eq!(quote("a\"b\\\n\u{1b}\u{202e}供"), "\"a\\\"b\\\\\\n\\u001b\\u202e供\"");
        let facts = vec![("n", Value::Number(1)), ("l", Value::List(vec![s("x")]))];
        assert_eq!(to_json(&Value::Object(facts)), r#"{"n":1,"l":["x"]}"#);
    }
}
