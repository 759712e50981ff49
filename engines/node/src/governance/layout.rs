//! Where what was decided stands in the account's storage, version 1.
//!
//! A slot's place is keccak256("hanse.governance/1/" ‖ name ‖ 0 ‖ arguments of 32 bytes). Validator sets are kept for
//! good, each with the height from which it counts. An entry of a list says from which height until which it counts, so
//! that one slot answers for the block under way and the next.

use std::collections::BTreeMap;
use std::convert::Infallible;

use alloy_primitives::{Address, B256, U256, keccak256};

use crate::NodeError;
use crate::genesis::{Genesis, GenesisValidator};
use crate::keys::PublicKey;
use crate::store::StateView;

/// Storage of the governance account.
pub(crate) trait Slots {
    type Error;
    /// The value of a slot; zero if never written.
    fn load(&mut self, slot: U256) -> Result<U256, Self::Error>;
}

/// Storage that can be changed.
pub(crate) trait SlotsMut: Slots {
    fn store(&mut self, slot: U256, value: U256) -> Result<(), Self::Error>;
}

impl Slots for StateView<'_> {
    type Error = NodeError;
    fn load(&mut self, slot: U256) -> Result<U256, NodeError> {
        self.slot(super::ADDRESS, slot)
    }
}

/// The storage of another native account.
pub(crate) struct AccountSlots<'a>(pub(crate) StateView<'a>, pub(crate) Address);

impl Slots for AccountSlots<'_> {
    type Error = NodeError;
    fn load(&mut self, slot: U256) -> Result<U256, NodeError> {
        self.0.slot(self.1, slot)
    }
}

impl Slots for BTreeMap<U256, U256> {
    type Error = Infallible;
    fn load(&mut self, slot: U256) -> Result<U256, Infallible> {
        Ok(self.get(&slot).copied().unwrap_or_default())
    }
}

impl SlotsMut for BTreeMap<U256, U256> {
    fn store(&mut self, slot: U256, value: U256) -> Result<(), Infallible> {
        self.insert(slot, value);
        Ok(())
    }
}

/// One of the three lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListId {
    Nodes = 1,
    Senders = 2,
    Deployers = 3,
}

/// When something counts: heights from `from` to before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// Whether the list names it (and it may count or not).
    listed: bool,
}

impl Span {
    const NEVER: Self = Self { from: 0, until: 0, listed: false };

    fn decode(word: U256) -> Self {
        let [until, from, listed, _] = *word.as_limbs();
        Self { from, until, listed: listed != 0 }
    }

    fn encode(self) -> U256 {
        U256::from_limbs([self.until, self.from, u64::from(self.listed), 0])
    }

    pub(crate) fn holds_at(self, height: u64) -> bool {
        (self.from..self.until).contains(&height)
    }

    /// Whether it will count from `height` on, as decided now.
    pub(crate) fn stays(self) -> bool {
        self.until == u64::MAX
    }

    /// The span after a decision that counts from `height`.
    pub(super) fn turn(self, on: bool, height: u64) -> Self {
        let (from, until) = match (on, self.until == height) {
            // Its end was decided in this very block: it just goes on.
            (true, true) => (self.from, u64::MAX),
            (true, false) => (height, u64::MAX),
            (false, _) => (self.from, height),
        };
        Self { from, until, ..self }
    }
}

/// A scheduled change of program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// The last height of the version before.
    pub(crate) height: u64,
    /// The version after that height; 0 if none was ever scheduled.
    pub(crate) version: u64,
    /// The version up to that height.
    pub(crate) before: u64,
}

impl Upgrade {
    /// The version that a block of this height needs.
    pub(crate) fn needed_at(&self, height: u64) -> u64 {
        if height > self.height && self.version != 0 { self.version } else { self.before }
    }
}

/// What stands in the storage, by name.
pub(crate) struct Layout<'s, S>(pub(super) &'s mut S);

fn place(name: &str, arguments: &[U256]) -> U256 {
    let mut bytes = b"hanse.governance/1/".to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    for argument in arguments {
        bytes.extend_from_slice(&argument.to_be_bytes::<32>());
    }
    keccak256(bytes).into()
}

fn number(word: U256) -> u64 {
    u64::try_from(word).unwrap_or(u64::MAX)
}

impl<'s, S: Slots> Layout<'s, S> {
    pub(crate) fn new(slots: &'s mut S) -> Self {
        Self(slots)
    }

    fn get(&mut self, name: &str, arguments: &[U256]) -> Result<U256, S::Error> {
        self.0.load(place(name, arguments))
    }

    pub(crate) fn sequence(&mut self) -> Result<u64, S::Error> {
        self.get("sequence", &[]).map(number)
    }

    pub(crate) fn threshold(&mut self) -> Result<u64, S::Error> {
        self.get("threshold", &[]).map(number)
    }

    pub(crate) fn members(&mut self) -> Result<Vec<Address>, S::Error> {
        let count = number(self.get("members", &[])?);
        (0..count).map(|i| Ok(Address::from_word(self.get("member", &[U256::from(i)])?.into()))).collect()
    }

    pub(crate) fn set_count(&mut self) -> Result<u64, S::Error> {
        self.get("sets", &[]).map(number)
    }

    /// The height from which a set counts.
    pub(super) fn set_from(&mut self, index: u64) -> Result<u64, S::Error> {
        self.get("set_from", &[U256::from(index)]).map(number)
    }

    pub(super) fn set_length(&mut self, index: u64) -> Result<u64, S::Error> {
        self.get("set_length", &[U256::from(index)]).map(number)
    }

    pub(super) fn set(&mut self, index: u64) -> Result<Vec<GenesisValidator>, S::Error> {
        let at = U256::from(index);
        let count = self.set_length(index)?;
        let one = |i| {
            let key: B256 = self.get("set_key", &[at, U256::from(i)])?.into();
            let power = number(self.get("set_power", &[at, U256::from(i)])?);
            Ok(GenesisValidator { public_key: PublicKey(key.0), power })
        };
        (0..count).map(one).collect()
    }

    /// The index of the set that counts at a height, as far as is decided.
    pub(super) fn set_index_at(&mut self, height: u64) -> Result<u64, S::Error> {
        let (mut low, mut high) = (0, self.set_count()?.saturating_sub(1));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.set_from(middle)? <= height { low = middle } else { high = middle - 1 }
        }
        Ok(low)
    }

    /// The validators of a height, in the order of the set.
    pub(crate) fn validators_at(&mut self, height: u64) -> Result<Vec<GenesisValidator>, S::Error> {
        let index = self.set_index_at(height)?;
        self.set(index)
    }

    /// Sets that are decided and do not count yet at `height`, with the height from which they will.
    pub(crate) fn sets_after(&mut self, height: u64) -> Result<Vec<(u64, Vec<GenesisValidator>)>, S::Error> {
        let first = self.set_index_at(height)? + 1;
        (first..self.set_count()?).map(|index| Ok((self.set_from(index)?, self.set(index)?))).collect()
    }

    /// When an entry of a list counts.
    pub(crate) fn entry(&mut self, list: ListId, subject: B256) -> Result<Span, S::Error> {
        self.get("entry", &[U256::from(list as u8), subject.into()]).map(Span::decode)
    }

    /// When a list is in force.
    pub(crate) fn restricted(&mut self, list: ListId) -> Result<Span, S::Error> {
        self.get("restricted", &[U256::from(list as u8)]).map(Span::decode)
    }

    /// Whether a list lets a subject do something at a height.
    pub(crate) fn allows(&mut self, list: ListId, subject: B256, height: u64) -> Result<bool, S::Error> {
        Ok(!self.restricted(list)?.holds_at(height) || self.entry(list, subject)?.holds_at(height))
    }

    /// All that a list ever named, with their spans.
    pub(crate) fn entries(&mut self, list: ListId) -> Result<Vec<(B256, Span)>, S::Error> {
        let id = U256::from(list as u8);
        let count = number(self.get("entries", &[id])?);
        let one = |i| {
            let subject: B256 = self.get("listed", &[id, U256::from(i)])?.into();
            Ok((subject, self.entry(list, subject)?))
        };
        (0..count).map(one).collect()
    }

    pub(super) fn entry_count(&mut self, list: ListId) -> Result<u64, S::Error> {
        self.get("entries", &[U256::from(list as u8)]).map(number)
    }

    pub(crate) fn upgrade(&mut self) -> Result<Upgrade, S::Error> {
        let [height, version, before, _] = *self.get("upgrade", &[])?.as_limbs();
        Ok(Upgrade { height, version, before })
    }
}

impl<S: Slots> Layout<'_, S> {
    /// The key that signs checkpoints of the platform's audit trail, zero if the chain has no anchor for them, and how often
    /// members have set it since block 0.
    pub(crate) fn anchor(&mut self) -> Result<(B256, u64), S::Error> {
        Ok((self.get("anchor_key", &[])?.into(), number(self.get("anchor_era", &[])?)))
    }
}

impl<S: SlotsMut> Layout<'_, S> {
    pub(super) fn put_anchor(&mut self, key: B256, era: u64) -> Result<(), S::Error> {
        self.put("anchor_key", &[], U256::from_be_bytes(key.0))?;
        self.put("anchor_era", &[], U256::from(era))
    }

    fn put(&mut self, name: &str, arguments: &[U256], value: impl Into<U256>) -> Result<(), S::Error> {
        self.0.store(place(name, arguments), value.into())
    }

    pub(super) fn put_sequence(&mut self, sequence: u64) -> Result<(), S::Error> {
        self.put("sequence", &[], U256::from(sequence))
    }

    pub(super) fn put_threshold(&mut self, threshold: u64) -> Result<(), S::Error> {
        self.put("threshold", &[], U256::from(threshold))
    }

    pub(super) fn put_members(&mut self, members: &[Address]) -> Result<(), S::Error> {
        let before = number(self.get("members", &[])?);
        for (i, member) in (0u64..).zip(members) {
            self.put("member", &[U256::from(i)], U256::from_be_bytes(member.into_word().0))?;
        }
        for i in members.len() as u64..before {
            self.put("member", &[U256::from(i)], U256::ZERO)?;
        }
        self.put("members", &[], U256::from(members.len()))
    }

    /// Writes a set at an index; a longer one that stood there leaves nothing behind.
    pub(super) fn put_set(&mut self, index: u64, from: u64, set: &[GenesisValidator]) -> Result<(), S::Error> {
        let at = U256::from(index);
        let before = number(self.get("set_length", &[at])?);
        for (i, validator) in (0u64..).zip(set) {
            self.put("set_key", &[at, U256::from(i)], U256::from_be_bytes(validator.public_key.0))?;
            self.put("set_power", &[at, U256::from(i)], U256::from(validator.power))?;
        }
        for i in set.len() as u64..before {
            self.put("set_key", &[at, U256::from(i)], U256::ZERO)?;
            self.put("set_power", &[at, U256::from(i)], U256::ZERO)?;
        }
        self.put("set_length", &[at], U256::from(set.len()))?;
        self.put("set_from", &[at], U256::from(from))?;
        let count = self.set_count()?.max(index + 1);
        self.put("sets", &[], U256::from(count))
    }

    /// Writes an entry's span and names it in the list.
    pub(super) fn put_entry(&mut self, list: ListId, subject: B256, span: Span) -> Result<(), S::Error> {
        let id = U256::from(list as u8);
        if !span.listed {
            let count = self.entry_count(list)?;
            self.put("listed", &[id, U256::from(count)], U256::from_be_bytes(subject.0))?;
            self.put("entries", &[id], U256::from(count + 1))?;
        }
        self.put("entry", &[id, subject.into()], Span { listed: true, ..span }.encode())
    }

    pub(super) fn put_restricted(&mut self, list: ListId, span: Span) -> Result<(), S::Error> {
        self.put("restricted", &[U256::from(list as u8)], span.encode())
    }

    pub(super) fn put_upgrade(&mut self, upgrade: Upgrade) -> Result<(), S::Error> {
        self.put("upgrade", &[], U256::from_limbs([upgrade.height, upgrade.version, upgrade.before, 0]))
    }
}

/// The storage in block 0; `None` for a chain without governance.
pub(super) fn initial(genesis: &Genesis) -> Option<BTreeMap<U256, U256>> {
    let governance = genesis.governance.as_ref()?;
    let mut slots = BTreeMap::new();
    let Ok(()) = write_initial(&mut Layout(&mut slots), genesis, governance);
    slots.retain(|_, value| !value.is_zero());
    Some(slots)
}

fn write_initial(
    layout: &mut Layout<'_, BTreeMap<U256, U256>>,
    genesis: &Genesis,
    governance: &crate::genesis::GenesisGovernance,
) -> Result<(), Infallible> {
    // The storage must not depend on the order in the file, as the genesis' hash does not.
    let mut members = governance.members.clone();
    members.sort_unstable();
    let mut validators = genesis.validators.clone();
    validators.sort_by_key(|v| v.public_key);
    layout.put_members(&members)?;
    layout.put_threshold(u64::from(governance.threshold))?;
    layout.put_set(0, 0, &validators)?;
    if let Some(anchor) = &genesis.anchor {
        layout.put_anchor(B256::from(*anchor.key.public()), 0)?;
    }
    let always = Span { from: 0, until: u64::MAX, listed: false };
    let of_key = |key: &PublicKey| B256::from(key.0);
    let of_account = |account: &Address| account.into_word();
    let lists = [
        (ListId::Nodes, governance.nodes.as_ref().map(|list| list.iter().map(of_key).collect::<Vec<_>>())),
        (ListId::Senders, governance.senders.as_ref().map(|list| list.iter().map(of_account).collect())),
        (ListId::Deployers, governance.deployers.as_ref().map(|list| list.iter().map(of_account).collect())),
    ];
    for (list, subjects) in lists {
        let Some(mut subjects) = subjects else { continue };
        subjects.sort_unstable();
        layout.put_restricted(list, always)?;
        for subject in subjects {
            layout.put_entry(list, subject, always)?;
        }
    }
    Ok(())
}

impl Default for Span {
    fn default() -> Self {
        Self::NEVER
    }
}
