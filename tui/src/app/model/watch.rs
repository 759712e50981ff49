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

/// How far back figures are shown; one for all screens, and a key goes on to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// The last hour, in minutes.
    #[default]
    Hour,
    /// The last six hours, in spans of six minutes.
    SixHours,
    /// The last day, which is what is kept, in spans of 24 minutes.
    Day,
}

impl Window {
    /// Returns the next one, after the longest the shortest.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Hour => Self::SixHours,
            Self::SixHours => Self::Day,
            Self::Day => Self::Hour,
        }
    }

    /// Its hours.
    pub fn hours(self) -> i64 {
        match self {
            Self::Hour => 1,
            Self::SixHours => 6,
            Self::Day => 24,
        }
    }
}

/// Which figures are asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sought {
    /// Of a resource and of what is below it.
    All(String),
    /// Of a resource alone.
    Own(String),
    /// The transactions of every chain.
    Chains,
}

/// One figure over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Resource name.
    pub resource: String,
    /// Which figure; of a counter's rate with `/s` behind it.
    pub metric: String,
    /// `ms`, `permille`, `bytes`, `milli_per_s`, `milli` or empty.
    pub unit: String,
    /// Means by span from the beginning of the window to its end; none where nothing was seen.
    pub values: Vec<Option<i64>>,
    /// Least sample.
    pub min: i64,
    /// Middle of the means.
    pub median: i64,
    /// Greatest sample.
    pub max: i64,
    /// The last sample.
    pub now: Option<i64>,
    /// How old it was when the cluster answered, by the cluster's clock, milliseconds.
    pub now_age: i64,
    /// The oldest minute that the leader knows of what was asked for, milliseconds since 1970; 0 if of none.
    pub since: i64,
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
