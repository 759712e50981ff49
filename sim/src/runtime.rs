//! The runtime openraft runs on here: turmoil's tokio with nothing left to chance.
//!
//! Two things of the usual runtime differ from run to run: the dice of election timeouts, which
//! [`DeterministicRng`] seeds, and tokio's `watch`, which wakes its waiters in an order it throws dice for. So `watch`
//! is our own: waiters wake in the order in which they came. openraft's selects are biased already.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt::watch::{self, RecvError, SendError};
use openraft_rt::{AsyncRuntime, OptionalSend, OptionalSync};
use openraft_rt_tokio::TokioRuntime;

/// The runtime of a simulated replica.
pub(crate) type SimRuntime = DeterministicRng<Ordered>;

/// tokio with an orderly `watch`.
#[derive(Debug)]
pub(crate) struct Ordered(TokioRuntime);

impl AsyncRuntime for Ordered {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = OrderedWatch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        unreachable!("the seeded wrapper answers this; an unseeded die would break the replay")
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

/// `watch` whose waiters wake in order.
#[derive(Debug)]
pub(crate) struct OrderedWatch;

struct Channel<T> {
    value: RwLock<T>,
    ends: Mutex<Ends>,
}

struct Ends {
    version: u64,
    senders: usize,
    receivers: usize,
    waiting: VecDeque<Waker>,
}

impl<T> Channel<T> {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Ref<'_, T> {
        Ref(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self, change: impl FnOnce(&mut Ends)) {
        let woken = {
            let mut ends = self.ends();
            change(&mut ends);
            std::mem::take(&mut ends.waiting)
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

/// A borrowed value.
#[derive(Debug)]
pub(crate) struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The writing end.
pub(crate) struct OrderedSender<T>(Arc<Channel<T>>);

impl<T> Clone for OrderedSender<T> {
    fn clone(&self) -> Self {
        self.0.ends().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for OrderedSender<T> {
    fn drop(&mut self) {
        let last = {
            let mut ends = self.0.ends();
            ends.senders -= 1;
            ends.senders == 0
        };
        if last {
            self.0.wake(|_| {});
        }
    }
}

/// The reading end.
pub(crate) struct OrderedReceiver<T> {
    channel: Arc<Channel<T>>,
    seen: u64,
}

impl<T> OrderedReceiver<T> {
    fn new(channel: &Arc<Channel<T>>, seen: u64) -> Self {
        channel.ends().receivers += 1;
        Self { channel: channel.clone(), seen }
    }
}

impl<T> Clone for OrderedReceiver<T> {
    fn clone(&self) -> Self {
        Self::new(&self.channel, self.seen)
    }
}

impl<T> Drop for OrderedReceiver<T> {
    fn drop(&mut self) {
        self.channel.ends().receivers -= 1;
    }
}

impl watch::Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = OrderedSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = OrderedReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Self::Sender<T>, Self::Receiver<T>) {
        let ends = Ends { version: 0, senders: 1, receivers: 0, waiting: VecDeque::new() };
        let channel = Arc::new(Channel { value: RwLock::new(init), ends: Mutex::new(ends) });
        let receiver = OrderedReceiver::new(&channel, 0);
        (OrderedSender(channel), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchSender<OrderedWatch, T> for OrderedSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.ends().receivers == 0 {
            return Err(SendError(value));
        }
        *self.0.value.write().unwrap_or_else(PoisonError::into_inner) = value;
        self.0.wake(|ends| ends.version += 1);
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = modify(&mut self.0.value.write().unwrap_or_else(PoisonError::into_inner));
        if modified {
            self.0.wake(|ends| ends.version += 1);
        }
        modified
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.0.read()
    }

    fn subscribe(&self) -> OrderedReceiver<T> {
        let seen = self.0.ends().version;
        OrderedReceiver::new(&self.0, seen)
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchReceiver<OrderedWatch, T> for OrderedReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        let Self { channel, seen } = self;
        poll_fn(|context| {
            let mut ends = channel.ends();
            if ends.version != *seen {
                *seen = ends.version;
                return Poll::Ready(Ok(()));
            }
            if ends.senders == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            if !ends.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                ends.waiting.push_back(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.channel.read()
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.seen = self.channel.ends().version;
        self.channel.read()
    }
}
