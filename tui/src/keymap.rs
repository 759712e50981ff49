//! Keys and the one table of actions: the hint bar, the help screen and the dispatcher all read it.
//!
//! Lower case looks, upper case changes. Letters also arrive in full width from a Chinese input method and mean the
//! same. Everything important has a key that is not a letter.

use std::fmt;

use crate::i18n::T;
use crate::screens::Kind;

/// A key in the console's own words, so that the core needs no terminal library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Which.
    pub code: Code,
    /// With Ctrl.
    pub ctrl: bool,
    /// With Alt.
    pub alt: bool,
}

/// A key without its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A character as typed, so shifted letters are upper case.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Shift-Tab.
    BackTab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// F1 to F12.
    F(u8),
}

impl Key {
    /// Returns a key without modifiers.
    pub fn of(code: Code) -> Self {
        Self { code, ctrl: false, alt: false }
    }

    /// Returns the key of a script's word (`a`, `Enter`, `C-r`, `F5`), none if there is no such key.
    pub fn parse(word: &str) -> Option<Self> {
        if let Some(rest) = word.strip_prefix("C-").filter(|r| !r.is_empty()) {
            return Self::parse(rest).map(|k| Self { ctrl: true, ..k });
        }
        if let Some(rest) = word.strip_prefix("M-").filter(|r| !r.is_empty()) {
            return Self::parse(rest).map(|k| Self { alt: true, ..k });
        }
        let mut chars = word.chars();
        if let (Some(c), None) = (chars.next(), chars.next()) {
            return Some(Self::of(Code::Char(c)));
        }
        let code = match word {
            "Enter" => Code::Enter,
            "Esc" => Code::Esc,
            "Tab" => Code::Tab,
            "BackTab" => Code::BackTab,
            "Backspace" => Code::Backspace,
            "Delete" => Code::Delete,
            "Up" => Code::Up,
            "Down" => Code::Down,
            "Left" => Code::Left,
            "Right" => Code::Right,
            "PgUp" => Code::PageUp,
            "PgDn" => Code::PageDown,
            "Home" => Code::Home,
            "End" => Code::End,
            "Space" => Code::Char(' '),
            _ => Code::F(word.strip_prefix('F')?.parse().ok().filter(|n| (1..=12).contains(n))?),
        };
        Some(Self::of(code))
    }

    /// Returns this key with full-width characters of an input method mapped to ASCII.
    pub fn half_width(self) -> Self {
        match self.code {
            Code::Char(c) => Self { code: Code::Char(crate::format::half_width(c)), ..self },
            _ => self,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("Ctrl-")?;
        }
        if self.alt {
            f.write_str("Alt-")?;
        }
        match self.code {
            Code::Char(' ') => f.write_str("Space"),
            Code::Char(c) if self.ctrl => write!(f, "{}", c.to_ascii_uppercase()),
            Code::Char(c) => write!(f, "{c}"),
            Code::PageUp => f.write_str("PgUp"),
            Code::PageDown => f.write_str("PgDn"),
            Code::F(n) => write!(f, "F{n}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open the line under the cursor.
    Open,
    /// One level back.
    Back,
    /// Back in the history of views.
    HistoryBack,
    /// Forward in it.
    HistoryForward,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// Half a page up.
    HalfUp,
    /// Half a page down.
    HalfDown,
    /// First line.
    First,
    /// Last line.
    Last,
    /// Everything about the line.
    Describe,
    /// The line as JSON.
    Json,
    /// Command line.
    Command,
    /// Filter.
    Filter,
    /// Explorer's search box.
    Search,
    /// The `g` prefix.
    Prefix,
    /// Help.
    Help,
    /// Messages.
    Messages,
    /// Ask the API again.
    Refetch,
    /// Show figures of a longer time, after the longest of the shortest.
    Window,
    /// Draw anew.
    Redraw,
    /// Cancel; twice quits.
    Interrupt,
    /// Leave.
    Quit,
    /// Cast a ballot.
    Vote,
    /// Restart a node.
    Restart,
    /// Look at a host before nodes are placed there.
    Preflight,
    /// Cordon or uncordon a host.
    Cordon,
    /// Begin maintenance of a host.
    Maintain,
    /// Want a host empty.
    Drain,
    /// Forget an empty host, or delete an empty machine.
    Retire,
    /// Trust the new key of a host.
    AcceptKey,
    /// Hand the lead to a replica.
    TransferLeader,
    /// Give a learner a vote.
    PromoteReplica,
    /// Take a replica out for ever.
    RemoveReplica,
    /// Raise the cluster's version.
    RaiseVersion,
    /// Stop a chain's nodes, or have them run again.
    Pause,
    /// Take a chain's deletion back.
    Undelete,
    /// Start a chain's nodes anew one after another, or let a halted rolling change go on.
    Roll,
    /// Have the nodes that an upgrade has reached go back.
    RollBack,
    /// Move a node to another host.
    Move,
    /// Say how often a chain's nodes are started again by the platform.
    Repair,
    /// Change how a host behind SSH is reached.
    Reach,
    /// Add a cloud, or make a machine in one.
    New,
    /// Make a chain of others known.
    Import,
    /// Take a chain of others over.
    Adopt,
    /// Forget a chain of others.
    Forget,
    /// Give a node that was taken over back to its owner.
    GiveBack,
}

impl Action {
    /// Returns whether this changes the cluster.
    pub fn writes(self) -> bool {
        matches!(
            self,
            Self::Vote
                | Self::Restart
                | Self::Cordon
                | Self::Maintain
                | Self::Drain
                | Self::Retire
                | Self::AcceptKey
                | Self::TransferLeader
                | Self::PromoteReplica
                | Self::RemoveReplica
                | Self::RaiseVersion
                | Self::Pause
                | Self::Undelete
                | Self::Roll
                | Self::RollBack
                | Self::Move
                | Self::Repair
                | Self::Reach
                | Self::New
                | Self::Import
                | Self::Adopt
                | Self::Forget
                | Self::GiveBack
        )
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// What is done.
    pub action: Action,
    /// Words of the keys, first the one for the hint bar.
    pub keys: &'static [&'static str],
    /// What the help says.
    pub text: T,
    /// Screens on which it is bound; none means all.
    pub on: Option<&'static [Kind]>,
    /// Place in the hint bar from the left; none keeps it for the help.
    pub hint: Option<u8>,
}

const fn all(action: Action, keys: &'static [&'static str], text: T, hint: Option<u8>) -> Binding {
    Binding { action, keys, text, on: None, hint }
}

const fn only(action: Action, keys: &'static [&'static str], text: T, on: &'static [Kind], hint: u8) -> Binding {
    Binding { action, keys, text, on: Some(on), hint: Some(hint) }
}

/// Every action with its keys.
pub const BINDINGS: &[Binding] = &[
    all(Action::Open, &["Enter"], T::ActOpen, Some(0)),
    all(Action::Back, &["Esc"], T::ActBack, Some(9)),
    all(Action::HistoryBack, &["[", "-"], T::ActHistoryBack, None),
    all(Action::HistoryForward, &["]"], T::ActHistoryForward, None),
    all(Action::Up, &["Up", "k"], T::ActUp, None),
    all(Action::Down, &["Down", "j"], T::ActDown, None),
    all(Action::PageUp, &["PgUp", "C-b"], T::ActPageUp, None),
    all(Action::PageDown, &["PgDn", "C-f"], T::ActPageDown, None),
    all(Action::HalfUp, &["C-u"], T::ActHalfUp, None),
    all(Action::HalfDown, &["C-d"], T::ActHalfDown, None),
    all(Action::First, &["Home"], T::ActFirst, None),
    all(Action::Last, &["End", "G"], T::ActLast, None),
    all(Action::Describe, &["d"], T::ActDescribe, Some(3)),
    all(Action::Json, &["y"], T::ActJson, Some(4)),
    all(Action::Filter, &["/"], T::ActFilter, Some(5)),
    all(Action::Command, &[":", "F2"], T::ActCommand, Some(6)),
    all(Action::Prefix, &["g"], T::ActPrefix, Some(7)),
    all(Action::Help, &["?", "F1"], T::ActHelp, Some(8)),
    all(Action::Messages, &["F9"], T::ActMessages, None),
    all(Action::Refetch, &["C-r", "F5"], T::ActRefetch, None),
    all(Action::Redraw, &["C-l"], T::ActRedraw, None),
    all(Action::Interrupt, &["C-c"], T::ActInterrupt, None),
    all(Action::Quit, &["F10"], T::ActQuit, None),
    only(Action::Search, &["Tab", "s"], T::ActSearch, &[Kind::Explorer, Kind::Found], 1),
    only(Action::Window, &["w", "F12"], T::ActWindow, &[Kind::Series, Kind::Chain, Kind::Chains, Kind::Facts], 2),
    only(Action::Vote, &["A"], T::ActVote, &[Kind::Proposals, Kind::Proposal, Kind::Overview], 1),
    only(Action::Restart, &["R"], T::ActRestart, &[Kind::Nodes, Kind::Chain], 1),
    only(Action::Move, &["V"], T::ActMove, &[Kind::Nodes, Kind::Chain], 1),
    only(Action::Cordon, &["C"], T::ActCordon, &[Kind::Hosts], 1),
    only(Action::AcceptKey, &["K"], T::ActAcceptKey, &[Kind::Hosts], 2),
    only(Action::Maintain, &["M"], T::ActMaintain, &[Kind::Hosts], 2),
    only(Action::Drain, &["D"], T::ActDrain, &[Kind::Hosts], 2),
    only(Action::Retire, &["X"], T::ActRetire, &[Kind::Hosts, Kind::Machines, Kind::Clouds], 2),
    only(Action::New, &["N"], T::ActNew, &[Kind::Clouds, Kind::Machines], 1),
    only(Action::Preflight, &["f"], T::ActPreflight, &[Kind::Hosts], 3),
    only(Action::TransferLeader, &["T"], T::ActTransferLeader, &[Kind::Replicas], 1),
    only(Action::PromoteReplica, &["P"], T::ActPromoteReplica, &[Kind::Replicas], 2),
    only(Action::RemoveReplica, &["X"], T::ActRemoveReplica, &[Kind::Replicas], 2),
    only(Action::Pause, &["P"], T::ActPause, &[Kind::Chains, Kind::Chain], 2),
    only(Action::Roll, &["L"], T::ActRoll, &[Kind::Chains, Kind::Chain], 2),
    only(Action::RollBack, &["B"], T::ActRollBack, &[Kind::Chains, Kind::Chain], 2),
    only(Action::Undelete, &["U"], T::ActUndelete, &[Kind::Chains, Kind::Chain], 2),
    only(Action::Repair, &["E"], T::ActRepair, &[Kind::Chains, Kind::Chain], 2),
    only(Action::Import, &["I"], T::ActImport, &[Kind::Chains], 2),
    only(Action::Adopt, &["O"], T::ActAdopt, &[Kind::Chains, Kind::Chain], 2),
    only(Action::Forget, &["X"], T::ActForget, &[Kind::Chains, Kind::Chain], 2),
    only(Action::GiveBack, &["U"], T::ActGiveBack, &[Kind::Nodes], 2),
    only(Action::Reach, &["W"], T::ActReach, &[Kind::Hosts], 3),
    only(Action::RaiseVersion, &["U"], T::ActRaiseVersion, &[Kind::Replicas], 2),
];

/// Returns the action of a key on a screen; a key of that screen comes before one of all screens.
pub fn action(key: Key, kind: Kind) -> Option<Action> {
    let hit = |b: &&Binding| b.keys.iter().any(|word| Key::parse(word) == Some(key));
    let here = |b: &&Binding| b.on.is_some_and(|on| on.contains(&kind));
    BINDINGS
        .iter()
        .filter(here)
        .find(hit)
        .or_else(|| BINDINGS.iter().filter(|b| b.on.is_none()).find(hit))
        .map(|b| b.action)
}

/// Returns the bindings of the hint bar on a screen, from the left.
pub fn hints(kind: Kind) -> Vec<&'static Binding> {
    let mut hints: Vec<_> =
        BINDINGS.iter().filter(|b| b.hint.is_some() && b.on.is_none_or(|on| on.contains(&kind))).collect();
    hints.sort_by_key(|b| b.hint);
    hints
}

/// Keys after `g`, with the command they stand for.
pub const PREFIX: &[(char, &str, T)] = &[
    ('g', "", T::ActFirst),
    ('o', "overview", T::Overview),
    ('r', "replicas", T::Replicas),
    ('s', "consortiums", T::Consortiums),
    ('p', "proposals", T::Proposals),
    ('c', "chains", T::Chains),
    ('n', "nodes", T::Nodes),
    ('j', "operations", T::Operations),
    ('b', "blocks", T::Explorer),
    ('h', "hosts", T::Hosts),
    ('l', "clouds", T::Clouds),
    ('i', "machines", T::Machines),
    ('f', "findings", T::Findings),
    ('w', "monitor", T::Monitor),
    ('k', "artifacts", T::Artifacts),
    ('t', "tenants", T::Tenants),
    ('a', "audit", T::Audit),
    ('m', "messages", T::Messages),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_word_parses_and_no_screen_binds_a_key_twice() {
        for b in BINDINGS {
            for word in b.keys {
                let key = Key::parse(word).unwrap_or_else(|| panic!("{word} is no key"));
                let same = |o: &&Binding| {
                    o.keys.iter().any(|w| Key::parse(w) == Some(key))
                        && match (o.on, b.on) {
                            (None, None) => true,
                            (Some(x), Some(y)) => x.iter().any(|k| y.contains(k)),
                            _ => false,
                        }
                };
                assert_eq!(BINDINGS.iter().filter(same).count(), 1, "{word} has two actions");
            }
        }
    }

    #[test]
    fn writes_are_upper_case_and_reads_are_not() {
        for b in BINDINGS {
            let upper = b.keys.iter().any(|k| k.len() == 1 && k.chars().all(char::is_uppercase));
            assert!(!b.action.writes() || upper, "{:?} must be upper case", b.action);
        }
        assert_eq!(action(Key::of(Code::Char('G')), Kind::Nodes), Some(Action::Last));
    }

    #[test]
    fn full_width_keys_mean_the_same() {
        let key = Key::of(Code::Char('：')).half_width();
        assert_eq!(action(key, Kind::Overview), Some(Action::Command));
    }
}
