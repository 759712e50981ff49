//! The detail screens: a head of labelled facts, then tables whose rows open further.

use crate::app::model::Model;
use crate::app::model::data::{AnchorSeen, Invoice, Payload};
use crate::app::model::data::{Ballot, Chain, Consortium, Operation, Proposal, Query, Step};
use crate::format::{date_time, fit, money, number, span, width, wrap};
use crate::i18n::{T, fill, state as word};
use crate::theme::{Level, Role};

use super::lists::{closes, node_table, proposal_table, steps, took};
use super::page::{Column, Line, Page, Row, Span, State, Table, bar, col, dim, num, state, text, work};
use super::{Screen, leaf, short};

/// Width of the labels of a head.
pub(super) const LABEL: usize = 16;

/// Returns a labelled fact of a head.
pub(super) fn fact(model: &Model, label: T, value: impl Into<String>) -> Line {
    labelled(model, label, Span { text: value.into(), role: Role::Text })
}

pub(super) fn labelled(model: &Model, label: T, value: Span) -> Line {
    Line::of(fit(model.t(label), LABEL, false), Role::Dim).and(value.text, value.role)
}

/// Returns a labelled fact on as many lines as it needs, so that a hash can be read and copied whole.
fn long_fact(model: &Model, label: T, value: &str, columns: usize) -> Vec<Line> {
    let pieces = wrap(value, columns.saturating_sub(LABEL)).into_iter().enumerate();
    let label = |i| if i == 0 { model.t(label) } else { "" };
    pieces.map(|(i, piece)| Line::of(fit(label(i), LABEL, false), Role::Dim).and(piece, Role::Text)).collect()
}

/// Returns a headline between parts.
pub(super) fn section(model: &Model, title: T) -> [Line; 2] {
    [Line::default(), Line::of(model.t(title), Role::Strong)]
}

/// Adds a table with its header to the lines of a page.
pub(super) fn add(model: &Model, lines: &mut Vec<Line>, table: Table, columns: usize) {
    let (header, rows) = table.layout(columns, |t| model.t(t));
    lines.push(header);
    lines.extend(rows);
}

pub(super) fn consortium(model: &Model, name: &str, columns: usize) -> Page {
    let Some(c) = model.consortiums(&Query::Consortiums).iter().find(|c| c.name == name) else {
        return Page::bare(State::Empty(T::EmptyGone));
    };
    let mut lines = vec![
        fact(model, T::ColDisplayName, &c.display_name),
        labelled(model, T::ColState, state(model, &c.state)),
        fact(model, T::Founder, &c.founder),
        fact(model, T::Created, date_time(c.created_at)),
        fact(model, T::VotingPeriod, span(i64::try_from(c.voting_period_ms).unwrap_or(i64::MAX))),
    ];
    for (action, policy) in &c.policies {
        let lang = model.settings.lang;
        let rule = format!("{}: {}", word(lang, action), word(lang, policy));
        lines.push(fact(model, T::CharterRule, rule));
    }
    lines.extend(section(model, T::Members));
    add(model, &mut lines, members(model, c), columns);
    lines.extend(section(model, T::Proposals));
    let list = model.proposals(&Query::Proposals(Some(name.to_owned())));
    if list.is_empty() {
        lines.push(Line::of(model.t(T::EmptyProposals), Role::Dim));
    } else {
        add(model, &mut lines, proposal_table(model, list), columns);
    }
    Page::of(lines)
}

fn members(model: &Model, c: &Consortium) -> Table {
    const COLUMNS: &[Column] =
        &[col(T::ColTenant, 24, 0), num(T::ColWeight, 8, 0), col(T::ColState, 16, 0), col(T::ColKey, 64, 1)];
    let rows = c.members.iter().map(|m| Row {
        id: format!("members/{}", m.tenant),
        cells: vec![text(&m.tenant), text(m.weight.to_string()), state(model, &m.state), dim(&m.key)],
        open: None,
    });
    Table { columns: COLUMNS, rows: rows.collect() }
}

pub(super) fn proposal(model: &Model, name: &str, columns: usize) -> Page {
    let query = Query::Proposal(name.to_owned());
    let Some(p) = model.proposals(&query).first() else {
        return Page::bare(State::Empty(T::EmptyGone));
    };
    let lang = model.settings.lang;
    let mut lines = vec![
        Line::of(&p.title, Role::Strong),
        labelled(model, T::ColState, state(model, &p.state)).and(format!("  {}", p.reason), Role::Dim),
        labelled(model, if p.state == "OPEN" { T::Closes } else { T::Decided }, closes(model, p))
            .and(format!("   {}", date_time(if p.state == "OPEN" { p.deadline } else { p.decided_at })), Role::Dim),
        fact(model, T::ColKind, word(lang, &p.action)),
        fact(model, T::ColBy, format!("{}  {}", p.by, date_time(p.opened_at))),
        Line::default(),
    ];
    lines.extend(tally(model, p, columns));
    lines.extend(section(model, T::Ballots));
    add(model, &mut lines, ballots(model, p), columns);
    if !p.operation.is_empty() {
        let name = format!("operations/{}", leaf(&p.operation));
        lines.push(Line::default());
        lines.push(fact(model, T::ColOperation, &p.operation).opens(&name, Screen::Operation(name.clone())));
    }
    if p.ordered.contains("/chains/") {
        lines.push(fact(model, T::ColChain, short(&p.ordered)).opens(&p.ordered, Screen::Chain(p.ordered.clone())));
    }
    lines.extend(section(model, T::Artifact));
    lines.push(Line::of(format!("sha256 {}", p.artifact_hash), Role::Dim));
    lines.extend(artifact(&p.artifact, columns));
    Page::of(lines)
}

/// Returns the bars of a vote: yes against what is needed, no, abstain.
fn tally(model: &Model, p: &Proposal, columns: usize) -> Vec<Line> {
    let cells = columns.saturating_sub(50).clamp(10, 50);
    let row = |label: T, part: u64, role: Role, note: String| {
        Line::of(fit(model.t(label), 10, false), Role::Text)
            .and(bar(model, part, p.tally.total, cells), role)
            .and(format!(" {part}/{}", p.tally.total), Role::Strong)
            .and(note, Role::Dim)
    };
    let policy = word(model.settings.lang, &p.policy);
    let needed = format!("   {} {} ({policy})", model.t(T::Needed), p.tally.needed);
    vec![
        row(T::Yes, p.tally.yes, Role::Ok, needed),
        row(T::No, p.tally.no, Role::Danger, String::new()),
        row(T::Abstain, p.tally.abstain, Role::Dim, String::new()),
    ]
}

fn ballots(model: &Model, p: &Proposal) -> Table {
    const COLUMNS: &[Column] =
        &[col(T::ColTenant, 24, 0), num(T::ColWeight, 8, 0), col(T::ColChoice, 16, 0), col(T::ColTime, 19, 0)];
    let mine = model.session().map(|s| s.tenant.as_str()).unwrap_or_default();
    let choice = |b: &Ballot| match b.choice.as_str() {
        "" => Span {
            text: format!("{} {}", model.settings.theme.glyph(Level::Working), model.t(T::NotVoted)),
            role: Role::Dim,
        },
        choice => state(model, choice),
    };
    let rows = p.ballots.iter().map(|b| Row {
        id: format!("ballots/{}", b.tenant),
        cells: vec![
            text(if b.tenant == mine { format!("{} ({})", b.tenant, model.t(T::You)) } else { b.tenant.clone() }),
            text(b.weight.to_string()),
            choice(b),
            dim(date_time(b.at)),
        ],
        open: None,
    });
    Table { columns: COLUMNS, rows: rows.collect() }
}

/// Returns the artifact wrapped to the screen, with a break after each comma and bracket of the outer levels, so that
/// a person can read what is voted on. Only blanks and breaks are added: the bytes are those of the hash.
fn artifact(artifact: &str, columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for part in pretty(artifact) {
        let indent = part.len() - part.trim_start().len();
        for (i, piece) in wrap(part.trim_start(), columns.saturating_sub(indent + 2)).into_iter().enumerate() {
            let more = if i > 0 { 2 } else { 0 };
            lines.push(Line::of(format!("{}{piece}", " ".repeat(indent + more)), Role::Text));
        }
    }
    lines
}

/// Deepest level that gets its own indentation; hostile input must not push the text off the screen.
const DEPTH_MAX: usize = 12;

/// Returns JSON broken into indented lines. Not a parser: text that is no JSON comes back in one piece or few.
pub(super) fn pretty(json: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let flush = |line: &mut String, depth: usize, lines: &mut Vec<String>| {
        if !line.trim().is_empty() {
            lines.push(format!("{}{}", "  ".repeat(depth.min(DEPTH_MAX)), line.trim()));
        }
        line.clear();
    };
    for c in json.chars() {
        if quoted {
            line.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                quoted = true;
                line.push(c);
            }
            '{' | '[' => {
                line.push(c);
                flush(&mut line, depth, &mut lines);
                depth += 1;
            }
            '}' | ']' => {
                flush(&mut line, depth, &mut lines);
                depth = depth.saturating_sub(1);
                line.push(c);
            }
            ',' => {
                line.push(c);
                flush(&mut line, depth, &mut lines);
            }
            ':' => line.push_str(": "),
            c => line.push(c),
        }
    }
    flush(&mut line, depth, &mut lines);
    lines
}

pub(super) fn chain(model: &Model, name: &str, columns: usize) -> Page {
    let Some(c) = model.chains(&Query::Chains).iter().find(|c| c.name == name) else {
        return Page::bare(State::Empty(T::EmptyGone));
    };
    let mut lines = chain_head(model, c, columns);
    // What moves stands above what does not.
    lines.splice(CHAIN_NOW..CHAIN_NOW, super::watch::figures(model, name, super::watch::OF_CHAIN, columns));
    lines.extend(section(model, T::Nodes));
    let inside = format!("{name}/nodes/");
    let nodes: Vec<_> = model.nodes(&Query::Nodes).iter().filter(|n| n.name.starts_with(&inside)).collect();
    if nodes.is_empty() {
        lines.push(Line::of(model.t(T::EmptyNodes), Role::Dim));
    } else {
        add(model, &mut lines, node_table(model, &nodes), columns);
    }
    Page::of(lines)
}

/// Lines of a chain's head that say how it is now.
const CHAIN_NOW: usize = 3;

fn chain_head(model: &Model, c: &Chain, columns: usize) -> Vec<Line> {
    let none = || "-".to_owned();
    let operation = format!("operations/{}", leaf(&c.operation));
    let mut lines = vec![
        labelled(model, T::ColState, state(model, &c.state)).and(format!("  {}", c.reason), Role::Dim),
        fact(model, T::ColHeight, c.height.map_or_else(none, number)),
        fact(model, T::ColNodes, format!("{}/{}", c.nodes_ready.0, c.nodes_ready.1)),
        fact(model, T::ColTemplate, format!("{}   chain id {}", c.template, c.chain_id)),
    ];
    for (key, value) in &c.parameters {
        lines.push(fact(model, T::Parameter, format!("{key} = {value}")));
    }
    lines.push(fact(model, T::Created, date_time(c.created_at)));
    for (key, value) in &c.settings {
        lines.push(fact(model, T::Setting, format!("{key} = {value}")));
    }
    if !c.program.is_empty() {
        lines.push(fact(model, T::Program, &c.program));
    }
    if !c.rolling.is_empty() {
        lines.push(fact(model, T::Rolling, &c.rolling).and(format!("  {}", c.halted), Role::Danger));
    }
    if c.purge_at > 0 {
        lines.push(fact(model, T::PurgeAt, date_time(c.purge_at)));
    }
    if !c.genesis_hash.is_empty() {
        lines.extend(long_fact(model, T::Genesis, &c.genesis_hash, columns));
    }
    let who = match c.governors {
        Some((threshold, members)) => fill(&fill(model.t(T::GovernedBy), &threshold.to_string()), &members.to_string()),
        None => model.t(T::Ungoverned).to_owned(),
    };
    lines.push(fact(model, T::ColGovernance, who).opens("governance", Screen::Governance(c.name.clone())));
    let explorer = Screen::Explorer(c.name.clone());
    lines.push(fact(model, T::Explorer, model.t(T::OpenBlocks)).opens("explorer", explorer));
    if !c.operation.is_empty() {
        lines.push(fact(model, T::ColOperation, &c.operation).opens(&operation, Screen::Operation(operation.clone())));
    }
    if let Some((consortium, _)) = c.name.split_once("/chains/").filter(|_| !c.proposal.is_empty()) {
        let name = format!("{consortium}/proposals/{}", leaf(&c.proposal));
        lines.push(fact(model, T::ColProposal, short(&name)).opens(&name, Screen::Proposal(name.clone())));
    }
    lines.push(match (c.repairs, c.repairs_default) {
        (0, _) => labelled(model, T::Repairs, Span { text: model.t(T::RepairsOff).to_owned(), role: Role::Warn }),
        (number, is_default) => {
            let words = fill(model.t(T::RepairsEach), &number.to_string());
            let note = if is_default { model.t(T::RepairsDefault) } else { "" };
            fact(model, T::Repairs, words).and(format!("  {note}"), Role::Dim)
        }
    });
    lines.extend(c.anchor.iter().flat_map(|anchor| audit_anchor(model, anchor, columns)));
    lines
}

/// How much of the audit trail the chain holds, and what is wrong with it.
fn audit_anchor(model: &Model, anchor: &AnchorSeen, columns: usize) -> Vec<Line> {
    let mut lines = vec![if anchor.records == 0 {
        fact(model, T::AuditAnchor, model.t(T::AnchorNone))
    } else {
        let (records, block) = (model.t(T::AnchorRecords), model.t(T::Block).to_lowercase());
        let words = format!("{} {records}   {block} {}", number(anchor.records), number(anchor.height));
        fact(model, T::AuditAnchor, words).and(format!("   {}", date_time(anchor.at)), Role::Dim)
    }];
    if !anchor.error.is_empty() {
        let pieces = wrap(&anchor.error, columns.saturating_sub(LABEL));
        lines.extend(
            pieces.into_iter().map(|piece| Line::of(fit("", LABEL, false), Role::Dim).and(piece, Role::Danger)),
        );
    }
    lines
}

pub(super) fn operation(model: &Model, name: &str, columns: usize) -> Page {
    let query = Query::Operation(name.to_owned());
    let Some(o) = model.operations(&query).first() else {
        return Page::bare(State::Empty(T::EmptyGone));
    };
    let lang = model.settings.lang;
    let target = short(&o.target);
    let mut lines = vec![
        labelled(model, T::ColState, work(model, &o.state))
            .and(format!("  {}", steps(model, o)), Role::Working)
            .and(format!("  {}", took(model, o.started_at, o.ended_at)), Role::Dim),
        fact(model, T::ColKind, word(lang, &o.kind)),
        match o.target.contains("/chains/") && !o.target.contains("/contracts/") {
            true => fact(model, T::ColTarget, target).opens(&o.target, Screen::Chain(o.target.clone())),
            false => fact(model, T::ColTarget, target),
        },
        fact(model, T::ColBy, format!("{}  {}", o.by, date_time(o.started_at))),
        fact(model, T::ColRequest, &o.request_id),
    ];
    if !o.cause.is_empty() {
        for (i, piece) in wrap(&o.cause, columns.saturating_sub(LABEL)).into_iter().enumerate() {
            let label = if i == 0 { model.t(T::ColCause) } else { "" };
            lines.push(Line::of(fit(label, LABEL, false), Role::Dim).and(piece, Role::Danger));
        }
    }
    lines.extend(section(model, T::Steps));
    for (i, s) in o.steps.iter().enumerate() {
        lines.push(step(model, o, i, s));
        // Of what went wrong the end is shown here; all of it with the facts (`d`).
        let said: Vec<&str> = if s.state == "FAILED" { s.output.lines().collect() } else { Vec::new() };
        let from = said.len().saturating_sub(OUTPUT_LINES);
        lines.extend(said[from..].iter().map(|line| Line::of(format!("      | {line}"), Role::Dim)));
    }
    lines.push(Line::default());
    lines.push(Line::of(model.t(T::ClosingStopsNothing), Role::Dim));
    Page::of(lines)
}

/// Lines of a failed step's output below it.
const OUTPUT_LINES: usize = 8;

fn step(model: &Model, o: &Operation, i: usize, s: &Step) -> Line {
    let span = work(model, &s.state);
    let label = |s: &Step| match s.target.contains('/') {
        true => format!("{} {}", s.name, short(&s.target)),
        false => format!("{} {}", s.name, s.target),
    };
    let name = o.steps.iter().map(|s| width(&label(s))).max().unwrap_or(0).min(48);
    let took = if s.started_at > 0 { took(model, s.started_at, s.ended_at) } else { String::new() };
    Line { id: format!("steps/{i}"), ..Line::default() }
        .and(format!("{:>3} ", i + 1), Role::Dim)
        .and(fit(&span.text, 14, false), span.role)
        .and(fit(&label(s), name, false), Role::Text)
        .and(fit(&took, 9, true), Role::Dim)
        .and(format!("  {}", s.detail), if s.state == "FAILED" { Role::Danger } else { Role::Dim })
}

pub(super) fn invoice(model: &Model, tenant: &str, month: &str, columns: usize) -> Page {
    let query = Query::Invoice(tenant.to_owned(), month.to_owned());
    let Some(Payload::Invoice(invoice)) = model.payload(&query) else {
        return Page::bare(State::Empty(T::EmptyGone));
    };
    let equal = invoice.total_micro == invoice.recomputed_micro;
    let check = if equal {
        Span { text: model.t(T::InvoiceEqual).to_owned(), role: Role::Ok }
    } else {
        let other = money(invoice.recomputed_micro, &invoice.currency);
        Span { text: format!("{}: {other}", model.t(T::InvoiceDiffers)), role: Role::Danger }
    };
    let mut lines = vec![
        Line::of(model.t(T::InvoiceDraft), Role::Strong),
        fact(model, T::ColTenant, tenant),
        fact(model, T::Month, month),
        labelled(model, T::Total, Span { text: money(invoice.total_micro, &invoice.currency), role: Role::Strong }),
        labelled(model, T::Recomputed, check),
        fact(model, T::MeteredUntil, date_time(invoice.metered_until)),
    ];
    if invoice.unpriced_ms > 0 {
        let ms = i64::try_from(invoice.unpriced_ms).unwrap_or(i64::MAX);
        lines.push(labelled(model, T::Unpriced, Span { text: span(ms), role: Role::Warn }));
    }
    if !invoice.note.is_empty() {
        lines.push(fact(model, T::Note, &invoice.note));
    }
    lines.push(Line::default());
    if invoice.lines.is_empty() {
        lines.push(Line::of(model.t(T::EmptyInvoice), Role::Dim));
    } else {
        add(model, &mut lines, invoice_table(invoice), columns);
    }
    Page::of(lines)
}

fn invoice_table(invoice: &Invoice) -> Table {
    const COLUMNS: &[Column] =
        &[col(T::ColNode, 40, 0), num(T::ColHours, 12, 0), num(T::ColRate, 20, 1), num(T::ColAmount, 20, 0)];
    let rows = invoice.lines.iter().enumerate().map(|(i, l)| Row {
        id: format!("lines/{i}"),
        cells: vec![
            text(short(&l.node)),
            text(format!("{}.{:03}", number(l.ms / 3_600_000), l.ms % 3_600_000 / 3_600)),
            l.rate_micro.map_or_else(|| dim("-"), |r| dim(money(i128::from(r), &invoice.currency))),
            text(money(l.micro, &invoice.currency)),
        ],
        open: None,
    });
    Table { columns: COLUMNS, rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn artifacts_are_broken_at_their_structure_only() {
        let lines = pretty(r#"{"a":{"b":[1,2]},"c":"x,{\"y"}"#);
        assert_eq!(
            lines,
            ["{", "  \"a\": {", "    \"b\": [", "      1,", "      2", "    ]", "  },", "  \"c\": \"x,{\\\"y\"", "}"]
        );
        assert_eq!(pretty("plain words"), ["plain words"]);
    }
}
