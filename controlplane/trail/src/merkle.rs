//! The Merkle tree of RFC 6962, section 2.1, with the verification algorithms of RFC 9162, section 2.1.
//!
//! A tree of `n` leaves is split at the largest power of two below `n`, so everything left of the right edge is made of full
//! subtrees whose hashes never change. Roots and proofs are made of those hashes alone; where they come from is for
//! [`Nodes`] to say.

use ring::digest::{SHA256, digest};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Before a leaf's content, and before two children: so no leaf can pass for an inner node.
const LEAF: u8 = 0;
const NODE: u8 = 1;

/// Gives the hash of a leaf.
#[must_use]
pub fn leaf_hash(content: &[u8]) -> Hash {
    sha256(&[&[LEAF], content].concat())
}

/// Gives the hash of an inner node.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [NODE; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    sha256(&bytes)
}

/// Gives the root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

fn sha256(bytes: &[u8]) -> Hash {
    digest(&SHA256, bytes).as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

/// Where the hashes of full subtrees come from.
pub trait Nodes {
    /// Gives the hash of the full subtree of 2^`level` leaves that is number `index` (from 0) of its level; `None` if it is not
    /// at hand.
    fn node(&self, level: u32, index: u64) -> Option<Hash>;
}

/// The hashes of all leaves.
impl Nodes for [Hash] {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        if level == 0 {
            return self.get(usize::try_from(index).ok()?).copied();
        }
        Some(node_hash(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?))
    }
}

/// Gives the root over the first `size` leaves; `None` if a node is not at hand.
#[must_use]
pub fn root<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Option<Hash> {
    if size == 0 { Some(empty_root()) } else { range(nodes, 0, size) }
}

/// Gives the proof that leaf `index` is in the tree of `size` leaves (PATH of RFC 6962, section 2.1.1); `None` if it is not, or a
/// node is not at hand.
#[must_use]
pub fn inclusion<N: Nodes + ?Sized>(nodes: &N, index: u64, size: u64) -> Option<Vec<Hash>> {
    if index >= size {
        return None;
    }
    let (mut from, mut to, mut proof) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Gives the proof that the tree of `old` leaves is the beginning of that of `new` (PROOF of RFC 6962, section 2.1.2); `None` if
/// it cannot be, or a node is not at hand. From the empty tree there is nothing to prove.
#[must_use]
pub fn consistency<N: Nodes + ?Sized>(nodes: &N, old: u64, new: u64) -> Option<Vec<Hash>> {
    if old > new {
        return None;
    }
    if old == 0 {
        return Some(Vec::new());
    }
    let (mut from, mut to, mut proof) = (0, new, Vec::new());
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    // Whoever verifies knows the root of the old tree, so it is left out where the old tree is one full subtree.
    if from > 0 {
        proof.push(range(nodes, from, to)?);
    }
    proof.reverse();
    Some(proof)
}

/// Says whether `proof` shows that a leaf of this hash is number `index` of the tree with `size` leaves and this root
/// (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            skip_edge(&mut at, &mut last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Says whether `proof` shows that the tree with `old` leaves and root `old_root` is the beginning of the tree with `new` leaves
/// and root `new_root` (RFC 9162, section 2.1.4.2).
#[must_use]
pub fn verify_consistency(old: u64, new: u64, proof: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root && (old > 0 || *old_root == empty_root());
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let (first, rest) = match (old.is_power_of_two(), proof.split_first()) {
        (true, Some(_)) => (old_root, proof),
        (false, Some((first, rest))) => (first, rest),
        (_, None) => return false,
    };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            skip_edge(&mut at, &mut last);
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// At the right edge a node without a sibling is its own parent: such levels have no hash in a proof.
fn skip_edge(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        (*at, *last) = (*at >> 1, *last >> 1);
    }
}

/// Gives the hash over leaves `from..to`, which are a subtree of some tree as this module splits it.
fn range<N: Nodes + ?Sized>(nodes: &N, from: u64, to: u64) -> Option<Hash> {
    let count = to - from;
    if count.is_power_of_two() {
        return nodes.node(count.ilog2(), from >> count.ilog2());
    }
    let middle = from + split(count);
    Some(node_hash(&range(nodes, from, middle)?, &range(nodes, middle, to)?))
}

/// Gives the largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The root of a tree that is only read through: one hash for each full subtree of its right edge, so at most 64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The largest first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let (mut hash, mut below) = (leaf, self.size);
        while below & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = node_hash(&left, &hash);
            below >>= 1;
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Gives how many leaves there were.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the root over them.
    #[must_use]
    pub fn root(&self) -> Hash {
        let right_to_left = self.peaks.iter().rev().copied();
        right_to_left.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}
