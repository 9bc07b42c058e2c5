//! What ends with a right or a key: the instance within seconds, whatever is under way, and what it kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sealport::deploy::CallersLimits;
use sealport::model::actors::Caller;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, EnvName};
use sealport::store::secrets::SecretEdit;
use serde_json::json;

use super::house::{Client, House};

const KEY: &str = "SHOP_KEY";
/// Shorter than calls under way may go on where an instance merely gives way.
const SECONDS: Duration = Duration::from_secs(20);

impl House {
    async fn until_so(&self, what: &str, is_so: impl Fn() -> bool) {
        let looking = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let looked = tokio::time::timeout(SECONDS, looking).await;
        assert!(looked.is_ok(), "{what}");
    }

    /// Bob may call it and has connected a key; his client has begun.
    async fn bobs(&self, name: &DeploymentName) -> (Caller, Client) {
        let bob = self.world.user("bob").await;
        self.share(name, "bob", Level::Use).await;
        self.connect(&bob, name, KEY, "bobs-key-of-the-shop").await;
        let mut client = self.client(&bob, name).await;
        assert_eq!(client.begin(json!({})).await.status, 200);
        (bob, client)
    }

    /// The directories of callers' instances.
    fn kept(&self) -> Vec<PathBuf> {
        let below = |dir: &Path| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let guests = below(&self.place.path().join("guests")).into_iter();
        guests.flat_map(|dir| below(&dir.join("callers"))).collect()
    }
}

#[tokio::test]
async fn an_instance_ends_with_its_callers_rights_whatever_is_under_way() {
    let house = House::new(CallersLimits::default()).await;
    let name = house.deploy_own("own").await;
    let (bob, client) = house.bobs(&name).await;
    let db = &house.world.db;
    let waits = |client: &Client| {
        let client = client.clone();
        tokio::spawn(async move { client.call("wait", json!({"ms": 600_000})).await })
    };
    let is_gone = || house.deployer.callers_instances() == 0;

    // A key that is switched off.
    let waiting = waits(&client);
    let secret = db.connect_page(&bob, &name).await.unwrap().slots[0].secret_id;
    let switch = |active| SecretEdit {
        active: Some(active),
        ..SecretEdit::default()
    };
    db.secret_edit(&bob, secret.unwrap(), switch(false))
        .await
        .unwrap();
    house
        .until_so("it runs with a key that is switched off", is_gone)
        .await;
    assert!(waiting.await.unwrap().message.get("result").is_none());

    // What was shared is so no more.
    db.secret_edit(&bob, secret.unwrap(), switch(true))
        .await
        .unwrap();
    let mut client = client;
    assert_eq!(client.begin(json!({})).await.status, 200);
    let waiting = waits(&client);
    house.world.sql("delete from grants").await;
    house
        .until_so("it runs for somebody who may not call it", is_gone)
        .await;
    assert!(waiting.await.unwrap().message.get("result").is_none());
    house.end().await;
}

#[tokio::test]
async fn what_an_instance_kept_goes_with_the_last_key() {
    let house = House::new(CallersLimits::default()).await;
    let name = house.deploy_own("own").await;
    let (bob, client) = house.bobs(&name).await;
    house
        .connect(&house.ada, &name, KEY, "adas-key-of-the-shop")
        .await;
    let mut adas = house.client(&house.ada, &name).await;
    assert_eq!(adas.begin(json!({})).await.status, 200);
    let note = json!({"path": "/data/note", "text": "kept"});
    for client in [&client, &adas] {
        assert_eq!(client.call("write", note.clone()).await.text(), "written");
    }
    // Links are gone with it, and what they lead to is not.
    let outside = house.place.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "still here").unwrap();
    let out = json!({"path": "/data/out", "to": outside});
    assert_eq!(client.call("link", out).await.text(), "linked");
    assert_eq!(house.kept().len(), 2);

    let env = EnvName::parse(KEY).unwrap();
    let db = &house.world.db;
    db.connection_end(&bob, &name, &env).await.unwrap();
    house
        .until_so("what Bob's instance kept is still there", || {
            house.kept().len() == 1
        })
        .await;
    assert!(outside.join("precious").exists());
    let kept = &house.kept()[0];
    assert!(
        kept.to_string_lossy()
            .contains(&crate::world::id(&house.ada).to_string())
    );
    let read = adas.call("read", json!({"path": "/data/note"})).await;
    assert_eq!(read.text(), "kept");
    // Connected again, it begins anew.
    house.connect(&bob, &name, KEY, "another-key-of-bobs").await;
    let mut client = client;
    assert_eq!(client.begin(json!({})).await.status, 200);
    let read = client.call("read", json!({"path": "/data/note"})).await;
    assert_eq!(read.text(), "ENOENT");

    db.deployment_destroy(&house.ada, &name, name.as_str())
        .await
        .unwrap();
    house.deployer.wake();
    house
        .until_so("a destroyed deployment leaves what callers kept", || {
            house.kept().is_empty()
        })
        .await;
    house.end().await;
}
