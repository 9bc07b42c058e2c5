//! Two servers of one database: each deployment runs on one of them, and so does each caller's own instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sealport::deploy::{CallersLimits, Deployer};
use sealport::doors::listening;
use sealport::model::deployments::DeploymentState;
use sealport::model::sources::Source;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::counts::descendants;
use super::house::{Client, House};
use crate::{installed, world};

const PATIENCE: Duration = Duration::from_secs(90);
/// Calls to each server while both are there.
const CALLS: usize = 40;

/// Looks at all times how many guests there are, and remembers the most.
struct Watch {
    most: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn new() -> Watch {
        let watch = Watch {
            most: Arc::default(),
            over: Arc::default(),
        };
        let (most, over) = (Arc::clone(&watch.most), Arc::clone(&watch.over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(guests(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        watch
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The servers that run below this process: the installers are Node.js too.
fn guests() -> usize {
    let is_guest = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.ends_with("/server.mjs\0") && !line.contains("npm")
    };
    let below = descendants(std::process::id());
    below.iter().filter(|one| is_guest(&one.0)).count()
}

/// From its next session on, the client is one of another server.
pub fn move_to(client: &mut Client, url: &str) {
    let path = client.url.find("/s/").unwrap();
    client.url.replace_range(..path, url);
}

struct Second {
    deployer: Deployer,
    url: String,
    cancel: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    _place: tempfile::TempDir,
}

impl Second {
    async fn beside(house: &House) -> Second {
        let place = tempfile::tempdir().unwrap();
        let deployer = installed::deployer(&house.world.db, place.path(), |_, config| {
            config.dir_roots = vec![house.place.path().join("sources")];
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = installed::doors(&house.world.db, deployer.clone(), &url, 0);
        let cancel = CancellationToken::new();
        tokio::spawn(listening::serve(listener, router, cancel.clone()));
        let running = tokio::spawn(deployer.clone().run(cancel.clone()));
        Second {
            deployer,
            url,
            cancel,
            running,
            _place: place,
        }
    }
}

#[tokio::test]
async fn a_deployment_and_a_callers_instance_run_on_one_of_two_servers() {
    let _alone = crate::ALONE.lock().await;
    let watch = Watch::new();
    let house = House::new(CallersLimits::default()).await;
    let own = house.deploy_own("own").await;
    let dir = house.place.path().join("sources/own");
    let mut spec = world::spec("shared", vec![world::text("MODE", "shared")]);
    spec.source = Source::parse(&format!("dir:{}", dir.display())).unwrap();
    spec.start.command = vec!["server.mjs".into()];
    let shared = house.deploy(&spec).await;
    house
        .connect(&house.ada, &own, "SHOP_KEY", "adas-key-of-the-shop")
        .await;
    let clients = [
        house.client(&house.ada, &own).await,
        house.client(&house.ada, &shared).await,
    ];
    let second = Second::beside(&house).await;

    // Both servers are asked for both, at once.
    let ask = async |at: Option<&str>| {
        let mut answered = [0, 0];
        for (number, client) in clients.iter().enumerate() {
            let mut client = client.clone();
            if let Some(url) = at {
                move_to(&mut client, url);
            }
            for _ in 0..CALLS {
                let status = client.begin(json!({})).await.status;
                assert!([200, 503].contains(&status), "{status}");
                answered[number] += usize::from(status == 200);
            }
        }
        answered
    };
    let (by_first, by_second) = tokio::join!(ask(None), ask(Some(&second.url)));
    assert_eq!((by_first, by_second), ([CALLS, CALLS], [0, 0]));
    assert_eq!(house.deployer.callers_instances(), 1);
    assert_eq!(second.deployer.callers_instances(), 0);
    assert_eq!(guests(), 2, "control: one for all and one of Ada's");

    // The first stops, and the other takes over; what was installed stays where it was.
    house.cancel.cancel();
    let (db, ada) = (&house.world.db, &house.ada);
    until("the other server has it", async || {
        let summary = db.deployment_show(ada, &shared).await.unwrap().summary;
        let reason = summary.reason.unwrap_or_default();
        summary.state == DeploymentState::Failed && reason.contains("Redeploy it")
    })
    .await;
    for name in [&shared, &own] {
        db.deployment_redeploy(ada, name).await.unwrap();
    }
    second.deployer.wake();
    for client in clients {
        let mut there = client;
        move_to(&mut there, &second.url);
        until("it runs on the other server", async || {
            there.begin(json!({})).await.status == 200
        })
        .await;
    }
    assert_eq!(house.deployer.callers_instances(), 0);
    assert_eq!(second.deployer.callers_instances(), 1);
    let most = watch.most.load(Ordering::Relaxed);
    println!("at most {most} guests at any time, of one shared server and one caller's instance");
    assert_eq!(most, 2);
    second.cancel.cancel();
    second.running.await.unwrap();
    house.end().await;
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, looking).await;
    assert!(waited.is_ok(), "never: {what}");
}
