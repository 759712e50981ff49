//! Names of things: every id has its own type, is checked when made, and is written as text.
//!
//! A label is a name a person chose (RFC 1034: lower-case letters, digits and inner hyphens, at most 63). A number is a
//! name the log gave (`p-1`, `op-1`, `n0`) and is ordered as a number. A key is a path of ids (`trade/supply-1/n0`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::rejection::Rejection;

/// Longest label (RFC 1034, section 3.1).
pub const LABEL_MAX: usize = 63;

/// Returns whether `text` is a label.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LABEL_MAX
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn invalid(field: &str, value: &str, rule: &str) -> Rejection {
    // A hostile name may be long; the rejection is kept in the deduplication window.
    let value: String = value.chars().take(80).collect();
    Rejection::InvalidName { field: field.into(), value, rule: rule.into() }
}

macro_rules! text_serde {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = Rejection;
            fn from_str(text: &str) -> Result<Self, Rejection> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Rejection;
            fn try_from(text: String) -> Result<Self, Rejection> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the id.
            ///
            /// # Errors
            /// `InvalidName` if the text is not a label.
            pub fn parse(text: &str) -> Result<Self, Rejection> {
                if is_label(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(invalid($field, text, "1 to 63 lower-case letters, digits and inner hyphens"))
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        text_serde!($name);
    };
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $field:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u64);

        impl $name {
            /// The id with this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the id.
            ///
            /// # Errors
            /// `InvalidName` if the text is not the prefix and a canonical number.
            pub fn parse(text: &str) -> Result<Self, Rejection> {
                text.strip_prefix($prefix)
                    .and_then(|n| n.parse().ok())
                    .map(Self)
                    .filter(|id| id.to_string() == text)
                    .ok_or_else(|| invalid($field, text, concat!($prefix, "<number>")))
            }

            /// The number.
            pub const fn number(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        text_serde!($name);
    };
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $field:literal, $sep:literal, $($part:ident: $type:ty),+) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            $(
                #[doc = concat!("The ", stringify!($part), ".")]
                pub $part: $type,
            )+
        }
        key!(@impl $name, $field, $($part: $type),+);
    };
    (@impl $name:ident, $field:literal, $outer:ident: $outer_type:ty, $inner:ident: $inner_type:ty) => {
        impl $name {
            /// The key of these parts.
            pub fn new($outer: $outer_type, $inner: $inner_type) -> Self {
                Self { $outer, $inner }
            }

            /// Returns the key of `outer/inner`.
            ///
            /// # Errors
            /// `InvalidName` if a part is missing or not a valid id.
            pub fn parse(text: &str) -> Result<Self, Rejection> {
                let (outer, inner) = text
                    .rsplit_once('/')
                    .ok_or_else(|| invalid($field, text, "ids joined by '/'"))?;
                Ok(Self { $outer: <$outer_type>::parse(outer)?, $inner: <$inner_type>::parse(inner)? })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.$outer, self.$inner)
            }
        }

        text_serde!($name);
    };
}

label!(
    /// Names a cloud: `east`.
    CloudId, "cloud"
);
label!(
    /// A customer of the platform.
    TenantId, "tenant"
);
label!(
    /// A group of tenants that votes.
    ConsortiumId, "consortium"
);
label!(
    /// A blockchain, unique within its consortium.
    ChainId, "chain"
);
label!(
    /// A machine that runs nodes.
    HostId, "host"
);
label!(
    /// A contract, unique within its chain.
    ContractId, "contract"
);
label!(
    /// A maker of software whose signatures are believed.
    PublisherId, "publisher"
);
label!(
    /// A price plan.
    PlanId, "plan"
);
number!(
    /// A node of a chain: `n0`, `n1`, ... in the order of the chain's specification.
    NodeId, "node", "n"
);
number!(
    /// A proposal of a consortium: `p-1`, `p-2`, ...
    ProposalId, "proposal", "p-"
);
number!(
    /// A long-running operation: `op-1`, `op-2`, ...; never used again.
    OperationId, "operation", "op-"
);
key!(
    /// Names a proposal: `trade/p-1`.
    ProposalKey, "proposal", "/", consortium: ConsortiumId, proposal: ProposalId
);
key!(
    /// Names a chain: `trade/supply-1`.
    ChainKey, "chain", "/", consortium: ConsortiumId, chain: ChainId
);
key!(
    /// Names a node: `trade/supply-1/n0`.
    NodeKey, "node", "/", chain: ChainKey, node: NodeId
);
key!(
    /// Names a contract: `trade/supply-1/registry`.
    ContractKey, "contract", "/", chain: ChainKey, contract: ContractId
);

/// Someone who acts: `name` (of the platform) or `name@tenant`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId {
    name: String,
    tenant: Option<TenantId>,
}

impl AccountId {
    /// Returns the id.
    ///
    /// # Errors
    /// `InvalidName` if the name or the tenant is not a label.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        let (name, tenant) = match text.split_once('@') {
            Some((name, tenant)) => (name, Some(TenantId::parse(tenant)?)),
            None => (text, None),
        };
        if !is_label(name) {
            return Err(invalid("account", text, "name or name@tenant, both labels"));
        }
        Ok(Self { name: name.to_owned(), tenant })
    }

    /// The part before `@`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tenant, `None` for an account of the platform.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.tenant {
            Some(tenant) => write!(f, "@{tenant}"),
            None => Ok(()),
        }
    }
}

text_serde!(AccountId);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Uuid);

        impl $name {
            /// Returns the id.
            ///
            /// # Errors
            /// `InvalidName` if the version of the UUID is another.
            pub fn new(uuid: Uuid) -> Result<Self, Rejection> {
                let check: fn(&Uuid) -> bool = $check;
                if check(&uuid) { Ok(Self(uuid)) } else { Err(invalid($field, &uuid.to_string(), $rule)) }
            }

            /// Returns the id.
            ///
            /// # Errors
            /// `InvalidName` if the text is not such a UUID.
            pub fn parse(text: &str) -> Result<Self, Rejection> {
                let uuid = Uuid::try_parse(text).map_err(|_| invalid($field, text, $rule))?;
                Self::new(uuid)
            }

            /// The UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = Rejection;
            fn from_str(text: &str) -> Result<Self, Rejection> {
                Self::parse(text)
            }
        }
    };
}

uuid_id!(
    /// Made by the client, one for all tries of one wish; a UUID of version 7, so ordered by the time it was made.
    RequestId, "request_id", |u| u.get_version_num() == 7, "a UUID of version 7"
);
uuid_id!(
    /// Names this platform for ever: it is part of every signed text and every process label.
    ClusterId, "cluster", |u| !u.is_nil(), "a UUID"
);
uuid_id!(
    /// Names one backup: chosen by the leader that made it.
    BackupId, "backup", |u| !u.is_nil(), "a UUID"
);
uuid_id!(
    /// Names one life of the platform: a restore begins another, under the same [`ClusterId`].
    IncarnationId, "incarnation", |u| !u.is_nil(), "a UUID"
);
