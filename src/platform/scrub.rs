//! Makes a platform's words harmless: one line, bounded, without secrets and without characters that change how a
//! terminal shows the rest.

/// Longest errmsg that is passed on, characters.
const MAX_ERRMSG: usize = 300;
/// Shortest part of a secret that is cut out.
const PART: usize = 8;
/// A secret of fewer letters and digits is cut out only as it is written: its parts are in every text.
const MIN_PART: usize = 4;
/// Shortest run of letters and digits that is taken for a secret or token. An AppSecret has 32 characters, a token over
/// 100; a request id has 26.
const LONG_RUN: usize = 32;
/// Longest errmsg that is looked at, bytes.
const MAX_READ: usize = 16 * 1024;

/// The errmsg as it may be shown. The strings that the call carried are cut out, and parts of them, also where other
/// characters stand between theirs; and all that looks like a secret or token, since a proxy may echo the request.
pub(super) fn scrub(errmsg: &str, secrets: &[&str]) -> String {
    let mut text: Vec<char> = errmsg.chars().take(MAX_READ).map(harmless).collect();
    for secret in secrets {
        cut(&mut text, secret);
        cut(&mut text, &percent_encoded(secret));
        cut_exactly(&mut text, secret);
    }
    cut_long_runs(&mut text);
    let mut clean = String::new();
    for c in text {
        // A cut of any length becomes one sign; so does a run of spaces.
        if !(matches!(c, CUT | ' ') && clean.ends_with(c)) {
            clean.push(c);
        }
    }
    let clean: String = clean.chars().take(MAX_ERRMSG).collect();
    clean.trim().to_owned()
}

/// Stands for what was cut out.
const CUT: char = '…';

/// A space in place of each character that is not shown as itself: controls, changes of direction, invisible ones.
fn harmless(c: char) -> char {
    let shows = matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1;
    if shows { c } else { ' ' }
}

/// Cuts out each part of `secret` that is long enough, whatever stands between its letters and digits.
fn cut(text: &mut [char], secret: &str) {
    let letters = |c: &char| c.is_ascii_alphanumeric();
    let secret: Vec<char> = secret.chars().filter(letters).collect();
    let part = secret.len().min(PART);
    if part < MIN_PART {
        return;
    }
    let at: Vec<usize> = (0..text.len()).filter(|&i| letters(&text[i])).collect();
    let mut marked = vec![false; text.len()];
    for window in at.windows(part) {
        let is_part = secret.windows(part).any(|part| {
            let mut both = part.iter().zip(window);
            both.all(|(c, &i)| c.eq_ignore_ascii_case(&text[i]))
        });
        if is_part {
            marked[window[0]..=window[part - 1]].fill(true);
        }
    }
    for (c, marked) in text.iter_mut().zip(marked) {
        if marked {
            *c = CUT;
        }
    }
}

/// Cuts out a secret that is more than letters and digits.
fn cut_exactly(text: &mut [char], secret: &str) {
    let secret: Vec<char> = secret.chars().map(harmless).collect();
    if secret.is_empty() {
        return;
    }
    for i in 0..text.len() {
        if text[i..].starts_with(&secret) {
            text[i..i + secret.len()].fill(CUT);
        }
    }
}

fn cut_long_runs(text: &mut [char]) {
    let in_run = |c: &char| c.is_ascii_alphanumeric() || "_-%+".contains(*c);
    for run in text.chunk_by_mut(|a, b| in_run(a) == in_run(b)) {
        if run.len() >= LONG_RUN && run.first().is_some_and(in_run) {
            run.fill(CUT);
        }
    }
}

fn percent_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "0123456789abcdef0123456789ABCDEF";

    #[test]
    fn secrets_are_cut_out_however_they_are_written() {
        for (errmsg, shown) in [
            (
                "invalid appsecret 0123456789abcdef0123456789ABCDEF here",
                "invalid appsecret … here",
            ),
            ("secret=01234567.89abcdef.01234567.89ABCDEF&x", "secret=…&x"),
            ("0 1 2 3 4 5 6 7 8 9 a b c d e f", "…"),
            ("half of it: 89abcdef0123", "half of it: …"),
            ("upper 0123456789ABCDEF0123456789abcdef", "upper …"),
            (
                "an unknown one: ffffffffffffffffffffffffffffffffffffffff",
                "an unknown one: …",
            ),
            (
                "rid: 6aac005a-01bfdbee-79769285",
                "rid: 6aac005a-01bfdbee-79769285",
            ),
        ] {
            assert_eq!(scrub(errmsg, &[SECRET]), shown, "{errmsg}");
        }
    }

    #[test]
    fn scrubbed_text_cannot_reorder_a_terminal() {
        for hidden in [
            '\u{1b}',
            '\n',
            '\0',
            '\u{202e}',
            '\u{2066}',
            '\u{200f}',
            '\u{200b}',
            '\u{feff}',
            '\u{2028}',
            '\u{9b}',
            '\u{e0041}',
        ] {
            assert_eq!(scrub(&format!("a{hidden}b"), &[]), "a b", "{hidden:?}");
        }
        assert_eq!(
            scrub("不合法的 \"appid\" it's \\", &[]),
            "不合法的 \"appid\" it's \\"
        );
        assert_eq!(scrub(&"字".repeat(1000), &[]).chars().count(), MAX_ERRMSG);
    }

    proptest! {
        #[test]
        fn secrets_never_remain(before in ".{0,40}", secret in "[!-~]{6,40}", after in ".{0,40}") {
            let shown = scrub(&format!("{before}{secret}{after}"), &[&secret]);
            prop_assert!(!shown.contains(&secret));
        }

        #[test]
        fn scrubbed_text_has_no_controls(errmsg in any::<String>()) {
            let shown = scrub(&errmsg, &[]);
            prop_assert!(shown.chars().all(|c| c == harmless(c)));
        }
    }
}
