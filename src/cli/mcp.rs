//! `sealport mcp`: standard input and output joined to `/mcp` of a Sealport, for clients that only start programs. A line is a
//! message, in either era of the protocol; nothing of it is kept or changed on the way, and nothing is printed but messages.

use std::io::{BufRead, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use futures::StreamExt as _;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use url::Url;
use zeroize::Zeroizing;

use super::client::connection;
use super::server::ServerArgs;
use super::shown::plain;
use crate::deploy::relay::{Events, VERSION_HEADER, VERSION_KEY};

/// The longest line, in bytes: longer than any body that `/mcp` takes.
const LINE_LEN_BYTES: u64 = 1 << 20;
/// The longest answer.
const ANSWER_LEN_BYTES: usize = 16 << 20;
/// Requests under way at once.
const AT_ONCE: usize = 16;
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// The code of errors that have none in the protocol.
const SERVER_ERROR: i64 = -32000;

#[derive(Args)]
pub struct McpArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Ends well when standard input does and what was asked is answered.
pub async fn run(args: McpArgs) -> anyhow::Result<()> {
    let login = args.server.login().await?;
    let passage = Arc::new(Passage::new(&login.url, &login.token)?);
    let (out, lines) = mpsc::channel(AT_ONCE);
    // Threads of their own: a read that nobody ends must not hold up the end of the program.
    let mut asked = read_lines();
    let writer = write_lines(lines);
    let under_way = TaskTracker::new();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(line) = asked.recv().await {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        if out.is_closed() {
            break;
        }
        let place = Arc::clone(&room).acquire_owned().await?;
        let (passage, out) = (Arc::clone(&passage), out.clone());
        let handshake = Head::of(&line).is_some_and(|head| head.is_initialize());
        let call = async move {
            passage.call(&line, &out).await;
            drop(place);
        };
        if handshake {
            // What comes after it speaks the version that it settles.
            call.await;
        } else {
            under_way.spawn(call);
        }
    }
    under_way.close();
    under_way.wait().await;
    drop(out);
    writer.await?
}

/// The server, and what was settled with it.
struct Passage {
    http: reqwest::Client,
    url: Url,
    authorization: HeaderValue,
    /// Of the era before 2026-07-28, once `initialize` was answered.
    version: Mutex<Option<String>>,
}

/// What has to be known of a message to send it on.
#[derive(Deserialize)]
struct Head {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    #[serde(rename = "_meta")]
    meta: Option<Value>,
    name: Option<String>,
    uri: Option<String>,
}

impl Head {
    fn of(line: &str) -> Option<Head> {
        serde_json::from_str(line).ok()
    }

    fn is_initialize(&self) -> bool {
        self.method.as_deref() == Some("initialize")
    }
}

impl Passage {
    fn new(url: &Url, token: &SecretString) -> anyhow::Result<Passage> {
        let agent = concat!("sealport/", env!("CARGO_PKG_VERSION"), " mcp");
        let (http, authorization) = connection(url, token, agent, READ_TIMEOUT)?;
        Ok(Passage {
            http,
            url: url.join("mcp")?,
            authorization,
            version: Mutex::default(),
        })
    }

    /// Sends one message on, and what comes back to `out`.
    async fn call(&self, line: &str, out: &mpsc::Sender<Zeroizing<String>>) {
        let Some(head) = Head::of(line) else {
            let text = "The line is not one JSON-RPC message.";
            put(out, error(&Value::Null, -32700, text)).await;
            return;
        };
        let sent = self
            .http
            .post(self.url.clone())
            .headers(self.headers(&head))
            .body(line.to_owned())
            .send()
            .await;
        let answered = match sent {
            Ok(response) => self.answered(&head, response, out).await,
            // Without its address or a source: they say nothing to a model, and a sentence does.
            Err(failed) if failed.is_timeout() => {
                Err("Sealport did not answer in time.".to_owned())
            }
            Err(_) => Err(
                "Sealport cannot be reached. Is it running, and is its address right?".to_owned(),
            ),
        };
        if let Err(why) = answered {
            complain(&why);
            if let Some(id) = &head.id {
                put(out, error(id, SERVER_ERROR, &why)).await;
            }
        }
    }

    fn headers(&self, head: &Head) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        let stated = head
            .params
            .meta
            .as_ref()
            .and_then(|meta| meta[VERSION_KEY].as_str());
        let mut put = |name: http::HeaderName, text: &str| {
            if let Some(value) = header_value(text) {
                headers.insert(name, value);
            }
        };
        match (stated, &head.method) {
            (Some(version), Some(method)) => {
                put(VERSION_HEADER, version);
                put(http::HeaderName::from_static("mcp-method"), method);
                if let Some(name) = head.params.name.as_ref().or(head.params.uri.as_ref()) {
                    put(http::HeaderName::from_static("mcp-name"), name);
                }
            }
            _ if head.is_initialize() => {}
            _ => {
                if let Some(version) = &*self.version() {
                    put(VERSION_HEADER, version);
                }
            }
        }
        headers
    }

    /// Errors: a sentence for whoever asked.
    async fn answered(
        &self,
        head: &Head,
        response: reqwest::Response,
        out: &mpsc::Sender<Zeroizing<String>>,
    ) -> Result<(), String> {
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            return stream(response, out).await;
        }
        let is_json = kind.starts_with("application/json");
        let body = whole(response).await?;
        if body.is_empty() && status.is_success() {
            return Ok(());
        }
        if !is_json {
            return Err(format!(
                "Sealport answered {status}, which is no answer to a message."
            ));
        }
        if status.is_success() {
            if head.is_initialize() {
                self.settle(&body);
            }
            put(out, body).await;
            return Ok(());
        }
        refused(head, status, &body, out).await
    }

    /// Notes the version that `initialize` came to.
    fn settle(&self, body: &str) {
        let answer: Option<Value> = serde_json::from_str(body).ok();
        let version = answer
            .and_then(|answer| Some(answer["result"]["protocolVersion"].as_str()?.to_owned()));
        *self.version() = version;
    }

    fn version(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error of the server's. One of the door names no request, for it read none: it is told under the id of this one.
async fn refused(
    head: &Head,
    status: StatusCode,
    body: &str,
    out: &mpsc::Sender<Zeroizing<String>>,
) -> Result<(), String> {
    let answer = serde_json::from_str::<Value>(body).ok();
    // What stands between may answer in JSON too, and not as an object.
    let Some(mut answer) = answer.filter(Value::is_object) else {
        return Err(format!(
            "Sealport answered {status}, which is no answer to a message."
        ));
    };
    let says = answer["error"]["message"].as_str().unwrap_or_default();
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || head.id.is_none() {
        complain(says);
    }
    if let Some(id) = &head.id {
        answer["id"] = id.clone();
        put(out, Zeroizing::new(answer.to_string())).await;
    }
    Ok(())
}

/// Events, each a message.
async fn stream(
    response: reqwest::Response,
    out: &mpsc::Sender<Zeroizing<String>>,
) -> Result<(), String> {
    let mut events = Events::new(ANSWER_LEN_BYTES);
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| cut_off())?;
        let whole = events.feed(&piece).map_err(|_| too_long())?;
        for data in whole.into_iter().filter_map(|event| event.data) {
            put(out, Zeroizing::new(data)).await;
        }
    }
    Ok(())
}

async fn whole(response: reqwest::Response) -> Result<Zeroizing<String>, String> {
    let mut body = Zeroizing::new(Vec::new());
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| cut_off())?;
        if body.len() + piece.len() > ANSWER_LEN_BYTES {
            return Err(too_long());
        }
        body.extend_from_slice(&piece);
    }
    let text = str::from_utf8(&body).map_err(|_| "Sealport's answer is not text.".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn cut_off() -> String {
    "Sealport's answer was cut off.".to_owned()
}

fn too_long() -> String {
    format!("Sealport's answer is longer than {ANSWER_LEN_BYTES} bytes.")
}

async fn put(out: &mpsc::Sender<Zeroizing<String>>, line: Zeroizing<String>) {
    // Nobody reads any more: there is nobody to tell.
    let _ = out.send(line).await;
}

fn error(id: &Value, code: i64, message: &str) -> Zeroizing<String> {
    let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}});
    Zeroizing::new(error.to_string())
}

/// As the protocol writes what a header cannot carry as it is.
fn header_value(text: &str) -> Option<HeaderValue> {
    let plain = !text.is_empty()
        && text.bytes().all(|b| (0x20..0x7f).contains(&b))
        && text.trim() == text
        && !text.starts_with("=?base64?");
    match plain {
        true => HeaderValue::from_str(text).ok(),
        false => HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(text))).ok(),
    }
}

/// Lines of standard input, one after another.
fn read_lines() -> mpsc::Receiver<anyhow::Result<Zeroizing<String>>> {
    let (lines, read) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = Zeroizing::new(Vec::new());
            let got = input
                .by_ref()
                .take(LINE_LEN_BYTES + 1)
                .read_until(b'\n', &mut line);
            let line = match got {
                Ok(0) => return,
                Ok(_) if line.len() as u64 > LINE_LEN_BYTES => Err(anyhow::anyhow!(
                    "A line is longer than {LINE_LEN_BYTES} bytes."
                )),
                Ok(_) => match str::from_utf8(&line) {
                    Ok(text) => Ok(Zeroizing::new(text.to_owned())),
                    Err(_) => Err(anyhow::anyhow!("A line is not UTF-8 text.")),
                },
                Err(error) => Err(error.into()),
            };
            let ends = line.is_err();
            if lines.blocking_send(line).is_err() || ends {
                return;
            }
        }
    });
    read
}

/// Writes lines until there are none any more, or nobody reads them.
async fn written(mut lines: mpsc::Receiver<Zeroizing<String>>) -> anyhow::Result<()> {
    while let Some(line) = lines.recv().await {
        // A message is a line; what breaks one stands in no JSON text but between its parts.
        let line = Zeroizing::new(line.replace(['\n', '\r'], " ") + "\n");
        let mut out = std::io::stdout().lock();
        match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

fn write_lines(
    lines: mpsc::Receiver<Zeroizing<String>>,
) -> tokio::task::JoinHandle<anyhow::Result<()>> {
    tokio::spawn(written(lines))
}

fn complain(why: &str) {
    // Whoever started it may have closed it.
    let _ = writeln!(std::io::stderr(), "sealport mcp: {}", plain(why));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_repeat_what_a_message_of_the_newer_era_says() {
        let url = Url::parse("http://127.0.0.1:3000").unwrap();
        let passage = Passage::new(&url, &SecretString::from("sp_x")).unwrap();
        let of = |message: Value, name: &str| {
            let head = Head::of(&message.to_string()).unwrap();
            let headers = passage.headers(&head);
            headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let alone = json!({"id": 1, "method": "tools/call", "params": {
            "name": "get_secret", "_meta": {VERSION_KEY: "2026-07-28"}}});
        assert_eq!(
            of(alone.clone(), "mcp-protocol-version").unwrap(),
            "2026-07-28"
        );
        assert_eq!(of(alone.clone(), "mcp-method").unwrap(), "tools/call");
        assert_eq!(of(alone, "mcp-name").unwrap(), "get_secret");
        let legacy = json!({"id": 1, "method": "tools/list"});
        assert_eq!(of(legacy.clone(), "mcp-protocol-version"), None);
        passage.settle(r#"{"result":{"protocolVersion":"2025-06-18"}}"#);
        assert_eq!(
            of(legacy.clone(), "mcp-protocol-version").unwrap(),
            "2025-06-18"
        );
        assert_eq!(of(legacy, "mcp-method"), None);
        for (text, value) in [
            ("é", "=?base64?w6k=?="),
            ("a b", "a b"),
            (" a", "=?base64?IGE=?="),
        ] {
            assert_eq!(header_value(text).unwrap(), value);
        }
    }
}
