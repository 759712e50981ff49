//! Mutual TLS between replicas: one CA of their own, and each certificate names its replica.
//!
//! A replica's certificate carries the name `replica-<id>.<cluster>.hanse.internal`. The caller dials that name, so TLS
//! itself proves that it reached the replica it meant; the callee compares the name in the caller's certificate with the
//! sender of each message. Nobody without a certificate of the peer CA gets as far as a message.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::RaftError;
use crate::frames;
use crate::types::ReplicaId;

/// Name of HTTP/2 in TLS's negotiation (RFC 9113, section 3.2).
const HTTP2: &[u8] = b"h2";

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
    ///
    /// # Errors
    /// [`RaftError::Tls`] if the certificates cannot be used.
    pub(crate) fn server(&self) -> Result<rustls::ServerConfig, RaftError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider.clone())
            .build()
            .map_err(|e| fault("the CA", &e))?;
        let (chain, key) = self.own()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| fault("TLS 1.3", &e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| fault("the certificate", &e))?;
        config.alpn_protocols = vec![frames::ALPN.to_vec(), HTTP2.to_vec()];
        Ok(config)
    }

    /// Gives what a replica needs that dials to send appends in frames. It offers HTTP/2 too, so that an older build's
    /// choice says that it is there and does not know frames.
    ///
    /// # Errors
    /// [`RaftError::Tls`] if the certificates cannot be used.
    pub(crate) fn dialler(&self) -> Result<rustls::ClientConfig, RaftError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = self.own()?;
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| fault("TLS 1.3", &e))?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)
            .map_err(|e| fault("the certificate", &e))?;
        config.alpn_protocols = vec![frames::ALPN.to_vec(), HTTP2.to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<rustls::RootCertStore, RaftError> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(certificate.map_err(|e| fault("the CA", &e))?).map_err(|e| fault("the CA", &e))?;
        }
        Ok(roots)
    }

    fn own(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), RaftError> {
        let chain = CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes());
        Ok((chain.map_err(|e| fault("the certificate", &e))?, key.map_err(|e| fault("the key", &e))?))
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

fn fault(part: &str, error: &dyn fmt::Display) -> RaftError {
    RaftError::Tls(format!("{part} cannot be used: {error}"))
}

/// Says whether a certificate (DER) carries a DNS name.
pub(crate) fn names(der: &[u8], name: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return false };
    alternatives.value.general_names.iter().any(|n| matches!(n, GeneralName::DNSName(dns) if *dns == name))
}
