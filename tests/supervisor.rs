//! What the supervisor makes of servers that crash, that do not want to stop, and that are destroyed: real guests, a real
//! database, and the loop that the server runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "common/installed.rs"]
#[allow(dead_code)]
mod installed;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use sealport::deploy::Deployer;
use sealport::deploy::relay::ClientKey;
use sealport::model::actors::{Actor, Caller};
use sealport::model::deployments::{Binding, DeploymentDetail, DeploymentState, ReleaseState};
use sealport::model::paths::DeploymentName;
use sealport::model::sources::{Source, Transport};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use world::World;

const PATIENCE: Duration = Duration::from_secs(90);

/// An installation with its supervisor at work.
struct House {
    world: World,
    deployer: Deployer,
    ada: Caller,
    place: tempfile::TempDir,
    cancel: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl House {
    async fn new() -> House {
        let world = World::new().await;
        let place = tempfile::tempdir().unwrap();
        let deployer = installed::deployer(&world.db, place.path(), |_, config| {
            config.dir_roots = vec![place.path().join("sources")];
        })
        .await;
        let mut ada = world.user("ada").await;
        if let Actor::User(user) = &mut ada.actor {
            user.is_admin = true;
        }
        let cancel = CancellationToken::new();
        let running = tokio::spawn(deployer.clone().run(cancel.clone()));
        House {
            world,
            deployer,
            ada,
            place,
            cancel,
            running,
        }
    }

    /// Deploys the moody server from a directory of its own.
    async fn deploy(&self, name: &str, mood: &str) -> DeploymentName {
        self.write_source(name, "1");
        let mut spec = world::spec(name, vec![text("MOOD", mood)]);
        spec.source = Source::parse(&format!("dir:{}", self.source(name).display())).unwrap();
        spec.start.command = vec!["server.mjs".into()];
        spec.start.wants = vec!["SHOP_KEY".into(), "MOOD".into()];
        if mood == "http" {
            spec.start.transport = Transport::Http {
                path: "/mcp".into(),
            };
        }
        let db = &self.world.db;
        let name = db.deployment_create(&self.ada, None, &spec).await.unwrap();
        self.deployer.wake();
        name
    }

    fn source(&self, name: &str) -> PathBuf {
        self.place.path().join("sources").join(name)
    }

    fn write_source(&self, name: &str, version: &str) {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/moody-server.mjs");
        let text = std::fs::read_to_string(fixture).unwrap();
        let text = text.replace("version = \"1\"", &format!("version = \"{version}\""));
        std::fs::create_dir_all(self.source(name)).unwrap();
        std::fs::write(self.source(name).join("server.mjs"), text).unwrap();
    }

    async fn id(&self, name: &DeploymentName) -> Uuid {
        let sql = format!("select id::text from deployments where name = '{name}'");
        self.world.text(&sql).await.unwrap().parse().unwrap()
    }

    /// The files of a deployment's release, as the host sees them.
    async fn home(&self, name: &DeploymentName, release: i32) -> PathBuf {
        let id = self.id(name).await.to_string();
        let guests = self.place.path().join("guests");
        guests.join(id).join(format!("r{release}"))
    }

    async fn show(&self, name: &DeploymentName) -> DeploymentDetail {
        let db = &self.world.db;
        db.deployment_show(&self.ada, name).await.unwrap()
    }

    async fn until(
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
                "{name} never {what}: {:#?}\n{}",
                self.show(name).await,
                self.log(name).await.join("\n")
            ),
        }
    }

    async fn state(&self, name: &DeploymentName, state: DeploymentState) -> DeploymentDetail {
        self.until(name, state.as_str(), |detail| detail.summary.state == state)
            .await
    }

    async fn log(&self, name: &DeploymentName) -> Vec<String> {
        let db = &self.world.db;
        let lines = db.log_read(&self.ada, name, None, 500).await.unwrap();
        lines.into_iter().map(|line| line.line).collect()
    }

    async fn logs(&self, name: &DeploymentName, words: &str, times: usize) {
        let looking = async {
            loop {
                let log = self.log(name).await;
                if log.iter().filter(|line| line.contains(words)).count() >= times {
                    return;
                }
                let _ =
                    tokio::time::timeout(Duration::from_millis(100), self.deployer.changed()).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            panic!("{words:?} is not logged: {:#?}", self.log(name).await);
        }
    }

    /// The gateway's way to a server: its answer to a ping.
    async fn ping(&self, name: &DeploymentName) -> Result<String, String> {
        let relay = self.deployer.relay(self.id(name).await).await?;
        let request = Request::post("/mcp")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Body::from(
                r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#,
            ))
            .unwrap();
        let response = relay
            .handle(ClientKey::alone(Uuid::now_v7()), request)
            .await;
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        Ok(String::from_utf8(body.unwrap().to_vec()).unwrap())
    }

    async fn end(self) {
        self.cancel.cancel();
        self.running.await.unwrap();
    }
}

fn text(env: &str, text: &str) -> Binding {
    world::text(env, text)
}

async fn until_gone(path: &Path) {
    let looking = async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, looking).await;
    assert!(waited.is_ok(), "{} is still there", path.display());
}

#[tokio::test]
async fn a_server_that_crashes_comes_back_and_at_last_is_given_up() {
    let house = House::new().await;
    let name = house.deploy("moody", "").await;
    house.state(&name, DeploymentState::Running).await;
    assert!(house.ping(&name).await.unwrap().contains("moody"));

    let crash = house
        .home(&name, 1)
        .await
        .with_file_name("data")
        .join("crash");
    std::fs::write(&crash, "").unwrap();
    let down = house.state(&name, DeploymentState::Restarting).await;
    let why = down.summary.reason.unwrap();
    assert!(
        why.contains("status 3") && why.contains("My last words."),
        "{why}"
    );
    let told = house.ping(&name).await.unwrap_err();
    assert!(told.contains("being started again"), "{told}");
    std::fs::remove_file(&crash).unwrap();
    house.state(&name, DeploymentState::Running).await;
    assert!(house.ping(&name).await.unwrap().contains("moody"));

    std::fs::write(&crash, "").unwrap();
    let given_up = house.state(&name, DeploymentState::Failed).await;
    let why = given_up.summary.reason.unwrap();
    assert!(why.contains("6 times in a row"), "{why}");
    let told = house.ping(&name).await.unwrap_err();
    assert!(told.contains("It failed"), "{told}");
    // The release itself was good; what came after it is the deployment's story.
    assert_eq!(given_up.releases.len(), 1);
    assert_eq!(given_up.releases[0].state, ReleaseState::Live);
    let starts = house.log(&name).await;
    let starts = starts
        .iter()
        .filter(|line| line.contains("started again"))
        .count();
    assert_eq!(starts, 5, "times that it was started again");

    std::fs::remove_file(&crash).unwrap();
    let db = &house.world.db;
    db.deployment_start(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Running).await;
    assert_eq!(house.show(&name).await.summary.reason, None);
    house.end().await;
}

#[tokio::test]
async fn servers_that_do_not_want_to_stop_hold_nobody_up() {
    let house = House::new().await;
    let good = house.deploy("good", "").await;
    let mut deaf = Vec::new();
    for number in 1..=5 {
        deaf.push(house.deploy(&format!("deaf-{number}"), "deaf").await);
    }
    for name in deaf.iter().chain([&good]) {
        house.state(name, DeploymentState::Running).await;
    }
    let began = std::time::Instant::now();
    for name in &deaf {
        let db = &house.world.db;
        db.deployment_stop(&house.ada, name).await.unwrap();
    }
    house.deployer.wake();
    // Another's work goes on meanwhile: not after five times the grace of one.
    let fresh = house.deploy("fresh", "").await;
    house.state(&fresh, DeploymentState::Running).await;
    let still: Vec<_> = futures::future::join_all(deaf.iter().map(|name| house.show(name))).await;
    println!(
        "a new server ran after {:?}; of five that do not want to stop, {} had not stopped yet",
        began.elapsed(),
        still
            .iter()
            .filter(|detail| detail.summary.state != DeploymentState::Stopped)
            .count()
    );
    for name in &deaf {
        house.state(name, DeploymentState::Stopped).await;
    }
    println!("all five had stopped after {:?}", began.elapsed());
    let log = house.log(&good).await;
    let stopped = log
        .iter()
        .any(|line| line.contains("The server was stopped"));
    assert!(!stopped, "a bystander was stopped: {log:#?}");
    house.end().await;
}

#[tokio::test]
async fn nothing_of_a_destroyed_deployment_is_left() {
    let house = House::new().await;
    let (runs, stopped, failed) = (
        house.deploy("runs", "").await,
        house.deploy("stopped", "").await,
        house.deploy("failed", "needy").await,
    );
    house.state(&runs, DeploymentState::Running).await;
    house.state(&stopped, DeploymentState::Running).await;
    let why = house.state(&failed, DeploymentState::Failed).await;
    let why = why.summary.reason.unwrap();
    assert!(
        why.contains("status 1") && why.contains("I cannot go on"),
        "{why}"
    );
    assert!(
        why.contains("asks for SHOP_KEY, which nothing is bound to"),
        "{why}"
    );
    let db = &house.world.db;
    db.deployment_stop(&house.ada, &stopped).await.unwrap();
    house.deployer.wake();
    house.state(&stopped, DeploymentState::Stopped).await;
    for name in [&runs, &stopped, &failed] {
        let dir = house.home(name, 1).await.parent().unwrap().to_owned();
        assert!(dir.exists());
        db.deployment_destroy(&house.ada, name, name.as_str())
            .await
            .unwrap();
        house.deployer.wake();
        until_gone(&dir).await;
    }
    house.end().await;
}

#[tokio::test]
async fn a_start_uses_what_is_installed_and_a_redeploy_copies_a_directory_anew() {
    let house = House::new().await;
    let name = house.deploy("moody", "").await;
    house.state(&name, DeploymentState::Running).await;
    house.write_source("moody", "2");
    let db = &house.world.db;
    db.deployment_stop(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Stopped).await;
    db.deployment_start(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Running).await;
    // What it had written is still there.
    house.logs(&name, "version 1 again", 1).await;
    assert!(house.home(&name, 1).await.exists());

    // A redeploy that fails leaves the older release with its own code, also when that is started again.
    std::fs::write(house.source("moody").join("server.mjs"), "process.exit(7)").unwrap();
    db.deployment_redeploy(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    let kept = house
        .until(&name, "failed its release 3", |detail| {
            detail.releases[0].state == ReleaseState::Failed
                && detail.summary.state == DeploymentState::Running
        })
        .await;
    let why = kept.summary.reason.unwrap();
    assert!(
        why.contains("release 2 still runs") && why.contains("status 7"),
        "{why}"
    );
    let crash = house
        .home(&name, 1)
        .await
        .with_file_name("data")
        .join("crash");
    std::fs::write(&crash, "").unwrap();
    house.logs(&name, "My last words.", 1).await;
    std::fs::remove_file(&crash).unwrap();
    house.logs(&name, "version 1 again", 2).await;
    house.state(&name, DeploymentState::Running).await;

    house.write_source("moody", "2");
    db.deployment_redeploy(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house
        .until(&name, "ran release 4", |detail| {
            detail.releases[0].number == 4 && detail.releases[0].state == ReleaseState::Live
        })
        .await;
    // What it had written is there still.
    house.logs(&name, "version 2 again", 1).await;
    for old in [1, 3] {
        until_gone(&house.home(&name, old).await).await;
    }
    house.end().await;
}

#[tokio::test]
async fn an_older_start_does_not_take_the_place_of_a_newer_release() {
    let house = House::new().await;
    let name = house.deploy("moody", "slow-again").await;
    house.state(&name, DeploymentState::Running).await;
    let crash = house
        .home(&name, 1)
        .await
        .with_file_name("data")
        .join("crash");
    std::fs::write(&crash, "").unwrap();
    house.state(&name, DeploymentState::Restarting).await;
    std::fs::remove_file(&crash).unwrap();
    // The restart of release 1 now waits for its handshake; release 2 is quicker.
    house.logs(&name, "version 1 again", 1).await;
    house.write_source("moody", "2");
    let db = &house.world.db;
    db.deployment_redeploy(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house
        .until(&name, "ran release 2", |detail| {
            detail.releases[0].number == 2 && detail.releases[0].state == ReleaseState::Live
        })
        .await;
    // Release 1 answers at last, and has to give way.
    house.logs(&name, "The server was stopped.", 1).await;
    let answer = house.ping(&name).await.unwrap();
    assert!(answer.contains(r#""version":"2""#), "{answer}");
    assert_eq!(
        house.show(&name).await.summary.state,
        DeploymentState::Running
    );
    house.end().await;
}

#[tokio::test]
async fn an_http_server_runs_and_answers() {
    let house = House::new().await;
    let name = house.deploy("over-http", "http").await;
    house.state(&name, DeploymentState::Running).await;
    let answer = house.ping(&name).await.unwrap();
    assert!(answer.contains("moody"), "{answer}");
    house.end().await;
}
