//! Transactions on their way to all peers, gathered for a moment.
//!
//! Clients send one transaction at a time; a frame for each of them to each peer would cost more than
//! the transactions themselves. What comes in within [`PAUSE`] leaves in one message. Nothing is kept
//! longer, and nothing is sent again: peers that connect later are told by consensus.

use std::sync::Mutex;
use std::time::Duration;

use alloy_primitives::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::consensus::wire::Message;
use crate::net::Net;
use crate::net::listen::TRANSACTIONS_MAX;

/// How long a transaction waits for others; little beside a block.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of one message, beside a last transaction that may be larger.
const MESSAGE_BYTES: usize = 1 << 20;

/// What has come in since the last message.
#[derive(Debug, Default)]
pub(crate) struct Gossip {
    waiting: Mutex<Vec<Bytes>>,
    some: Notify,
}

impl Gossip {
    /// Sends a transaction to all peers in a moment.
    pub(crate) fn push(&self, raw: Bytes) {
        self.waiting.lock().expect("no holder of the gossip's lock panics").push(raw);
        self.some.notify_one();
    }

    /// Sends what comes in until `stop`.
    pub(crate) async fn run(&self, net: &Net, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.some.notified() => {}
            }
            tokio::time::sleep(PAUSE).await;
            let waiting = std::mem::take(&mut *self.waiting.lock().expect("no holder of the gossip's lock panics"));
            for message in messages(waiting) {
                net.broadcast(&Message::Transactions(message), None);
            }
        }
    }
}

/// Cut so that no message has too many transactions or bytes.
fn messages(waiting: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let mut messages: Vec<Vec<Bytes>> = Vec::new();
    let mut bytes = MESSAGE_BYTES;
    for raw in waiting {
        match messages.last_mut().filter(|last| last.len() < TRANSACTIONS_MAX && bytes < MESSAGE_BYTES) {
            Some(last) => {
                bytes += raw.len();
                last.push(raw);
            }
            None => {
                bytes = raw.len();
                messages.push(vec![raw]);
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_is_too_long() {
        let small = messages(vec![Bytes::from(vec![1; 100]); 2 * TRANSACTIONS_MAX + 1]);
        assert_eq!(small.iter().map(Vec::len).collect::<Vec<_>>(), [TRANSACTIONS_MAX, TRANSACTIONS_MAX, 1]);
        let large = messages(vec![Bytes::from(vec![1; 400_000]); 7]);
        assert_eq!(large.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
        assert!(messages(Vec::new()).is_empty());
    }
}
