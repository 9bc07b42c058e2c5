//! An installation whose doors are open on a port of its own, and a program that calls it.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use sealport::model::actors::Caller;
use sealport::model::levels::Level;
use sealport::store::api_tokens::ApiTokenSpec;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::installed::{deployer, doors};
use crate::world::World;

/// In no answer, whoever asks.
pub const CANARY: &str = "canary-7c1f09b2a4e6-deployed";
/// Prints its environment when it is asked to.
pub const SOURCE: &str = "npm:@modelcontextprotocol/server-everything@2026.8.31";

const PATIENCE: Duration = Duration::from_secs(180);

pub struct House {
    pub world: World,
    pub ada: Caller,
    pub bob: Caller,
    pub at: String,
    http: reqwest::Client,
    cancel: CancellationToken,
    running: Vec<tokio::task::JoinHandle<()>>,
    _place: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub location: String,
    pub retry_after: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }
}

/// One server-sent event.
#[derive(Clone, Debug)]
pub struct Told {
    pub event: String,
    pub id: Option<i64>,
    pub data: Value,
}

impl House {
    pub async fn new() -> House {
        House::patient(None).await
    }

    /// Requests wait so long for a source.
    pub async fn patient(patience: Option<Duration>) -> House {
        let world = World::new().await;
        let place = tempfile::tempdir().unwrap();
        let mut deployer = deployer(&world.db, place.path(), |_, _| {}).await;
        if let Some(patience) = patience {
            deployer = deployer.with_look_patience(patience);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}/", listener.local_addr().unwrap());
        let router = doors(&world.db, deployer.clone(), &at, 0);
        let cancel = CancellationToken::new();
        let running = vec![
            tokio::spawn(deployer.run(cancel.clone())),
            tokio::spawn(sealport::doors::listening::serve(
                listener,
                router,
                cancel.clone(),
            )),
        ];
        // reqwest panics without one, though nothing here is encrypted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        House {
            ada: world.user("ada").await,
            bob: world.user("bob").await,
            world,
            at,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            cancel,
            running,
            _place: place,
        }
    }

    /// Stops every guest and waits for it.
    pub async fn close(self) {
        self.cancel.cancel();
        for running in self.running {
            let ended = tokio::time::timeout(PATIENCE, running).await;
            ended.expect("it stops").unwrap();
        }
    }

    pub async fn token(&self, maker: &Caller, ceiling: Level, deploys: bool) -> String {
        self.token_under(maker, ceiling, deploys, None).await
    }

    pub async fn token_under(
        &self,
        maker: &Caller,
        ceiling: Level,
        deploys: bool,
        under: Option<&str>,
    ) -> String {
        let spec = ApiTokenSpec {
            owner: None,
            name: "ci".into(),
            ceiling,
            under: under.map(|under| sealport::model::paths::Folder::parse(under).unwrap()),
            deploys,
            expires_at: None,
        };
        let made = self.world.db.api_token_create(maker, &spec).await;
        made.unwrap().token
    }

    /// One call; no answer carries the canary.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .http
            .request(method, format!("{}api/v1{path}", self.at))
            .bearer_auth(token);
        if !body.is_null() {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let of = |name: &str| {
            let value = response.headers().get(name);
            value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        let (status, location, retry_after) =
            (response.status(), of("location"), of("retry-after"));
        let text = response.text().await.unwrap();
        assert!(!text.contains(&CANARY[..12]), "{path} leaks: {text}");
        Answer {
            status,
            location,
            retry_after,
            text,
        }
    }

    #[track_caller]
    pub fn ok(&self, answer: Answer, status: u16) -> Value {
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        match answer.text.is_empty() {
            true => Value::Null,
            false => answer.json(),
        }
    }

    /// Follows events until one is the last that is wanted; all of them. A stream that ends before is an error.
    pub async fn follow(
        &self,
        path: &str,
        token: &str,
        last: Option<i64>,
        until: impl Fn(&Told) -> bool,
    ) -> Vec<Told> {
        let mut request = self
            .http
            .get(format!("{}api/v1{path}", self.at))
            .bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut stream = response.bytes_stream();
        let mut text = String::new();
        let mut told = Vec::new();
        let following = async {
            while let Some(piece) = stream.next().await {
                text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
                while let Some(end) = text.find("\n\n") {
                    let event = event_of(&text[..end]);
                    text.drain(..end + 2);
                    let Some(event) = event else { continue };
                    let line = event.data.to_string();
                    assert!(!line.contains(&CANARY[..12]), "a stream leaks: {line}");
                    let is_last = until(&event);
                    told.push(event);
                    if is_last {
                        return true;
                    }
                }
            }
            false
        };
        let ended = tokio::time::timeout(PATIENCE, following).await;
        assert_eq!(ended, Ok(true), "it never came: {told:#?}");
        told
    }

    /// Until the deployment is in that state.
    pub async fn until(&self, name: &str, token: &str, state: &str) -> Vec<Told> {
        self.follow(&format!("/deployments/{name}/logs"), token, None, |told| {
            told.event == "state" && told.data["state"] == state
        })
        .await
    }

    /// One call of MCP through the gateway.
    pub async fn mcp(&self, name: &str, token: &str, body: &Value) -> (StatusCode, String) {
        self.mcp_at(&format!("s/{name}/mcp"), token, body).await
    }

    /// What a tool of agents answers, in its structured form.
    pub async fn tool(&self, token: &str, tool: &str, arguments: Value) -> Value {
        let (status, said) = self.mcp_at("mcp", token, &tool_call(tool, arguments)).await;
        assert!(status.is_success(), "{status} {said}");
        assert!(!said.contains(&CANARY[..12]), "{said}");
        let answer: Value = serde_json::from_str(&said).unwrap();
        answer["result"]["structuredContent"].clone()
    }

    async fn mcp_at(&self, path: &str, token: &str, body: &Value) -> (StatusCode, String) {
        let response = self
            .http
            .post(format!("{}{path}", self.at))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", body["method"].as_str().unwrap())
            .header("mcp-name", body["params"]["name"].as_str().unwrap())
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let status = response.status();
        (status, response.text().await.unwrap())
    }
}

/// A call in the newer era of the protocol.
pub fn tool_call(tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments,
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                  "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
                  "io.modelcontextprotocol/clientCapabilities": {}}}})
}

fn event_of(block: &str) -> Option<Told> {
    let of = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    Some(Told {
        event: of("event")?.to_owned(),
        id: of("id").map(|id| id.parse().unwrap()),
        data: serde_json::from_str(of("data")?).unwrap(),
    })
}
