//! Lists in pages: keys in order, from after the last one seen.

use std::fmt::Display;
use std::str::FromStr;

use imbl::OrdMap;

use crate::rejection::Rejection;

/// Most items of a page.
pub const PAGE_MAX: usize = 1_000;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In key order.
    pub items: Vec<T>,
    /// Give this as `after` for the next page; `None` if this is the last.
    pub next: Option<String>,
}

/// Returns up to `limit` (at most [`PAGE_MAX`], 0 means that) items after key `after` for which `keep` holds.
pub(crate) fn page<K, V>(
    map: &OrdMap<K, V>,
    after: Option<&str>,
    limit: usize,
    keep: impl Fn(&K, &V) -> bool,
) -> Result<Page<V>, Rejection>
where
    K: Ord + Clone + Display + FromStr<Err = Rejection>,
    V: Clone,
{
    let limit = if limit == 0 { PAGE_MAX } else { limit.min(PAGE_MAX) };
    let after: Option<K> = after.map(str::parse).transpose().map_err(|_| Rejection::InvalidName {
        field: "page_token".into(),
        value: after.unwrap_or_default().chars().take(80).collect(),
        rule: "the token of the page before".into(),
    })?;
    let mut items = Vec::new();
    let mut last = None;
    let from = match &after {
        Some(key) => map.range((std::ops::Bound::Excluded(key.clone()), std::ops::Bound::Unbounded)),
        None => map.range::<_, K>(..),
    };
    for (key, value) in from.filter(|(key, value)| keep(key, value)) {
        if items.len() == limit {
            return Ok(Page { items, next: last });
        }
        items.push(value.clone());
        last = Some(key.to_string());
    }
    Ok(Page { items, next: None })
}
