//! Many requests in one entry, and many reads in one round.
//!
//! Requests that arrive while an entry is on its way wait together and become the next entry, so that one fsync and one
//! round to the peers carry them all; a request that finds nothing on its way is sent at once. After an entry of several the
//! first request of the next one lets the tasks that are ready go first: the others have most often arrived with it, and would
//! else have to wait for a whole round. One entry is on its way at a
//! time: a second would only halve what each carries (measured: a tenth more processor time for each write). Reads that arrive while a
//! majority is being asked wait together for the next round: a round that began before a read was asked says nothing
//! about it.
//!
//! An entry of one request is that request's encoding, as before there were batches. An entry of several is
//! `B · version · (length as four bytes, big end first · request)*`.
//!
//! What this never does: hold a request back for what has not arrived, look into one, or mix up the answers' order.

use std::sync::Arc;

use hanse_state::{Applied, State};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::{ProposeError, ReadError};
use crate::replica::{ENTRY_BYTES_MAX, Shared};
use crate::types::EntryBytes;

/// First byte of an entry of several requests; a single request begins with `Q`.
const MAGIC: u8 = b'B';
/// Version of the format.
const VERSION: u8 = 1;
/// Bytes before the first request.
const HEAD: usize = 2;
/// Bytes before each request.
const LENGTH: usize = 4;
/// Requests in one entry at most: what one publication of the state may hold up.
const REQUESTS_MAX: usize = 256;
/// A request that waits to be sent.
pub(crate) struct Waiting {
    pub(crate) bytes: Vec<u8>,
    pub(crate) answer: oneshot::Sender<Result<Applied, ProposeError>>,
}

/// A read that waits for a round.
pub(crate) type WaitingRead = oneshot::Sender<Result<Arc<State>, ReadError>>;

type Answers = Vec<oneshot::Sender<Result<Applied, ProposeError>>>;

/// Gives the entry of some requests.
fn join(requests: &[Vec<u8>]) -> Vec<u8> {
    let length = requests.iter().map(|request| LENGTH + request.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(HEAD + length);
    bytes.extend_from_slice(&[MAGIC, VERSION]);
    for request in requests {
        let length = u32::try_from(request.len()).expect("a request is at most ENTRY_BYTES_MAX long");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(request);
    }
    bytes
}

/// Gives the requests of an entry, in order.
///
/// # Errors
/// In words, if it is not one that this version writes.
pub(crate) fn split(entry: &[u8]) -> Result<Vec<&[u8]>, String> {
    if entry.first() != Some(&MAGIC) {
        return Ok(vec![entry]);
    }
    let [_, version, rest @ ..] = entry else { return Err("a batch without a version".into()) };
    if *version != VERSION {
        return Err(format!("a batch of version {version}, this build knows {VERSION}: upgrade this replica"));
    }
    let (mut rest, mut requests) = (rest, Vec::new());
    while !rest.is_empty() {
        let Some((length, body)) = rest.split_first_chunk::<LENGTH>() else { return Err("a batch cut short".into()) };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((request, after)) = body.split_at_checked(length) else { return Err("a batch cut short".into()) };
        requests.push(request);
        rest = after;
    }
    if requests.is_empty() { Err("an empty batch".into()) } else { Ok(requests) }
}

/// Gives the revision of the next request, which is in the entry at `index`: that index, or the next number where a batch
/// has run ahead of the log. A log without batches so gives the revisions that it gave before there were any.
pub(crate) fn revision(index: u64, state: &State) -> u64 {
    index.max(state.revision + 1)
}

/// Gives the example of the format that is kept for ever.
pub(crate) fn example() -> Vec<u8> {
    join(&[b"Qfirst".to_vec(), b"Qsecond".to_vec()])
}

/// Sends what waits until `end`; what is left then gets the answer "stopped".
pub(crate) async fn send(shared: Arc<Shared>, mut queue: mpsc::Receiver<Waiting>, end: CancellationToken) {
    let (mut over, mut company): (Option<Waiting>, bool) = (None, false);
    loop {
        let first = match over.take() {
            Some(first) => Some(first),
            None => tokio::select! {
                biased;
                () = end.cancelled() => return,
                first = queue.recv() => first,
            },
        };
        let Some(first) = first else { return };
        if company {
            tokio::task::yield_now().await;
        }
        let (entry, answers, more) = collect(first, &mut queue);
        over = more;
        company = answers.len() > 1;
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            () = one(&shared, entry, answers) => {}
        }
    }
}

/// Takes what waits into one entry; gives what no longer fits.
fn collect(first: Waiting, queue: &mut mpsc::Receiver<Waiting>) -> (Vec<u8>, Answers, Option<Waiting>) {
    let mut size = HEAD + LENGTH + first.bytes.len();
    let mut answers = vec![first.answer];
    let mut requests = vec![first.bytes];
    let mut over = None;
    while requests.len() < REQUESTS_MAX
        && let Ok(waiting) = queue.try_recv()
    {
        // Whoever no longer waits was at most told that the outcome is unknown: it need not be sent.
        if waiting.answer.is_closed() {
            continue;
        }
        size += LENGTH + waiting.bytes.len();
        if size > ENTRY_BYTES_MAX {
            over = Some(waiting);
            break;
        }
        answers.push(waiting.answer);
        requests.push(waiting.bytes);
    }
    let entry = match requests.len() {
        1 => requests.swap_remove(0),
        _ => join(&requests),
    };
    (entry, answers, over)
}

async fn one(shared: &Shared, entry: Vec<u8>, answers: Answers) {
    let told = match shared.write(EntryBytes(entry.into())).await {
        Ok(applied) if applied.len() == answers.len() => {
            for (answer, applied) in answers.into_iter().zip(applied) {
                // The caller may have stopped waiting; the request stands all the same.
                let _ = answer.send(Ok(applied));
            }
            return;
        }
        Ok(applied) => ProposeError::OutcomeUnknown(format!("{} answers to {} requests", applied.len(), answers.len())),
        Err(error) => error,
    };
    for answer in answers {
        let _ = answer.send(Err(told.clone()));
    }
}

/// Answers what reads wait until `end`, one round to a majority for all that wait when it begins.
pub(crate) async fn read(shared: Arc<Shared>, mut queue: mpsc::Receiver<WaitingRead>, end: CancellationToken) {
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            count = queue.recv_many(&mut waiting, REQUESTS_MAX * 4) => if count == 0 {
                return;
            }
        }
        let found = shared.confirm().await;
        for answer in waiting.drain(..) {
            let _ = answer.send(found.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_joined_is_split_alike() {
        assert_eq!(split(&example()).unwrap(), [b"Qfirst".as_slice(), b"Qsecond"]);
        assert_eq!(split(b"Qalone").unwrap(), [b"Qalone"]);
        let whole = example();
        for cut in 1..whole.len() {
            let requests = split(&whole[..cut]);
            // Cut between two requests it is a shorter batch; the checksum of the entry guards against that.
            assert!(requests.is_err() || requests.unwrap() == [b"Qfirst"], "cut at {cut}");
        }
        let mut newer = whole;
        newer[1] = 2;
        assert!(split(&newer).unwrap_err().contains("upgrade"));
    }
}
