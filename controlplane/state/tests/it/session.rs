//! A request counts only if its session is still open when it is applied, whatever the API saw before.
#![allow(clippy::unwrap_used)]

use hanse_state::{Applied, Command, Outcome, Rejection, Request};

use super::parse::{self, Args};
use super::world::{self, World, actor, request_id};

fn command(w: &World, line: &str) -> Command {
    parse::command(w, &Args::parse(&format!("someone {line}")))
}

/// Applies a note of owner@acme, asked for in the session of that token.
fn note(w: &mut World, number: u64, token: &str) -> Applied {
    let wish = command(w, "SetTenantMetadata note=hello");
    w.at = w.at.plus(1_000);
    let request = Request::new(request_id(number), actor("owner@acme"), "192.0.2.1:1", w.at, wish);
    let revision = w.state.revision + 1;
    hanse_state::apply(&mut w.state, revision, &request.in_session(world::hash(token)))
}

fn open(w: &mut World, account: &str, token: &str) {
    let wish = command(w, &format!("OpenSession account={account} token={token}"));
    w.ok(actor("system"), wish);
}

#[test]
fn a_closed_foreign_or_unknown_session_orders_nothing() {
    let mut w = World::platform();
    open(&mut w, "owner@acme", "mine");
    open(&mut w, "owner@globex", "other");
    assert!(matches!(note(&mut w, 900, "unknown").outcome, Err(Rejection::SessionOver { .. })));
    assert!(matches!(note(&mut w, 900, "other").outcome, Err(Rejection::SessionOver { .. })));
    // The refusals are not remembered: the same wish in an open session is carried out.
    let done = note(&mut w, 900, "mine");
    assert!(matches!(done.outcome, Ok(Outcome::Done { .. })) && !done.replayed, "{done:?}");
    let again = note(&mut w, 900, "mine");
    assert!(again.replayed && again.revision == done.revision, "{again:?}");
    // A retry from a new session is the same wish.
    open(&mut w, "owner@acme", "second");
    assert!(note(&mut w, 900, "second").replayed);
    let close = command(&w, "CloseSession token=mine");
    w.ok(actor("owner@acme"), close);
    let late = note(&mut w, 901, "mine");
    assert!(matches!(late.outcome, Err(Rejection::SessionOver { .. })), "{late:?}");
    // Not even the answer of an earlier request is told to whom the session no longer vouches for.
    assert!(matches!(note(&mut w, 900, "mine").outcome, Err(Rejection::SessionOver { .. })));
}

#[test]
fn an_expired_session_or_a_suspended_account_orders_nothing() {
    let mut w = World::platform();
    open(&mut w, "owner@acme", "mine");
    assert!(note(&mut w, 900, "mine").outcome.is_ok());
    let suspend = command(&w, "SuspendAccount account=owner@acme");
    w.ok(actor("root"), suspend);
    let refused = note(&mut w, 901, "mine");
    assert!(matches!(refused.outcome, Err(Rejection::SessionOver { .. })), "{refused:?}");
    let restore = command(&w, "RestoreAccount account=owner@acme");
    w.ok(actor("root"), restore);
    // The suspension closed the session.
    assert!(matches!(note(&mut w, 902, "mine").outcome, Err(Rejection::SessionOver { .. })));
    open(&mut w, "owner@acme", "new");
    assert!(note(&mut w, 903, "new").outcome.is_ok());
    w.at = w.state.sessions[&world::hash("new")].expires_at;
    assert!(matches!(note(&mut w, 904, "new").outcome, Err(Rejection::SessionOver { .. })));
}
