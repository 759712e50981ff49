//! Commands of the scripts about the life of chains.
#![allow(clippy::unwrap_used)]

use hanse_state::Command;
use hanse_state::chain::adopting::{AdoptChain, AdoptNode, EndAdoption, GiveBackNode};
use hanse_state::chain::height::ExchangeProgram;
use hanse_state::chain::imported::{Endpoint, ForgetChain, ImportChain};
use hanse_state::chain::life::{Change, ChangeChain, PauseChain, PurgeChain, ResumeChain, UndeleteChain};
use hanse_state::chain::moving::{MoveNode, RecordEvicted};
use hanse_state::chain::node::{RestartNode, Signed};
use hanse_state::chain::outfit::{Program, RollBackChain};
use hanse_state::chain::repair::SetChainRepair;
use hanse_state::chain::rollout::{ContinueRollout, HaltRollout, ReleaseNode, RollChain, RollNode};
use hanse_state::chain::seat::RecordUnseated;
use hanse_state::chain::{NodeSpec, RecordTransaction};
use hanse_state::consortium::proposal::Action;

use super::parse::Args;
use super::world::{self, World};

/// `change=delete grace=60000` and the like, of the chain as it is unless `ordered-by=` says otherwise.
pub(crate) fn change(w: &World, a: &Args, word: &str) -> Action {
    let chain: hanse_state::ids::ChainId = a.id("chain", "supply-1");
    let known = w.state.chains.values().find(|it| it.key.chain == chain).map(|it| it.proposal.proposal.to_string());
    Action::ChangeChain(ChangeChain {
        chain,
        ordered_by: a.id("ordered-by", known.as_deref().unwrap_or("p-1")),
        change: match word {
            "pause" => Change::Pause {},
            "resume" => Change::Resume {},
            "delete" => Change::Delete { grace_ms: a.number("grace", 60_000) },
            "undelete" => Change::Undelete {},
            "add-nodes" => {
                let owners = a.get("owners").unwrap_or("acme").split(',').filter(|owner| !owner.is_empty());
                let nodes = owners.map(|owner| NodeSpec { owner: owner.parse().unwrap() }).collect();
                Change::AddNodes { nodes, accept_outage: a.get("accept").is_some() }
            }
            "remove-nodes" => {
                let nodes = a.get("nodes").unwrap_or("n4").split(',').filter(|node| !node.is_empty());
                let nodes = nodes.map(|node| node.parse().unwrap()).collect();
                Change::RemoveNodes { nodes, accept_outage: a.get("accept").is_some() }
            }
            "add-validators" | "remove-validators" => {
                let nodes = a.get("nodes").unwrap_or("n4").split(',').filter(|node| !node.is_empty());
                let nodes = nodes.map(|node| node.parse().unwrap()).collect();
                let accept_outage = a.get("accept").is_some();
                if word == "add-validators" {
                    Change::AddValidators { nodes, accept_outage }
                } else {
                    Change::RemoveValidators { nodes, accept_outage }
                }
            }
            "adopt" => {
                let owners = a.get("owners").unwrap_or("acme,globex").split(',').filter(|owner| !owner.is_empty());
                let nodes = owners.map(|owner| NodeSpec { owner: owner.parse().unwrap() }).collect();
                let first_block = a.text("first-block", &format!("0x{}", "ab".repeat(32)));
                Change::Adopt { first_block, nodes, accept_outage: a.get("accept").is_some() }
            }
            "upgrade" => Change::Upgrade {
                program: (a.get("program") != Some("own")).then(|| program(a)),
                limit_ms: a.get("limit").map(|limit| limit.parse().unwrap()),
                accept_outage: a.get("accept").is_some(),
                at_height: a.get("at").map(|height| height.parse().unwrap()),
            },
            "reconfigure" => {
                let set = a.get("set").unwrap_or("history_states:64").split(',').filter(|one| !one.is_empty());
                let one = |one: &str| {
                    one.split_once(':').map(|(name, value)| (name.replace(' ', "_"), value.parse().unwrap()))
                };
                Change::Reconfigure {
                    settings: set.map(|it| one(it).unwrap()).collect(),
                    limit_ms: a.get("limit").map(|limit| limit.parse().unwrap()),
                    accept_outage: a.get("accept").is_some(),
                }
            }
            other => panic!("no change {other}"),
        },
    })
}

/// `endpoints=host:port,host:port:consensus-port` and the like.
fn import(a: &Args, chain: hanse_state::ids::ChainKey) -> ImportChain {
    let endpoint = |text: &str| {
        let mut parts = text.split(':');
        let host = parts.next().unwrap_or_default().to_owned();
        let mut port = || parts.next().map(|port| port.parse().unwrap());
        Endpoint { host, rpc_port: port().unwrap_or(0), consensus_port: port() }
    };
    let endpoints = a.get("endpoints").unwrap_or("l0.example:8545,l1.example:8545").split(',');
    let ab = format!("0x{}", "ab".repeat(32));
    ImportChain {
        chain,
        template: a.text("template", "evm-standard"),
        chain_id: a.number("chain-id", 4_711),
        first_block: a.text("first-block", &ab),
        owner: a.id("owner", "acme"),
        endpoints: endpoints.filter(|text| !text.is_empty()).map(endpoint).collect(),
        reason: a.text("reason", "we buy from it"),
    }
}

/// `nodes=n0:h1:/srv/n0:stop,n1:h2:/srv/n1`, each with ports from 9100 on and the identity of its number; `same-port=`, `same-key=`,
/// `ports=NAME,NAME` from 9200 on, `signed=HEIGHT`.
fn adopt(a: &Args, chain: hanse_state::ids::ChainKey) -> AdoptChain {
    let names = a.get("ports").unwrap_or_default();
    let node = |(place, text): (u16, &str)| {
        let mut parts = text.split(':');
        let mut part = || parts.next().unwrap_or_default();
        let (node, host, home, stop) = (part(), part(), part(), part());
        let port = 9_100 + if a.get("same-port").is_some() { 0 } else { 2 * place };
        AdoptNode {
            node: node.parse().unwrap(),
            host: host.parse().unwrap(),
            home: home.to_owned(),
            stop: stop == "stop",
            identity: world::identity(if a.get("same-key").is_some() { 7 } else { place.into() }),
            p2p_port: port,
            rpc_port: port + 1,
            ports: names
                .split(',')
                .filter(|it| !it.is_empty())
                .zip(9_200 + 10 * place..)
                .map(|(it, port)| (it.to_owned(), port))
                .collect(),
            signed: a.get("signed").map(|height| Signed { height: height.parse().unwrap(), round: 0, step: 3 }),
        }
    };
    let nodes = a.get("nodes").unwrap_or("n0:h1:/srv/n0:stop,n1:h2:/srv/n1").split(',').filter(|it| !it.is_empty());
    let set = a.get("set").unwrap_or_default().split(',').filter_map(|one| one.split_once(':'));
    AdoptChain {
        chain,
        nodes: (0..).zip(nodes).map(node).collect(),
        genesis: hanse_state::Blob(a.text("genesis", "genesis").into_bytes()),
        settings: set.map(|(name, value)| (name.replace(' ', "_"), value.parse().unwrap())).collect(),
        reason: a.text("reason", "we run it now"),
    }
}

/// `program=CONTENT:NAME:VERSION`, by default the artifact of the scripts.
fn program(a: &Args) -> Program {
    let mut parts = a.get("program").unwrap_or("program").split(':');
    let sha256 = world::hash(parts.next().unwrap());
    let (name, version) = (parts.next().unwrap_or("ledgerd").to_owned(), parts.next().unwrap_or("1.2.0").to_owned());
    Program { name, version, sha256 }
}

/// Orders of the chain `trade/supply-1` or of its node `node=`.
pub(crate) fn commands(w: &World, a: &Args) -> Option<Command> {
    let chain = a.id("chain", "trade/supply-1");
    let node = world::node_key(a.number("node", 0));
    let current = w.state.nodes.get(&node).map_or(1, |node| node.generation);
    let generation = a.number("generation", current);
    Some(match a.word(1) {
        "PauseChain" => Command::PauseChain(PauseChain { chain, reason: a.text("reason", "the bill") }),
        "ResumeChain" => Command::ResumeChain(ResumeChain { chain, reason: a.text("reason", "it was paid") }),
        "UndeleteChain" => Command::UndeleteChain(UndeleteChain { chain, reason: a.text("reason", "it is needed") }),
        "ImportChain" => Command::ImportChain(import(a, chain)),
        "AdoptChain" => Command::AdoptChain(adopt(a, chain)),
        "GiveBackNode" => {
            Command::GiveBackNode(GiveBackNode { node, generation, reason: a.text("reason", "it is not well") })
        }
        "EndAdoption" => Command::EndAdoption(EndAdoption { chain }),
        "ForgetChain" => {
            let lost = a.text("lost", "");
            let lost = lost.split(',').filter(|it| !it.is_empty()).map(|it| it.parse().unwrap());
            Command::ForgetChain(ForgetChain { chain, reason: a.text("reason", "no more"), lost: lost.collect() })
        }
        "RollChain" => Command::RollChain(RollChain {
            chain,
            reason: a.text("reason", "a newer program"),
            accept_outage: a.get("accept").is_some(),
        }),
        "RollBackChain" => Command::RollBackChain(RollBackChain {
            chain,
            reason: a.text("reason", "it does not start"),
            accept_risk: a.get("risk").is_some(),
            number: a.get("number").map(|number| number.parse().unwrap()),
        }),
        "HaltRollout" => {
            let (number, reason) = (a.number("number", 1), a.text("reason", "n1 has not come back"));
            Command::HaltRollout(HaltRollout { chain, number, reason })
        }
        "ContinueRollout" => {
            Command::ContinueRollout(ContinueRollout { chain, reason: a.text("reason", "n1 was mended") })
        }
        "RollNode" => Command::RollNode(RollNode { node, generation, number: a.number("number", 1) }),
        "ReleaseNode" => Command::ReleaseNode(ReleaseNode { node, generation }),
        "ExchangeProgram" => Command::ExchangeProgram(ExchangeProgram { chain, number: a.number("number", 1) }),
        "RecordUnseated" => {
            Command::RecordUnseated(RecordUnseated { chain, public_key: a.text("key", &world::identity(0).public_key) })
        }
        "MoveNode" => Command::MoveNode(MoveNode {
            node,
            generation,
            to: a.id("to", "h3"),
            reason: a.text("reason", "h1 is old"),
            accept_outage: a.get("accept").is_some(),
            lost: a.get("lost").is_some(),
        }),
        "SetChainRepair" => Command::SetChainRepair(SetChainRepair {
            chain,
            restarts_per_hour: a.get("restarts").map(|number| number.parse().unwrap()),
            reason: a.text("reason", "it comes back by itself"),
        }),
        "RecordEvicted" => Command::RecordEvicted(RecordEvicted { host: a.id("host", "h1"), node }),
        "PurgeChain" => Command::PurgeChain(PurgeChain { chain }),
        "RestartNode" => Command::RestartNode(RestartNode {
            node,
            generation,
            reason: a.text("reason", "it exited"),
            accept_outage: a.get("accept").is_some(),
        }),
        "RecordTransaction" => Command::RecordTransaction(RecordTransaction {
            chain,
            sha256: world::hash(a.get("bytes").unwrap_or("transaction")),
            bytes: a.number("size", 110),
        }),
        _ => return None,
    })
}
