//! The replicas a client knows: one lazy TLS connection each, and which of them to ask next.
//!
//! Addresses come from the configuration and from leader hints; both must show a certificate of the configured
//! authority, so that a forged hint leads nowhere.

use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::config::ClientConfig;
use crate::error::{ClientError, reason};

/// More configured replicas than any cluster has.
const ENDPOINTS_MAX: usize = 16;
/// Configured and hinted addresses together; beyond this, hints are ignored.
const REPLICAS_MAX: usize = 32;

/// One replica's address and connection.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    /// `host:port`.
    pub(crate) address: Arc<str>,
    /// Connects when first used and again when broken.
    pub(crate) channel: Channel,
}

/// The known replicas and the current choice.
#[derive(Debug)]
pub(crate) struct Replicas {
    config: ClientConfig,
    known: Mutex<Known>,
}

/// At least one replica; `current` is an index into it.
#[derive(Debug)]
struct Known {
    replicas: Vec<Replica>,
    current: usize,
}

impl Replicas {
    /// Returns the replicas of a configuration; connects to none.
    ///
    /// # Errors
    /// The configuration is unusable: no or too many endpoints, a bad address, a bad authority, a plain-text scheme.
    pub(crate) fn new(config: &ClientConfig) -> Result<Replicas, ClientError> {
        if config.endpoints.is_empty() || config.endpoints.len() > ENDPOINTS_MAX {
            return Err(bad_config(format!(
                "{} endpoints given, 1 to {ENDPOINTS_MAX} are allowed",
                config.endpoints.len()
            )));
        }
        // The TLS layer takes a text without a certificate for an authority that trusts nobody; say so at once instead.
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(config.ca_pem.as_bytes()).collect();
        if certificates.map_or(true, |list| list.is_empty()) {
            return Err(bad_config("the authority's text holds no certificate (PEM)".to_owned()));
        }
        let mut replicas: Vec<Replica> = Vec::new();
        for endpoint in &config.endpoints {
            let address = parse_address(endpoint)?;
            if replicas.iter().all(|replica| *replica.address != *address) {
                replicas.push(connect(config, &address)?);
            }
        }
        Ok(Replicas { config: config.clone(), known: Mutex::new(Known { replicas, current: 0 }) })
    }

    /// Returns the replica to ask now.
    pub(crate) fn current(&self) -> Replica {
        let known = self.lock();
        known.replicas[known.current].clone()
    }

    /// Goes on to the next replica, unless another call has already left `failed`.
    pub(crate) fn leave(&self, failed: &str) {
        let mut known = self.lock();
        if *known.replicas[known.current].address == *failed {
            known.current = (known.current + 1) % known.replicas.len();
        }
    }

    /// Chooses the hinted leader; returns whether that is another replica than `from`.
    pub(crate) fn follow(&self, hint: &str, from: &str) -> bool {
        let Ok(address) = parse_address(hint) else {
            tracing::debug!(hint, "leader hint is no address");
            return false;
        };
        let mut known = self.lock();
        let place = match known.replicas.iter().position(|replica| *replica.address == *address) {
            Some(place) => place,
            None if known.replicas.len() >= REPLICAS_MAX => return false,
            None => {
                let Ok(replica) = connect(&self.config, &address) else { return false };
                known.replicas.push(replica);
                known.replicas.len() - 1
            }
        };
        known.current = place;
        *address != *from
    }

    /// Returns the addresses that are known, in order.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.lock().replicas.iter().map(|replica| replica.address.to_string()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Every change below the lock is a single assignment or push, so a poisoned value is still whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns `host:port` of an endpoint text.
fn parse_address(endpoint: &str) -> Result<String, ClientError> {
    let text = endpoint.trim();
    let address = match text.split_once("://") {
        Some(("https", rest)) => rest.trim_end_matches('/'),
        Some((scheme, _)) => {
            return Err(bad_config(format!("endpoint {text:?}: scheme {scheme:?} is not https")));
        }
        None => text,
    };
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
        is_host.then(|| port.parse::<u16>().ok()).flatten()
    });
    match port {
        Some(port) if port > 0 => Ok(address.to_owned()),
        _ => Err(bad_config(format!("endpoint {text:?} is not host:port"))),
    }
}

/// Returns a replica with a connection that opens when first used.
fn connect(config: &ClientConfig, address: &str) -> Result<Replica, ClientError> {
    let timeouts = &config.timeouts;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&config.ca_pem))
        .domain_name(config.server_name.clone());
    let channel = Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| bad_config(format!("endpoint {address}: {}", innermost(&error))))?
        .connect_timeout(timeouts.connect)
        // A peer that vanished without a word (power cut, partition) must not hold a call or a watch for ever.
        .http2_keep_alive_interval(timeouts.keep_alive)
        .keep_alive_timeout(timeouts.keep_alive)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(hanse_cork::connector(Some(timeouts.keep_alive), timeouts.connect));
    Ok(Replica { address: address.into(), channel })
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn bad_config(message: String) -> ClientError {
    ClientError::local(
        Code::InvalidArgument,
        reason::CLIENT_CONFIG,
        message,
        "Give --endpoint host:port of a replica's API and --ca with the API authority's certificate.",
    )
}

#[cfg(test)]
mod tests {
    use super::parse_address;

    #[test]
    fn addresses() {
        for (text, address) in [
            ("127.0.0.1:7443", Some("127.0.0.1:7443")),
            ("https://h1.example:7443/", Some("h1.example:7443")),
            ("[::1]:7443", Some("[::1]:7443")),
            ("http://127.0.0.1:7443", None),
            ("127.0.0.1", None),
            ("127.0.0.1:0", None),
            ("user@h:1", None),
            ("", None),
        ] {
            assert_eq!(parse_address(text).ok().as_deref(), address, "{text}");
        }
    }
}
