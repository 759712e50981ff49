//! The Merkle-Patricia trie of Ethereum, kept in the store node by node.
//!
//! Each node stands at its path (the nibbles of the hashed key before it), in its RLP encoding. A
//! change loads only the nodes on the way to what changes, so that a block costs changes times
//! depth, however large the state is. A path never moves: when a branch loses its second last
//! child, what is below the last one stays where it stands. Nodes of less than 32 bytes live inside
//! their parent, as Ethereum wants it.
//!
//! It never writes: [`Trie::finish`] says what has to be written. Keys are 32 bytes (hashes), so no
//! branch ever holds a value.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::{Decodable, EMPTY_STRING_CODE};
use alloy_trie::nodes::{BranchNode, ExtensionNode, LeafNode, RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};

use crate::NodeError;

/// Gives the stored node at a path, or `None`.
pub(crate) type Load<'a> = dyn Fn(&Nibbles) -> Result<Option<Vec<u8>>, NodeError> + 'a;

/// What has to be written: the node at a path, `None` for none any more.
pub(crate) type Changes = Vec<(Nibbles, Option<Vec<u8>>)>;

/// A stored trie and changes to it. Worthless after an error.
pub(crate) struct Trie<'a> {
    load: &'a Load<'a>,
    root: Node,
    /// What is stored at each path that was looked at.
    seen: BTreeMap<Nibbles, Vec<u8>>,
}

#[derive(Debug, Default)]
enum Node {
    #[default]
    Empty,
    /// Stands in the store, not looked at.
    Away(RlpNode),
    Leaf(Nibbles, Vec<u8>),
    /// Its child is a branch.
    Extension(Nibbles, Box<Node>),
    /// At least two children.
    Branch(Box<[Node; 16]>),
}

impl<'a> Trie<'a> {
    /// The trie that `load` finds at the empty path.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(load: &'a Load<'a>) -> Result<Self, NodeError> {
        let mut trie = Self { load, root: Node::Empty, seen: BTreeMap::new() };
        if let Some(rlp) = load(&Nibbles::new())? {
            trie.root = decode(&rlp)?;
            trie.seen.insert(Nibbles::new(), rlp);
        }
        Ok(trie)
    }

    /// Sets or removes the value of a key.
    ///
    /// # Errors
    /// The store cannot be read or misses a node.
    pub(crate) fn set(&mut self, key: B256, value: Option<Vec<u8>>) -> Result<(), NodeError> {
        let (root, key) = (std::mem::take(&mut self.root), Nibbles::unpack(key));
        self.root = match value {
            Some(value) => self.insert(root, Nibbles::new(), key, value)?,
            None => self.remove(root, Nibbles::new(), key)?,
        };
        Ok(())
    }

    /// The root and what has to be written for it.
    pub(crate) fn finish(mut self) -> (B256, Changes) {
        let root = std::mem::take(&mut self.root);
        let mut fresh = BTreeMap::new();
        let hash = match &root {
            Node::Empty => EMPTY_ROOT_HASH,
            root => {
                let reference = seal(root, Nibbles::new(), &mut fresh);
                // The root is hashed and stored even where it is short.
                reference.as_hash().unwrap_or_else(|| {
                    fresh.insert(Nibbles::new(), reference.to_vec());
                    keccak256(&reference)
                })
            }
        };
        let mut changes = Vec::new();
        for path in self.seen.keys().filter(|path| !fresh.contains_key(path)) {
            changes.push((*path, None));
        }
        for (path, rlp) in fresh {
            if self.seen.get(&path) != Some(&rlp) {
                changes.push((path, Some(rlp)));
            }
        }
        (hash, changes)
    }

    fn resolve(&mut self, node: Node, at: Nibbles) -> Result<Node, NodeError> {
        let Node::Away(_) = node else { return Ok(node) };
        let rlp = (self.load)(&at)?.ok_or_else(|| damaged(format!("the node at {at:?} is missing")))?;
        let node = decode(&rlp)?;
        self.seen.insert(at, rlp);
        Ok(node)
    }

    fn insert(&mut self, node: Node, at: Nibbles, rest: Nibbles, value: Vec<u8>) -> Result<Node, NodeError> {
        Ok(match self.resolve(node, at)? {
            Node::Empty | Node::Away(_) => Node::Leaf(rest, value),
            Node::Leaf(key, _) if key == rest => Node::Leaf(key, value),
            Node::Leaf(key, old) => {
                let common = key.common_prefix_length(&rest);
                fork(common, &rest, value, nibble(&key, common), Node::Leaf(key.slice(common + 1..), old))
            }
            Node::Extension(key, child) => {
                let common = key.common_prefix_length(&rest);
                if common == key.len() {
                    let child = self.insert(*child, at.join(&key), rest.slice(common..), value)?;
                    Node::Extension(key, Box::new(child))
                } else {
                    let below = join(&key.slice(common + 1..), *child);
                    fork(common, &rest, value, nibble(&key, common), below)
                }
            }
            Node::Branch(mut children) => {
                let index = nibble(&rest, 0);
                let child = std::mem::take(&mut children[index]);
                children[index] = self.insert(child, below(&at, index), rest.slice(1..), value)?;
                Node::Branch(children)
            }
        })
    }

    fn remove(&mut self, node: Node, at: Nibbles, rest: Nibbles) -> Result<Node, NodeError> {
        Ok(match self.resolve(node, at)? {
            Node::Leaf(key, _) if key == rest => Node::Empty,
            node @ (Node::Empty | Node::Away(_) | Node::Leaf(..)) => node,
            Node::Extension(key, child) if rest.starts_with(&key) => {
                let child = self.remove(*child, at.join(&key), rest.slice(key.len()..))?;
                join(&key, child)
            }
            node @ Node::Extension(..) => node,
            Node::Branch(mut children) => {
                let index = nibble(&rest, 0);
                let child = std::mem::take(&mut children[index]);
                children[index] = self.remove(child, below(&at, index), rest.slice(1..))?;
                let mut left = (0..16).filter(|i| !matches!(children[*i], Node::Empty));
                match (left.next(), left.next()) {
                    (Some(only), None) => {
                        let child = std::mem::take(&mut children[only]);
                        // Whether it is a branch decides what becomes of it.
                        let child = self.resolve(child, below(&at, only))?;
                        join(&Nibbles::from_nibbles([only as u8]), child)
                    }
                    _ => Node::Branch(children),
                }
            }
        })
    }
}

/// The nodes on the way to `key`, root first, as `eth_getProof` gives them.
///
/// # Errors
/// The store cannot be read or misses a node.
pub(crate) fn prove(load: &Load<'_>, key: B256) -> Result<Vec<Bytes>, NodeError> {
    let key = Nibbles::unpack(key);
    let mut proof = Vec::new();
    let (mut at, mut node) = (Nibbles::new(), Node::Away(RlpNode::default()));
    loop {
        if let Node::Away(_) = node {
            let Some(rlp) = load(&at)? else {
                if at.is_empty() {
                    return Ok(proof);
                }
                return Err(damaged(format!("the node at {at:?} is missing")));
            };
            node = decode(&rlp)?;
            proof.push(rlp.into());
        }
        node = match node {
            Node::Extension(prefix, child) if key.slice(at.len()..).starts_with(&prefix) => {
                at = at.join(&prefix);
                *child
            }
            Node::Branch(mut children) => {
                let index = nibble(&key, at.len());
                at = below(&at, index);
                std::mem::take(&mut children[index])
            }
            Node::Empty | Node::Away(_) | Node::Leaf(..) | Node::Extension(..) => return Ok(proof),
        };
    }
}

fn nibble(path: &Nibbles, at: usize) -> usize {
    usize::from(path.get(at).expect("keys are all equally long, so a path ends only at a leaf"))
}

fn below(at: &Nibbles, index: usize) -> Nibbles {
    let mut path = *at;
    path.push(index as u8);
    path
}

/// A branch after `common` nibbles of `rest`, with `value` on one side and `other` on the other.
fn fork(common: usize, rest: &Nibbles, value: Vec<u8>, index: usize, other: Node) -> Node {
    let mut children = Box::new(<[Node; 16]>::default());
    children[index] = other;
    children[nibble(rest, common)] = Node::Leaf(rest.slice(common + 1..), value);
    join(&rest.slice(..common), Node::Branch(children))
}

/// `node` with `prefix` before it; an unloaded node is a branch here.
fn join(prefix: &Nibbles, node: Node) -> Node {
    match node {
        Node::Empty => Node::Empty,
        node if prefix.is_empty() => node,
        Node::Leaf(key, value) => Node::Leaf(prefix.join(&key), value),
        Node::Extension(key, child) => Node::Extension(prefix.join(&key), child),
        node @ (Node::Branch(_) | Node::Away(_)) => Node::Extension(*prefix, Box::new(node)),
    }
}

/// Encodes a node and all loaded ones below; those that stand by themselves go to `fresh`.
fn seal(node: &Node, at: Nibbles, fresh: &mut BTreeMap<Nibbles, Vec<u8>>) -> RlpNode {
    let encoded = match node {
        Node::Empty => return RlpNode::from_rlp(&[EMPTY_STRING_CODE]),
        Node::Away(reference) => return reference.clone(),
        Node::Leaf(key, value) => TrieNode::Leaf(LeafNode::new(*key, value.clone())),
        Node::Extension(key, child) => TrieNode::Extension(ExtensionNode::new(*key, seal(child, at.join(key), fresh))),
        Node::Branch(children) => {
            let (mut stack, mut mask) = (Vec::with_capacity(16), TrieMask::default());
            for (index, child) in children.iter().enumerate() {
                if !matches!(child, Node::Empty) {
                    stack.push(seal(child, below(&at, index), fresh));
                    mask.set_bit(index as u8);
                }
            }
            TrieNode::Branch(BranchNode::new(stack, mask))
        }
    };
    let mut rlp = Vec::new();
    let reference = encoded.rlp(&mut rlp);
    if reference.is_hash() {
        fresh.insert(at, rlp);
    }
    reference
}

fn decode(rlp: &[u8]) -> Result<Node, NodeError> {
    let mut rest = rlp;
    let node = TrieNode::decode(&mut rest).map_err(|e| damaged(e.to_string()))?;
    Ok(match node {
        TrieNode::EmptyRoot => Node::Empty,
        TrieNode::Leaf(leaf) => Node::Leaf(leaf.key, leaf.value),
        TrieNode::Extension(extension) => Node::Extension(extension.key, Box::new(child(extension.child)?)),
        TrieNode::Branch(branch) => {
            let mut children = Box::new(<[Node; 16]>::default());
            let mut stack = branch.stack.into_iter();
            for index in 0..16u8 {
                if branch.state_mask.is_bit_set(index) {
                    let reference = stack.next().ok_or_else(|| damaged("a branch lacks a child".to_owned()))?;
                    children[usize::from(index)] = child(reference)?;
                }
            }
            Node::Branch(children)
        }
    })
}

fn child(reference: RlpNode) -> Result<Node, NodeError> {
    if reference.is_hash() { Ok(Node::Away(reference)) } else { decode(&reference) }
}

fn damaged(reason: String) -> NodeError {
    NodeError::Corrupt { what: "the state's trie", reason }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloy_trie::HashBuilder;
    use alloy_trie::proof::verify_proof;
    use proptest::prelude::*;
    use std::cell::RefCell;

    type Stored = RefCell<BTreeMap<Nibbles, Vec<u8>>>;

    fn from_scratch(values: &BTreeMap<B256, Vec<u8>>) -> B256 {
        let mut builder = HashBuilder::default();
        for (key, value) in values {
            builder.add_leaf(Nibbles::unpack(key), value);
        }
        builder.root()
    }

    /// One block's changes, written to `stored`; returns the root.
    fn block(stored: &Stored, changes: &[(B256, Option<Vec<u8>>)]) -> B256 {
        let load = |path: &Nibbles| Ok(stored.borrow().get(path).cloned());
        let mut trie = Trie::open(&load).unwrap();
        for (key, value) in changes {
            trie.set(*key, value.clone()).unwrap();
        }
        let (root, changes) = trie.finish();
        for (path, node) in changes {
            match node {
                Some(node) => stored.borrow_mut().insert(path, node),
                None => Some(stored.borrow_mut().remove(&path).unwrap()),
            };
        }
        root
    }

    /// Keys that share long prefixes and long suffixes, so that all kinds of nodes come and go.
    fn key() -> impl Strategy<Value = B256> {
        (0u8..4, 0u8..3, 0u8..3, any::<u8>(), any::<bool>()).prop_map(|(head, middle, tail, free, wide)| {
            let mut key = [0u8; 32];
            key[0] = head << 4;
            key[15] = middle;
            key[31] = tail;
            key[if wide { 1 } else { 30 }] = free % 7;
            B256::from(key)
        })
    }

    /// Short ones live inside their parents, long ones do not.
    fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop_oneof![
            2 => Just(None),
            2 => (1u8..100).prop_map(|byte| Some(vec![byte])),
            2 => (1u8..100, 30usize..60).prop_map(|(byte, n)| Some(vec![byte; n])),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_root_is_the_one_from_scratch_and_only_live_nodes_are_kept(
            blocks in prop::collection::vec(prop::collection::vec((key(), value()), 0..30), 1..12),
        ) {
            let (stored, mut values) = (Stored::default(), BTreeMap::new());
            for changes in blocks {
                let root = block(&stored, &changes);
                for (key, value) in changes {
                    match value {
                        Some(value) => values.insert(key, value),
                        None => values.remove(&key),
                    };
                }
                prop_assert_eq!(root, from_scratch(&values));
                // A trie made at once has the very same nodes: nothing was left behind.
                let fresh = Stored::default();
                let all: Vec<_> = values.iter().map(|(k, v)| (*k, Some(v.clone()))).collect();
                prop_assert_eq!(block(&fresh, &all), root);
                prop_assert_eq!(&fresh, &stored);
                let load = |path: &Nibbles| Ok(stored.borrow().get(path).cloned());
                for key in values.keys().copied().chain([B256::ZERO, B256::repeat_byte(0x77)]) {
                    let proof = prove(&load, key).unwrap();
                    verify_proof(root, Nibbles::unpack(key), values.get(&key).cloned(), &proof).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_change_touches_only_its_own_path() {
        let stored = Stored::default();
        let keys: Vec<_> = (0u32..10_000).map(|n| keccak256(n.to_be_bytes())).collect();
        let all: Vec<_> = keys.iter().map(|key| (*key, Some(vec![7; 70]))).collect();
        block(&stored, &all);
        let reads = RefCell::new(0);
        let load = |path: &Nibbles| {
            *reads.borrow_mut() += 1;
            Ok(stored.borrow().get(path).cloned())
        };
        let mut trie = Trie::open(&load).unwrap();
        trie.set(keys[17], Some(vec![8; 70])).unwrap();
        let (_, changes) = trie.finish();
        assert!(*reads.borrow() <= 7, "{reads:?} nodes read of 10,000 leaves");
        assert_eq!(changes.len(), *reads.borrow());
    }
}
