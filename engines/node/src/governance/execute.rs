//! What a proposal does, and why one is refused. Everything is decided from the call, the height and the storage.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256};

use super::layout::{Layout, ListId, SlotsMut, Upgrade};
use super::sign::{Domain, hash_proposal};
use super::{Action, CHANGES_MAX, Call, Change, DELAY, ENTRIES_MAX, MEMBERS_MAX};
use crate::genesis::{GenesisValidator, POWER_MAX, VALIDATORS_MAX};
use crate::keys::PublicKey;
use crate::native::abi::Event;
use crate::native::{Failure, refuse};

/// Fewer validators than this may change one at a time whatever its share.
const SMALL_SET: usize = 4;

type Outcome<T, S> = Result<T, Failure<<S as super::Slots>::Error>>;

/// Executes a call in the block of `height` and returns its logs. After a failure the caller reverts the storage.
///
/// # Errors
/// The rule that it breaks, or that the storage failed.
pub(super) fn execute<S: SlotsMut>(slots: &mut S, domain: &Domain, height: u64, call: &Call) -> Outcome<Vec<Event>, S> {
    let mut layout = Layout::new(slots);
    let sequence = layout.sequence()?;
    if call.sequence != sequence {
        let (wants, has) = (sequence, call.sequence);
        return refuse(format!("the next proposal has sequence {wants}, this one {has}; propose and sign it anew"));
    }
    if call.deadline != 0 && height > call.deadline {
        return refuse(format!("its deadline was height {}, this is {height}", call.deadline));
    }
    if call.changes.is_empty() || call.changes.len() > CHANGES_MAX {
        return refuse(format!("it has {} changes; choose 1 to {CHANGES_MAX}", call.changes.len()));
    }
    check_signatures(&mut layout, domain, call)?;
    let effective = height + DELAY;
    let mut events = Vec::new();
    for change in &call.changes {
        if change.action != Action::SetValidator {
            events.push(apply(&mut layout, change, height)?);
        }
    }
    events.extend(set_validators(&mut layout, &call.changes, effective)?);
    check_members(&mut layout)?;
    layout.put_sequence(sequence + 1)?;
    let (number, at) = (U256::from(sequence), U256::from(effective));
    let executed = "ProposalExecuted(uint256,bytes32,uint256)";
    events.push(Event::new(executed, &[number.into(), hash_proposal(call)], &[at]));
    Ok(events)
}

fn check_signatures<S: SlotsMut>(layout: &mut Layout<'_, S>, domain: &Domain, call: &Call) -> Outcome<(), S> {
    let members: BTreeSet<_> = layout.members()?.into_iter().collect();
    let mut signers = BTreeSet::new();
    for (index, signature) in call.signatures.iter().enumerate() {
        let Some(signer) = domain.signer(call, signature) else {
            return refuse(format!("signature {index} is no signature"));
        };
        if !members.contains(&signer) {
            return refuse(format!(
                "signature {index} is by {signer}, who is no member, or it is of another proposal or chain"
            ));
        }
        if !signers.insert(signer) {
            return refuse(format!("{signer} signed twice"));
        }
    }
    let (has, wants) = (signers.len() as u64, layout.threshold()?);
    if has < wants {
        return refuse(format!("{has} members signed, {wants} must"));
    }
    Ok(())
}

/// All but validators, which are changed together.
fn apply<S: SlotsMut>(layout: &mut Layout<'_, S>, change: &Change, height: u64) -> Outcome<Event, S> {
    let effective = height + DELAY;
    match change.action {
        Action::SetNode => {
            key(change)?;
            set_entry(layout, ListId::Nodes, change, "NodeChanged(bytes32,bool,uint256)", effective)
        }
        Action::SetSender => {
            account(change)?;
            set_entry(layout, ListId::Senders, change, "SenderChanged(address,bool,uint256)", effective)
        }
        Action::SetDeployer => {
            account(change)?;
            set_entry(layout, ListId::Deployers, change, "DeployerChanged(address,bool,uint256)", effective)
        }
        Action::RestrictNodes => restrict(layout, ListId::Nodes, change, effective),
        Action::RestrictSenders => restrict(layout, ListId::Senders, change, effective),
        Action::RestrictDeployers => restrict(layout, ListId::Deployers, change, effective),
        Action::SetMember => set_member(layout, change),
        Action::SetThreshold => {
            let Some(threshold) = small(change.value).filter(|_| change.subject.is_zero()) else {
                return refuse("setThreshold wants subject 0 and a small number");
            };
            layout.put_threshold(threshold)?;
            Ok(Event::new("ThresholdChanged(uint256)", &[], &[change.value]))
        }
        Action::ScheduleUpgrade => schedule(layout, change, height),
        Action::SetAnchorKey => set_anchor_key(layout, change),
        Action::SetValidator => refuse("validators are changed together"),
    }
}

fn small(value: U256) -> Option<u64> {
    u64::try_from(value).ok()
}

fn flag<E>(change: &Change) -> Result<bool, Failure<E>> {
    match small(change.value) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => refuse(format!("{} wants 0 or 1, not {}", change.action.name(), change.value)),
    }
}

fn key<E>(change: &Change) -> Result<PublicKey, Failure<E>> {
    let key = PublicKey(change.subject.0);
    if key.verifying().is_none() {
        return refuse(format!("{} wants a node's key, {} is none", change.action.name(), change.subject));
    }
    Ok(key)
}

fn account<E>(change: &Change) -> Result<Address, Failure<E>> {
    let account = Address::from_word(change.subject);
    if account.is_zero() || account.into_word() != change.subject {
        return refuse(format!("{} wants an account, {} is none", change.action.name(), change.subject));
    }
    Ok(account)
}

fn set_entry<S: SlotsMut>(
    layout: &mut Layout<'_, S>,
    list: ListId,
    change: &Change,
    event: &str,
    effective: u64,
) -> Outcome<Event, S> {
    let on = flag(change)?;
    let span = layout.entry(list, change.subject)?;
    if span.stays() == on {
        let state = if on { "already" } else { "not" };
        return refuse(format!("{}: {} is {state} on the list", change.action.name(), change.subject));
    }
    if layout.entry_count(list)? >= ENTRIES_MAX {
        return refuse(format!(
            "{}: the list has named {ENTRIES_MAX} entries, which is its bound",
            change.action.name()
        ));
    }
    layout.put_entry(list, change.subject, span.turn(on, effective))?;
    Ok(Event::new(event, &[change.subject], &[U256::from(on), U256::from(effective)]))
}

fn restrict<S: SlotsMut>(
    layout: &mut Layout<'_, S>,
    list: ListId,
    change: &Change,
    effective: u64,
) -> Outcome<Event, S> {
    let on = flag(change)?;
    let name = change.action.name();
    if !change.subject.is_zero() {
        return refuse(format!("{name} wants subject 0"));
    }
    let span = layout.restricted(list)?;
    if span.stays() == on {
        return refuse(format!("{name}: the list is {} in force", if on { "already" } else { "not" }));
    }
    layout.put_restricted(list, span.turn(on, effective))?;
    let event = "ListRestricted(uint8,bool,uint256)";
    Ok(Event::new(event, &[U256::from(list as u8).into()], &[U256::from(on), U256::from(effective)]))
}

fn set_member<S: SlotsMut>(layout: &mut Layout<'_, S>, change: &Change) -> Outcome<Event, S> {
    let (member, on) = (account(change)?, flag(change)?);
    let mut members = layout.members()?;
    if members.contains(&member) == on {
        return refuse(format!("setMember: {member} is {} a member", if on { "already" } else { "not" }));
    }
    members.retain(|other| *other != member);
    if on {
        members.push(member);
    }
    layout.put_members(&members)?;
    Ok(Event::new("MemberChanged(address,bool)", &[change.subject], &[U256::from(on)]))
}

/// A new key, or the old one again: either way nothing that was anchored binds what is anchored next.
fn set_anchor_key<S: SlotsMut>(layout: &mut Layout<'_, S>, change: &Change) -> Outcome<Event, S> {
    if key(change)?.0 == [0; 32] || !flag(change)? {
        return refuse("setAnchorKey wants the key that signs the platform's checkpoints, and 1");
    }
    let (_, era) = layout.anchor()?;
    layout.put_anchor(change.subject, era + 1)?;
    Ok(Event::new("AnchorKeyChanged(bytes32,uint256)", &[change.subject], &[U256::from(era + 1)]))
}

/// After all changes: someone must be able to decide the next proposal.
fn check_members<S: SlotsMut>(layout: &mut Layout<'_, S>) -> Outcome<(), S> {
    let (members, threshold) = (layout.members()?.len() as u64, layout.threshold()?);
    if members > MEMBERS_MAX as u64 {
        return refuse(format!("{members} members are more than {MEMBERS_MAX}"));
    }
    if !(1..=members).contains(&threshold) {
        return refuse(format!("a threshold of {threshold} cannot be met by {members} members, or is 0"));
    }
    Ok(())
}

fn schedule<S: SlotsMut>(layout: &mut Layout<'_, S>, change: &Change, height: u64) -> Outcome<Event, S> {
    let (Some(version), Some(last)) = (small(change.subject.into()), small(change.value)) else {
        return refuse("scheduleUpgrade wants a version and a height");
    };
    let old = layout.upgrade()?;
    let done = old.version != 0 && old.height <= height;
    let before = if done { old.version } else { old.before };
    if last == 0 {
        if done || old.version != version {
            return refuse(format!("scheduleUpgrade: no upgrade to version {version} is ahead"));
        }
        layout.put_upgrade(Upgrade { height: 0, version: 0, before })?;
    } else {
        if version <= before {
            return refuse(format!("scheduleUpgrade: version {version} is not newer than {before}"));
        }
        if last < height + DELAY {
            return refuse(format!("scheduleUpgrade: height {last} is too soon; choose {} or later", height + DELAY));
        }
        layout.put_upgrade(Upgrade { height: last, version, before })?;
    }
    Ok(Event::new("UpgradeScheduled(uint256,uint256)", &[change.subject], &[change.value]))
}

/// Takes all changes of validators together, because their bound is on the whole.
fn set_validators<S: SlotsMut>(
    layout: &mut Layout<'_, S>,
    changes: &[Change],
    effective: u64,
) -> Outcome<Vec<Event>, S> {
    let mut events = Vec::new();
    let count = layout.set_count()?;
    let latest = layout.set(count - 1)?;
    let mut set: BTreeMap<_, _> = latest.iter().map(|v| (v.public_key, v.power)).collect();
    for change in changes.iter().filter(|change| change.action == Action::SetValidator) {
        let (key, Some(power)) = (key(change)?, small(change.value).filter(|power| *power <= POWER_MAX)) else {
            return refuse(format!("setValidator: power {} is more than {POWER_MAX}", change.value));
        };
        let before = if power == 0 { set.remove(&key) } else { set.insert(key, power) };
        if before.unwrap_or(0) == power {
            return refuse(format!("setValidator: {key} has power {power} already"));
        }
        let event = "ValidatorChanged(bytes32,uint256,uint256)";
        events.push(Event::new(event, &[B256::from(key.0)], &[change.value, U256::from(effective)]));
    }
    if events.is_empty() {
        return Ok(events);
    }
    // Another proposal of this block has made the newest set: both together are one change.
    let same_block = layout.set_from(count - 1)? == effective;
    let (index, base) = if same_block { (count - 1, layout.set(count - 2)?) } else { (count, latest) };
    check_set(&base, &set).map_err(Failure::Refused)?;
    let set: Vec<_> = set.into_iter().map(|(public_key, power)| GenesisValidator { public_key, power }).collect();
    layout.put_set(index, effective, &set)?;
    Ok(events)
}

/// Whether a set may follow another: someone is left, numbers stay in bounds, and less than a third of the power changes,
/// so that those who stay can go on whatever the new ones do. A small set has no such third; there, one validator may
/// change, with no more power than another has.
fn check_set(base: &[GenesisValidator], set: &BTreeMap<PublicKey, u64>) -> Result<(), String> {
    if set.is_empty() {
        return Err("setValidator: no validator would be left".to_owned());
    }
    if set.len() > VALIDATORS_MAX {
        return Err(format!("setValidator: {} validators are more than {VALIDATORS_MAX}", set.len()));
    }
    let total: u64 = base.iter().map(|v| v.power).sum();
    if set.values().sum::<u64>() > POWER_MAX {
        return Err(format!("setValidator: the total power would be more than {POWER_MAX}"));
    }
    let old: BTreeMap<_, _> = base.iter().map(|v| (v.public_key, v.power)).collect();
    let keys: BTreeSet<_> = old.keys().chain(set.keys()).collect();
    let differences = keys.into_iter().map(|key| {
        let (before, after) = (old.get(key).copied().unwrap_or(0), set.get(key).copied().unwrap_or(0));
        (before.abs_diff(after), after)
    });
    let changed: Vec<_> = differences.filter(|(difference, _)| *difference > 0).collect();
    let sum: u64 = changed.iter().map(|(difference, _)| difference).sum();
    let most = base.iter().map(|v| v.power).max().unwrap_or(0);
    let one_of_few = changed.len() == 1 && base.len() < SMALL_SET && changed.iter().all(|(_, after)| *after <= most);
    if sum.saturating_mul(3) < total || one_of_few {
        return Ok(());
    }
    Err(format!(
        "setValidator: {sum} of a total power of {total} would change at once; less than a third may, so do it in steps"
    ))
}
