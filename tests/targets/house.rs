//! An installation whose supervisor is at work, with Render and Railway as a test wants them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use sealport::deploy::Deployer;
use sealport::deploy::relay::ClientKey;
use sealport::model::actors::Caller;
use sealport::model::deployments::{Binding, DeploymentDetail, DeploymentSpec, DeploymentState};
use sealport::model::paths::DeploymentName;
use sealport::model::sources::{Source, Transport};
use sealport::model::targets::Target;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fakes::railway::{FakeRailway, WORKSPACE_KEY};
use crate::fakes::render::{FakeRender, KEY};
use crate::installed;
use crate::world::{self, World};

/// Long, for it ends a test that hangs and nothing else.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct House {
    pub world: World,
    pub deployer: Deployer,
    pub ada: Caller,
    pub render: FakeRender,
    pub railway: FakeRailway,
    pub key: Uuid,
    pub railway_key: Uuid,
    /// Where what the provider "runs" listens.
    port: u16,
    place: tempfile::TempDir,
    cancel: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

/// What the provider "runs": ended when it is dropped.
pub struct Served(Child);

impl Served {
    /// The real bridge in front of a real server, with the variables that the provider was given.
    pub fn at(port: u16, env: &BTreeMap<String, String>) -> Served {
        let server =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bridged-server.mjs");
        let child = Command::new(env!("CARGO_BIN_EXE_sealport"))
            .args(["bridge", "--host", "127.0.0.1", "--", "node"])
            .arg(server)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs(env)
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Served(child)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Render and Railway, and the port at which all that they "run" is.
pub async fn providers() -> (FakeRender, FakeRailway, u16) {
    /// More than a test makes.
    const DOMAINS: usize = 200;
    let (render, railway) = (FakeRender::start().await, FakeRailway::start().await);
    // Free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    render.serve_at(&format!("http://127.0.0.1:{port}/"));
    let domain = || format!("127.0.0.1:{port}");
    railway.state().domain_names = std::iter::repeat_with(domain).take(DOMAINS).collect();
    (render, railway, port)
}

impl House {
    pub async fn new() -> House {
        let world = World::new().await;
        let ada = world.user("ada").await;
        let key = world.secret(&ada, "meta/render/api_key", KEY).await;
        let railway_key = world.secret(&ada, "meta/railway/api_key", WORKSPACE_KEY);
        let railway_key = railway_key.await;
        let (render, railway, port) = providers().await;
        let place = tempfile::tempdir().unwrap();
        let deployer = deployer(&world, &render, &railway, place.path()).await;
        let cancel = CancellationToken::new();
        let running = tokio::spawn(deployer.clone().run(cancel.clone()));
        House {
            world,
            deployer,
            ada,
            render,
            railway,
            key,
            railway_key,
            port,
            place,
            cancel,
            running,
        }
    }

    pub fn spec(&self, name: &str, bindings: Vec<Binding>) -> DeploymentSpec {
        let mut spec = world::spec(name, bindings);
        spec.source = Source::parse("image:registry.example/crawl:1").unwrap();
        spec.start.command.clear();
        spec.start.transport = Transport::Http {
            path: "/mcp".into(),
        };
        spec.target = Target::Render;
        spec.provider_key = Some(self.key);
        spec
    }

    pub async fn deploy(&self, name: &str, bindings: Vec<Binding>) -> DeploymentName {
        self.deploy_as(&self.spec(name, bindings)).await
    }

    pub async fn deploy_to_railway(&self, name: &str, bindings: Vec<Binding>) -> DeploymentName {
        let spec = DeploymentSpec {
            target: Target::Railway,
            provider_key: Some(self.railway_key),
            ..self.spec(name, bindings)
        };
        self.deploy_as(&spec).await
    }

    pub async fn deploy_as(&self, spec: &DeploymentSpec) -> DeploymentName {
        let db = &self.world.db;
        let name = db.deployment_create(&self.ada, None, spec).await.unwrap();
        self.deployer.wake();
        name
    }

    /// As [`House::serve`], with the environment that is found.
    pub async fn serve_when(
        &self,
        env: impl Fn(&House) -> Option<BTreeMap<String, String>>,
    ) -> Served {
        let env = self.until_there("a deployment", env).await;
        self.serve_with(&env)
    }

    /// As [`House::serve`], of Railway: with what its newest deployment began with.
    pub async fn serve_of_railway(&self) -> Served {
        self.serve_when(|house| {
            let state = house.railway.state();
            let newest = state.deployments.last();
            newest.map(|newest| newest.variables.clone())
        })
        .await
    }

    /// Runs what the provider's one service is, with its environment, as soon as there is one.
    pub async fn serve(&self) -> Served {
        let env = self
            .until_there("a service", |house| {
                let state = house.render.state();
                state.services.first().map(|service| service.env.clone())
            })
            .await;
        self.serve_with(&env)
    }

    pub fn serve_with(&self, env: &BTreeMap<String, String>) -> Served {
        Served::at(self.port, env)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    pub async fn until_there<T>(&self, what: &str, look: impl Fn(&House) -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(found) => found,
            Err(_) => panic!(
                "there never was {what}; {:?} {:?}",
                self.render.wire.lines(),
                self.railway.fields()
            ),
        }
    }

    pub async fn id(&self, name: &DeploymentName) -> Uuid {
        let sql = format!("select id::text from deployments where name = '{name}'");
        self.world.text(&sql).await.unwrap().parse().unwrap()
    }

    pub async fn show(&self, name: &DeploymentName) -> DeploymentDetail {
        let db = &self.world.db;
        db.deployment_show(&self.ada, name).await.unwrap()
    }

    pub async fn until(
        &self,
        name: &DeploymentName,
        what: &str,
        is: impl Fn(&DeploymentDetail) -> bool,
    ) -> DeploymentDetail {
        let looking = async {
            loop {
                let detail = self.show(name).await;
                if is(&detail) {
                    return detail;
                }
                // What changes wakes us; the bound is for what changes elsewhere.
                let _ =
                    tokio::time::timeout(Duration::from_millis(100), self.deployer.changed()).await;
            }
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(detail) => detail,
            Err(_) => panic!(
                "{name} never {what}: {:#?}\n{:?}\n{}",
                self.show(name).await,
                (self.render.wire.lines(), self.railway.fields()),
                self.log(name).await.join("\n")
            ),
        }
    }

    pub async fn state(&self, name: &DeploymentName, state: DeploymentState) -> DeploymentDetail {
        self.until(name, state.as_str(), |detail| detail.summary.state == state)
            .await
    }

    pub async fn log(&self, name: &DeploymentName) -> Vec<String> {
        let db = &self.world.db;
        let lines = db.log_read(&self.ada, name, None, 500).await.unwrap();
        lines.into_iter().map(|line| line.line).collect()
    }

    /// The gateway's way to a server: its answer to the handshake.
    pub async fn call(&self, name: &DeploymentName) -> Result<String, String> {
        let relay = self.deployer.relay(self.id(name).await).await?;
        let request = Request::post("/mcp")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Body::from(INITIALIZE))
            .unwrap();
        let response = relay
            .handle(ClientKey::alone(Uuid::now_v7()), request)
            .await;
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        Ok(String::from_utf8(body.unwrap().to_vec()).unwrap())
    }

    /// This server stops as if it were killed, and another takes over at once.
    pub async fn another(self) -> House {
        self.running.abort();
        self.world.lapse().await;
        let deployer = deployer(&self.world, &self.render, &self.railway, self.place.path()).await;
        let cancel = CancellationToken::new();
        let running = tokio::spawn(deployer.clone().run(cancel.clone()));
        House {
            deployer,
            cancel,
            running,
            ..self
        }
    }

    pub async fn end(self) {
        assert_eq!(self.render.wrong(), Vec::<String>::new());
        self.cancel.cancel();
        self.running.await.unwrap();
        // A job whose server was killed may still wait for an answer, and would keep the connections.
        self.world.db.close().await;
    }
}

pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

async fn deployer(
    world: &World,
    render: &FakeRender,
    railway: &FakeRailway,
    place: &Path,
) -> Deployer {
    installed::deployer(&world.db, place, |_, config| {
        config.providers.render_api = render.base();
        config.providers.railway_api = railway.url.clone();
        config.source_hosts = render.hosts();
    })
    .await
}
