//! What a caller's own instance knows of its caller's clients.

use std::path::Path;

use sealport::model::sources::Source;
use serde_json::{Value, json};

use super::house::{Client, House, brought};
use crate::world;

/// What the server says that its client can be asked.
async fn told(client: &Client) -> Value {
    let answer = client.call("can", json!({})).await;
    serde_json::from_str(answer.text()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_instance_is_told_what_its_callers_clients_can_be_asked() {
    let house = House::new(Default::default()).await;
    let dir = house.place.path().join("sources/asking");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/asking-server.mjs");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(fixture, dir.join("server.mjs")).unwrap();
    let mut spec = world::spec("asking", vec![brought("ITS_KEY")]);
    spec.source = Source::parse(&format!("dir:{}", dir.display())).unwrap();
    // It ends when it is asked for its era, so it is started once more.
    spec.start.command = vec!["server.mjs".into(), "picky".into()];
    let name = house.deploy(&spec).await;
    house
        .connect(&house.ada, &name, "ITS_KEY", "a key of ada's")
        .await;

    let (form, sampling) = (json!({"elicitation": {}}), json!({"sampling": {}}));
    let mut one = house.client(&house.ada, &name).await;
    one.begin(form.clone()).await;
    assert_eq!(told(&one).await, form);
    let mut other = house.client(&house.ada, &name).await;
    other.begin(json!({})).await;
    assert_eq!(told(&other).await, form);
    // One that can be asked more gets a fresh instance, which is told of all.
    let mut third = house.client(&house.ada, &name).await;
    third.begin(sampling).await;
    let both = json!({"elicitation": {}, "sampling": {}});
    assert_eq!(told(&third).await, both);
    one.begin(form).await;
    assert_eq!(told(&one).await, both);
    house.end().await;
}
