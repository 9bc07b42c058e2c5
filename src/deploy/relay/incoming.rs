//! A request of a client, read: what it says is known before there is a server to answer it.

use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::capabilities::ClientCapabilities;
use super::room::{Held, Room};
use super::stateless::{CAPABILITIES_KEY, is_stateless};
use super::stdio::not_allowed;
use super::wire::{Read, STATELESS_VERSION, VERSION_HEADER, is_id, read_message};
use super::{ClientKey, Limits};

pub struct Incoming {
    parts: Parts,
    pub(super) body: Body,
}

pub(super) enum Body {
    /// Of a POST.
    Message(Read),
    /// GET and DELETE have none.
    None(Held),
}

impl Incoming {
    /// Reads a request, holding room before each part of it. Errors: the answer that says what is wrong with it.
    pub async fn read(
        client: ClientKey,
        request: Request,
        room: &Room,
        limits: &Limits,
    ) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let held = room.hold(client);
        let body = match parts.method {
            Method::POST => match read_message(&parts.headers, body, limits, held).await {
                Ok(read) => Body::Message(read),
                Err(error) => return Err(error.response(&Value::Null)),
            },
            Method::GET | Method::DELETE => Body::None(held),
            _ => return Err(not_allowed()),
        };
        Ok(Self { parts, body })
    }

    pub(super) fn method(&self) -> &Method {
        &self.parts.method
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Whether it is of the stateless era.
    pub(super) fn is_stateless(&self) -> bool {
        let version = self.parts.headers.get(VERSION_HEADER);
        version.is_some_and(|version| version == STATELESS_VERSION)
            || matches!(&self.body, Body::Message(read) if is_stateless(&read.message))
    }

    /// What the client calls its request; null where it wants no answer.
    pub(super) fn id(&self) -> Value {
        let Body::Message(read) = &self.body else {
            return Value::Null;
        };
        let id = read.message.get("id").filter(|id| is_id(id));
        id.cloned().unwrap_or_default()
    }

    /// What the client can be asked, where the request says so: one that begins a session, or one that stands alone.
    pub fn capabilities(&self) -> Option<ClientCapabilities> {
        let Body::Message(read) = &self.body else {
            return None;
        };
        let params = &read.message["params"];
        let declared = match read.message["method"] == "initialize" {
            true => params.get("capabilities"),
            false => params["_meta"].get(CAPABILITIES_KEY),
        };
        declared.map(ClientCapabilities::of)
    }
}
