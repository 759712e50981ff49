//! The list screens: one table each.

use crate::app::model::Model;
use crate::app::model::data::{Operation, Payload, Proposal, Query};
use crate::format::{age, date_time, number, short_hash, span};
use crate::i18n::{T, fill};
use crate::theme::Role;

use super::page::{Column, Line, Page, Row, Span, State, Table, bar, col, dim, num, state, text, work};
use super::{Screen, leaf, short, who};

/// Returns a page that is one table, or why it has no rows.
pub(super) fn table(model: &Model, columns: usize, table: Table, empty: T) -> Page {
    if table.rows.is_empty() {
        return Page::bare(State::Empty(empty));
    }
    let (header, lines) = table.layout(columns, |t| model.t(t));
    Page { pinned: vec![header], ..Page::of(lines) }
}

fn since(model: &Model, at: i64) -> Span {
    dim(if at > 0 { age(model.now - at) } else { "-".to_owned() })
}

fn height(height: Option<u64>) -> Span {
    text(height.map_or_else(|| "-".to_owned(), number))
}

fn known(value: Option<u64>) -> Span {
    value.map_or_else(|| dim("-"), |v| text(number(v)))
}

pub(super) fn replicas(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColReplica, 20, 0),
        col(T::ColRole, 20, 0),
        num(T::ColApplied, 12, 0),
        num(T::ColLag, 8, 0),
        col(T::ColAddress, 24, 1),
        col(T::ColVersion, 12, 2),
        col(T::ColSpeaks, 8, 2),
        col(T::ColDigest, 16, 3),
    ];
    let replicas = model.status().map(|s| s.replicas.as_slice()).unwrap_or_default();
    let at = model.status().map_or(0, |s| s.version);
    let rows = replicas.iter().map(|r| Row {
        id: r.id.clone(),
        cells: vec![
            text(&r.id),
            state(model, &r.role),
            known(r.applied),
            known(r.lag),
            dim(&r.address),
            dim(&r.version),
            r.speaks.map_or_else(|| dim("-"), |it| spoken(it, at)),
            dim(r.digest.chars().take(16).collect::<String>()),
        ],
        open: None,
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyReplicas)
}

/// Versions shown of a replica; a build speaks its own and the one before.
const SPOKEN_MAX: usize = 3;

/// The cluster versions that a replica speaks, with the one the cluster is at marked: `1 2*`.
fn spoken((oldest, newest): (u32, u32), at: u32) -> Span {
    let mark = |version| if version == at { format!("{version}*") } else { format!("{version}") };
    dim((oldest..=newest).take(SPOKEN_MAX).map(mark).collect::<Vec<_>>().join(" "))
}

pub(super) fn tenants(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] =
        &[col(T::ColTenant, 24, 0), col(T::ColDisplayName, 32, 0), col(T::ColState, 16, 0), num(T::ColAge, 8, 1)];
    let month = crate::format::month(model.now);
    let rows = model.tenants(&Query::Tenants).iter().map(|t| Row {
        id: t.name.clone(),
        cells: vec![text(leaf(&t.name)), text(&t.display_name), state(model, &t.state), since(model, t.created_at)],
        open: Some(Screen::Invoice(leaf(&t.name).to_owned(), month.clone())),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyTenants)
}

pub(super) fn consortiums(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColConsortium, 24, 0),
        col(T::ColDisplayName, 32, 0),
        col(T::ColState, 16, 0),
        num(T::ColMembers, 8, 0),
        num(T::ColAge, 8, 1),
    ];
    let rows = model.consortiums(&Query::Consortiums).iter().map(|c| Row {
        id: c.name.clone(),
        cells: vec![
            text(leaf(&c.name)),
            text(&c.display_name),
            state(model, &c.state),
            text(c.members.len().to_string()),
            since(model, c.created_at),
        ],
        open: Some(Screen::Consortium(c.name.clone())),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyConsortiums)
}

pub(super) fn proposals(model: &Model, scope: Option<&str>, columns: usize) -> Page {
    let list = model.proposals(&Query::Proposals(scope.map(str::to_owned)));
    table(model, columns, proposal_table(model, list), T::EmptyProposals)
}

/// Returns the table of proposals, also part of a consortium's screen.
pub(super) fn proposal_table(model: &Model, list: &[Proposal]) -> Table {
    const COLUMNS: &[Column] = &[
        col(T::ColProposal, 24, 0),
        col(T::ColTitle, 40, 0),
        col(T::ColState, 14, 0),
        num(T::ColYes, 9, 0),
        num(T::ColNeeded, 6, 1),
        col(T::ColCloses, 12, 0),
        col(T::ColBy, 20, 2),
    ];
    let rows = list.iter().map(|p| Row {
        id: p.name.clone(),
        cells: vec![
            text(short(&p.name)),
            text(&p.title),
            state(model, &p.state),
            text(format!("{}/{}", p.tally.yes, p.tally.total)),
            text(p.tally.needed.to_string()),
            closes(model, p),
            dim(&p.by),
        ],
        open: Some(Screen::Proposal(p.name.clone())),
    });
    Table { columns: COLUMNS, rows: rows.collect() }
}

/// Returns the countdown of an open proposal, or how long ago it was decided.
pub(super) fn closes(model: &Model, p: &Proposal) -> Span {
    if p.state != "OPEN" {
        return dim(fill(model.t(T::Ago), &age(model.now - p.decided_at)));
    }
    match p.deadline - model.now {
        left if left <= 0 => Span { text: model.t(T::Overdue).to_owned(), role: Role::Warn },
        left if left < 3_600_000 => Span { text: span(left), role: Role::Warn },
        left => text(span(left)),
    }
}

pub(super) fn chains(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColChain, 28, 0),
        col(T::ColTemplate, 20, 2),
        col(T::ColState, 18, 0),
        num(T::ColNodes, 7, 0),
        num(T::ColHeight, 12, 0),
        num(T::ColTxRate, 20, 1),
        num(T::ColAge, 6, 3),
        col(T::ColReason, 40, 1),
    ];
    let rows = model.chains(&Query::Chains).iter().map(|c| Row {
        id: c.name.clone(),
        cells: vec![
            text(short(&c.name)),
            dim(&c.template),
            state(model, &c.state),
            text(format!("{}/{}", c.nodes_ready.0, c.nodes_ready.1)),
            height(c.height),
            super::watch::transactions(model, &c.name),
            since(model, c.created_at),
            progress(model, &c.operation, &c.reason),
        ],
        open: Some(Screen::Chain(c.name.clone())),
    });
    let rows = rows.collect();
    let mut page = table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyChains);
    // Pinned, for every line of the list is a chain.
    if !page.pinned.is_empty() {
        page.pinned.extend(super::watch::transactions_failed(model));
    }
    page
}

/// Returns `step k/n` with a bar while the operation of a chain runs, otherwise the reason of its state.
fn progress(model: &Model, operation: &str, reason: &str) -> Span {
    let list = model.operations(&Query::Operations);
    match list.iter().find(|o| leaf(&o.name) == leaf(operation) && o.state == "RUNNING") {
        Some(o) => Span { text: steps(model, o), role: Role::Working },
        None => dim(reason),
    }
}

/// Returns `k/n` and a bar of an operation's steps.
pub(super) fn steps(model: &Model, o: &Operation) -> String {
    let (done, all) = (o.done(), o.steps.len());
    format!("{done}/{all} {}", bar(model, done as u64, all as u64, 10))
}

pub(super) fn nodes(model: &Model, columns: usize) -> Page {
    let all: Vec<_> = model.nodes(&Query::Nodes).iter().collect();
    table(model, columns, node_table(model, &all), T::EmptyNodes)
}

/// Returns the table of nodes, also part of a chain's screen.
pub(super) fn node_table(model: &Model, list: &[&crate::app::model::data::Node]) -> Table {
    const COLUMNS: &[Column] = &[
        col(T::ColNode, 32, 0),
        col(T::ColState, 18, 0),
        col(T::ColHealth, 16, 1),
        num(T::ColHeight, 12, 0),
        num(T::ColPeers, 5, 3),
        col(T::ColHost, 16, 0),
        col(T::ColOwner, 16, 2),
        num(T::ColGeneration, 4, 3),
        num(T::ColRestarts, 8, 4),
        num(T::ColRepairs, 8, 3),
        col(T::ColReason, 40, 1),
    ];
    let rows = list.iter().map(|n| Row {
        id: n.name.clone(),
        cells: vec![
            text(short(&n.name)),
            state(model, &n.state),
            state(model, &n.health),
            height(n.height),
            text(n.peers.to_string()),
            if n.host.is_empty() { dim("-") } else { text(&n.host) },
            dim(&n.owner),
            dim(n.generation.to_string()),
            dim(n.restarts.to_string()),
            dim(n.repairs_left.to_string()),
            dim([&n.says, &n.reason, &n.seat.1].into_iter().find(|words| !words.is_empty()).unwrap_or(&n.says)),
        ],
        open: Some(Screen::Facts { query: Query::Nodes, id: n.name.clone(), json: false }),
    });
    Table { columns: COLUMNS, rows: rows.collect() }
}

pub(super) fn hosts(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColHost, 20, 0),
        col(T::ColState, 18, 0),
        num(T::ColSlots, 8, 0),
        col(T::ColZone, 12, 2),
        col(T::ColDedicated, 12, 3),
        col(T::ColReach, 40, 1),
        col(T::ColCapacity, 30, 3),
        num(T::ColSeen, 6, 2),
        col(T::ColReason, 40, 1),
    ];
    let rows = model.hosts(&Query::Hosts).iter().map(|h| Row {
        id: h.name.clone(),
        cells: vec![
            text(leaf(&h.name)),
            state(model, &h.state),
            text(format!("{}/{}", h.slots.0, h.slots.1)),
            dim(&h.zone),
            dim(&h.dedicated_to),
            dim(&h.reach),
            dim(&h.capacity),
            since(model, h.seen_at),
            dim(&h.reason),
        ],
        open: Some(Screen::Facts { query: Query::Hosts, id: h.name.clone(), json: false }),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyHosts)
}

pub(super) fn operations(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColOperation, 12, 0),
        col(T::ColKind, 20, 0),
        col(T::ColTarget, 40, 0),
        col(T::ColState, 16, 0),
        col(T::ColSteps, 18, 0),
        num(T::ColTook, 8, 1),
        col(T::ColBy, 20, 2),
        col(T::ColCause, 40, 3),
    ];
    let rows = model.operations(&Query::Operations).iter().map(|o| Row {
        id: o.name.clone(),
        cells: vec![
            text(leaf(&o.name)),
            text(crate::i18n::state(model.settings.lang, &o.kind)),
            text(short(&o.target)),
            work(model, &o.state),
            text(steps(model, o)),
            dim(took(model, o.started_at, o.ended_at)),
            dim(who(&o.by)),
            dim(&o.cause),
        ],
        open: Some(Screen::Operation(o.name.clone())),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyOperations)
}

/// Returns how long something took, or has taken until now, or `-` before it began.
pub(super) fn took(model: &Model, started: i64, ended: i64) -> String {
    match (started, ended) {
        (0, _) => "-".to_owned(),
        (s, 0) => span(model.now - s),
        (s, e) => span(e - s),
    }
}

pub(super) fn audit(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        num(T::ColSeq, 8, 0),
        col(T::ColTime, 19, 0),
        col(T::ColActor, 20, 0),
        col(T::ColAction, 24, 0),
        col(T::ColResource, 44, 0),
        col(T::ColOutcome, 24, 0),
        col(T::ColSource, 22, 3),
        col(T::ColRequest, 36, 4),
    ];
    let rows = model.audit(&Query::Audit).iter().map(|a| {
        let id = format!("audit/{}", a.seq);
        let role = if a.outcome == "ok" { Role::Ok } else { Role::Warn };
        Row {
            cells: vec![
                dim(a.seq.to_string()),
                dim(date_time(a.at)),
                text(who(&a.actor)),
                text(&a.action),
                text(&a.resource),
                Span { text: a.outcome.clone(), role },
                dim(&a.source),
                dim(&a.request_id),
            ],
            open: Some(Screen::Facts { query: Query::Audit, id: id.clone(), json: false }),
            id,
        }
    });
    let rows = rows.collect();
    let mut page = table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyAudit);
    if let Some(Payload::AuditTree(Some(tree))) = model.payload(&Query::AuditTree)
        && !page.pinned.is_empty()
    {
        let words = fill(&fill(model.t(T::AuditTree), &number(tree.size)), &short_hash(&tree.root));
        page.pinned.insert(0, Line::of(words, Role::Dim));
    }
    page
}
