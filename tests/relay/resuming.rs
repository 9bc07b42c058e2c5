//! Answers that outlive their connection.

use std::collections::HashSet;

use super::eras::{asking, own};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_takes_the_answer_up_again_and_nobody_else_does() {
    let (_child, door) = asking("", own()).await;
    let one = door.session("one", "2025-11-25").await;
    let two = door.session("two", "2025-11-25").await;
    let mut live = one
        .open(http::Method::POST, call(5, "wait", json!({})).to_string())
        .await;
    let primer = live.event().await.unwrap();
    assert_eq!(
        (primer.data.as_deref(), primer.retry),
        (Some(""), Some(1000))
    );
    let last = primer.id.unwrap();
    // Cut off; in this era that cancels nothing.
    drop(live);
    one.call(6, "release", json!({})).await;

    let again = one.with("last-event-id", &last);
    let mut live = again.open(http::Method::GET, String::new()).await;
    let (answer, id) = live.message().await;
    assert_eq!(answer["id"], 5);
    assert_eq!(answer["result"]["content"][0]["text"], "released");
    assert!(
        live.event().await.is_none(),
        "the stream ends with the answer"
    );
    // After the answer there is nothing more of it.
    let mut live = one
        .with("last-event-id", &id.unwrap())
        .open(http::Method::GET, String::new())
        .await;
    assert!(live.event().await.is_none());

    // Of another session's answer nothing comes, as if it were not there: this is the stream of what is told to all.
    let listening = two.with("last-event-id", &last);
    let mut live = listening.open(http::Method::GET, String::new()).await;
    assert_eq!(live.event().await.unwrap().data.as_deref(), Some(""));
    let nothing = tokio::time::timeout(Duration::from_millis(300), live.event()).await;
    assert!(nothing.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_told_meanwhile_is_heard_by_who_comes_back() {
    let (_child, door) = hostile(Options::default()).await;
    let one = door.session("one", "2025-11-25").await;
    let listen = async |last: Option<&str>| {
        let session = match last {
            Some(last) => one.with("last-event-id", last),
            None => one.clone(),
        };
        session.open(http::Method::GET, String::new()).await
    };
    let mut last = listen(None).await.event().await.unwrap().id.unwrap();
    let mut names = HashSet::new();
    for id in 1..=2 {
        // Nobody listens.
        one.call(id, "log", json!({})).await;
        let mut live = listen(Some(&last)).await;
        let mut heard = String::new();
        while !heard.contains("list_changed") {
            let (message, name) = live.message().await;
            last = name.unwrap();
            // What was heard before does not come again.
            assert!(names.insert(last.clone()), "{message}");
            heard.push_str(&message.to_string());
        }
        assert!(heard.contains("key [sealed]"), "{heard}");
    }
    // Whoever names no event hears of what comes.
    let mut live = listen(None).await;
    assert_eq!(live.event().await.unwrap().id.as_deref(), Some(&*last));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_clients_get_no_event_without_data() {
    let (_child, door) = asking("", own()).await;
    let one = door.session("one", "2025-06-18").await;
    let mut live = one
        .open(http::Method::POST, call(5, "wait", json!({})).to_string())
        .await;
    one.call(6, "release", json!({})).await;
    let event = live.event().await.unwrap();
    assert!(event.data.unwrap().contains("released"));
}
