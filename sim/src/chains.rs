//! The chains that simulated nodes keep: transactions that wait, blocks, and what is in effect.
//!
//! A node keeps what it took in its own memory until it is in a block, and loses it when it dies. A node that has just
//! started sees the chain as it was a while ago. A transaction is known by its hash and spends its sender's number, so it
//! is in effect once at most, through whichever node it came; a look counts whether that is so.

use std::collections::BTreeMap;

use hanse_engines_core::Transaction;
use hanse_state::contract::ContractState;
use hanse_state::{Digest, State};

use crate::hosts::BLOCK_MS;

/// What a signed deployment does, as its text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deploys {
    /// A contract.
    Well,
    /// Nothing: the chain reverts it.
    Reverts,
    /// Nothing: it is no deployment.
    Nothing,
    /// Nothing: no node takes it.
    Refused,
}

impl Deploys {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Well, "well"), (Self::Reverts, "reverts"), (Self::Nothing, "nothing"), (Self::Refused, "refused")];

    const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Reverts => "reverts",
            Self::Nothing => "nothing",
            Self::Refused => "refused",
        }
    }
}

/// Gives a signed deployment: its sender, the sender's number, and what it does.
pub(crate) fn signed(contract: &str, sender: &str, nonce: u64, deploys: Deploys) -> Vec<u8> {
    format!("{contract} {sender} {nonce} {}", deploys.name()).into_bytes()
}

/// A transaction that a node has.
#[derive(Clone, Debug)]
pub(crate) struct Tx {
    pub(crate) hash: String,
    contract: String,
    sender: String,
    nonce: u64,
    deploys: Deploys,
}

impl Tx {
    /// Reads what [`signed`] wrote.
    pub(crate) fn parse(raw: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(raw).ok()?;
        let [contract, sender, nonce, deploys] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let (deploys, _) = Deploys::ALL.into_iter().find(|(_, name)| *name == deploys)?;
        Some(Self {
            hash: format!("0x{}", Digest::of(raw)),
            contract: contract.into(),
            sender: sender.into(),
            nonce: nonce.parse().ok()?,
            deploys,
        })
    }

    /// The mistake: the same wish as another transaction.
    pub(crate) fn anew(self, number: u64) -> Self {
        let hash = format!("0x{}", Digest::of(format!("{} {number}", self.hash).as_bytes()));
        Self { hash, nonce: self.nonce + number, ..self }
    }

    fn shown(&self, block: Option<u64>) -> Transaction {
        let done = block.is_some();
        let creates = done && self.deploys == Deploys::Well;
        let address =
            || format!("0x{}", &Digest::of(format!("{} {}", self.sender, self.nonce).as_bytes()).to_string()[..40]);
        Transaction {
            hash: self.hash.clone(),
            block,
            block_hash: block.map(|block| format!("0x{block:064x}")),
            index: done.then_some(0),
            from: self.sender.clone(),
            to: None,
            value: "0".into(),
            nonce: self.nonce,
            input: "0x".into(),
            gas_limit: 0,
            gas_price: "0".into(),
            success: done.then_some(self.deploys != Deploys::Reverts),
            gas_used: done.then_some(0),
            fee: done.then(|| "0".into()),
            contract: creates.then(address),
            logs: Vec::new(),
        }
    }
}

/// A transaction in a block.
#[derive(Clone, Debug)]
struct Mined {
    tx: Tx,
    at_ms: u64,
}

/// What a node says to a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Taken {
    /// It has it, now or before.
    Hash(String),
    Refused(String),
}

/// All chains, by the genesis of their nodes.
#[derive(Default)]
pub(crate) struct Chains {
    mined: BTreeMap<Digest, Vec<Mined>>,
    /// What blocks say of who validates, by genesis and name: its key, and whether it does. Others are as at the beginning.
    seats: BTreeMap<Digest, BTreeMap<String, (String, bool)>>,
    found: Vec<String>,
}

impl Chains {
    /// What a node that sees the chain as of `seen_ms` says to a transaction that it does not have.
    pub(crate) fn takes(&self, genesis: &[u8], seen_ms: u64, tx: &Tx) -> Taken {
        let mut seen = self.of(genesis).iter().filter(|mined| mined.at_ms <= seen_ms).map(|mined| &mined.tx);
        match seen.find(|it| (&it.sender, it.nonce) == (&tx.sender, tx.nonce)) {
            Some(known) if known.hash != tx.hash => Taken::Refused("nonce too low".into()),
            _ if tx.deploys == Deploys::Refused => Taken::Refused("intrinsic gas too low".into()),
            _ => Taken::Hash(tx.hash.clone()),
        }
    }

    /// Puts a transaction into a block, unless its sender's number is spent.
    pub(crate) fn mine(&mut self, genesis: &[u8], now_ms: u64, tx: Tx) {
        let mined = self.mined.entry(Digest::of(genesis)).or_default();
        if mined.iter().any(|it| (&it.tx.sender, it.tx.nonce) == (&tx.sender, tx.nonce)) {
            return;
        }
        let doubled = |it: &Mined| it.tx.contract == tx.contract && [it.tx.deploys, tx.deploys] == [Deploys::Well; 2];
        if mined.iter().any(doubled) {
            self.found.push(format!("deployed twice: {} by {} and again", tx.contract, tx.hash));
        }
        mined.push(Mined { tx, at_ms: now_ms });
    }

    /// A block has a node take a seat among the validators, or give it up.
    pub(crate) fn seat(&mut self, genesis: &[u8], name: &str, key: String, validates: bool) {
        self.seats.entry(Digest::of(genesis)).or_default().insert(name.to_owned(), (key, validates));
    }

    /// Names and keys of those who validate: `founders`, and whoever has joined and not left.
    pub(crate) fn validators(&self, genesis: &[u8], founders: Vec<(String, String)>) -> Vec<(String, String)> {
        let none = BTreeMap::new();
        let seats = self.seats.get(&Digest::of(genesis)).unwrap_or(&none);
        let stays = founders.into_iter().filter(|(name, _)| !seats.contains_key(name));
        let seated = seats.iter().filter(|(_, (_, validates))| *validates);
        stays.chain(seated.map(|(name, (key, _))| (name.clone(), key.clone()))).collect()
    }

    /// A transaction in a block, as a node that sees the chain as of `seen_ms` shows it; or one that waits.
    pub(crate) fn show(&self, genesis: &[u8], seen_ms: u64, hash: &str, waiting: Option<&Tx>) -> Option<Transaction> {
        let mut seen = self.of(genesis).iter().filter(|mined| mined.at_ms <= seen_ms);
        let mined = seen.find(|mined| mined.tx.hash == hash);
        let in_block = mined.map(|mined| mined.tx.shown(Some(mined.at_ms / BLOCK_MS)));
        in_block.or_else(|| waiting.map(|tx| tx.shown(None)))
    }

    fn of(&self, genesis: &[u8]) -> &[Mined] {
        self.mined.get(&Digest::of(genesis)).map_or(&[], Vec::as_slice)
    }

    /// Takes what did not hold.
    pub(crate) fn take_found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    /// Gives a contract of which the state says something else than its chain.
    pub(crate) fn wrong(&self, state: &State) -> Option<String> {
        state.contracts.values().find_map(|contract| {
            let genesis = state.chains.get(&contract.key.chain)?.genesis.as_ref()?;
            let name = contract.key.contract.to_string();
            let of = |it: &&Mined| it.tx.contract == name && it.tx.deploys == Deploys::Well;
            let deployed = self.of(&genesis.bytes.0).iter().find(of).map(|it| it.tx.shown(Some(it.at_ms / BLOCK_MS)));
            let is_so = match (contract.state, &deployed) {
                (ContractState::Deployed, Some(tx)) => (&contract.address, contract.block) == (&tx.contract, tx.block),
                (ContractState::Failed, None) => !contract.state_reason.is_empty(),
                (ContractState::Deployed, None) | (ContractState::Failed, Some(_)) => false,
                (ContractState::Requested | ContractState::Sent, _) => true,
            };
            let (how, why) = (contract.state, &contract.state_reason);
            (!is_so).then(|| format!("contract {} is {how:?} ({why}), its chain has {deployed:?}", contract.key))
        })
    }
}
