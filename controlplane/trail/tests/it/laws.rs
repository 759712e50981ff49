//! Laws: what is proven verifies, and nothing else does.

use hanse_trail::merkle::{
    Frontier, Hash, Nodes, consistency, inclusion, leaf_hash, root, verify_consistency, verify_inclusion,
};
use hanse_trail::{BLOCK_LEAVES, Tree};
use proptest::prelude::*;

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|number| leaf_hash(&number.to_be_bytes())).collect()
}

/// Every way to change one bit of a proof.
fn flipped(proof: &[Hash]) -> impl Iterator<Item = Vec<Hash>> + '_ {
    (0..proof.len() * 256).map(|bit| {
        let mut changed = proof.to_vec();
        changed[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
        changed
    })
}

fn other_lengths(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut others = vec![[proof, &[leaf_hash(b"more")]].concat(), [&[leaf_hash(b"more")], proof].concat()];
    if let [rest @ .., last] = proof {
        others.extend([rest.to_vec(), proof[1..].to_vec(), [proof, &[*last]].concat()]);
    }
    others
}

/// Every index of every tree up to 70 leaves, so every shape of the recursion.
#[test]
fn every_proof_of_small_trees_verifies_and_fits_nothing_else() {
    let leaves = leaves(70);
    let roots: Vec<Hash> = (0..=70).map(|size| root(leaves.as_slice(), size).unwrap()).collect();
    for size in 0..=70_u64 {
        let top = &roots[size as usize];
        for index in 0..size {
            let (leaf, proof) = (&leaves[index as usize], inclusion(leaves.as_slice(), index, size).unwrap());
            assert!(verify_inclusion(leaf, index, size, &proof, top), "{index} of {size}");
            for other in (0..70).filter(|other| *other != index) {
                assert!(!verify_inclusion(leaf, other, size, &proof, top), "{index} as {other} of {size}");
                assert!(!verify_inclusion(&leaves[other as usize], index, size, &proof, top), "{other} for {index}");
            }
        }
        assert_eq!(inclusion(leaves.as_slice(), size, size), None);
        for old in 0..=size {
            let proof = consistency(leaves.as_slice(), old, size).unwrap();
            assert!(verify_consistency(old, size, &proof, &roots[old as usize], top), "{old} to {size}");
            for other in (0..=70).filter(|other| *other != old) {
                let (root, proof) = (&roots[other as usize], proof.as_slice());
                assert!(!verify_consistency(old, size, proof, root, top), "root of {other} for {old} to {size}");
            }
        }
        assert_eq!(consistency(leaves.as_slice(), size + 1, size), None);
    }
}

/// The size is bound to the proof as far as the proof's shape goes; that one root is not that of two sizes is the tree's.
fn check_inclusion(leaves: &[Hash], index: u64, size: u64) {
    let (leaf, top) = (&leaves[index as usize], root(leaves, size).unwrap());
    let proof = inclusion(leaves, index, size).unwrap();
    assert!(verify_inclusion(leaf, index, size, &proof, &top));
    for changed in flipped(&proof).chain(other_lengths(&proof)) {
        assert!(!verify_inclusion(leaf, index, size, &changed, &top));
    }
    for bit in 0..256 {
        let (mut leaf, mut top) = (*leaf, top);
        leaf[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify_inclusion(&leaf, index, size, &proof, &top));
        leaf[bit / 8] ^= 1 << (bit % 8);
        top[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify_inclusion(&leaf, index, size, &proof, &top));
    }
    // Another size has another root; with this one's root only sizes whose proofs have the same shape could pass.
    for other in (1..=leaves.len() as u64).filter(|other| *other != size) {
        let top = root(leaves, other).unwrap();
        assert!(!verify_inclusion(leaf, index, other, &proof, &top), "{index} of {size} as of {other}");
    }
}

fn check_consistency(leaves: &[Hash], old: u64, new: u64) {
    let (old_root, new_root) = (root(leaves, old).unwrap(), root(leaves, new).unwrap());
    let proof = consistency(leaves, old, new).unwrap();
    assert!(verify_consistency(old, new, &proof, &old_root, &new_root));
    for changed in flipped(&proof).chain(other_lengths(&proof)) {
        assert!(!verify_consistency(old, new, &changed, &old_root, &new_root));
    }
    for other in (0..=leaves.len() as u64).filter(|other| *other != new) {
        let root = root(leaves, other).unwrap();
        assert!(!verify_consistency(old, other, &proof, &old_root, &root), "{old} to {new} as to {other}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn an_inclusion_proof_is_good_for_one_leaf_of_one_tree(size in 1_u64..300, at in any::<u64>()) {
        check_inclusion(&leaves(300), at % size, size);
    }

    #[test]
    fn a_consistency_proof_is_good_for_two_trees(new in 1_u64..300, at in any::<u64>()) {
        check_consistency(&leaves(300), 1 + at % new, new);
    }

    /// A trail with another record anywhere in the old part has no proof: what its own tree gives is refused.
    #[test]
    fn a_changed_past_has_no_proof(new in 1_u64..300, at in any::<u64>(), changed in any::<u64>()) {
        let (honest, old) = (leaves(300), 1 + at % new);
        let mut forged = honest.clone();
        forged[(changed % old) as usize] = leaf_hash(b"forged");
        let proof = consistency(forged.as_slice(), old, new).unwrap();
        let (old_root, new_root) = (root(honest.as_slice(), old).unwrap(), root(forged.as_slice(), new).unwrap());
        prop_assert!(!verify_consistency(old, new, &proof, &old_root, &new_root));
    }

    /// What a replica keeps, with blocks opened, gives the roots and proofs that all leaves give.
    #[test]
    fn the_kept_tree_proves_what_the_whole_one_proves(size in 1_u64..9_000, at in any::<u64>(), whole_blocks in any::<bool>()) {
        let leaves = leaves(size);
        let kept = keep(&leaves, whole_blocks);
        prop_assert_eq!(kept.size(), size);
        let index = at % size;
        let open = |at: u64| {
            let mut view = kept.view();
            if let Some(block) = kept.block_of(at) {
                let from = (block * BLOCK_LEAVES) as usize;
                let mut content = leaves[from..from + BLOCK_LEAVES as usize].to_vec();
                assert!(!view.open(block, content[1..].to_vec()));
                content.swap(0, 1);
                assert!(!view.open(block, content.clone()), "other leaves");
                content.swap(0, 1);
                assert!(view.open(block, content));
            }
            view
        };
        prop_assert_eq!(root(&kept.view(), size), root(leaves.as_slice(), size));
        prop_assert_eq!(inclusion(&open(index), index, size), inclusion(leaves.as_slice(), index, size));
        prop_assert_eq!(consistency(&open(index), index + 1, size), consistency(leaves.as_slice(), index + 1, size));
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        prop_assert_eq!(Some(frontier.root()), root(leaves.as_slice(), size));
    }
}

/// Leaf by leaf, or as after a start: full blocks by their roots, then leaves.
fn keep(leaves: &[Hash], whole_blocks: bool) -> Tree {
    let mut kept = Tree::default();
    let blocks = if whole_blocks { leaves.len() / BLOCK_LEAVES as usize } else { 0 };
    for block in 0..blocks {
        assert!(kept.push_block(leaves.node(BLOCK_LEAVES.ilog2(), block as u64).unwrap()));
    }
    let mut filled = 0;
    for leaf in &leaves[blocks * BLOCK_LEAVES as usize..] {
        filled += usize::from(kept.push(*leaf).is_some());
    }
    assert_eq!(filled, leaves.len() / BLOCK_LEAVES as usize - blocks);
    kept
}

/// A block comes after whole blocks or not at all.
#[test]
fn a_block_is_not_added_after_single_leaves() {
    let mut kept = Tree::default();
    assert!(kept.push_block(leaf_hash(b"block")));
    assert_eq!(kept.push(leaf_hash(b"leaf")), None);
    assert!(!kept.push_block(leaf_hash(b"block")));
    assert_eq!((kept.size(), kept.blocks()), (BLOCK_LEAVES + 1, 1));
}
