//! The real program is killed (`kill -9`) at every request that a release sends to its provider, both before the provider did it and
//! after: the next start goes on, nothing is made twice, and nothing that was acknowledged is lost.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use sealport::model::targets::Target;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::serving::{self, Server, ended, fed, words};
use crate::fakes::railway::{FakeRailway, WORKSPACE_KEY};
use crate::fakes::render::{FakeRender, KEY};
use crate::fakes::wire::{Fault, Recorded, Wire};
use crate::house::{INITIALIZE, Served, providers};

/// Long, for it ends a test that hangs and nothing else.
const PATIENCE: Duration = Duration::from_secs(120);
const EMAIL: &str = "ada@example.org";
const SECRET: &str = "project/shop/KEY";

/// An installation with its own PostgreSQL, whose server comes and goes, and providers that stay.
struct Rig {
    target: Target,
    render: FakeRender,
    railway: FakeRailway,
    /// Where what the provider "runs" listens.
    port: u16,
    home: TempDir,
    server: Option<Server>,
    http: reqwest::Client,
    token: String,
    /// What is bound now.
    value: String,
    kills: usize,
}

/// A request for a release.
#[derive(Clone)]
struct Ask {
    deployment: String,
    path: String,
    body: Value,
}

/// What the provider has under a deployment's name.
#[derive(Debug, Default, PartialEq, Eq)]
struct There {
    projects: usize,
    services: usize,
    domains: usize,
    variables: BTreeMap<String, String>,
    /// Those that its newest deploy began with.
    live: BTreeMap<String, String>,
}

/// Until it finds something.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("there never was {what}"))
}

impl Ask {
    fn deploy(deployment: &str, target: Target) -> Ask {
        Ask {
            deployment: deployment.to_owned(),
            path: "/deployments".into(),
            body: json!({"name": deployment, "source": "image:registry.example/crawl:1", "target": target.as_str(),
                "bindings": [{"env": "SHOP_KEY", "secret": SECRET}, {"env": "MODE", "text": "fast"}]}),
        }
    }

    fn start(deployment: &str) -> Ask {
        Ask {
            deployment: deployment.to_owned(),
            path: format!("/deployments/{deployment}/start"),
            body: Value::Null,
        }
    }
}

impl Rig {
    async fn new(target: Target) -> Rig {
        // reqwest panics without one, though nothing here is encrypted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (render, railway, port) = providers().await;
        // What a build goes through has no part in this, and each look at one takes seconds.
        render.state().is_quick = true;
        let quick = || vec!["QUEUED", "SUCCESS"];
        railway.state().courses = std::iter::repeat_with(quick).take(1_000).collect();
        let mut rig = Rig {
            target,
            render,
            railway,
            port,
            home: serving::home(),
            server: None,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            token: String::new(),
            value: String::new(),
            kills: 0,
        };
        rig.up().await;
        let mut add = rig.program(&["user", "add", EMAIL, "--password-stdin"]);
        let added = fed(&mut add, "correct horse battery").await;
        assert!(added.status.success(), "{}", words(&added.stderr));
        rig.token = rig.new_token(&["--can", "admin", "--deploy"]).await;
        rig.store("meta/render/api_key", KEY).await;
        rig.store("meta/railway/api_key", WORKSPACE_KEY).await;
        rig.renew().await;
        rig
    }

    fn program(&self, arguments: &[&str]) -> tokio::process::Command {
        let (render, railway) = (self.render.base(), self.railway.url.clone());
        let variables = [
            ("SEALPORT_RENDER_API", render.as_str()),
            ("SEALPORT_RAILWAY_API", railway.as_str()),
            ("SEALPORT_SOURCE_HOSTS", "127.0.0.1"),
            // Each start warns of the same.
            ("SEALPORT_LOG", "error"),
        ];
        serving::sealport(arguments, &self.home.path().join("data"), &variables)
    }

    async fn up(&mut self) {
        assert!(self.server.is_none(), "one server on one data directory");
        self.server = Some(Server::up(self.program(&["serve"])).await);
    }

    async fn kill(&mut self) {
        self.server.take().unwrap().kill().await;
        self.kills += 1;
    }

    async fn new_token(&self, more: &[&str]) -> String {
        let first = ["token", "new", "--user", EMAIL, "--name", "killed"];
        let made = ended(self.program(&[&first, more].concat())).await;
        assert!(made.status.success(), "{}", words(&made.stderr));
        words(&made.stdout).trim().to_owned()
    }

    /// Its status and its body; none where the answer never came.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> impl Future<Output = Option<(u16, Value)>> + Send + use<> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let at = self.server.as_ref().unwrap().at();
        let url = format!("http://{at}/api/v1{path}");
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if !body.is_null() {
            let json = "application/json";
            request = request.header("content-type", json).body(body.to_string());
        }
        async move {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            let text = response.text().await.ok()?;
            Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
        }
    }

    async fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, said) = self.send(method, path, body).await.unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {said}");
        said
    }

    async fn store(&self, path: &str, value: &str) {
        let (path, body) = (format!("/secrets/{path}"), json!({"value": value}));
        self.done("PUT", &path, &body).await;
    }

    /// Another value for what is bound.
    async fn renew(&mut self) {
        self.value = format!("the value after {} kills", self.kills);
        self.store(SECRET, &self.value).await;
    }

    fn wire(&self) -> &Wire {
        match self.target {
            Target::Railway => &self.railway.wire,
            _ => &self.render.wire,
        }
    }

    fn there(&self, deployment: &str) -> There {
        let prefix = format!("{deployment}-");
        match self.target {
            Target::Railway => railway_has(&self.railway, &prefix),
            _ => render_has(&self.render, &prefix),
        }
    }

    /// Runs what the provider has of a deployment, as soon as it has enough of it.
    async fn serve(&self, deployment: &str) -> Served {
        let env = until("a deploy with its variables", async || {
            let live = self.there(deployment).live;
            live.contains_key("SEALPORT_GATEWAY_SECRET").then_some(live)
        });
        Served::at(self.port, &env.await)
    }

    async fn state(&self, deployment: &str, state: &str) -> Value {
        let path = format!("/deployments/{deployment}");
        until(&format!("{deployment} in the state {state}"), async || {
            let shown = self.done("GET", &path, &Value::Null).await;
            assert!(shown["state"] != "failed", "{shown:#}");
            (shown["state"] == state).then_some(shown)
        })
        .await
    }

    /// A release that nobody disturbs: the requests that it and the asking for it send.
    async fn undisturbed(&self, ask: &Ask) -> Vec<Recorded> {
        let before = self.wire().count();
        self.done("POST", &ask.path, &ask.body).await;
        let _served = self.serve(&ask.deployment).await;
        self.check(&ask.deployment).await;
        self.wire().recorded().split_off(before)
    }

    /// Kills the server while one request of a release is not answered, and starts it again.
    async fn killed_at(&mut self, ask: &Ask, point: usize, fault: Fault) {
        let before = self.wire().count();
        self.wire().will_at(point, fault);
        let asking = tokio::spawn(self.send("POST", &ask.path, &ask.body));
        until(&format!("a request {point}"), async || {
            (self.wire().count() > before + point).then_some(())
        })
        .await;
        self.kill().await;
        let answer = asking.await.unwrap();
        let acknowledged = answer.is_some_and(|(status, _)| status == 202);
        self.up().await;
        let path = format!("/deployments/{}", ask.deployment);
        let found = self.send("GET", &path, &Value::Null).await;
        if found.unwrap().0 == 404 {
            // It was still being looked at whether it could be.
            assert!(!acknowledged, "what was acknowledged is lost");
            assert_eq!(self.there(&ask.deployment), There::default());
            self.done("POST", &ask.path, &ask.body).await;
        }
    }

    /// Waits until it runs, and looks whether all of it is there once, with what it needs.
    async fn check(&self, deployment: &str) -> Value {
        let shown = self.state(deployment, "running").await;
        let newest = &shown["releases"][0];
        assert_eq!(newest["number"], shown["release"], "{shown:#}");
        assert_eq!(newest["state"], "live", "{shown:#}");
        let all = self.done("GET", "/deployments", &Value::Null).await;
        let rows = all["items"].as_array().unwrap().iter();
        assert_eq!(rows.filter(|row| row["name"] == deployment).count(), 1);

        let there = self.there(deployment);
        let of_project = usize::from(self.target == Target::Railway);
        assert_eq!(
            (there.projects, there.services, there.domains),
            (of_project, 1, of_project),
            "projects, services and domains of {deployment}"
        );
        assert_eq!(there.live, there.variables);
        let mut variables = there.variables;
        let gateway = variables.remove("SEALPORT_GATEWAY_SECRET");
        assert!(gateway.is_some_and(|key| key.len() >= 32));
        let expected = [
            ("MODE", "fast"),
            ("NODE_ENV", "production"),
            ("PORT", "8080"),
            ("SEALPORT_BRIDGE_MASK", "SHOP_KEY"),
            ("SHOP_KEY", self.value.as_str()),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables, BTreeMap::from(expected));
        assert_eq!(self.render.wrong(), Vec::<String>::new());
        shown
    }

    async fn stop(&self, deployment: &str) {
        let path = format!("/deployments/{deployment}/stop");
        self.done("POST", &path, &Value::Null).await;
        self.state(deployment, "stopped").await;
    }

    async fn destroy(&self, deployment: &str) {
        let path = format!("/deployments/{deployment}");
        self.done("DELETE", &path, &Value::Null).await;
        until(&format!("an end of {deployment}"), async || {
            let found = self.send("GET", &path, &Value::Null).await;
            (found?.0 == 404).then_some(())
        })
        .await;
        assert_eq!(self.there(deployment), There::default());
    }

    /// A call through the gateway, as soon as it is let through.
    async fn call(&self, deployment: &str) {
        let token = self.new_token(&["--deployment", deployment]).await;
        let at = self.server.as_ref().unwrap().at();
        let said = until("an answer through the gateway", async || {
            let request = self.http.post(format!("http://{at}/s/{deployment}/mcp"));
            let request = request
                .bearer_auth(&token)
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .body(INITIALIZE);
            let response = request.send().await.unwrap();
            let is_through = response.status().is_success();
            is_through.then_some(response.text().await.unwrap())
        });
        assert!(said.await.contains("bridged"));
    }
}

fn render_has(render: &FakeRender, prefix: &str) -> There {
    let state = render.state();
    let ours = || {
        let services = state.services.iter();
        services.filter(|one| one.name.starts_with(prefix))
    };
    let newest = ours().flat_map(|one| &one.deploys).last();
    There {
        services: ours().count(),
        variables: ours().next().map(|one| one.env.clone()).unwrap_or_default(),
        live: newest.map(|one| one.env.clone()).unwrap_or_default(),
        ..There::default()
    }
}

fn railway_has(railway: &FakeRailway, prefix: &str) -> There {
    let state = railway.state();
    let projects = state.projects.iter();
    let projects = projects.filter(|one| one.name.starts_with(prefix) && !one.deleted);
    let services = state.services.iter();
    let services = services.filter(|one| one.name.starts_with(prefix) && !one.deleted);
    let services: Vec<_> = services.collect();
    let is_ours = |id: &str| services.iter().any(|one| one.id == id);
    let domains = state.domains.iter().filter(|one| is_ours(&one.service));
    let newest = state.deployments.iter().rfind(|one| is_ours(&one.service));
    There {
        projects: projects.count(),
        services: services.len(),
        domains: domains.count(),
        variables: services
            .first()
            .map(|one| one.variables.clone())
            .unwrap_or_default(),
        live: newest.map(|one| one.variables.clone()).unwrap_or_default(),
    }
}

/// How a request can be left behind: not done, and where it changes anything also done.
fn left_behind(request: &Recorded) -> Vec<Fault> {
    let query = request.json()["query"].as_str().map(str::to_owned);
    let changes = match query {
        Some(query) => query.trim_start().starts_with("mutation"),
        None => request.method != "GET",
    };
    match changes {
        true => vec![Fault::Hang, Fault::DoAndHang],
        false => vec![Fault::Hang],
    }
}

async fn wherever_it_is_killed(target: Target) {
    let mut rig = Rig::new(target).await;
    let first = rig.undisturbed(&Ask::deploy("undisturbed", target)).await;
    rig.destroy("undisturbed").await;
    for (point, request) in first.iter().enumerate() {
        for (way, fault) in left_behind(request).into_iter().enumerate() {
            let name = format!("crawl-{point}-{way}");
            rig.killed_at(&Ask::deploy(&name, target), point, fault)
                .await;
            let served = rig.serve(&name).await;
            let shown = rig.check(&name).await;
            assert_eq!(shown["release"], 1, "killed at {point}");
            rig.destroy(&name).await;
            drop(served);
        }
    }

    // One that stands there stopped, and starts with a newer value.
    let deploy = Ask::deploy("again", target);
    rig.undisturbed(&deploy).await;
    rig.stop("again").await;
    rig.renew().await;
    let start = Ask::start("again");
    let next = rig.undisturbed(&start).await;
    let mut release = 2;
    for (point, request) in next.iter().enumerate() {
        for fault in left_behind(request) {
            rig.stop("again").await;
            rig.renew().await;
            rig.killed_at(&start, point, fault).await;
            let _served = rig.serve("again").await;
            let shown = rig.check("again").await;
            release += 1;
            assert_eq!(shown["release"], release, "killed at {point}");
        }
    }

    // Nothing answers the handshake when it is killed.
    rig.stop("again").await;
    rig.done("POST", &start.path, &Value::Null).await;
    let path = format!("/deployments/again/releases/{}", release + 1);
    until("a handshake", async || {
        let shown = rig.done("GET", &path, &Value::Null).await;
        let steps = shown["steps"].as_array().unwrap().iter();
        let mut begun = steps.filter(|step| step["state"] == "running");
        begun.any(|step| step["name"] == "handshake").then_some(())
    })
    .await;
    rig.kill().await;
    rig.up().await;
    let served = rig.serve("again").await;
    assert_eq!(rig.check("again").await["release"], release + 1);
    // It runs when it is killed: it is joined again.
    let before = rig.there("again");
    rig.kill().await;
    rig.up().await;
    rig.call("again").await;
    assert_eq!(rig.check("again").await["release"], release + 1);
    assert_eq!(rig.there("again"), before);
    rig.destroy("again").await;
    drop(served);
    println!(
        "{} kills; a first release at {} asks for {}, and the next for {}",
        rig.kills,
        target.title(),
        first.len(),
        next.len()
    );
    assert!(first.len() >= 6 && next.len() >= 6);
    rig.server.take().unwrap().stop().await;
}

#[tokio::test]
async fn wherever_the_program_is_killed_render_has_one_service_in_the_end() {
    wherever_it_is_killed(Target::Render).await;
}

#[tokio::test]
async fn wherever_the_program_is_killed_railway_has_one_service_in_the_end() {
    wherever_it_is_killed(Target::Railway).await;
}
