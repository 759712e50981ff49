//! What applying a request tells the world: events for watchers, records for history.

use serde::{Deserialize, Serialize};

use crate::audit::AuditRecord;
use crate::billing::UsageRecord;
use crate::operation::OperationLog;

/// How a resource changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Change {
    /// It is new.
    Created,
    /// It differs.
    Updated,
    /// It is gone.
    Deleted,
}

/// A resource changed; at most one event for a resource and entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Log entry.
    pub revision: u64,
    /// Resource name, e.g. `consortiums/trade/chains/supply-1/nodes/n0`.
    pub resource: String,
    /// How.
    pub change: Change,
}

/// A line of history to be appended to disk in the batch of the applied index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// One for each request that is not a replay.
    Audit(AuditRecord),
    /// Running time of a node.
    Usage(UsageRecord),
    /// A change of an operation's step.
    OperationLog(OperationLog),
}

impl Record {
    /// Its kind: name of the tree it is appended to.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Audit(_) => "audit",
            Self::Usage(_) => "usage",
            Self::OperationLog(_) => "operation",
        }
    }

    /// Number within its kind, from 1 on without gap; the same on every replay.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Audit(record) => record.seq,
            Self::Usage(record) => record.seq,
            Self::OperationLog(record) => record.seq,
        }
    }
}
