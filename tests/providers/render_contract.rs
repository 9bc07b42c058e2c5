//! Every request that Render's adapter sends, against Render's own schema made strict, by Prism.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sealport::deploy::providers::render::{Render, ServiceChange};
use sealport::deploy::sources::SourceHosts;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::fakes;
use crate::fakes::render::{FakeRender, KEY};
use crate::fakes::wire::Recorded;
use crate::left_out;
use crate::render::{CALLS, adapter, call, dockerfile, env, image, native, weather};

const SCHEMA: &str = "render-openapi-strict.json";
/// Starting a program, not more: it ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prism as it is locked beside the other programs of tests. None where it cannot be fetched.
fn prism() -> Option<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let output = std::process::Command::new("node")
        .arg(fixtures.join("clients/install.mjs"))
        .arg(fixtures.join("prism"))
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    let dir = PathBuf::from(answer["dir"].as_str()?);
    Some(dir.join("node_modules/@stoplight/prism-cli/dist/index.js"))
}

/// The schema leaves changes open: what is no property passes, and a body is of one of five kinds of service that nothing
/// tells apart, so that none with `serviceDetails` can ever be right. For the one kind that is ours it is closed here.
fn closed(mut schema: Value) -> Value {
    let schemas = &mut schema["components"]["schemas"];
    for name in [
        "servicePATCH",
        "webServiceDetailsPATCH",
        "nativeEnvironmentDetailsPATCH",
        "dockerDetailsPATCH",
    ] {
        assert!(schemas[name].is_object(), "{name} is in the schema");
        schemas[name]["additionalProperties"] = false.into();
    }
    schemas["servicePATCH"]["properties"]["serviceDetails"] =
        json!({"$ref": "#/components/schemas/webServiceDetailsPATCH"});
    let either = &mut schemas["envSpecificDetailsPATCH"];
    let kinds = either["oneOf"].take();
    *either = json!({"anyOf": kinds});
    schema
}

struct Prism {
    url: String,
    _child: Child,
}

impl Prism {
    async fn start(program: &Path, schema: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut child = Command::new("node")
            .arg(program)
            .args(["mock", "-m", "false", "-h", "127.0.0.1", "-p"])
            .arg(port.to_string())
            .arg(schema)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("is listening") {
                    return;
                }
            }
            panic!("Prism ended");
        };
        tokio::time::timeout(PATIENCE, listening)
            .await
            .expect("Prism does not start");
        // Read on, so that it is never held up.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Prism {
            url: format!("http://127.0.0.1:{port}"),
            _child: child,
        }
    }

    /// Sends it as it was recorded; answers the status and what is against the schema.
    async fn replay(&self, http: &reqwest::Client, request: &Recorded) -> (u16, String) {
        let path = request.path.strip_prefix("/v1").unwrap();
        let mut url: url::Url = format!("{}{path}", self.url).parse().unwrap();
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let mut again = http.request(request.method.clone(), url);
        for name in ["authorization", "accept", "content-type"] {
            if let Some(value) = request.headers.get(name) {
                again = again.header(name, value);
            }
        }
        let answer = again.body(request.body.clone()).send().await.unwrap();
        let violations = answer.headers().get("sl-violations");
        let violations = violations.map_or("", |value| value.to_str().unwrap());
        (answer.status().as_u16(), violations.to_owned())
    }
}

/// Everything that the adapter can send.
async fn all_requests() -> Vec<Recorded> {
    let fake = FakeRender::start().await;
    let render = adapter(&fake);
    let variables = env(&[("API_KEY", "a-value"), ("EMPTY", "")]);
    let mut plain = weather(image());
    plain.health_check_path = None;
    for service in [
        weather(native()),
        weather(dockerfile()),
        weather(image()),
        plain,
    ] {
        render.create(&service, &variables).await.unwrap();
    }
    let (id, deploy) = {
        let state = fake.state();
        (
            state.services[0].id.clone(),
            state.services[0].deploys[0].id.clone(),
        )
    };
    render.cancel(&id, &deploy).await.unwrap();
    render.suspend(&id).await.unwrap();
    render.resume(&id).await.unwrap();
    // A repository last: what follows asks for a commit of it.
    for source in [image(), dockerfile(), native()] {
        let change = ServiceChange {
            source: Some(source),
            ..ServiceChange::default()
        };
        render.change("tea-1", &id, &change).await.unwrap();
    }
    // So that lists and logs have a second page.
    fake.state().page_items = 1;
    for n in 0..3 {
        fake.print(&id, f64::from(n), &format!("line-{n}"), "app", "hello");
    }
    for name in CALLS {
        call(&render, name, &id, &deploy).await.unwrap();
    }
    assert_eq!(fake.wrong(), [""; 0]);
    fake.wire.recorded()
}

#[tokio::test]
async fn every_request_is_as_render_documents_it() {
    let Some(contracts) = fakes::contracts() else {
        left_out::say(
            "Render's schema (../shared/contracts is not there; SEALPORT_CONTRACTS names another place)",
        );
        return;
    };
    let Some(program) = prism() else {
        left_out::say("Render's schema (Prism cannot be installed)");
        return;
    };
    let schema = std::fs::read(contracts.join(SCHEMA)).unwrap();
    let schema = closed(serde_json::from_slice(&schema).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("render.json");
    std::fs::write(&file, schema.to_string()).unwrap();
    let prism = Prism::start(&program, &file).await;

    let requests = all_requests().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut wrong = Vec::new();
    for request in &requests {
        let (status, violations) = prism.replay(&http, request).await;
        if !(200..300).contains(&status) || !violations.is_empty() {
            wrong.push(format!("{}: {status} {violations}", request.line()));
        }
    }
    assert_eq!(wrong, [""; 0]);
    let kinds: std::collections::BTreeSet<String> = requests
        .iter()
        .map(|request| {
            let line = request.line().replace("/v1/", "/");
            let parts = line.split('/').map(|part| {
                let is_id = ["srv-", "dep-"].iter().any(|begin| part.starts_with(begin));
                if is_id || part == "API_KEY" {
                    "*"
                } else {
                    part
                }
            });
            parts.collect::<Vec<_>>().join("/")
        })
        .collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    assert_eq!(
        kinds,
        [
            "DELETE /services/*",
            "DELETE /services/*/env-vars/*",
            "GET /logs",
            "GET /owners",
            "GET /services",
            "GET /services/*",
            "GET /services/*/deploys",
            "GET /services/*/deploys/*",
            "GET /services/*/env-vars",
            "PATCH /services/*",
            "POST /services",
            "POST /services/*/deploys",
            "POST /services/*/deploys/*/cancel",
            "POST /services/*/resume",
            "POST /services/*/suspend",
            "PUT /services/*/env-vars/*",
        ]
    );

    // It finds what is wrong, or the above is worth nothing.
    let post = requests
        .iter()
        .find(|request| request.line() == "POST /v1/services")
        .unwrap();
    for change in [
        json!({"region": "mars"}),
        json!({"unheardOf": 1}),
        json!({"plan": 3}),
    ] {
        let mut body = post.json();
        for (name, value) in change.as_object().unwrap() {
            body["serviceDetails"][name] = value.clone();
        }
        let mut bad = post.clone();
        bad.body = body.to_string().into();
        let (status, violations) = prism.replay(&http, &bad).await;
        assert!(status >= 400 || !violations.is_empty(), "{change}");
    }

    // What is answered by the schema is read by the adapter.
    let hosts = SourceHosts::new(["127.0.0.1".to_owned()]);
    let render = Render::new(prism.url.parse().unwrap(), SecretString::from(KEY), hosts).unwrap();
    for name in CALLS.into_iter().chain(["cancel", "resume"]) {
        call(&render, name, "srv-1", "dep-1")
            .await
            .unwrap_or_else(|trouble| {
                panic!("{name}: {trouble:?}");
            });
    }
}
