//! Takes secrets out of what programs printed before it is kept.
//!
//! Rules, each for a line: the value after a name that means a secret (`password`, `token`, `priv_key` ...), to the end of the line, and
//! the lines below that are further to the right if it only begins there (JSON, YAML);
//! twelve or more words in a row as a mnemonic has them; anything between the lines of a PEM private key. Rather too much is taken than
//! too little: what is kept is for seeing what went wrong, not for use.

/// Stands where something was.
const HIDDEN: &str = "***";
/// A name that contains one of these has a secret for its value.
const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "mnemonic",
    "seed",
    "priv",
    "credential",
    "api_key",
    "apikey",
];
/// Fewest words of a mnemonic (BIP 39).
const MNEMONIC_WORDS: usize = 12;

/// Returns `text` without what looks like a secret.
pub(super) fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut in_key = false;
    let mut below: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if below.is_some_and(|from| indent > from || line.trim().is_empty()) {
            continue;
        }
        below = opens(line).then_some(indent);
        if line.contains("-----BEGIN") && line.contains("PRIVATE") {
            in_key = true;
            masked.push_str(HIDDEN);
            masked.push('\n');
        }
        if !in_key {
            masked.push_str(&masked_line(line));
            masked.push('\n');
        }
        if line.contains("-----END") {
            in_key = false;
        }
    }
    masked
}

/// Whether the value of a secret's name stands on the lines below, which are further to the right.
fn opens(line: &str) -> bool {
    secret_at(line).is_some_and(|at| matches!(line[at..].trim(), "" | "{" | "[" | "|" | "|-" | ">" | ">-"))
}

/// Where the value of the first secret's name begins.
fn secret_at(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let named = SECRET_NAMES.iter().flat_map(|name| lower.match_indices(name).map(|(at, _)| at));
    named.filter_map(|at| value_after(line, at)).min()
}

fn masked_line(line: &str) -> String {
    if is_mnemonic(line) {
        return HIDDEN.into();
    }
    match secret_at(line) {
        Some(at) => format!("{}{HIDDEN}", &line[..at]),
        None => line.to_owned(),
    }
}

/// Where the value begins of the name that begins at `at`; none if the word is only spoken of.
fn value_after(line: &str, at: usize) -> Option<usize> {
    let rest = &line[at..];
    let name =
        rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '"' | '\'')).unwrap_or(rest.len());
    let after = &rest[name..];
    let sign = after.trim_start();
    let is_assigned = sign.starts_with([':', '=']);
    // `--password hunter2`.
    let is_flag =
        line[..at].ends_with("--") || line[..at].rsplit(' ').next().is_some_and(|word| word.starts_with("--"));
    match (is_assigned, is_flag && !sign.is_empty()) {
        (true, _) => Some(at + name + (after.len() - sign.len()) + 1),
        (false, true) => Some(at + name + (after.len() - sign.len())),
        (false, false) => None,
    }
}

fn is_mnemonic(line: &str) -> bool {
    let is_word = |word: &str| (3..=8).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase());
    let mut run = 0;
    line.split([' ', '\t', '"', ',']).any(|word| {
        run = if is_word(word) { run + 1 } else { 0 };
        run >= MNEMONIC_WORDS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_names_mnemonics_and_keys_are_taken() {
        let mnemonic = "abandon ability able about above absent absorb abstract absurd abuse access accident";
        let key = "a\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\nz";
        for (said, kept) in [
            ("password=hunter2 and more", "password=***"),
            ("db_password : hunter2", "db_password :***"),
            ("{\"priv_key\":{\"value\":\"abc\"}}", "{\"priv_key\":***"),
            ("Bearer_Token: abc", "Bearer_Token:***"),
            ("run --api-token abc", "run --api-token ***"),
            ("run --password=abc", "run --password=***"),
            ("no seed, but a token=abc", "no seed, but a token=***"),
            (mnemonic, "***"),
            (&format!("it is \"{mnemonic}\""), "***"),
            (key, "a\n***\nz"),
            (
                "{\n  \"priv_key\": {\n    \"type\": \"ed25519\",\n    \"value\": \"c2VjcmV0\"\n  },\n  \"id\": 1\n}",
                "{\n  \"priv_key\":***\n  },\n  \"id\": 1\n}",
            ),
            ("mnemonic: |\n  c2VjcmV0\n\n  bW9yZQ\nport: 1", "mnemonic:***\nport: 1"),
        ] {
            assert_eq!(masked(said).trim_end(), kept);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for said in [
            "the password is missing",
            "seeds are asked for peers",
            "listening on 127.0.0.1:26656",
            "{\"id\":\"n0\",\"public_key\":\"0xabc\"}",
            "code 1: no such file",
        ] {
            assert_eq!(masked(said).trim_end(), said);
        }
    }
}
