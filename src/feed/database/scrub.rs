//! Keeps values out of messages.

use wxtokend::value::Value;

/// Parts of a value this long give it away.
const TELLING: usize = 6;
/// The longest message that is shown.
const MAX_LENGTH: usize = 400;

/// A server's message on one line, without any word that holds a part of the value.
pub(crate) fn scrub(message: &str, token: Option<&Value>) -> String {
    let parts: Vec<&[u8]> = match token {
        Some(token) if token.expose().len() < TELLING => vec![token.expose().as_bytes()],
        Some(token) => token.expose().as_bytes().windows(TELLING).collect(),
        None => Vec::new(),
    };
    let tells = |word: &str| {
        let mut parts = parts.iter();
        parts.any(|part| {
            word.as_bytes()
                .windows(part.len())
                .any(|window| window == *part)
        })
    };
    let ends_word = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`');
    let mut clean = String::with_capacity(message.len());
    for word in message.split_inclusive(ends_word) {
        let end = word.chars().next_back().filter(|c| ends_word(*c));
        let body = end.map_or(word, |end| &word[..word.len() - end.len_utf8()]);
        clean.push_str(if tells(body) { "…" } else { body });
        clean.extend(end.map(|end| if end.is_control() { ' ' } else { end }));
    }
    let clean: String = clean.chars().filter(|c| !c.is_control()).collect();
    match clean.char_indices().nth(MAX_LENGTH) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_value_is_shown() {
        let token = Value::parse("76_CANARYabcdefghijklmnop").unwrap();
        for (message, expected) in [
            (
                "Duplicate entry '76_CANARYabcdefghijklmnop' for key 'PRIMARY'",
                "Duplicate entry '…' for key 'PRIMARY'",
            ),
            (
                "Truncated value: '76_CANARYab'.\nStop",
                "Truncated value: '…'. Stop",
            ),
            (
                "Data too long for column 'token' at row 1",
                "Data too long for column 'token' at row 1",
            ),
        ] {
            assert_eq!(scrub(message, Some(&token)), expected);
        }
        assert!(scrub(&"x ".repeat(500), None).len() < 420);
    }
}
