//! What simulated nodes do with transactions: they take them, show them, and put them into blocks.

use hanse_adapters_core::{AdapterError, InstanceKey};
use hanse_state::Digest;

use crate::ask::{Ask, Told};
use crate::chains::{Taken, Tx};
use crate::cloud::Flaw;
use crate::hosts::{BLOCK_MS, GENESIS_FILE, Hosts, Process};

impl Hosts {
    /// What has waited long enough in a live node comes into a block.
    pub(crate) fn make_blocks(&mut self, now_ms: u64) {
        for home in self.hosts.values_mut().flat_map(|host| host.homes.values_mut()) {
            let (Some(process), Some(genesis)) = (&mut home.process, home.files.get(GENESIS_FILE)) else { continue };
            if process.hangs_until_ms > now_ms {
                continue;
            }
            for (_, validates) in process.seats.extract_if(.., |(due_ms, _)| *due_ms <= now_ms) {
                let Some(name) = &home.identity else { continue };
                self.said.push(format!("a block has {} validate: {validates}", home.name));
                self.chains.seat(genesis, name, Digest::of(name.as_bytes()).to_string(), validates);
            }
            for (_, tx) in process.waiting.extract_if(.., |(due_ms, _)| *due_ms <= now_ms) {
                self.said.push(format!("{} puts {} into a block", home.name, tx.hash));
                self.chains.mine(genesis, now_ms, tx);
            }
        }
    }

    /// A node takes a transaction about its seat; asked again while one waits it is the same one.
    pub(crate) fn seat(
        &mut self,
        now_ms: u64,
        address: &str,
        key: &InstanceKey,
        validates: bool,
    ) -> Result<Told, AdapterError> {
        let due_ms = now_ms + self.dice.range(BLOCK_MS / 2, 6 * BLOCK_MS);
        let home = self.hosts.get_mut(address).and_then(|host| host.homes.get_mut(key));
        let process = home.and_then(|home| home.process.as_mut()).filter(|it| it.hangs_until_ms <= now_ms);
        let silent = || AdapterError::Transient { subject: key.to_string(), reason: "connection refused".into() };
        let seats = &mut process.ok_or_else(silent)?.seats;
        if seats.iter().all(|(_, waiting)| *waiting != validates) {
            seats.push((due_ms, validates));
        }
        Ok(Told::Done)
    }

    /// A question to the ledger that a node keeps.
    pub(crate) fn ask_node(&mut self, now_ms: u64, address: &str, ask: &Ask) -> Result<Told, AdapterError> {
        let (Ask::Send(key, _) | Ask::Find(key, _)) = ask else { unreachable!("nothing else is for a node") };
        let full = self.dice.chance(self.temper.refused);
        let (wait_ms, number) = (self.dice.range(BLOCK_MS / 2, 6 * BLOCK_MS), self.number_last);
        let home = self.hosts.get_mut(address).and_then(|host| host.homes.get_mut(key));
        let node = home.and_then(|home| Some((home.process.as_mut()?, home.files.get(GENESIS_FILE)?)));
        let silent = || AdapterError::Transient { subject: key.to_string(), reason: "connection refused".into() };
        let (process, genesis) = node.filter(|(process, _)| process.hangs_until_ms <= now_ms).ok_or_else(silent)?;
        let seen_ms = now_ms.saturating_sub(process.behind_ms);
        let waiting = |process: &Process, hash: &str| process.waiting.iter().any(|(_, it)| it.hash == hash);
        let raw = match ask {
            Ask::Send(_, raw) => raw,
            Ask::Find(_, hash) => {
                let waits = process.waiting.iter().map(|(_, tx)| tx).find(|tx| tx.hash == *hash);
                return Ok(Told::Found(self.chains.show(genesis, seen_ms, hash, waits).map(Box::new)));
            }
            _ => unreachable!("nothing else is for a node"),
        };
        let Some(mut tx) = Tx::parse(raw) else { return Ok(Told::Taken(Taken::Refused("no transaction".into()))) };
        if self.flaw == Flaw::Resigned {
            tx = tx.anew(number);
        }
        let taken = self.chains.takes(genesis, seen_ms, &tx);
        let known = waiting(process, &tx.hash) || self.chains.show(genesis, seen_ms, &tx.hash, None).is_some();
        if matches!(taken, Taken::Hash(_)) && !known {
            if full {
                return Ok(Told::Full);
            }
            process.waiting.push((now_ms + wait_ms, tx));
        }
        Ok(Told::Taken(taken))
    }
}
