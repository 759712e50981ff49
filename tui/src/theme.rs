//! How a meaning looks: roles to styles, levels to glyphs.
//!
//! Screens name a `Role`, never a colour, so that `NO_COLOR` and the ASCII set change one table. Nothing is told by
//! colour alone: a level is a glyph and stands beside its state word.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of text is, for drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ordinary text.
    Text,
    /// Text of second rank: labels, ages, hints.
    Dim,
    /// A title or a key.
    Strong,
    /// The row under the cursor.
    Selected,
    /// Good state.
    Ok,
    /// Something to look at.
    Warn,
    /// Something broken, and acts that break things.
    Danger,
    /// On its way.
    Working,
    /// The band of the header.
    Header,
    /// What cannot be done now.
    Disabled,
}

/// How well a thing is, told by glyph, colour and the word beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As wished.
    Ok,
    /// On its way to what was wished.
    Working,
    /// Meant to be at rest.
    Stopped,
    /// Nobody knows.
    Unknown,
    /// Wants a look.
    Warn,
    /// Broken.
    Bad,
}

impl Level {
    /// Returns the level of a state word of the API (`RUNNING`, `FAILED`, ...); an unknown word is `Unknown`.
    pub fn of(word: &str) -> Self {
        match word {
            "RUNNING" | "HEALTHY" | "READY" | "ACTIVE" | "SUCCEEDED" | "DONE" | "PASSED" | "DEPLOYED" | "LEADER"
            | "FOLLOWER" | "YES" | "OK" | "JOINED" => Self::Ok,
            "REQUESTED" | "PROVISIONING" | "PREPARING" | "PREPARED" | "CONFIGURED" | "STARTING" | "RESTARTING"
            | "CREATING" | "HALTED" | "OPEN" | "SENT" | "CANDIDATE" | "LEARNER" | "INVITED" | "FORMING" => {
                Self::Working
            }
            "STOPPED" | "PENDING" | "CORDONED" | "MAINTENANCE" | "DRAINING" | "EXPIRED" | "WITHDRAWN" | "CLOSED"
            | "ABSTAIN" | "DRAFT" => Self::Stopped,
            "WARNING" | "DEGRADED" | "STOPPING" | "DELETED" | "REMOVING" | "MOVING" | "UNHEALTHY" | "SUSPENDED"
            | "LAGGING" | "LOCKED" => Self::Warn,
            "CRITICAL" | "FAILED" | "BLOCKED" | "DISTRUSTED" | "REJECTED" | "NO" | "REVERTED" | "UNREACHABLE" => {
                Self::Bad
            }
            _ => Self::Unknown,
        }
    }

    /// Returns the role in which this level is drawn.
    pub fn role(self) -> Role {
        match self {
            Self::Ok => Role::Ok,
            Self::Working => Role::Working,
            Self::Stopped | Self::Unknown => Role::Dim,
            Self::Warn => Role::Warn,
            Self::Bad => Role::Danger,
        }
    }
}

/// Colours and glyphs of one terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Only ASCII glyphs and borders.
    pub ascii: bool,
    /// Colours may be used (false under `NO_COLOR`).
    pub color: bool,
}

impl Theme {
    /// Returns the style of a role; `stale` dims what is not the frame, because old data must not look fresh.
    pub fn style(self, role: Role, stale: bool) -> Style {
        let plain = Style::new();
        let style = match role {
            Role::Text => plain,
            Role::Dim => plain.add_modifier(Modifier::DIM),
            Role::Strong => plain.add_modifier(Modifier::BOLD),
            Role::Selected => plain.add_modifier(Modifier::REVERSED),
            Role::Ok => self.fg(Color::Green),
            Role::Warn => self.fg(Color::Yellow).add_modifier(Modifier::BOLD),
            Role::Danger => self.fg(Color::Red).add_modifier(Modifier::BOLD),
            Role::Working => self.fg(Color::Cyan),
            Role::Header => plain.add_modifier(Modifier::BOLD | Modifier::REVERSED),
            Role::Disabled => plain.add_modifier(Modifier::DIM | Modifier::CROSSED_OUT),
        };
        if stale { style.add_modifier(Modifier::DIM) } else { style }
    }

    fn fg(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    /// Returns the glyph of a level.
    pub fn glyph(self, level: Level) -> &'static str {
        match (self.ascii, level) {
            (false, Level::Ok) => "●",
            (false, Level::Warn) => "▲",
            (false, Level::Bad) => "✖",
            (false, Level::Stopped) => "○",
            (false, Level::Unknown) => "◌",
            (false, Level::Working) => "⟳",
            (true, Level::Ok) => "[+]",
            (true, Level::Warn) => "[!]",
            (true, Level::Bad) => "[X]",
            (true, Level::Stopped) => "[-]",
            (true, Level::Unknown) => "[?]",
            (true, Level::Working) => "[~]",
        }
    }

    /// Returns the marks of this glyph set.
    pub fn marks(self) -> Marks {
        if self.ascii { ASCII } else { UNICODE }
    }
}

/// Lines, corners and signs of a glyph set.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// Corners: top left, top right, bottom left, bottom right.
    pub corners: [&'static str; 4],
    /// Horizontal line.
    pub horizontal: &'static str,
    /// Vertical line.
    pub vertical: &'static str,
    /// Filled and empty part of a bar.
    pub bar: [&'static str; 2],
    /// Between the steps of the breadcrumb.
    pub crumb: &'static str,
    /// The row under the cursor.
    pub cursor: &'static str,
}

const UNICODE: Marks =
    Marks {
        corners: ["┌", "┐", "└", "┘"], horizontal: "─", vertical: "│", bar: ["█", "░"], crumb: "›", cursor: "▶"
    };

const ASCII: Marks =
    Marks { corners: ["+", "+", "+", "+"], horizontal: "-", vertical: "|", bar: ["#", "."], crumb: ">", cursor: ">" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_leaves_modifiers_only() {
        let theme = Theme { ascii: true, color: false };
        let danger = theme.style(Role::Danger, false);
        assert_eq!(danger.fg, None);
        assert!(danger.add_modifier.contains(Modifier::BOLD));
        assert!(theme.style(Role::Text, true).add_modifier.contains(Modifier::DIM));
    }

    #[test]
    fn ascii_set_is_ascii() {
        let theme = Theme { ascii: true, color: true };
        for level in [Level::Ok, Level::Working, Level::Stopped, Level::Unknown, Level::Warn, Level::Bad] {
            assert!(theme.glyph(level).is_ascii());
        }
        assert_eq!(Level::of("something new"), Level::Unknown);
    }
}
