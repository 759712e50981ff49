//! Compiles `proto/hanse/v1/*.proto` with protox, so that nobody has to install protoc.

use std::path::PathBuf;

use prost::Message as _;

const PROTO_ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    let folder = PathBuf::from(PROTO_ROOT).join("hanse/v1");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "proto") {
            files.push(path);
        }
    }
    files.sort();

    let descriptors = protox::compile(&files, [PROTO_ROOT])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Reflection needs no comments and places; they would make every binary larger.
    let mut bare = descriptors.clone();
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    std::fs::write(out.join("hanse_v1_descriptor.bin"), bare.encode_to_vec())?;
    // Ordered maps: what is printed or hashed from a message must not depend on chance.
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
