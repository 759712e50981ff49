//! What a replica keeps of the tree: the hashes of all full subtrees from a block of 1,024 leaves upwards, and the leaves after the
//! last full block.
//!
//! So it takes 64 bytes for each 1,024 records, and a proof needs the leaves of one block besides, which [`View`] is handed.
//! Nothing in it is ever changed, only added to.

use std::collections::BTreeMap;

use crate::merkle::{Hash, Nodes, node_hash};

/// Leaves of a block: a proof reads so many records at most.
pub const BLOCK_LEAVES: u64 = 1 << BLOCK_LEVEL;
/// Level of a block's root.
const BLOCK_LEVEL: u32 = 10;

/// The kept part of a tree; a new one is empty.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// By level from [`BLOCK_LEVEL`] on: all full subtrees, from the left.
    levels: Vec<Vec<Hash>>,
    /// Leaves after the last full block.
    tail: Vec<Hash>,
}

impl Tree {
    /// Gives how many leaves it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blocks() * BLOCK_LEAVES + self.tail.len() as u64
    }

    /// Gives how many blocks are full.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.levels.first().map_or(0, |blocks| blocks.len() as u64)
    }

    /// Adds the next leaf; gives the root of the block that it filled, if it did.
    pub fn push(&mut self, leaf: Hash) -> Option<Hash> {
        self.tail.push(leaf);
        if (self.tail.len() as u64) < BLOCK_LEAVES {
            return None;
        }
        let block = self.tail.as_slice().node(BLOCK_LEVEL, 0).expect("the block is full");
        self.tail.clear();
        self.add_block(block);
        Some(block)
    }

    /// Adds a full block of which only the root is known. Says whether it was added: not after single leaves.
    pub fn push_block(&mut self, block: Hash) -> bool {
        let fits = self.tail.is_empty();
        if fits {
            self.add_block(block);
        }
        fits
    }

    fn add_block(&mut self, block: Hash) {
        let mut hash = block;
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            let [.., left, right] = self.levels[level].as_slice() else { return };
            if self.levels[level].len() % 2 == 1 {
                return;
            }
            hash = node_hash(left, right);
        }
    }

    /// Gives the full block that leaf `index` lies in; its leaves must be handed to a [`View`] that shall see into it.
    #[must_use]
    pub fn block_of(&self, index: u64) -> Option<u64> {
        Some(index / BLOCK_LEAVES).filter(|block| *block < self.blocks())
    }

    /// Looks at the tree without any block opened.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { tree: self, opened: BTreeMap::new() }
    }
}

/// A tree with some blocks opened.
#[derive(Debug)]
pub struct View<'a> {
    tree: &'a Tree,
    opened: BTreeMap<u64, Vec<Hash>>,
}

impl View<'_> {
    /// Hands over the leaves of a block. Says whether they are those that the tree was made of.
    #[must_use]
    pub fn open(&mut self, block: u64, leaves: Vec<Hash>) -> bool {
        let found = leaves.as_slice().node(BLOCK_LEVEL, 0);
        let fits = leaves.len() as u64 == BLOCK_LEAVES && found.is_some() && found == self.node(BLOCK_LEVEL, block);
        if fits {
            self.opened.insert(block, leaves);
        }
        fits
    }
}

impl Nodes for View<'_> {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        if let Some(above) = level.checked_sub(BLOCK_LEVEL) {
            let hashes = self.tree.levels.get(usize::try_from(above).ok()?)?;
            return hashes.get(usize::try_from(index).ok()?).copied();
        }
        let (block, within) = (index >> (BLOCK_LEVEL - level), index & ((BLOCK_LEAVES >> level) - 1));
        let leaves = if block == self.tree.blocks() { &self.tree.tail } else { self.opened.get(&block)? };
        leaves.as_slice().node(level, within)
    }
}
