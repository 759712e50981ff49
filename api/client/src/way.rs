//! Machines on the way to a host, as people write them: `USER@ADDRESS[:PORT]=SHA256:...`; an IPv6 address stands in brackets.

use crate::pb;

/// Reads a machine on the way.
///
/// # Errors
/// What the text is not, in words.
pub fn parse_jump(text: &str) -> Result<pb::SshJump, String> {
    let form = || format!("`{text}` is not USER@ADDRESS[:PORT]=SHA256:...; an IPv6 address stands in brackets");
    let (machine, fingerprint) = text.split_once('=').ok_or_else(form)?;
    let (user, place) = machine.split_once('@').ok_or_else(form)?;
    let (address, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(form)?,
        None => place.find(':').map_or((place, ""), |at| place.split_at(at)),
    };
    let port = match port {
        "" => 22,
        port => port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).ok_or_else(form)?.into(),
    };
    if user.is_empty() || address.is_empty() || !fingerprint.starts_with("SHA256:") {
        return Err(form());
    }
    Ok(pb::SshJump { address: address.into(), port, user: user.into(), fingerprint: fingerprint.into() })
}

/// Writes a machine on the way as [`parse_jump`] reads it.
pub fn jump_text(it: &pb::SshJump) -> String {
    let address = if it.address.contains(':') { format!("[{}]", it.address) } else { it.address.clone() };
    let port = if it.port == 0 { 22 } else { it.port };
    format!("{}@{address}:{port}={}", it.user, it.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_on_the_way_is_read_as_it_is_written() {
        let key = format!("SHA256:{}", "A".repeat(43));
        let read = |text: &str| parse_jump(&format!("{text}={key}"));
        let machine = |user: &str, address: &str, port| {
            Ok(pb::SshJump { address: address.into(), port, user: user.into(), fingerprint: key.clone() })
        };
        assert_eq!(read("ops@bastion"), machine("ops", "bastion", 22));
        assert_eq!(read("ops@10.0.0.1:2222"), machine("ops", "10.0.0.1", 2222));
        assert_eq!(read("ops@[fd00::1]:2222"), machine("ops", "fd00::1", 2222));
        assert_eq!(read("ops@[fd00::1]"), machine("ops", "fd00::1", 22));
        for text in ["ops@bastion", "ops@10.0.0.1:2222", "ops@[fd00::1]:2222"] {
            let one = read(text);
            assert_eq!(one.clone().and_then(|it| parse_jump(&jump_text(&it))), one, "{text}");
        }
        for bad in ["bastion", "ops@", "@bastion", "ops@bastion:x", "ops@bastion:70000", "ops@[fd00::1"] {
            assert!(read(bad).is_err_and(|words| words.contains("USER@ADDRESS")), "{bad}");
        }
        assert!(parse_jump("ops@bastion").is_err() && parse_jump("ops@bastion=MD5:00").is_err());
    }
}
