//! Paging of lists (AIP-158): a size lowered to a limit, an opaque token that says where the last page ended.
//!
//! A token holds the last key given, so a page costs the same wherever it is and what is added or taken away between
//! two pages moves nothing else.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::ApiError;

/// Size of a page if none is asked for.
pub(crate) const PAGE_DEFAULT: usize = 50;

/// Largest page.
pub(crate) const PAGE_MAX: usize = 500;

/// Longest token taken; our longest key is four labels.
const TOKEN_CHARS_MAX: usize = 600;

/// Format of a token, first byte of what it holds.
const TOKEN_FORMAT: &str = "1:";

/// Which page of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page<K> {
    /// At most this many.
    pub(crate) size: usize,
    /// Only what comes after this key.
    pub(crate) after: Option<K>,
}

/// Which way a list is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

impl<K: FromStr + Ord + Display> Page<K> {
    /// Reads size and token of a request; `default` is the size if none is asked for.
    ///
    /// # Errors
    /// Invalid, naming `page_size` or `page_token`.
    pub(crate) fn parse(size: i32, token: &str, default: usize) -> Result<Self, ApiError> {
        let size = match usize::try_from(size) {
            Ok(0) => default,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => return Err(ApiError::invalid("page_size", "is negative", "leave it 0 or ask for up to 500")),
        };
        if token.is_empty() {
            return Ok(Self { size, after: None });
        }
        let after = read_token(token).ok_or_else(|| {
            ApiError::invalid("page_token", "was not given by this list", "start again without a token")
        })?;
        Ok(Self { size, after: Some(after) })
    }

    /// Returns one page of `items` (already in `order` by key) and the token of the next page, empty at the end.
    pub(crate) fn take<V>(self, order: Order, items: impl Iterator<Item = (K, V)>) -> (Vec<V>, String) {
        let passed = |key: &K| match (&self.after, order) {
            (None, _) => true,
            (Some(after), Order::Ascending) => key > after,
            (Some(after), Order::Descending) => key < after,
        };
        let mut out = Vec::new();
        let mut last: Option<K> = None;
        for (key, value) in items.filter(|(key, _)| passed(key)) {
            if out.len() == self.size {
                return (out, last.map(|key| write_token(&key)).unwrap_or_default());
            }
            out.push(value);
            last = Some(key);
        }
        (out, String::new())
    }
}

/// Returns the token that continues after `key`.
pub(crate) fn write_token(key: &impl Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{TOKEN_FORMAT}{key}"))
}

fn read_token<K: FromStr>(token: &str) -> Option<K> {
    if token.len() > TOKEN_CHARS_MAX {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    text.strip_prefix(TOKEN_FORMAT)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn walk(order: Order, items: &[u64], size: i32) -> Vec<Vec<u64>> {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let page = Page::<u64>::parse(size, &token, PAGE_DEFAULT).unwrap();
            let (values, next) = page.take(order, items.iter().map(|n| (*n, *n)));
            pages.push(values);
            if next.is_empty() {
                return pages;
            }
            token = next;
        }
    }

    #[test]
    fn pages_cover_a_list_once_in_both_orders() {
        assert_eq!(walk(Order::Ascending, &[1, 2, 3, 4, 5], 2), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(walk(Order::Descending, &[5, 4, 3, 2], 2), [vec![5, 4], vec![3, 2]]);
        assert_eq!(walk(Order::Ascending, &[], 2), [Vec::<u64>::new()]);
    }

    #[test]
    fn size_is_held_to_the_limit_and_bad_input_is_named() {
        assert_eq!(Page::<u64>::parse(0, "", 20).unwrap().size, 20);
        assert_eq!(Page::<u64>::parse(i32::MAX, "", 20).unwrap().size, PAGE_MAX);
        assert_eq!(Page::<u64>::parse(-1, "", 20).unwrap_err().field(), Some("page_size"));
        for token in ["x", "!!", &write_token(&"not a number"), &"A".repeat(5_000)] {
            assert_eq!(Page::<u64>::parse(1, token, 20).unwrap_err().field(), Some("page_token"), "{token}");
        }
    }
}
