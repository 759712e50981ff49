//! Mutual TLS from the node's one key.
//!
//! Certificates are self-signed and carry no trust; what counts is the public key in them and the
//! proof of its possession in the handshake. The accepting side admits the keys of the
//! configuration, the dialling side only the very key of the node that it wants. TLS 1.3 only.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use crate::NodeError;
use crate::keys::{NodeKey, PublicKey};

/// The protocol's name and version, checked by TLS itself.
const ALPN: &[u8] = b"hanse-node/1";
/// The same for connections on which a snapshot is sent.
const ALPN_SNAPSHOT: &[u8] = b"hanse-node-snapshot/1";

/// The node's certificate and key, made anew at each start.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    /// # Errors
    /// The key cannot sign a certificate.
    pub(crate) fn new(key: &NodeKey) -> Result<Self, NodeError> {
        let tls = |e: rcgen::Error| NodeError::Tls(e.to_string());
        let pkcs8 = PrivatePkcs8KeyDer::from(key.pkcs8());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519).map_err(tls)?;
        let params = rcgen::CertificateParams::new(vec![key.node_id().to_string()]).map_err(tls)?;
        let certificate = params.self_signed(&pair).map_err(tls)?.der().clone();
        Ok(Self { certificate, key: pkcs8 })
    }

    /// The accepting side: admits `allowed` and no one else.
    ///
    /// # Errors
    /// TLS refuses our own key.
    pub(crate) fn server(&self, allowed: BTreeSet<PublicKey>) -> Result<ServerConfig, NodeError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Allowed::new(allowed, &provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|b| {
                b.with_client_cert_verifier(verifier).with_single_cert(vec![self.certificate.clone()], self.private())
            })
            .map_err(|e| NodeError::Tls(e.to_string()))?;
        config.alpn_protocols = vec![ALPN.to_vec(), ALPN_SNAPSHOT.to_vec()];
        // A resumed session would skip the check of the key.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The dialling side: demands `wanted`.
    ///
    /// # Errors
    /// TLS refuses our own key.
    pub(crate) fn client(&self, wanted: PublicKey) -> Result<ClientConfig, NodeError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Allowed::new(BTreeSet::from([wanted]), &provider));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|b| {
                b.dangerous()
                    .with_custom_certificate_verifier(verifier)
                    .with_client_auth_cert(vec![self.certificate.clone()], self.private())
            })
            .map_err(|e| NodeError::Tls(e.to_string()))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// The dialling side of a connection on which a snapshot is sent.
    ///
    /// # Errors
    /// TLS refuses our own key.
    pub(crate) fn snapshot_client(&self, wanted: PublicKey) -> Result<ClientConfig, NodeError> {
        let mut config = self.client(wanted)?;
        config.alpn_protocols = vec![ALPN_SNAPSHOT.to_vec()];
        Ok(config)
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

/// Whether the dialling side wants a snapshot.
pub(crate) fn wants_snapshot(connection: &rustls::ServerConnection) -> bool {
    connection.alpn_protocol() == Some(ALPN_SNAPSHOT)
}

/// The Ed25519 key in a certificate, or `None`.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let info = &parsed.tbs_certificate.subject_pki;
    let is_ed25519 = info.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519;
    if !rest.is_empty() || !is_ed25519 {
        return None;
    }
    <[u8; 32]>::try_from(info.subject_public_key.data.as_ref()).ok().map(PublicKey)
}

/// Admits certificates by their key.
#[derive(Debug)]
struct Allowed {
    keys: BTreeSet<PublicKey>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Allowed {
    fn new(keys: BTreeSet<PublicKey>, provider: &CryptoProvider) -> Self {
        Self { keys, algorithms: provider.signature_verification_algorithms }
    }

    fn admit(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        match key_of(certificate) {
            Some(key) if self.keys.contains(&key) => Ok(()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(CertificateError::BadSignature.into());
        }
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

fn tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
}

impl ClientCertVerifier for Allowed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.admit(end_entity).map(|()| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12()
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ServerCertVerifier for Allowed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.admit(end_entity).map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12()
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn key(n: u8) -> NodeKey {
        NodeKey::from_seed([n; 32])
    }

    /// Lets `client` dial `server`; returns what the server and the client said of the connection.
    async fn dial(client: &NodeKey, wanted: &NodeKey, server: &NodeKey, allowed: &[&NodeKey]) -> (bool, bool) {
        let allowed = allowed.iter().map(|k| k.public_key()).collect();
        let acceptor =
            tokio_rustls::TlsAcceptor::from(Arc::new(Identity::new(server).unwrap().server(allowed).unwrap()));
        let connector = tokio_rustls::TlsConnector::from(Arc::new(
            Identity::new(client).unwrap().client(wanted.public_key()).unwrap(),
        ));
        let (near, far) = tokio::io::duplex(1 << 16);
        let accepted = tokio::spawn(async move {
            let Ok(mut tls) = acceptor.accept(far).await else { return false };
            let mut byte = [0u8; 1];
            tls.read_exact(&mut byte).await.is_ok() && tls.write_all(&byte).await.is_ok()
        });
        let name = ServerName::try_from("node.invalid").unwrap();
        let dialled = async {
            let mut tls = connector.connect(name, near).await?;
            tls.write_all(b"x").await?;
            // In TLS 1.3 the client learns only here that its certificate was refused.
            tls.read_exact(&mut [0u8; 1]).await
        };
        let dialled = dialled.await.is_ok();
        (accepted.await.unwrap(), dialled)
    }

    #[tokio::test]
    async fn known_keys_talk() {
        let (a, b) = (key(1), key(2));
        assert_eq!(dial(&a, &b, &b, &[&a]).await, (true, true));
    }

    #[tokio::test]
    async fn a_stranger_is_refused_by_the_accepting_side() {
        let (a, b, stranger) = (key(1), key(2), key(3));
        assert_eq!(dial(&stranger, &b, &b, &[&a]).await, (false, false));
    }

    #[tokio::test]
    async fn another_known_node_behind_the_address_is_refused_by_the_dialling_side() {
        let (a, b, c) = (key(1), key(2), key(3));
        assert_eq!(dial(&a, &b, &c, &[&a, &b]).await, (false, false));
    }
}
