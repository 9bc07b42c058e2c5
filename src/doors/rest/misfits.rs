//! What is wrong with a body or with parameters, said by the names and types of what is taken. serde's own sentences quote what was
//! sent, which may be a value; nothing of that is repeated.

use std::error::Error;

use serde_path_to_error::{Path, Segment};

use super::problems::{Problem, ProblemKind};

type Placed<E> = serde_path_to_error::Error<E>;

/// The longest name that is said again where it was sent in the place of one that there is, in characters.
const NAME_LEN_CHARS: usize = 32;

/// The body is no JSON: where it breaks.
pub(super) fn of_syntax(error: &(dyn Error + 'static)) -> Problem {
    let cause = cause_of::<Placed<serde_json::Error>>(error)
        .map(Placed::inner)
        .or_else(|| cause_of::<serde_json::Error>(error));
    let place = cause.map_or(String::new(), |cause| {
        format!(" at line {}, column {}", cause.line(), cause.column())
    });
    Problem::new(
        ProblemKind::Malformed,
        format!("The body is no JSON: it stops making sense{place}."),
    )
}

/// The body is JSON of another shape.
pub(super) fn of_body(error: &(dyn Error + 'static)) -> Problem {
    match cause_of::<Placed<serde_json::Error>>(error) {
        Some(cause) => {
            let said = cause.inner().to_string();
            let said = said
                .rsplit_once(" at line ")
                .map_or(said.as_str(), |(said, _)| said);
            misfit(ProblemKind::Invalid, "field", cause.path(), said)
        }
        None => Problem::new(
            ProblemKind::Invalid,
            "The body has another shape than this address takes: /api/docs shows it.",
        ),
    }
}

pub(super) fn of_query(error: &(dyn Error + 'static)) -> Problem {
    match cause_of::<Placed<serde::de::value::Error>>(error) {
        Some(cause) => misfit(
            ProblemKind::Malformed,
            "parameter",
            cause.path(),
            &cause.inner().to_string(),
        ),
        None => Problem::new(ProblemKind::Malformed, "The parameters cannot be read."),
    }
}

fn cause_of<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// `part`: what it is that has a name, a field or a parameter.
fn misfit(kind: ProblemKind, part: &str, path: &Path, said: &str) -> Problem {
    let (at, whole) = place_of(path);
    let named = |at: String, detail: String| Problem::new(kind, detail).at(&at);
    if let Some(name) = quoted(said, "missing field `") {
        let at = match at.as_str() {
            "" => name.to_owned(),
            at => format!("{at}.{name}"),
        };
        return named(at.clone(), format!("{at} is missing."));
    }
    if let Some(name) = quoted(said, "duplicate field `") {
        return named(name.to_owned(), format!("Give {name} once."));
    }
    if said.starts_with("unknown field `") {
        let takes = match said.rsplit_once(", expected ") {
            Some((_, names)) => format!(" There are: {}.", list(names)),
            None => String::new(),
        };
        return match whole && !at.is_empty() {
            true => named(at.clone(), format!("There is no {part} {at} here.{takes}")),
            false => Problem::new(
                kind,
                format!("There is a {part} that this address does not take.{takes}"),
            ),
        };
    }
    let must_be = expected(said);
    match (at.is_empty(), must_be) {
        (true, Some(what)) => {
            Problem::new(kind, format!("The body is {what}: /api/docs shows it."))
        }
        (true, None) => Problem::new(
            kind,
            "The body has another shape than this address takes: /api/docs shows it.",
        ),
        (false, Some(what)) => named(at.clone(), format!("{at} is {what}.")),
        // A rule of the model's, which quotes nothing.
        (false, None) if said.starts_with(char::is_uppercase) && said.ends_with('.') => {
            named(at, said.to_owned())
        }
        (false, None) => named(
            at.clone(),
            format!("{at} has another form than this address takes: /api/docs shows it."),
        ),
    }
}

/// The name of a field, as the types here have it.
fn quoted<'a>(said: &'a str, begins: &str) -> Option<&'a str> {
    said.strip_prefix(begins)?.strip_suffix('`')
}

/// Where it is, as in `bindings[2].env`, up to what is no name; and whether that is all of it.
fn place_of(path: &Path) -> (String, bool) {
    let mut at = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => at.push_str(&format!("[{index}]")),
            Segment::Map { key } if is_name(key) => {
                if !at.is_empty() {
                    at.push('.');
                }
                at.push_str(key);
            }
            // A variant has no place of its own.
            Segment::Enum { .. } => {}
            Segment::Map { .. } | Segment::Unknown => return (at, false),
        }
    }
    (at, true)
}

/// What reads like a name of ours; anything else may be a value in the wrong place.
fn is_name(key: &str) -> bool {
    (1..=NAME_LEN_CHARS).contains(&key.len())
        && key
            .chars()
            .all(|c| c.is_ascii_alphabetic() || c == '_' || c == '-')
}

/// What serde says that it expected, in other words: its own stand at the end, behind what it quotes.
fn expected(said: &str) -> Option<String> {
    const NUMBERS: [&str; 4] = [
        "invalid digit found in string",
        "cannot parse integer from empty string",
        "number too large to fit in target type",
        "number too small to fit in target type",
    ];
    if NUMBERS.contains(&said) {
        return Some("a whole number".into());
    }
    if said == "provided string was not `true` or `false`" {
        return Some("true or false".into());
    }
    // The crate of moments, of what is a text.
    if said.contains("component could not be parsed") || said.contains("literal was not valid") {
        return Some("a moment, as in 2027-03-31T12:00:00Z".into());
    }
    let (_, what) = said.rsplit_once(", expected ").or_else(|| {
        said.split_once("UUID parsing failed")
            .map(|_| ("", "a UUID"))
    })?;
    Some(match what {
        "a boolean" => "true or false".into(),
        "a string" | "a borrowed string" => "a text".into(),
        "a sequence" => "a list".into(),
        "a map" => "an object".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        what if what.starts_with("struct ") => "an object".into(),
        what if what.starts_with("one of `") => format!("one of {}", list(what)),
        what if what.starts_with('`') => list(what),
        what if what.contains("UUID") => "a UUID".into(),
        what if what.contains("RFC3339") || what.contains("OffsetDateTime") => {
            "a moment, as in 2027-03-31T12:00:00Z".into()
        }
        _ => return None,
    })
}

/// serde's list of names, without its quotes.
fn list(names: &str) -> String {
    names.trim_start_matches("one of ").replace('`', "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::Deserialize;
    use time::OffsetDateTime;

    use super::*;
    use crate::model::levels::Level;
    use crate::model::paths::SecretPath;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Body {
        path: SecretPath,
        level: Option<Level>,
        on: Option<bool>,
        version: Option<i32>,
        id: Option<uuid::Uuid>,
        #[serde(default, with = "super::super::times::patch")]
        ends: Option<Option<OffsetDateTime>>,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Part {
        name: String,
    }

    fn wrong(text: &str) -> Problem {
        let mut reader = serde_json::Deserializer::from_str(text);
        let error = serde_path_to_error::deserialize::<_, Body>(&mut reader).unwrap_err();
        match error.inner().is_data() {
            true => of_body(&error),
            false => of_syntax(&error),
        }
    }

    #[test]
    fn a_wrong_body_says_where_and_repeats_nothing() {
        for (text, field, detail) in [
            (
                "{",
                None,
                "no JSON: it stops making sense at line 1, column 1.",
            ),
            ("[\"canary\"]", None, "an object"),
            ("\"canary\"", None, "The body is an object"),
            ("{}", Some("path"), "path is missing."),
            (
                r#"{"path":"A","levle":"use"}"#,
                Some("levle"),
                "There is no field levle here. There are: path, level, on,",
            ),
            (
                r#"{"path":"A","sk_live_4242424242":1}"#,
                None,
                "There is a field that this address does not take. There are: path,",
            ),
            (
                r#"{"path":"A","path":"canary"}"#,
                Some("path"),
                "Give path once.",
            ),
            (
                r#"{"path":"canary//"}"#,
                Some("path"),
                "A path has no empty segment",
            ),
            (r#"{"path":["canary"]}"#, Some("path"), "path is a text."),
            (
                r#"{"path":"A","level":"canary, expected nothing"}"#,
                Some("level"),
                "level is one of use, read, write, admin.",
            ),
            (
                r#"{"path":"A","on":"canary"}"#,
                Some("on"),
                "on is true or false.",
            ),
            (
                r#"{"path":"A","version":"canary"}"#,
                Some("version"),
                "version is a whole number.",
            ),
            (
                r#"{"path":"A","version":1.5}"#,
                Some("version"),
                "version is a whole number.",
            ),
            (r#"{"path":"A","id":"canary"}"#, Some("id"), "id is a UUID."),
            (
                r#"{"path":"A","ends":"canary"}"#,
                Some("ends"),
                "ends is a moment, as in",
            ),
            (
                r#"{"path":"A","parts":{"canary":1}}"#,
                Some("parts"),
                "parts is a list.",
            ),
            (
                r#"{"path":"A","parts":[{"name":"a"},{}]}"#,
                Some("parts[1].name"),
                "parts[1].name is missing.",
            ),
            (
                r#"{"path":"A","parts":[{"name":7}]}"#,
                Some("parts[0].name"),
                "parts[0].name is a text.",
            ),
        ] {
            let problem = wrong(text);
            assert!(problem.detail.contains(detail), "{text}: {problem:?}");
            assert!(!problem.detail.contains("canary") && !problem.detail.contains("sk_live"));
            if text != "[\"canary\"]" {
                assert_eq!(problem.field.as_deref(), field, "{text}: {problem:?}");
            }
        }
    }
}
