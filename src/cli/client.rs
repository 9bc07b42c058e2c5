//! The one HTTP client of the commands: bearer and JSON, bounded answers, and refusals as sentences.

use std::time::Duration;

use anyhow::Context;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, LOCATION,
};
use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::events::EventStream;
use super::failures::{Exit, Failure};
use super::server::is_loopback;
use super::shown::plain;

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Between two pieces of an answer; a log that says nothing sends comments.
const READ_PATIENCE: Duration = Duration::from_secs(90);
/// The longest answer: more than a hundred of the longest values, escaped.
const ANSWER_LEN_BYTES: usize = 64 << 20;
/// The longest refusal that is read.
const PROBLEM_LEN_BYTES: usize = 64 << 10;
/// Pages of one list. A server whose list has no end is none of ours.
const PAGES_MAX: usize = 10_000;
const API: &str = "/api/v1";
const NOT_VALID: &str = "The server does not take this token: it was revoked, has expired, was not copied whole, or is for another \
     server. Sign in with `sealport login`, or set SEALPORT_TOKEN to a valid token.";

pub struct Client {
    http: reqwest::Client,
    url: Url,
    bearer: HeaderValue,
}

/// One request on its way.
pub struct Request<'a> {
    client: &'a Client,
    method: Method,
    address: Url,
    body: Option<Zeroizing<Vec<u8>>>,
    condition: Option<(HeaderName, String)>,
}

impl Client {
    pub fn new(url: Url, token: SecretString) -> anyhow::Result<Client> {
        let agent = concat!("sealport/", env!("CARGO_PKG_VERSION"));
        let (http, bearer) = connection(&url, &token, agent, READ_PATIENCE)?;
        Ok(Client { http, url, bearer })
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    pub fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub fn put(&self, path: &str) -> Request<'_> {
        self.request(Method::PUT, path)
    }

    pub fn post(&self, path: &str) -> Request<'_> {
        self.request(Method::POST, path)
    }

    pub fn patch(&self, path: &str) -> Request<'_> {
        self.request(Method::PATCH, path)
    }

    pub fn delete(&self, path: &str) -> Request<'_> {
        self.request(Method::DELETE, path)
    }

    /// All of a list that comes by pages: objects with `items` and, where more follows, `next_cursor`.
    pub async fn list(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
        self.some(path, query, u32::MAX).await
    }

    /// Its first so many.
    pub async fn some(
        &self,
        path: &str,
        query: &[(&str, &str)],
        most: u32,
    ) -> anyhow::Result<Vec<Value>> {
        let most = most as usize;
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut request = self.get(path).query(query);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor.as_str())]);
            }
            let mut page: Value = request.json().await?;
            let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
                return Err(not_understood().into());
            };
            all.extend(items);
            if all.len() >= most {
                all.truncate(most);
                return Ok(all);
            }
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) if cursor.as_deref() != Some(next) => cursor = Some(next.to_owned()),
                _ => return Ok(all),
            }
        }
        Err(not_understood().into())
    }

    fn request(&self, method: Method, path: &str) -> Request<'_> {
        let mut address = self.url.clone();
        // Escapes what a path must not hold.
        address.set_path(&format!("{API}{path}"));
        Request {
            client: self,
            method,
            address,
            body: None,
            condition: None,
        }
    }
}

/// What carries requests to one server and to no other, and the header that says as whom.
pub(super) fn connection(
    url: &Url,
    token: &SecretString,
    agent: &str,
    read_patience: Duration,
) -> anyhow::Result<(reqwest::Client, HeaderValue)> {
    // reqwest panics without one; one that stands already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(agent)
        // A token follows nobody to another address.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_PATIENCE)
        .read_timeout(read_patience);
    if url.scheme() == "http" {
        // A proxy would carry the token beyond this machine in clear; certificates take time to load.
        debug_assert!(is_loopback(url));
        builder = builder.no_proxy().tls_certs_only([]);
    }
    let http = builder
        .build()
        .context("The program's HTTP client cannot be made")?;
    let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    let mut bearer = HeaderValue::from_str(&text)
        .map_err(|_| Failure::usage("The token holds characters that none has."))?;
    bearer.set_sensitive(true);
    Ok((http, bearer))
}

impl Request<'_> {
    /// Those with an empty value are left out.
    pub fn query(mut self, query: &[(&str, &str)]) -> Self {
        for (name, value) in query {
            if !value.is_empty() {
                self.address.query_pairs_mut().append_pair(name, value);
            }
        }
        self
    }

    /// It may hold a value.
    pub fn body(mut self, body: &impl Serialize) -> anyhow::Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        serde_json::to_writer(&mut *bytes, body).context("The request cannot be written")?;
        self.body = Some(bytes);
        Ok(self)
    }

    /// Only when this is the version that is stored.
    pub fn if_version(mut self, version: i32) -> Self {
        self.condition = Some((IF_MATCH, format!("\"{version}\"")));
        self
    }

    /// Only where nothing is stored.
    pub fn if_nothing(mut self) -> Self {
        self.condition = Some((IF_NONE_MATCH, "*".into()));
        self
    }

    /// The answer. It may hold a value, so what it was read from is zeroed.
    pub async fn json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let answer = self.sent("application/json").await?;
        let bytes = read(answer, ANSWER_LEN_BYTES).await?;
        Ok(serde_json::from_slice(&bytes).map_err(|_| not_understood())?)
    }

    /// That it was done is all that is asked.
    pub async fn done(self) -> anyhow::Result<()> {
        let answer = self.sent("application/json").await?;
        read(answer, ANSWER_LEN_BYTES).await?;
        Ok(())
    }

    /// The answer as server-sent events, from after an event if one is named.
    pub async fn events(self, after: Option<&str>) -> anyhow::Result<EventStream> {
        let mut request = self.built("text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let answer = answered(request).await?;
        let kind = answer.headers().get(CONTENT_TYPE);
        let is_stream = kind
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        if !is_stream {
            return Err(not_understood().into());
        }
        Ok(EventStream::new(answer))
    }

    async fn sent(self, accept: &'static str) -> anyhow::Result<reqwest::Response> {
        answered(self.built(accept)).await
    }

    fn built(self, accept: &'static str) -> reqwest::RequestBuilder {
        let client = self.client;
        let mut request = client
            .http
            .request(self.method, self.address)
            .header(AUTHORIZATION, client.bearer.clone())
            .header(ACCEPT, accept);
        if let Some((name, value)) = self.condition {
            request = request.header(name, value);
        }
        if let Some(body) = self.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_vec());
        }
        request
    }
}

async fn answered(request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
    let answer = request.send().await.map_err(unreached)?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(refused(answer).await.into())
}

/// What a refusal says, and what could be done about it.
async fn refused(answer: reqwest::Response) -> Failure {
    let status = answer.status();
    let header = |name: &str| {
        let text = answer.headers().get(name)?.to_str().ok()?;
        Some(plain(text).into_owned())
    };
    if status.is_redirection() {
        let to = header(LOCATION.as_str()).unwrap_or_else(|| "elsewhere".into());
        return Failure::new(
            Exit::Unavailable,
            format!(
                "The server sends on to {to}. Set SEALPORT_URL to the address where your Sealport itself answers."
            ),
        );
    }
    let kind = header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let (id, retry_after) = (header("x-request-id"), header("retry-after"));
    let mut problem: Option<Value> = None;
    if kind.starts_with("application/problem+json") {
        let body = read(answer, PROBLEM_LEN_BYTES).await.ok();
        problem = body.and_then(|body| serde_json::from_slice(&body).ok());
    }
    let text = |name: &str| {
        let text = problem.as_ref()?.get(name)?.as_str()?;
        Some(plain(text).into_owned())
    };
    let exit = exit_of(status);
    let Some(mut detail) = text("detail").or_else(|| text("title")) else {
        return Failure::new(
            if exit == Exit::Denied {
                exit
            } else {
                Exit::Unavailable
            },
            format!(
                "The answer was {status}, and not from a Sealport. Look whether SEALPORT_URL is its address, and whether a proxy stands \
                 in between."
            ),
        );
    };
    if status == StatusCode::UNAUTHORIZED {
        // What the server says is for those who write the header themselves.
        NOT_VALID.clone_into(&mut detail);
    }
    if let Some(seconds) =
        retry_after.filter(|_| exit == Exit::TooMany && !detail.contains("again"))
    {
        detail.push_str(&format!(" Try again in {seconds} seconds."));
    }
    if let Some(id) = id {
        detail.push_str(&format!(" (request {id})"));
    }
    Failure {
        problem: problem.map(Box::new),
        ..Failure::new(exit, detail)
    }
}

fn exit_of(status: StatusCode) -> Exit {
    match status.as_u16() {
        401 | 403 => Exit::Denied,
        404 => Exit::NotFound,
        409 | 410 | 412 | 423 | 428 => Exit::Conflict,
        429 => Exit::TooMany,
        400 | 405 | 411 | 413 | 414 | 415 | 422 => Exit::Usage,
        500..=599 => Exit::Unavailable,
        _ => Exit::No,
    }
}

/// The whole body, up to a length.
async fn read(
    mut answer: reqwest::Response,
    most_bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let announced = answer.content_length().unwrap_or(0);
    let too_long = || {
        Failure::new(
            Exit::Unavailable,
            "The answer is longer than any of Sealport's.",
        )
    };
    if announced > most_bytes as u64 {
        return Err(too_long());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced as usize));
    while let Some(piece) = answer.chunk().await.map_err(unreached)? {
        if bytes.len() + piece.len() > most_bytes {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The innermost cause says most, as in "Connection refused".
pub(super) fn unreached(error: reqwest::Error) -> Failure {
    let host = error
        .url()
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_else(|| "The server".into());
    let why = if error.is_timeout() {
        "it did not answer in time".to_owned()
    } else {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        plain(&cause.to_string()).into_owned()
    };
    Failure::new(
        Exit::Unavailable,
        format!(
            "{host} is not reached: {why}. Look whether SEALPORT_URL is right and the server runs."
        ),
    )
}

pub(super) fn not_understood() -> Failure {
    Failure::new(
        Exit::Unavailable,
        "The answer is not one that this program understands. Look whether SEALPORT_URL is the address of a Sealport, and whether both \
         are of the same version (`sealport --version`).",
    )
}
