//! The latest changes, kept so that a watcher that lost its connection goes on where it was.
//!
//! One task a replica follows what the log tells and keeps the last [`EVENTS_MAX`] revisions with changes; watchers read
//! from it at their own pace by revision. Whoever asks for changes that are no longer kept is told to read everything
//! again. A slow watcher costs nothing: there is no queue per watcher.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hanse_raft::{Changes, Notice, Replica};
use hanse_state::Event;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Revisions with changes that are kept.
const EVENTS_MAX: usize = 8_192;

/// Revisions given to a watcher at once.
const BATCH_MAX: usize = 256;

/// What is kept; a clone is another handle.
#[derive(Clone)]
pub(crate) struct EventLog {
    kept: Arc<Mutex<Kept>>,
    reached: watch::Receiver<u64>,
}

#[derive(Default)]
struct Kept {
    /// Changes with a revision at or below it are not kept (any more).
    floor: u64,
    /// By revision, ascending.
    latest: VecDeque<(u64, Arc<[Event]>)>,
}

/// What a watcher gets next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Changes in order, and the revision up to which they are complete; perhaps none.
    Events(Vec<Event>, u64),
    /// Changes after the asked revision are gone: read again, then go on from this revision.
    Resync(u64),
}

impl EventLog {
    /// Begins to keep what `replica` tells, until `shutdown`.
    pub(crate) fn spawn(replica: Replica, shutdown: CancellationToken) -> Self {
        // Subscribed before the revision is read: every later change is heard, an earlier one heard as well is harmless.
        let mut notices = replica.watch_events();
        let floor = replica.local().revision;
        let (sender, reached) = watch::channel(floor);
        let kept = Arc::new(Mutex::new(Kept { floor, latest: VecDeque::new() }));
        let this = Self { kept: kept.clone(), reached };
        tokio::spawn(async move {
            loop {
                let notice = tokio::select! {
                    () = shutdown.cancelled() => return,
                    notice = notices.recv() => notice,
                };
                let at = match notice {
                    Ok(Notice::Events(changes)) => lock(&kept).push_all(&changes),
                    Ok(Notice::Reset { revision }) => lock(&kept).forget(revision),
                    Err(RecvError::Lagged(_)) => lock(&kept).forget(replica.local().revision),
                    Err(RecvError::Closed) => return,
                };
                sender.send_replace(at);
            }
        });
        this
    }

    /// The revision that has been reached.
    pub(crate) fn reached(&self) -> u64 {
        *self.reached.borrow()
    }

    /// Follows the revision that has been reached.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.reached.clone()
    }

    /// Returns the changes after `revision`.
    pub(crate) fn after(&self, revision: u64) -> Next {
        lock(&self.kept).after(revision)
    }
}

fn lock(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn push_all(&mut self, changes: &[Changes]) -> u64 {
        for Changes { revision, events } in changes {
            self.push(*revision, events.clone());
        }
        self.last()
    }

    fn push(&mut self, revision: u64, events: Arc<[Event]>) -> u64 {
        let last = self.last();
        if revision <= last {
            return last;
        }
        self.latest.push_back((revision, events));
        if self.latest.len() > EVENTS_MAX
            && let Some((dropped, _)) = self.latest.pop_front()
        {
            self.floor = dropped;
        }
        revision
    }

    fn forget(&mut self, revision: u64) -> u64 {
        self.latest.clear();
        self.floor = self.floor.max(revision);
        self.floor
    }

    fn last(&self) -> u64 {
        self.latest.back().map_or(self.floor, |(revision, _)| *revision)
    }

    fn after(&self, revision: u64) -> Next {
        if revision < self.floor {
            return Next::Resync(self.last());
        }
        let from = self.latest.partition_point(|(at, _)| *at <= revision);
        let batch: Vec<_> = self.latest.iter().skip(from).take(BATCH_MAX).collect();
        let until = batch.last().map_or(revision, |(at, _)| *at);
        Next::Events(batch.into_iter().flat_map(|(_, events)| events.iter().cloned()).collect(), until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hanse_state::Change;

    fn event(revision: u64) -> Arc<[Event]> {
        vec![Event { revision, resource: format!("tenants/t{revision}"), change: Change::Created }].into()
    }

    #[test]
    fn a_watcher_goes_on_where_it_was_or_is_told_to_read_again() {
        let mut kept = Kept { floor: 10, latest: VecDeque::new() };
        assert_eq!(kept.after(10), Next::Events(Vec::new(), 10));
        assert_eq!(kept.after(9), Next::Resync(10));
        kept.push(12, event(12));
        kept.push(15, event(15));
        assert_eq!(kept.push(11, event(11)), 15, "an old notice changes nothing");
        assert_eq!(kept.after(12), Next::Events(event(15).to_vec(), 15));
        assert_eq!(kept.after(20), Next::Events(Vec::new(), 20));
        kept.forget(30);
        assert_eq!(kept.after(15), Next::Resync(30));
        assert_eq!(kept.after(30), Next::Events(Vec::new(), 30));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        for revision in 1..=EVENTS_MAX as u64 + 100 {
            kept.push(revision, event(revision));
        }
        assert_eq!((kept.latest.len(), kept.floor), (EVENTS_MAX, 100));
        let Next::Events(events, until) = kept.after(100) else { panic!("100 is the floor") };
        assert_eq!((events.len(), until), (BATCH_MAX, 100 + BATCH_MAX as u64));
    }
}
