//! Lists by pages. A cursor says where the page before ended; it opens nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problems::{Problem, ProblemKind};

/// Rows of a page, unless asked otherwise, and at most.
pub const LIMIT: i64 = 50;
pub const LIMIT_MAX: i64 = 500;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Asks for the next page as `cursor`; null at the end.
    pub next_cursor: Option<String>,
}

/// Where a page ended.
pub struct Cursor(String);

impl Cursor {
    pub fn new(place: &impl Serialize) -> Self {
        // Strings and numbers always become JSON.
        let json = serde_json::to_vec(place).unwrap_or_default();
        Cursor(URL_SAFE_NO_PAD.encode(json))
    }
}

impl<T> Page<T> {
    /// Of one row more than is asked for, if there are so many.
    pub fn of(mut items: Vec<T>, limit: i64, cursor: impl FnOnce(&T) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or_default();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| cursor(last).0);
        Page { items, next_cursor }
    }

    /// All there is.
    pub fn last(items: Vec<T>) -> Self {
        Page {
            items,
            next_cursor: None,
        }
    }

    pub fn map<U>(self, into: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(into).collect(),
            next_cursor: self.next_cursor,
        }
    }
}

/// Errors: `invalid` at `limit`.
pub fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Problem::new(
            ProblemKind::Invalid,
            format!("A page has 1 to {LIMIT_MAX} rows."),
        )
        .at("limit")),
    }
}

/// The longest text that is looked for, in characters.
const WORDS_LEN_CHARS: usize = 255;

/// A text that is looked for. Errors: `invalid` at the parameter.
pub fn words<'a>(text: &'a Option<String>, field: &str) -> Result<&'a str, Problem> {
    let text = text.as_deref().unwrap_or_default();
    if text.chars().count() > WORDS_LEN_CHARS {
        return Err(Problem::new(
            ProblemKind::Invalid,
            format!("What is looked for has at most {WORDS_LEN_CHARS} characters."),
        )
        .at(field));
    }
    Ok(text)
}

/// Errors: `invalid` at `cursor`.
pub fn after<P: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<P>, Problem> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let place = URL_SAFE_NO_PAD.decode(cursor).ok();
    place
        .and_then(|json| serde_json::from_slice(&json).ok())
        .map(Some)
        .ok_or_else(|| {
            Problem::new(
                ProblemKind::Invalid,
                "That is no cursor of this list. Take next_cursor of the page before, or begin without one.",
            )
            .at("cursor")
        })
}
