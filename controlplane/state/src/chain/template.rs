//! What chains can be made of: built-in templates with their parameters and limits.

use super::CHAIN_ID_MAX;
use crate::cluster::version::Version;
use crate::rejection::Rejection;
use std::collections::BTreeMap;

/// One setting of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Least value.
    pub min: u64,
    /// Greatest value.
    pub max: u64,
    /// Value if left out.
    pub default: u64,
    /// What it is, one sentence.
    pub help: &'static str,
}

/// A way to make a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// Engine that runs it.
    pub engine: &'static str,
    /// What it is, one sentence.
    pub help: &'static str,
    /// Its settings, by name.
    pub parameters: &'static [Parameter],
    /// Fewest nodes.
    pub nodes_min: usize,
    /// Most nodes.
    pub nodes_max: usize,
    /// Ports that a node needs on its host besides the two that every node has, by the engine's names for them.
    pub ports: &'static [&'static str],
    /// What can be set on its nodes while the chain runs, by vote, by name; everything else is as at genesis.
    pub settings: &'static [Parameter],
    /// The cluster version it came with: on an older cluster it is as unknown as to the builds of that version.
    pub since: Version,
}

/// Every template, by name and version.
pub const TEMPLATES: &[Template] = &[COSMOS_EVM, EVM_STANDARD];

const COSMOS_EVM: Template = Template {
    name: "cosmos-evm",
    version: 1,
    engine: "cometbft",
    help: "An EVM chain of a Cosmos-SDK program that the operator imports, with CometBFT consensus.",
    parameters: &[
        Parameter {
            name: "block_gas_limit",
            min: 1_000_000,
            max: 200_000_000,
            default: 30_000_000,
            help: "Gas that one block may use.",
        },
        Parameter {
            name: "block_time_ms",
            min: 200,
            max: 60_000,
            default: 1_000,
            help: "Milliseconds that a validator waits after a block before the next.",
        },
        Parameter {
            name: "double_sign_check_height",
            min: 0,
            max: 1_000,
            default: 0,
            help: "Blocks that a validator looks back for its own signature when it starts. Above 0 it does not start again \
                   before the others have made as many, and a chain that stopped as a whole never does.",
        },
        Parameter {
            name: "vote_seconds",
            min: 5,
            max: 1_209_600,
            default: 300,
            help: "How long a vote on the chain takes, by which validators let another one in.",
        },
    ],
    nodes_min: 1,
    nodes_max: 16,
    ports: &["consensus-rpc", "grpc", "metrics", "websocket"],
    settings: &[
        Parameter {
            name: "block_time_ms",
            min: 200,
            max: 60_000,
            default: 1_000,
            help: "Milliseconds that a validator waits after a block before the next; as ordered until it is set.",
        },
        Parameter {
            name: "double_sign_check_height",
            min: 0,
            max: 1_000,
            default: 0,
            help: "Blocks that a validator looks back for its own signature when it starts; as ordered until it is set.",
        },
        Parameter {
            name: "mempool_transactions",
            min: 100,
            max: 1_000_000,
            default: 5_000,
            help: "Waiting transactions of a node.",
        },
    ],
    since: Version(3),
};

const EVM_STANDARD: Template = Template {
    name: "evm-standard",
    version: 1,
    engine: "embedded",
    help: "An EVM chain with BFT consensus: survives the loss of fewer than a third of its nodes.",
    parameters: &[
        Parameter {
            name: "block_gas_limit",
            min: 1_000_000,
            max: 100_000_000,
            default: 30_000_000,
            help: "Gas that one block may use.",
        },
        Parameter {
            name: "block_time_ms",
            min: 200,
            max: 60_000,
            default: 1_000,
            help: "Least milliseconds between two blocks.",
        },
    ],
    nodes_min: 1,
    nodes_max: 16,
    ports: &[],
    settings: &[
        Parameter {
            name: "fast_join",
            min: 0,
            max: 1,
            default: 0,
            help: "1: a node without any block takes a peer's snapshot instead of executing all blocks.",
        },
        Parameter {
            name: "history_blocks",
            min: 1_024,
            max: CHAIN_ID_MAX,
            default: CHAIN_ID_MAX,
            help: "How many newest blocks a node keeps with receipts and certificates; what is given up does not come back.",
        },
        Parameter {
            name: "history_states",
            min: 1,
            max: CHAIN_ID_MAX,
            default: 1_024,
            help: "Of how many newest blocks the state can be read (calls, balances, proofs).",
        },
        Parameter {
            name: "mempool_transactions",
            min: 256,
            max: 1_000_000,
            default: 10_000,
            help: "Waiting transactions of a node.",
        },
        Parameter {
            name: "rpc_calls_per_second",
            min: 0,
            max: 1_000_000,
            default: 0,
            help: "Calls a second of one client of a node's JSON-RPC; 0 is no limit.",
        },
        Parameter {
            name: "rpc_connections",
            min: 1,
            max: 10_000,
            default: 256,
            help: "Connections at once to a node's JSON-RPC.",
        },
        Parameter {
            name: "rpc_log_blocks",
            min: 1,
            max: 1_000_000,
            default: 10_000,
            help: "Blocks that one question for logs may cover.",
        },
    ],
    since: Version::FIRST,
};

impl Template {
    /// Whether its ledger records heads of the platform's audit trail.
    pub fn has_anchor(&self) -> bool {
        self.engine == "embedded"
    }

    /// Returns the template.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name and version.
    pub fn find(name: &str, version: u32) -> Result<&'static Self, Rejection> {
        TEMPLATES.iter().find(|t| t.name == name && t.version == version).ok_or_else(|| Self::missing(name, version))
    }

    /// As [`Template::find`] on a cluster at `version`: what came later is not found, as builds of that version find it.
    pub(crate) fn find_at(name: &str, number: u32, version: Version) -> Result<&'static Self, Rejection> {
        match Self::find(name, number) {
            Ok(found) if found.since > version => Err(Self::missing(name, number)),
            other => other,
        }
    }

    fn missing(name: &str, version: u32) -> Rejection {
        let what = format!("templates/{}/{version}", name.chars().take(63).collect::<String>());
        Rejection::NotFound { field: "action.chain.template".into(), what }
    }

    /// Ports of a node on its host.
    pub(crate) fn ports_per_node(&self) -> u32 {
        crate::host::PORTS_PER_NODE + u32::try_from(self.ports.len()).unwrap_or(u32::MAX)
    }

    /// Whether its ledger can be changed by its members' signatures while it runs.
    pub fn is_governed(&self) -> bool {
        self.engine == "embedded"
    }

    /// Whether its nodes say how they are at a port of the consensus' own.
    pub(crate) fn has_consensus_rpc(&self) -> bool {
        self.ports.contains(&"consensus-rpc")
    }

    /// Whether its nodes can be told in their configuration to stop before a block.
    pub fn halts_at_height(&self) -> bool {
        self.engine == "cometbft"
    }

    /// Whether its ledger lets validators in and out by transactions that the platform makes at the consortium's wish.
    pub fn has_seats(&self) -> bool {
        self.engine == "cometbft"
    }

    /// Checks that `name` can be set to `value` on nodes while the chain runs.
    pub(crate) fn check_setting(&self, field: &str, name: &str, value: u64) -> Result<(), Rejection> {
        let Some(setting) = self.settings.iter().find(|it| it.name == name) else {
            let known: Vec<&str> = self.settings.iter().map(|it| it.name).collect();
            let (known, template) = (known.join(", "), format!("{} v{}", self.name, self.version));
            let why = match self.parameters.iter().any(|it| it.name == name) {
                true => format!("{name} is fixed at genesis, where every node has the same"),
                false => format!("{template} knows no other setting of nodes"),
            };
            return Err(crate::check::invalid(field, name, format!("one of {known}: {why}")));
        };
        crate::check::range(&format!("{field}.{name}"), value, setting.min, setting.max)
    }

    /// Returns every parameter with its value: the given ones, and defaults for the rest.
    ///
    /// # Errors
    /// `UnknownParameter` or `ParameterOutOfRange`.
    pub fn resolve(&self, given: &BTreeMap<String, u64>) -> Result<BTreeMap<&'static str, u64>, Rejection> {
        let template = format!("{} v{}", self.name, self.version);
        if let Some(name) = given.keys().find(|name| !self.parameters.iter().any(|p| p.name == name.as_str())) {
            let known: Vec<&str> = self.parameters.iter().map(|p| p.name).collect();
            let parameter = name.chars().take(63).collect();
            return Err(Rejection::UnknownParameter { parameter, template, known: known.join(", ") });
        }
        let value = |p: &Parameter| given.get(p.name).copied().unwrap_or(p.default);
        if let Some(p) = self.parameters.iter().find(|p| !(p.min..=p.max).contains(&value(p))) {
            let (parameter, value) = (p.name.into(), value(p));
            return Err(Rejection::ParameterOutOfRange { parameter, value, min: p.min, max: p.max, template });
        }
        Ok(self.parameters.iter().map(|p| (p.name, value(p))).collect())
    }
}
