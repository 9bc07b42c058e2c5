//! What a server that speaks HTTP says of itself when it is asked first, and which eras it speaks.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::{HttpRelay, bounded};
use crate::deploy::json::tree as json_tree;
use crate::deploy::relay::events::Events;
use crate::deploy::relay::room::{Full, weigh};
use crate::deploy::relay::stdio::initialize;
use crate::deploy::relay::wire::{
    Kind, SESSION_HEADER, SESSION_VERSIONS, STATELESS_VERSION, VERSION_HEADER, is_type, kind,
};
use crate::deploy::relay::{ClientKey, HandshakeError, over_http, stateless};

/// Between two tries to reach a server that is starting.
const RETRY: Duration = Duration::from_millis(100);
/// How long each look may take: whether it is open to all, and whether it speaks without sessions.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// The eras of a server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speaks {
    pub sessions: bool,
    pub stateless: bool,
}

impl HttpRelay {
    /// Whether it answers to whoever comes without the secret; none when it cannot be told.
    pub async fn is_open(&self) -> Option<bool> {
        let mut request = initialize();
        request["id"] = json!(1);
        let asked = self
            .asked(Method::POST, None, None)
            .body(request.to_string())
            .send();
        let answer = tokio::time::timeout(LOOK_TIMEOUT, asked).await.ok()?.ok()?;
        match answer.status() {
            status if status.is_success() => Some(true),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(false),
            _ => None,
        }
    }

    /// What the server says of itself, and which eras it speaks.
    pub(super) async fn handshake(&self) -> Result<(Value, Speaks), HandshakeError> {
        let greeted = self.greet().await;
        let stateless = tokio::time::timeout(LOOK_TIMEOUT, self.discover()).await;
        let stateless = stateless.unwrap_or_default();
        let speaks = Speaks {
            sessions: greeted.is_ok(),
            stateless: stateless.is_some(),
        };
        match (greeted, stateless) {
            (Ok(info), _) | (Err(_), Some(info)) => Ok((info, speaks)),
            (Err(error), None) => Err(error),
        }
    }

    /// What it says of itself in the stateless era, if it speaks it.
    async fn discover(&self) -> Option<Value> {
        let request = stateless::discover();
        let asked = self
            .own_request(Method::POST, None)
            .header(VERSION_HEADER, STATELESS_VERSION)
            .body(request.to_string());
        let answer = over_http::stated(asked, &request).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        stateless::introduced(&self.first_answer(answer).await.ok()?)
    }

    /// The handshake of the session era.
    async fn greet(&self) -> Result<Value, HandshakeError> {
        let mut request = initialize();
        request["id"] = json!(1);
        let answer = loop {
            let sent = self
                .own_request(Method::POST, None)
                .body(request.to_string())
                .send()
                .await;
            match sent {
                // A server that just started may listen before it has its routes.
                Ok(answer)
                    if answer.status().is_server_error()
                        || (answer.status() == StatusCode::NOT_FOUND
                            && !is_type(answer.headers(), "application/json")) => {}
                Ok(answer) => break answer,
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        };
        let session = answer.headers().get(SESSION_HEADER).cloned();
        let status = answer.status();
        let answer = self.first_answer(answer).await?;
        if let Some(message) = answer.pointer("/error/message").and_then(Value::as_str) {
            return Err(HandshakeError::Refused(message.chars().take(500).collect()));
        }
        let Some(info) = answer
            .get("result")
            .filter(|result| result["protocolVersion"].is_string())
        else {
            return Err(HandshakeError::NotUnderstood(format!(
                "HTTP {} without a result.",
                status.as_u16()
            )));
        };
        if let Some(session) = session {
            // Not kept: each client opens its own. A server that knows no DELETE forgets it some time.
            let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            let _ = self
                .own_request(Method::POST, Some(&session))
                .body(initialized.to_string())
                .send()
                .await;
            let _ = self
                .own_request(Method::DELETE, Some(&session))
                .send()
                .await;
        }
        Ok(info.clone())
    }

    fn own_request(
        &self,
        method: Method,
        session: Option<&HeaderValue>,
    ) -> reqwest::RequestBuilder {
        self.asked(method, session, self.address.bearer.as_ref())
    }

    fn asked(
        &self,
        method: Method,
        session: Option<&HeaderValue>,
        bearer: Option<&HeaderValue>,
    ) -> reqwest::RequestBuilder {
        let mut request = self
            .address
            .http
            .request(method, &self.address.url)
            .header(ACCEPT, "application/json, text/event-stream");
        request = request.header(CONTENT_TYPE, "application/json");
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        match session {
            Some(session) => request
                .header(SESSION_HEADER, session)
                .header(VERSION_HEADER, SESSION_VERSIONS[0]),
            None => request,
        }
    }

    /// The message that answers the handshake, masked.
    async fn first_answer(&self, mut answer: reqwest::Response) -> Result<Value, HandshakeError> {
        let not_understood = |text: &str| HandshakeError::NotUnderstood(text.to_owned());
        // Nobody's: what callers hold is counted apart.
        let nobody = ClientKey::nobody();
        let mut held = self.room.hold(nobody);
        let mut message = if is_type(answer.headers(), "text/event-stream") {
            let mut events = Events::new(self.limits.message_bytes);
            'found: loop {
                let chunk = answer
                    .chunk()
                    .await
                    .ok()
                    .flatten()
                    .ok_or_else(|| not_understood("its stream ended."))?;
                for event in events
                    .feed(&chunk)
                    .map_err(|_| not_understood("it is too long."))?
                {
                    let data = event.data.as_deref().unwrap_or_default();
                    held.resize_soon(weigh(data.as_bytes()))
                        .await
                        .map_err(|full: Full| not_understood(&full.answer_error().message))?;
                    let message = json_tree(data.as_bytes());
                    if let Some(message) = message
                        .ok()
                        .filter(|message| matches!(kind(message), Some(Kind::Answer { .. })))
                    {
                        break 'found message;
                    }
                }
            }
        } else {
            let status = answer.status().as_u16();
            let body = bounded(answer, self.limits.message_bytes, &mut held)
                .await
                .map_err(|error| not_understood(&error.message))?;
            held.resize_soon(weigh(&body))
                .await
                .map_err(|full: Full| not_understood(&full.answer_error().message))?;
            json_tree(&body).map_err(|_| not_understood(&format!("HTTP {status}, not JSON.")))?
        };
        self.masks.json(&mut message);
        Ok(message)
    }
}
