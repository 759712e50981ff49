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
            item => one(item),
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

/// Returns one thing: a row a field, then a table for each list of things in it. Empty texts are left out, and so is where
/// the answer comes from, unless it is all there is.
fn one(item: &Value) -> String {
    let (mut rows, mut lists) = (Vec::new(), Vec::new());
    match item {
        Value::Object(object) if object.len() > 1 => {
            for (key, value) in object.iter().filter(|(key, _)| *key != "header") {
                fields(key, value, &mut rows, &mut lists);
            }
        }
        item => fields("", item, &mut rows, &mut lists),
    }
    let mut text = Table { headings: Vec::new(), rows }.render();
    for (path, items) in lists {
        let columns = columns_of(items);
        let mut table = list(items, &columns.iter().map(|path| ("", path.as_str())).collect::<Vec<_>>());
        table.headings = columns.iter().map(|path| heading(path)).collect();
        text.push_str(&format!("\n{}\n{}", heading(&path), table.render()));
    }
    text
}

/// Adds one row a field, and lists of things to `lists` by their path.
fn fields<'a>(path: &str, value: &'a Value, rows: &mut Vec<Vec<String>>, lists: &mut Vec<(String, &'a [Value])>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                fields(&path, value, rows, lists);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => lists.push((path.to_owned(), items)),
        Value::Array(items) if items.is_empty() => {}
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        value => rows.push(vec![path.to_owned(), cell(path, value)]),
    }
}

/// Returns the paths of all fields that any of the things has and that say something, in the order they are met.
fn columns_of(items: &[Value]) -> Vec<String> {
    fn walk(path: &str, value: &Value, columns: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, columns);
                }
            }
            Value::Array(items) if items.is_empty() => {}
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            _ if columns.iter().any(|known| known == path) => {}
            _ => columns.push(path.to_owned()),
        }
    }
    let mut columns = Vec::new();
    for item in items {
        walk("", item, &mut columns);
    }
    columns
}

/// Returns a path as the heading of a column: `ended_at_ms` is a moment, shown as such, so its unit is left out.
fn heading(path: &str) -> String {
    let path = if is_time(path) { path.trim_end_matches("_ms") } else { path };
    path.replace(['_', '.'], " ").to_uppercase()
}

/// Returns one value as people read it.
fn cell(path: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if is_time(path) => time(number.as_i64().unwrap_or_default()),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(|item| cell(path, item)).collect::<Vec<_>>().join(","),
        Value::Object(object) => object.iter().map(|(key, it)| cell(key, it)).collect::<Vec<_>>().join(" "),
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

        let rates = json!([{ "from_ms": 0, "rate": 5 }, { "from_ms": 1, "rate": 6 }]);
        assert_eq!(cell("rates", &rates), "- 5,1970-01-01 00:00:00Z 6");

        let one = Shown {
            value: json!({ "item": { "id": "a", "empty": "", "steps": [{ "step": "place" }] } }),
            view: View { key: "item", ..view },
        };
        assert_eq!(one.table(), "id  a\n\nSTEPS\nSTEP\nplace\n");
    }

    #[test]
    fn one_thing_shows_its_lists_as_tables() {
        let value = json!({
            "header": { "revision": 7 },
            "name": "op-1",
            "names": ["a", "b"],
            "steps": [
                { "step": "place", "ended_at_ms": 1_000, "detail": "" },
                { "step": "verify", "ended_at_ms": 0, "cause": { "reason": "FULL" } },
            ],
        });
        let shown = Shown { value, view: View { key: "", name: "name", columns: &[] } };
        assert_eq!(
            shown.table(),
            "name   op-1\nnames  a,b\n\nSTEPS\nENDED AT              STEP    CAUSE REASON\n\
             1970-01-01 00:00:01Z  place   -\n-                     verify  FULL\n"
        );
        let header = Shown { value: json!({ "header": { "revision": 7 } }), view: shown.view };
        assert_eq!(header.table(), "header.revision  7\n", "where nothing else is said");
    }
}
