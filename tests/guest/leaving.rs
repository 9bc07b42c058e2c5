//! How guests end, and that nothing of them is left.

use std::time::Duration;

use serde_json::json;

use super::house::{
    AGAIN, House, PATIENCE, Place, again, descendants, is_running, open_place, processes_with,
    until,
};

#[tokio::test]
async fn a_guest_leaves_nothing_behind() {
    let house = House::new(&[]).await;
    let mut server = house.server("stayer", &[]).await;
    let marker = house.marker("stays");
    server.does(json!({"what": "stay", "marker": marker})).await;
    assert_eq!(processes_with(&marker).len(), 1, "control: it is there");
    let socket = server.guest.http_socket.clone().unwrap();
    server.guest.stop(Duration::from_secs(5)).await;
    assert!(processes_with(&marker).is_empty(), "gone when stop returns");
    assert!(!socket.exists(), "and so is the way in");

    // Dropped without a word.
    let server = house.server("dropped", &[]).await;
    server.does(json!({"what": "stay", "marker": marker})).await;
    assert_eq!(processes_with(&marker).len(), 1, "control: it is there");
    drop(server);
    until("a dropped guest is gone", || {
        processes_with(&marker).is_empty()
    })
    .await;
    let place = house.place.path().to_str().unwrap().to_owned();
    until("its helpers are gone", || processes_with(&place).is_empty()).await;
}

#[tokio::test]
async fn a_process_that_forked_twice_is_gone_too() {
    let house = House::new(&[]).await;
    let mut server = house.server("daemon", &[]).await;
    let marker = house.marker("daemon");
    let order = json!({"what": "stay", "marker": marker}).to_string();
    let run = json!({"what": "run", "argv": ["python3", "/srv/tries.py", order]});
    server.does(run).await;
    until("control: it is there", || {
        !processes_with(&marker).is_empty()
    })
    .await;
    server.guest.stop(Duration::from_secs(5)).await;
    assert!(processes_with(&marker).is_empty(), "gone when stop returns");
}

#[tokio::test]
async fn a_deaf_guest_is_killed_after_its_grace() {
    let house = House::new(&[]).await;
    let spec = house.spec("deaf", &["node", "server.mjs", "--deaf"]).await;
    let mut server = house.serve(spec).await;
    let exit = server.guest.stop(Duration::from_millis(300)).await;
    assert_eq!(exit.code, 137, "killed: {exit}");

    let mut polite = house.server("polite", &[]).await;
    let exit = polite.guest.stop(PATIENCE).await;
    assert_eq!(exit.code, 143, "asked: {exit}");

    let mut reader = house.guest("reader", &["cat"]).await;
    let exit = reader.stop(PATIENCE).await;
    assert_eq!(exit.code, 0, "its input ended: {exit}");
}

#[tokio::test]
async fn nothing_survives_a_killed_sealport() {
    let place = open_place();
    let mut sealport = again(
        "leaving::helper_runs_a_guest_until_killed",
        place.path(),
        &[],
    );
    let up = place.path().join("up");
    until("the other Sealport runs a guest", || up.exists()).await;
    let found = place.path().to_str().unwrap();
    assert!(
        processes_with("guest-forward").len() + processes_with(found).len() > 2,
        "control"
    );
    let marker = std::fs::read_to_string(&up).unwrap();
    assert_eq!(
        processes_with(&marker).len(),
        1,
        "control: its guest keeps a process"
    );
    let family = descendants(sealport.0.id());
    for name in ["bwrap", "slirp4netns", "sealport", "node"] {
        let there = family.iter().any(|process| process.1 == name);
        assert!(there, "control: {name} is in {family:?}");
    }

    sealport.0.kill().unwrap();
    sealport.0.wait().unwrap();
    until("its guest is gone", || processes_with(&marker).is_empty()).await;
    until("its sandbox and forwarder are gone", || {
        processes_with(found).is_empty()
    })
    .await;
    until("its stack and all else are gone", || {
        family.iter().all(|process| !is_running(process))
    })
    .await;
}

#[tokio::test]
#[ignore = "run by nothing_survives_a_killed_sealport"]
async fn helper_runs_a_guest_until_killed() {
    let place = std::env::var(AGAIN).expect("run by another test");
    let house = House::at(Place::Given(place.into()), &[]).await;
    let server = house.server("orphan", &[]).await;
    let marker = house.marker("orphan");
    server.does(json!({"what": "stay", "marker": marker})).await;
    std::fs::write(house.place.path().join("half"), marker).unwrap();
    std::fs::rename(
        house.place.path().join("half"),
        house.place.path().join("up"),
    )
    .unwrap();
    std::future::pending::<()>().await;
}
