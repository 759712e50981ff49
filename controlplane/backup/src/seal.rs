//! The file around the content: chunks that open only whole, in order and to the end.
//!
//! `HNBK · version · protection · salt (32) · key check (16)`, then chunks of 64 KiB of content, the last one shorter.
//! Encrypted, a chunk is AES-256-GCM with 16 bytes of tag; the file's key is HKDF-SHA256 of the operator's key and the
//! salt, so no two files share a key, and the nonce is the chunk's number and whether it is the last (the STREAM
//! construction: Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015). The header is authenticated with every chunk. Not
//! encrypted, a chunk is followed by the SHA-256 of header, the tag before, number, last-mark and chunk: that finds
//! damage, not malice.
//!
//! It never gives out a byte of a chunk that did not open.

use std::io::{BufRead, Read as _, Write};

use ring::rand::SecureRandom as _;
use ring::{aead, hkdf};
use zeroize::Zeroizing;

use crate::BackupError;

const MAGIC: &[u8; 4] = b"HNBK";
/// Version of the file's outer form.
pub const VERSION: u8 = 1;
/// Content in a chunk.
const CHUNK_BYTES: usize = 64 * 1024;
const SALT_BYTES: usize = 32;
const CHECK_BYTES: usize = 16;
/// Length of everything before the first chunk.
const HEADER_BYTES: usize = 6 + SALT_BYTES + CHECK_BYTES;
/// First word of a key file; the key follows in hex.
const KEY_WORD: &str = "hanse-backup-key-1";

/// An operator's key; never shown.
pub struct Key(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

impl Key {
    /// Gives a new random key.
    ///
    /// # Errors
    /// [`BackupError::Random`].
    pub fn generate() -> Result<Self, BackupError> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// [`BackupError::NotAKey`].
    pub fn parse(text: &str) -> Result<Self, BackupError> {
        let hex = text.trim().strip_prefix(KEY_WORD).ok_or(BackupError::NotAKey)?.trim();
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(hex, key.as_mut()).map_err(|_| BackupError::NotAKey)?;
        Ok(Self(key))
    }

    /// Gives the text of its file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{KEY_WORD} {}\n", hex::encode(self.0.as_ref())))
    }

    fn derive<const N: usize>(&self, salt: &[u8], purpose: &[u8]) -> Zeroizing<[u8; N]> {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let mut out = Zeroizing::new([0; N]);
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.0.as_ref());
        let info = [purpose];
        let expanded = extracted.expand(&info, Length(N)).expect("N is far below 255 hashes");
        expanded.fill(out.as_mut()).expect("the length is the one asked for");
        out
    }
}

/// How a file is protected.
#[derive(Clone, Copy, Debug)]
pub enum Protection<'a> {
    /// Encrypted.
    Key(&'a Key),
    /// Checksums only.
    Plain,
}

fn random<const N: usize>() -> Result<[u8; N], BackupError> {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| BackupError::Random)?;
    Ok(bytes)
}

/// What seals and opens chunks, in order.
struct Sealer {
    header: [u8; HEADER_BYTES],
    number: u64,
    state: State,
}

enum State {
    Encrypted(Box<aead::LessSafeKey>),
    Chained([u8; 32]),
}

impl Sealer {
    fn new(header: [u8; HEADER_BYTES], protection: Protection<'_>) -> Self {
        let state = match protection {
            Protection::Plain => State::Chained([0; 32]),
            Protection::Key(key) => {
                let salt = &header[6..6 + SALT_BYTES];
                let bytes = key.derive::<32>(salt, b"hanse backup 1 chunks");
                let key = aead::UnboundKey::new(&aead::AES_256_GCM, bytes.as_ref()).expect("32 bytes are a key");
                State::Encrypted(Box::new(aead::LessSafeKey::new(key)))
            }
        };
        Self { header, number: 0, state }
    }

    fn tag_bytes(&self) -> usize {
        match &self.state {
            State::Encrypted(_) => aead::AES_256_GCM.tag_len(),
            State::Chained(_) => 32,
        }
    }

    fn nonce(&self, last: bool) -> aead::Nonce {
        let mut nonce = [0; aead::NONCE_LEN];
        nonce[3..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(last);
        aead::Nonce::assume_unique_for_key(nonce)
    }

    fn link(&self, before: &[u8; 32], chunk: &[u8], last: bool) -> [u8; 32] {
        let number = self.number.to_be_bytes();
        *hanse_state::Digest::of_parts(&[&self.header, before, &number, &[u8::from(last)], chunk]).as_bytes()
    }

    fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) {
        match &self.state {
            State::Encrypted(key) => key
                .seal_in_place_append_tag(self.nonce(last), aead::Aad::from(&self.header), chunk)
                .expect("a chunk is far below the cipher's limit"),
            State::Chained(before) => {
                let tag = self.link(before, chunk, last);
                chunk.extend_from_slice(&tag);
                self.state = State::Chained(tag);
            }
        }
        self.number += 1;
    }

    fn open(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), BackupError> {
        let damaged = BackupError::Damaged { chunk: self.number };
        let Some(length) = chunk.len().checked_sub(self.tag_bytes()) else { return Err(damaged) };
        match &self.state {
            State::Encrypted(key) => {
                let opened = key.open_in_place(self.nonce(last), aead::Aad::from(&self.header), chunk);
                opened.map_err(|_| damaged)?;
            }
            State::Chained(before) => {
                let tag = self.link(before, &chunk[..length], last);
                if chunk[length..] != tag {
                    return Err(damaged);
                }
                self.state = State::Chained(tag);
            }
        }
        chunk.truncate(length);
        self.number += 1;
        Ok(())
    }
}

fn header(salt: [u8; SALT_BYTES], protection: Protection<'_>) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[4] = VERSION;
    header[6..6 + SALT_BYTES].copy_from_slice(&salt);
    if let Protection::Key(key) = protection {
        header[5] = 1;
        // Tells a wrong key from a damaged file; says nothing about the key that the chunks' tags do not.
        let check = key.derive::<CHECK_BYTES>(&salt, b"hanse backup 1 key check");
        header[6 + SALT_BYTES..].copy_from_slice(check.as_ref());
    }
    header
}

/// Seals content as it comes.
pub struct Writer<W: Write> {
    out: W,
    sealer: Sealer,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`BackupError::Io`], [`BackupError::Random`].
    pub fn new(out: W, protection: Protection<'_>) -> Result<Self, BackupError> {
        Self::with_salt(out, protection, random()?)
    }

    /// As [`Writer::new`] with a given salt, for the frozen example; a salt is never used for two files.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    #[doc(hidden)]
    pub fn with_salt(mut out: W, protection: Protection<'_>, salt: [u8; SALT_BYTES]) -> Result<Self, BackupError> {
        let header = header(salt, protection);
        out.write_all(&header).map_err(BackupError::io("write the backup"))?;
        Ok(Self { out, sealer: Sealer::new(header, protection), buffer: Vec::with_capacity(CHUNK_BYTES + 64) })
    }

    /// Takes content.
    ///
    /// # Errors
    /// [`BackupError::Io`]; the file is then of no use.
    pub fn push(&mut self, mut content: &[u8]) -> Result<(), BackupError> {
        while !content.is_empty() {
            // A full chunk waits until it is known whether it is the last.
            if self.buffer.len() == CHUNK_BYTES {
                self.flush(false)?;
            }
            let (now, later) = content.split_at(content.len().min(CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            content = later;
        }
        Ok(())
    }

    /// Writes the last chunk and gives the file back; nothing of it is synced.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn finish(mut self) -> Result<W, BackupError> {
        self.flush(true)?;
        self.out.flush().map_err(BackupError::io("write the backup"))?;
        Ok(self.out)
    }

    fn flush(&mut self, last: bool) -> Result<(), BackupError> {
        self.sealer.seal(&mut self.buffer, last);
        self.out.write_all(&self.buffer).map_err(BackupError::io("write the backup"))?;
        self.buffer.clear();
        Ok(())
    }
}

/// Opens a sealed file chunk by chunk.
pub struct Reader<R: BufRead> {
    input: R,
    sealer: Sealer,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`BackupError::NotABackup`], [`BackupError::Version`], [`BackupError::WrongKey`], [`BackupError::Protection`],
    /// [`BackupError::Io`].
    pub fn new(mut input: R, protection: Protection<'_>) -> Result<Self, BackupError> {
        let mut found = [0; HEADER_BYTES];
        match input.read_exact(&mut found) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Err(BackupError::NotABackup),
            Err(e) => return Err(BackupError::io("read the backup")(e)),
        }
        if found[..4] != *MAGIC {
            return Err(BackupError::NotABackup);
        }
        if found[4] != VERSION {
            return Err(BackupError::Version { found: found[4].into(), known: VERSION.into() });
        }
        match (found[5], protection) {
            (0, Protection::Plain) | (1, Protection::Key(_)) => {}
            (0, Protection::Key(_)) => {
                let advice = "whoever has it could have changed it; say --plain if it is to be trusted all the same";
                return Err(BackupError::Protection { found: "not encrypted", advice });
            }
            (1, Protection::Plain) => {
                return Err(BackupError::Protection { found: "encrypted", advice: "give --key-file" });
            }
            _ => return Err(BackupError::NotABackup),
        }
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&found[6..6 + SALT_BYTES]);
        if header(salt, protection) != found {
            return Err(BackupError::WrongKey);
        }
        Ok(Self { input, sealer: Sealer::new(found, protection), ended: false })
    }

    /// Gives the content of the next chunk; `None` after the last.
    ///
    /// # Errors
    /// [`BackupError::Damaged`], [`BackupError::Io`].
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let full = CHUNK_BYTES + self.sealer.tag_bytes();
        let mut chunk = Vec::with_capacity(full);
        let input = &mut self.input;
        input.take(full as u64).read_to_end(&mut chunk).map_err(BackupError::io("read the backup"))?;
        let last = input.fill_buf().map_err(BackupError::io("read the backup"))?.is_empty();
        self.sealer.open(&mut chunk, last)?;
        self.ended = last;
        Ok(Some(chunk))
    }
}
