//! What answers in a Sealport's place: pages of a proxy, endless or broken answers, another address.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

use crate::served::Shell;

const TOKEN: &str = "sp_0000000000000000000000000000000000000000000";

/// Answers every request like this, and keeps what it was asked.
async fn answering(
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (Shell, Asked) {
    let asked = Asked::default();
    let seen = asked.clone();
    let router = Router::new().fallback(move |request: Request| async move {
        let (head, _) = request.into_parts();
        seen.0
            .lock()
            .unwrap()
            .push(format!("{} {:?}", head.uri, head.headers));
        answer()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (Shell::new(&url, TOKEN), asked)
}

#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_sealport_is_said_to_be_none() {
    let html = |status: u16| {
        move || {
            let page = "<html>canary of a page</html>";
            (
                axum::http::StatusCode::from_u16(status).unwrap(),
                [(header::CONTENT_TYPE, "text/html")],
                page,
            )
                .into_response()
        }
    };
    for (status, exit) in [(200, 6), (502, 6), (404, 6), (401, 4), (500, 6)] {
        let (shell, _) = answering(html(status)).await;
        let ran = shell.run(&["secret", "list"]).await;
        assert_eq!(ran.status, exit, "{status}: {}", ran.err);
        assert!(ran.err.contains("SEALPORT_URL"), "{}", ran.err);
        assert!(
            ran.out.is_empty() && !ran.err.contains("canary"),
            "{}",
            ran.err
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_follows_no_redirect() {
    let (elsewhere, asked) = answering(|| "".into_response()).await;
    let ran = elsewhere.run(&["secret", "list"]).await;
    assert_eq!(ran.status, 6);
    let first = asked.0.lock().unwrap().len();
    assert_eq!(first, 1);
    let target = asked.0.lock().unwrap()[0].clone();
    assert!(target.contains("/api/v1/secrets"), "{target}");

    let to = "https://evil.example/\u{1b}]0;x";
    let (shell, _) = answering(move || {
        let to = header::HeaderValue::from_bytes(to.as_bytes())
            .unwrap_or(header::HeaderValue::from_static("https://evil.example/"));
        (axum::http::StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
    })
    .await;
    let ran = shell.run(&["secret", "list"]).await;
    assert_eq!(ran.status, 6);
    assert!(
        ran.err.contains("sends on to https://evil.example/"),
        "{}",
        ran.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_an_end_and_an_answer_without_an_end_are_left() {
    let (shell, asked) = answering(|| {
        axum::Json(serde_json::json!({ "items": [], "next_cursor": "same" })).into_response()
    })
    .await;
    let ran = shell.run(&["secret", "list"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(
        asked.0.lock().unwrap().len(),
        2,
        "the same page is not asked for again"
    );

    let (shell, _) = answering(|| {
        let piece = bytes::Bytes::from(vec![b' '; 1 << 20]);
        let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
        Body::from_stream(endless).into_response()
    })
    .await;
    let ran = shell.run(&["secret", "list"]).await;
    assert_eq!(ran.status, 6);
    assert!(ran.err.contains("longer than any"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_does_not_drive_the_terminal() {
    let (shell, _) = answering(|| {
        let problem = serde_json::json!({
            "type": "/problems/denied", "title": "x", "status": 403, "detail": "no \u{1b}]0;title\u{7}\u{202e} way",
        });
        (
            axum::http::StatusCode::FORBIDDEN,
            [(header::CONTENT_TYPE, "application/problem+json"), (header::HeaderName::from_static("x-request-id"), "id-7")],
            problem.to_string(),
        )
            .into_response()
    })
    .await;
    let ran = shell.run(&["secret", "show", "KEY"]).await;
    assert_eq!(ran.status, 4);
    assert_eq!(
        ran.err,
        "sealport: no \\u{1b}]0;title\\u{7}\\u{202e} way (request id-7)\n"
    );
}

/// A proxy would see the token of a plain http address.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_does_not_get_what_stays_on_this_machine() {
    let (mut shell, asked) = answering(|| {
        axum::Json(serde_json::json!({ "items": [], "next_cursor": null })).into_response()
    })
    .await;
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        shell.set(name, "http://127.0.0.1:1");
    }
    shell.run(&["secret", "list"]).await.done();
    assert_eq!(asked.0.lock().unwrap().len(), 1);
}
