//! Signed notes as C2SP specifies them (c2sp.org/signed-note): a text, an empty line, and signatures of it, each one line.
//!
//! Of the signature types only Ed25519 (0x01) is spoken. A key has a name; name and key id together say which key signed. The
//! private key's text form is the one of Go's `golang.org/x/mod/sumdb/note`, so tools for such logs read ours.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

/// What a private key's text begins with.
const PRIVATE: &str = "PRIVATE+KEY+";
/// The signature type of Ed25519, before a key's bytes.
const ED25519_TYPE: u8 = 1;
/// Before each signature.
const DASH: &str = "\u{2014} ";
/// Between text and signatures.
const END_OF_TEXT: &str = "\n\n";
/// Signatures that are looked at; witnesses add theirs.
const SIGNATURES_MAX: usize = 64;

/// Why a key or a note cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is no key.
    #[error("this is not a key of a signed note: {0}")]
    Key(&'static str),
    /// The text is no signed note.
    #[error("this is not a signed note: {0}")]
    Format(&'static str),
    /// None of the signatures is by the key.
    #[error("it is not signed by {0}")]
    Unsigned(String),
    /// The signature is not the text's.
    #[error("the signature of {0} does not fit: the text was changed or the signature forged")]
    Forged(String),
}

/// The public key of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

/// A private key and its name. It never shows itself.
pub struct SigningKey {
    public: VerifierKey,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.name)
    }
}

/// Gives the private key's text for a file, of 32 random bytes.
#[must_use]
pub fn private_text(name: &str, seed: &[u8; 32]) -> Zeroizing<String> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("32 bytes are a seed");
    let public = VerifierKey { name: name.to_owned(), public: public_of(&pair) };
    let bytes = Zeroizing::new([&[ED25519_TYPE], seed.as_slice()].concat());
    Zeroizing::new(format!("{PRIVATE}{name}+{}+{}", hex::encode(public.id()), BASE64.encode(&*bytes)))
}

fn public_of(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
}

/// A key's text taken apart; the bytes may be private.
struct Parsed<'a> {
    name: &'a str,
    id: [u8; 4],
    bytes: Zeroizing<[u8; 32]>,
}

/// Takes a key's text apart.
fn parse_key(text: &str) -> Result<Parsed<'_>, NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::Key("it has not three parts joined by `+`"));
    };
    if name.is_empty() || name.chars().any(char::is_whitespace) {
        return Err(NoteError::Key("its name is empty or has a space"));
    }
    let mut key_id = [0; 4];
    hex::decode_to_slice(id, &mut key_id).map_err(|_| NoteError::Key("its key id is not 8 hex digits"))?;
    let typed = Zeroizing::new(BASE64.decode(key).map_err(|_| NoteError::Key("its last part is not base64"))?);
    let (Some(&ED25519_TYPE), Some(key)) = (typed.first(), typed.get(1..)) else {
        return Err(NoteError::Key("it is not of type Ed25519"));
    };
    let bytes = <[u8; 32]>::try_from(key).map_err(|_| NoteError::Key("it has not 32 bytes"))?;
    Ok(Parsed { name, id: key_id, bytes: Zeroizing::new(bytes) })
}

impl VerifierKey {
    /// Reads the text form `<name>+<key id>+<base64>`.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let found = parse_key(text.trim())?;
        let key = Self { name: found.name.to_owned(), public: *found.bytes };
        if key.id() == found.id { Ok(key) } else { Err(NoteError::Key("its key id does not fit its name and bytes")) }
    }

    /// The key of these bytes under a name, which is not empty and has neither `+` nor white space in it.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, NoteError> {
        if name.is_empty() || name.chars().any(|letter| letter == '+' || letter.is_whitespace()) {
            return Err(NoteError::Key("its name is empty or has a space or `+`"));
        }
        Ok(Self { name: name.to_owned(), public })
    }

    /// Gives its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives its bytes.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Gives its key id: the first bytes of a hash of name, type and key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let whole = [self.name.as_bytes(), b"\n", &[ED25519_TYPE], &self.public].concat();
        let hash = digest(&SHA256, &whole);
        hash.as_ref().first_chunk().copied().expect("a SHA-256 has 32 bytes")
    }

    /// Gives the text that a note signs, if this key has signed it. Signatures of other keys are passed over.
    ///
    /// # Errors
    /// [`NoteError::Format`], [`NoteError::Unsigned`] or [`NoteError::Forged`].
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = split(note)?;
        let mut signed = false;
        for line in signatures.lines().take(SIGNATURES_MAX) {
            let bad = NoteError::Format("a line after the text is no signature");
            let (name, signature) = line.strip_prefix(DASH).and_then(|it| it.split_once(' ')).ok_or(bad.clone())?;
            let signature = BASE64.decode(signature).map_err(|_| bad.clone())?;
            let (id, signature) = signature.split_first_chunk::<4>().ok_or(bad)?;
            if name != self.name || *id != self.id() {
                continue;
            }
            let verified = UnparsedPublicKey::new(&ED25519, &self.public).verify(text.as_bytes(), signature);
            verified.map_err(|_| NoteError::Forged(self.name.clone()))?;
            signed = true;
        }
        if signed { Ok(text) } else { Err(NoteError::Unsigned(self.to_string())) }
    }
}

/// Gives a note's text, whoever signed it, and its signatures.
///
/// # Errors
/// [`NoteError::Format`].
pub(crate) fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.chars().any(|letter| letter < ' ' && letter != '\n') {
        return Err(NoteError::Format("it has control characters"));
    }
    let at = note.rfind(END_OF_TEXT).ok_or(NoteError::Format("no empty line ends its text"))?;
    let (text, signatures) = (&note[..=at], &note[at + END_OF_TEXT.len()..]);
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return Err(NoteError::Format("its last line is cut off"));
    }
    Ok((text, signatures))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[ED25519_TYPE], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), BASE64.encode(bytes))
    }
}

impl SigningKey {
    /// Reads what [`private_text`] gives.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let rest = text.trim().strip_prefix(PRIVATE).ok_or(NoteError::Key("it is not a private key"))?;
        let found = parse_key(rest)?;
        let pair =
            Ed25519KeyPair::from_seed_unchecked(&*found.bytes).map_err(|_| NoteError::Key("it has not 32 bytes"))?;
        let public = VerifierKey { name: found.name.to_owned(), public: public_of(&pair) };
        if public.id() == found.id {
            Ok(Self { public, pair })
        } else {
            Err(NoteError::Key("its key id does not fit its name and bytes"))
        }
    }

    /// Gives the public key.
    #[must_use]
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// Gives 32 secret bytes that follow from the key and `purpose` alone, so that all who hold the key have the same without
    /// telling each other. `purpose` has no line's end, so it is never a note's text.
    ///
    /// They are the SHA-256 of the purpose's signature: Ed25519 signatures are deterministic (RFC 8032, section 5.1.6), and
    /// nobody can make this one without the key.
    ///
    /// # Panics
    /// If `purpose` has a line's end: the signature might have been published.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        assert!(!purpose.contains('\n'), "a purpose is one line, so that it is no note's text");
        let signature = Zeroizing::new(self.pair.sign(purpose.as_bytes()).as_ref().to_vec());
        let hash = digest(&SHA256, &signature);
        Zeroizing::new(hash.as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// Gives the note that signs `text`, which ends with a line's end.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let bytes = [self.public.id().as_slice(), signature.as_ref()].concat();
        format!("{text}\n{DASH}{} {}\n", self.public.name, BASE64.encode(bytes))
    }
}
