//! Dialogs and forms: what lies over a screen and takes the keys.

use crate::app::effect::Write;
use crate::app::input::Input;
use crate::i18n::T;

use super::data::{Failure, Query};
use super::edit::Edit;
use super::plan::Planned;

/// A dialog ignores every key for this long after it opened: a buffered key of a slow line must not confirm it.
pub const DEAF_MS: i64 = 400;

/// A ballot's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// For.
    Yes,
    /// Against.
    No,
    /// Neither.
    Abstain,
}

impl Choice {
    /// The choices in the order they are offered.
    pub const ALL: [Self; 3] = [Self::Yes, Self::No, Self::Abstain];

    /// Returns the word of the ballot text.
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Abstain => "abstain",
        }
    }
}

/// What lies over the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// A disruptive act, confirmed with `y` (tier 2).
    Confirm {
        /// Headline.
        title: T,
        /// The resource.
        target: String,
        /// What will happen.
        plan: T,
        /// The same on the command line.
        command: String,
        /// What is done on `y`.
        write: Write,
        /// When it opened.
        opened_at: i64,
    },
    /// An act that cannot be undone, confirmed by typing a word (tier 3).
    Typed(TypedConfirm),
    /// A ballot.
    Vote(Vote),
    /// Trust in a host's new key.
    AcceptKey(AcceptKey),
    /// Fields to fill in.
    Edit(Edit),
    /// A failure in full.
    Failure {
        /// The failure.
        failure: Failure,
        /// When it opened.
        opened_at: i64,
    },
}

impl Dialog {
    /// Returns the question what would happen, if it is one that the server foresees.
    pub fn plan(&self) -> Option<Query> {
        let planned = match self {
            Self::Confirm { write: Write::PauseChain { chain }, .. } => Planned::Pause(chain.clone()),
            Self::Confirm { write: Write::ResumeChain { chain }, .. } => Planned::Resume(chain.clone()),
            Self::Confirm { write: Write::UndeleteChain { chain }, .. } => Planned::Undelete(chain.clone()),
            Self::Confirm { write: Write::RollChain { chain }, .. } => Planned::Roll(chain.clone()),
            Self::Confirm { write: Write::RollBackChain { chain }, .. } => Planned::RollBack(chain.clone()),
            Self::Confirm { write: Write::RestartNode { node }, .. } => Planned::Restart(node.clone()),
            Self::Confirm { write: Write::MoveNode { node }, .. } => Planned::Move(node.clone()),
            Self::Vote(vote) => Planned::Proposal(vote.proposal.clone()),
            Self::Confirm { .. } | Self::Typed(_) | Self::AcceptKey(_) | Self::Edit(_) | Self::Failure { .. } => {
                return None;
            }
        };
        Some(Query::Plan(planned))
    }

    /// Returns when it opened.
    pub fn opened_at(&self) -> i64 {
        match self {
            Self::Confirm { opened_at, .. } | Self::Failure { opened_at, .. } => *opened_at,
            Self::Typed(confirm) => confirm.opened_at,
            Self::Vote(vote) => vote.opened_at,
            Self::AcceptKey(accept) => accept.opened_at,
            Self::Edit(edit) => edit.opened_at,
        }
    }
}

/// The dialog of what cannot be undone (tier 3): the name of what it is done to is typed, so that no habit of the fingers
/// does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedConfirm {
    /// Headline.
    pub title: T,
    /// The resource, and the word to type.
    pub target: String,
    /// What will happen.
    pub plan: T,
    /// The same on the command line.
    pub command: String,
    /// What is done once the word is there.
    pub write: Write,
    /// What was typed.
    pub typed: Input,
    /// Whether a wrong word was entered.
    pub wrong: bool,
    /// When it opened.
    pub opened_at: i64,
}

impl TypedConfirm {
    /// Returns whether the word is there.
    pub fn is_typed(&self) -> bool {
        !self.target.is_empty() && self.typed.text().trim() == self.target
    }
}

/// The dialog of a ballot: choice, key file, then confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Resource name of the proposal.
    pub proposal: String,
    /// Headline of the proposal.
    pub title: String,
    /// What is voted on.
    pub artifact: String,
    /// Its hash, as the server states it.
    pub artifact_hash: String,
    /// Voting tenant.
    pub tenant: String,
    /// Its votes.
    pub weight: u64,
    /// Nothing is chosen at first.
    pub choice: Option<Choice>,
    /// Path of the member key.
    pub key_path: Input,
    /// 0 choice, 1 path, 2 buttons.
    pub focus: usize,
    /// What is missing, said after a try.
    pub error: Option<T>,
    /// When it opened.
    pub opened_at: i64,
}

impl Vote {
    /// Number of places the focus goes through.
    pub const STOPS: usize = 3;
}

/// The dialog of a host's new key (tier 3): the end of the key that was compared is typed, because a key that nobody
/// read must not be trusted by a habit of the fingers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptKey {
    /// Resource name of the host.
    pub host: String,
    /// Fingerprint that is pinned.
    pub pinned: String,
    /// Fingerprint that the host showed.
    pub seen: String,
    /// What was typed.
    pub typed: Input,
    /// Why it was not taken.
    pub error: Option<T>,
    /// When it opened.
    pub opened_at: i64,
}

impl AcceptKey {
    /// How many of the fingerprint's last characters are typed.
    pub const TYPED: usize = 8;

    /// Returns whether what was typed is the end of the key the host showed; a short fingerprint is typed whole.
    pub fn is_typed(&self) -> bool {
        let skip = self.seen.chars().count().saturating_sub(Self::TYPED);
        let end: String = self.seen.chars().skip(skip).collect();
        !end.is_empty() && self.typed.text().trim() == end
    }
}

/// Login, or the first run of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// First run: with setup code and a repeated password.
    pub setup: bool,
    /// The fields with their labels.
    pub fields: Vec<(T, Input)>,
    /// Field that takes the keys.
    pub focus: usize,
    /// A call is under way.
    pub busy: bool,
    /// Why it was refused.
    pub error: Option<String>,
}

impl Form {
    /// Returns an empty login form.
    pub fn login() -> Self {
        let fields = vec![(T::Account, Input::default()), (T::Password, Input::secret())];
        Self { setup: false, fields, focus: 0, busy: false, error: None }
    }

    /// Returns the form of the first run.
    pub fn setup() -> Self {
        let fields = vec![
            (T::SetupCode, Input::secret()),
            (T::Account, Input::of("admin")),
            (T::Password, Input::secret()),
            (T::PasswordAgain, Input::secret()),
        ];
        Self { setup: true, fields, focus: 0, busy: false, error: None }
    }

    /// Returns the text of a field by its label, empty if there is none.
    pub fn text(&self, label: T) -> String {
        self.fields.iter().find(|(l, _)| *l == label).map(|(_, i)| i.text()).unwrap_or_default()
    }
}

/// The prompt line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What the text is for.
    pub kind: PromptKind,
    /// The text.
    pub input: Input,
}

/// What the prompt line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// `:` a command.
    Command,
    /// `/` the filter of this view.
    Filter,
    /// The explorer's search box.
    Search,
}
