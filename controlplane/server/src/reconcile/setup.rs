//! The one-time setup code: made by the first leader, kept in its data folder until the first administrator exists.
//!
//! Only the code's hash enters the log. The file is written before the hash is proposed, so that no crash can leave a
//! cluster whose code nobody has.

use std::path::PathBuf;

use hanse_state::Digest;
use ring::rand::SecureRandom as _;

use crate::ca::{CaError, write_file};

/// Letters of a code: no vowels, no look-alikes.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Groups of four letters: 20^16 possibilities.
const GROUPS: usize = 4;

/// The file of the code.
#[derive(Clone, Debug)]
pub struct SetupCode {
    path: PathBuf,
}

impl SetupCode {
    /// The code kept at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the kept code.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(&self) -> std::io::Result<Option<String>> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text.trim().to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the kept code, or makes and keeps one.
    ///
    /// # Errors
    /// [`CaError::File`] if it cannot be kept; then there is none.
    pub(crate) fn read_or_make(&self) -> Result<String, CaError> {
        let fail = |source| CaError::File { path: self.path.clone(), source };
        if let Some(code) = self.read().map_err(fail)? {
            return Ok(code);
        }
        let code = make().map_err(fail)?;
        write_file(&self.path, code.as_bytes(), 0o600)?;
        Ok(code)
    }

    /// Removes the file once the code is spent.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub(crate) fn spend(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The hash of a code that the log holds.
pub fn code_hash(code: &str) -> Digest {
    Digest::of(code.trim().as_bytes())
}

fn make() -> std::io::Result<String> {
    let random = ring::rand::SystemRandom::new();
    let mut letters = Vec::new();
    while letters.len() < GROUPS * 4 {
        let mut byte = [0u8; 1];
        random.fill(&mut byte).map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
        // 240 is the greatest multiple of 20 in a byte; what lies above would favour the first letters.
        if byte[0] < 240 {
            letters.push(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]);
        }
    }
    let groups: Vec<String> = letters.chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    Ok(groups.join("-"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_code_is_made_once_and_gone_once_spent() {
        let dir = tempfile::tempdir().unwrap();
        let setup = SetupCode::at(dir.path().join("setup-code"));
        assert_eq!(setup.read().unwrap(), None);
        let code = setup.read_or_make().unwrap();
        assert_eq!(code.len(), 19);
        assert_eq!(setup.read_or_make().unwrap(), code);
        setup.spend().unwrap();
        setup.spend().unwrap();
        assert_ne!(setup.read_or_make().unwrap(), code);
    }
}
