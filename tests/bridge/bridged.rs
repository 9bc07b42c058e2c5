//! A bridge of a test's own, and a client that sends exactly what it is told to.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::clients;

/// Long, for it ends a test that hangs and nothing else.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SECRET: &str = "b7d3c0ffee5ea1ed0123456789abcdef";
/// A value in the environment of the server.
pub const CANARY: &str = "sk-canary-7Fq2Zr9LwxTb04";

/// The program with these variables and no others of ours, on a free port.
pub fn command(variables: &[(&str, &str)], server: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealport"));
    command
        .args(["bridge", "--host", "127.0.0.1", "--"])
        .args(server)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("PORT", "0")
        .env("SECRET_KEY", CANARY)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub struct Bridge {
    child: Child,
    pub url: String,
    log: Arc<Mutex<Vec<String>>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Bridge {
    /// In front of a server of the tests, as soon as it listens.
    pub async fn listening(variables: &[(&str, &str)], server: &[&str]) -> Bridge {
        let mut child = command(variables, server).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        let mut bridge = Bridge {
            child,
            url: String::new(),
            log,
            reading,
        };
        let line = bridge.said("sealport: bridge at ").await;
        let url = line.strip_suffix("/mcp").unwrap();
        bridge.url = url.rsplit_once(' ').unwrap().1.to_owned();
        bridge
    }

    /// The same, as soon as its server can be called.
    pub async fn up(variables: &[(&str, &str)], server: &[&str]) -> Bridge {
        let bridge = Bridge::listening(variables, server).await;
        until("the handshake", async || {
            bridge.health().await == StatusCode::OK
        })
        .await;
        bridge
    }

    /// In front of a fixture of this name, run by node.
    pub async fn node(variables: &[(&str, &str)], script: &str) -> Bridge {
        Bridge::up(variables, &["node", &fixture(script)]).await
    }

    pub async fn everything(variables: &[(&str, &str)]) -> Bridge {
        let script = clients::everything();
        Bridge::up(variables, &["node", script.to_str().unwrap(), "stdio"]).await
    }

    pub fn mcp(&self) -> String {
        format!("{}/mcp", self.url)
    }

    pub async fn health(&self) -> StatusCode {
        let url = format!("{}/healthz", self.url);
        http().get(url).send().await.unwrap().status()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// What it is the parent of now, those that have ended and were not taken in among them.
    pub fn children(&self) -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let lists = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let list = lists.collect::<Vec<_>>().join(" ");
        list.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The first line that has this in it.
    pub async fn said(&self, words: &str) -> String {
        let found = || self.log().into_iter().find(|line| line.contains(words));
        until(words, async || found().is_some()).await;
        found().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits for its end; then all that it printed is there.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("it ends").unwrap();
        self.reading.await.unwrap();
        let log = self.log.lock().unwrap().clone();
        (status, log)
    }
}

pub fn fixture(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    path.to_str().unwrap().to_owned()
}

/// Whether a process is there, one that has ended and waits for its parent aside.
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// What a client sends with every request.
pub fn headers(bearer: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    headers.insert(
        "accept",
        "application/json, text/event-stream".parse().unwrap(),
    );
    if let Some(bearer) = bearer {
        headers.insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    }
    headers
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

pub async fn send(method: Method, url: &str, headers: HeaderMap, body: String) -> Answer {
    let request = http().request(method, url).headers(headers).body(body);
    let answer = request.send().await.unwrap();
    Answer {
        status: answer.status(),
        headers: answer.headers().clone(),
        body: answer.text().await.unwrap(),
    }
}

pub async fn post(url: &str, headers: HeaderMap, message: &Value) -> Answer {
    send(Method::POST, url, headers, message.to_string()).await
}

/// A message of the stateless era, and its headers.
pub fn modern(bearer: Option<&str>, method: &str, mut params: Value) -> (HeaderMap, Value) {
    let version = "2026-07-28";
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut headers = headers(bearer);
    headers.insert("mcp-protocol-version", version.parse().unwrap());
    headers.insert("mcp-method", method.parse().unwrap());
    if let Some(name) = params["name"].as_str() {
        headers.insert("mcp-name", name.parse().unwrap());
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    (headers, message)
}

pub fn initialize() -> Value {
    let client = json!({"name": "t", "version": "1"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
}

/// Opens a session; what is sent in it has these headers.
pub async fn session(url: &str, bearer: Option<&str>) -> HeaderMap {
    let mut headers = headers(bearer);
    let opened = post(url, headers.clone(), &initialize()).await;
    assert_eq!(opened.status, StatusCode::OK, "{opened:?}");
    let id = opened.headers["mcp-session-id"].clone();
    headers.insert("mcp-session-id", id);
    headers
}

pub fn call(tool: &str, arguments: Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})
}

pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("waited for {what} in vain"));
}
