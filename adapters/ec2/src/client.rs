//! One signed call after another: the form, the connection, the answer, and what a failure means.
//!
//! A call that was throttled had no effect and is made again after a pause that doubles, with dice so that replicas and acts
//! do not meet again. A question is also asked again after a broken connection or a server's error. A *change* never is:
//! whether it happened is not known, and who wants it looks first.
//!
//! What this never does: follow a redirect, speak in the clear to anything but this machine, or repeat a secret.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hanse_adapters_core::{AdapterError, Result};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::credentials::Credentials;
use crate::sign::{FORM, Place, authorization, encode};
use crate::xml::Node;

/// The interface's version, as every call names it.
const VERSION: &str = "2016-11-15";
/// The service that signatures are for.
const SERVICE: &str = "ec2";
/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long one call may take with its connection.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How often one call is made at most.
const TRIES: u32 = 6;
/// Pauses between tries: doubling from the first, at most the last, the upper half of each by dice.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Longest text of a cloud's that is repeated.
const WORDS_MAX: usize = 300;
/// Where machines keep the authorities that they trust.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Where a region is and who asks.
pub(crate) struct Client {
    host: String,
    port: u16,
    /// As the header says it.
    authority: String,
    path: String,
    region: String,
    credentials: Credentials,
    tls: Option<TlsConnector>,
    /// What to call it in errors.
    subject: String,
}

/// Why a call gave nothing: the cloud's code, if it said one, and what that means.
#[derive(Debug)]
pub(crate) struct Refused {
    /// As `InvalidInstanceID.NotFound`; empty if there was no answer.
    pub(crate) code: String,
    /// For the layers above.
    pub(crate) error: AdapterError,
}

impl From<Refused> for AdapterError {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// One call.
pub(crate) struct Call {
    action: &'static str,
    changes: bool,
    form: Vec<(String, String)>,
}

impl Call {
    /// A question, which may be asked again.
    pub(crate) fn ask(action: &'static str) -> Self {
        Self { action, changes: false, form: Vec::new() }
    }

    /// A change, which is sent once; also one that the cloud is only to judge.
    pub(crate) fn change(action: &'static str) -> Self {
        Self { action, changes: true, form: Vec::new() }
    }

    /// With a parameter.
    pub(crate) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.form.push((name.into(), value.into()));
        self
    }

    /// With a parameter, unless its value is empty.
    pub(crate) fn with_some(self, name: impl Into<String>, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(name, value) }
    }

    /// With the `n`th filter, counted from 1.
    pub(crate) fn filter(self, n: usize, name: &str, values: &[&str]) -> Self {
        let named = self.with(format!("Filter.{n}.Name"), name);
        values
            .iter()
            .enumerate()
            .fold(named, |call, (at, value)| call.with(format!("Filter.{n}.Value.{}", at + 1), *value))
    }

    fn body(&self) -> String {
        let mut text = format!("Action={}&Version={VERSION}", self.action);
        for (name, value) in &self.form {
            text.push('&');
            encode(name, &mut text);
            text.push('=');
            encode(value, &mut text);
        }
        text
    }
}

/// What became of one try.
enum Tried {
    Answer(Node),
    /// Nothing happened there; later it may.
    Throttled(String),
    /// It may have happened.
    Unclear(String),
    /// It did not happen, for nothing was sent.
    Unsent(String),
    Refused(Refused),
}

impl Client {
    /// A client of `endpoint` (`https://host[:port][/path]`, or `http://` on this machine).
    ///
    /// # Errors
    /// `Invalid` if there can be no such endpoint, or the file of authorities is none.
    pub(crate) fn new(endpoint: &str, region: &str, credentials: Credentials) -> Result<Self> {
        let subject = format!("cloud at {endpoint}");
        let wrong = |reason: &str| AdapterError::Invalid { subject: subject.clone(), reason: reason.into() };
        let uri: Uri = endpoint.parse().map_err(|_| wrong("is no URL: write https://host[:port]"))?;
        let authority = uri.authority().ok_or_else(|| wrong("names no host: write https://host[:port]"))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let tls = match uri.scheme_str() {
            Some("https") => Some(connector(&credentials, &subject)?),
            Some("http") if is_here => None,
            Some("http") => return Err(wrong("would carry orders in the clear: only https leaves this machine")),
            Some(_) | None => return Err(wrong("write https://host[:port]")),
        };
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let path = if uri.path().is_empty() { "/" } else { uri.path() }.to_owned();
        Ok(Self {
            host,
            port,
            authority: authority.to_string(),
            path,
            region: region.into(),
            credentials,
            tls,
            subject,
        })
    }

    /// The region asked.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Makes a call and returns its answer.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn call(&self, call: Call) -> std::result::Result<Node, Refused> {
        let body = call.body();
        for attempt in 1..=TRIES {
            let (reason, is_unclear) = match self.attempt(call.action, &body).await {
                Tried::Answer(node) => return Ok(node),
                Tried::Refused(refused) => return Err(refused),
                Tried::Unclear(reason) if call.changes => {
                    let error = AdapterError::Unknown { subject: self.about(call.action), reason };
                    return Err(Refused { code: String::new(), error });
                }
                Tried::Unclear(reason) => (reason, true),
                Tried::Throttled(reason) | Tried::Unsent(reason) => (reason, false),
            };
            if attempt == TRIES {
                let reason = format!("{reason}, {TRIES} times; it is tried again later");
                let error = AdapterError::Transient { subject: self.about(call.action), reason };
                return Err(Refused { code: String::new(), error });
            }
            tracing::debug!(action = call.action, attempt, is_unclear, reason, "a cloud is asked again");
            tokio::time::sleep(pause(attempt)).await;
        }
        unreachable!("the last try returns")
    }

    /// What a failure is about.
    fn about(&self, action: &str) -> String {
        format!("{} ({action})", self.subject)
    }

    async fn attempt(&self, action: &str, body: &str) -> Tried {
        let connected = match timeout(CONNECT_LIMIT, self.connect()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(reason)) => return Tried::Unsent(reason),
            Err(_) => return Tried::Unsent("no connection in time".into()),
        };
        match timeout(CALL_LIMIT, self.exchange(connected, body)).await {
            Ok(Ok((status, answer))) => self.judge(action, status, &answer),
            Ok(Err(reason)) => Tried::Unclear(reason),
            Err(_) => Tried::Unclear("no answer in time".into()),
        }
    }

    async fn connect(&self) -> std::result::Result<Box<dyn Stream>, String> {
        let address = (self.host.as_str(), self.port);
        let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| format!("no name for TLS: {error}"))?;
        let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::new(stream))
    }

    async fn exchange(&self, stream: Box<dyn Stream>, body: &str) -> std::result::Result<(StatusCode, Bytes), String> {
        let broken = |error: hyper::Error| format!("the connection broke: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = self.request(body).map_err(|error| format!("no such request: {error}"))?;
        let talk = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let limited = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            limited.map(|all| (status, all.to_bytes())).map_err(|error| format!("the answer broke off: {error}"))
        };
        // The connection is driven until the answer is there; it is not kept.
        tokio::pin!(talk);
        tokio::pin!(connection);
        tokio::select! {
            biased;
            done = &mut talk => done,
            _ = &mut connection => talk.await,
        }
    }

    fn request(&self, body: &str) -> std::result::Result<Request<Full<Bytes>>, http::Error> {
        let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let place = Place { host: &self.authority, path: &self.path, region: &self.region, service: SERVICE, at: &at };
        let signed = authorization(&place, FORM, body.as_bytes(), &self.credentials);
        let mut request = Request::post(self.path.as_str())
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, FORM)
            .header("x-amz-date", &at)
            .header(header::AUTHORIZATION, signed)
            .header(header::USER_AGENT, "hanse");
        if let Some(token) = &self.credentials.session_token {
            request = request.header("x-amz-security-token", token.as_str());
        }
        request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
    }

    fn judge(&self, action: &str, status: StatusCode, answer: &[u8]) -> Tried {
        let root = Node::parse(answer);
        if status.is_success() {
            return root.map_or_else(|| Tried::Unclear("answered with something that is no XML".into()), Tried::Answer);
        }
        let code = root.as_ref().and_then(|it| it.find("Code")).map_or("", Node::own_text).to_owned();
        let message = root.as_ref().and_then(|it| it.find("Message")).map_or("", Node::own_text);
        let words: String =
            self.credentials.mask(message).chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
        let said = if code.is_empty() { format!("HTTP {status}") } else { format!("{code}: {words}") };
        if status == StatusCode::TOO_MANY_REQUESTS || THROTTLED.contains(&code.as_str()) {
            return Tried::Throttled(said);
        }
        // Such refusals come as failures of the server; any other, a gateway's 503 too, may have had its effect.
        if (status.is_server_error() && !is_short(&code)) || code.is_empty() {
            return Tried::Unclear(said);
        }
        let error = classify(&code, self.about(action), said);
        Tried::Refused(Refused { code, error })
    }
}

/// Codes of a call that was one too many.
const THROTTLED: [&str; 7] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "RequestThrottledException",
    "EC2ThrottledException",
    "SlowDown",
];

/// What a person or a later try can do about a refusal: `said` is the cloud's code and words.
fn classify(code: &str, subject: String, said: String) -> AdapterError {
    let denied = |advice: &str| AdapterError::Denied { subject: subject.clone(), reason: format!("{said} ({advice})") };
    match code {
        "AuthFailure"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "UnrecognizedClientException" => {
            denied("the credentials are not the account's: check this cloud's credentials file on every replica")
        }
        "ExpiredToken" | "ExpiredTokenException" => denied("put fresh credentials into the file on every replica"),
        "RequestExpired" | "RequestInTheFuture" => denied("set this replica's clock: signatures hold for minutes"),
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "OperationNotPermitted" => {
            denied("give these credentials the right, docs/operations.md lists what is needed")
        }
        "OptInRequired" | "PendingVerification" | "Blocked" => denied("the provider must enable this account first"),
        code if is_short(code) => {
            let advice = "the provider is out of such machines there: it is tried again, or take another zone or type";
            AdapterError::Transient { subject, reason: format!("{said} ({advice})") }
        }
        "VolumeLimitExceeded" | "MaxIOPSLimitExceeded" => {
            denied("a limit of the account on disks: delete disks that no machine needs, or have the provider raise it")
        }
        code if is_limit(code) => denied("a limit of the account: delete machines, or have the provider raise it"),
        _ => AdapterError::Invalid { subject, reason: said },
    }
}

/// Whether a code says that the provider has no such machine left.
fn is_short(code: &str) -> bool {
    matches!(code, "InsufficientInstanceCapacity" | "InsufficientHostCapacity" | "Server.InsufficientInstanceCapacity")
}

/// Whether a code says that the account has as many as it may have.
fn is_limit(code: &str) -> bool {
    let is_named = code.ends_with("LimitExceeded") || code.ends_with("QuotaExceeded");
    is_named || matches!(code, "InsufficientFreeAddressesInSubnet" | "ResourceCountExceeded")
}

fn pause(attempt: u32) -> Duration {
    let whole = PAUSE_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(PAUSE_MAX);
    let mut dice = [0; 2];
    // Without dice the pause is only less spread.
    let _ = getrandom::fill(&mut dice);
    whole.mul_f64(0.5 + 0.5 * f64::from(u16::from_be_bytes(dice)) / f64::from(u16::MAX))
}

fn connector(credentials: &Credentials, subject: &str) -> Result<TlsConnector> {
    let wrong = |reason: String| AdapterError::Invalid { subject: subject.into(), reason };
    let file = match &credentials.ca_file {
        Some(file) => file.clone(),
        None => {
            let own = AUTHORITIES.iter().map(std::path::Path::new).find(|file| file.exists());
            let advice =
                "this replica's machine has no list of authorities: install ca-certificates, or name a `ca_file`";
            own.ok_or_else(|| wrong(advice.into()))?.to_path_buf()
        }
    };
    let mut roots = rustls::RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(&file);
    let read = read.map_err(|error| wrong(format!("`ca_file` {}: {error}", file.display())))?;
    for certificate in read {
        let certificate = certificate.map_err(|error| wrong(format!("`ca_file` {}: {error}", file.display())))?;
        // A machine's list may hold one that is of no use to us.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(wrong(format!("`ca_file` {} holds no certificate of an authority", file.display())));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn client() -> Client {
        Client::new("http://127.0.0.1:1/", "r", Credentials::for_tests("AK", "hush")).unwrap()
    }

    fn refusal(status: u16, code: &str) -> Tried {
        let text = format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>no, hush</Message></Error></Errors></Response>"
        );
        client().judge("Do", StatusCode::from_u16(status).unwrap(), text.as_bytes())
    }

    #[test]
    fn a_refusal_says_what_to_do_and_no_secret() {
        let cases = [
            ("AuthFailure", "Denied", "credentials file on every replica"),
            ("UnauthorizedOperation", "Denied", "the right"),
            ("InstanceLimitExceeded", "Denied", "have the provider raise it"),
            ("VcpuLimitExceeded", "Denied", "have the provider raise it"),
            ("VolumeLimitExceeded", "Denied", "delete disks"),
            ("RequestExpired", "Denied", "clock"),
            ("InsufficientInstanceCapacity", "Transient", "another zone"),
            ("InvalidAMIID.NotFound", "Invalid", "InvalidAMIID.NotFound"),
        ];
        for (code, kind, words) in cases {
            let Tried::Refused(Refused { error, code: seen }) = refusal(400, code) else { panic!("{code}") };
            let (debug, text) = (format!("{error:?}"), error.to_string());
            assert!(debug.starts_with(kind) && text.contains(words) && !debug.contains("hush"), "{debug}");
            assert_eq!(seen, code);
        }
        let Tried::Refused(Refused { error, .. }) = refusal(500, "InsufficientInstanceCapacity") else { panic!() };
        assert!(error.to_string().contains("another zone"), "{error}");
    }

    #[test]
    fn only_what_had_no_effect_counts_as_throttled() {
        for (status, code) in [(503, "RequestLimitExceeded"), (400, "Throttling"), (429, "")] {
            assert!(matches!(refusal(status, code), Tried::Throttled(_)), "{status} {code}");
        }
        for (status, code) in [(500, "InternalError"), (503, "Unavailable"), (503, ""), (502, ""), (403, "")] {
            assert!(matches!(refusal(status, code), Tried::Unclear(_)), "{status} {code}");
        }
    }

    #[test]
    fn endpoints_that_cannot_be_or_would_tell_are_refused() {
        for (endpoint, words) in [
            ("ec2.example", "write https"),
            ("http://ec2.example", "in the clear"),
            ("ftp://127.0.0.1", "write https"),
            ("not a url", "is no URL"),
        ] {
            let error = Client::new(endpoint, "r", Credentials::for_tests("AK", "hush")).err().unwrap().to_string();
            assert!(error.contains(words), "{endpoint}: {error}");
        }
    }

    #[test]
    fn pauses_grow_and_differ_and_end() {
        for attempt in 1..40 {
            let whole = PAUSE_FIRST.saturating_mul(1 << (attempt - 1).min(10)).min(PAUSE_MAX);
            let it = pause(attempt);
            assert!(whole / 2 <= it && it <= whole, "{attempt}: {it:?}");
        }
    }
}
