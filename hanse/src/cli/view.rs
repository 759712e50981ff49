//! Answers as tables: which of an answer's fields people want to see, in which order.

use serde_json::Value;

use super::units::time;
use crate::output::Table;

/// How an answer is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Key of the thing or the list within the answer; empty for the answer itself.
    pub(crate) key: &'static str,
    /// Field that `-o name` prints.
    pub(crate) name: &'static str,
    /// Columns of a list: heading and path (`header.revision`); for one thing: what to leave out is nothing.
    pub(crate) columns: &'static [(&'static str, &'static str)],
}

/// An answer and how to show it.
pub(crate) struct Shown {
    /// The whole answer.
    pub(crate) value: Value,
    /// How.
    pub(crate) view: View,
}

impl Shown {
    /// Returns the names, one a line.
    pub(crate) fn names(&self) -> String {
        let name = |item: &Value| crate::output::harmless(&cell(self.view.name, at(item, self.view.name))) + "\n";
        match self.body() {
            Value::Array(items) => items.iter().map(name).collect(),
            item => name(item),
        }
    }

    /// Returns the table.
    pub(crate) fn table(&self) -> String {
        match self.body() {
            Value::Array(items) => list(items, self.view.columns).render(),
            item => {
                let mut rows = Vec::new();
                fields("", item, &mut rows);
                Table { headings: Vec::new(), rows }.render()
            }
        }
    }

    fn body(&self) -> &Value {
        if self.view.key.is_empty() { &self.value } else { &self.value[self.view.key] }
    }
}

/// Returns the table of a list.
pub(crate) fn list(items: &[Value], columns: &[(&str, &str)]) -> Table {
    Table {
        headings: columns.iter().map(|(heading, _)| (*heading).to_owned()).collect(),
        rows: items.iter().map(|item| columns.iter().map(|(_, path)| cell(path, at(item, path))).collect()).collect(),
    }
}

/// Returns the value at a dotted path.
fn at<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(item, |value, key| &value[key])
}

/// Adds one row a field; lists of things become numbered rows, empty texts are left out.
fn fields(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object.iter().filter(|(key, _)| prefix.is_empty() || *key != "header") {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                fields(&path, value, rows);
            }
        }
        Value::Array(items) => {
            for (number, item) in (0..).zip(items) {
                fields(&format!("{prefix}[{number}]"), item, rows);
            }
        }
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        value => rows.push(vec![prefix.to_owned(), cell(prefix, value)]),
    }
}

/// Returns one value as people read it.
fn cell(path: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if is_time(path) => time(number.as_i64().unwrap_or_default()),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(|item| cell(path, item)).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Returns whether a field is a moment; the contract's durations end in `period_ms`, `running_ms` or the like.
fn is_time(path: &str) -> bool {
    ["at_ms", "since_ms", "deadline_ms", "timestamp_ms", "from_ms", "until_ms"].iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_things_and_names() {
        let view = View { key: "items", name: "id", columns: &[("ID", "id"), ("SINCE", "state_since_ms")] };
        let value = json!({ "items": [{ "id": "a", "state_since_ms": 0 }, { "id": "b\u{1b}", "state_since_ms": 1 }] });
        let shown = Shown { value, view };
        assert_eq!(shown.table(), "ID  SINCE\na   -\nb   1970-01-01 00:00:00Z\n");
        assert_eq!(shown.names(), "a\nb\n");
        assert!(super::is_time("at_ms") && super::is_time("item.cast_at_ms") && !super::is_time("running_ms"));

        let one = Shown {
            value: json!({ "item": { "id": "a", "empty": "", "steps": [{ "step": "place" }] } }),
            view: View { key: "item", ..view },
        };
        assert_eq!(one.table(), "id             a\nsteps[0].step  place\n");
    }
}
