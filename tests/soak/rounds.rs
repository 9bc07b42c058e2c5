//! Starts, idle stops and crashes in a row: of callers' own instances and of a shared server.

use std::time::{Duration, Instant};

use sealport::deploy::CallersLimits;
use sealport::model::deployments::DeploymentState;
use sealport::model::levels::Level;
use sealport::model::paths::DeploymentName;
use sealport::model::sources::Source;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::counts::Counts;
use super::house::{Client, House};
use crate::world;

/// Enough that one left in each round shows; `SOAK_ROUNDS` makes it longer.
const ROUNDS: usize = 25;
/// Rounds before the first count: pools fill, and directories that stay are made.
const WARM_UP: usize = 6;
const PATIENCE: Duration = Duration::from_secs(120);

struct Soak {
    house: House,
    own: DeploymentName,
    shared: DeploymentName,
    /// Ada's instance is left alone until it stops, Bob's crashes.
    ada: Client,
    bob: Client,
    all: Client,
}

#[tokio::test]
async fn nothing_is_left_of_very_many_starts_idle_stops_and_crashes() {
    let _alone = crate::ALONE.lock().await;
    let rounds = std::env::var("SOAK_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut soak = Soak::new().await;
    for round in 0..WARM_UP {
        soak.round(round).await;
    }
    let before = soak.counts().await;
    println!("before:\n{before}");
    let began = Instant::now();
    for round in 0..rounds {
        soak.round(round).await;
        if round % 100 == 99 {
            println!("{} rounds in {:?}", round + 1, began.elapsed());
        }
    }
    let after = soak.counts().await;
    println!(
        "after {rounds} rounds in {:?}, each a start that ended idle, in a crash, or in a crash of the shared server:\n{after}",
        began.elapsed()
    );
    let grown = after.grown_since(&before);
    assert!(grown.is_empty(), "left behind:\n{}", grown.join("\n"));
    soak.house.end().await;
}

impl Soak {
    async fn new() -> Soak {
        let limits = CallersLimits {
            idle: Duration::from_millis(200),
            ..CallersLimits::default()
        };
        let house = House::new(limits).await;
        let own = house.deploy_own("own").await;
        let bob = house.world.user("bob").await;
        house.share(&own, "bob", Level::Use).await;
        house
            .connect(&house.ada, &own, "SHOP_KEY", "adas-key-of-the-shop")
            .await;
        house
            .connect(&bob, &own, "SHOP_KEY", "bobs-key-of-the-shop")
            .await;
        let mut spec = world::spec("shared", vec![world::text("MODE", "shared")]);
        let source = house.place.path().join("sources/own");
        spec.source = Source::parse(&format!("dir:{}", source.display())).unwrap();
        spec.start.command = vec!["server.mjs".into()];
        let shared = house.deploy(&spec).await;
        Soak {
            ada: house.client(&house.ada, &own).await,
            bob: house.client(&bob, &own).await,
            all: house.client(&house.ada, &shared).await,
            house,
            own,
            shared,
        }
    }

    async fn round(&mut self, number: usize) {
        let round = async {
            match number % 3 {
                0 => self.idle().await,
                1 => self.crash().await,
                _ => self.crash_shared().await,
            }
        };
        let done = tokio::time::timeout(PATIENCE, round).await;
        done.unwrap_or_else(|_| panic!("round {number} does not end"));
    }

    async fn idle(&mut self) {
        up(&mut self.ada).await;
        let key = self.ada.call("key", json!({})).await;
        let expected = hex::encode(Sha256::digest("adas-key-of-the-shop"));
        assert_eq!(key.text(), expected);
        self.without_instances().await;
    }

    async fn crash(&mut self) {
        up(&mut self.bob).await;
        let crash = self.bob.call("crash", json!({})).await;
        assert!(crash.message.get("result").is_none(), "{crash:?}");
        self.without_instances().await;
    }

    async fn crash_shared(&mut self) {
        up(&mut self.all).await;
        let first = self.all.call("instance", json!({})).await.text().to_owned();
        self.all.call("crash", json!({})).await;
        loop {
            if self.all.begin(json!({})).await.status == 200 {
                let now = self.all.call("instance", json!({})).await;
                if now.message.get("result").is_some() {
                    assert_ne!(now.text(), first, "it was started again");
                    return;
                }
            }
            let summary = self.house.show(&self.shared).await.summary;
            // After so many in a row it is given up, and somebody starts it.
            if summary.state == DeploymentState::Failed {
                let db = &self.house.world.db;
                db.deployment_start(&self.house.ada, &self.shared)
                    .await
                    .unwrap();
                self.house.deployer.wake();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn without_instances(&self) {
        while self.house.deployer.callers_instances() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Taken when the shared server runs, nobody's own does, and nothing is on its way.
    async fn counts(&self) -> Counts {
        self.house
            .state(&self.shared, DeploymentState::Running)
            .await;
        self.house.state(&self.own, DeploymentState::Running).await;
        let place = self.house.place.path();
        let mut last = Counts::of(&self.house.world, place).await;
        // What a stop still collects, such as a forwarder's process, is gone in a moment; what leaked stays.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let next = Counts::of(&self.house.world, place).await;
            let is_still = next.processes == last.processes && next.descriptors == last.descriptors;
            last = next;
            if is_still {
                break;
            }
        }
        last
    }
}

/// A new session, as soon as its server may be started.
async fn up(client: &mut Client) {
    while client.begin(json!({})).await.status != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
