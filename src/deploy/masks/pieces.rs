//! The parts of a value that programs print alone: the strings in a JSON document, a key whose line ends are written out, and the
//! password in a URL. Words, names and addresses stay readable: they stand in any log, and in the protocol itself.

use serde_json::Value;
use url::Url;
use zeroize::{Zeroize as _, Zeroizing};

use super::SHORTEST_MASKED_CHARS;
use crate::deploy::json::tree;

/// Shorter parts are left, but where their name says that they are secret: they are words rather than keys.
const SHORTEST_PIECE_CHARS: usize = 8;
/// A document in a document's string, a URL in one, and its password.
const DEEPEST: usize = 3;
/// A longer part of a URL's path may be the right to call it.
const NAME_IN_PATH_CHARS: usize = 20;

/// Names of what must not be read, without case and signs.
const SECRET: [&str; 7] = [
    "secret",
    "token",
    "pass",
    "pwd",
    "private",
    "credential",
    "key",
];
/// Names of what says where or as what something is used.
const OPEN: [&str; 12] = [
    "projectid",
    "quotaprojectid",
    "universedomain",
    "region",
    "environment",
    "engine",
    "dialect",
    "driver",
    "scheme",
    "protocol",
    "host",
    "hostname",
];
/// Of lower-case letters alone; a longer one may be a password.
const WORD_LEN_CHARS: usize = 15;

/// A part of a value. Those that their names call secret go first where there is not room for all.
pub(super) struct Piece {
    pub text: Zeroizing<String>,
    pub is_named_secret: bool,
}

/// The parts of `value`.
pub(super) fn of(value: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    collect(value, DEEPEST, &mut pieces);
    pieces
}

fn collect(value: &str, depth: usize, pieces: &mut Vec<Piece>) {
    let value = value.trim();
    if depth == 0 {
        return;
    }
    if value.starts_with(['{', '['])
        && let Ok(document) = tree(value.as_bytes())
    {
        return leaves(document, "", depth, pieces);
    }
    if let Some(text) = with_line_ends(value) {
        pieces.push(Piece {
            text,
            is_named_secret: true,
        });
    }
    for text in credentials(value).into_iter().flatten() {
        pieces.push(Piece {
            text,
            is_named_secret: true,
        });
    }
}

/// The strings in a document, each under the name of the member that it stands in.
fn leaves(document: Value, name: &str, depth: usize, pieces: &mut Vec<Piece>) {
    match document {
        Value::String(text) => {
            let text = Zeroizing::new(text);
            collect(&text, depth - 1, pieces);
            // `token_type` tells of a token what everybody knows.
            let is_named_secret =
                !name.ends_with("type") && SECRET.iter().any(|secret| name.contains(secret));
            let shortest = match is_named_secret {
                true => SHORTEST_MASKED_CHARS,
                false => SHORTEST_PIECE_CHARS,
            };
            if text.chars().count() >= shortest && !is_open(name, is_named_secret, &text) {
                pieces.push(Piece {
                    text,
                    is_named_secret,
                });
            }
        }
        Value::Array(items) => {
            for item in items {
                leaves(item, name, depth, pieces);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let name = key.chars().filter(char::is_ascii_alphanumeric);
                let name: String = name.map(|c| c.to_ascii_lowercase()).collect();
                leaves(member, &name, depth, pieces);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a string in a document tells nothing that has to be hidden.
fn is_open(name: &str, is_named_secret: bool, text: &str) -> bool {
    if let Ok(url) = Url::parse(text)
        && matches!(url.scheme(), "http" | "https")
    {
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let mut path = url.path_segments().into_iter().flatten();
        let is_short = url.fragment().is_none() && path.all(|part| part.len() < NAME_IN_PATH_CHARS);
        // `token_uri` names a place, whatever is given out there; and certificates are for everybody.
        let is_place = is_short && (!is_named_secret || name.ends_with("uri"));
        return bare && (is_place || name.ends_with("certurl"));
    }
    !is_named_secret
        && (name.ends_with("type") || OPEN.contains(&name) || is_email(text) || is_word(text))
}

fn is_email(text: &str) -> bool {
    let is_plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._%+-".contains(c))
    };
    text.split_once('@').is_some_and(|(who, host)| {
        is_plain(who) && is_plain(host) && host.contains('.') && !host.ends_with('.')
    })
}

fn is_word(text: &str) -> bool {
    text.len() <= WORD_LEN_CHARS
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || "-_".contains(c))
}

/// A value whose line ends are written as `\n`, as keys stand in `.env` files, with the line ends themselves.
fn with_line_ends(value: &str) -> Option<Zeroizing<String>> {
    if !value.contains("\\n") {
        return None;
    }
    let value = value.trim_matches(['"', '\'']);
    let lines: Vec<&str> = value
        .split("\\n")
        .map(|line| line.strip_suffix("\\r").unwrap_or(line))
        .collect();
    Some(Zeroizing::new(lines.join("\n")))
}

/// The password of a URL, or the user of one without a password; as it stands there, and decoded.
fn credentials(value: &str) -> [Option<Zeroizing<String>>; 2] {
    let said = value.split_once("://").and_then(|(scheme, rest)| {
        let is_scheme = !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let authority = rest.split(['/', '?', '#']).next()?;
        let (who, host) = authority.rsplit_once('@').filter(|_| is_scheme)?;
        let names = Zeroizing::new(format!(
            "{scheme}/{host}/{}",
            rest.split(['?', '#']).next()?
        ));
        match who.split_once(':') {
            // Where it only says again what the URL says without it, masking it would hide names everywhere.
            Some((user, password)) => Some(password).filter(|password| {
                *password != user && !names.split('/').any(|name| name == *password)
            }),
            None => Some(who).filter(|who| !is_word(who)),
        }
    });
    let Some(said) = said.filter(|said| said.chars().count() >= SHORTEST_PIECE_CHARS) else {
        return [None, None];
    };
    let decoded = decoded(said).filter(|decoded| decoded.as_str() != said);
    [Some(Zeroizing::new(said.to_owned())), decoded]
}

/// What is percent-encoded, as it is. None where that is no text.
fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%');
        let mut code = [0];
        if digits.is_some_and(|digits| hex::decode_to_slice(digits, &mut code).is_ok()) {
            bytes.push(code[0]);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    }
}
