//! The console's texts in English and Chinese.
//!
//! A text is an enum value with both languages beside it, so a missing translation does not compile. Chinese texts use
//! only punctuation of certain width: 「」 and `...`, never curly quotes, dashes or a single-character ellipsis, which
//! terminals draw one or two columns wide as they please.

mod states;
mod texts;

pub use states::state;
pub use texts::T;

/// A language of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    /// English.
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// Returns the language of a locale name such as `zh_CN.UTF-8` or `zh-CN`; English for all that is not Chinese.
    pub fn of(locale: &str) -> Self {
        if locale.to_lowercase().starts_with("zh") { Self::Zh } else { Self::En }
    }
}

/// Returns `text` with `{}` replaced by `value`.
pub fn fill(text: &str, value: &str) -> String {
    text.replacen("{}", value, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_are_complete_and_take_the_same_values() {
        for text in T::ALL {
            let (en, zh) = (text.of(Lang::En), text.of(Lang::Zh));
            assert!(!en.trim().is_empty() && !zh.trim().is_empty(), "{text:?} is empty");
            assert_eq!(en.matches("{}").count(), zh.matches("{}").count(), "{text:?} takes other values");
            assert!(en.is_ascii(), "{text:?}: {en} must also draw on an ASCII terminal");
        }
    }

    #[test]
    fn chinese_uses_no_character_of_uncertain_width() {
        let all = T::ALL.iter().map(|t| t.of(Lang::Zh)).chain(states::ALL.iter().map(|s| s.2));
        for zh in all {
            for c in zh.chars() {
                assert!(!"“”‘’—…·→←●■▲①№°※–".contains(c), "{zh}: {c}");
                use unicode_width::UnicodeWidthChar;
                assert_eq!(c.width(), c.width_cjk(), "{zh}: {c} has no certain width");
            }
        }
    }

    #[test]
    fn column_titles_keep_their_budget() {
        for text in T::ALL {
            let name = format!("{text:?}");
            if name.starts_with("Col") {
                assert!(crate::format::width(text.of(Lang::Zh)) <= 12, "{name}");
                assert!(crate::format::width(text.of(Lang::En)) <= 12, "{name}");
            }
        }
    }

    #[test]
    fn an_unknown_state_word_is_shown_as_it_came() {
        assert_eq!(state(Lang::Zh, "RUNNING"), "运行中");
        assert_eq!(state(Lang::Zh, "SOMETHING_NEW"), "SOMETHING_NEW");
        assert_eq!(Lang::of("zh_CN.UTF-8"), Lang::Zh);
    }
}
