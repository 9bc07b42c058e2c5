//! The two ways to one server.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware;
use sealport::model::actors::Actor;
use sealport::model::deployments::{Binding, Bound, DeploymentSpec, DeploymentState};
use sealport::model::paths::{DeploymentName, EnvName};
use sealport::model::sources::Source;
use sealport::store::secrets::NewValue;
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::world::World;
use crate::{clients, installed, world};

const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "conformance";
const BROUGHT: &str = "ITS_KEY";

fn fixture() -> std::path::PathBuf {
    clients::script("../conformance/server")
}

/// A copy of the server in that directory.
fn copy_to(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    for entry in std::fs::read_dir(fixture()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
}

/// The server itself, over HTTP.
pub struct Direct {
    pub url: String,
    _child: Child,
    _place: tempfile::TempDir,
}

impl Direct {
    pub async fn start() -> Direct {
        let installed = clients::install(&fixture());
        let place = tempfile::tempdir().unwrap();
        copy_to(place.path());
        let modules = installed.dir.join("node_modules");
        std::os::unix::fs::symlink(modules, place.path().join("node_modules")).unwrap();
        let mut child = Command::new("node")
            .arg(place.path().join("server.mjs"))
            .arg("http")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut port).await.unwrap();
        Direct {
            url: format!("http://localhost:{}/mcp", port.trim()),
            _child: child,
            _place: place,
        }
    }
}

/// The same server deployed, and an address at which its gateway's token need not be shown: the suite has no way to.
pub struct Gateway {
    pub url: String,
    cancel: CancellationToken,
    running: Vec<tokio::task::JoinHandle<()>>,
    _place: tempfile::TempDir,
}

impl Gateway {
    /// All call one server, which speaks whatever the gateway speaks to it.
    pub async fn shared() -> Gateway {
        Self::open(Vec::new(), &[]).await
    }

    /// Each caller has a server of their own, of the session era.
    pub async fn own() -> Gateway {
        let brought = Binding {
            env: EnvName::parse(BROUGHT).unwrap(),
            to: Bound::PerUser {
                description: String::new(),
            },
        };
        Self::open(vec![brought], &["sessions"]).await
    }

    async fn open(bindings: Vec<Binding>, arguments: &[&str]) -> Gateway {
        let world = World::new().await;
        let place = tempfile::tempdir().unwrap();
        let sources = place.path().join("sources");
        copy_to(&sources.join(NAME));
        let deployer = installed::deployer(&world.db, place.path(), |_, config| {
            config.dir_roots = vec![sources.clone()];
        })
        .await;
        let mut ada = world.user("ada").await;
        if let Actor::User(user) = &mut ada.actor {
            user.is_admin = true;
        }
        let name = world
            .db
            .deployment_create(&ada, None, &spec(&sources, bindings, arguments))
            .await;
        let name: DeploymentName = name.unwrap();
        let token = world.db.gateway_token_create(&ada, &name, "suite", None);
        let token = token.await.unwrap().token;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!(
            "http://localhost:{}/",
            listener.local_addr().unwrap().port()
        );
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        let shows = middleware::map_request(move |mut request: Request| {
            let bearer = bearer.clone();
            async move {
                request.headers_mut().insert(header::AUTHORIZATION, bearer);
                request
            }
        });
        let router = installed::doors(&world.db, deployer.clone(), &at, 0).layer(shows);
        let cancel = CancellationToken::new();
        let running = vec![
            tokio::spawn(deployer.clone().run(cancel.clone())),
            tokio::spawn(sealport::doors::listening::serve(
                listener,
                router,
                cancel.clone(),
            )),
        ];
        let live = async {
            loop {
                let shown = world.db.deployment_show(&ada, &name).await.unwrap();
                if shown.summary.state == DeploymentState::Running {
                    return;
                }
                // What changes wakes us; the bound is for what changes elsewhere.
                let changed = deployer.changed();
                let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
            }
        };
        if tokio::time::timeout(PATIENCE, live).await.is_err() {
            let log = world.db.log_read(&ada, &name, None, 500).await.unwrap();
            panic!("it never ran: {log:#?}");
        }
        let shown = world.db.deployment_show(&ada, &name).await.unwrap();
        if shown.summary.per_user {
            let value = NewValue::Typed(SecretString::from("a key of ada's"));
            let env = EnvName::parse(BROUGHT).unwrap();
            let put = world
                .db
                .connection_put(&ada, &name, &env, None, Some(value));
            put.await.unwrap();
        }
        Gateway {
            url: format!("{at}s/{NAME}/mcp"),
            cancel,
            running,
            _place: place,
        }
    }

    /// Stops the guest and waits for it.
    pub async fn close(self) {
        self.cancel.cancel();
        for running in self.running {
            let ended = tokio::time::timeout(PATIENCE, running).await;
            ended.expect("it stops").unwrap();
        }
    }
}

fn spec(sources: &Path, bindings: Vec<Binding>, arguments: &[&str]) -> DeploymentSpec {
    let mut spec = world::spec(NAME, bindings);
    let source = format!("dir:{}", sources.join(NAME).display());
    spec.source = Source::parse(&source).unwrap();
    let command = ["server.mjs"].iter().chain(arguments);
    spec.start.command = command.map(|part| (*part).into()).collect();
    spec
}
