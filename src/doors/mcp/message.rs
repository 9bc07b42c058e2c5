//! JSON-RPC of both eras, as far as a server of tools without sessions needs it. Arguments stay the bytes that they came as, for they
//! can hold a value: nothing here copies or prints them.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::tools;
use crate::app::agents::INSTRUCTIONS;
use crate::deploy::relay::{
    INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RpcError, SERVER_KEY,
    SESSION_VERSIONS, STATELESS_VERSION, VERSION_HEADER, VERSION_KEY, check_envelope, versions,
};

/// The longest id, in bytes.
const ID_LEN_BYTES: usize = 1024;

/// One message, read.
#[derive(Deserialize)]
pub(super) struct Message<'b> {
    jsonrpc: Option<String>,
    /// Told from one that is missing, also when it is null.
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'b RawValue>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

/// A request, which wants an answer.
pub(super) struct Asked<'m> {
    pub id: Value,
    method: &'m str,
    params: Option<&'m RawValue>,
}

/// The 2026-07-28 version, where each request stands alone, or those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    Stateless,
    Session,
}

/// What becomes of a request.
pub(super) enum Reply<'m> {
    /// It is answered at once.
    Result(Value),
    Call {
        tool: String,
        arguments: Option<&'m RawValue>,
        era: Era,
    },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Params<'m> {
    #[serde(rename = "_meta")]
    meta: Option<Map<String, Value>>,
    name: Option<String>,
    #[serde(borrow)]
    arguments: Option<&'m RawValue>,
    protocol_version: Option<String>,
}

fn present<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Errors: it is no JSON, or no message. What it says is not quoted.
pub(super) fn read(body: &[u8]) -> Result<Message<'_>, RpcError> {
    let invalid = || {
        RpcError::new(
            StatusCode::BAD_REQUEST,
            INVALID_REQUEST,
            "The body is not one JSON-RPC 2.0 message. Send them one by one.",
        )
    };
    if !crate::deploy::json::is_harmless(body) {
        return Err(invalid());
    }
    let message: Message = serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            invalid()
        } else {
            RpcError::new(
                StatusCode::BAD_REQUEST,
                PARSE_ERROR,
                "The body is not JSON.",
            )
        }
    })?;
    let is_id = match &message.id {
        None => true,
        Some(Value::String(text)) => text.len() <= ID_LEN_BYTES,
        Some(Value::Number(number)) => number.as_str().len() <= ID_LEN_BYTES,
        Some(_) => false,
    };
    let is_answer = message.id.is_some() && (message.result.is_some() || message.error.is_some());
    if message.jsonrpc.as_deref() == Some("2.0") && is_id && (message.method.is_some() || is_answer)
    {
        Ok(message)
    } else {
        Err(invalid())
    }
}

impl Message<'_> {
    /// None for what wants no answer.
    pub(super) fn asked(&self) -> Option<Asked<'_>> {
        Some(Asked {
            id: self.id.clone()?,
            method: self.method.as_deref()?,
            params: self.params,
        })
    }
}

impl<'m> Asked<'m> {
    /// Errors: of the protocol, in the form that the request's era wants.
    pub(super) fn reply(&self, headers: &HeaderMap) -> Result<Reply<'m>, RpcError> {
        let stated = headers
            .get(VERSION_HEADER)
            .map(|version| version.to_str().unwrap_or_default());
        let params: Params = match self.params {
            Some(params) => serde_json::from_str(params.get()).map_err(|_| params_wrong())?,
            None => Params::default(),
        };
        let is_stateless = stated == Some(STATELESS_VERSION)
            || params
                .meta
                .as_ref()
                .is_some_and(|meta| meta.contains_key(VERSION_KEY));
        if is_stateless {
            return self.stateless(headers, params);
        }
        match stated {
            // Before it was negotiated, none stands there.
            Some(version)
                if self.method != "initialize" && !SESSION_VERSIONS.contains(&version) =>
            {
                Err(RpcError::version(version))
            }
            _ => self.legacy(params),
        }
    }

    fn stateless(&self, headers: &HeaderMap, params: Params<'m>) -> Result<Reply<'m>, RpcError> {
        let named = params
            .name
            .as_deref()
            .filter(|_| self.method == "tools/call");
        check_envelope(params.meta.as_ref(), self.method, named, headers)?;
        match self.method {
            "server/discover" => Ok(Reply::Result(complete(json!({
                "supportedVersions": versions(),
                "capabilities": capabilities(),
                "instructions": INSTRUCTIONS,
                "_meta": {SERVER_KEY: server_info()},
            })))),
            "tools/list" => Ok(Reply::Result(complete(json!({"tools": tools::list()})))),
            "tools/call" => call(params, Era::Stateless),
            _ => Err(unknown_method(StatusCode::NOT_FOUND)),
        }
    }

    fn legacy(&self, params: Params<'m>) -> Result<Reply<'m>, RpcError> {
        match self.method {
            "initialize" => {
                let asked = params.protocol_version.unwrap_or_default();
                let version = SESSION_VERSIONS
                    .into_iter()
                    .find(|version| *version == asked)
                    .unwrap_or(SESSION_VERSIONS[0]);
                Ok(Reply::Result(json!({
                    "protocolVersion": version,
                    "capabilities": capabilities(),
                    "serverInfo": server_info(),
                    "instructions": INSTRUCTIONS,
                })))
            }
            "ping" => Ok(Reply::Result(json!({}))),
            "tools/list" => Ok(Reply::Result(json!({"tools": tools::list()}))),
            "tools/call" => call(params, Era::Session),
            _ => Err(unknown_method(StatusCode::OK)),
        }
    }
}

fn call(params: Params<'_>, era: Era) -> Result<Reply<'_>, RpcError> {
    let tool = params.name.ok_or_else(params_wrong)?;
    if tools::named(&tool).is_none() {
        return Err(RpcError::new(
            StatusCode::OK,
            INVALID_PARAMS,
            "There is no such tool. tools/list names them.",
        ));
    }
    Ok(Reply::Call {
        tool,
        arguments: params.arguments,
        era,
    })
}

/// What this era wants in a result. It is this token's own, and may be another tomorrow.
fn complete(mut result: Value) -> Value {
    for (key, value) in [
        ("resultType", json!("complete")),
        ("ttlMs", json!(0)),
        ("cacheScope", json!("private")),
    ] {
        result[key] = value;
    }
    result
}

fn capabilities() -> Value {
    json!({"tools": {}})
}

fn server_info() -> Value {
    json!({
        "name": "sealport",
        "title": "Sealport",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Keeps secrets, and deploys MCP servers that get them without showing them.",
    })
}

fn params_wrong() -> RpcError {
    RpcError::new(
        StatusCode::BAD_REQUEST,
        INVALID_PARAMS,
        "The request's params are not those of its method.",
    )
}

fn unknown_method(status: StatusCode) -> RpcError {
    RpcError::new(status, METHOD_NOT_FOUND, "This method is not offered.")
}

/// A result that holds no value.
pub(super) fn answer(id: &Value, result: &Value) -> Response {
    let message = json!({"jsonrpc": "2.0", "id": id, "result": result});
    json_body(Body::from(message.to_string()))
}

/// A result that may hold one: its bytes are zeroed once they are sent.
pub(super) fn sealed_answer(text: Zeroizing<Vec<u8>>) -> Response {
    json_body(Body::from(Bytes::from_owner(Zeroed(text))))
}

struct Zeroed(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Zeroed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn json_body(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).try_into().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn code(body: &str, pairs: &[(&'static str, &str)]) -> Result<bool, (u16, i64)> {
        let told = |error: RpcError| (error.status.as_u16(), error.code);
        let message = read(body.as_bytes()).map_err(told)?;
        let asked = message.asked().unwrap();
        match asked.reply(&headers(pairs)).map_err(told)? {
            Reply::Result(result) => Ok(result["resultType"] == "complete"),
            Reply::Call { era, .. } => Ok(era == Era::Stateless),
        }
    }

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

    fn stateless(method: &str, rest: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{META}{rest}}}}}"#)
    }

    #[test]
    fn each_era_is_answered_in_its_own_way() {
        let version = ("mcp-protocol-version", "2026-07-28");
        assert_eq!(
            code(
                &stateless("tools/list", ""),
                &[version, ("mcp-method", "tools/list")]
            ),
            Ok(true)
        );
        let call = stateless("tools/call", r#","name":"get_secret","arguments":{}"#);
        let named = [
            version,
            ("mcp-method", "tools/call"),
            ("mcp-name", "get_secret"),
        ];
        assert_eq!(code(&call, &named), Ok(true));
        // A header that is missing or says otherwise.
        assert_eq!(code(&call, &named[..2]), Err((400, -32020)));
        assert_eq!(
            code(&stateless("ping", ""), &[version, ("mcp-method", "ping")]),
            Err((404, -32601))
        );
        for (body, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Ok(false)),
            (
                r#"{"jsonrpc":"2.0","id":"x","method":"tools/list","params":{}}"#,
                Ok(false),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#,
                Err((200, -32601)),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no"}}"#,
                Err((200, -32602)),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#,
                Err((400, -32602)),
            ),
        ] {
            assert_eq!(code(body, &[]), expected, "{body}");
        }
        let unknown = [("mcp-protocol-version", "1999-01-01")];
        assert_eq!(
            code(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, &unknown),
            Err((400, -32022))
        );
    }

    #[test]
    fn what_is_no_message_is_refused_without_a_word_of_it() {
        for (body, expected) in [
            ("", -32700),
            ("{", -32700),
            ("[]", -32600),
            (r#""canary""#, -32600),
            (r#"{"jsonrpc":"2.0","id":null,"method":"canary"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":{},"method":"canary"}"#, -32600),
            (r#"{"jsonrpc":"1.0","id":1,"method":"canary"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
            (
                r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"canary"}"#,
                -32600,
            ),
        ] {
            let Err(error) = read(body.as_bytes()) else {
                panic!("{body}");
            };
            assert_eq!(error.code, expected, "{body}");
            assert!(!error.message.contains("canary"));
        }
        let told = read(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap();
        assert!(told.asked().is_none());
        let answer = read(br#"{"jsonrpc":"2.0","id":7,"result":{}}"#).unwrap();
        assert!(answer.asked().is_none());
    }
}
