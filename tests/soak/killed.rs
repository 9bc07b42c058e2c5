//! `kill -9` of the real program while a shared server and callers' own instances run.

use std::path::Path;
use std::time::Duration;

use sealport::model::actors::{Actor, Caller};
use sealport::model::deployments::{DeploymentDetail, DeploymentState, ReleaseState};
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, EnvName};
use sealport::model::sources::Source;
use sealport::store::secrets::NewValue;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::counts::descendants;
use super::house::{Client, brought};
use super::two::move_to;
use crate::common::serving::{self, Server};
use crate::world::{self, World};

/// Long, for it ends a test that hangs and nothing else.
const PATIENCE: Duration = Duration::from_secs(120);
const KEY: &str = "SHOP_KEY";

/// A database that stays, and a server that comes and goes.
struct Rig {
    world: World,
    ada: Caller,
    home: TempDir,
    server: Server,
    http: reqwest::Client,
}

#[tokio::test]
async fn a_killed_server_leaves_nothing_and_runs_again_what_is_wanted() {
    let _alone = crate::ALONE.lock().await;
    let mut rig = Rig::new().await;
    let shared = rig.deploy("shared", world::text("MODE", "shared")).await;
    let own = rig.deploy("own", brought(KEY)).await;
    let bob = rig.world.user("bob").await;
    let of = Shareable::Deployment { name: own.clone() };
    let db = rig.world.db.clone();
    db.share(&rig.ada, &of, "bob", Level::Use, &[])
        .await
        .unwrap();

    let mut callers = Vec::new();
    for (who, key) in [
        (&rig.ada, "adas-key-of-the-shop"),
        (&bob, "bobs-key-of-the-shop"),
    ] {
        let value = NewValue::Typed(SecretString::from(key));
        let env = EnvName::parse(KEY).unwrap();
        db.connection_put(who, &own, &env, None, Some(value))
            .await
            .unwrap();
        callers.push((rig.client(who, &own).await, key));
    }
    let mut all = rig.client(&rig.ada, &shared).await;
    let mut before = Vec::new();
    for (client, key) in &mut callers {
        assert_eq!(said(client, "key", json!({})).await, digest(key));
        before.push(said(client, "instance", json!({})).await);
        let note = json!({"path": "/data/note", "text": key});
        assert_eq!(said(client, "write", note).await, "written");
    }
    before.push(said(&mut all, "instance", json!({})).await);
    let directories = rig.directories();
    let rows = rig.rows().await;

    let family = rig.family(3);
    rig.server.child.kill().await.unwrap();
    until("an end of all that it had started", async || {
        (!family.iter().any(runs)).then_some(())
    })
    .await;

    // Half a minute later, by which others know that it is gone.
    rig.world.lapse().await;
    rig.server = rig.again().await;
    let url = format!("http://{}", rig.server.at());
    let mut after = Vec::new();
    for (client, key) in &mut callers {
        move_to(client, &url);
        assert_eq!(said(client, "key", json!({})).await, digest(key));
        let note = json!({"path": "/data/note"});
        // The key itself is masked on its way out.
        assert_eq!(said(client, "read", note).await, "[sealed]");
        after.push(said(client, "instance", json!({})).await);
    }
    move_to(&mut all, &url);
    after.push(said(&mut all, "instance", json!({})).await);
    assert!(after.iter().all(|instance| !before.contains(instance)));
    let family = rig.family(3);
    assert_eq!(rig.directories(), directories, "none more and none less");
    assert_eq!(rig.rows().await, rows);
    for name in [&shared, &own] {
        let shown = rig.until_running(name).await;
        assert_eq!(shown.releases.len(), 1);
        assert_eq!(shown.releases[0].state, ReleaseState::Live);
    }
    rig.server.stop().await;
    until("an end of all that the second had started", async || {
        (!family.iter().any(runs)).then_some(())
    })
    .await;
}

impl Rig {
    async fn new() -> Rig {
        // reqwest panics without one, though nothing here is encrypted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (world, home) = (World::new().await, serving::home());
        let source = home.path().join("sources/own");
        std::fs::create_dir_all(&source).unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/own-server.mjs");
        std::fs::copy(fixture, source.join("server.mjs")).unwrap();
        let mut ada = world.user("ada").await;
        // What the installation's administrator deploys lies on this machine.
        let Actor::User(user) = &mut ada.actor else {
            unreachable!()
        };
        user.is_admin = true;
        let server = serve(&world, &home).await;
        Rig {
            world,
            ada,
            home,
            server,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn again(&self) -> Server {
        serve(&self.world, &self.home).await
    }

    async fn deploy(
        &self,
        name: &str,
        binding: sealport::model::deployments::Binding,
    ) -> DeploymentName {
        let source = self.home.path().join("sources/own");
        let mut spec = world::spec(name, vec![binding]);
        spec.source = Source::parse(&format!("dir:{}", source.display())).unwrap();
        spec.start.command = vec!["server.mjs".into()];
        let made = self
            .world
            .db
            .deployment_create(&self.ada, None, &spec)
            .await;
        let name = made.unwrap();
        self.until_running(&name).await;
        name
    }

    async fn until_running(&self, name: &DeploymentName) -> DeploymentDetail {
        until(&format!("{name}, running"), async || {
            let shown = self
                .world
                .db
                .deployment_show(&self.ada, name)
                .await
                .unwrap();
            let state = shown.summary.state;
            assert!(state != DeploymentState::Failed, "{shown:#?}");
            (state == DeploymentState::Running).then_some(shown)
        })
        .await
    }

    async fn client(&self, who: &Caller, name: &DeploymentName) -> Client {
        let db = &self.world.db;
        let token = db.gateway_token_create(who, name, "a client", None).await;
        let url = format!("http://{}", self.server.at());
        Client::at(&self.http, &url, name, token.unwrap().token)
    }

    /// All that the server started, with so many guests among it.
    fn family(&self, guests: usize) -> Vec<(u32, String)> {
        let family = descendants(self.server.child.id().unwrap());
        let nodes = family.iter().filter(|one| one.1 == "node").count();
        assert_eq!(
            nodes, guests,
            "one for all, and one for each caller: {family:?}"
        );
        family
    }

    /// Of what it holds of deployments.
    async fn rows(&self) -> Vec<(&'static str, i64)> {
        let mut rows = Vec::new();
        for table in [
            "deployments",
            "bindings",
            "connections",
            "secrets",
            "secret_versions",
            "releases",
            "tokens",
        ] {
            rows.push((table, self.world.count(table).await));
        }
        rows
    }

    /// Those in which guests live, by their paths.
    fn directories(&self) -> Vec<String> {
        let (mut found, mut waiting) = (Vec::new(), vec![self.home.path().join("data/guests")]);
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(&folder).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    found.push(entry.path().display().to_string());
                    waiting.push(entry.path());
                }
            }
        }
        found.sort();
        assert!(
            found.iter().any(|path| path.contains("/callers/")),
            "{found:?}"
        );
        found
    }
}

async fn serve(world: &World, home: &TempDir) -> Server {
    let roots = home.path().join("sources").display().to_string();
    let key = "42".repeat(32);
    let variables = [
        ("SEALPORT_DIR_ROOTS", roots.as_str()),
        ("SEALPORT_LOG", "error"),
        ("SEALPORT_MASTER_KEY", &key),
        ("DATABASE_URL", &world.database.app_url),
        ("DATABASE_OWNER_URL", &world.database.owner_url),
    ];
    Server::up(serving::serve(&home.path().join("data"), &variables)).await
}

/// The text of a tool's result, in a session of its own, as soon as the server is let through.
async fn said(client: &mut Client, tool: &str, arguments: Value) -> String {
    until("a session", async || {
        let begun = client.begin(json!({})).await;
        (begun.status == 200).then_some(())
    })
    .await;
    client.call(tool, arguments).await.text().to_owned()
}

fn digest(value: &str) -> String {
    hex::encode(Sha256::digest(value))
}

/// A zombie runs no more; who has to collect it is not our matter.
fn runs((pid, name): &(u32, String)) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.starts_with(&format!("Name:\t{name}\n")) && !status.contains("State:\tZ")
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("there never was {what}"))
}
