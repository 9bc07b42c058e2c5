//! A flat YAML mapping of texts. Read event by event: what a text means stays to be decided here, names that stand twice are both
//! seen, and nothing is filled in.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use zeroize::Zeroizing;

use super::{
    EMPTY, EMPTY_COMMENT, EnvFile, Line, Unread, Variable, has_reference, is_name, too_many,
};
use crate::model::errors::Refusal;
use crate::model::imports::{FileFormat, IMPORT_LINES_MAX, Note};

const NESTED: &str = "It holds a list or a mapping. Give each text a name of its own.";
pub(super) const NULL: &str = "It is null, which is no value. In quotes it is a text.";
const ALIAS: &str = "It refers to another value. Write the value itself.";
const ANCHORED: &str = "It begins with & and a name, which YAML takes out of the value. Write the text itself, in quotes.";
const TAGGED: &str = "It has a tag, which would make it something else than a text. Write the text itself, in quotes.";
const BAD_NAME: &str =
    "Its name has characters that names do not have: they have letters, digits, '.', '_' and '-'.";
const NO_MAPPING: &str = "The YAML has to be one mapping of names and texts, as in NAME: value.";
const SEVERAL: &str = "The YAML has several documents. Import them one by one.";

/// Errors: `Invalid` at `file`. The parser's own words are not passed on: they may quote what they read.
pub(super) fn parse(text: &str) -> Result<EnvFile, Refusal> {
    let mut events = Events(Parser::new_from_str(text));
    let source: Vec<&str> = text.lines().collect();
    let mut lines = Vec::new();
    let mut read = false;
    while let Some((event, _)) = events.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
            Event::DocumentStart(_) if read => return refuse(SEVERAL),
            Event::DocumentStart(_) => {}
            Event::MappingStart(..) => {
                read = true;
                mapping(&mut events, &source, &mut lines)?;
            }
            _ => return refuse(NO_MAPPING),
        }
    }
    if !read {
        return refuse(NO_MAPPING);
    }
    Ok(EnvFile {
        format: FileFormat::Yaml,
        lines,
    })
}

fn refuse<T>(detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::invalid("file", detail))
}

struct Events<'a>(Parser<'a, saphyr_parser::StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Refusal> {
        let event = self.0.next_event().transpose();
        event.or_else(|error: ScanError| {
            let at = error.marker();
            refuse(format!(
                "This is not YAML: something is wrong at line {}, column {}.",
                at.line(),
                at.col() + 1
            ))
        })
    }

    /// What a file that breaks off within a mapping would lack.
    fn must(&mut self) -> Result<(Event<'a>, Span), Refusal> {
        match self.next()? {
            Some(event) => Ok(event),
            None => refuse(NO_MAPPING),
        }
    }

    /// Goes past a list or a mapping that has begun.
    fn pass(&mut self) -> Result<(), Refusal> {
        let mut depth = 1usize;
        while depth > 0 {
            match self.must()?.0 {
                Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
                Event::SequenceEnd | Event::MappingEnd => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}

fn mapping(events: &mut Events, source: &[&str], lines: &mut Vec<Line>) -> Result<(), Refusal> {
    loop {
        let (event, named) = events.must()?;
        let at = u32::try_from(named.start.line()).unwrap_or(u32::MAX);
        let name = match event {
            Event::MappingEnd => return Ok(()),
            Event::Scalar(name, ..) => Some(name.into_owned()),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                events.pass()?;
                None
            }
            _ => None,
        };
        if lines.len() == IMPORT_LINES_MAX {
            return Err(too_many());
        }
        let (value, span) = events.must()?;
        if matches!(value, Event::SequenceStart(..) | Event::MappingStart(..)) {
            events.pass()?;
        }
        let read = match name.filter(|name| is_name(name)) {
            Some(name) => {
                let comment = has_comment(source, &named, &value, &span);
                variable(name, value, comment)
            }
            None => Err(Unread::nameless(BAD_NAME)),
        };
        lines.push(Line { at, read });
    }
}

fn variable(name: String, value: Event, comment: bool) -> Result<Variable, Unread> {
    let (text, style) = match value {
        Event::Scalar(_, _, 1.., _) => return unread(name, ANCHORED),
        Event::Scalar(text, style, _, tag) => {
            let is_text =
                |tag: &saphyr_parser::Tag| tag.is_yaml_core_schema() && tag.suffix == "str";
            match tag {
                Some(tag) if !is_text(&tag) => return unread(name, TAGGED),
                Some(_) => (text, ScalarStyle::DoubleQuoted),
                None => (text, style),
            }
        }
        Event::Alias(_) => return unread(name, ALIAS),
        _ => return unread(name, NESTED),
    };
    let mut notes = Vec::new();
    if style == ScalarStyle::Plain {
        match text.as_ref() {
            "" if comment => return unread(name, EMPTY_COMMENT),
            "" => return unread(name, EMPTY),
            "~" | "null" | "Null" | "NULL" => return unread(name, NULL),
            plain if is_no_text(plain) => notes.push(Note::NoText),
            _ => {}
        }
    }
    if has_reference(&text) {
        notes.push(Note::Reference);
    }
    if comment {
        notes.push(Note::Comment);
    }
    super::variable(name, text.into_owned(), notes)
}

/// Whether a comment stands behind the value, in its lines. One that has a line of its own is none of these.
fn has_comment(source: &[&str], named: &Span, value: &Event, span: &Span) -> bool {
    let line = |number: usize| {
        source
            .get(number.wrapping_sub(1))
            .copied()
            .unwrap_or_default()
    };
    let is_comment = |rest: &str| rest.trim_start().starts_with('#');
    match value {
        // Within quotes a number sign is one. The parser's own end stands behind a comment.
        Event::Scalar(_, style @ (ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted), ..) => {
            let lines = (span.start.line()..=span.end.line()).map(line);
            let text = Zeroizing::new(lines.collect::<Vec<_>>().join("\n"));
            let begun = text.char_indices().nth(span.start.col());
            let begun = begun.map_or("", |(at, _)| &text[at..]);
            is_comment(behind_quotes(begun, *style == ScalarStyle::DoubleQuoted))
        }
        // The text begins below the line of its name.
        Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..) => {
            line(named.start.line()).contains(" #") || line(named.start.line()).contains("\t#")
        }
        // Without quotes, a number sign after a blank always begins one.
        _ => (named.start.line()..=last_line(span).max(named.start.line()))
            .map(line)
            .any(|line| !is_comment(line) && (line.contains(" #") || line.contains("\t#"))),
    }
}

/// What stands behind the quotes that open first, in their last line.
fn behind_quotes(text: &str, double: bool) -> &str {
    let quote = if double { '"' } else { '\'' };
    let Some((_, inside)) = text.split_once(quote) else {
        return "";
    };
    let mut chars = inside.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let is_doubled = !double && chars.peek().is_some_and(|(_, next)| *next == quote);
        if c == '\\' && double || c == quote && is_doubled {
            chars.next();
        } else if c == quote {
            return inside[at + 1..].split('\n').next().unwrap_or_default();
        }
    }
    ""
}

/// The line on which it ends: the place behind it may stand at the beginning of the next.
fn last_line(span: &Span) -> usize {
    match span.end.col() {
        0 => span.end.line().saturating_sub(1),
        _ => span.end.line(),
    }
}

fn unread<T>(name: String, reason: &'static str) -> Result<T, Unread> {
    let name = Some(name);
    Err(Unread { name, reason })
}

/// What programs read as a number or as yes and no, in YAML 1.2 or 1.1. It is stored as it is written.
fn is_no_text(plain: &str) -> bool {
    const WORDS: [&str; 6] = ["true", "false", "yes", "no", "on", "off"];
    let digits = plain.trim_start_matches(['+', '-']);
    WORDS.contains(&plain.to_ascii_lowercase().as_str())
        || digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || b"xo._+-:".contains(&b))
}
