//! The internal certificate authorities.
//!
//! Two of them, so that no client certificate can ever pass for a replica: the *peer* CA signs what replicas show each
//! other, the *API* CA signs what clients see. A replica's peer certificate carries the one name
//! `replica-<id>.<cluster>.hanse.internal`, which the dialling side demands, so that a connection cannot reach the
//! wrong replica unnoticed.
//!
//! The authorities' keys stay in the folder where [`create`] made them; replicas get only what [`issue`] writes: their own
//! certificates and keys, and the cluster's one key that signs checkpoints of the audit trail.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hanse_trail::SigningKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use zeroize::Zeroizing;

/// The audit key's file in a replica's TLS folder, and its public half beside it.
pub const AUDIT_KEY: &str = "audit.key";
/// The public half, for witnesses.
pub const AUDIT_PUBLIC: &str = "audit.vkey";

/// Name every API certificate carries besides its host names, so that clients can verify any replica alike.
pub const API_NAME: &str = "hanse-api";

/// Life of an authority.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Life of a replica's certificates (RELIABILITY.md S-1: at most 90 days).
const LEAF_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Certificates begin this much in the past, for clocks that differ.
const BACKDATE: Duration = Duration::from_secs(3_600);

/// The two authorities, by file name.
const AUTHORITIES: [&str; 2] = ["peer-ca", "api-ca"];

/// How an act of the authorities failed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written; files written before it stay.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is an authority already; making another would cut off every replica.
    #[error("{0} is there already; remove it by hand if you really want new authorities")]
    Exists(PathBuf),
    /// A certificate could not be made.
    #[error("certificate for {subject}: {reason}")]
    Certificate {
        /// For whom.
        subject: String,
        /// Why.
        reason: String,
    },
}

/// The name that replica `id` of `cluster` shows its peers.
pub fn peer_name(cluster: &str, id: u64) -> String {
    format!("replica-{id}.{cluster}.hanse.internal")
}

/// Makes both authorities and the audit key of `cluster` in `dir` (made if missing, 0700; keys 0600).
///
/// # Errors
/// [`CaError::Exists`] if there is one already, and nothing was changed.
pub fn create(dir: &Path, cluster: &str) -> Result<(), CaError> {
    make_dir(dir)?;
    for name in AUTHORITIES {
        let path = dir.join(format!("{name}.pem"));
        if path.exists() {
            return Err(CaError::Exists(path));
        }
    }
    for name in AUTHORITIES {
        let subject = format!("Hanse {name} of {cluster}");
        let fail = |error: rcgen::Error| CaError::Certificate { subject: subject.clone(), reason: error.to_string() };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = base_params(&subject, CA_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(fail)?;
        write_file(&dir.join(format!("{name}.key")), key.serialize_pem().as_bytes(), 0o600)?;
        write_file(&dir.join(format!("{name}.pem")), certificate.pem().as_bytes(), 0o644)?;
    }
    create_audit_key(dir, cluster)
}

/// Makes the key that signs checkpoints of the audit trail. Every replica has the same one, for it is one trail, whoever leads.
fn create_audit_key(dir: &Path, cluster: &str) -> Result<(), CaError> {
    let name = hanse_trail::origin(cluster);
    let fail = |reason: String| CaError::Certificate { subject: name.clone(), reason };
    let mut seed = Zeroizing::new([0; 32]);
    let random = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&random, seed.as_mut()).map_err(|error| fail(error.to_string()))?;
    let private = hanse_trail::note::private_text(&name, &seed);
    let key = SigningKey::parse(&private).map_err(|error| fail(error.to_string()))?;
    write_file(&dir.join(AUDIT_PUBLIC), format!("{}\n", key.public()).as_bytes(), 0o644)?;
    write_file(&dir.join(AUDIT_KEY), format!("{}\n", *private).as_bytes(), 0o600)
}

/// Writes into `out` everything replica `id` needs for TLS: both CA certificates, and a fresh peer and API key with
/// certificate; and the audit key. `hosts` are the names and addresses clients may use for it.
///
/// # Errors
/// Any [`CaError`]; files already there are replaced one by one.
pub fn issue(dir: &Path, out: &Path, cluster: &str, id: u64, hosts: &[String]) -> Result<(), CaError> {
    make_dir(out)?;
    for name in AUTHORITIES {
        let file = format!("{name}.pem");
        write_file(&out.join(&file), read_file(&dir.join(&file))?.as_bytes(), 0o644)?;
    }
    if !dir.join(AUDIT_KEY).exists() {
        // Authorities from before there was such a key.
        create_audit_key(dir, cluster)?;
    }
    for (file, mode) in [(AUDIT_PUBLIC, 0o644), (AUDIT_KEY, 0o600)] {
        write_file(&out.join(file), Zeroizing::new(read_file(&dir.join(file))?).as_bytes(), mode)?;
    }
    let both = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    leaf(dir, out, "peer", &[peer_name(cluster, id)], both)?;
    let mut names = vec![API_NAME.to_string(), "localhost".to_string()];
    names.extend(hosts.iter().cloned());
    leaf(dir, out, "api", &names, vec![ExtendedKeyUsagePurpose::ServerAuth])
}

fn leaf(
    dir: &Path,
    out: &Path,
    kind: &str,
    names: &[String],
    usages: Vec<ExtendedKeyUsagePurpose>,
) -> Result<(), CaError> {
    let subject = names[0].clone();
    let fail = |error: rcgen::Error| CaError::Certificate { subject: subject.clone(), reason: error.to_string() };
    let ca_key = KeyPair::from_pem(&read_file(&dir.join(format!("{kind}-ca.key")))?).map_err(fail)?;
    let issuer = Issuer::from_ca_cert_pem(&read_file(&dir.join(format!("{kind}-ca.pem")))?, ca_key).map_err(fail)?;
    let key = KeyPair::generate().map_err(fail)?;
    let mut params = base_params(&subject, LEAF_LIFE);
    for name in names {
        let san = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(fail)?),
        };
        params.subject_alt_names.push(san);
    }
    params.extended_key_usages = usages;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).map_err(fail)?;
    write_file(&out.join(format!("{kind}.key")), key.serialize_pem().as_bytes(), 0o600)?;
    write_file(&out.join(format!("{kind}.pem")), certificate.pem().as_bytes(), 0o644)
}

fn base_params(subject: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + life).into();
    params
}

fn make_dir(dir: &Path) -> Result<(), CaError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let file = |source| CaError::File { path: dir.to_path_buf(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file)
}

fn read_file(path: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|source| CaError::File { path: path.to_path_buf(), source })
}

/// Writes atomically with the given permission bits, so that a key is never readable by others even for a moment.
pub(crate) fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), CaError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fail = |source| CaError::File { path: path.to_path_buf(), source };
    let temp = path.with_extension("new");
    let removed = std::fs::remove_file(&temp);
    if let Err(error) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(fail(error));
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp).map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&temp, path).map_err(fail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_replica_gets_both_certificates_and_no_authority_key() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, out) = (dir.path().join("ca"), dir.path().join("n1"));
        create(&ca, "demo").unwrap();
        issue(&ca, &out, "demo", 1, &["127.0.0.1".into()]).unwrap();
        for file in ["peer-ca.pem", "peer.pem", "peer.key", "api-ca.pem", "api.pem", "api.key", AUDIT_KEY, AUDIT_PUBLIC]
        {
            assert!(out.join(file).exists(), "{file}");
        }
        assert!(!out.join("peer-ca.key").exists() && !out.join("api-ca.key").exists());
        let pem = std::fs::read(out.join("peer.pem")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let san = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(format!("{:?}", san.value.general_names[0]), "DNSName(\"replica-1.demo.hanse.internal\")");
        let days =
            (certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp()) / 86_400;
        assert!(days <= 91, "{days}");
    }

    /// Also where the authorities are older than the key: the first replica's issue makes it, the others get the same.
    #[test]
    fn every_replica_gets_the_one_audit_key_and_others_cannot_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        create(&ca, "demo").unwrap();
        let first = std::fs::read_to_string(ca.join(AUDIT_KEY)).unwrap();
        std::fs::remove_file(ca.join(AUDIT_KEY)).unwrap();
        let keys: Vec<String> = (1..=2)
            .map(|id| {
                let out = dir.path().join(format!("n{id}"));
                issue(&ca, &out, "demo", id, &[]).unwrap();
                let mode = std::fs::metadata(out.join(AUDIT_KEY)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
                let key = SigningKey::parse(&std::fs::read_to_string(out.join(AUDIT_KEY)).unwrap()).unwrap();
                let public = std::fs::read_to_string(out.join(AUDIT_PUBLIC)).unwrap();
                assert_eq!(public.trim(), key.public().to_string());
                assert_eq!(key.public().name(), "demo.hanse.internal/audit");
                public
            })
            .collect();
        assert_eq!(keys[0], keys[1]);
        assert_ne!(SigningKey::parse(&first).unwrap().public().to_string(), keys[0].trim());
    }

    #[test]
    fn authorities_are_never_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), "demo").unwrap();
        assert!(matches!(create(dir.path(), "demo"), Err(CaError::Exists(_))));
    }
}
