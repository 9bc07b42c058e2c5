//! The one HTTP client below the adapters: it keeps the key, checks whom it connects to, bounds what it reads, waits as
//! long as the provider asks, and sends again only what is safe to send again.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;
use url::{Host, Url};
use zeroize::{Zeroize, Zeroizing};

use super::trouble::{Says, Trouble};
use super::waits;
use crate::deploy::json;
use crate::deploy::masks::Masks;
use crate::deploy::sources::{SourceHosts, Unfit};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// One request with its answer.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// One request with all that it is sent again, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(60);
const TRIES: u32 = 4;
/// The longest answer that is read.
const ANSWER_LEN_BYTES: usize = 4 << 20;

/// How the key is sent.
pub enum Auth {
    /// `Authorization: Bearer …`
    Bearer(SecretString),
    /// The header's whole value.
    Header(HeaderName, SecretString),
}

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Doing it twice is doing it once.
    Safe,
    /// Only after a 429, for then nothing was done.
    Once,
}

/// One request. Its body may hold values: it prints none, and is zeroed when it is dropped.
pub struct Ask {
    pub method: Method,
    /// Below the API's address, one by one, unescaped.
    pub path: Vec<String>,
    pub query: Vec<(String, String)>,
    pub body: Option<Value>,
    pub repeat: Repeat,
    /// How long it may take with all the waiting that the provider asks for.
    pub patience: Duration,
}

impl Ask {
    pub fn new(method: Method, path: &[&str], repeat: Repeat) -> Self {
        Ask {
            method,
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            query: Vec::new(),
            body: None,
            repeat,
            patience: PATIENCE,
        }
    }

    /// Reading is always safe to repeat.
    pub fn get(path: &[&str]) -> Self {
        Ask::new(Method::GET, path, Repeat::Safe)
    }

    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// For one of many, of which a provider takes so many a minute.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What may be logged: neither the query nor the body.
    fn shown(&self) -> String {
        format!("{} /{}", self.method, self.path.join("/"))
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({}, {:?})", self.shown(), self.repeat)
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        if let Some(body) = &mut self.body {
            wipe(body);
        }
    }
}

/// An answer of success. It may hold values: it prints none, and is zeroed when it is dropped.
pub struct Answer {
    pub status: u16,
    provider: &'static str,
    bytes: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Some answers have no body.
    pub fn is_empty(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// The body, read straight into a type that has only the fields that are wanted: what else came is never kept.
    /// Errors: `NotJson`, or `Unexpected` when it is of another form.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        let (provider, status) = (self.provider, self.status);
        // What serde says of an error can quote the text, so it is not passed on.
        serde_json::from_slice(&self.bytes).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Trouble::Unexpected { provider, status },
            _ => Trouble::NotJson { provider, status },
        })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({})", self.status)
    }
}

/// A provider's API with one key. Cheap to clone.
#[derive(Clone)]
pub struct ProviderHttp {
    provider: &'static str,
    base: Url,
    key: (HeaderName, HeaderValue),
    /// A provider may echo even this.
    key_masks: Arc<Masks>,
    hosts: Arc<SourceHosts>,
    http: reqwest::Client,
}

impl fmt::Debug for ProviderHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderHttp({}, {})", self.provider, self.base)
    }
}

/// Why a try failed, and when it may be made again.
struct Failed {
    trouble: Trouble,
    again: Again,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Never,
    /// Nothing was done.
    Always(Option<Duration>),
    IfSafe(Option<Duration>),
}

impl Failed {
    fn never(trouble: Trouble) -> Self {
        Failed {
            trouble,
            again: Again::Never,
        }
    }
}

impl ProviderHttp {
    /// `provider` stands in sentences; `base` is the API's address. Without TLS only a host that is listed is asked.
    /// Errors: `Unauthorised` when the key cannot be a header, `Unreachable` when there are no certificates to check by.
    pub fn new(
        provider: &'static str,
        base: Url,
        auth: Auth,
        hosts: SourceHosts,
    ) -> Result<Self, Trouble> {
        let (name, secret, prefix) = match auth {
            Auth::Bearer(secret) => (AUTHORIZATION, secret, "Bearer "),
            Auth::Header(name, secret) => (name, secret, ""),
        };
        // Copied with its line end, a key is still that key.
        let text = Zeroizing::new(format!("{prefix}{}", secret.expose_secret().trim()));
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| Trouble::Unauthorised { provider })?;
        value.set_sensitive(true);
        let hosts = Arc::new(hosts);
        let http = connection(&base, &hosts).map_err(|error| Trouble::Unreachable {
            provider,
            host: host_of(&base),
            why: innermost(&error),
        })?;
        Ok(ProviderHttp {
            provider,
            base,
            key: (name, value),
            key_masks: Arc::new(Masks::new([&secret])),
            hosts,
            http,
        })
    }

    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Sends it, again where that is safe, up to four times within its patience. A status of success with its whole body is
    /// an answer; all else is trouble.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Trouble> {
        let provider = self.provider;
        let url = self.url(&ask).ok_or(Trouble::NotFound { provider })?;
        self.check_literal()?;
        let body = match &ask.body {
            Some(body) => Some(written(body).ok_or(Trouble::Unexpected {
                provider,
                status: 0,
            })?),
            None => None,
        };
        let end = Instant::now() + ask.patience;
        let mut tries = 0;
        loop {
            tries += 1;
            let left = end.saturating_duration_since(Instant::now());
            let failed = match self
                .one_try(&ask, &url, body.clone(), left.min(TOTAL_TIMEOUT))
                .await
            {
                Ok(answer) => {
                    tracing::debug!(provider, ask = ask.shown(), status = answer.status, "asked");
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            tracing::debug!(provider, ask = ask.shown(), tries, trouble = %failed.trouble, "asked in vain");
            let asked = match (failed.again, ask.repeat) {
                (Again::Always(asked), _) | (Again::IfSafe(asked), Repeat::Safe) => asked,
                _ => return Err(failed.trouble),
            };
            let wait = asked.map_or_else(|| waits::backoff(tries), waits::after);
            if tries == TRIES || Instant::now() + wait >= end {
                return Err(failed.trouble);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// What a provider refused with a status of success.
    pub(super) fn refusal(&self, status: u16, said: &str) -> Trouble {
        Trouble::Refused {
            provider: self.provider,
            status,
            says: Says::new(said.to_owned()).without(&self.key_masks),
        }
    }

    /// A host that is an address does not pass the resolver, so it is looked at here.
    fn check_literal(&self) -> Result<(), Trouble> {
        if may_be_asked(&self.base, &self.hosts) {
            Ok(())
        } else {
            Err(Trouble::NotAllowed {
                provider: self.provider,
                host: host_of(&self.base),
            })
        }
    }

    /// None when a part of the path would not be one.
    fn url(&self, ask: &Ask) -> Option<Url> {
        let mut url = self.base.clone();
        if ask
            .path
            .iter()
            .any(|part| matches!(part.as_str(), "" | "." | ".."))
        {
            return None;
        }
        url.path_segments_mut()
            .ok()?
            .pop_if_empty()
            .extend(&ask.path);
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        Some(url)
    }

    async fn one_try(
        &self,
        ask: &Ask,
        url: &Url,
        body: Option<Bytes>,
        timeout: Duration,
    ) -> Result<Answer, Failed> {
        let mut request = self
            .http
            .request(ask.method.clone(), url.clone())
            .header(self.key.0.clone(), self.key.1.clone())
            .header(ACCEPT, "application/json")
            .timeout(timeout);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| self.unanswered(&error, ask.repeat))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let is_page = headers.get(CONTENT_TYPE).is_some_and(|kind| {
            kind.as_bytes()
                .to_ascii_lowercase()
                .starts_with(b"text/html")
        });
        let read = self.body(answer, ask.repeat).await;
        if !status.is_success() {
            // Its status counts even when what it says cannot be read.
            let bytes = read.unwrap_or_default();
            let asked = waits::asked(&headers, OffsetDateTime::now_utc());
            return Err(self.refused(status, is_page, &bytes, asked, ask.repeat));
        }
        let bytes = read?;
        if is_page || begins_as_page(&bytes) {
            return Err(Failed::never(Trouble::NotJson {
                provider: self.provider,
                status: status.as_u16(),
            }));
        }
        Ok(Answer {
            status: status.as_u16(),
            provider: self.provider,
            bytes,
        })
    }

    async fn body(
        &self,
        mut answer: reqwest::Response,
        repeat: Repeat,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let too_large = || {
            Failed::never(Trouble::TooLarge {
                provider: self.provider,
            })
        };
        let announced = answer.content_length().unwrap_or(0);
        if announced > ANSWER_LEN_BYTES as u64 {
            return Err(too_large());
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(announced as usize));
        while let Some(piece) = answer
            .chunk()
            .await
            .map_err(|error| self.unanswered(&error, repeat))?
        {
            if bytes.len() + piece.len() > ANSWER_LEN_BYTES {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// No answer came, or not the whole of it.
    fn unanswered(&self, error: &reqwest::Error, repeat: Repeat) -> Failed {
        let (provider, host) = (self.provider, host_of(&self.base));
        if caused_by_private(error) {
            return Failed::never(Trouble::NotAllowed { provider, host });
        }
        let why = if error.is_timeout() {
            "it did not answer in time".to_owned()
        } else {
            innermost(error)
        };
        let trouble = if repeat == Repeat::Once && !error.is_connect() {
            Trouble::Lost { provider }
        } else {
            Trouble::Unreachable {
                provider,
                host,
                why,
            }
        };
        Failed {
            trouble,
            again: Again::IfSafe(None),
        }
    }

    fn refused(
        &self,
        status: StatusCode,
        is_page: bool,
        bytes: &[u8],
        asked: Option<Duration>,
        repeat: Repeat,
    ) -> Failed {
        let (provider, code) = (self.provider, status.as_u16());
        let is_page = is_page || begins_as_page(bytes);
        let again = match code {
            429 => Again::Always(asked),
            502..=504 => Again::IfSafe(asked),
            _ => Again::Never,
        };
        let trouble = match code {
            429 => Trouble::Limited {
                provider,
                wait_secs: asked.map_or(60, |wait| wait.as_secs().max(1)),
            },
            // What stands in front did not hear from what does the work.
            502..=504 if repeat == Repeat::Once => Trouble::Lost { provider },
            300..=399 => Trouble::Moved {
                provider,
                status: code,
            },
            _ if is_page => Trouble::NotJson {
                provider,
                status: code,
            },
            401 => Trouble::Unauthorised { provider },
            402 => Trouble::Payment { provider },
            404 | 410 => Trouble::NotFound { provider },
            _ => Trouble::Refused {
                provider,
                status: code,
                says: Says::new(message(bytes)).without(&self.key_masks),
            },
        };
        Failed { trouble, again }
    }
}

/// Resolves names, and answers only with addresses that may be asked: what is checked is what is connected to.
struct Checked {
    hosts: Arc<SourceHosts>,
    port: u16,
}

#[derive(Debug, thiserror::Error)]
#[error("it is on a private network")]
struct IsPrivate;

#[derive(Debug, thiserror::Error)]
#[error("its name is not found")]
struct IsUnknown;

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (hosts, port) = (Arc::clone(&self.hosts), self.port);
        Box::pin(async move {
            let name = name.as_str().to_ascii_lowercase();
            match hosts.addresses(&name, port).await {
                Ok(addresses) => {
                    let addresses = addresses
                        .into_iter()
                        .map(move |address| SocketAddr::new(address, port));
                    Ok(Box::new(addresses) as Addrs)
                }
                Err(Unfit::Private) => Err(Box::new(IsPrivate) as Box<dyn StdError + Send + Sync>),
                Err(Unfit::Unknown) => Err(Box::new(IsUnknown) as Box<dyn StdError + Send + Sync>),
            }
        })
    }
}

/// Whether the address may be, as far as it tells by itself; what its name leads to is looked at when it is connected to.
fn may_be_asked(base: &Url, hosts: &SourceHosts) -> bool {
    let port = base.port_or_known_default().unwrap_or(443);
    let bare = host_of(base);
    let literal = matches!(base.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
    let listed = hosts.lists(&bare, port) || hosts.lists(&format!("[{bare}]"), port);
    match base.scheme() {
        "https" => !literal || listed || hosts.fits(&bare),
        "http" => listed,
        _ => false,
    }
}

/// To an address that a provider gave, for calls that last as long as they last. It is checked as the provider's own is.
/// Errors: a sentence.
pub fn open_connection(base: &Url, hosts: &SourceHosts) -> Result<reqwest::Client, String> {
    if !may_be_asked(base, hosts) {
        return Err(format!(
            "{} is not asked: it is on a private network, or not behind https. An administrator can allow it by listing it in SEALPORT_SOURCE_HOSTS.",
            host_of(base)
        ));
    }
    connecting(base, &Arc::new(hosts.clone()))
        .build()
        .map_err(|error| format!("The connection cannot be made: {}.", innermost(&error)))
}

fn connection(base: &Url, hosts: &Arc<SourceHosts>) -> Result<reqwest::Client, reqwest::Error> {
    connecting(base, hosts).timeout(TOTAL_TIMEOUT).build()
}

fn connecting(base: &Url, hosts: &Arc<SourceHosts>) -> reqwest::ClientBuilder {
    // reqwest panics without one; one that stands already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("sealport/", env!("CARGO_PKG_VERSION")))
        // A key follows nobody to another address.
        .redirect(reqwest::redirect::Policy::none())
        // Through a proxy it would be the proxy's address that is checked, and the provider's by nobody.
        .no_proxy()
        .dns_resolver(Checked {
            hosts: Arc::clone(hosts),
            port: base.port_or_known_default().unwrap_or(443),
        })
        .connect_timeout(CONNECT_TIMEOUT);
    if base.scheme() == "http" {
        // Certificates take time to load.
        builder = builder.tls_certs_only([]);
    }
    builder
}

/// As JSON, zeroed when the last who holds it lets it go. Measured first: a buffer that grows leaves copies behind.
fn written(body: &Value) -> Option<Bytes> {
    struct Length(usize);
    impl io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    serde_json::to_writer(&mut length, body).ok()?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, body).ok()?;
    Some(Bytes::from_owner(bytes))
}

/// Every text in it; names stay.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn begins_as_page(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"<")
}

/// What an error's body says: `message`, `error` or the first of `errors`, or else the text that it is.
fn message(bytes: &[u8]) -> String {
    let Ok(mut body) = json::tree(bytes) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    let found = ["/message", "/error/message", "/error", "/errors/0/message"]
        .iter()
        .find_map(|at| body.pointer(at)?.as_str())
        .unwrap_or_default()
        .to_owned();
    wipe(&mut body);
    found
}

/// In lower case, an IPv6 address without its brackets.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    host.trim_matches(['[', ']']).to_owned()
}

fn caused_by_private(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<IsPrivate>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// The innermost cause says most, as in "Connection refused"; it knows of no header and no body.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
