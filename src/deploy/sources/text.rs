//! Foreign text made fit to show: no control characters, no terminal sequences, bounded; and texts of foreign objects.

use serde_json::{Map, Value};

/// A title, in characters.
pub(super) const TITLE_LEN: usize = 100;
/// A description or a note, in characters.
pub(super) const SENTENCE_LEN: usize = 500;
/// A default value, in characters.
pub(super) const DEFAULT_LEN: usize = 300;

/// One line: terminal sequences and control characters removed, white space joined, cut at `max` characters.
pub(super) fn line(raw: &str, max: usize) -> String {
    let visible = without_escapes(raw);
    let mut out = String::new();
    let mut gap = false;
    for c in visible.chars() {
        if c.is_whitespace() {
            gap = !out.is_empty();
            continue;
        }
        if c.is_control() || is_invisible(c) {
            continue;
        }
        if gap {
            out.push(' ');
            gap = false;
        }
        out.push(c);
        // Bounded while it grows, for the input may be a megabyte.
        if out.len() > max * 4 {
            break;
        }
    }
    cut(&out, max)
}

/// A line of an installer's output: its indentation kept, everything else as `line`.
pub(super) fn output(raw: &str, max_bytes: usize) -> String {
    let mut out: String = without_escapes(raw)
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control() && !is_invisible(*c))
        .collect();
    if out.len() > max_bytes {
        let end = (0..=max_bytes)
            .rev()
            .find(|i| out.is_char_boundary(*i))
            .unwrap_or(0);
        out.truncate(end);
        out.push('…');
    }
    out.truncate(out.trim_end().len());
    out
}

fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
    }
}

/// Characters that turn or hide text without being seen: direction marks, zero widths, private use.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e007f}')
}

/// Removes ANSI sequences whole, so that no `[31m` stays behind.
fn without_escapes(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len().min(64 * 1024));
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => skip_control_sequence(&mut chars),
                Some(']' | 'P' | '_' | '^' | 'X') => skip_string(&mut chars),
                _ => {}
            },
            '\u{9b}' => skip_control_sequence(&mut chars),
            _ => out.push(c),
        }
    }
    out
}

fn skip_control_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = chars.peek() {
        let c = *c;
        // A sequence that never ends must not swallow the text after its line.
        if c == '\n' {
            return;
        }
        chars.next();
        if ('\u{40}'..='\u{7e}').contains(&c) {
            return;
        }
    }
}

fn skip_string(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = chars.peek() {
        let c = *c;
        if c == '\n' {
            return;
        }
        chars.next();
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next();
                return;
            }
            _ => {}
        }
    }
}

/// A text of an object; empty where there is none.
pub(super) fn string<'a>(object: &'a Map<String, Value>, field: &str) -> &'a str {
    object
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A switch of an object; off where there is none.
pub(super) fn flag(object: &Map<String, Value>, field: &str) -> bool {
    object.get(field).and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_and_control_characters_go() {
        assert_eq!(
            line("\u{1b}[31mred\u{1b}[0m\u{7}\n\n and\u{202e} more\0", 50),
            "red and more"
        );
        assert_eq!(
            line("\u{1b}]8;;https://evil.example\u{7}link\u{1b}]8;;\u{7}", 50),
            "link"
        );
        assert_eq!(
            line("<script>alert(1)</script>", 50),
            "<script>alert(1)</script>"
        );
    }

    #[test]
    fn text_is_cut_at_characters() {
        assert_eq!(line("äöü", 2), "äö…");
        assert_eq!(line(&"x".repeat(1_000_000), 10), "xxxxxxxxxx…");
        assert_eq!(output("  äöü", 4), "  ä…");
    }
}
