//! The thread that makes segments ahead of need and removes those that are not needed any more.
//!
//! Neither ever holds up an append while there is space: the next segment is there before the current one is full. When
//! one cannot be made, it is tried again each second, [`Pool::short`] says why, and what is left of the current segment is
//! a reserve for what consensus itself must write. When even that is used up, the log thread waits for room.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::{Disk, DiskFile};
use super::segment::{self, Options, Prepared};
use crate::error::StoreError;
use crate::space;

/// Between two tries to make a segment.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread is asked.
enum Order {
    /// Make this segment.
    Make(u64),
    /// Remove these, oldest first.
    Remove(Vec<u64>),
}

/// What the thread has for the log thread.
#[derive(Default)]
struct Shelf {
    next: Option<Prepared>,
    /// Why the next one cannot be made now.
    short: Option<Arc<std::io::Error>>,
    ended: bool,
    /// Nobody waits for room any more.
    given_up: bool,
}

/// The shelf and its signal.
#[derive(Clone, Default)]
pub(super) struct Pool {
    shelf: Arc<(Mutex<Shelf>, Condvar)>,
}

impl Pool {
    /// Gives why the next segment cannot be made; `None` while all is well.
    pub(super) fn short(&self) -> Option<String> {
        let shelf = self.shelf.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.short.as_ref().map(ToString::to_string)
    }

    fn change(&self, change: impl FnOnce(&mut Shelf)) {
        change(&mut self.shelf.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.shelf.1.notify_all();
    }

    /// Ends the waiting for room: what cannot be written then was never acknowledged.
    pub(super) fn give_up(&self) {
        self.change(|shelf| shelf.given_up = true);
    }

    /// Takes the segment, waiting while it is being made, and while there is no room for it.
    fn take(&self, number: u64) -> Result<Arc<dyn DiskFile>, StoreError> {
        let what = || format!("make segment {number} of the log");
        let mut shelf = self.shelf.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((_, file)) = shelf.next.take_if(|(found, _)| *found == number) {
                return Ok(file);
            }
            if let Some(error) = &shelf.short
                && (shelf.given_up || !space::is_full(error))
            {
                return Err(StoreError::Io { what: what(), source: error.clone() });
            }
            if shelf.ended {
                return Err(StoreError::Closed);
            }
            shelf = self.shelf.1.wait(shelf).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The log thread's side; the thread ends when this is dropped.
pub(super) struct Maker {
    orders: Sender<Order>,
    pool: Pool,
}

impl Maker {
    /// Starts the thread. `prepared` is what the open found.
    pub(super) fn spawn(
        disk: Arc<dyn Disk>,
        options: Options,
        prepared: Option<Prepared>,
        active: u64,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let pool = Pool::default();
        let (orders, queue) = channel();
        let maker = Self { orders, pool: pool.clone() };
        match prepared.filter(|(number, _)| *number == active + 1) {
            Some(found) => pool.change(|shelf| shelf.next = Some(found)),
            None => maker.order(Order::Make(active + 1)),
        }
        let work = Work { disk, options, pool };
        let thread = std::thread::Builder::new().name("hanse-log-files".into()).spawn(move || work.run(&queue))?;
        Ok((maker, thread))
    }

    /// Gives the view that others may keep.
    pub(super) fn pool(&self) -> Pool {
        self.pool.clone()
    }

    /// Takes the segment, and has the one after it made.
    pub(super) fn take(&self, number: u64) -> Result<Arc<dyn DiskFile>, StoreError> {
        let file = self.pool.take(number)?;
        self.order(Order::Make(number + 1));
        Ok(file)
    }

    /// Has segments removed that are not needed any more.
    pub(super) fn remove(&self, numbers: Vec<u64>) {
        self.order(Order::Remove(numbers));
    }

    fn order(&self, order: Order) {
        // The thread ends only after this side, unless it panicked: then `take` says so.
        let _ = self.orders.send(order);
    }
}

/// The thread.
struct Work {
    disk: Arc<dyn Disk>,
    options: Options,
    pool: Pool,
}

impl Work {
    fn run(self, queue: &Receiver<Order>) {
        let _end = Ended(self.pool.clone());
        let mut wanted: Option<u64> = None;
        loop {
            let order = match wanted {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => queue.recv_timeout(RETRY),
            };
            match order {
                Ok(Order::Make(number)) => wanted = Some(number),
                Ok(Order::Remove(numbers)) => self.remove(&numbers),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(number) = wanted
                && self.make(number)
            {
                wanted = None;
            }
        }
    }

    fn make(&self, number: u64) -> bool {
        match segment::create(self.disk.as_ref(), number, self.options.segment_bytes, &[]) {
            Ok(file) => {
                self.pool.change(|shelf| {
                    shelf.next = Some((number, file));
                    shelf.short = None;
                });
                true
            }
            Err(error) => {
                tracing::warn!(%error, number, "cannot make the next segment of the log; new requests are refused");
                self.pool.change(|shelf| shelf.short = Some(Arc::new(error)));
                false
            }
        }
    }

    /// A segment that stays is removed at the next open, or is only space.
    fn remove(&self, numbers: &[u64]) {
        for number in numbers {
            if let Err(error) = self.disk.remove(&segment::name(*number)) {
                tracing::warn!(%error, number, "cannot remove an old segment of the log");
                return;
            }
        }
        if let Err(error) = self.disk.sync() {
            tracing::warn!(%error, "cannot sync the folder of the log");
        }
    }
}

/// Says that the thread has ended, also by a panic.
struct Ended(Pool);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.change(|shelf| shelf.ended = true);
    }
}
