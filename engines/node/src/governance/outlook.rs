//! What the chain's governance means for the next blocks: who votes, who may connect, who may send, which program.

use std::collections::BTreeSet;

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256};

use super::{ADDRESS, Layout, ListId};
use crate::block::Tx;
use crate::genesis::{Genesis, GenesisValidator};
use crate::keys::{NodeId, PublicKey};
use crate::store::{Snapshot, StateView};
use crate::{NodeError, anchor};

/// The version of the chain's rules that this program knows. Raised when a program would judge blocks differently.
pub(crate) const PROTOCOL_VERSION: u64 = 1;

/// What is decided for the blocks after the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// The height after the newest block.
    pub(crate) height: u64,
    /// Who votes on it.
    pub(crate) validators: Vec<GenesisValidator>,
    /// Who votes on the one after.
    pub(crate) following: Vec<GenesisValidator>,
    /// Which of the nodes that were asked for may connect, if the node allow-list is in force; validators always may.
    pub(crate) nodes: Option<BTreeSet<NodeId>>,
    /// The protocol version that a block of this height needs.
    pub(crate) version: u64,
    /// Version and last height of the one before, if an upgrade is ahead.
    pub(crate) upgrade: Option<(u64, u64)>,
}

impl Outlook {
    /// Reads what the newest block's state says, of the list of nodes only what it says of `peers`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn read(
        snapshot: &Snapshot,
        genesis: &Genesis,
        peers: impl Iterator<Item = PublicKey>,
    ) -> Result<Self, NodeError> {
        let height = snapshot.head()?.unwrap_or(0) + 1;
        if genesis.governance.is_none() {
            let validators = genesis.validators.clone();
            return Ok(Self { height, following: validators.clone(), validators, ..Self::default() });
        }
        let mut state = snapshot.latest();
        let mut layout = Layout::new(&mut state);
        // Mostly one set counts for both.
        let (set, next) = (layout.set_index_at(height)?, layout.set_index_at(height + 1)?);
        let validators = layout.set(set)?;
        let following = if next == set { validators.clone() } else { layout.set(next)? };
        let nodes = match layout.restricted(ListId::Nodes)?.holds_at(height) {
            false => None,
            true => {
                // One who will vote soon must be let in before.
                let voting: BTreeSet<_> = validators.iter().chain(&following).map(|v| v.public_key).collect();
                let mut allowed = BTreeSet::new();
                for key in peers {
                    if voting.contains(&key) || layout.entry(ListId::Nodes, B256::from(key.0))?.holds_at(height) {
                        allowed.insert(key.node_id());
                    }
                }
                Some(allowed)
            }
        };
        let upgrade = layout.upgrade()?;
        let ahead = upgrade.version != 0 && upgrade.height >= height;
        Ok(Self {
            height,
            validators,
            following,
            nodes,
            version: upgrade.needed_at(height),
            upgrade: ahead.then_some((upgrade.version, upgrade.height)),
        })
    }
}

/// The validators of a height up to two after the state's.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn validators_at(
    mut state: StateView<'_>,
    genesis: &Genesis,
    height: u64,
) -> Result<Vec<GenesisValidator>, NodeError> {
    match genesis.governance {
        None => Ok(genesis.validators.clone()),
        Some(_) => Layout::new(&mut state).validators_at(height),
    }
}

/// Whether a node id is that of a validator of `height`; for chains with governance.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn is_validator(mut state: StateView<'_>, id: Address, height: u64) -> Result<bool, NodeError> {
    let validators = Layout::new(&mut state).validators_at(height)?;
    Ok(validators.iter().any(|v| v.public_key.node_id().0 == id))
}

/// Whether the lists let a transaction into the block of `height`, after the state of the block before; the reason if
/// not. Creating a contract by a transaction wants the deployers' list, creating one by a contract does not, as in
/// Besu's and Quorum's permissioning. Members may always send to governance, and anyone what takes the audit anchor further,
/// so that a list cannot lock them out.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn admit(
    state: StateView<'_>,
    anchor: Option<&anchor::Rules>,
    tx: &Tx,
    sender: Address,
    height: u64,
) -> Result<Result<(), String>, NodeError> {
    let mut of_governance = state;
    let mut layout = Layout::new(&mut of_governance);
    let subject = sender.into_word();
    let governs = tx.to() == Some(ADDRESS) && layout.members()?.contains(&sender);
    if !governs
        && !layout.allows(ListId::Senders, subject, height)?
        && !anchor.map_or(Ok(false), |rules| rules.goes_further(state, tx))?
    {
        return Ok(Err(format!("{sender} is not on the chain's list of senders; its members can change that")));
    }
    if tx.is_create() && !layout.allows(ListId::Deployers, subject, height)? {
        return Ok(Err(format!("{sender} is not on the chain's list of deployers; its members can change that")));
    }
    Ok(Ok(()))
}
