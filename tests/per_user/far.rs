//! The far service: it notes who asked what with which key.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
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
    /// The only key that it takes; none for any.
    takes: Option<&'static str>,
    pub port: u16,
}

impl Far {
    pub async fn new() -> Far {
        Far::taking(None).await
    }

    pub async fn taking(takes: Option<&'static str>) -> Far {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = Far {
            port: listener.local_addr().unwrap().port(),
            takes,
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
    let key = key.trim_start_matches("Bearer ").to_owned();
    let is_taken = far.takes.is_none_or(|takes| takes == key);
    far.heard.lock().unwrap().push(Heard {
        query: request.uri().query().unwrap_or_default().to_owned(),
        key,
    });
    let status = match is_taken {
        true => StatusCode::OK,
        false => StatusCode::UNAUTHORIZED,
    };
    // As GitLab answers a search that finds nothing.
    (
        status,
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::HeaderName::from_static("x-total"), "0"),
        ],
        "[]",
    )
}
