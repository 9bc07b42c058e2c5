//! What commands print: tables and colour for a person at a terminal; plain, exact and one a line in a pipe.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

#[derive(Clone, Copy)]
pub enum Colour {
    Green,
    Red,
    Yellow,
    Dim,
}

/// Text in a colour, where standard output is a terminal that shows any (<https://no-color.org>).
pub fn coloured(text: &str, colour: Colour) -> String {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if !wanted || !is_terminal() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => 32,
        Colour::Red => 31,
        Colour::Yellow => 33,
        Colour::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// What could move a terminal's cursor or rename its window, or turns the direction of writing, by which one name passes for another.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text of another's, fit for a terminal.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_harmful(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

pub fn line(text: impl AsRef<str>) -> io::Result<()> {
    writeln!(io::stdout(), "{}", text.as_ref())
}

/// For a person only: what is said beside the result.
pub fn aside(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = if is_terminal() {
        escaped(&serde_json::to_string_pretty(value)?)
    } else {
        serde_json::to_string(value)?
    };
    line(text)?;
    Ok(())
}

/// On one line, wherever it is read.
pub fn compact(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value)?;
    line(if is_terminal() { escaped(&text) } else { text })?;
    Ok(())
}

/// JSON fit for a terminal, which is the same JSON: what would drive it stands in texts alone, and can be written in another way.
fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_harmful(c) {
            // None of these is beyond four digits.
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A cell of a table.
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub fn new(text: impl Into<String>, colour: Colour) -> Self {
        Cell {
            text: text.into(),
            colour: Some(colour),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell {
            text: text.into(),
            colour: None,
        }
    }
}

/// At a terminal columns under their heads; in a pipe lines with tabs between the cells, and no head.
pub fn table<const N: usize>(heads: [&str; N], rows: Vec<[Cell; N]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let rows = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| (plain(&cell.text), cell.colour)));
    if !is_terminal() {
        for row in rows {
            let cells = row.map(|(text, _)| text);
            writeln!(out, "{}", cells.join("\t"))?;
        }
        return Ok(());
    }
    let rows: Vec<_> = rows.collect();
    let mut widths = heads.map(|head| head.chars().count());
    for row in &rows {
        for (width, (text, _)) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    let head = heads.map(|head| (Cow::Borrowed(head), Some(Colour::Dim)));
    for row in std::iter::once(&head).chain(&rows) {
        let mut written = String::new();
        for (place, ((text, colour), width)) in row.iter().zip(widths).enumerate() {
            let padding = width - text.chars().count();
            written.push_str(&match colour {
                Some(colour) => coloured(text, *colour),
                None => text.to_string(),
            });
            if place + 1 < N {
                written.push_str(&" ".repeat(padding + 2));
            }
        }
        writeln!(out, "{}", written.trim_end())?;
    }
    Ok(())
}

/// Names and what they are, one a line; those without are left out.
pub fn facts(facts: &[(&str, String)]) -> io::Result<()> {
    let facts: Vec<_> = facts.iter().filter(|(_, text)| !text.is_empty()).collect();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, text) in facts {
        let text = plain(text);
        if is_terminal() {
            let name = coloured(&format!("{name:width$}"), Colour::Dim);
            line(format!("{name}  {text}"))?;
        } else {
            line(format!("{name}\t{text}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_at_a_terminal_is_the_same_json() {
        let text = "a\u{9b}31m\u{202e}\u{7f}\nb\u{1b}]0;";
        let json = serde_json::json!({ text: [text, 1] });
        for written in [json.to_string(), format!("{json:#}")] {
            let shown = escaped(&written);
            assert!(!shown.replace('\n', "").contains(is_harmful), "{shown}");
            let read: Option<serde_json::Value> = serde_json::from_str(&shown).ok();
            assert_eq!(read.as_ref(), Some(&json));
        }
    }

    #[test]
    fn a_terminal_is_not_driven_by_what_is_shown() {
        assert_eq!(plain("plain ä text"), "plain ä text");
        assert_eq!(plain("a\tb\nc"), "a\\tb\\nc");
        assert_eq!(
            plain("\x1b]0;x\x07\u{9b}31m\u{202e}"),
            "\\u{1b}]0;x\\u{7}\\u{9b}31m\\u{202e}"
        );
    }
}
