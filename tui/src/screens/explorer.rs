//! The explorer: blocks that follow the head, and what a search found.

use crate::app::model::Model;
use crate::app::model::data::{Block, ChainAccount, Found, Payload, Query, Transaction};
use crate::format::{age, date_time, ether, fit, number, short_hash, wrap};
use crate::i18n::T;
use crate::theme::Role;

use super::Screen;
use super::lists::table;
use super::page::{Column, Line, Page, Row, State, Table, col, dim, num, state, text};

/// Width of the labels: beside it a whole hash fits on 80 columns.
const LABEL: usize = 12;

fn fact(model: &Model, label: T, value: impl Into<String>) -> Line {
    Line::of(fit(model.t(label), LABEL, false), Role::Dim).and(value.into(), Role::Text)
}

pub(super) fn blocks(model: &Model, chain: &str, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        num(T::ColHeight, 14, 0),
        col(T::ColHash, 66, 0),
        num(T::ColTransactions, 6, 0),
        num(T::ColGas, 14, 1),
        num(T::ColAge, 6, 0),
        col(T::ColProposer, 42, 2),
    ];
    let rows = model.blocks(&Query::Blocks(chain.to_owned())).iter().map(|b| Row {
        id: format!("blocks/{}", b.height),
        cells: vec![
            text(number(b.height)),
            dim(short_hash(&b.hash)),
            text(b.transactions.len().to_string()),
            dim(number(b.gas.0)),
            dim(age(model.now - b.at)),
            dim(short_hash(&b.proposer)),
        ],
        open: Some(Screen::Found(chain.to_owned(), b.height.to_string())),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyBlocks)
}

pub(super) fn found(model: &Model, chain: &str, sought: &str, columns: usize) -> Page {
    let query = Query::Find(chain.to_owned(), sought.to_owned());
    match model.payload(&query) {
        Some(Payload::Found(Found::Block(b))) => block(model, chain, b),
        Some(Payload::Found(Found::Transaction(t))) => transaction(model, chain, t, columns),
        Some(Payload::Found(Found::Account(a))) => account(model, a),
        _ => Page::bare(State::Empty(T::EmptyGone)),
    }
}

/// Returns a line that opens another search of the same chain.
fn link(model: &Model, chain: &str, label: T, value: &str) -> Line {
    let line = fact(model, label, if value.is_empty() { "-" } else { value });
    if value.is_empty() {
        return line;
    }
    // The label is part of the id: sender and receiver may be the same address.
    line.opens(&format!("{label:?}/{value}"), Screen::Found(chain.to_owned(), value.to_owned()))
}

fn block(model: &Model, chain: &str, b: &Block) -> Page {
    let mut lines = vec![
        Line::of(format!("{} {}", model.t(T::Block), number(b.height)), Role::Strong),
        fact(model, T::ColHash, &b.hash),
        link(model, chain, T::Parent, &b.parent),
        fact(model, T::ColTime, format!("{}   {}", date_time(b.at), age(model.now - b.at))),
        fact(model, T::ColProposer, &b.proposer),
        fact(model, T::StateRoot, &b.state_root),
        fact(model, T::ColGas, format!("{} / {}", number(b.gas.0), number(b.gas.1))),
        Line::default(),
        Line::of(format!("{} {}", model.t(T::Transactions), b.transactions.len()), Role::Strong),
    ];
    for hash in &b.transactions {
        lines.push(Line::of(hash, Role::Text).opens(hash, Screen::Found(chain.to_owned(), hash.clone())));
    }
    if b.transactions.is_empty() {
        lines.push(Line::of(model.t(T::EmptyTransactions), Role::Dim));
    }
    Page::of(lines)
}

fn transaction(model: &Model, chain: &str, t: &Transaction, columns: usize) -> Page {
    let state = state(model, &t.state);
    let mut lines = vec![
        Line::of(model.t(T::Transaction), Role::Strong).and("  ", Role::Text).and(state.text, state.role),
        fact(model, T::ColHash, &t.hash),
        link(model, chain, T::Block, &t.height.map(|h| h.to_string()).unwrap_or_default()),
        link(model, chain, T::From, &t.from),
        link(model, chain, T::To, &t.to),
        fact(model, T::Value, format!("{}  ({} wei)", ether(&t.value), t.value)),
        fact(model, T::ColGas, number(t.gas_used)),
    ];
    if !t.contract.is_empty() {
        lines.push(link(model, chain, T::Contract, &t.contract));
    }
    for (name, value) in &t.facts {
        for (i, piece) in wrap(value, columns.saturating_sub(LABEL)).into_iter().enumerate() {
            let label = if i == 0 { name.as_str() } else { "" };
            lines.push(Line::of(fit(label, LABEL, false), Role::Dim).and(piece, Role::Text));
        }
    }
    if !t.input.is_empty() {
        lines.push(Line::default());
        lines.push(Line::of(model.t(T::InputData), Role::Strong));
        lines.extend(wrap(&t.input, columns.saturating_sub(2)).into_iter().map(|l| Line::of(l, Role::Dim)));
    }
    Page::of(lines)
}

fn account(model: &Model, a: &ChainAccount) -> Page {
    let kind = if a.code_bytes > 0 { T::Contract } else { T::Account };
    let mut lines = vec![
        Line::of(model.t(kind), Role::Strong),
        fact(model, T::ColAddress, &a.address),
        fact(model, T::Balance, format!("{}  ({} wei)", ether(&a.balance), a.balance)),
        fact(model, T::Nonce, number(a.nonce)),
    ];
    if a.code_bytes > 0 {
        lines.push(fact(model, T::CodeBytes, number(a.code_bytes)));
    }
    Page::of(lines)
}
