//! Text files as editors save them: a byte order mark is skipped, other encodings are named.

use std::fmt;

/// The reason why bytes are no text. Displays as the rest of a sentence: `is UTF-16; save it as UTF-8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotUtf8 {
    /// UTF-16, with or without a byte order mark.
    Utf16,
    /// Another encoding, such as GBK: the first byte that is not UTF-8.
    Other(usize),
}

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf16 => "is UTF-16 (Windows calls it Unicode); save it as UTF-8",
            Self::Other(_) => "is not UTF-8 (perhaps GBK); save it as UTF-8",
        })
    }
}

/// The text of a file without its byte order mark.
pub fn decode(bytes: &[u8]) -> Result<&str, NotUtf8> {
    let without_mark = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if is_utf16(bytes) {
        return Err(NotUtf8::Utf16);
    }
    std::str::from_utf8(without_mark).map_err(|error| NotUtf8::Other(error.valid_up_to()))
}

/// Returns whether it begins with a mark of UTF-16, or every second of its first bytes is zero.
fn is_utf16(bytes: &[u8]) -> bool {
    if matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]) {
        return true;
    }
    let first = &bytes[..bytes.len().min(64) & !1];
    let zeros = |start| {
        first
            .iter()
            .skip(start)
            .step_by(2)
            .filter(|b| **b == 0)
            .count()
    };
    let (even, odd) = (zeros(0), zeros(1));
    // Chinese letters have no zero byte, so that not all pairs have one.
    bytes.len().is_multiple_of(2) && even.abs_diff(odd) * 4 > first.len() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_skipped_and_encodings_named() {
        let utf16 =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        for (bytes, expected) in [
            (b"".to_vec(), Ok("")),
            ("\u{feff}x = '商'".into(), Ok("x = '商'")),
            (b"x\r\n".to_vec(), Ok("x\r\n")),
            (b"a\0b".to_vec(), Ok("a\0b")),
            (utf16("\u{feff}secret"), Err(NotUtf8::Utf16)),
            (utf16("# 配置\n[daemon]"), Err(NotUtf8::Utf16)),
            (
                "[api]".encode_utf16().flat_map(u16::to_be_bytes).collect(),
                Err(NotUtf8::Utf16),
            ),
            (b"ab\xC5\xE4".to_vec(), Err(NotUtf8::Other(2))),
        ] {
            assert_eq!(decode(&bytes), expected, "{bytes:?}");
        }
    }
}
