//! How reconcilers write: one system request, one outcome.

use hanse_raft::ProposeError;
use hanse_state::{Command, Outcome, Rejection, Request};

use super::World;

/// Why an order gave no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// Every replica said no; nothing changed. The plan was made from a state that is over: plan again.
    #[error("{}", .0.message())]
    Rejected(Rejection),
    /// It did not commit here, or that is not known: whoever leads plans again from the log.
    #[error("not committed")]
    NotCommitted(#[source] ProposeError),
}

impl World {
    /// Proposes `command` as the platform itself and returns its outcome.
    ///
    /// # Errors
    /// [`OrderError`]; in both cases the caller does nothing more and lets the next round plan.
    pub(crate) async fn order(&self, command: Command) -> Result<Outcome, OrderError> {
        let request = Request::system((self.new_id)(), (self.clock)(), command);
        let applied = self.replica.propose(request).await.map_err(OrderError::NotCommitted)?;
        applied.outcome.map_err(OrderError::Rejected)
    }
}
