//! Homes that others made on a host, in which a node runs by their hands: looked at, taken over, given back.
//!
//! A home is taken over by its key: the file that holds it is set aside within the home, under a mark that says who has it, so that whatever
//! used to start the node cannot start it with that key. Nothing is copied before the process that ran there was seen to have ended, and
//! the owner's files stay where they are. [`Adapter::return_home`](crate::Adapter::return_home) is the way back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::RunOutput;

/// File in a home of others that says who has taken it over, or had.
pub const CLAIM_MARK: &str = "TAKEN-BY-HANSE.json";
/// What is put behind the name of a key's file that is set aside.
pub const SET_ASIDE: &str = ".taken-by-hanse";

/// A home of others, and what its ledger's driver knows of such homes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The folder, absolute.
    pub home: String,
    /// File of the home with the node's key: without it nothing signs in its name.
    pub key_file: String,
    /// File of the home that a running node holds open and locks.
    pub lock_file: String,
    /// Files of the home that its owner keeps: those that the driver writes anew, or never needs. One that ends with `/` is a folder with
    /// all that is below it.
    pub left: Vec<String>,
    /// Files of the home that go over, are changed by the driver there, and never come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edited: Vec<String>,
    /// What stands in the place of the key's file once that is set aside, if the ledger's program makes a new key where it finds none (and
    /// forgets what the old one has signed): something that it does not read as a key, so that it ends before it changes anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<String>,
}

impl Claim {
    /// Whether a file of the home stays its owner's and does not go over.
    pub fn leaves(&self, path: &str) -> bool {
        let covers = |left: &String| if left.ends_with('/') { path.starts_with(left.as_str()) } else { left == path };
        self.left.iter().any(covers)
    }
}

/// A process that holds a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id on the host; 0 of one that cannot be seen.
    pub pid: u32,
    /// Its command line, cut at a limit.
    pub command: String,
}

/// What was seen of a home of others; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeSeen {
    /// The folder without links in its path; empty if there is none.
    pub home: String,
    /// Why it cannot be taken over as it is (a link in it, a file that cannot be read); empty if it can.
    pub obstacle: String,
    /// Plain files in it.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Free bytes where instances are kept.
    pub disk_free_bytes: u64,
    /// Who holds it.
    pub holders: Vec<Holder>,
    /// Who has taken it over, by its mark; `None` if nobody has.
    pub taken_by: Option<String>,
    /// TCP ports that are listened at on the host, and whether it is by one that holds the home.
    pub listening: BTreeMap<u16, bool>,
    /// Content of the files that were asked for and are there.
    pub contents: BTreeMap<String, Vec<u8>>,
    /// What the program that was asked about the home printed; `None` if there is no home.
    pub said: Option<RunOutput>,
}
