//! Tests of the domain.

#![allow(clippy::disallowed_methods, reason = "tests read and write golden files; the domain does not")]

mod access;
mod anchor;
mod cloud;
mod laws;
mod parse;
mod parse_life;
mod script;
mod session;
mod spread;
mod version;
mod wire;
mod world;

/// Compares with `tests/golden/<name>`; `UPDATE_GOLDEN=1` writes it anew.
#[allow(clippy::unwrap_used)]
fn golden(name: &str, output: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, output).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, output, "run with UPDATE_GOLDEN=1 and review the diff of {name}");
}
