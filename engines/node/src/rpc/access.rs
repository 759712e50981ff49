//! Who may ask, and how often: host names, origins, tokens, rates. It only decides; `http` answers.
//!
//! A browser sends a page's requests to whatever its host name resolves to, so a name that this node was not given is
//! refused (DNS rebinding), and so is a page of an origin that is not listed. IP addresses and `localhost` cannot be
//! rebound and are always admitted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::flow::Flow;
use crate::config::RpcConfig;

/// Addresses whose rates are kept; of more than that, the idle ones are forgotten.
const CLIENTS_MAX: usize = 10_000;

/// A client as limits and logs know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClientName {
    Token(String),
    Address(IpAddr),
}

impl std::fmt::Display for ClientName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// One request's client. Travels with the request.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) is_websocket: bool,
    /// Of the connection.
    pub(super) flow: Arc<Flow>,
    bucket: Arc<Bucket>,
}

impl Client {
    /// Takes one call from what the client may do.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn take(&self) -> Result<(), Duration> {
        self.bucket.take(Instant::now())
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Host,
    Origin,
    NoToken,
    WrongToken,
}

impl Refusal {
    /// For metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Host => "this host name is not the node's; use an address, or list the name in rpc.hosts",
            Self::Origin => "pages of this origin may not ask this node; list it in rpc.origins",
            Self::NoToken => "this node asks for a token; send the header Authorization: Bearer TOKEN",
            Self::WrongToken => "the token is not one of this node's",
        }
    }
}

/// The rules, fixed at start, and the rates under way.
pub(super) struct Access {
    hosts: Vec<String>,
    origins: Vec<String>,
    tokens: Vec<(String, [u8; 32])>,
    per_second: u32,
    buckets: Mutex<BTreeMap<ClientName, Arc<Bucket>>>,
}

impl Access {
    /// From a checked configuration.
    pub(super) fn new(config: &RpcConfig) -> Self {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let tokens = config.tokens.iter().filter_map(|token| Some((token.name.clone(), token.digest()?)));
        Self {
            hosts: lower(&config.hosts),
            origins: lower(&config.origins),
            tokens: tokens.collect(),
            per_second: config.calls_per_second_max,
            buckets: Mutex::default(),
        }
    }

    /// Checks the `Host` header.
    pub(super) fn check_host(&self, host: Option<&str>) -> Result<(), Refusal> {
        // HTTP/1.1 has it always, and without one there is no name to be rebound.
        let Some(host) = host else { return Ok(()) };
        let name = without_port(host).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_address = bare.parse::<Ipv4Addr>().is_ok() || bare.parse::<Ipv6Addr>().is_ok();
        let is_listed = self.hosts.iter().any(|listed| listed == "*" || *listed == name);
        if is_address || name == "localhost" || is_listed { Ok(()) } else { Err(Refusal::Host) }
    }

    /// Checks the `Origin` header, which only browsers send.
    pub(super) fn check_origin(&self, origin: Option<&str>) -> Result<(), Refusal> {
        let Some(origin) = origin.map(str::to_ascii_lowercase) else { return Ok(()) };
        let is_listed = self.origins.iter().any(|listed| listed == "*" || *listed == origin);
        if is_listed { Ok(()) } else { Err(Refusal::Origin) }
    }

    /// Whether tokens are asked for.
    pub(super) fn wants_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Checks the `Authorization` header and says who asks.
    pub(super) fn identify(
        &self,
        authorization: Option<&str>,
        address: IpAddr,
        is_websocket: bool,
        flow: &Arc<Flow>,
    ) -> Result<Client, Refusal> {
        let name = if self.wants_tokens() {
            let given = authorization.ok_or(Refusal::NoToken)?;
            let (scheme, token) = given.split_once(' ').ok_or(Refusal::NoToken)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(Refusal::NoToken);
            }
            ClientName::Token(self.owner(token.trim()).ok_or(Refusal::WrongToken)?.to_owned())
        } else {
            ClientName::Address(address)
        };
        Ok(Client { is_websocket, flow: Arc::clone(flow), bucket: self.bucket(name) })
    }

    /// Compares with every token, each in constant time, so that the time tells nothing about any of them.
    fn owner(&self, token: &str) -> Option<&str> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let mut owner = None;
        for (name, wanted) in &self.tokens {
            let differing = wanted.iter().zip(digest.as_ref()).fold(0u8, |all, (a, b)| all | (a ^ b));
            if differing == 0 {
                owner = Some(name.as_str());
            }
        }
        owner
    }

    fn bucket(&self, name: ClientName) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock().expect("no holder of the rates' lock panics");
        if let Some(bucket) = buckets.get(&name) {
            return Arc::clone(bucket);
        }
        if buckets.len() >= CLIENTS_MAX {
            // Those in use are held by their connections, so forgetting the others gives nobody a second allowance.
            buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1);
        }
        let bucket = Arc::new(Bucket::new(self.per_second));
        buckets.insert(name, Arc::clone(&bucket));
        bucket
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an address in brackets are no port.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

/// A token bucket (in the networks' sense): `per_second` calls flow in, twice as many fit in.
struct Bucket {
    /// Nanoseconds that one call takes up; 0 is no limit.
    call_nanos: u64,
    /// When the bucket would be full again, if nothing more were taken.
    full_at: Mutex<Option<Instant>>,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        Self { call_nanos: 1_000_000_000u64.checked_div(u64::from(per_second)).unwrap_or(0), full_at: Mutex::new(None) }
    }

    fn take(&self, now: Instant) -> Result<(), Duration> {
        if self.call_nanos == 0 {
            return Ok(());
        }
        let call = Duration::from_nanos(self.call_nanos);
        // Two seconds' worth of calls, and never less than one call.
        let room = Duration::from_secs(2).max(call);
        let mut full_at = self.full_at.lock().expect("no holder of a bucket's lock panics");
        let after = full_at.unwrap_or(now).max(now) + call;
        match after.checked_duration_since(now + room) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *full_at = Some(after);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::TokenConfig;

    fn config() -> RpcConfig {
        RpcConfig { hosts: vec!["Node.Example".to_owned()], ..Default::default() }
    }

    #[test]
    fn addresses_and_listed_names_are_hosts() {
        let access = Access::new(&config());
        let good = [
            "127.0.0.1:8545",
            "127.0.0.1",
            "[::1]:8545",
            "[::1]",
            "localhost:1",
            "LOCALHOST",
            "10.1.2.3",
            "node.example:80",
        ];
        for host in good {
            assert_eq!(access.check_host(Some(host)), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8545", "localhost.evil.example", "node.example.evil", "127.0.0.1.evil"]
        {
            assert_eq!(access.check_host(Some(host)), Err(Refusal::Host), "{host}");
        }
        let any = Access::new(&RpcConfig { hosts: vec!["*".to_owned()], ..Default::default() });
        assert_eq!(any.check_host(Some("evil.example")), Ok(()));
    }

    #[test]
    fn a_page_is_let_in_only_if_its_origin_is_listed() {
        let access = Access::new(&RpcConfig { origins: vec!["https://a.example".to_owned()], ..Default::default() });
        assert_eq!(access.check_origin(None), Ok(()));
        assert_eq!(access.check_origin(Some("https://A.example")), Ok(()));
        for origin in ["http://a.example", "null", "https://a.example.evil"] {
            assert_eq!(access.check_origin(Some(origin)), Err(Refusal::Origin), "{origin}");
        }
    }

    #[test]
    fn only_the_right_token_opens() {
        let sha256 = hex::encode(ring::digest::digest(&ring::digest::SHA256, b"secret"));
        let tokens = vec![TokenConfig { name: "ops".to_owned(), sha256 }];
        let access = Access::new(&RpcConfig { tokens, ..Default::default() });
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let refusal = |header| access.identify(header, from, false, &Default::default()).err();
        assert_eq!(refusal(None), Some(Refusal::NoToken));
        assert_eq!(refusal(Some("secret")), Some(Refusal::NoToken));
        assert_eq!(refusal(Some("Basic secret")), Some(Refusal::NoToken));
        assert_eq!(refusal(Some("Bearer secre")), Some(Refusal::WrongToken));
        assert_eq!(refusal(Some("Bearer ")), Some(Refusal::WrongToken));
        assert_eq!(refusal(Some("Bearer secret")), None);
        assert_eq!(refusal(Some("bearer  secret")), None);
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let bucket = Bucket::new(10);
        let start = Instant::now();
        let burst = (0..100).take_while(|_| bucket.take(start).is_ok()).count();
        assert_eq!(burst, 20);
        let wait = bucket.take(start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(bucket.take(start + wait).is_ok());
        assert!(bucket.take(start + wait).is_err());
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).take_while(|_| bucket.take(later).is_ok()).count(), 9);
        let unlimited = Bucket::new(0);
        assert!((0..10_000).all(|_| unlimited.take(start).is_ok()));
    }

    #[test]
    fn one_address_has_one_allowance_over_all_its_connections() {
        let access = Access::new(&RpcConfig { calls_per_second_max: 1, ..Default::default() });
        let one = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let clients: Vec<_> =
            (0..3).map(|_| access.identify(None, one, false, &Default::default()).ok().unwrap()).collect();
        assert!(clients[0].take().is_ok());
        assert!(clients[1].take().is_ok());
        assert!(clients[2].take().is_err());
        let other =
            access.identify(None, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), false, &Default::default()).ok().unwrap();
        assert!(other.take().is_ok());
    }
}
