//! What version 1 writes to disk, frozen: a change here means that old data can no longer be read. (The examples of the
//! log were frozen anew when it moved from sled to its own files: no release had ever stored the earlier ones. `history` is what a record of history carries, `history-record` the same in
//! its file.)

use std::path::PathBuf;

use hanse_raft::inside::{examples, read_example};

#[test]
fn version_one_is_frozen_and_readable() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/raft-v1");
    for (name, bytes) in examples() {
        let path = folder.join(format!("{name}.hex"));
        // A new format adds a file; an existing one is never written again.
        if std::env::var_os("HANSE_FREEZE").is_some() && !path.exists() {
            std::fs::write(&path, hex::encode(&bytes) + "\n").unwrap();
        }
        let frozen = std::fs::read_to_string(&path).unwrap_or_default();
        let frozen = frozen.trim();
        assert_eq!(hex::encode(&bytes), frozen, "{name} is encoded otherwise than {}", path.display());
        read_example(name, &hex::decode(frozen).unwrap()).unwrap();
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    for (name, bytes) in examples() {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read_example(name, &damaged).is_err(), "bit {bit} of {name} went unseen");
        }
        for length in 0..bytes.len() {
            assert!(read_example(name, &bytes[..length]).is_err(), "{name} cut to {length} went unseen");
        }
    }
}
