//! The form in which PHP keeps a value.

use std::fmt::Write as _;
use zeroize::Zeroizing;

/// As PHP's `serialize` writes a string. Its length counts bytes.
pub(super) fn php_string(text: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("s:{}:\"{text}\";", text.len()))
}

/// As PHP's `serialize` writes an array of strings and numbers.
pub(super) fn php_array(fields: &[(&str, Result<&str, i64>)]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(format!("a:{}:{{", fields.len()));
    for (name, value) in fields {
        text.push_str(&php_string(name));
        match value {
            Ok(string) => text.push_str(&php_string(string)),
            Err(number) => {
                let _ = write!(text, "i:{number};");
            }
        }
    }
    text.push('}');
    text
}
