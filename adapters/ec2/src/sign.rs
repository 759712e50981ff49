//! Signature Version 4, as AWS's "Create a signed AWS API request" says it, for one kind of request: a form by POST.
//!
//! What this never does: IO, or show a secret.

use ring::{digest, hmac};

use crate::credentials::Credentials;

/// The one content type of a query API's request.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// What is signed besides the body.
pub(crate) struct Place<'a> {
    /// `host` or `host:port`, exactly as the header says it.
    pub(crate) host: &'a str,
    /// Path of the endpoint, `/` at least.
    pub(crate) path: &'a str,
    /// Region that the signature is for.
    pub(crate) region: &'a str,
    /// Service that the signature is for.
    pub(crate) service: &'a str,
    /// The moment, `20261129T200000Z`.
    pub(crate) at: &'a str,
}

/// Returns the header `authorization` of a POST of `body` with the content type [`FORM`].
pub(crate) fn authorization(place: &Place<'_>, content_type: &str, body: &[u8], credentials: &Credentials) -> String {
    let token = credentials.session_token.as_deref();
    let names = if token.is_some() {
        "content-type;host;x-amz-date;x-amz-security-token"
    } else {
        "content-type;host;x-amz-date"
    };
    let token_line = token.map_or_else(String::new, |token| format!("x-amz-security-token:{}\n", token.trim()));
    let canonical = format!(
        "POST\n{}\n\ncontent-type:{content_type}\nhost:{}\nx-amz-date:{}\n{token_line}\n{names}\n{}",
        place.path,
        place.host,
        place.at,
        sha256(body)
    );
    let day = place.at.get(..8).unwrap_or(place.at);
    let scope = format!("{day}/{}/{}/aws4_request", place.region, place.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", place.at, sha256(canonical.as_bytes()));
    let key = signing_key(&credentials.secret_access_key, day, place.region, place.service);
    let signature = hex::encode(mac(key.as_ref(), to_sign.as_bytes()));
    let id = &credentials.access_key_id;
    format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
}

fn signing_key(secret: &str, day: &str, region: &str, service: &str) -> hmac::Tag {
    let first = zeroize::Zeroizing::new(format!("AWS4{secret}"));
    let mut key = mac(first.as_bytes(), day.as_bytes());
    for part in [region, service, "aws4_request"] {
        key = mac(key.as_ref(), part.as_bytes());
    }
    key
}

fn mac(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// Adds `text` as it stands in a form: a space as `+`, and everything but RFC 3986's unreserved characters by its bytes.
pub(crate) fn encode(text: &str, into: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else if byte == b' ' {
            into.push('+');
        } else {
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// AWS's own test suite of Signature Version 4, `post-x-www-form-urlencoded`.
    #[test]
    fn awss_own_example_has_awss_own_signature() {
        let credentials = Credentials::for_tests("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let place = Place {
            host: "example.amazonaws.com",
            path: "/",
            region: "us-east-1",
            service: "service",
            at: "20150830T123600Z",
        };
        let header = authorization(&place, "application/x-www-form-urlencoded", b"Param1=value1", &credentials);
        assert_eq!(
            header,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    #[test]
    fn what_could_be_taken_for_a_form_is_encoded() {
        let mut text = String::new();
        encode("a b&c=d+é~/", &mut text);
        assert_eq!(text, "a+b%26c%3Dd%2B%C3%A9~%2F");
    }
}
