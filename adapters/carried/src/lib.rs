//! The program for hosts, carried inside the product.
//!
//! `build.rs` builds `adapters/host` small and in one piece; here it is a constant. So one file is still all that an operator
//! installs, and what goes over the line to a host is a small part of it. Its name on hosts is the hash of its content.
//!
//! It never unpacks itself to a disk of the control plane, and never depends on the product's own profile or features.

use std::sync::LazyLock;

use ring::digest::{SHA256, digest};

/// The program: an executable for the machine that the product was built for.
pub static PROGRAM: &[u8] = include_bytes!(env!("HANSE_HOST_PROGRAM"));

static HASH: LazyLock<String> = LazyLock::new(|| hex::encode(digest(&SHA256, PROGRAM)));

/// Returns the SHA-256 of [`PROGRAM`], 64 lower-case hex digits.
pub fn sha256() -> &'static str {
    &HASH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit that operators with thin lines were promised (adapters/README.md).
    const BYTES_MAX: usize = 1_000_000;

    #[test]
    fn it_is_a_program_and_small() {
        assert!(PROGRAM.starts_with(b"\x7fELF"), "an executable of Linux");
        assert!(PROGRAM.len() <= BYTES_MAX, "{} bytes, at most {BYTES_MAX}", PROGRAM.len());
        println!("{} bytes, {}", PROGRAM.len(), sha256());
    }
}
