//! Answers that outlive their connection.

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
    let nothing = tokio::time::timeout(Duration::from_millis(300), live.event()).await;
    assert!(nothing.is_err());
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
