//! `.env` text. Where programs differ in reading it, this takes a line literally or refuses it with a reason; it never
//! drops one.

use std::borrow::Cow;

use super::{
    EMPTY, EMPTY_AFTER, EMPTY_COMMENT, EnvFile, Line, Unread, Variable, has_reference, is_name,
    too_many, variable,
};
use crate::model::errors::Refusal;
use crate::model::imports::{FileFormat, IMPORT_LINES_MAX, Note};

const BLANKS: [char; 2] = [' ', '\t'];
/// The longest name without an underscore that is told where a value is missing: longer ones may be base32 text.
const SURE_NAME_LEN: usize = 7;

/// A quote within single quotes, in a shell: they end, it stands behind a backslash, and they open again.
const JOINED_QUOTE: &str = r"'\''";

const NO_EQUALS: &str = "There is no = in this line. A variable looks like NAME=value; a value of several lines needs quotes around it.";
const BAD_NAME: &str =
    "What stands before the = is no name: names have letters, digits, '.', '_' and '-'.";
const UNQUOTED_PEM: &str =
    "A value of several lines needs quotes around it. Its lines were passed over.";
const OPEN_QUOTE: &str = "The quote that opens here is not closed, or more text stands after it. Within double quotes, a quote is written \\\".";
const LONE_RETURN: &str =
    "A carriage return stands alone in this line. Save the file with line ends of one kind.";

/// Errors: `Invalid` at `file` when it has too many lines that are something.
pub(super) fn parse(text: &str) -> Result<EnvFile, Refusal> {
    let text = with_plain_line_ends(text);
    let mut cursor = Cursor {
        rest: &text,
        at: 1,
        goes_on: false,
        was_quoted: false,
    };
    let mut lines = Vec::new();
    while !cursor.rest.is_empty() {
        let at = cursor.at;
        let line = cursor.line();
        let first = line.trim_matches([' ', '\t', '\r']);
        let is_comment = first.starts_with('#');
        if first.is_empty() || is_comment && !first.contains('\r') {
            cursor.goes_on = false;
            cursor.pass(line);
            continue;
        }
        if lines.len() == IMPORT_LINES_MAX {
            return Err(too_many());
        }
        let read = if is_comment {
            cursor.pass(line);
            Err(Unread::nameless(LONE_RETURN))
        } else {
            cursor.variable(line)
        };
        let read = read.map_err(|unread| {
            match cursor.goes_on && !cursor.was_quoted && unread.is_empty() {
                true => Unread::nameless(EMPTY_AFTER),
                false => unread,
            }
        });
        cursor.goes_on = match &read {
            Ok(_) => !cursor.was_quoted,
            Err(unread) => !unread.is_empty(),
        };
        lines.push(Line { at, read });
    }
    Ok(EnvFile {
        format: FileFormat::Dotenv,
        lines,
    })
}

/// Windows' line ends are no part of a value: where a file has them, it has no others.
fn with_plain_line_ends(text: &str) -> Cow<'_, str> {
    let ends = text.matches('\n').count();
    if ends > 0 && ends == text.matches("\r\n").count() {
        Cow::Owned(text.replace("\r\n", "\n"))
    } else {
        Cow::Borrowed(text)
    }
}

struct Cursor<'a> {
    rest: &'a str,
    /// The number of the line that begins here, from 1.
    at: u32,
    /// The line before may be the beginning of a value, of which this one is a piece.
    goes_on: bool,
    was_quoted: bool,
}

impl<'a> Cursor<'a> {
    /// The line that begins here, without its end.
    fn line(&self) -> &'a str {
        self.rest.split('\n').next().unwrap_or_default()
    }

    /// Goes past the text and the end of its line.
    fn pass(&mut self, text: &str) {
        self.at += 1 + text.bytes().filter(|byte| *byte == b'\n').count() as u32;
        self.rest = self.rest.get(text.len() + 1..).unwrap_or_default();
    }

    /// The variable that begins in `line`. Where it cannot be read, the next line is tried by itself.
    fn variable(&mut self, line: &'a str) -> Result<Variable, Unread> {
        let Some((before, after)) = line.split_once('=') else {
            self.pass(line);
            return Err(Unread::nameless(NO_EQUALS));
        };
        let Some(name) = name_of(before) else {
            self.pass(line);
            return Err(Unread::nameless(BAD_NAME));
        };
        let begun = after.trim_start_matches(BLANKS);
        self.was_quoted = begun.starts_with(['"', '\'', '`']);
        if let Some(quote @ ('"' | '\'' | '`')) = begun.chars().next() {
            // Counted from the start of the line: the value may go on beyond it.
            let opened = line.len() - begun.len() + 1;
            return self.quoted(line, name, quote, opened);
        }
        if begun.starts_with("-----BEGIN ") && !begun.contains("-----END ") {
            self.pass_pem();
            return Err(Unread {
                name: Some(name.to_owned()),
                reason: UNQUOTED_PEM,
            });
        }
        self.pass(line);
        unquoted(name, after)
    }

    fn quoted(
        &mut self,
        line: &str,
        name: &str,
        quote: char,
        opened: usize,
    ) -> Result<Variable, Unread> {
        let rest = self.rest;
        let body = &rest[opened..];
        // A line with `export` is a shell's, and its quotes are read as a shell reads them.
        let joined = quote == '\'' && is_exported(line);
        let close = if joined {
            closing_joined(body)
        } else {
            closing(body, quote)
        };
        let closed = close.filter(|end| {
            let line = body[end + 1..].split('\n').next().unwrap_or_default();
            let after = line.trim_start_matches(BLANKS).trim_end();
            after.is_empty() || after.starts_with('#')
        });
        let Some(end) = closed else {
            self.pass(line);
            return Err(Unread {
                name: Some(name.to_owned()),
                reason: OPEN_QUOTE,
            });
        };
        let text = &body[..end];
        let last = body[end..].split('\n').next().unwrap_or_default();
        self.pass(&rest[..opened + end + last.len()]);
        let value = match quote {
            '"' => unescaped(text),
            _ if joined => Cow::Owned(text.replace(JOINED_QUOTE, "'")),
            _ => Cow::Borrowed(text),
        };
        // After a backslash a dollar sign is one everywhere. In single quotes too, but some programs fill in even there.
        let refers = has_reference(&text.replace("\\$", ""));
        let mut notes = Vec::from_iter(refers.then_some(Note::Reference));
        if !last[1..].trim_matches([' ', '\t', '\r']).is_empty() {
            notes.push(Note::Comment);
        }
        variable(name.to_owned(), value.into_owned(), notes)
    }

    /// Passes the lines of a key or certificate without quotes: they are no variables, and pieces of a value.
    fn pass_pem(&mut self) {
        while !self.rest.is_empty() {
            let line = self.line();
            self.pass(line);
            if line.contains("-----END ") {
                return;
            }
        }
    }
}

fn is_exported(line: &str) -> bool {
    line.trim_start_matches(BLANKS)
        .strip_prefix("export")
        .is_some_and(|rest| rest.starts_with(BLANKS))
}

/// The name before the `=`, without `export`.
fn name_of(before: &str) -> Option<&str> {
    let name = before.trim_matches(BLANKS);
    let name = match name.strip_prefix("export") {
        Some(rest) if rest.starts_with(BLANKS) => rest.trim_start_matches(BLANKS),
        _ => name,
    };
    is_name(name).then_some(name)
}

fn unquoted(name: &str, after: &str) -> Result<Variable, Unread> {
    let (value, comment) = without_comment(after);
    let value = value.trim_matches(BLANKS);
    if value.trim_end_matches('\r').contains('\r') {
        return Err(Unread {
            name: Some(name.to_owned()),
            reason: LONE_RETURN,
        });
    }
    let value = value.trim_end_matches('\r').trim_end_matches(BLANKS);
    // A last line of base64 ends in one or two; what stands before them is then no name.
    if value.chars().all(|c| c == '=') {
        let sure = name.len() <= SURE_NAME_LEN
            || name.contains('_') && !name.bytes().any(|b| b.is_ascii_lowercase());
        return Err(Unread {
            name: (value.is_empty() && sure).then(|| name.to_owned()),
            reason: if value.is_empty() && comment {
                EMPTY_COMMENT
            } else {
                EMPTY
            },
        });
    }
    let mut notes = Vec::new();
    if has_reference(value) {
        notes.push(Note::Reference);
    }
    if value.contains('#') {
        notes.push(Note::Hash);
    }
    if comment {
        notes.push(Note::Comment);
    }
    variable(name.to_owned(), value.to_owned(), notes)
}

/// A comment begins with a `#` after a blank, so that `A=pa#ss` is whole and `A= # unset` is empty. And whether there is one.
fn without_comment(after: &str) -> (&str, bool) {
    let mut blank = false;
    for (at, c) in after.char_indices() {
        if c == '#' && blank {
            return (&after[..at], true);
        }
        blank = BLANKS.contains(&c);
    }
    (after, false)
}

/// Where the quote closes. In double quotes a backslash keeps the character after it from closing.
fn closing(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return Some(at);
        }
    }
    None
}

/// Where single quotes close, if a quote within them is written as a shell needs it.
fn closing_joined(body: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let end = from + body[from..].find('\'')?;
        if !body[end..].starts_with(JOINED_QUOTE) {
            return Some(end);
        }
        from = end + JOINED_QUOTE.len();
    }
}

/// Line ends, tabs and what a shell escapes; before anything else a backslash is a backslash.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let means = match (c, chars.peek()) {
            ('\\', Some('n')) => Some('\n'),
            ('\\', Some('r')) => Some('\r'),
            ('\\', Some('t')) => Some('\t'),
            ('\\', Some(&plain @ ('"' | '\\' | '$' | '`'))) => Some(plain),
            _ => None,
        };
        if let Some(means) = means {
            chars.next();
            value.push(means);
        } else {
            value.push(c);
        }
    }
    Cow::Owned(value)
}
