//! An installation with its doors open, and tokens of each kind.

use reqwest::StatusCode;
use sealport::doors::listening;
use sealport::model::actors::{Actor, Caller};
use sealport::model::levels::Level;
use sealport::model::paths::{Folder, SecretPath};
use sealport::store::api_tokens::ApiTokenSpec;
use sealport::store::secrets::SecretEdit;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::installed::{deployer, doors};
use crate::world::World;

/// A value that must be nowhere but in an answer to who may read.
pub const CANARY: &str = "sk-canary-7Fq2Zr9Lw/Tb+04";

pub struct House {
    pub world: World,
    pub ada: Caller,
    /// Without a slash at its end.
    pub url: String,
    pub http: reqwest::Client,
    _place: tempfile::TempDir,
    _open: DropGuard,
}

/// An answer of the door.
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

/// A tool's result.
pub struct Called {
    pub structured: Value,
    pub failed: bool,
    /// As it came.
    pub text: String,
}

impl House {
    pub async fn new() -> House {
        House::with_quota(0).await
    }

    pub async fn with_quota(api_requests_per_minute: u32) -> House {
        let world = World::new().await;
        let place = tempfile::tempdir().unwrap();
        let deployer = deployer(&world.db, place.path(), |_, _| {}).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = doors(&world.db, deployer, &url, api_requests_per_minute);
        let cancel = CancellationToken::new();
        tokio::spawn(listening::serve(listener, router, cancel.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ada = world.user("ada").await;
        House {
            world,
            ada,
            url,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _place: place,
            _open: cancel.drop_guard(),
        }
    }

    /// A token of Ada's, and its id.
    pub async fn token(
        &self,
        ceiling: Level,
        under: Option<&str>,
        deploys: bool,
    ) -> (Uuid, String) {
        self.token_of(&self.ada, ceiling, under, deploys).await
    }

    pub async fn token_of(
        &self,
        maker: &Caller,
        ceiling: Level,
        under: Option<&str>,
        deploys: bool,
    ) -> (Uuid, String) {
        let spec = ApiTokenSpec {
            owner: None,
            name: "an agent's".into(),
            ceiling,
            under: under.map(|under| Folder::parse(under).unwrap()),
            deploys,
            expires_at: None,
        };
        let new = self.world.db.api_token_create(maker, &spec).await.unwrap();
        (new.id, new.token)
    }

    pub async fn secret(&self, path: &str, value: &str) -> Uuid {
        self.world.secret(&self.ada, path, value).await
    }

    pub async fn switch(&self, secret: Uuid, on: bool) {
        let edit = SecretEdit {
            active: Some(on),
            ..SecretEdit::default()
        };
        self.world
            .db
            .secret_edit(&self.ada, secret, edit)
            .await
            .unwrap();
    }

    /// As when its time came.
    pub async fn expire(&self, secret: Uuid) {
        self.world
            .sql(&format!(
                "set session_replication_role = replica; update secrets set expires_at = now() - interval '1 hour' where id = '{secret}'"
            ))
            .await;
    }

    /// An administrator's word on whether agents get values.
    pub async fn reveal(&self, on: bool) {
        let Actor::User(mut user) = self.ada.actor.clone() else {
            panic!("Ada is a person");
        };
        self.world
            .sql(&format!(
                "set sealport.job = 'operator'; update users set is_admin = true where id = '{}'",
                user.id
            ))
            .await;
        user.is_admin = true;
        let admin = Caller {
            actor: Actor::User(user),
            origin: self.ada.origin.clone(),
        };
        self.world.db.mcp_reveal(&admin, on).await.unwrap();
    }

    /// The newest value, as only the database's side can tell: whether it is this one.
    pub async fn is_value(&self, path: &str, value: &str) -> bool {
        let owner = crate::world::own(&self.ada);
        let path = SecretPath::parse(path).unwrap();
        let db = &self.world.db;
        let found = db.secret_show(&self.ada, &owner, &path).await.unwrap();
        db.secret_compare(&self.ada, found.summary.id, value.to_owned().into())
            .await
            .unwrap()
    }

    /// One message in the era of sessions.
    pub async fn post(&self, token: &str, message: &Value) -> Answer {
        self.post_with(token, message, &[]).await
    }

    pub async fn post_with(
        &self,
        token: &str,
        message: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self
            .http
            .post(format!("{}/mcp", self.url))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string());
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    /// A tool's result; a protocol error, or another status than 200, is a failure.
    #[track_caller]
    pub fn call<'a>(
        &'a self,
        token: &'a str,
        tool: &'a str,
        arguments: Value,
    ) -> impl Future<Output = Called> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": tool, "arguments": arguments}});
            let answer = self.post(token, &message).await;
            assert_eq!(answer.status, 200, "{at}: {}", answer.text);
            let result = &answer.json()["result"];
            assert!(result.is_object(), "{at}: {}", answer.text);
            let text = result["content"][0]["text"].as_str().unwrap();
            let said: Value = serde_json::from_str(text).unwrap();
            assert_eq!(
                said, result["structuredContent"],
                "{at}: two forms of one result"
            );
            Called {
                structured: said,
                failed: result["isError"].as_bool().unwrap(),
                text: answer.text,
            }
        }
    }
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Answer {
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }
}

impl Called {
    /// Its reason, or a dash.
    pub fn reason(&self) -> &str {
        self.structured["reason"].as_str().unwrap_or("-")
    }
}
