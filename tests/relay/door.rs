//! A gateway in small, and a client that says exactly what it is told to.

use super::*;

/// A gateway in small: a bearer is a client, and what stands in it before a dot is its user.
pub struct Door {
    pub url: String,
    pub relay: Arc<Relay>,
    pub serving: tokio::task::JoinHandle<()>,
}

impl Door {
    pub async fn open(relay: Relay) -> Self {
        let relay = Arc::new(relay);
        let app = axum::Router::new()
            .fallback(pass)
            .with_state(Arc::clone(&relay));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            url,
            relay,
            serving,
        }
    }

    pub async fn session(&self, token: &str, version: &str) -> Session {
        self.session_of(token, version, json!({})).await
    }

    pub async fn session_of(&self, token: &str, version: &str, capabilities: Value) -> Session {
        let mut session = Session::new(&self.url, token);
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}});
        let answer = session
            .post(
                &json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let id = answer.headers["mcp-session-id"].clone();
        session.headers.insert("mcp-session-id", id);
        session.opened = match answer.headers["content-type"].as_bytes() {
            b"application/json" => answer.json(),
            _ => answer.events().remove(0),
        };
        let answer = session
            .post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (StatusCode::ACCEPTED, "")
        );
        session
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    let bearer = request.headers()["authorization"].as_bytes().to_vec();
    let id = |of: &[u8]| Uuid::from_slice(&Sha256::digest(of)[..16]).unwrap();
    let user = bearer.split(|byte| *byte == b'.').next().unwrap();
    let key = ClientKey {
        token: id(&bearer),
        user: id(user),
    };
    relay.handle(key, request).await
}

/// A client that says exactly what it is told to.
#[derive(Clone)]
pub struct Session {
    pub http: reqwest::Client,
    pub url: String,
    pub headers: HeaderMap,
    pub opened: Value,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn events(&self) -> Vec<Value> {
        assert_eq!(
            self.headers["content-type"], "text/event-stream",
            "{self:?}"
        );
        let data = self
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "));
        // An empty event only carries an id.
        data.filter(|data| !data.is_empty())
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    pub fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap()
    }
}

impl Session {
    pub fn new(url: &str, token: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert(
            "accept",
            "application/json, text/event-stream".parse().unwrap(),
        );
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            http,
            url: url.to_owned(),
            headers,
            opened: Value::Null,
        }
    }

    pub fn with(&self, header: &'static str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.insert(header, value.parse().unwrap());
        other
    }

    pub fn without(&self, header: &str) -> Self {
        let mut other = self.clone();
        other.headers.remove(header);
        other
    }

    pub async fn send(&self, method: http::Method, body: String) -> Answer {
        let answer = self
            .http
            .request(method, &self.url)
            .headers(self.headers.clone())
            .body(body)
            .send()
            .await
            .unwrap();
        Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        }
    }

    /// An answer that is read while it comes.
    pub async fn open(&self, method: http::Method, body: String) -> Live {
        let request = self.http.request(method, &self.url);
        let request = request.headers(self.headers.clone()).body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Live {
            response,
            events: Events::new(1 << 20),
            read: Vec::new(),
        }
    }

    pub async fn post(&self, message: &Value) -> Answer {
        self.send(http::Method::POST, message.to_string()).await
    }

    pub async fn call(&self, id: impl Into<Value>, tool: &str, args: Value) -> Answer {
        self.post(&call(id, tool, args)).await
    }
}

/// A stream of events.
pub struct Live {
    pub response: reqwest::Response,
    pub events: Events,
    pub read: Vec<Event>,
}

impl Live {
    pub async fn event(&mut self) -> Option<Event> {
        while self.read.is_empty() {
            let chunk = tokio::time::timeout(START, self.response.chunk()).await;
            let chunk = chunk.expect("an event in time").unwrap()?;
            self.read = self.events.feed(&chunk).unwrap();
        }
        Some(self.read.remove(0))
    }

    /// The next message, and the name of its event.
    pub async fn message(&mut self) -> (Value, Option<String>) {
        loop {
            let event = self.event().await.expect("a message");
            if let Some(data) = event.data.filter(|data| !data.is_empty()) {
                return (serde_json::from_str(&data).unwrap(), event.id);
            }
        }
    }
}
