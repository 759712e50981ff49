//! What hosts are asked and what they answer, also in words.

use hanse_adapters_core::{AdapterError, FileSpec, HomeFile, InstanceKey, InstanceSpec, InstanceStatus, Piece};
use hanse_engines_core::{NodeHealth, Transaction};

use crate::chains::Taken;

/// What a host is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Inspect,
    MakeKeys(InstanceKey),
    /// Unless something newer than this generation is there, if one is named.
    Write(InstanceKey, Option<u64>, Vec<FileSpec>),
    Ensure(InstanceSpec),
    Look(InstanceKey),
    Health(InstanceKey),
    Validators(InstanceKey),
    Send(InstanceKey, Vec<u8>),
    Find(InstanceKey, String),
    /// The node is to take a seat among the validators, or to give it up.
    Seat(InstanceKey, bool),
    Stop(InstanceKey),
    Fence(InstanceKey, u64),
    /// Unless something newer than this generation is there.
    Remove(InstanceKey, u64),
    ListHome(InstanceKey),
    ReadPiece(InstanceKey, String, u64),
    /// Of a home that is fenced at exactly this generation.
    WritePiece(InstanceKey, u64, Piece),
    List(String),
}

impl Ask {
    /// Whether it changes anything: then no answer means that nothing is known.
    pub(crate) const fn changes(&self) -> bool {
        match self {
            Self::Inspect | Self::Look(_) | Self::Health(_) | Self::Validators(_) | Self::Find(..) => false,
            Self::List(_) | Self::ListHome(_) | Self::ReadPiece(..) => false,
            Self::Send(..)
            | Self::MakeKeys(_)
            | Self::Write(..)
            | Self::Ensure(_)
            | Self::Stop(_)
            | Self::Fence(..)
            | Self::Remove(..)
            | Self::WritePiece(..)
            | Self::Seat(..) => true,
        }
    }
}

/// What a host answers.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Inspected,
    Done,
    Identity(String),
    Seen(Option<InstanceStatus>),
    Health(Option<NodeHealth>),
    /// Names and keys; nothing if the node does not answer.
    Validators(Option<Vec<(String, String)>>),
    Taken(Taken),
    /// It is full, and may take it later.
    Full,
    Found(Option<Box<Transaction>>),
    List(Vec<InstanceStatus>),
    Home(Vec<HomeFile>),
    Piece(Vec<u8>),
}

/// An order in the trace.
pub(crate) fn words(ask: &Ask) -> String {
    match ask {
        Ask::Inspect => "inspect".into(),
        Ask::MakeKeys(key) => format!("make keys {}", key.object()),
        Ask::Write(key, None, files) => format!("write {} files of {}", files.len(), key.object()),
        Ask::Write(key, Some(generation), files) => {
            format!("write {} files of {} in generation {generation}", files.len(), key.object())
        }
        Ask::Ensure(spec) => format!("ensure {} generation {}", spec.key.object(), spec.generation),
        Ask::Look(key) => format!("look {}", key.object()),
        Ask::Health(key) => format!("health {}", key.object()),
        Ask::Validators(key) => format!("validators by {}", key.object()),
        Ask::Send(key, raw) => format!("send {} by {}", String::from_utf8_lossy(raw), key.object()),
        Ask::Find(key, hash) => format!("find {hash} by {}", key.object()),
        Ask::Stop(key) => format!("stop {}", key.object()),
        Ask::Fence(key, generation) => format!("stop {} below generation {generation}", key.object()),
        Ask::Remove(key, u64::MAX) => format!("remove {}", key.object()),
        Ask::Remove(key, upto) => format!("remove {} up to generation {upto}", key.object()),
        Ask::Seat(key, validates) => format!("have {} validate: {validates}", key.object()),
        Ask::ListHome(key) => format!("list the home of {}", key.object()),
        Ask::ReadPiece(key, path, _) => format!("read {path} of {}", key.object()),
        Ask::WritePiece(key, generation, piece) => {
            format!("write {} of {} in generation {generation}", piece.path, key.object())
        }
        Ask::List(cluster) => format!("list {cluster}"),
    }
}

/// Its outcome in the trace.
pub(crate) fn outcome(result: &Result<Told, AdapterError>) -> String {
    match result {
        Ok(Told::Seen(Some(InstanceStatus { generation, run, .. }))) => format!("generation {generation} {run:?}"),
        Ok(Told::Seen(None) | Told::Found(None)) => "nothing".into(),
        Ok(Told::Found(Some(tx))) => format!("{tx:?}"),
        Ok(Told::Taken(taken)) => format!("{taken:?}"),
        Ok(Told::Full) => "full".into(),
        Ok(_) => "done".into(),
        Err(error) => error.to_string(),
    }
}
