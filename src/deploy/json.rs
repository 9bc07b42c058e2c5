//! JSON from outside as a tree. serde_json has keys of its own, by which it takes a string for JSON and reads that in turn, without
//! counting how deep it is: a short text could end the program. No text with such a key is read.

use std::fmt;

use serde_json::Value;

/// What these keys begin with.
const PRIVATE: &[u8] = b"$serde_json::private::";

/// The text is no JSON, or has a key that nobody may use.
#[derive(Debug, PartialEq, Eq)]
pub struct NotJson;

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not JSON")
    }
}

impl std::error::Error for NotJson {}

/// Reads a text of anybody's.
pub fn tree(json: &[u8]) -> Result<Value, NotJson> {
    if !is_harmless(json) {
        return Err(NotJson);
    }
    serde_json::from_slice(json).map_err(|_| NotJson)
}

/// Whether no string in a JSON text begins as those keys do, however it is written.
pub fn is_harmless(json: &[u8]) -> bool {
    let quotes = json.iter().enumerate().filter(|(_, byte)| **byte == b'"');
    !quotes
        .map(|(at, _)| &json[at + 1..])
        .any(|rest| matches!(rest.first(), Some(b'$' | b'\\')) && begins_private(rest))
}

fn begins_private(mut rest: &[u8]) -> bool {
    for expected in PRIVATE {
        let (read, tail) = match rest {
            [b'\\', b'u', b'0', b'0', high, low, tail @ ..] => {
                let hex = [*high, *low];
                let code = std::str::from_utf8(&hex).ok();
                let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                (code, tail)
            }
            [byte, tail @ ..] => (Some(*byte), tail),
            [] => return false,
        };
        if read != Some(*expected) {
            return false;
        }
        rest = tail;
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A text that is far deeper than it is nested, and so is what it holds.
    fn deeper(levels: usize) -> String {
        let mut text = "[]".to_owned();
        for _ in 0..levels {
            let inner = text.replace('\\', r"\u005c").replace('"', r"\u0022");
            let (open, close) = ("[".repeat(120), "]".repeat(120));
            text = format!(r#"{open}{{"$serde_json::private::RawValue":"{inner}"}}{close}"#);
        }
        text
    }

    #[test]
    fn a_text_that_reads_itself_again_is_not_read() {
        // This is what the library does with it: the brackets within the string are brackets of the tree.
        let text = deeper(2);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert!(!read.to_string().contains("private"));
        assert_eq!(tree(text.as_bytes()), Err(NotJson));
        assert_eq!(tree(deeper(6).as_bytes()), Err(NotJson));
        for key in [
            r"$serde_json::private::RawValue",
            r"\u0024serde_json::private::RawValue",
            r"$serde\u005Fjson::private::Number",
        ] {
            let text = format!(r#"{{"a": [{{ "{key}" : "1"}}]}}"#);
            assert_eq!(tree(text.as_bytes()), Err(NotJson), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_read() {
        for text in [
            r#"{"$schema": "x", "$serde_json": 1, "a": "\"$serde_json::priv"}"#,
            r#"["\\$serde", "see $serde_json::private::RawValue", "\u0024"]"#,
        ] {
            assert_eq!(
                tree(text.as_bytes()).unwrap(),
                serde_json::from_str::<Value>(text).unwrap()
            );
        }
        assert_eq!(tree(b"{"), Err(NotJson));
    }
}
