//! The audit anchor of a chain as it is ordered: the key whose checkpoints of the platform's audit trail the chain records.
//!
//! It is part of what members vote on, so that they can compare it with the key they were given, and goes into the genesis word
//! for word. What the chain has recorded is the chain's to say; the platform keeps no copy of it in the state.

use super::ChainSpec;
use super::template::Template;
use crate::digest::Digest;
use crate::{Rejection, check};

/// Longest name of a trail, as the ledger has it.
const NAME_BYTES_MAX: usize = 255;
/// Where the anchor lives on the embedded ledger: an account that the genesis makes, so that nobody else may be given it.
const ACCOUNT: &str = "0x48616e7365000000000000000000000000000002";
const FIELD: &str = "action.chain.anchor";
/// The signature type of Ed25519 before a key's 32 bytes.
const TYPED_KEY_BYTES: usize = 33;
const ED25519: u8 = 1;

/// Checks what a ledger would refuse in its genesis.
pub(super) fn check(template: &Template, spec: &ChainSpec) -> Result<(), Rejection> {
    let Some(key) = &spec.anchor else { return Ok(()) };
    if !template.has_anchor() {
        let rule = "none: the ledger of this template records no audit trail";
        return Err(check::invalid(FIELD, template.name, rule));
    }
    if !is_key(key) {
        let shown: String = key.chars().take(400).collect();
        return Err(check::invalid(FIELD, shown, "the text of the platform's audit.vkey: NAME+ID+KEY"));
    }
    if spec.alloc.contains_key(ACCOUNT) {
        return Err(check::invalid("action.chain.alloc", ACCOUNT, "other accounts: the audit anchor lives there"));
    }
    Ok(())
}

/// Whether a text is the public key of a signed note (c2sp.org/signed-note): a name, a key id that fits name and key, and an
/// Ed25519 key in base64.
fn is_key(text: &str) -> bool {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_whitespace);
    let Some(typed) = base64(key).filter(|typed| typed.len() == TYPED_KEY_BYTES && typed[0] == ED25519) else {
        return false;
    };
    let hash = Digest::of(&[name.as_bytes(), b"\n", &typed].concat());
    is_name && hash.to_string().get(..8) == Some(id)
}

/// What standard base64 without padding stands for, which is how multiples of three bytes are written; `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (quads, rest) = text.as_bytes().as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let six = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    for [a, b, c, d] in quads {
        let (a, b, c, d) = (six(*a)?, six(*b)?, six(*c)?, six(*d)?);
        bytes.extend([a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_a_key_is_one() {
        let good = "demo.hanse.internal/audit+25a1a361+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
        assert!(is_key(good));
        for bad in [
            "",
            "demo",
            "demo+25a1a361+AYqI",
            &good.replace("25a1", "25a2"),
            &good.replace("demo", "dem0"),
            &good.replace("+AYqI", "+AYqJ"),
            &good.replace("+AYqI", "+AoqI"),
            &format!("{good}\n"),
            &format!("{good}===="),
            &format!(" {good}"),
            &good.replace("demo", &"d".repeat(300)),
        ] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }
}
