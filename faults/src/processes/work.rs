//! What clients do during a run, and what they note.
//!
//! A key is a plan of the billing service: a list of prices to which a call appends and of which nothing ever goes. Each
//! appended price is a number that is used once in a run. So one history tells at the end what was lost (acknowledged,
//! not in the list), what was done twice (twice in the list), what was done although it was refused, and whether the
//! list and its last number were ever seen out of order. Even keys are appended to without a condition. Odd keys are
//! compare-and-set: their prices hold from a moment in the far future, one millisecond after the last, so that of two
//! clients that saw the same last price only one can append.
//!
//! Clients retry as clients should: with the same request id, at any replica, and an answer that never came stays
//! unknown. In a fifth of the writes the first tries are broken off after a few milliseconds, so that the answer is
//! lost while the write goes on; in a fifth an acknowledged write is sent once more and must get the same answer.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hanse_client::{CallOptions, Client, ClientError, Code, Effect, new_request_id, pb, reason};

use super::chance::Chance;
use super::roster::Roster;

/// Where the compare-and-set keys' prices begin to hold: far in the future, in the year 2096.
const FAR_MS: i64 = 4_000_000_000_000;
/// Appends to one key; the product takes 1,000 prices a plan, and a search takes 2,000 calls a key well.
const WRITES_PER_KEY: u64 = 900;
/// Keys written to at once.
pub(crate) const KEYS_AT_ONCE: usize = 6;
/// Percent of writes whose first tries are broken off, and of acknowledged writes that are sent again.
const BROKEN_PERCENT: u64 = 20;
/// Longest that a broken-off try gets.
const BROKEN_AFTER_MS: u64 = 30;
/// Longest try. Shorter than the product's default, so that a replica that is down does not keep a client for long.
const ATTEMPT_MAX: Duration = Duration::from_millis(1_500);
/// Longest call with all its tries; then it is given up.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Pause between two tries.
const TRY_EVERY: Duration = Duration::from_millis(40);
/// Faults of answers that are kept for the report.
const WRONG_MAX: usize = 20;

/// One key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Id of the plan.
    pub(crate) plan: String,
    /// Token of the page that begins with it.
    pub(crate) page: String,
    /// Whether appends have a condition.
    pub(crate) is_cas: bool,
}

/// What was called and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Appended without a condition.
    Append {
        /// The number.
        value: u64,
    },
    /// Appended if the list had `expect` numbers.
    Cas {
        /// How many numbers were expected.
        expect: u64,
        /// The number.
        value: u64,
        /// Whether it was done; `None` if nobody knows.
        won: Option<bool>,
    },
    /// Seen.
    Read {
        /// How many numbers.
        count: u64,
        /// The last.
        last: u64,
        /// Hash over all of them in order.
        hash: u64,
    },
}

/// One line of the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Which key.
    pub(crate) key: usize,
    /// When the call began, in nanoseconds from the run's beginning.
    pub(crate) called: u64,
    /// When its answer came; `None` if none did.
    pub(crate) returned: Option<u64>,
    /// What.
    pub(crate) what: What,
}

/// The history and what the workers share.
#[derive(Debug)]
pub(crate) struct Book {
    /// The run's beginning.
    pub(crate) start: Instant,
    /// The keys.
    pub(crate) keys: Vec<Key>,
    history: Mutex<Vec<Record>>,
    wrong: Mutex<Vec<String>>,
    value: AtomicU64,
    writes: Vec<AtomicU64>,
    /// When the last acknowledged write came, in nanoseconds from the beginning.
    last_ack: AtomicU64,
    /// When the call of the last acknowledged write began.
    last_ack_called: AtomicU64,
    /// Acknowledged writes.
    pub(crate) acked: AtomicU64,
    /// Writes of which nobody knows.
    pub(crate) unknown: AtomicU64,
    /// Reads that were answered.
    pub(crate) reads: AtomicU64,
    /// Tries that were broken off or sent again with an id that had been sent before.
    pub(crate) retries: AtomicU64,
    /// Acknowledged writes that were sent again and answered.
    pub(crate) repeated: AtomicU64,
    /// Answers that said a replica has no room.
    pub(crate) exhausted: AtomicU64,
    /// Set while the workers shall rest.
    pub(crate) rest: AtomicBool,
    /// Set when the workers shall end.
    pub(crate) stop: AtomicBool,
}

impl Book {
    /// An empty history over `keys`.
    pub(crate) fn new(keys: Vec<Key>) -> Self {
        let writes = keys.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            start: Instant::now(),
            keys,
            history: Mutex::default(),
            wrong: Mutex::default(),
            value: AtomicU64::new(1_000),
            writes,
            last_ack: AtomicU64::new(0),
            last_ack_called: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            rest: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        }
    }

    /// Nanoseconds from the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// When the call began whose acknowledgement was the last one.
    pub(crate) fn last_ack_called(&self) -> u64 {
        self.last_ack_called.load(Ordering::SeqCst)
    }

    /// When the last acknowledgement came.
    pub(crate) fn last_ack(&self) -> u64 {
        self.last_ack.load(Ordering::SeqCst)
    }

    /// Takes the history and the faults of answers out.
    pub(crate) fn take(&self) -> (Vec<Record>, Vec<String>) {
        let history = std::mem::take(&mut *self.history.lock().unwrap_or_else(PoisonError::into_inner));
        let wrong = std::mem::take(&mut *self.wrong.lock().unwrap_or_else(PoisonError::into_inner));
        (history, wrong)
    }

    /// Notes an answer that no correct cluster gives.
    pub(crate) fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() < WRONG_MAX {
            eprintln!("hanse-faults: {what}");
            wrong.push(what);
        }
    }

    fn note(&self, key: usize, called: u64, answered: bool, what: What) {
        let returned = answered.then(|| self.now());
        if let Some(at) = returned
            && matches!(what, What::Append { .. } | What::Cas { won: Some(true), .. })
        {
            self.acked.fetch_add(1, Ordering::Relaxed);
            self.last_ack.fetch_max(at, Ordering::SeqCst);
            self.last_ack_called.fetch_max(called, Ordering::SeqCst);
        }
        if returned.is_none() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(what, What::Read { .. }) {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push(Record { key, called, returned, what });
    }

    /// A key that still takes writes, `None` when all are full.
    fn key(&self, chance: &mut Chance, at_once: usize) -> Option<usize> {
        let mut open = self.writes.iter().enumerate();
        let first = open.find(|(_, writes)| writes.load(Ordering::Relaxed) < WRITES_PER_KEY)?.0;
        let place = first + usize::try_from(chance.below(at_once as u64)).unwrap_or(0);
        let is_open = self.writes.get(place)?.load(Ordering::Relaxed) < WRITES_PER_KEY;
        Some(if is_open { place } else { first })
    }
}

/// How a worker works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Keys written to at once.
    pub(crate) keys_at_once: usize,
    /// Pause after each call.
    pub(crate) pause: Duration,
}

/// One client: calls until it is told to stop, at whichever replicas there are at the moment.
pub(crate) async fn worker(book: &Book, replicas: &Roster, pace: Pace, mut chance: Chance) {
    while !book.stop.load(Ordering::Relaxed) {
        if book.rest.load(Ordering::Relaxed) {
            tokio::time::sleep(TRY_EVERY).await;
            continue;
        }
        if let Some(key) = book.key(&mut chance, pace.keys_at_once) {
            let worker = Worker { book, replicas, key };
            match (chance.percent(50), book.keys[key].is_cas) {
                (true, false) => worker.append(&mut chance).await,
                (true, true) => worker.cas(&mut chance).await,
                (false, _) => drop(worker.read(&mut chance).await),
            }
        }
        tokio::time::sleep(pace.pause).await;
    }
}

struct Worker<'a> {
    book: &'a Book,
    replicas: &'a Roster,
    key: usize,
}

/// How a write ended.
enum End {
    Done,
    /// Refused by the log: the condition did not hold.
    Lost,
    /// It was never done.
    Nothing,
    Unknown,
}

impl Worker<'_> {
    async fn append(&self, chance: &mut Chance) {
        let value = self.book.value.fetch_add(1, Ordering::Relaxed);
        let called = self.book.now();
        match self.write(value, 0, chance).await {
            End::Done => self.book.note(self.key, called, true, What::Append { value }),
            End::Unknown => self.book.note(self.key, called, false, What::Append { value }),
            End::Nothing => {}
            End::Lost => self.book.wrong(format!("number {value} was refused although it had no condition")),
        }
    }

    async fn cas(&self, chance: &mut Chance) {
        let Some(expect) = self.read(chance).await else { return };
        let value = self.book.value.fetch_add(1, Ordering::Relaxed);
        let called = self.book.now();
        let from = FAR_MS + i64::try_from(expect).unwrap_or(i64::MAX);
        let (answered, won) = match self.write(value, from, chance).await {
            End::Done => (true, Some(true)),
            End::Lost => (true, Some(false)),
            End::Unknown => (false, None),
            End::Nothing => return,
        };
        self.book.note(self.key, called, answered, What::Cas { expect, value, won });
    }

    /// Reads the key and returns how many numbers it has.
    async fn read(&self, chance: &mut Chance) -> Option<u64> {
        let key = &self.book.keys[self.key];
        let called = self.book.now();
        let values = read(&self.replicas.pick(chance)?, key, self.book).await?;
        let count = values.len() as u64;
        let what = What::Read { count, last: values.last().copied().unwrap_or(0), hash: hash_of(&values) };
        self.book.note(self.key, called, true, what);
        Some(count)
    }

    async fn write(&self, value: u64, from: i64, chance: &mut Chance) -> End {
        let request = pb::SetPlanRequest {
            request_id: new_request_id(),
            plan: self.book.keys[self.key].plan.clone(),
            currency: "EUR".into(),
            rate_micro_per_node_hour: value,
            effective_from_ms: from,
            ..Default::default()
        };
        let end = Instant::now() + CALL_MAX;
        let mut unknown = false;
        let mut tries = 0u64;
        while Instant::now() < end && !(self.book.stop.load(Ordering::Relaxed) && tries > 2) {
            let cut = tries < 2 && chance.percent(BROKEN_PERCENT);
            let limit = if cut { Duration::from_millis(chance.between(1, BROKEN_AFTER_MS)) } else { ATTEMPT_MAX };
            if unknown {
                self.book.retries.fetch_add(1, Ordering::Relaxed);
            }
            tries += 1;
            let Some(replica) = self.replicas.pick(chance) else { break };
            match send(&replica, request.clone(), limit).await {
                Sent::Answer(revision) => {
                    self.book.writes[self.key].fetch_add(1, Ordering::Relaxed);
                    self.again(&request, revision, chance).await;
                    return End::Done;
                }
                Sent::Refused(error) if error.field == "effective_from" => return End::Lost,
                Sent::Refused(error) if error.code == Code::ResourceExhausted => {
                    self.book.exhausted.fetch_add(1, Ordering::Relaxed);
                }
                // Said before the log by a leader whose clock is an hour behind: it says nothing of an earlier try.
                Sent::Refused(error) if error.field == "request_id" => break,
                Sent::Refused(error) => {
                    self.book.wrong(format!("number {value} got an answer that does not belong here: {error}"));
                    break;
                }
                Sent::NotDone => {}
                Sent::Unknown => unknown = true,
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
        if unknown {
            self.book.writes[self.key].fetch_add(1, Ordering::Relaxed);
            End::Unknown
        } else {
            End::Nothing
        }
    }

    /// Sends an acknowledged write once more, now and then: it must get the answer it had.
    async fn again(&self, request: &pb::SetPlanRequest, revision: u64, chance: &mut Chance) {
        if !chance.percent(BROKEN_PERCENT) {
            return;
        }
        let Some(replica) = self.replicas.pick(chance) else { return };
        match send(&replica, request.clone(), ATTEMPT_MAX).await {
            Sent::Answer(second) if second != revision => {
                let value = request.rate_micro_per_node_hour;
                self.book.wrong(format!("number {value} was done in entry {revision} and, asked again, in {second}"));
            }
            Sent::Answer(_) => drop(self.book.repeated.fetch_add(1, Ordering::Relaxed)),
            Sent::Refused(error) if error.field == "request_id" || error.code == Code::ResourceExhausted => {}
            Sent::Refused(error) => self.book.wrong(format!("an acknowledged write is refused when repeated: {error}")),
            Sent::NotDone | Sent::Unknown => {}
        }
    }
}

enum Sent {
    /// Done, in that entry.
    Answer(u64),
    Refused(ClientError),
    NotDone,
    Unknown,
}

async fn send(replica: &Client, request: pb::SetPlanRequest, limit: Duration) -> Sent {
    let options = CallOptions { overall: Some(ATTEMPT_MAX), single_attempt: true, ..CallOptions::default() };
    match tokio::time::timeout(limit, replica.call_with(request, options)).await {
        Err(_) => Sent::Unknown,
        Ok(Ok(answer)) => Sent::Answer(answer.header.map_or(0, |header| header.revision)),
        Ok(Err(error)) if error.effect == Effect::Unknown => Sent::Unknown,
        Ok(Err(error)) if no_answer(&error) => Sent::NotDone,
        Ok(Err(error)) => Sent::Refused(error),
    }
}

/// Whether an error only says that this replica cannot answer now.
pub(crate) fn no_answer(error: &ClientError) -> bool {
    matches!(error.code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
        || matches!(error.reason.as_str(), reason::UNREACHABLE | reason::OUTCOME_UNKNOWN)
}

/// Reads a key from one replica, linearizably; `None` if it gave no answer.
pub(crate) async fn read(replica: &Client, key: &Key, book: &Book) -> Option<Vec<u64>> {
    let options = CallOptions { overall: Some(ATTEMPT_MAX), single_attempt: true, ..CallOptions::default() };
    let request = pb::ListPlansRequest { page_size: 1, page_token: key.page.clone() };
    match replica.call_with(request, options).await {
        Ok(answer) => {
            let plan = answer.plans.into_iter().next().filter(|plan| plan.plan == key.plan);
            if plan.is_none() {
                book.wrong(format!("{} is gone", key.plan));
            }
            plan.map(|plan| plan.rates.iter().map(|rate| rate.rate_micro_per_node_hour).collect())
        }
        Err(error) if no_answer(&error) || error.code == Code::ResourceExhausted => None,
        Err(error) => {
            book.wrong(format!("a read got an answer that does not belong here: {error} ({:?})", error.code));
            None
        }
    }
}

/// Makes `count` keys with one number each; returns them with the tokens of their pages.
///
/// # Errors
/// The first call that fails for good.
pub(crate) async fn make_keys(client: &Client, count: usize) -> Result<Vec<Key>, ClientError> {
    let mut keys = Vec::new();
    for number in 0..count {
        let (plan, is_cas) = (format!("k{number:03}"), number % 2 == 1);
        let effective_from_ms = if is_cas { FAR_MS } else { 0 };
        let request = pb::SetPlanRequest {
            plan: plan.clone(),
            currency: "EUR".into(),
            rate_micro_per_node_hour: number as u64,
            effective_from_ms,
            ..Default::default()
        };
        client.call(request).await?;
        keys.push(Key { plan, page: String::new(), is_cas });
    }
    for number in 1..count {
        let page_token = keys[number - 1].page.clone();
        let page = client.call(pb::ListPlansRequest { page_size: 1, page_token }).await?;
        keys[number].page = page.next_page_token;
    }
    Ok(keys)
}

/// Hash over numbers in order (FNV-1a): two readers that saw the same saw the same hash.
pub(crate) fn hash_of(values: &[u64]) -> u64 {
    values.iter().fold(HASH_START, |hash, value| hash_next(hash, *value))
}

/// Hash of nothing.
pub(crate) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Hash of what `hash` is of and one number more.
pub(crate) fn hash_next(hash: u64, value: u64) -> u64 {
    value.to_le_bytes().iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
