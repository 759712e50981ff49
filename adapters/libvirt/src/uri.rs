//! Where a hypervisor is: libvirt's own way of writing it, `qemu+ssh://USER@HOST[:PORT]/system`.

use hanse_adapters_core::{AdapterError, Result};

/// SSH's own port.
const SSH_PORT: u16 = 22;

/// A hypervisor, as [`Place::parse`] read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) user: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What virsh is given there.
    pub(crate) local: String,
}

impl Place {
    /// Reads `DRIVER+ssh://USER@HOST[:PORT]/PATH`, perhaps with `?socket=/PATH` of the daemon's socket there.
    ///
    /// # Errors
    /// `Invalid` says how it is written.
    pub(crate) fn parse(endpoint: &str) -> Result<Self> {
        Self::read(endpoint).ok_or_else(|| AdapterError::Invalid {
            subject: format!("endpoint {endpoint}"),
            reason: "is not written as qemu+ssh://USER@HOST:PORT/system (with ?socket=/PATH if the daemon listens elsewhere)"
                .into(),
        })
    }

    fn read(endpoint: &str) -> Option<Self> {
        let (driver, rest) = endpoint.split_once("+ssh://")?;
        let (authority, path) = rest.split_once('/')?;
        let (user, address) = authority.split_once('@')?;
        let (host, port) = match address.rsplit_once(':') {
            // The colon of an address in brackets is not a port's.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            Some(_) | None => (address, SSH_PORT),
        };
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let (path, socket) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.strip_prefix("socket=")?)),
            None => (path, None),
        };
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_path = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.".contains(&b));
        if !is_word(driver) || !is_word(path) || user.is_empty() || host.is_empty() {
            return None;
        }
        let local = match socket {
            Some(socket) if socket.starts_with('/') => {
                format!("{driver}+unix:///{path}?socket={}", Some(socket).filter(is_path)?)
            }
            Some(_) => return None,
            None => format!("{driver}:///{path}"),
        };
        Some(Self { user: user.into(), host: host.into(), port, local })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hypervisors_are_written_as_libvirt_writes_them() {
        let place = Place::parse("qemu+ssh://virt@h1.example:2222/system").unwrap();
        let expected =
            Place { user: "virt".into(), host: "h1.example".into(), port: 2222, local: "qemu:///system".into() };
        assert_eq!(place, expected);
        let place = Place::parse("test+ssh://root@[fd00::7]/default?socket=/run/a-b/sock").unwrap();
        assert_eq!((place.host.as_str(), place.port), ("fd00::7", 22));
        assert_eq!(place.local, "test+unix:///default?socket=/run/a-b/sock");
        for bad in [
            "qemu:///system",
            "qemu+ssh://h/system",
            "qemu+ssh://u@h",
            "qemu+ssh://u@h:x/system",
            "qemu+ssh://u@/system",
            "qemu+tls://u@h/system",
            "qemu+ssh://u@h/system?command=/x",
            "qemu+ssh://u@h/system?socket=x",
            "qemu+ssh://u@h/sys tem",
            "q'emu+ssh://u@h/system",
            "qemu+ssh://u@h/system?socket=/x&command=y",
        ] {
            assert!(Place::parse(bad).unwrap_err().to_string().contains("qemu+ssh://USER@HOST"), "{bad}");
        }
    }
}
