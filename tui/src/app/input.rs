//! A one-line text input: characters, caret, optional secrecy.

use std::fmt;

/// Longest input, in characters: paths and passwords are shorter, a pasted file is not.
const CHARS_MAX: usize = 512;

/// Text being typed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Input {
    chars: Vec<char>,
    caret: usize,
    /// Drawn as stars and hidden from `Debug`.
    pub secret: bool,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret { f.write_str("Input(secret)") } else { write!(f, "Input({:?})", self.text()) }
    }
}

impl Input {
    /// Returns an input that holds `text`, the caret at its end.
    pub fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().take(CHARS_MAX).collect();
        Self { caret: chars.len(), chars, secret: false }
    }

    /// Returns an empty input for a secret.
    pub fn secret() -> Self {
        Self { secret: true, ..Self::default() }
    }

    /// Returns what was typed.
    pub fn text(&self) -> String {
        self.chars.iter().collect()
    }

    /// Returns what is drawn: the text, or a star for each character.
    pub fn shown(&self) -> String {
        if self.secret { "*".repeat(self.chars.len()) } else { self.text() }
    }

    /// Returns what is drawn left of the caret.
    pub fn before_caret(&self) -> String {
        self.shown().chars().take(self.caret).collect()
    }

    /// Returns whether nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    /// Puts a character at the caret; controls and what is over the limit are dropped.
    pub fn put(&mut self, c: char) {
        if !c.is_control() && self.chars.len() < CHARS_MAX {
            self.chars.insert(self.caret, c);
            self.caret += 1;
        }
    }

    /// Takes the character left of the caret.
    pub fn back(&mut self) {
        if self.caret > 0 {
            self.caret -= 1;
            self.chars.remove(self.caret);
        }
    }

    /// Takes the character under the caret.
    pub fn delete(&mut self) {
        if self.caret < self.chars.len() {
            self.chars.remove(self.caret);
        }
    }

    /// Empties the input.
    pub fn clear(&mut self) {
        self.chars.clear();
        self.caret = 0;
    }

    /// Moves the caret by one, left or right.
    pub fn step(&mut self, right: bool) {
        self.caret = if right { (self.caret + 1).min(self.chars.len()) } else { self.caret.saturating_sub(1) };
    }

    /// Moves the caret to the start or the end.
    pub fn jump(&mut self, end: bool) {
        self.caret = if end { self.chars.len() } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_at_the_caret() {
        let mut input = Input::of("链ab");
        input.step(false);
        input.put('x');
        input.back();
        input.back();
        assert_eq!((input.text().as_str(), input.before_caret().as_str()), ("链b", "链"));
        input.jump(false);
        input.delete();
        assert_eq!(input.text(), "b");
    }

    #[test]
    fn a_secret_is_neither_shown_nor_printed() {
        let mut input = Input::secret();
        "hunter2".chars().for_each(|c| input.put(c));
        assert_eq!(input.shown(), "*******");
        assert_eq!(format!("{input:?}"), "Input(secret)");
    }
}
