//! What a machine must show before anything is sent to it: the pinned key, or a certificate by the pinned authority.
//!
//! A certificate counts only if it is one for hosts, valid now, made for the very address that was asked for, without critical
//! options, and signed by the pinned authority. What was shown is remembered for the message; nothing is ever trusted at first sight.

use std::sync::{Arc, Mutex, PoisonError};

use hanse_adapters_core::{AdapterError, Expiry};
use russh::client;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, HashAlg, PublicKeyOrCertificate};

use crate::target::{Hop, HostPin};

/// What a machine showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A key, by its fingerprint.
    Key(String),
    /// A certificate by an authority, both by fingerprint, why it cannot be used, if it cannot, and when it ends (seconds).
    Certificate { authority: String, fault: Option<String>, until: u64 },
}

/// Where what was shown is left.
pub(crate) type Seen = Arc<Mutex<Option<Shown>>>;

/// Accepts what is pinned and remembers what it was shown. Without a pin it accepts nothing.
pub(crate) struct Pin {
    wanted: Option<HostPin>,
    address: String,
    seen: Seen,
}

impl Pin {
    pub(crate) fn new(wanted: Option<HostPin>, address: &str) -> (Self, Seen) {
        let seen = Seen::default();
        (Self { wanted, address: address.to_owned(), seen: Arc::clone(&seen) }, seen)
    }
}

/// Takes what was shown.
pub(crate) fn taken(seen: &Seen) -> Option<Shown> {
    seen.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl client::Handler for Pin {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let shown = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => Shown::Key(key.fingerprint(HashAlg::Sha256).to_string()),
            PublicKeyOrCertificate::Certificate(certificate) => Shown::Certificate {
                authority: certificate.signature_key().fingerprint(HashAlg::Sha256).to_string(),
                fault: fault(certificate, &self.address),
                until: certificate.valid_before(),
            },
        };
        let fits = self.wanted.as_ref().is_some_and(|wanted| fits(wanted, &shown));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(fits)
    }
}

/// Whether what was shown is what is pinned.
pub(crate) fn fits(pin: &HostPin, shown: &Shown) -> bool {
    match (pin, shown) {
        (HostPin::Key(pinned), Shown::Key(shown)) => pinned == shown,
        (HostPin::Authority(pinned), Shown::Certificate { authority, fault: None, .. }) => pinned == authority,
        (HostPin::Key(_), Shown::Certificate { .. }) | (HostPin::Authority(_), _) => false,
    }
}

/// Why a certificate does not vouch for `address`, whoever signed it.
fn fault(certificate: &Certificate, address: &str) -> Option<String> {
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    let now = hanse_hostrun::now_ms() / 1000;
    if certificate.cert_type() != CertType::Host {
        return Some("it is not one for hosts (`ssh-keygen -h`)".into());
    }
    if !certificate.valid_principals().iter().any(|name| name == address) {
        return Some(format!("it is for {:?}, not for {address} (`ssh-keygen -n`)", certificate.valid_principals()));
    }
    if now < certificate.valid_after() || now >= certificate.valid_before() {
        return Some("it has expired or is not valid yet".into());
    }
    if certificate.critical_options().iter().next().is_some() {
        return Some("it has critical options, of which none is known for hosts".into());
    }
    certificate.validate([&authority]).err().map(|e| format!("its signature does not fit: {e}"))
}

/// The refusal of what `hop` showed.
pub(crate) fn refused(hop: &Hop, shown: &Shown) -> AdapterError {
    let compare = "no credential was sent. Compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's own console, \
                   and pin the new key only if it is the host's";
    let reason = match (&hop.pin, shown) {
        (HostPin::Key(pinned), Shown::Key(shown)) => {
            format!("the host key changed: pinned {pinned}, shown {shown}; {compare}")
        }
        (HostPin::Key(pinned), Shown::Certificate { .. }) => {
            format!(
                "the host shows a certificate that was not asked for, not the pinned key {pinned}; no credential was sent"
            )
        }
        (HostPin::Authority(pinned), Shown::Key(shown)) => format!(
            "the host shows its key {shown} without a certificate by the pinned authority {pinned}; no credential was sent. Set \
             HostCertificate in its sshd_config, or pin the key instead (`hanse host reach`)"
        ),
        (HostPin::Authority(pinned), Shown::Certificate { authority, .. }) if pinned != authority => {
            format!(
                "the host's certificate is signed by {authority}, not by the pinned authority {pinned}; no credential was sent"
            )
        }
        (HostPin::Authority(pinned), Shown::Certificate { fault, .. }) => format!(
            "the host's certificate by {pinned} cannot be used: {}; no credential was sent. Sign its key anew",
            fault.as_deref().unwrap_or("no reason was found")
        ),
    };
    AdapterError::Denied { subject: hop.name.clone(), reason }
}

/// When the certificate that `hop` showed ends; nothing if it showed a key.
pub(crate) fn expiry(hop: &Hop, shown: &Shown) -> Option<Expiry> {
    let Shown::Certificate { until, .. } = shown else { return None };
    let until_ms = until.saturating_mul(1_000);
    let renew = format!(
        "sign the host's key anew (`ssh-keygen -h -s CA -I ID -n {} -V +52w KEY.pub`), put it where HostCertificate of its sshd_config \
         says, and reload sshd",
        hop.address
    );
    Some(Expiry { what: format!("the SSH certificate of {}", hop.name), until_ms, renew })
}
