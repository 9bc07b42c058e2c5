//! An installation with its supervisor at work and its doors open, and people with their own keys.

use std::path::Path;
use std::time::Duration;

use sealport::deploy::{CallersLimits, Deployer};
use sealport::doors::listening;
use sealport::model::actors::{Actor, Caller};
use sealport::model::deployments::{
    Binding, Bound, DeploymentDetail, DeploymentSpec, DeploymentState,
};
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, EnvName};
use sealport::model::sources::Source;
use sealport::store::secrets::NewValue;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::installed;
use crate::world::{self, World};

const PATIENCE: Duration = Duration::from_secs(180);

pub struct House {
    pub world: World,
    pub deployer: Deployer,
    pub ada: Caller,
    pub url: String,
    pub http: reqwest::Client,
    pub place: tempfile::TempDir,
    pub cancel: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl House {
    pub async fn new(limits: CallersLimits) -> House {
        let world = World::new().await;
        let place = tempfile::tempdir().unwrap();
        let deployer = installed::deployer(&world.db, place.path(), |sandbox, config| {
            config.dir_roots = vec![place.path().join("sources")];
            config.callers = limits;
            // The far service listens on this machine.
            sandbox.private_networks = vec!["127.0.0.1/32".parse().unwrap()];
        })
        .await;
        let mut ada = world.user("ada").await;
        if let Actor::User(user) = &mut ada.actor {
            user.is_admin = true;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = installed::doors(&world.db, deployer.clone(), &url, 0);
        let cancel = CancellationToken::new();
        tokio::spawn(listening::serve(listener, router, cancel.clone()));
        let running = tokio::spawn(deployer.clone().run(cancel.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        House {
            world,
            deployer,
            ada,
            url,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            place,
            cancel,
            running,
        }
    }

    pub async fn deploy(&self, spec: &DeploymentSpec) -> DeploymentName {
        let db = &self.world.db;
        let name = db.deployment_create(&self.ada, None, spec).await.unwrap();
        self.deployer.wake();
        self.state(&name, DeploymentState::Running).await;
        name
    }

    /// The server that tells what it sees, with a key of each caller's.
    pub async fn deploy_own(&self, name: &str) -> DeploymentName {
        let dir = self.place.path().join("sources").join(name);
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/own-server.mjs");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::copy(fixture, dir.join("server.mjs")).unwrap();
        let mut spec = world::spec(name, vec![brought("SHOP_KEY")]);
        spec.source = Source::parse(&format!("dir:{}", dir.display())).unwrap();
        spec.start.command = vec!["server.mjs".into()];
        self.deploy(&spec).await
    }

    pub async fn show(&self, name: &DeploymentName) -> DeploymentDetail {
        let db = &self.world.db;
        db.deployment_show(&self.ada, name).await.unwrap()
    }

    pub async fn state(&self, name: &DeploymentName, state: DeploymentState) {
        let looking = async {
            while self.show(name).await.summary.state != state {
                let _ =
                    tokio::time::timeout(Duration::from_millis(100), self.deployer.changed()).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            let lines = self.world.db.log_read(&self.ada, name, None, 500).await;
            panic!(
                "{name} is not {state:?}: {:#?}\n{lines:#?}",
                self.show(name).await
            );
        }
    }

    pub async fn share(&self, name: &DeploymentName, with: &str, level: Level) {
        let of = Shareable::Deployment { name: name.clone() };
        let db = &self.world.db;
        db.share(&self.ada, &of, with, level, &[]).await.unwrap();
    }

    pub async fn connect(&self, who: &Caller, name: &DeploymentName, env: &str, value: &str) {
        let value = NewValue::Typed(SecretString::from(value));
        let env = EnvName::parse(env).unwrap();
        let db = &self.world.db;
        db.connection_put(who, name, &env, None, Some(value))
            .await
            .unwrap();
    }

    pub async fn client(&self, who: &Caller, name: &DeploymentName) -> Client {
        let db = &self.world.db;
        let token = db.gateway_token_create(who, name, "a client", None).await;
        Client::at(&self.http, &self.url, name, token.unwrap().token)
    }

    pub async fn end(self) {
        self.cancel.cancel();
        self.running.await.unwrap();
    }
}

/// A variable that each caller brings.
pub fn brought(env: &str) -> Binding {
    Binding {
        env: EnvName::parse(env).unwrap(),
        to: Bound::PerUser {
            description: "Your own key.".into(),
        },
    }
}

/// An MCP client of the era of sessions.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub url: String,
    token: String,
    session: Option<String>,
}

/// An answer: its status, and its message.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub message: Value,
}

impl Answer {
    /// The text of a tool's result.
    pub fn text(&self) -> &str {
        self.message["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("no text: {self:?}"))
    }
}

impl Client {
    pub async fn post(&self, message: &Value) -> (Answer, Option<String>) {
        let mut request = self
            .http
            .post(&self.url)
            .bearer_auth(&self.token)
            .header("accept", "application/json, text/event-stream")
            .json(message);
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let session = response.headers().get("mcp-session-id");
        let session = session.map(|session| session.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        // An answer that took longer than a second comes as an event.
        let mut data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let message = serde_json::from_str(data.next_back().unwrap_or(&text));
        let message = message.unwrap_or(Value::String(text));
        (Answer { status, message }, session)
    }

    pub fn at(http: &reqwest::Client, url: &str, name: &DeploymentName, token: String) -> Client {
        Client {
            http: http.clone(),
            url: format!("{url}/s/{name}/mcp"),
            token,
            session: None,
        }
    }

    /// Begins a session. Returns the server's answer.
    pub async fn begin(&mut self, capabilities: Value) -> Answer {
        self.session = None;
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "1"}}});
        let (answer, session) = self.post(&initialize).await;
        self.session = session;
        answer
    }

    pub async fn ask(&self, method: &str, params: Value) -> Answer {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.post(&message).await.0
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
            .await
    }
}
