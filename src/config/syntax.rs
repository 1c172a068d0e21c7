//! Explains a line that is not TOML: which sign or quotation mark is wrong, and which is right.

/// Characters of Chinese keyboards and word processors, beyond the full-width forms of ASCII.
const FOREIGN: [(char, &str); 18] = [
    ('“', "\""),
    ('”', "\""),
    ('„', "\""),
    ('「', "\""),
    ('」', "\""),
    ('‘', "'"),
    ('’', "'"),
    ('【', "["),
    ('】', "]"),
    ('、', ","),
    ('。', "."),
    ('：', "="),
    ('–', "-"),
    ('—', "-"),
    ('\u{3000}', "a space"),
    ('\u{a0}', "a space"),
    ('\u{200b}', "nothing"),
    ('\u{feff}', "nothing"),
];

/// The message for a line in which the parser found something `wrong`, and where in the line it is if the parser does
/// not know better. Shows no text of the line but punctuation and the mode of a file.
pub(super) fn explain(line: &str, wrong: &str) -> (Option<usize>, String) {
    let foreign = foreign(line);
    let Some((first, ..)) = foreign.first() else {
        return (
            None,
            format!("this is not valid TOML: {wrong}{}", hint(line, wrong)),
        );
    };
    let mut replacements: Vec<String> = Vec::new();
    for (_, sign, right) in &foreign {
        let right = if right.len() > 1 {
            right.clone()
        } else {
            format!("`{right}`")
        };
        let replacement = match sign {
            '\u{3000}' | '\u{a0}' | '\u{200b}' | '\u{feff}' => {
                format!("{right} for the invisible U+{:04X}", u32::from(*sign))
            }
            sign => format!("{right} for `{sign}`"),
        };
        if !replacements.contains(&replacement) {
            replacements.push(replacement);
        }
    }
    let message = format!(
        "this is not valid TOML: it holds Chinese punctuation; write {}",
        replacements.join(", ")
    );
    (Some(*first), message)
}

/// The characters of a line that TOML does not take outside of quotes, and the right ones.
fn foreign(line: &str) -> Vec<(usize, char, String)> {
    let mut outside = Vec::new();
    let mut inside = Vec::new();
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => break,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => {
                quote = None;
                inside.clear();
            }
            (quote, c) => {
                if let Some(right) = right(c) {
                    let found = if quote.is_some() {
                        &mut inside
                    } else {
                        &mut outside
                    };
                    found.push((at, c, right));
                }
            }
        }
    }
    if quote.is_some() {
        // One of these was meant to close the quotes.
        outside.append(&mut inside);
        outside.sort_by_key(|(at, ..)| *at);
    }
    outside
}

fn right(c: char) -> Option<String> {
    if let Some((_, right)) = FOREIGN.iter().find(|(foreign, _)| *foreign == c) {
        return Some((*right).to_owned());
    }
    let ascii = u32::from(c).checked_sub(0xFEE0).and_then(char::from_u32)?;
    ('!'..='~').contains(&ascii).then(|| ascii.to_string())
}

/// Advice for the parser's message; for a word without quotes, that its first letter suggests.
fn hint(line: &str, wrong: &str) -> String {
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let (key, value) = (key.trim(), value.trim());
    let digits = value.split([' ', '\t', '#']).next().unwrap_or_default();
    let unquoted = wrong.starts_with("invalid ")
        || wrong.contains("must be quoted")
        || wrong.contains("unexpected key or value")
        || wrong.contains("leading zero");
    if wrong == "duplicate key" {
        "; keep one of the two".to_owned()
    } else if key == "mode" && is_mode(digits) {
        format!("; a mode needs quotes: mode = \"{digits}\"")
    } else if unquoted && value.starts_with('[') {
        "; put each item in quotes: [\"one\", \"two\"]".to_owned()
    } else if unquoted && (is_list(value) || wants_list(key)) {
        "; write a list in [ ], each item in quotes: [\"one\", \"two\"]".to_owned()
    } else if unquoted {
        "; put a text in quotes".to_owned()
    } else {
        String::new()
    }
}

fn is_mode(digits: &str) -> bool {
    (3..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Returns whether the key has a list as its value.
fn wants_list(key: &str) -> bool {
    let lists = [
        "include",
        "admins",
        "readers",
        "tickets",
        "allow_http",
        "endpoints",
    ];
    lists.contains(&key) || key.ends_with("hosts")
}

/// Returns whether words without quotes have a comma between them.
fn is_list(value: &str) -> bool {
    value.contains(',') && !value.starts_with(['"', '\'', '{'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_signs_are_named_with_the_right_ones() {
        let check = |line: &str, at: Option<usize>, expected: &str| {
            let (found, message) = explain(line, "wrong");
            assert_eq!(found, at, "{line}");
            assert!(message.ends_with(expected), "{line}: {message}");
        };
        check("a = “x”", Some(4), "write `\"` for `“`, `\"` for `”`");
        check("a ＝ 'x'", Some(2), "write `=` for `＝`");
        check("a = ['x'，'y']", Some(8), "write `,` for `，`");
        check("【api】", Some(0), "write `[` for `【`, `]` for `】`");
        check("a = \"x”", Some(6), "write `\"` for `”`");
        check(
            "a\u{3000}= 1",
            Some(1),
            "write a space for the invisible U+3000",
        );
        check("a = '，' x", None, "wrong");
        check("a = 1 x # “", None, "wrong");
    }
}
