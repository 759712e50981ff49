//! Text of metadata that is shared instead of copied: a map copies the part it changes, and with it all texts of that part.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A key or a value of metadata; a clone is another handle on the same text. Written as the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Note(Arc<str>);

impl Note {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Note {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

// Ordered and compared as its text, so a map is asked with one.
impl Borrow<str> for Note {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Note {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_written_and_read_as_its_text() {
        let note = Note::from("on call");
        assert_eq!(serde_json::to_string(&note).unwrap(), "\"on call\"");
        assert_eq!(serde_json::from_str::<Note>("\"on call\"").unwrap(), note);
        assert_eq!(rmp_serde::to_vec(&note).unwrap(), rmp_serde::to_vec("on call").unwrap());
    }
}
