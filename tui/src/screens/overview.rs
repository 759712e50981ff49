//! The overview: tiles with counts, what needs a person, the replicas, the last changes.

use crate::app::model::Model;
use crate::app::model::data::Query;
use crate::format::{clock, fit, span};
use crate::i18n::T;
use crate::theme::{Level, Role};

use super::page::{Line, Page, State};
use super::{Screen, leaf, short, waiting, who};

/// Most lines of "needs you": the lists behind them have the rest.
const NEEDS_MAX: usize = 50;

/// A tile: title, its total, how many are well, on their way or to be looked at, and broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Title.
    pub title: T,
    /// Ok, working or warn, bad; none while the data is not there.
    pub counts: Option<[usize; 3]>,
}

/// Returns the tiles from the left.
pub fn tiles(model: &Model) -> Vec<Tile> {
    let tile = |title, query: Query, words: Vec<&str>| {
        let mut counts = [0; 3];
        for word in words {
            let i = match Level::of(word) {
                Level::Ok | Level::Stopped => 0,
                Level::Working | Level::Warn | Level::Unknown => 1,
                Level::Bad => 2,
            };
            counts[i] += 1;
        }
        Tile { title, counts: model.payload(&query).map(|_| counts) }
    };
    let chains = model.chains(&Query::Chains).iter().map(|c| c.state.as_str()).collect();
    let nodes = model.nodes(&Query::Nodes).iter().map(|n| match n.state.as_str() {
        "RUNNING" => n.health.as_str(),
        other => other,
    });
    let nodes = nodes.collect();
    let hosts = model.hosts(&Query::Hosts).iter().map(|h| h.state.as_str()).collect();
    let jobs = model.operations(&Query::Operations).iter().map(|o| match o.state.as_str() {
        "RUNNING" => "STARTING",
        other => other,
    });
    let jobs = jobs.collect();
    let tenants = model.tenants(&Query::Tenants).iter().map(|t| t.state.as_str()).collect();
    let consortiums = model.consortiums(&Query::Consortiums).iter().map(|c| c.state.as_str()).collect();
    vec![
        tile(T::Chains, Query::Chains, chains),
        tile(T::Nodes, Query::Nodes, nodes),
        tile(T::Hosts, Query::Hosts, hosts),
        tile(T::Operations, Query::Operations, jobs),
        tile(T::Consortiums, Query::Consortiums, consortiums),
        tile(T::Tenants, Query::Tenants, tenants),
    ]
}

/// Returns what waits for a person, the worst first: failed work, broken nodes and hosts, votes.
pub fn needs(model: &Model) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut need = |level: Level, kind: T, said: String, id: &str, open: Screen| {
        let glyph = model.settings.theme.glyph(level);
        let line = Line::of(format!("{glyph} {} ", fit(model.t(kind), 10, false)), level.role()).and(said, Role::Text);
        lines.push(line.opens(id, open));
    };
    // Fewer replicas are less room for the next failure, whatever else works meanwhile.
    let replicas = model.status().map(|s| s.replicas.as_slice()).unwrap_or_default();
    for r in replicas.iter().filter(|r| Level::of(&r.role) >= Level::Warn) {
        let said = format!("{}  {}  {}", r.id, crate::i18n::state(model.settings.lang, &r.role), r.address);
        need(Level::of(&r.role), T::NeedReplica, said, &r.id, Screen::Replicas);
    }
    for o in model.operations(&Query::Operations).iter().filter(|o| o.state == "FAILED") {
        let said = format!("{}  {}  {}", leaf(&o.name), short(&o.target), o.cause);
        need(Level::Bad, T::NeedOperation, said, &o.name, Screen::Operation(o.name.clone()));
    }
    for c in model.chains(&Query::Chains).iter().filter(|c| Level::of(&c.state) >= Level::Warn) {
        let said = format!("{}  {}  {}", short(&c.name), crate::i18n::state(model.settings.lang, &c.state), c.reason);
        need(Level::of(&c.state), T::NeedChain, said, &c.name, Screen::Chain(c.name.clone()));
    }
    for n in model.nodes(&Query::Nodes).iter().filter(|n| Level::of(&n.state).max(bad(&n.health)) >= Level::Warn) {
        let level = Level::of(&n.state).max(bad(&n.health));
        let word = if level == Level::of(&n.state) { &n.state } else { &n.health };
        let said = format!("{}  {}  {}", short(&n.name), crate::i18n::state(model.settings.lang, word), n.reason);
        need(level, T::NeedNode, said, &n.name, Screen::Facts { query: Query::Nodes, id: n.name.clone(), json: false });
    }
    for h in model.hosts(&Query::Hosts).iter().filter(|h| Level::of(&h.state) >= Level::Warn) {
        let said = format!("{}  {}  {}", leaf(&h.name), crate::i18n::state(model.settings.lang, &h.state), h.reason);
        need(
            Level::Bad,
            T::NeedHost,
            said,
            &h.name,
            Screen::Facts { query: Query::Hosts, id: h.name.clone(), json: false },
        );
    }
    let mine = model.session().map(|s| s.tenant.as_str()).unwrap_or_default();
    for p in model.proposals(&Query::Proposals(None)).iter().filter(|p| p.state == "OPEN") {
        let voted = p.ballots.iter().any(|b| b.tenant == mine && !b.choice.is_empty());
        if voted {
            continue;
        }
        let left = span(p.deadline - model.now);
        let said = format!("{}  {}/{}  {} {left}", p.title, p.tally.yes, p.tally.needed, model.t(T::Closes));
        need(Level::Working, T::NeedVote, said, &p.name, Screen::Proposal(p.name.clone()));
    }
    lines.truncate(NEEDS_MAX);
    lines
}

/// Returns the level of a health word where it is bad news; "not looked at yet" is none.
fn bad(health: &str) -> Level {
    Some(Level::of(health)).filter(|l| *l >= Level::Warn).unwrap_or(Level::Ok)
}

/// Returns the last changes, newest first, or why there are none.
pub fn recent(model: &Model, columns: usize) -> Page {
    if let Some(state) = waiting(model, &Query::Recent) {
        return Page::bare(state);
    }
    let lines = model.audit(&Query::Recent).iter().map(|a| {
        let role = if a.outcome == "ok" { Role::Ok } else { Role::Warn };
        let resource = Some(short(&a.resource)).filter(|it| !it.is_empty()).unwrap_or_else(|| a.resource.clone());
        Line::of(format!("{}  ", clock(a.at)), Role::Dim)
            .and(format!("{}  ", fit(who(&a.actor), 14, false)), Role::Text)
            .and(format!("{}  ", fit(&a.action, 20, false)), Role::Text)
            .and(format!("{}  ", fit(&resource, columns.saturating_sub(64).clamp(16, 50), false)), Role::Text)
            .and(&a.outcome, role)
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { Page::bare(State::Empty(T::EmptyRecent)) } else { Page::of(lines) }
}
