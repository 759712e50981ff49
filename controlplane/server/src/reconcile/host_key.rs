//! A host key for a machine that is not there yet: from a seed that any leader can make, as cloud-init takes it.
//!
//! What this never does: keep the key, or log it.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

const KIND: &str = "ssh-ed25519";
/// Characters of a line of PEM, as OpenSSH writes it.
const LINE: usize = 70;

/// Returns what the machine's first start is told (`#cloud-config`), and the fingerprint that it shows from then on.
pub(crate) fn cloud_config(seed: &[u8; 32]) -> (String, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("32 bytes are a seed");
    let public = pair.public_key().as_ref();
    let blob = blob(public);
    let hash = ring::digest::digest(&ring::digest::SHA256, &blob);
    let fingerprint = format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(hash));
    let pem = private(seed, public, &blob);
    let indented: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    let line = format!("{KIND} {}", BASE64_STANDARD.encode(&blob));
    // With keys given, cloud-init makes none of its own; those of the image are deleted first.
    let config = format!(
        "#cloud-config\nssh_deletekeys: true\nssh_genkeytypes: []\nssh_keys:\n  ed25519_private: |\n{indented}  ed25519_public: {line}\n"
    );
    (config, fingerprint)
}

/// A public key on the wire (RFC 8709, section 4).
fn blob(public: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    string(&mut blob, KIND.as_bytes());
    string(&mut blob, public);
    blob
}

/// OpenSSH's own format of an unencrypted private key (`PROTOCOL.key`).
fn private(seed: &[u8; 32], public: &[u8], blob: &[u8]) -> Zeroizing<String> {
    // Two equal numbers, by which a decryption would be checked; nothing is encrypted, so any do.
    let check = [0x68, 0x61, 0x6e, 0x73];
    let mut secret = Zeroizing::new(Vec::new());
    secret.extend_from_slice(&check);
    secret.extend_from_slice(&check);
    string(&mut secret, KIND.as_bytes());
    string(&mut secret, public);
    let both = Zeroizing::new([seed.as_slice(), public].concat());
    string(&mut secret, &both);
    string(&mut secret, b"");
    for pad in 1..=u8::MAX {
        if secret.len().is_multiple_of(8) {
            break;
        }
        secret.push(pad);
    }
    let mut whole = Zeroizing::new(b"openssh-key-v1\0".to_vec());
    for word in [b"none".as_slice(), b"none", b""] {
        string(&mut whole, word);
    }
    whole.extend_from_slice(&1_u32.to_be_bytes());
    string(&mut whole, blob);
    string(&mut whole, &secret);
    let text = Zeroizing::new(BASE64_STANDARD.encode(&*whole));
    let mut pem = Zeroizing::new(String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    pem
}

fn string(into: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a key is short");
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    /// OpenSSH's own tool reads the key, and sees the same fingerprint and public half.
    #[test]
    fn ssh_keygen_reads_what_cloud_init_is_given() {
        let (config, fingerprint) = cloud_config(&[7; 32]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key: String = config
            .lines()
            .skip_while(|line| !line.contains("BEGIN OPENSSH"))
            .take_while(|line| line.starts_with("    "))
            .map(|line| format!("{}\n", line.trim()))
            .collect();
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let said = |args: &[&str]| {
            let output = Command::new("ssh-keygen").args(args).arg(&path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let public = said(&["-y", "-f"]);
        let given = config.lines().find_map(|line| line.strip_prefix("  ed25519_public: ")).unwrap();
        assert_eq!(public.trim(), given);
        std::fs::write(dir.path().join("key.pub"), public).unwrap();
        assert_eq!(said(&["-lf"]).split_whitespace().nth(1).unwrap(), fingerprint);
        assert_eq!(cloud_config(&[7; 32]).1, fingerprint);
        assert_ne!(cloud_config(&[8; 32]).1, fingerprint);
    }
}
