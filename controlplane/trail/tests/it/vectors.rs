//! What others computed: leaves, nodes and roots of transparency-dev/merkle (`rfc6962/rfc6962_test.go`, `testonly/constants.go`,
//! Apache-2.0), which come from the first tests of Certificate Transparency, and its 195 proofs, good and bad (`vectors.json`).

use hanse_trail::merkle::{
    Frontier, Hash, empty_root, inclusion, leaf_hash, node_hash, root, verify_consistency, verify_inclusion,
};
use serde_json::Value;

const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

/// By number of leaves.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn leaves() -> Vec<Hash> {
    LEAVES.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect()
}

#[test]
fn leaves_nodes_and_roots_are_those_of_certificate_transparency() {
    assert_eq!(hex::encode(leaf_hash(b"L123456")), "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56");
    // The vector's children have 4 bytes each, which `node_hash` cannot take; its type is what a tree of SHA-256 needs.
    assert_eq!(hex::encode(node_hash(&leaves()[0], &leaves()[1])), ROOTS[2]);
    assert_eq!(hex::encode(empty_root()), ROOTS[0]);
    let (leaves, mut frontier) = (leaves(), Frontier::default());
    for (size, expected) in ROOTS.iter().enumerate() {
        assert_eq!(&hex::encode(root(leaves.as_slice(), size as u64).unwrap()), expected, "{size} leaves");
        assert_eq!(&hex::encode(frontier.root()), expected, "{size} leaves, one by one");
        if let Some(leaf) = leaves.get(size) {
            frontier.push(*leaf);
        }
    }
}

/// One row; `None` if a hash is not 32 bytes long, which no call can even be made with.
fn read(row: &Value) -> Option<(u64, u64, Hash, Hash, Vec<Hash>)> {
    let hash = |it: &Value| Hash::try_from(hex::decode(it.as_str().unwrap()).unwrap()).ok();
    let proof = row[5].as_array().unwrap().iter().map(hash).collect::<Option<Vec<_>>>()?;
    Some((row[1].as_u64().unwrap(), row[2].as_u64().unwrap(), hash(&row[3])?, hash(&row[4])?, proof))
}

#[test]
fn proofs_are_judged_as_by_transparency_dev() {
    let vectors: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let mut counted = [0, 0];
    for (kind, rows) in ["inclusion", "consistency"].into_iter().zip([98, 97]) {
        let vectors = vectors[kind].as_array().unwrap();
        assert_eq!(vectors.len(), rows);
        for row in vectors {
            let verifies = read(row).is_some_and(|(at, size, first, root, proof)| match kind {
                "inclusion" => verify_inclusion(&first, at, size, &proof, &root),
                _ => verify_consistency(at, size, &proof, &first, &root),
            });
            assert_eq!(verifies, row[6].as_bool().unwrap(), "{kind} {}", row[0]);
            counted[usize::from(verifies)] += 1;
        }
    }
    assert_eq!(counted, [184, 11], "refused and accepted");
}

/// The examples of RFC 6962, section 2.1.3: the proofs of a tree of seven leaves, named by the nodes of its figure.
#[test]
fn the_examples_of_the_rfc() {
    let leaves = &leaves()[..7];
    let [a, b, c, d, e, f, j] = leaves else { unreachable!() };
    let (g, h, i) = (node_hash(a, b), node_hash(c, d), node_hash(e, f));
    let (k, l) = (node_hash(&g, &h), node_hash(&i, j));
    assert_eq!(root(leaves, 7), Some(node_hash(&k, &l)));
    assert_eq!(inclusion(leaves, 0, 7).unwrap(), [*b, h, l]);
    assert_eq!(inclusion(leaves, 3, 7).unwrap(), [*c, g, l]);
    assert_eq!(inclusion(leaves, 4, 7).unwrap(), [*f, *j, k]);
    assert_eq!(inclusion(leaves, 6, 7).unwrap(), [i, k]);
    use hanse_trail::merkle::consistency;
    assert_eq!(consistency(leaves, 3, 7).unwrap(), [*c, *d, g, l]);
    assert_eq!(consistency(leaves, 4, 7).unwrap(), [l]);
    assert_eq!(consistency(leaves, 6, 7).unwrap(), [i, *j, k]);
}
