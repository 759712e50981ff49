//! Passwords: argon2id, a bounded number of hashes at once, and the same work whether the account exists or not.
//!
//! Parameters are the minimum OWASP recommends (m = 19 MiB, t = 2, p = 1). A hash is a PHC string, so that later
//! parameters can live beside today's. Work runs on the blocking pool behind a semaphore: a flood of logins waits its
//! turn and then is refused; it cannot take the memory or the processors from the reconcilers.
//!
//! What this never does: keep, log or return a password in clear.

use std::sync::Arc;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::error::ApiError;

/// Shortest password accepted, in characters (RELIABILITY.md S-10; NIST SP 800-63B asks for length, not for classes).
pub const PASSWORD_CHARS_MIN: usize = 12;

/// Longest password accepted, in bytes: longer ones only make the hash slow.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// Hashes computed at once: each takes 19 MiB and a processor for some 50 ms.
const HASHES_AT_ONCE: usize = 2;

/// Callers that may wait for their turn; more are refused at once.
const HASHES_WAITING: usize = 64;

/// Memory in KiB, passes and lanes of argon2id.
const COST: (u32, u32, u32) = (19_456, 2, 1);

/// Blocks (of 1 KiB) that the memory of a hash has room for, used or not. The C library gives what is larger than 32 MiB
/// back to the system at once (`mallopt(3)`, DEFAULT_MMAP_THRESHOLD_MAX) and keeps what is smaller, 19 MiB for each thread that
/// ever checked a password. Room that is not used is never touched, so it costs nothing.
const BLOCKS_MIN: usize = 33 * 1_024;

/// Bytes of a hash's output.
const OUTPUT_BYTES: usize = 32;

/// The keeper of the turns; one per replica.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// Hash of a random password with today's parameters, verified when the account is unknown.
    dummy: Arc<str>,
}

impl Passwords {
    /// Returns a keeper with all its turns free.
    ///
    /// # Errors
    /// [`ApiError`] of kind internal if the system has no randomness to give.
    pub fn new() -> Result<Self, ApiError> {
        let mut unknown = Zeroizing::new([0u8; 32]);
        SystemRandom::new().fill(unknown.as_mut_slice()).map_err(|_| no_randomness())?;
        let mut salt = [0u8; 16];
        SystemRandom::new().fill(&mut salt).map_err(|_| no_randomness())?;
        let dummy = hash_now(unknown.as_slice(), &salt)?;
        Ok(Self {
            turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            places: Arc::new(Semaphore::new(HASHES_AT_ONCE + HASHES_WAITING)),
            dummy: dummy.into(),
        })
    }

    /// Returns the PHC string of `password` with `salt`, which the caller puts into a command.
    ///
    /// # Errors
    /// Invalid (`field`) if it is too short or too long, exhausted if too many hashes wait.
    pub async fn hash(
        &self,
        field: &'static str,
        password: Zeroizing<String>,
        salt: [u8; 16],
    ) -> Result<String, ApiError> {
        check(field, &password)?;
        self.run(move || hash_now(password.as_bytes(), &salt)).await?
    }

    /// Returns whether `password` is the one of `stored`. `None` costs as much as a hash does and is `false`.
    ///
    /// # Errors
    /// Exhausted if too many hashes wait.
    pub async fn verify(&self, password: Zeroizing<String>, stored: Option<String>) -> Result<bool, ApiError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy.to_string());
        let matches = self.run(move || verify_now(password.as_bytes(), &stored)).await?;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let _place = self.places.try_acquire().map_err(|_| {
            ApiError::exhausted("TOO_MANY_LOGINS", "too many passwords are being checked at this moment", 2)
        })?;
        let _turn = self.turns.acquire().await.map_err(|_| ApiError::internal("password turns", "closed"))?;
        tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal("password task", error))
    }
}

/// Checks the policy for a new password.
///
/// # Errors
/// Invalid, naming `field`.
pub fn check(field: &'static str, password: &str) -> Result<(), ApiError> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        let reason = format!("has fewer than {PASSWORD_CHARS_MIN} characters");
        return Err(ApiError::invalid(field, &reason, "choose a longer one, e.g. four words"));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        let reason = format!("has more than {PASSWORD_BYTES_MAX} bytes");
        return Err(ApiError::invalid(field, &reason, "choose a shorter one"));
    }
    Ok(())
}

fn argon() -> Result<Argon2<'static>, ApiError> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).map_err(|error| ApiError::internal("argon2", error))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &[u8], salt: &[u8; 16]) -> Result<String, ApiError> {
    let failed = |error: &dyn std::fmt::Display| ApiError::internal("argon2", error);
    let argon = argon()?;
    let output = derive(&argon, password, salt, OUTPUT_BYTES).map_err(|error| failed(&error))?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(argon.params()).map_err(|error| failed(&error))?,
        salt: Some(Salt::new(salt).map_err(|error| failed(&error))?),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

fn verify_now(password: &[u8], stored: &str) -> bool {
    // The parameters are those of the stored hash, so older hashes stay good.
    let computed = || -> Option<bool> {
        let parsed = PasswordHash::new(stored).ok()?;
        let (salt, expected) = (parsed.salt?, parsed.hash?);
        let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).ok()?;
        let version = Version::try_from(parsed.version?).ok()?;
        let argon = Argon2::new(algorithm, version, Params::try_from(&parsed).ok()?);
        // Outputs are compared in constant time (password-hash).
        Some(derive(&argon, password, &salt, expected.len()).ok()? == expected)
    };
    computed().unwrap_or(false)
}

/// Gives the raw hash, in memory that goes back to the system afterwards.
fn derive(argon: &Argon2<'_>, password: &[u8], salt: &[u8], length: usize) -> Result<Output, argon2::Error> {
    let blocks = argon.params().block_count();
    let mut memory = Vec::with_capacity(blocks.max(BLOCKS_MIN));
    memory.resize(blocks, Block::default());
    let mut out = Zeroizing::new([0u8; Output::MAX_LENGTH]);
    let out = out.get_mut(..length).ok_or(argon2::Error::OutputTooLong)?;
    argon.hash_password_into_with_memory(password, salt, out, memory.as_mut_slice())?;
    Output::new(out).map_err(|_| argon2::Error::OutputTooShort)
}

fn no_randomness() -> ApiError {
    ApiError::internal("randomness", "the system gave none")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_string())
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let keeper = Passwords::new().unwrap();
        let hash = keeper.hash("password", secret("correct horse battery"), [7; 16]).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(keeper.verify(secret("correct horse battery"), Some(hash.clone())).await.unwrap());
        assert!(!keeper.verify(secret("correct horse batterz"), Some(hash)).await.unwrap());
        assert!(!keeper.verify(secret("correct horse battery"), None).await.unwrap());
        assert!(!keeper.verify(secret("x"), Some("not a hash".into())).await.unwrap());
    }

    /// Made by the `argon2` program of the reference implementation's package:
    /// `echo -n "correct horse battery" | argon2 saltsaltsaltsalt -id -t 2 -k 19456 -p 1 -l 32 -e`.
    #[tokio::test]
    async fn a_hash_is_what_the_reference_implementation_makes() {
        let keeper = Passwords::new().unwrap();
        let hash = keeper.hash("password", secret("correct horse battery"), *b"saltsaltsaltsalt").await.unwrap();
        assert_eq!(
            hash,
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$iPOQ5f2O21FsjnBvo1AiFcDuSXciCnKUrXFO+yfgNoM"
        );
    }

    #[tokio::test]
    async fn short_and_long_passwords_are_refused_by_field() {
        let keeper = Passwords::new().unwrap();
        for text in ["elevenchars", &"x".repeat(PASSWORD_BYTES_MAX + 1)] {
            let error = keeper.hash("owner_password", secret(text), [7; 16]).await.unwrap_err();
            assert_eq!(error.field(), Some("owner_password"));
        }
        assert!(check("password", "twelve chars").is_ok());
    }
}
