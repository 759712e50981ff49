//! Who decides on a chain: validators, members, lists, what is decided and not in force yet, who signed twice.
//!
//! It only shows. A change is made of members' signatures, by `hanse chain govern` on the members' own machines.

use crate::app::model::Model;
use crate::app::model::data::{AllowList, Governance, Payload, Query, ValidatorSet};
use crate::format::{number, wrap};
use crate::i18n::{T, fill};
use crate::theme::Role;

use super::details::{LABEL, add, fact, labelled, section};
use super::page::{Column, Line, Page, Row, Span, State, Table, col, dim, num, text};
use super::{Screen, short};

/// Width of what stands before the text of a line in a list.
const INDENT: usize = 2;

pub(super) fn page(model: &Model, chain: &str, columns: usize) -> Page {
    let query = Query::Governance(chain.to_owned());
    let Some(Payload::Governance(g)) = model.payload(&query) else {
        return Page::bare(State::Empty(T::EmptyGone));
    };
    let mut lines = head(model, g, columns);
    for set in &g.validators {
        validators(model, &mut lines, set, columns);
    }
    if g.governed {
        lines.extend(section(model, T::Members));
        add(model, &mut lines, members(g), columns);
        for (title, list) in [(T::ListNodes, &g.nodes), (T::ListSenders, &g.senders), (T::ListDeployers, &g.deployers)]
        {
            lines.extend(section(model, title));
            lines.extend(allow_list(model, list));
        }
    }
    lines.extend(section(model, T::Evidence));
    lines.extend(evidence(model, g));
    Page::of(lines)
}

fn head(model: &Model, g: &Governance, columns: usize) -> Vec<Line> {
    let who = match g.governed {
        true => fill(&fill(model.t(T::GovernedBy), &g.threshold.to_string()), &g.members.len().to_string()),
        false => model.t(T::Ungoverned).to_owned(),
    };
    let mut lines = vec![
        fact(model, T::ColGovernance, who),
        fact(model, T::Asked, short(&g.node))
            .and(format!("  {} {}", model.t(T::NextBlock), number(g.next_height)), Role::Dim),
    ];
    if !g.halted.is_empty() {
        let mut pieces = wrap(&g.halted, columns.saturating_sub(LABEL)).into_iter();
        let first = pieces.next().unwrap_or_default();
        lines.push(labelled(model, T::Halted, Span { text: first, role: Role::Danger }));
        lines.extend(pieces.map(|piece| Line::of(" ".repeat(LABEL), Role::Dim).and(piece, Role::Danger)));
    }
    if g.governed {
        let (known, needed) = g.protocol;
        let role = if known < needed { Role::Danger } else { Role::Text };
        let words = fill(&fill(model.t(T::RulesLine), &known.to_string()), &needed.to_string());
        lines.push(fact(model, T::NextProposal, g.sequence.to_string()));
        lines.push(labelled(model, T::RulesVersion, Span { text: words, role }));
    }
    if let Some((version, after)) = g.upgrade {
        let words = fill(&fill(model.t(T::UpgradeLine), &version.to_string()), &number(after));
        // What lies ahead wants a look at the programs; what is done is history.
        let role = if g.next_height <= after { Role::Warn } else { Role::Dim };
        lines.push(labelled(model, T::Upgrade, Span { text: words, role }));
    }
    for name in &g.silent {
        lines.push(labelled(model, T::NoAnswer, Span { text: short(name), role: Role::Warn }));
    }
    lines
}

fn validators(model: &Model, lines: &mut Vec<Line>, set: &ValidatorSet, columns: usize) {
    const COLUMNS: &[Column] =
        &[col(T::ColNode, 32, 0), col(T::ColOwner, 16, 1), num(T::ColPower, 12, 0), col(T::ColNodeId, 40, 2)];
    lines.push(Line::default());
    lines.push(match set.from_height {
        0 => Line::of(model.t(T::Validators), Role::Strong),
        from => Line::of(fill(model.t(T::ValidatorsFrom), &number(from)), Role::Working),
    });
    let rows = set.validators.iter().enumerate().map(|(i, v)| Row {
        id: format!("validators/{}/{i}", set.from_height),
        cells: vec![
            if v.node.is_empty() { dim(model.t(T::Foreign)) } else { text(short(&v.node)) },
            dim(&v.owner),
            text(number(v.power)),
            dim(&v.node_id),
        ],
        open: (!v.node.is_empty()).then(|| Screen::Facts { query: Query::Nodes, id: v.node.clone(), json: false }),
    });
    add(model, lines, Table { columns: COLUMNS, rows: rows.collect() }, columns);
}

fn members(g: &Governance) -> Table {
    const COLUMNS: &[Column] = &[col(T::ColTenant, 24, 0), col(T::ColAccount, 42, 0)];
    let rows = g.members.iter().enumerate().map(|(i, (account, tenant))| Row {
        id: format!("members/{i}"),
        cells: vec![if tenant.is_empty() { dim("-") } else { text(tenant) }, text(account)],
        open: None,
    });
    Table { columns: COLUMNS, rows: rows.collect() }
}

fn allow_list(model: &Model, list: &AllowList) -> Vec<Line> {
    let (words, role) = match list.restricted {
        (false, false) => (T::ListOpen, Role::Dim),
        (true, true) => (T::ListInForce, Role::Text),
        (false, true) => (T::ListSoonInForce, Role::Working),
        (true, false) => (T::ListSoonOpen, Role::Working),
    };
    let mut lines = vec![Line::of(model.t(words), role)];
    let line = |text: &str, role| Line::of(" ".repeat(INDENT), Role::Text).and(text, role);
    lines.extend(list.entries.iter().map(|entry| line(entry, Role::Text)));
    lines.extend(list.pending.iter().map(|change| {
        let words = if change.allowed { T::ListAdded } else { T::ListRemoved };
        let words = fill(model.t(words), &number(change.from_height));
        line(&change.entry, Role::Working).and(format!("  {words}"), Role::Working)
    }));
    lines
}

fn evidence(model: &Model, g: &Governance) -> Vec<Line> {
    if g.evidence.is_empty() {
        return vec![Line::of(model.t(T::EmptyEvidence), Role::Dim)];
    }
    let line = |e: &crate::app::model::data::DoubleSigning| {
        let who = if e.who.contains('/') { short(&e.who) } else { e.who.clone() };
        let words = fill(&fill(model.t(T::EvidenceLine), &e.kind), &number(e.height));
        Line::of(who, Role::Danger).and(format!("  {}  {words}", e.owner), Role::Text)
    };
    g.evidence.iter().map(line).collect()
}
