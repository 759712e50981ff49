//! What is watched: findings, series of a resource, and software that the platform keeps.

/// Something that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// `CRITICAL`, `WARNING` or `NOTICE`.
    pub severity: String,
    /// Stable word, e.g. `STALLED`.
    pub code: String,
    /// Resource name of what it is about.
    pub resource: String,
    /// What is seen.
    pub what: String,
    /// Why, probably.
    pub cause: String,
    /// What to do.
    pub recipe: String,
}

impl Finding {
    /// Names it on a screen.
    pub fn id(&self) -> String {
        format!("{} {}", self.resource, self.code)
    }
}

/// One figure over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Resource name.
    pub resource: String,
    /// Which figure.
    pub metric: String,
    /// `ms`, `permille`, `bytes` or empty.
    pub unit: String,
    /// Means, oldest first.
    pub values: Vec<i64>,
    /// Least sample.
    pub min: i64,
    /// Greatest sample.
    pub max: i64,
    /// From the first to the last point, milliseconds.
    pub span_ms: i64,
}

/// An artifact that the platform keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// Resource name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Which version.
    pub version: String,
    /// `PROGRAM`, `BUNDLE` or `IMAGE`.
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// The publisher, or why it was taken unsigned.
    pub word: String,
    /// The account that brought it.
    pub by: String,
    /// When, milliseconds since 1970.
    pub at: i64,
}
