//! Governance in a simulated network: members remove validators and take them back, and decide an upgrade of the
//! program, which operators install node by node.

use alloy_primitives::{B256, Bytes, U256};

use super::run::{Action, CHAIN_ID, CHAOS, SECOND, World};
use super::wallet::Wallet;
use crate::consensus::cert;
use crate::consensus::context::Validators;
use crate::consensus::wire::CertificateForm;
use crate::governance;

/// The version that a run's members upgrade to.
pub(super) const NEW_PROTOCOL: u64 = 2;

impl World {
    /// A stored block was decided by the validators of its height, and not by a program too old for it.
    pub(super) fn check_decided(&self, node: usize, number: u64) -> Result<(), String> {
        let shared = self.nodes[node].shared().unwrap();
        let snapshot = shared.store.snapshot().unwrap();
        let set = governance::validators_at(snapshot.latest(), &self.genesis, number).unwrap();
        let bytes = snapshot.certificate(number).unwrap().unwrap();
        let certificate = CertificateForm::read(&bytes)?.commit()?;
        cert::verify_commit(&self.chain, &certificate, &Validators::of(&set), Default::default())
            .map_err(|e| format!("validity: block {number} was not decided by the validators of its height: {e}"))?;
        let (last, knows) = (self.upgrade_after, self.nodes[node].protocol);
        if number > last && knows < NEW_PROTOCOL {
            return Err(format!("a program of version {knows} stored block {number}, beyond {last}"));
        }
        Ok(())
    }

    /// Members decide something, from what a node that is up says is in force.
    pub(super) fn govern(&mut self) {
        let next = SECOND + self.rng.below(3 * SECOND);
        self.after(next, Action::Govern);
        let pick = self.rng.below(self.nodes.len() as u64) as usize;
        let Some(shared) = self.nodes[pick].shared().cloned() else { return };
        let snapshot = shared.store.snapshot().unwrap();
        let mut state = snapshot.latest();
        let mut layout = governance::Layout::new(&mut state);
        let (sequence, height) = (layout.sequence().unwrap(), snapshot.head().unwrap().unwrap());
        let decided = layout.validators_at(height + governance::DELAY).unwrap();
        let change = if self.now > CHAOS / 3 && layout.upgrade().unwrap().version == 0 {
            let (subject, value) = (U256::from(NEW_PROTOCOL).into(), U256::from(height + 3));
            governance::Change { action: governance::Action::ScheduleUpgrade, subject, value }
        } else {
            let someone = self.rng.below(self.nodes.len() as u64) as usize;
            let key = self.nodes[someone].key.public_key();
            let is_in = decided.iter().any(|v| v.public_key == key);
            let (subject, value) = (B256::from(key.0), U256::from(!is_in));
            governance::Change { action: governance::Action::SetValidator, subject, value }
        };
        let call = governance::Call { changes: vec![change], sequence, deadline: 0, signatures: Vec::new() };
        let domain = shared.rules.governance.unwrap();
        let sign = |wallet: &Wallet, hash| Bytes::from(wallet.sign(hash).as_bytes().to_vec());
        let (first, second) = (&self.wallets[0], &self.wallets[1]);
        let input = governance::signed_input(&domain, call, &[&|hash| sign(first, hash), &|hash| sign(second, hash)]);
        let (hash, raw) = self.wallets[2].transact(CHAIN_ID, governance::ADDRESS, 0, input);
        self.laws.submitted.insert(hash);
        self.laws.proposals.insert(hash);
        self.open.insert(hash, raw.clone());
        self.nodes[pick].submit(raw);
    }

    /// Notes what a node says of itself after a turn.
    pub(super) fn note_governance(&mut self, node: usize) {
        let Some(shared) = self.nodes[node].shared().cloned() else { return };
        if shared.status().halted.is_some() && self.nodes[node].halted_at != self.nodes[node].seen {
            self.nodes[node].halted_at = self.nodes[node].seen;
            self.report.halts += 1;
        }
        let snapshot = shared.store.snapshot().unwrap();
        let mut state = snapshot.latest();
        let mut layout = governance::Layout::new(&mut state);
        self.report.changes = self.report.changes.max(layout.set_count().unwrap() - 1);
        let upgrade = layout.upgrade().unwrap();
        if upgrade.version != 0 {
            self.upgrade_after = upgrade.height;
        }
    }
}
