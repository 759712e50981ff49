//! The dialog of what is filled in: fields that begin with what holds now, checked before anything is sent.

use crate::app::effect::Write;
use crate::app::input::Input;
use crate::convert::is_jump;
use crate::i18n::T;

use super::order;

/// Most restarts an hour that the platform takes.
const RESTARTS_MAX: u32 = 15;

/// Fields of one resource, and what they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What is changed.
    pub kind: EditKind,
    /// Resource name.
    pub target: String,
    /// Labels and values.
    pub fields: Vec<(T, Input)>,
    /// The values when it opened.
    was: Vec<String>,
    /// The field that takes the keys; after the last one the buttons.
    pub focus: usize,
    /// What is wrong, said after a try.
    pub error: Option<T>,
    /// When it opened.
    pub opened_at: i64,
}

/// What a dialog of fields changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditKind {
    /// How often a chain's nodes are started again by the platform.
    Repair,
    /// How a host behind SSH is reached.
    Reach,
    /// Adds a cloud.
    AddCloud,
    /// Makes a machine in a cloud.
    CreateMachine,
    /// A chain of others that is made known.
    Import,
    /// Where the nodes of a chain of others are.
    Adopt,
}

impl EditKind {
    /// Its headline, and what the fields take.
    pub fn words(self) -> (T, T) {
        match self {
            Self::Repair => (T::RepairTitle, T::RepairHelp),
            Self::Reach => (T::ReachTitle, T::ReachHelp),
            Self::AddCloud => (T::AddCloudTitle, T::AddCloudHelp),
            Self::CreateMachine => (T::CreateMachineTitle, T::CreateMachineHelp),
            Self::Import => (T::ImportTitle, T::ImportHelp),
            Self::Adopt => (T::AdoptTitle, T::AdoptHelp),
        }
    }
}

/// A chain of others, as it is made known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The consortium.
    pub consortium: String,
    /// Its name there.
    pub chain: String,
    /// The template that its ledger is like.
    pub template: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of its first block; empty to be told.
    pub first_block: String,
    /// Member whose chain it is.
    pub owner: String,
    /// Host and port of each node's JSON-RPC, and the port of its consensus' own RPC, 0 for none.
    pub endpoints: Vec<(String, u16, u16)>,
    /// Why.
    pub reason: String,
}

/// The way to a host behind SSH, as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Name or address.
    pub address: String,
    /// Port.
    pub port: String,
    /// Login name.
    pub user: String,
    /// `SHA256:...`, with `authority ` before it if it is one's.
    pub pin: String,
    /// Machines on the way, `USER@ADDRESS[:PORT]=SHA256:...`, separated by spaces.
    pub jumps: String,
    /// `key`, `certificate` or `agent`.
    pub login: String,
    /// `yes` or `no`.
    pub sudo: String,
}

/// What of a way is to be another; `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WayChange {
    /// Name or address.
    pub address: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Login name.
    pub user: Option<String>,
    /// Pinned fingerprint, and whether it is of an authority.
    pub pin: Option<(String, bool)>,
    /// All machines on the way.
    pub jumps: Option<Vec<String>>,
    /// `key`, `certificate` or `agent`.
    pub login: Option<String>,
    /// Whether it works as root.
    pub sudo: Option<bool>,
}

impl Edit {
    /// The dialog of a chain's budget; `now` is its number, none if it is every chain's.
    pub fn repair(chain: &str, now: Option<u32>, opened_at: i64) -> Self {
        let now = match now {
            None => "default".to_owned(),
            Some(0) => "off".to_owned(),
            Some(number) => number.to_string(),
        };
        Self::of(EditKind::Repair, chain, vec![(T::RepairTimes, now), (T::ColReason, String::new())], opened_at)
    }

    /// The dialog of the way to a host.
    pub fn reach(host: &str, way: &Way, opened_at: i64) -> Self {
        let fields = vec![
            (T::ReachAddress, way.address.clone()),
            (T::ReachPort, way.port.clone()),
            (T::ReachUser, way.user.clone()),
            (T::ReachPin, way.pin.clone()),
            (T::ReachJumps, way.jumps.clone()),
            (T::ReachLogin, way.login.clone()),
            (T::ReachSudo, way.sudo.clone()),
        ];
        Self::of(EditKind::Reach, host, fields, opened_at)
    }

    /// The dialog of another cloud.
    pub fn add_cloud(opened_at: i64) -> Self {
        Self::of(EditKind::AddCloud, "", order::cloud_fields(), opened_at)
    }

    /// The dialog of another machine; `cloud` is offered.
    pub fn create_machine(cloud: &str, opened_at: i64) -> Self {
        Self::of(EditKind::CreateMachine, "", order::machine_fields(cloud), opened_at)
    }

    /// The same on the command line, where the fields are good for one.
    pub fn command(&self) -> Option<String> {
        match self.kind {
            EditKind::AddCloud => order::cloud(&self.fields).ok().map(|it| it.command()),
            EditKind::CreateMachine => order::machine(&self.fields).ok().map(|it| it.command()),
            EditKind::Repair | EditKind::Reach | EditKind::Import | EditKind::Adopt => None,
        }
    }

    /// The dialog of a chain of others that is made known.
    pub fn import(opened_at: i64) -> Self {
        let fields = [
            (T::ImportConsortium, ""),
            (T::ImportChain, ""),
            (T::ImportTemplate, "evm-standard"),
            (T::ImportChainId, ""),
            (T::ImportFirstBlock, ""),
            (T::ImportOwner, ""),
            (T::ImportNodes, ""),
            (T::ColReason, ""),
        ];
        let fields = fields.map(|(label, text)| (label, text.to_owned()));
        Self::of(EditKind::Import, "", fields.into(), opened_at)
    }

    /// The dialog of where the nodes of a chain of others are.
    pub fn adopt(chain: &str, opened_at: i64) -> Self {
        let fields =
            vec![(T::AdoptNodes, String::new()), (T::AdoptStop, "none".to_owned()), (T::ColReason, String::new())];
        Self::of(EditKind::Adopt, chain, fields, opened_at)
    }

    fn of(kind: EditKind, target: &str, fields: Vec<(T, String)>, opened_at: i64) -> Self {
        let was = fields.iter().map(|(_, text)| text.clone()).collect();
        let fields = fields.into_iter().map(|(label, text)| (label, Input::of(&text))).collect();
        Self { kind, target: target.to_owned(), fields, was, focus: 0, error: None, opened_at }
    }

    /// Returns what is to be sent, or what is wrong with the fields.
    ///
    /// # Errors
    /// The text that says so.
    pub fn write(&self) -> Result<Write, T> {
        match self.kind {
            EditKind::Repair => self.write_repair(),
            EditKind::Import => self.write_import(),
            EditKind::Adopt => self.write_adopt(),
            EditKind::Reach => {
                Ok(Write::SetHostReach { host: self.target.clone(), change: Box::new(self.way_change()?) })
            }
            EditKind::AddCloud => Ok(Write::AddCloud { cloud: Box::new(order::cloud(&self.fields)?) }),
            EditKind::CreateMachine => Ok(Write::CreateMachine { machine: Box::new(order::machine(&self.fields)?) }),
        }
    }

    fn text(&self, at: usize) -> String {
        self.fields.get(at).map(|(_, input)| input.text().trim().to_owned()).unwrap_or_default()
    }

    /// The text of a field that was changed.
    fn changed(&self, at: usize) -> Option<String> {
        let text = self.text(at);
        (self.was.get(at) != Some(&text)).then_some(text)
    }

    fn write_repair(&self) -> Result<Write, T> {
        let restarts_per_hour = match self.text(0).as_str() {
            "default" => None,
            "off" => Some(0),
            number => Some(number.parse().ok().filter(|it| (1..=RESTARTS_MAX).contains(it)).ok_or(T::RepairWrong)?),
        };
        let reason = self.text(1);
        if reason.is_empty() {
            return Err(T::ReasonMissing);
        }
        Ok(Write::SetChainRepair { chain: self.target.clone(), restarts_per_hour, reason })
    }

    fn write_import(&self) -> Result<Write, T> {
        let import = Import {
            consortium: self.text(0),
            chain: self.text(1),
            template: self.text(2),
            chain_id: self.text(3).parse().ok().filter(|id| *id > 0).ok_or(T::ImportChainIdWrong)?,
            first_block: self.text(4),
            owner: self.text(5),
            endpoints: self
                .text(6)
                .split_whitespace()
                .map(endpoint)
                .collect::<Option<_>>()
                .ok_or(T::ImportNodesWrong)?,
            reason: self.text(7),
        };
        let named = [&import.consortium, &import.chain, &import.template, &import.owner];
        if named.into_iter().any(|text| text.is_empty() || text.contains(' ')) {
            return Err(T::ImportNameWrong);
        }
        if import.endpoints.is_empty() {
            return Err(T::ImportNodesWrong);
        }
        if import.reason.is_empty() { Err(T::ReasonMissing) } else { Ok(Write::ImportChain(Box::new(import))) }
    }

    fn write_adopt(&self) -> Result<Write, T> {
        let stop = self.text(1);
        let stops = |node: &str| stop == "all" || stop.split_whitespace().any(|it| it == node);
        let node = |text: &str| {
            let (node, rest) = text.split_once('=')?;
            let (host, home) = rest.split_once(':').filter(|(host, home)| !host.is_empty() && home.starts_with('/'))?;
            (!node.is_empty()).then(|| (node.to_owned(), host.to_owned(), home.to_owned(), stops(node)))
        };
        let nodes: Vec<_> =
            self.text(0).split_whitespace().map(node).collect::<Option<_>>().ok_or(T::AdoptNodesWrong)?;
        if nodes.is_empty() {
            return Err(T::AdoptNodesWrong);
        }
        let is_known = |name: &str| nodes.iter().any(|(node, ..)| node == name);
        if !matches!(stop.as_str(), "none" | "all") && !stop.split_whitespace().all(is_known) {
            return Err(T::AdoptStopWrong);
        }
        let reason = self.text(2);
        if reason.is_empty() {
            return Err(T::ReasonMissing);
        }
        Ok(Write::AdoptChain { chain: self.target.clone(), nodes, reason })
    }

    fn way_change(&self) -> Result<WayChange, T> {
        let named = |at| match self.changed(at) {
            Some(text) if text.is_empty() || text.contains(' ') => Err(T::ReachName),
            other => Ok(other),
        };
        let port = |text: String| text.parse().ok().filter(|port| *port > 0).ok_or(T::ReachPortWrong);
        let pin = |text: String| {
            let (key, is_authority) = text.strip_prefix("authority ").map_or((text.as_str(), false), |key| (key, true));
            if key.starts_with("SHA256:") { Ok((key.to_owned(), is_authority)) } else { Err(T::ReachPinWrong) }
        };
        let jumps = |text: String| {
            let all: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            if all.iter().all(|jump| is_jump(jump)) { Ok(all) } else { Err(T::ReachJumpsWrong) }
        };
        let login = |text: String| match text.as_str() {
            "key" | "certificate" | "agent" => Ok(text),
            _ => Err(T::ReachLoginWrong),
        };
        let sudo = |text: String| match text.as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(T::ReachSudoWrong),
        };
        let change = WayChange {
            address: named(0)?,
            port: self.changed(1).map(port).transpose()?,
            user: named(2)?,
            pin: self.changed(3).map(pin).transpose()?,
            jumps: self.changed(4).map(jumps).transpose()?,
            login: self.changed(5).map(login).transpose()?,
            sudo: self.changed(6).map(sudo).transpose()?,
        };
        if change == WayChange::default() { Err(T::ReachSame) } else { Ok(change) }
    }
}

/// `HOST:PORT`, or `HOST:PORT/PORT` with the port of the consensus' own RPC.
fn endpoint(text: &str) -> Option<(String, u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (address, consensus) = text.split_once('/').map_or((text, None), |(address, port)| (address, Some(port)));
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return None;
    }
    Some((host.to_owned(), number(port)?, consensus.map_or(Some(0), number)?))
}
