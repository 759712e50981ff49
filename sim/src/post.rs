//! Messages: turmoil's datagrams carry the number of a message, the message itself waits in the world.
//!
//! Datagrams are the harshest network Raft can be given: each has its own delay, so they overtake each other; on top they
//! are lost and doubled by seeded chance. turmoil's TCP would keep the order and, once cut, hang.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hanse_raft::ReplicaId;
use hanse_state::{Applied, Request, State};
use openraft::raft::TransferLeaderResponse;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tokio::sync::oneshot;
use turmoil::net::UdpSocket;

use crate::types::{SnapshotMeta, Types, Vote};
use crate::world::Shared;

/// Every host listens here.
pub(crate) const PORT: u16 = 9_000;

/// What a message says.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Append(AppendEntriesRequest<Types>),
    Appended(AppendEntriesResponse<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Voted(VoteResponse<Types>),
    Snapshot(Vote, SnapshotMeta, Arc<[u8]>),
    Installed(SnapshotResponse<Types>),
    Transfer(TransferLeaderRequest<Types>),
    Transferred(TransferLeaderResponse<Types>),
    Propose(Box<Request>),
    Proposed(Arc<Applied>),
    Read,
    ReadDone(Box<State>),
    NotLeader(Option<ReplicaId>),
    /// Refused by who leads, and not written down.
    TurnedAway(String),
    Hello,
    HelloToo,
    /// Who asks was removed for ever.
    Removed,
    /// It may or may not have had effect.
    Unknown,
}

impl Body {
    const fn name(&self) -> &'static str {
        match self {
            Self::Append(_) => "append",
            Self::Appended(_) => "appended",
            Self::Vote(_) => "vote",
            Self::PreVote(_) => "pre-vote",
            Self::Voted(_) => "voted",
            Self::Snapshot(..) => "snapshot",
            Self::Installed(_) => "installed",
            Self::Transfer(_) => "transfer",
            Self::Transferred(_) => "transferred",
            Self::Propose(_) => "propose",
            Self::Proposed(_) => "proposed",
            Self::Read => "read",
            Self::ReadDone(_) => "read-done",
            Self::NotLeader(_) => "not-leader",
            Self::TurnedAway(_) => "turned-away",
            Self::Hello => "hello",
            Self::HelloToo => "hello-too",
            Self::Removed => "removed",
            Self::Unknown => "unknown",
        }
    }
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// Host that sent it, where the answer goes.
    pub(crate) from: String,
    /// Number of the call.
    pub(crate) call: u64,
    pub(crate) is_answer: bool,
    pub(crate) body: Body,
}

impl Mail {
    /// The replica that sent it.
    pub(crate) fn replica(&self) -> Option<ReplicaId> {
        self.from.strip_prefix("replica-")?.parse().ok()
    }
}

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Body>>>>;

/// A host's mailbox; a clone is another handle.
#[derive(Clone)]
pub(crate) struct Post {
    name: String,
    socket: Arc<UdpSocket>,
    shared: Shared,
    waiting: Waiting,
}

impl Post {
    pub(crate) async fn open(name: &str, shared: Shared) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(("0.0.0.0", PORT)).await?);
        Ok(Self { name: name.to_owned(), socket, shared, waiting: Waiting::default() })
    }

    async fn send(&self, to: &str, call: u64, is_answer: bool, body: Body) -> io::Result<()> {
        let (number, copies) = {
            let mut world = self.shared.world();
            let weather = world.weather;
            let copies = if world.dice.chance(weather.lost) {
                0
            } else if world.dice.chance(weather.doubled) {
                2
            } else {
                1
            };
            let line = format!("{} -> {to} {} #{call}{}", self.name, body.name(), ["!", "", "*"][copies]);
            world.say(&line);
            world.mail_last += 1;
            let number = world.mail_last;
            if copies > 0 {
                world.mail.insert(number, Mail { from: self.name.clone(), call, is_answer, body });
            }
            (number, copies)
        };
        for _ in 0..copies {
            self.socket.send_to(&number.to_be_bytes(), (to, PORT)).await?;
        }
        Ok(())
    }

    /// Sends and waits for the answer.
    ///
    /// # Errors
    /// Any I/O error; timed out means that nothing is known.
    pub(crate) async fn call(&self, to: &str, body: Body, limit: Duration) -> io::Result<Body> {
        let call = {
            let mut world = self.shared.world();
            world.mail_last += 1;
            world.mail_last
        };
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(call, sender);
        let answered = async {
            self.send(to, call, false, body).await?;
            receiver.await.map_err(io::Error::other)
        };
        let answer = tokio::time::timeout(limit, answered).await;
        self.waiting().remove(&call);
        answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Answers a call.
    pub(crate) async fn answer(&self, mail: &Mail, body: Body) -> io::Result<()> {
        self.send(&mail.from, mail.call, true, body).await
    }

    /// Waits for the next call of another host; answers go to who waits for them.
    pub(crate) async fn next(&self) -> io::Result<Mail> {
        loop {
            let mut bytes = [0; 8];
            self.socket.recv_from(&mut bytes).await?;
            let mail = self.shared.world().mail.get(&u64::from_be_bytes(bytes)).cloned();
            let Some(mail) = mail else { continue };
            if !mail.is_answer {
                return Ok(mail);
            }
            if let Some(waiting) = self.waiting().remove(&mail.call) {
                // The caller may have given up.
                drop(waiting.send(mail.body));
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Body>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
