//! Which cluster versions the replicas of the membership speak, and what may be proposed because of it.
//!
//! Every call and every answer between replicas says what its sender's build speaks; a build from before there were
//! versions says nothing, which stands for the first. Before the version of the cluster is set, all members are asked at
//! that moment, learners too: nothing is remembered, so nothing can be out of date, and who does not answer is not known
//! to speak anything. A caller that does not speak the version the cluster is at is refused and told so.
//!
//! What this never does: raise a version, or stop a member that is only slow.

use std::collections::BTreeMap;
use std::fmt;

use hanse_state::cluster::version::{self, SPOKEN, Version, Versions};
use hanse_state::{Command, State};
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::OwnedMutexGuard;

use crate::error::{ProposeError, ReadError};
use crate::replica::Replica;
use crate::types::ReplicaId;

/// Those that keep the cluster from being put at a version; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unspoken {
    /// The version.
    pub version: Version,
    /// Who, and what each speaks; `None`: it gave no answer.
    pub by: BTreeMap<ReplicaId, Option<Versions>>,
}

impl fmt::Display for Unspoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not every replica is known to speak cluster version {}: ", self.version)?;
        for (place, (id, versions)) in self.by.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match versions {
                Some(versions) => write!(f, "{comma}replica {id} speaks {versions}")?,
                None => write!(f, "{comma}replica {id} does not answer")?,
            }
        }
        Ok(())
    }
}

/// Reads what a message says of its sender's build.
pub(crate) fn said(oldest: u32, newest: u32) -> Versions {
    let version = |number: u32| Version(u16::try_from(number).unwrap_or(u16::MAX));
    if newest == 0 { Versions::UNSAID } else { Versions { oldest: version(oldest), newest: version(newest) } }
}

/// What this build says of itself, oldest and newest.
pub(crate) fn own() -> (u32, u32) {
    (SPOKEN.oldest.0.into(), SPOKEN.newest.0.into())
}

impl Replica {
    /// Asks every member, learners too, which versions its running process speaks; `None`: it gave no answer in time.
    pub async fn spoken(&self) -> BTreeMap<ReplicaId, Option<Versions>> {
        let metrics = self.raft_parts().0.metrics().borrow_watched().clone();
        let members = metrics.membership_config.nodes();
        let ask = members.map(|(id, member)| async move {
            let heard = if *id == self.id() { Some(SPOKEN) } else { self.network().versions(*id, member).await };
            (*id, heard)
        });
        futures::future::join_all(ask).await.into_iter().collect()
    }

    /// Checks that every member, learners too, speaks a version at this moment.
    ///
    /// # Errors
    /// [`Unspoken`] names those that do not, or did not answer.
    pub async fn check_spoken(&self, version: Version) -> Result<(), Unspoken> {
        let mut by = self.spoken().await;
        by.retain(|_, versions| versions.is_none_or(|it| !it.contains(version)));
        if by.is_empty() { Ok(()) } else { Err(Unspoken { version, by }) }
    }

    /// Checks that every replica can read a command: it came with the cluster's version or an older one, or it sets the
    /// version and all were just heard to speak that one. The last word before a request enters the log; while what it
    /// gives is held, no member comes or gets a vote.
    pub(crate) async fn check_readable(&self, command: &Command) -> Result<Option<OwnedMutexGuard<()>>, ProposeError> {
        let Some(version) = command.sets_version() else {
            let check = |state: &State| version::check(state, command).map_err(ProposeError::TooNew);
            if self.core().ask_state(check).is_err() {
                // This state may be behind: only a majority's word is told.
                check(&*self.read().await.map_err(unread)?)?;
            }
            return Ok(None);
        };
        // Whoever speaks the version that the command came with can read the command.
        let version = version.max(command.since());
        if version.is_first() {
            return Ok(None);
        }
        if self.is_leader().is_none() {
            return Err(ProposeError::NotLeader { leader: self.known_leader() });
        }
        let turn = self.raft_parts().1.turn.clone().lock_owned().await;
        self.check_spoken(version).await.map_err(ProposeError::Unspoken)?;
        Ok(Some(turn))
    }

    /// Checks that a member is not heard to speak less than the version the cluster is at; as a voter it could only stand
    /// still.
    ///
    /// # Errors
    /// [`Unspoken`]; not for one that gives no answer.
    pub async fn check_speaks(&self, id: ReplicaId) -> Result<(), Unspoken> {
        let version = self.core().ask_state(State::version);
        match self.spoken().await.remove(&id).flatten() {
            Some(versions) if !versions.contains(version) => {
                Err(Unspoken { version, by: BTreeMap::from([(id, Some(versions))]) })
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn unread(error: ReadError) -> ProposeError {
    match error {
        ReadError::NotLeader { leader } => ProposeError::NotLeader { leader },
        ReadError::Unavailable(why) => ProposeError::Unavailable(why),
        ReadError::Stopped => ProposeError::Stopped,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::pb::{Answer, Call};
    use prost::Message as _;

    /// What a build of version 1 sent, frozen: it says nothing of versions.
    const CALL_V1: &str = "0a047465737410021803220201c02a083061306130613061";
    /// The same of builds of versions 2, 3 and 4.
    const CALL_V2: &str = "0a047465737410021803220201c02a08306130613061306138014002";
    const CALL_V3: &str = "0a047465737410021803220201c02a08306130613061306138014003";
    const CALL_V4: &str = "0a047465737410021803220201c02a08306130613061306138014004";
    const CALL_V5: &str = "0a047465737410021803220201c02a08306130613061306138014005";
    const CALL_V6: &str = "0a047465737410021803220201c02a08306130613061306138014006";

    fn call(speaks_oldest: u32, speaks_newest: u32) -> Call {
        Call {
            cluster: "test".into(),
            sender: 2,
            target: 3,
            body: vec![1, 0xc0],
            sender_incarnation: "0a0a0a0a".into(),
            target_incarnation: String::new(),
            speaks_oldest,
            speaks_newest,
        }
    }

    #[test]
    fn who_says_nothing_speaks_the_first_version() {
        let (oldest, newest) = own();
        let [second, third, fourth, fifth] = [2, 3, 4, 5].map(|newest| Versions { newest: Version(newest), ..SPOKEN });
        for (frozen, call, spoken) in [
            (CALL_V1, call(0, 0), Versions::UNSAID),
            (CALL_V2, call(1, 2), second),
            (CALL_V3, call(1, 3), third),
            (CALL_V4, call(1, 4), fourth),
            (CALL_V5, call(1, 5), fifth),
            (CALL_V6, call(oldest, newest), SPOKEN),
        ] {
            assert_eq!(hex::encode(call.encode_to_vec()), frozen);
            let read = Call::decode(hex::decode(frozen).unwrap().as_slice()).unwrap();
            assert_eq!(said(read.speaks_oldest, read.speaks_newest), spoken);
        }
        let silent = Answer::decode([0x08, 0x03].as_slice()).unwrap();
        assert_eq!(said(silent.speaks_oldest, silent.speaks_newest), Versions::UNSAID);
        // Numbers that no build has yet are not mistaken for small ones.
        assert!(!said(1 << 20, 1 << 20).contains(Version::NEWEST));
    }

    #[test]
    fn those_in_the_way_are_named() {
        let by = BTreeMap::from([(ReplicaId(2), Some(Versions::UNSAID)), (ReplicaId(3), None)]);
        let words = Unspoken { version: Version(2), by }.to_string();
        assert_eq!(
            words,
            "not every replica is known to speak cluster version 2: replica 2 speaks 1, replica 3 does not answer"
        );
    }
}
