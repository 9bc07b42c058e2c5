//! What a caller gets who has not connected the keys that a server asks of each: a way to the page where that is done. In both eras: as
//! an elicitation by URL where the client can open one, else as an error that carries the link.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::conversation::at_once;
use super::stateless::{self, check_envelope, discovered};
use super::stdio::not_allowed;
use super::wire::{
    Accepts, Kind, METHOD_NOT_FOUND, Read, RpcError, SERVER_GONE, SESSION_HEADER, SESSION_VERSIONS,
    STATELESS_VERSION, VERSION_HEADER, accepted, json_response, kind, named_in, read_message,
};
use super::{ClientKey, Limits, Room};

/// The one tool that is there before any of the server's.
const TOOL: &str = "connect_keys";
/// As the era of sessions numbers that a page has to be opened first.
const URL_ELICITATION_REQUIRED: i64 = -32042;
/// What may be answered with a question, in the stateless era.
const MAY_ASK: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// Sessions begin so, and end so where the client can open a page: nothing else is remembered of them.
const SESSION: &str = "connect-";
const SESSION_BY_URL: &str = "-url";

/// What is asked of the caller.
pub struct Unconnected<'a> {
    /// The deployment's name.
    pub server: &'a str,
    pub names: &'a [String],
    /// The page where it is done. Whoever opens it signs in there.
    pub url: &'a str,
}

impl Unconnected<'_> {
    /// Answers one HTTP request in the server's place.
    pub async fn handle(&self, client: ClientKey, room: &Room, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        match parts.method {
            Method::POST => {}
            Method::DELETE => return StatusCode::NO_CONTENT.into_response(),
            _ => return not_allowed(),
        }
        let held = room.hold(client);
        match read_message(&parts.headers, body, &Limits::default(), held).await {
            Ok(Read { message, .. }) => {
                let id = message.get("id").cloned().unwrap_or(Value::Null);
                self.answer(&parts.headers, &message)
                    .unwrap_or_else(|error| error.response(&id))
            }
            Err(error) => error.response(&Value::Null),
        }
    }

    fn answer(&self, headers: &HeaderMap, message: &Value) -> Result<Response, RpcError> {
        let (id, method) = match kind(message) {
            Some(Kind::Request { id, method }) => (id, method),
            Some(_) => return Ok(accepted()),
            None => return Err(RpcError::invalid("The body is not a JSON-RPC 2.0 message.")),
        };
        let accepts = Accepts::of(headers);
        let is_stateless = headers
            .get(VERSION_HEADER)
            .is_some_and(|version| version == STATELESS_VERSION)
            || stateless::is_stateless(message);
        if is_stateless {
            let result = self.stateless(headers, message, method)?;
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
            return Ok(json_response(StatusCode::OK, &answer, None));
        }
        let result = match method {
            "initialize" => return Ok(self.initialize(message, id, accepts)),
            "ping" => json!({}),
            "tools/list" => json!({"tools": [self.tool()]}),
            _ => return Err(self.refusal(opens_pages(headers))),
        };
        Ok(at_once(
            accepts,
            json!({"jsonrpc": "2.0", "id": id, "result": result}),
        ))
    }

    fn stateless(
        &self,
        headers: &HeaderMap,
        message: &Value,
        method: &str,
    ) -> Result<Value, RpcError> {
        let params = &message["params"];
        let named = named_in(message);
        let meta = params["_meta"].as_object();
        check_envelope(meta, method, named, headers)?;
        let by_url = meta
            .and_then(|meta| meta.get(stateless::CAPABILITIES_KEY))
            .is_some_and(can_open_pages);
        match method {
            "server/discover" => Ok(discovered(&self.info())),
            "tools/list" => Ok(json!({
                "resultType": "complete", "tools": [self.tool()], "ttlMs": 0, "cacheScope": "private",
            })),
            _ if MAY_ASK.contains(&method) && by_url => Ok(json!({
                "resultType": "input_required",
                "inputRequests": {"connect": {
                    "method": "elicitation/create",
                    "params": {"mode": "url", "message": self.says(), "url": self.url},
                }},
            })),
            _ if MAY_ASK.contains(&method) => Err(self.refusal(false)),
            _ => Err(RpcError::new(
                StatusCode::NOT_FOUND,
                METHOD_NOT_FOUND,
                self.says(),
            )),
        }
    }

    fn initialize(&self, message: &Value, id: &Value, accepts: Accepts) -> Response {
        let asked = message.pointer("/params/protocolVersion");
        let version = SESSION_VERSIONS
            .into_iter()
            .find(|version| Some(*version) == asked.and_then(Value::as_str))
            .unwrap_or(SESSION_VERSIONS[0]);
        let by_url = message
            .pointer("/params/capabilities")
            .is_some_and(can_open_pages);
        let mut result = self.info();
        result["protocolVersion"] = json!(version);
        let mut response = at_once(
            accepts,
            json!({"jsonrpc": "2.0", "id": id, "result": result}),
        );
        let random = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let session = match by_url {
            true => format!("{SESSION}{random}{SESSION_BY_URL}"),
            false => format!("{SESSION}{random}"),
        };
        if let Ok(session) = HeaderValue::from_str(&session) {
            response.headers_mut().insert(SESSION_HEADER, session);
        }
        response
    }

    fn info(&self) -> Value {
        json!({
            "capabilities": {"tools": {}},
            "serverInfo": {"name": self.server, "version": env!("CARGO_PKG_VERSION")},
            "instructions": self.says(),
        })
    }

    fn tool(&self) -> Value {
        json!({
            "name": TOOL,
            "description": self.says(),
            "inputSchema": {"type": "object", "properties": {}},
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
        })
    }

    fn says(&self) -> String {
        format!(
            "The server {} runs with keys of your own, and these are not connected: {}. Open {} in a browser, sign in, and connect them; then list the tools again.",
            self.server,
            self.names.join(", "),
            self.url,
        )
    }

    fn refusal(&self, by_url: bool) -> RpcError {
        if !by_url {
            return RpcError::new(StatusCode::OK, SERVER_GONE, self.says());
        }
        let elicitation = json!({
            "mode": "url",
            "elicitationId": Uuid::now_v7(),
            "url": self.url,
            "message": self.says(),
        });
        RpcError {
            data: Some(json!({"elicitations": [elicitation]})),
            ..RpcError::new(StatusCode::OK, URL_ELICITATION_REQUIRED, self.says())
        }
    }
}

/// Whether a session of this kind is that of a client that can open a page.
fn opens_pages(headers: &HeaderMap) -> bool {
    headers
        .get(SESSION_HEADER)
        .and_then(|session| session.to_str().ok())
        .is_some_and(|session| session.starts_with(SESSION) && session.ends_with(SESSION_BY_URL))
}

fn can_open_pages(capabilities: &Value) -> bool {
    capabilities
        .pointer("/elicitation/url")
        .is_some_and(Value::is_object)
}
