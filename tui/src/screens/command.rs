//! The command line: aliases of the screens in both languages, their arguments, completion.

use crate::app::model::Model;
use crate::app::model::data::Query;
use crate::i18n::T;

use super::{Screen, leaf, short};

/// Names of each command, the full one first.
pub const ALIASES: &[(&[&str], T)] = &[
    (&["overview", "ov", "总览"], T::Overview),
    (&["replicas", "cp", "副本"], T::Replicas),
    (&["tenants", "te", "租户"], T::Tenants),
    (&["consortiums", "co", "联盟"], T::Consortiums),
    (&["proposals", "pr", "提案"], T::Proposals),
    (&["chains", "ch", "链"], T::Chains),
    (&["nodes", "no", "节点"], T::Nodes),
    (&["hosts", "ho", "主机"], T::Hosts),
    (&["clouds", "cl", "云"], T::Clouds),
    (&["machines", "ma", "机器"], T::Machines),
    (&["findings", "fi", "诊断"], T::Findings),
    (&["monitor", "mo", "监控"], T::Monitor),
    (&["artifacts", "af", "软件"], T::Artifacts),
    (&["preflight", "pf", "预检"], T::Preflight),
    (&["operations", "op", "作业"], T::Operations),
    (&["governance", "gov", "治理"], T::Governance),
    (&["blocks", "bl", "ex", "explorer", "区块"], T::Explorer),
    (&["tx", "find", "查"], T::ActSearch),
    (&["audit", "au", "审计"], T::Audit),
    (&["billing", "inv", "in", "账单"], T::Billing),
    (&["messages", "消息"], T::Messages),
    (&["help", "帮助"], T::Help),
    (&["q", "quit", "退出"], T::ActQuit),
];

/// What a command line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go to a screen, with a filter.
    Go(Screen, String),
    /// Leave.
    Quit,
    /// It means nothing; say why.
    Wrong(T),
}

/// Returns what `line` means: `alias [argument] [/filter]`, with the shown view as the context.
pub fn parse(model: &Model, line: &str) -> Command {
    let line = line.trim().trim_start_matches(':');
    let (line, filter) = match line.split_once('/').filter(|(before, _)| before.ends_with(' ') || before.is_empty()) {
        Some((line, filter)) => (line.trim(), filter.to_owned()),
        None => (line, String::new()),
    };
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default().to_lowercase();
    let arguments: Vec<&str> = words.collect();
    let Some((_, text)) = ALIASES.iter().find(|(names, _)| names.contains(&name.as_str())) else {
        return Command::Wrong(T::UnknownCommand);
    };
    match screen(model, *text, &arguments) {
        Ok(Some(screen)) => Command::Go(screen, filter),
        Ok(None) => Command::Quit,
        Err(why) => Command::Wrong(why),
    }
}

/// Returns the screen of a command, none for "quit".
fn screen(model: &Model, command: T, arguments: &[&str]) -> Result<Option<Screen>, T> {
    let first = arguments.first().copied();
    Ok(Some(match (command, first) {
        (T::ActQuit, _) => return Ok(None),
        (T::Replicas, _) => Screen::Replicas,
        (T::Tenants, _) => Screen::Tenants,
        (T::Consortiums, None) => Screen::Consortiums,
        (T::Consortiums, Some(id)) => Screen::Consortium(full("consortiums", id)),
        (T::Proposals, None) => Screen::Proposals(None),
        (T::Proposals, Some(path)) => match path.trim_start_matches('@').split_once('/') {
            Some((c, p)) if !path.starts_with("consortiums/") => {
                Screen::Proposal(format!("consortiums/{c}/proposals/{p}"))
            }
            Some(_) if path.contains("/proposals/") => Screen::Proposal(path.to_owned()),
            _ => Screen::Proposals(Some(full("consortiums", path.trim_start_matches('@')))),
        },
        (T::Chains, None) => Screen::Chains,
        (T::Chains, Some(path)) => Screen::Chain(chain(model, Some(path))?),
        (T::Nodes, _) => Screen::Nodes,
        (T::Hosts, _) | (T::Preflight, None) => Screen::Hosts,
        (T::Preflight, Some(host)) => Screen::Preflight(full("hosts", host)),
        (T::Clouds, _) => Screen::Clouds,
        (T::Machines, _) => Screen::Machines,
        (T::Findings, _) => Screen::Findings,
        (T::Artifacts, _) => Screen::Artifacts,
        (T::Monitor, named) => {
            let at = model.view().cursor.as_deref().filter(|at| at.starts_with("hosts/") || at.contains("/chains/"));
            let here = at.or(model.view().screen.chain());
            let of = match (named, here) {
                (Some(name), _) if name.starts_with("hosts/") || name.contains("/chains/") => name.to_owned(),
                (Some(path), _) => chain(model, Some(path))?,
                (None, Some(here)) => here.to_owned(),
                (None, None) => return Err(T::WhatToMonitor),
            };
            Screen::Series(of)
        }
        (T::Operations, None) => Screen::Operations,
        (T::Operations, Some(id)) => Screen::Operation(full("operations", id)),
        (T::Governance, path) => Screen::Governance(chain(model, path)?),
        (T::Explorer, path) => Screen::Explorer(chain(model, path)?),
        (T::ActSearch, None) => return Err(T::WhatToFind),
        (T::ActSearch, Some(what)) => match arguments.get(1) {
            Some(sought) => Screen::Found(chain(model, Some(what))?, (*sought).to_owned()),
            None => Screen::Found(chain(model, None)?, what.to_owned()),
        },
        (T::Audit, _) => Screen::Audit,
        (T::Billing, tenant) => {
            let month = arguments.get(1).map_or_else(|| crate::format::month(model.now), |m| (*m).to_owned());
            let own = model.session().map(|s| s.tenant.as_str()).filter(|t| !t.is_empty());
            let at = model.view().cursor.as_deref().filter(|c| c.starts_with("tenants/")).map(leaf);
            let tenant = tenant.map(leaf).or(at).or(own).ok_or(T::WhichTenant)?;
            Screen::Invoice(tenant.to_owned(), month)
        }
        (T::Messages, _) => Screen::Messages,
        (T::Help, _) => Screen::Help,
        _ => Screen::Overview,
    }))
}

/// Returns the full name of an id in a collection; a full name stays.
fn full(collection: &str, id: &str) -> String {
    if id.starts_with(&format!("{collection}/")) { id.to_owned() } else { format!("{collection}/{id}") }
}

/// Returns the full name of a chain: of `consortium/chain`, of a unique id, of the shown screen or cursor, or of the
/// only one there is.
fn chain(model: &Model, path: Option<&str>) -> Result<String, T> {
    let chains = model.chains(&Query::Chains);
    if let Some(path) = path {
        if path.contains("/chains/") {
            return Ok(path.to_owned());
        }
        if let Some((c, name)) = path.split_once('/') {
            return Ok(format!("consortiums/{c}/chains/{name}"));
        }
        let mut hits = chains.iter().filter(|c| leaf(&c.name) == path);
        return match (hits.next(), hits.next()) {
            (Some(c), None) => Ok(c.name.clone()),
            _ => Err(T::WhichChain),
        };
    }
    let here = model.views.iter().rev().find_map(|v| v.screen.chain());
    let at = model.view().cursor.as_deref().filter(|c| c.contains("/chains/"));
    let at = at.map(|c| c.split("/nodes/").next().unwrap_or(c));
    match (at.or(here), chains) {
        (Some(name), _) => Ok(name.to_owned()),
        (None, [only]) => Ok(only.name.clone()),
        _ => Err(T::WhichChain),
    }
}

/// Returns what could stand in place of `line`: commands, or for a second word the names of what is known.
pub fn complete(model: &Model, line: &str) -> Vec<String> {
    let line = line.trim_start_matches(':');
    let Some((command, argument)) = line.split_once(' ') else {
        let names = ALIASES.iter().flat_map(|(names, _)| names.iter());
        return names.filter(|n| n.starts_with(line)).map(|n| (*n).to_owned()).collect();
    };
    let text = ALIASES.iter().find(|(names, _)| names.contains(&command)).map(|(_, text)| *text);
    let names: Vec<String> = match text {
        Some(T::Chains | T::Governance | T::Explorer | T::ActSearch) => {
            model.chains(&Query::Chains).iter().map(|c| short(&c.name)).collect()
        }
        Some(T::Consortiums) => model.consortiums(&Query::Consortiums).iter().map(|c| short(&c.name)).collect(),
        Some(T::Proposals) => model.proposals(&Query::Proposals(None)).iter().map(|p| short(&p.name)).collect(),
        Some(T::Preflight) => model.hosts(&Query::Hosts).iter().map(|h| short(&h.name)).collect(),
        Some(T::Operations) => model.operations(&Query::Operations).iter().map(|o| short(&o.name)).collect(),
        Some(T::Billing) => model.tenants(&Query::Tenants).iter().map(|t| short(&t.name)).collect(),
        _ => Vec::new(),
    };
    names.into_iter().filter(|n| n.starts_with(argument)).map(|n| format!("{command} {n}")).collect()
}
