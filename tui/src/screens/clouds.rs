//! Clouds, and the machines that are made there to become hosts.

use crate::app::model::Model;
use crate::app::model::cloud::{Cloud, Machine};
use crate::app::model::data::Query;
use crate::format::age;
use crate::i18n::T;

use super::facts::{Facts, Value, s};
use super::lists::table;
use super::page::{Column, Page, Row, Table, col, dim, num, state, text};
use super::{Screen, leaf};

pub(super) fn clouds(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColCloud, 16, 0),
        col(T::ColKind, 8, 1),
        col(T::ColRegion, 16, 0),
        num(T::ColMachines, 10, 0),
        col(T::ColEndpoint, 40, 1),
        col(T::ColCredentials, 20, 2),
        num(T::ColAge, 6, 3),
        num(T::ColOrphans, 8, 1),
    ];
    let rows = model.clouds(&Query::Clouds).iter().map(|c| Row {
        id: c.name.clone(),
        cells: vec![
            text(leaf(&c.name)),
            dim(&c.kind),
            text(&c.region),
            text(format!("{}/{}", c.machines.0, c.machines.1)),
            dim(&c.endpoint),
            dim(&c.credentials),
            dim(age(model.now - c.at)),
            if c.orphans.is_empty() { dim("0") } else { text(c.orphans.len().to_string()) },
        ],
        open: Some(Screen::Facts { query: Query::Clouds, id: c.name.clone(), json: false }),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyClouds)
}

pub(super) fn machines(model: &Model, columns: usize) -> Page {
    const COLUMNS: &[Column] = &[
        col(T::ColMachine, 16, 0),
        col(T::ColCloud, 12, 1),
        col(T::ColState, 14, 0),
        num(T::ColAge, 6, 1),
        col(T::ColType, 14, 1),
        col(T::ColPlace, 16, 2),
        col(T::ColInstance, 20, 2),
        col(T::ColAddress, 16, 0),
        col(T::ColReason, 60, 1),
    ];
    let rows = model.machines(&Query::Machines).iter().map(|m| Row {
        id: m.name.clone(),
        cells: vec![
            text(leaf(&m.name)),
            dim(&m.cloud),
            state(model, &m.state),
            dim(age(model.now - m.since)),
            dim(&m.machine_type),
            dim(&m.place),
            dim(&m.instance),
            text(&m.address),
            dim(&m.reason),
        ],
        open: Some(Screen::Facts { query: Query::Machines, id: m.name.clone(), json: false }),
    });
    let rows = rows.collect();
    table(model, columns, Table { columns: COLUMNS, rows }, T::EmptyMachines)
}

pub(super) fn cloud_facts(c: &Cloud) -> Facts {
    let list = |all: &[String]| Value::List(all.iter().map(|it| s(it)).collect());
    vec![
        ("name", s(&c.name)),
        ("kind", s(&c.kind)),
        ("region", s(&c.region)),
        ("endpoint", s(&c.endpoint)),
        ("credentials_file", s(&c.credentials)),
        ("machines", Value::Number(c.machines.0)),
        ("machines_max", Value::Number(c.machines.1)),
        ("lets_in", list(&c.lets_in)),
        ("login", s(&c.login)),
        ("added", Value::Time(c.at)),
        ("orphans", list(&c.orphans)),
    ]
}

pub(super) fn machine_facts(m: &Machine) -> Facts {
    vec![
        ("name", s(&m.name)),
        ("cloud", s(&m.cloud)),
        ("state", s(&m.state)),
        ("reason", s(&m.reason)),
        ("since", Value::Time(m.since)),
        ("type", s(&m.machine_type)),
        ("image", s(&m.image)),
        ("place", s(&m.place)),
        ("instance", s(&m.instance)),
        ("address", s(&m.address)),
        ("fingerprint", s(&m.fingerprint)),
        ("token", s(&m.token)),
        ("slots", Value::Number(m.slots)),
        ("data_disk", s(&m.data_disk)),
    ]
}
