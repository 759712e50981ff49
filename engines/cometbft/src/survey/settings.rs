//! What the configuration of a node of others says: where it listens, what is set by vote on nodes, and what stands in the way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hanse_adapters_core::InstanceKey;
use hanse_adapters_core::preflight::Finding;
use hanse_engines_core::NodePlan;
use serde_json::Value;
use toml::Table;

use crate::profile::Profile;
use crate::{CONSENSUS_RPC, GRPC, METRICS, WEBSOCKET};

/// Paths that the driver knows by these names and no others, with what may stand there.
const NODE_FIXED: &[(&str, &[&str])] = &[
    ("db_dir", &["data"]),
    ("db_backend", &["goleveldb"]),
    ("genesis_file", &["config/genesis.json"]),
    ("priv_validator_key_file", &["config/priv_validator_key.json"]),
    ("priv_validator_state_file", &["data/priv_validator_state.json"]),
    ("node_key_file", &["config/node_key.json"]),
    // A signer elsewhere would sign on whatever is done to the home.
    ("priv_validator_laddr", &[""]),
];
const APP_FIXED: &[(&str, &[&str])] = &[("app-db-backend", &["", "goleveldb"])];
/// What the platform asks a node for over JSON-RPC.
const NAMESPACES: [&str; 3] = ["eth", "net", "web3"];

/// Where a node listens and what is set on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) p2p_address: IpAddr,
    pub(super) p2p_port: u16,
    pub(super) rpc_port: u16,
    pub(super) ports: BTreeMap<String, u16>,
    pub(super) settings: BTreeMap<String, u64>,
}

impl Wanted {
    pub(super) fn all_ports(&self) -> Vec<(&str, u16)> {
        let more = self.ports.iter().map(|(name, port)| (name.as_str(), *port));
        [("peers", self.p2p_port), ("clients", self.rpc_port)].into_iter().chain(more).collect()
    }

    /// The node as it is asked at its host's loopback.
    pub(super) fn question(&self, key: InstanceKey) -> NodePlan {
        NodePlan {
            key,
            generation: 0,
            host_address: Ipv4Addr::LOCALHOST.to_string(),
            own_network: false,
            p2p_port: self.p2p_port,
            rpc_port: self.rpc_port,
            ports: self.ports.clone(),
            parameters: BTreeMap::new(),
            identity: None,
            signed: None,
            halt: None,
            program: None,
        }
    }
}

/// Both files as far as they are needed here.
struct Files {
    node: Table,
    app: Table,
    findings: Vec<Finding>,
}

/// What `config.toml` and `app.toml` say; nothing if that cannot be told.
pub(super) fn read(node: &str, app: &str) -> (Option<Wanted>, Vec<Finding>) {
    let (node, app): (Table, Table) = match (node.parse(), app.parse()) {
        (Ok(node), Ok(app)) => (node, app),
        (Err(why), _) | (_, Err(why)) => {
            let finding = Finding::error("settings", format!("config.toml or app.toml: {why}"), "restore the file");
            return (None, vec![finding]);
        }
    };
    let mut files = Files { node, app, findings: Vec::new() };
    files.obstacles();
    let wanted = files.wanted();
    (wanted, files.findings)
}

fn at<'t>(table: &'t Table, name: &str) -> Option<&'t toml::Value> {
    match name.split_once('.') {
        None => table.get(name),
        Some((folder, key)) => table.get(folder)?.as_table()?.get(key),
    }
}

impl Files {
    fn node_text(&self, name: &str) -> String {
        at(&self.node, name).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
    }

    fn app_text(&self, name: &str) -> String {
        at(&self.app, name).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
    }

    fn error(&mut self, what: String, advice: &str) {
        self.findings.push(Finding::error("settings", what, advice));
    }

    /// What the platform cannot go on with.
    fn obstacles(&mut self) {
        for (table, all) in [(&self.node, NODE_FIXED), (&self.app, APP_FIXED)] {
            let wrong = all.iter().filter_map(|(name, good)| {
                let found = at(table, name).and_then(toml::Value::as_str).unwrap_or_default();
                (!good.contains(&found)).then(|| format!("{name} is {found:?}, and only {:?} is taken over", good[0]))
            });
            self.findings.extend(wrong.map(|what| {
                Finding::error(
                    "settings",
                    what,
                    "set it so, and see that the node runs well with it, before it is taken over",
                )
            }));
        }
        for name in ["halt-height", "halt-time"] {
            let halt = at(&self.app, name).and_then(toml::Value::as_integer).unwrap_or(0);
            if halt != 0 {
                let advice = "let that change of program be over first: the platform would have it go on";
                self.error(format!("it is told to stop ({name} = {halt})"), advice);
            }
        }
        if at(&self.app, "json-rpc.enable").and_then(toml::Value::as_bool) != Some(true) {
            self.error("its JSON-RPC is off (json-rpc.enable)".into(), "turn it on: the platform asks the node there");
        }
        let api = self.app_text("json-rpc.api");
        let missing: Vec<&str> =
            NAMESPACES.into_iter().filter(|it| api.split(',').all(|one| one.trim() != *it)).collect();
        if !missing.is_empty() {
            self.error(
                format!("json-rpc.api is {api:?}, without {}", missing.join(", ")),
                "add them: the platform asks by them",
            );
        }
    }

    fn wanted(&mut self) -> Option<Wanted> {
        let p2p = self.listens("p2p.laddr", self.node_text("p2p.laddr"))?;
        let clients = [
            ("json-rpc", "json-rpc.address", self.app_text("json-rpc.address")),
            (CONSENSUS_RPC, "rpc.laddr", self.node_text("rpc.laddr")),
            (GRPC, "grpc.address", self.app_text("grpc.address")),
            (
                METRICS,
                "instrumentation.prometheus_listen_addr",
                self.node_text("instrumentation.prometheus_listen_addr"),
            ),
            (WEBSOCKET, "json-rpc.ws-address", self.app_text("json-rpc.ws-address")),
        ];
        let mut ports = BTreeMap::new();
        let mut lost = Vec::new();
        for (port, name, text) in clients {
            let (address, number) = self.listens(name, text.clone())?;
            if !address.is_loopback() {
                lost.push(format!("{name} at {text}"));
            }
            ports.insert(port.to_owned(), number);
        }
        if !lost.is_empty() {
            let what = format!(
                "it listens beyond its host, and the platform has it listen at the loopback: {}",
                lost.join(", ")
            );
            let advice = "clients reach it through the host's loopback afterwards";
            self.findings.push(Finding::warning("settings", what, advice));
        }
        let rpc_port = ports.remove("json-rpc")?;
        let settings = self.settings()?;
        Some(Wanted { p2p_address: p2p.0, p2p_port: p2p.1, rpc_port, ports, settings })
    }

    fn listens(&mut self, name: &str, text: String) -> Option<(IpAddr, u16)> {
        let found = listener(&text);
        if found.is_none() {
            let advice = "write an address and a port, as in tcp://127.0.0.1:26657";
            self.error(format!("{name} is {text:?}, which names no address and port"), advice);
        }
        found
    }

    /// What is set by vote on nodes, as it is.
    fn settings(&mut self) -> Option<BTreeMap<String, u64>> {
        let pause = self.node_text("consensus.timeout_commit");
        let whole =
            |name: &str| at(&self.node, name).and_then(toml::Value::as_integer).and_then(|it| u64::try_from(it).ok());
        let found = (millis(&pause), whole("consensus.double_sign_check_height"), whole("mempool.size"));
        let (Some(pause), Some(check), Some(mempool)) = found else {
            let what = "consensus.timeout_commit, consensus.double_sign_check_height or mempool.size is missing or of a form that this version \
                        does not know";
            self.error(what.into(), "set a time such as 500ms, and whole numbers");
            return None;
        };
        let all = [("block_time_ms", pause), ("double_sign_check_height", check), ("mempool_transactions", mempool)];
        Some(all.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

/// Address and port of a listener as CometBFT and the SDK write it: `tcp://` or nothing, no address for all of them.
fn listener(text: &str) -> Option<(IpAddr, u16)> {
    let (host, port) = text.strip_prefix("tcp://").unwrap_or(text).rsplit_once(':')?;
    let address = match host {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.trim_start_matches('[').trim_end_matches(']').parse().ok()?,
    };
    Some((address, port.parse().ok()?))
}

/// Whole milliseconds of a duration as Go writes it (`1.5s`, `300ms`, `1m0s`).
fn millis(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, more) = rest.split_at(digits);
        let (unit, each) = UNITS.into_iter().find(|(unit, _)| more.starts_with(unit))?;
        rest = &more[unit.len()..];
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
        let part = if part.is_empty() { 0 } else { part.parse::<u64>().ok()?.checked_mul(each)? };
        if part % scale != 0 {
            return None;
        }
        total = total.checked_add(whole.parse::<u64>().ok()?.checked_mul(each)?)?.checked_add(part / scale)?;
    }
    (!text.is_empty()).then_some(total)
}

/// The number of EIP-155 that a genesis gives: where the profile puts it.
pub(super) fn chain_id(genesis: &[u8], profile: &Profile) -> Result<u64, String> {
    let genesis: Value = serde_json::from_slice(genesis).map_err(|e| e.to_string())?;
    let is_number = |value: &&toml::Value| value.as_str() == Some("{chain_id}");
    let place = profile.genesis.iter().find(|(_, value)| is_number(value)).map(|(pointer, _)| pointer.as_str());
    let Some(place) = place else {
        return Err(
            "the engine's profile does not say where the chain id is in it ({chain_id} in its [genesis])".into()
        );
    };
    let number = genesis.pointer(place).and_then(|it| it.as_u64().or_else(|| it.as_str()?.parse().ok()));
    number.ok_or_else(|| format!("it has no chain id at {place}, where the engine's profile has it"))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use hanse_adapters_core::preflight::Severity;

    use super::*;

    pub(in crate::survey) const NODE: &str = r#"
db_dir = "data"
db_backend = "goleveldb"
genesis_file = "config/genesis.json"
priv_validator_key_file = "config/priv_validator_key.json"
priv_validator_state_file = "data/priv_validator_state.json"
node_key_file = "config/node_key.json"
priv_validator_laddr = ""
[rpc]
laddr = "tcp://127.0.0.1:26657"
[p2p]
laddr = "tcp://0.0.0.0:26656"
[mempool]
size = 500
[consensus]
timeout_commit = "1.5s"
double_sign_check_height = 0
[instrumentation]
prometheus_listen_addr = "localhost:26660"
"#;
    pub(in crate::survey) const APP: &str = r#"
halt-height = 0
halt-time = 0
app-db-backend = ""
[grpc]
address = "127.0.0.1:9900"
[json-rpc]
enable = true
api = "eth, net,web3,inj"
address = "127.0.0.1:8545"
ws-address = "127.0.0.1:8546"
"#;

    fn faults(node: &str, app: &str, severity: Severity) -> Vec<String> {
        let found = read(node, app).1.into_iter().filter(|it| it.severity == severity);
        found.map(|it| it.found).collect()
    }

    #[test]
    fn where_it_listens_and_what_is_set_is_read() {
        let (wanted, findings) = read(NODE, APP);
        let wanted = wanted.unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(
            (wanted.p2p_address.to_string().as_str(), wanted.p2p_port, wanted.rpc_port),
            ("0.0.0.0", 26_656, 8_545)
        );
        let ports = [(CONSENSUS_RPC, 26_657), (GRPC, 9_900), (METRICS, 26_660), (WEBSOCKET, 8_546)];
        assert_eq!(wanted.ports, ports.map(|(name, port)| (name.to_owned(), port)).into());
        let settings = [("block_time_ms", 1_500), ("double_sign_check_height", 0), ("mempool_transactions", 500)];
        assert_eq!(wanted.settings, settings.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn whatever_stands_in_the_way_is_named() {
        for (from, to, word) in [
            ("db_backend = \"goleveldb\"", "db_backend = \"pebbledb\"", "db_backend"),
            ("node_key_file = \"config", "node_key_file = \"/etc", "node_key_file"),
            ("priv_validator_laddr = \"\"", "priv_validator_laddr = \"tcp://127.0.0.1:1\"", "priv_validator_laddr"),
            ("app-db-backend = \"\"", "app-db-backend = \"pebbledb\"", "app-db-backend"),
            ("halt-height = 0", "halt-height = 9", "halt-height = 9"),
            ("halt-time = 0", "halt-time = 9", "halt-time = 9"),
            ("enable = true", "enable = false", "json-rpc.enable"),
            ("eth, net", "eth", "without net"),
            ("tcp://0.0.0.0:26656", "tcp://name:26656", "p2p.laddr"),
            ("127.0.0.1:9900", "9900", "grpc.address"),
            ("\"1.5s\"", "\"soon\"", "timeout_commit"),
            ("size = 500", "size = -5", "mempool.size"),
        ] {
            let (node, app) = (NODE.replacen(from, to, 1), APP.replacen(from, to, 1));
            assert!(node != NODE || app != APP, "{from}");
            let found = faults(&node, &app, Severity::Error);
            assert!(matches!(found.as_slice(), [one] if one.contains(word)), "{word}: {found:?}");
        }
        assert_eq!(faults("[", APP, Severity::Error).len(), 1);
        let open = APP.replacen("127.0.0.1:9900", "0.0.0.0:9900", 1);
        assert!(faults(NODE, &open, Severity::Error).is_empty());
        assert!(faults(NODE, &open, Severity::Warning)[0].contains("grpc.address at 0.0.0.0:9900"));
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, found) in [("500ms", 500), ("1s", 1_000), ("2.25s", 2_250), ("1m0s", 60_000), ("1h2m3s", 3_723_000)]
        {
            assert_eq!(millis(text), Some(found), "{text}");
        }
        for text in ["", "5", "s", "1.0005s", "0.5ms", "-1s", "1d", "99999999999999999999s"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn the_chain_id_is_where_the_profile_puts_it() {
        let profile = Profile::parse(include_str!("../../profiles/injective.toml")).unwrap();
        let genesis = |id: &str| {
            format!(r#"{{"app_state":{{"evm":{{"params":{{"chain_config":{{"eip155_chain_id":{id}}}}}}}}}}}"#)
        };
        assert_eq!(chain_id(genesis("\"777\"").as_bytes(), &profile), Ok(777));
        assert_eq!(chain_id(genesis("778").as_bytes(), &profile), Ok(778));
        assert!(chain_id(genesis("\"x\"").as_bytes(), &profile).unwrap_err().contains("/app_state/evm"));
        assert!(chain_id(b"{}", &profile).is_err() && chain_id(b"", &profile).is_err());
    }
}
