//! The far service: it notes who asked what with which key.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use tokio::net::TcpListener;

/// What came: the query as it was sent, and what stood after `Bearer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub query: String,
    pub key: String,
}

#[derive(Clone, Default)]
pub struct Far {
    heard: Arc<Mutex<Vec<Heard>>>,
    pub port: u16,
}

impl Far {
    pub async fn new() -> Far {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = Far {
            port: listener.local_addr().unwrap().port(),
            ..Far::default()
        };
        let router = Router::new().fallback(note).with_state(far.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        far
    }

    pub fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

async fn note(State(far): State<Far>, request: Request) -> impl IntoResponse {
    let key = request.headers().get(header::AUTHORIZATION);
    let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
    far.heard.lock().unwrap().push(Heard {
        query: request.uri().query().unwrap_or_default().to_owned(),
        key: key.trim_start_matches("Bearer ").to_owned(),
    });
    // As GitLab answers a search that finds nothing.
    (
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::HeaderName::from_static("x-total"), "0"),
        ],
        "[]",
    )
}
