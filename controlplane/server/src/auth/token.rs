//! Session tokens: 256 random bits, known in clear only to the one who logged in.
//!
//! A token is `hanse_` and 43 base64url characters; the prefix lets scanners of leaked secrets find it. Only its
//! SHA-256 goes into the log, so neither the log, a snapshot nor a backup can be turned into a session.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// What every token starts with.
pub const TOKEN_PREFIX: &str = "hanse_";

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// Length of a token as text: the prefix and 32 bytes in base64url without padding.
const TOKEN_CHARS: usize = TOKEN_PREFIX.len() + 43;

/// A fresh token, in clear; wiped when dropped.
pub type Token = Zeroizing<String>;

/// Returns a fresh token, or `None` if the system has no randomness to give.
pub fn mint() -> Option<Token> {
    let mut bytes = Zeroizing::new([0u8; TOKEN_BYTES]);
    SystemRandom::new().fill(bytes.as_mut_slice()).ok()?;
    let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
    Some(Zeroizing::new(format!("{TOKEN_PREFIX}{}", encoded.as_str())))
}

/// Returns the token of an `authorization` header, or `None` if it is not of our form. The form is no secret, so it
/// is looked at before anything is hashed or looked up.
pub fn from_header(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let body = token.strip_prefix(TOKEN_PREFIX)?;
    let ours = body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (scheme.eq_ignore_ascii_case("bearer") && token.len() == TOKEN_CHARS && ours).then_some(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tokens_differ_have_256_bits_and_come_back_out_of_a_header() {
        let (a, b) = (mint().unwrap(), mint().unwrap());
        assert_ne!(a.as_str(), b.as_str());
        assert_eq!(a.len(), TOKEN_CHARS);
        assert_eq!(from_header(&format!("Bearer {}", a.as_str())), Some(a.as_str()));
        assert_eq!(from_header(&format!("bearer {}", a.as_str())), Some(a.as_str()));
    }

    #[test]
    fn other_forms_are_no_tokens() {
        let token = mint().unwrap();
        for header in [
            String::new(),
            token.to_string(),
            format!("Basic {}", token.as_str()),
            format!("Bearer  {}", token.as_str()),
            format!("Bearer {}x", token.as_str()),
            format!("Bearer {}", &token[..TOKEN_CHARS - 1]),
            "Bearer hanse_".to_string() + &"%".repeat(43),
        ] {
            assert_eq!(from_header(&header), None, "{header}");
        }
    }
}
