//! Mutual TLS between replicas: one CA of their own, and each certificate names its replica.
//!
//! A replica's certificate carries the name `replica-<id>.<cluster>.hanse.internal`. The caller dials that name, so TLS
//! itself proves that it reached the replica it meant; the callee compares the name in the caller's certificate with the
//! sender of each message. Nobody without a certificate of the peer CA gets as far as a message.

use std::fmt;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::RaftError;
use crate::types::ReplicaId;

/// Longest a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The certificates of one replica, as PEM.
#[derive(Clone)]
pub struct PeerTls {
    /// The peer CA.
    pub ca_pem: String,
    /// This replica's certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerTls(..)")
    }
}

/// Gives the name that a replica's certificate must carry.
#[must_use]
pub fn peer_name(cluster: &str, id: ReplicaId) -> String {
    format!("replica-{id}.{cluster}.hanse.internal")
}

impl PeerTls {
    /// Gives what a listening replica needs: it refuses callers without a certificate of the peer CA.
    pub(crate) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.cert_pem, &self.key_pem))
            .client_ca_root(Certificate::from_pem(&self.ca_pem))
            .timeout(HANDSHAKE)
    }

    /// Gives what a dialling replica needs to reach `name` and nobody else.
    pub(crate) fn client(&self, name: String) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&self.cert_pem, &self.key_pem))
            .ca_certificate(Certificate::from_pem(&self.ca_pem))
            .domain_name(name)
            .timeout(HANDSHAKE)
    }

    /// Checks that the certificate is the one of this replica.
    ///
    /// # Errors
    /// [`RaftError::Tls`] if it cannot be read or names another.
    pub(crate) fn check(&self, name: &str) -> Result<(), RaftError> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(self.cert_pem.as_bytes())
            .map_err(|e| RaftError::Tls(format!("the certificate is no PEM: {e}")))?;
        if names(&pem.contents, name) {
            return Ok(());
        }
        Err(RaftError::Tls(format!("the certificate does not carry the name {name}")))
    }
}

/// Says whether a certificate (DER) carries a DNS name.
pub(crate) fn names(der: &[u8], name: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return false };
    alternatives.value.general_names.iter().any(|n| matches!(n, GeneralName::DNSName(dns) if *dns == name))
}
