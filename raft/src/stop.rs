//! Why a replica stopped: the first cause stays.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::RaftError;

/// Holds the cause of the end; a clone is another handle.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    cause: Arc<watch::Sender<Option<RaftError>>>,
}

impl Stop {
    /// Sets the cause unless there is one.
    pub(crate) fn set(&self, error: RaftError) {
        self.cause.send_if_modified(|cause| {
            let first = cause.is_none();
            if first {
                *cause = Some(error);
            }
            first
        });
    }

    /// Gives the cause, if it has come.
    pub(crate) fn get(&self) -> Option<RaftError> {
        self.cause.borrow().clone()
    }

    /// Waits for the cause.
    pub(crate) async fn wait(&self) -> RaftError {
        let mut receiver = self.cause.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(cause) => cause.clone().unwrap_or(RaftError::Stopped),
            Err(_) => RaftError::Stopped,
        }
    }
}
