//! An HTTP server that records what comes and fails as it is told. What it answers otherwise is its owner's.
//!
//! Limits: HTTP/1.1 without TLS on a loopback address; requests of up to 1 MiB.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// A request as it arrived.
#[derive(Clone)]
pub struct Recorded {
    pub method: Method,
    /// Still escaped.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Recorded {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap_or(""))
    }

    pub fn asked(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// `GET /v1/services`
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What is answered when all is well.
pub struct Reply {
    pub status: u16,
    pub body: Option<Value>,
}

impl Reply {
    pub fn json(status: u16, body: Value) -> Self {
        Reply {
            status,
            body: Some(body),
        }
    }

    pub fn empty(status: u16) -> Self {
        Reply { status, body: None }
    }
}

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A status, headers, and a body in JSON; nothing is done.
    Status(u16, Vec<(&'static str, String)>, Value),
    /// A page as a proxy sends it; nothing is done.
    Html(u16),
    /// 400 with all that was sent in its message; nothing is done.
    Echo,
    Redirect(String),
    /// The connection ends before there is an answer; nothing is done.
    Cut,
    /// It ends within the answer; nothing is done.
    CutWithin,
    /// All is done, and then the connection ends.
    LoseAnswer,
    /// All is done, and then a gateway says 502.
    LoseAnswerAt502,
    /// Nothing: it goes well.
    None,
    /// No answer ever comes; nothing is done.
    Hang,
    /// All is done, and no answer ever comes.
    DoAndHang,
    /// It goes well, after this time.
    Late(std::time::Duration),
    /// More than is read, with its length told or not.
    Huge {
        announced: bool,
    },
    /// This text with status 200, as JSON.
    Text(String),
}

impl Fault {
    pub fn status(status: u16) -> Self {
        Fault::Status(status, Vec::new(), json!({"id": "e", "message": "no"}))
    }

    pub fn limited(header: &'static str, value: impl ToString) -> Self {
        Fault::Status(
            429,
            vec![(header, value.to_string())],
            json!({"id": "e", "message": "too many requests"}),
        )
    }
}

type Answering = Box<dyn Fn(&Recorded) -> Reply + Send + Sync>;

struct Inner {
    answering: Answering,
    faults: Mutex<VecDeque<(String, Fault)>>,
    recorded: Mutex<Vec<Recorded>>,
}

/// It ends when it is dropped.
pub struct Wire {
    pub url: Url,
    inner: Arc<Inner>,
    _serving: AbortOnDropHandle<()>,
}

impl Wire {
    pub async fn start(answering: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            answering: Box::new(answering),
            faults: Mutex::default(),
            recorded: Mutex::default(),
        });
        let serving = tokio::spawn({
            let inner = Arc::clone(&inner);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&inner)));
                }
            }
        });
        Wire {
            url: url.parse().unwrap(),
            inner,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// The next request whose line or document holds this text (`POST /v1/services`, or nothing for any) goes wrong so. Several faults are used up
    /// in their order.
    pub fn will(&self, line: &str, fault: Fault) {
        let mut faults = self.inner.faults.lock().unwrap();
        faults.push_back((line.to_owned(), fault));
    }

    /// So many requests go well, whatever they are; the next goes wrong so.
    pub fn will_at(&self, point: usize, fault: Fault) {
        for _ in 0..point {
            self.will("", Fault::None);
        }
        self.will("", fault);
    }

    /// How many requests came.
    pub fn count(&self) -> usize {
        self.inner.recorded.lock().unwrap().len()
    }

    pub fn recorded(&self) -> Vec<Recorded> {
        self.inner.recorded.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.recorded().iter().map(Recorded::line).collect()
    }
}

/// Makes hyper end the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
struct Cut;

async fn serve(stream: TcpStream, inner: Arc<Inner>) {
    let service = hyper::service::service_fn(move |request| {
        let inner = Arc::clone(&inner);
        async move { answer(&inner, request).await }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(inner: &Inner, request: http::Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(Body::new(body), 1 << 20)
        .await
        .map_err(|_| Cut)?;
    let query = parts.uri.query().unwrap_or_default();
    let recorded = Recorded {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        headers: parts.headers,
        body,
    };
    inner.recorded.lock().unwrap().push(recorded.clone());
    let fault = {
        let mut faults = inner.faults.lock().unwrap();
        // Where one address takes all documents, they tell the requests apart.
        let body = recorded.json();
        let document = body["query"].as_str().unwrap_or_default();
        let line = format!("{} {document}", recorded.line());
        let at = faults
            .iter()
            .position(|(part, _)| part.is_empty() || line.contains(part.as_str()));
        at.and_then(|at| faults.remove(at))
    };
    let Some((_, fault)) = fault else {
        return Ok(written((inner.answering)(&recorded)));
    };
    match fault {
        Fault::Status(status, headers, body) => {
            let mut response = written(Reply::json(status, body));
            for (name, value) in headers {
                response.headers_mut().insert(
                    HeaderName::from_static(name),
                    HeaderValue::from_str(&value).unwrap(),
                );
            }
            Ok(response)
        }
        Fault::Html(status) => Ok(of_kind(
            status,
            "text/html; charset=utf-8",
            "<!DOCTYPE html><title>Sorry</title>",
        )),
        Fault::Echo => {
            let said = format!(
                "bad request: {} {}",
                recorded.header("authorization"),
                String::from_utf8_lossy(&recorded.body)
            );
            Ok(written(Reply::json(
                400,
                json!({"id": "e", "message": said}),
            )))
        }
        Fault::Redirect(to) => {
            let mut response = written(Reply::empty(307));
            let to = HeaderValue::from_str(&to).unwrap();
            response.headers_mut().insert("location", to);
            Ok(response)
        }
        Fault::Cut => Err(Cut),
        Fault::CutWithin => Ok(pieces(
            vec![Ok(Bytes::from_static(b"{\"id\":")), Err(Cut)],
            None,
        )),
        Fault::LoseAnswer => {
            (inner.answering)(&recorded);
            Err(Cut)
        }
        Fault::LoseAnswerAt502 => {
            (inner.answering)(&recorded);
            Ok(of_kind(502, "text/html", "<html>Bad gateway</html>"))
        }
        Fault::None => Ok(written((inner.answering)(&recorded))),
        Fault::Hang => std::future::pending().await,
        Fault::Late(time) => {
            tokio::time::sleep(time).await;
            Ok(written((inner.answering)(&recorded)))
        }
        Fault::DoAndHang => {
            (inner.answering)(&recorded);
            std::future::pending().await
        }
        Fault::Huge { announced } => {
            const PIECES: usize = 80;
            const PIECE_LEN_BYTES: usize = 64 << 10;
            let piece = Bytes::from(vec![b' '; PIECE_LEN_BYTES]);
            let length = announced.then_some(PIECES * PIECE_LEN_BYTES);
            Ok(pieces(
                (0..PIECES).map(|_| Ok(piece.clone())).collect(),
                length,
            ))
        }
        Fault::Text(text) => Ok(of_kind(200, "application/json", text)),
    }
}

fn written(reply: Reply) -> Response<Body> {
    match reply.body {
        Some(body) => of_kind(
            reply.status,
            "application/json; charset=utf-8",
            body.to_string(),
        ),
        None => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
            response
        }
    }
}

fn of_kind(status: u16, kind: &'static str, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static(kind));
    response
}

fn pieces(pieces: Vec<Result<Bytes, Cut>>, length: Option<usize>) -> Response<Body> {
    let body = Body::from_stream(futures::stream::iter(pieces).then(async |piece| piece));
    let mut response = of_kind(200, "application/json", body);
    if let Some(length) = length {
        response
            .headers_mut()
            .insert("content-length", HeaderValue::from(length));
    }
    response
}
