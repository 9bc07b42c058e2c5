//! Render as a test wants it: keeps workspaces, services, variables, deploys and logs, and checks every request as strictly
//! as Render's documentation lets it. What it finds wrong is answered with 400 and kept in [`FakeRender::wrong`].
//!
//! Limits: web services only; one key; a deploy goes on by being looked at, not by time; a second service of the same name
//! is made, so that a test sees one that should not be there; it limits nobody of itself; nothing is really built or served
//! ([`FakeRender::serve_at`] says where all services are); health checks, plans and payment change nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use sealport::deploy::sources::SourceHosts;
use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use url::Url;

use super::wire::{Recorded, Reply, Wire};

pub const KEY: &str = "rnd_fakeKeyOfTheTests0123456789";

const RUNTIMES: [&str; 8] = [
    "docker", "elixir", "go", "node", "python", "ruby", "rust", "image",
];
const REGIONS: [&str; 5] = ["frankfurt", "oregon", "ohio", "singapore", "virginia"];
const PLANS: [&str; 10] = [
    "starter",
    "starter_plus",
    "standard",
    "standard_plus",
    "pro",
    "pro_plus",
    "pro_max",
    "pro_ultra",
    "free",
    "custom",
];

/// Where a deploy ends instead of being live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailAt {
    Build,
    PreDeploy,
    Update,
}

pub struct FakeDeploy {
    pub id: String,
    pub state: &'static str,
    /// What follows, the next one last.
    ahead: Vec<&'static str>,
    looks_left: u32,
    /// What it is built of; and what was asked for.
    pub commit: String,
    pub asked: Option<String>,
    created_at: OffsetDateTime,
    /// The variables that it started with.
    pub env: BTreeMap<String, String>,
}

pub struct FakeService {
    pub id: String,
    pub name: String,
    pub owner: String,
    /// As it was made and changed.
    pub body: Value,
    pub env: BTreeMap<String, String>,
    pub suspended: bool,
    pub deploys: Vec<FakeDeploy>,
    created_at: OffsetDateTime,
}

#[derive(Clone)]
pub struct FakeLog {
    pub id: String,
    pub at: OffsetDateTime,
    pub text: String,
    pub kind: &'static str,
}

pub struct State {
    /// The one that opens it.
    pub key: String,
    pub owners: Vec<(String, String, &'static str)>,
    pub services: Vec<FakeService>,
    pub logs: BTreeMap<String, Vec<FakeLog>>,
    /// Every page is at most so long, whatever was asked for.
    pub page_items: usize,
    /// How often a deploy is looked at in each of its states.
    pub looks_per_state: u32,
    /// Deploys from now on are live at the first look at them.
    pub is_quick: bool,
    /// For deploys from now on.
    pub fail_at: Option<FailAt>,
    /// The newest commit of every repository.
    pub head: String,
    /// Deploys are answered with 202 and nothing.
    pub tells_no_deploy: bool,
    pub wrong: Vec<String>,
    serve_at: Option<String>,
    made: u32,
    now: OffsetDateTime,
}

pub struct FakeRender {
    pub wire: Wire,
    state: Arc<Mutex<State>>,
}

impl FakeRender {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            key: KEY.to_owned(),
            owners: vec![("tea-1".into(), "Shop".into(), "team")],
            services: Vec::new(),
            logs: BTreeMap::new(),
            page_items: 100,
            looks_per_state: 1,
            is_quick: false,
            fail_at: None,
            head: "c0ffee".into(),
            tells_no_deploy: false,
            wrong: Vec::new(),
            serve_at: None,
            made: 0,
            now: OffsetDateTime::now_utc(),
        }));
        let wire = Wire::start({
            let state = Arc::clone(&state);
            move |request| state.lock().unwrap().answer(request)
        })
        .await;
        FakeRender { wire, state }
    }

    /// The API's address.
    pub fn base(&self) -> Url {
        self.wire.url.join("/v1").unwrap()
    }

    /// What lets it be asked.
    pub fn hosts(&self) -> SourceHosts {
        SourceHosts::new(["127.0.0.1".to_owned()])
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// All services' address from now on.
    pub fn serve_at(&self, url: &str) {
        self.state().serve_at = Some(url.to_owned());
    }

    /// What was wrong with requests so far.
    pub fn wrong(&self) -> Vec<String> {
        self.state().wrong.clone()
    }

    /// What a service printed so many seconds after a time that is the same for all.
    pub fn print(&self, service: &str, secs: f64, id: &str, kind: &'static str, text: &str) {
        let mut state = self.state();
        let line = FakeLog {
            id: id.to_owned(),
            at: state.now + Duration::seconds_f64(secs),
            text: text.to_owned(),
            kind,
        };
        state.logs.entry(service.to_owned()).or_default().push(line);
    }

    pub fn began(&self) -> OffsetDateTime {
        self.state().now
    }
}

impl State {
    pub fn service(&self, id: &str) -> &FakeService {
        let found = self.services.iter().find(|service| service.id == id);
        found.expect("the service")
    }

    fn answer(&mut self, request: &Recorded) -> Reply {
        if request.header("authorization") != format!("Bearer {}", self.key) {
            return says(401, "Unauthorized");
        }
        let mut wrong = Vec::new();
        if request.header("accept") != "application/json" {
            wrong.push("accept".into());
        }
        let has_body = !request.body.is_empty();
        if has_body && request.header("content-type") != "application/json" {
            wrong.push("content-type".into());
        }
        let reply = self.routed(request, &mut wrong);
        if wrong.is_empty() {
            return reply;
        }
        let wrong: Vec<String> = wrong
            .iter()
            .map(|what| format!("{}: {what}", request.line()))
            .collect();
        let said = wrong.join("; ");
        self.wrong.extend(wrong);
        says(400, &said)
    }

    fn routed(&mut self, request: &Recorded, wrong: &mut Vec<String>) -> Reply {
        let Some(path) = request.path.strip_prefix("/v1/") else {
            return says(404, "not found");
        };
        let parts: Vec<&str> = path.split('/').collect();
        let body = request.json();
        let queried = |names: &[&str], wrong: &mut Vec<String>| {
            for (name, _) in &request.query {
                if !names.contains(&name.as_str()) {
                    wrong.push(format!("query {name}"));
                }
            }
        };
        let bodiless = |wrong: &mut Vec<String>| {
            if !request.body.is_empty() {
                wrong.push("a body where none belongs".into());
            }
        };
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["owners"]) => {
                queried(&["limit", "cursor", "name", "email"], wrong);
                let items = self.owners.iter().map(|(id, name, kind)| {
                    json!({"owner": {"id": id, "name": name, "email": "a@b.example", "type": kind}})
                });
                self.paged(request, items.collect(), wrong)
            }
            ("GET", ["services"]) => {
                queried(
                    &[
                        "name",
                        "ownerId",
                        "type",
                        "includePreviews",
                        "limit",
                        "cursor",
                    ],
                    wrong,
                );
                let items = self.services.iter().filter(|service| {
                    request
                        .asked("name")
                        .is_none_or(|name| name.split(',').any(|name| name == service.name))
                        && request
                            .asked("ownerId")
                            .is_none_or(|owner| owner == service.owner)
                });
                let items = items.map(|service| json!({"service": self.described(service)}));
                self.paged(request, items.collect(), wrong)
            }
            ("POST", ["services"]) => {
                check_new(&body, wrong);
                if !wrong.is_empty() {
                    return says(400, "invalid");
                }
                self.make(body)
            }
            (method, ["services", id, rest @ ..]) => {
                let Some(at) = self.services.iter().position(|service| service.id == *id) else {
                    return says(404, &format!("service {id} not found"));
                };
                match (method, rest) {
                    ("GET", []) => Reply::json(200, self.described(&self.services[at])),
                    ("PATCH", []) => {
                        check_change(&body, wrong);
                        if wrong.is_empty() {
                            merge(&mut self.services[at].body, &body);
                        }
                        Reply::json(200, self.described(&self.services[at]))
                    }
                    ("DELETE", []) => {
                        bodiless(wrong);
                        self.services.remove(at);
                        Reply::empty(204)
                    }
                    ("POST", ["suspend"]) => self.suspend(at, true),
                    ("POST", ["resume"]) => self.suspend(at, false),
                    ("GET", ["env-vars"]) => {
                        queried(&["limit", "cursor"], wrong);
                        let items = self.services[at].env.iter();
                        let items = items
                            .map(|(key, value)| json!({"envVar": {"key": key, "value": value}}));
                        self.paged(request, items.collect(), wrong)
                    }
                    ("PUT", ["env-vars", key]) => {
                        only(&body, &["value"], "the variable", wrong);
                        let Some(value) = body["value"].as_str() else {
                            wrong.push("no value".into());
                            return says(400, "invalid");
                        };
                        let env = &mut self.services[at].env;
                        env.insert((*key).to_owned(), value.to_owned());
                        Reply::json(200, json!({"key": key, "value": value}))
                    }
                    ("DELETE", ["env-vars", key]) => {
                        bodiless(wrong);
                        match self.services[at].env.remove(*key) {
                            Some(_) => Reply::empty(204),
                            None => says(404, "no such variable"),
                        }
                    }
                    ("GET", ["deploys"]) => {
                        queried(&["limit", "cursor"], wrong);
                        let deploys = self.services[at].deploys.iter().rev();
                        let items = deploys.map(|deploy| json!({"deploy": shown(deploy)}));
                        self.paged(request, items.collect(), wrong)
                    }
                    ("POST", ["deploys"]) => {
                        only(
                            &body,
                            &["clearCache", "commitId", "imageUrl"],
                            "the deploy",
                            wrong,
                        );
                        word(
                            &body["clearCache"],
                            &["clear", "do_not_clear"],
                            "clearCache",
                            wrong,
                        );
                        let id = self.deploy(at);
                        let commit = body["commitId"].as_str().map(str::to_owned);
                        if commit.is_some()
                            && self.services[at].body["serviceDetails"]["runtime"] == "image"
                        {
                            wrong.push("a commit of an image".into());
                        }
                        if let (Some(commit), Some(deploy)) =
                            (commit, self.services[at].deploys.last_mut())
                        {
                            deploy.commit.clone_from(&commit);
                            deploy.asked = Some(commit);
                        }
                        if self.tells_no_deploy {
                            return Reply::empty(202);
                        }
                        Reply::json(201, self.one_deploy(at, &id))
                    }
                    (method, ["deploys", deploy, rest @ ..]) => {
                        let deploys = &self.services[at].deploys;
                        if !deploys.iter().any(|one| one.id == *deploy) {
                            return says(404, "no such deploy");
                        }
                        match (method, rest) {
                            ("GET", []) => {
                                self.look(at, deploy);
                                Reply::json(200, self.one_deploy(at, deploy))
                            }
                            ("POST", ["cancel"]) => self.cancel(at, deploy),
                            _ => says(404, "not found"),
                        }
                    }
                    _ => says(404, "not found"),
                }
            }
            ("GET", ["logs"]) => self.logs(request, wrong, queried),
            _ => says(404, "not found"),
        }
    }

    fn make(&mut self, body: Value) -> Reply {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        if !self.owners.iter().any(|owner| owner.0 == text("ownerId")) {
            return says(404, "no such owner");
        }
        self.made += 1;
        let id = format!("srv-{}", self.made);
        let env = body["envVars"].as_array().cloned().unwrap_or_default();
        let of = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let created_at = self.tick();
        self.services.push(FakeService {
            id: id.clone(),
            name: text("name"),
            owner: text("ownerId"),
            env: env
                .iter()
                .map(|item| (of(item, "key"), of(item, "value")))
                .collect(),
            body,
            suspended: false,
            deploys: Vec::new(),
            created_at,
        });
        let at = self.services.len() - 1;
        let deploy = self.deploy(at);
        let service = self.described(&self.services[at]);
        Reply::json(201, json!({"service": service, "deployId": deploy}))
    }

    fn deploy(&mut self, at: usize) -> String {
        self.made += 1;
        let id = format!("dep-{}", self.made);
        let mut ahead = vec!["queued", "build_in_progress"];
        ahead.extend(match self.fail_at {
            Some(FailAt::Build) => ["build_failed"].as_slice(),
            Some(FailAt::PreDeploy) => &["pre_deploy_in_progress", "pre_deploy_failed"],
            Some(FailAt::Update) => &["update_in_progress", "update_failed"],
            None => &["update_in_progress", "live"],
        });
        ahead.reverse();
        if self.is_quick {
            ahead = vec!["live"];
        }
        let created_at = self.tick();
        let looks_left = match self.is_quick {
            true => 0,
            false => self.looks_per_state,
        };
        let service = &mut self.services[at];
        service.deploys.push(FakeDeploy {
            id: id.clone(),
            state: "created",
            ahead,
            looks_left,
            commit: self.head.clone(),
            asked: None,
            created_at,
            env: service.env.clone(),
        });
        id
    }

    /// A deploy goes on when it was looked at often enough.
    fn look(&mut self, at: usize, id: &str) {
        let each = self.looks_per_state;
        let service = &mut self.services[at];
        let Some(deploy) = service.deploys.iter_mut().find(|deploy| deploy.id == id) else {
            return;
        };
        if deploy.looks_left > 0 {
            deploy.looks_left -= 1;
            return;
        }
        let Some(next) = deploy.ahead.pop() else {
            return;
        };
        deploy.state = next;
        deploy.looks_left = each.saturating_sub(1);
        if next == "live" {
            let earlier = service.deploys.iter_mut().filter(|deploy| deploy.id != id);
            for deploy in earlier.filter(|deploy| deploy.state == "live") {
                deploy.state = "deactivated";
            }
        }
    }

    fn cancel(&mut self, at: usize, id: &str) -> Reply {
        let deploys = &mut self.services[at].deploys;
        let Some(deploy) = deploys.iter_mut().find(|deploy| deploy.id == id) else {
            return says(404, "no such deploy");
        };
        if deploy.ahead.is_empty() {
            return says(400, "the deploy is over");
        }
        deploy.ahead.clear();
        deploy.state = "canceled";
        Reply::json(200, shown(deploy))
    }

    fn suspend(&mut self, at: usize, suspended: bool) -> Reply {
        if self.services[at].suspended == suspended {
            return says(400, "it is so already");
        }
        self.services[at].suspended = suspended;
        Reply::empty(202)
    }

    fn one_deploy(&self, at: usize, id: &str) -> Value {
        let deploys = &self.services[at].deploys;
        let found = deploys.iter().find(|deploy| deploy.id == id);
        found.map_or(Value::Null, shown)
    }

    fn logs(
        &self,
        request: &Recorded,
        wrong: &mut Vec<String>,
        queried: impl Fn(&[&str], &mut Vec<String>),
    ) -> Reply {
        queried(
            &[
                "ownerId",
                "resource",
                "startTime",
                "endTime",
                "direction",
                "limit",
            ],
            wrong,
        );
        for needed in ["ownerId", "resource"] {
            if request.asked(needed).is_none() {
                wrong.push(format!("query {needed} is missing"));
            }
        }
        if request.asked("direction") != Some("forward") {
            wrong.push("only forward is known here".into());
        }
        let time = |name: &str| {
            let text = request.asked(name)?;
            Some(OffsetDateTime::parse(text, &Rfc3339).map_err(|_| format!("query {name}")))
        };
        let start = time("startTime").unwrap_or(Ok(self.now - Duration::hours(1)));
        let end = time("endTime").unwrap_or(Ok(self.now + Duration::days(1)));
        let (start, end) = match (start, end) {
            (Ok(start), Ok(end)) => (start, end),
            (start, end) => {
                wrong.extend([start.err(), end.err()].into_iter().flatten());
                return says(400, "invalid");
            }
        };
        let limit = self.limit(request, wrong);
        let all = self.logs.get(request.asked("resource").unwrap_or_default());
        let mut lines: Vec<&FakeLog> = all
            .into_iter()
            .flatten()
            .filter(|line| line.at >= start && line.at <= end)
            .collect();
        lines.sort_by_key(|line| line.at);
        let has_more = lines.len() > limit;
        lines.truncate(limit);
        let next = lines.last().map_or(start, |line| line.at);
        let stamp = |at: OffsetDateTime| at.format(&Rfc3339).unwrap();
        let logs: Vec<Value> = lines
            .iter()
            .map(|line| {
                json!({
                    "id": line.id,
                    "message": line.text,
                    "timestamp": stamp(line.at),
                    "labels": [
                        {"name": "resource", "value": request.asked("resource")},
                        {"name": "type", "value": line.kind},
                        {"name": "level", "value": "info"},
                    ],
                })
            })
            .collect();
        Reply::json(
            200,
            json!({"hasMore": has_more, "nextStartTime": stamp(next), "nextEndTime": stamp(end), "logs": logs}),
        )
    }

    fn limit(&self, request: &Recorded, wrong: &mut Vec<String>) -> usize {
        let limit = request.asked("limit").map_or(Ok(20), str::parse::<usize>);
        match limit {
            Ok(limit @ 1..=100) => limit.min(self.page_items),
            _ => {
                wrong.push("query limit".into());
                1
            }
        }
    }

    /// A page of a list: a cursor says how many come before it and it.
    fn paged(&self, request: &Recorded, items: Vec<Value>, wrong: &mut Vec<String>) -> Reply {
        let limit = self.limit(request, wrong);
        let from = match request.asked("cursor") {
            None => 0,
            Some(cursor) => match cursor.strip_prefix("after-").map(str::parse) {
                Some(Ok(from)) => from,
                _ => {
                    wrong.push("query cursor".into());
                    0
                }
            },
        };
        let page = items.into_iter().enumerate().skip(from).take(limit);
        let page = page.map(|(at, mut item)| {
            item["cursor"] = format!("after-{}", at + 1).into();
            item
        });
        Reply::json(200, Value::Array(page.collect()))
    }

    fn described(&self, service: &FakeService) -> Value {
        let details = &service.body["serviceDetails"];
        let url = match &self.serve_at {
            Some(url) => url.clone(),
            None => format!("https://{}-{}.onrender.com", service.name, service.id),
        };
        let stamp = service.created_at.format(&Rfc3339).unwrap();
        let word = |value: &Value, else_: &str| value.as_str().unwrap_or(else_).to_owned();
        let mut described = json!({
            "id": service.id,
            "name": service.name,
            "ownerId": service.owner,
            "type": "web_service",
            "createdAt": stamp,
            "updatedAt": stamp,
            "dashboardUrl": format!("https://dashboard.render.com/web/{}", service.id),
            "suspended": if service.suspended { "suspended" } else { "not_suspended" },
            "suspenders": if service.suspended { json!(["user"]) } else { json!([]) },
            "autoDeploy": word(&service.body["autoDeploy"], "yes"),
            "notifyOnFail": "default",
            "slug": service.name,
            "rootDir": word(&service.body["rootDir"], ""),
            "serviceDetails": {
                "env": word(&details["runtime"], "docker"),
                "runtime": word(&details["runtime"], "docker"),
                "envSpecificDetails": details["envSpecificDetails"],
                "plan": word(&details["plan"], "starter"),
                "region": word(&details["region"], "oregon"),
                "numInstances": 1,
                "buildPlan": "starter",
                "healthCheckPath": word(&details["healthCheckPath"], ""),
                "openPorts": [],
                "url": url,
            },
        });
        for name in ["repo", "branch"] {
            if let Some(text) = service.body[name].as_str() {
                described[name] = text.into();
            }
        }
        if let Some(path) = service.body["image"]["imagePath"].as_str() {
            described["imagePath"] = path.into();
        }
        described
    }

    /// Later than all before.
    fn tick(&mut self) -> OffsetDateTime {
        self.made += 1;
        self.now + Duration::seconds(i64::from(self.made))
    }
}

fn shown(deploy: &FakeDeploy) -> Value {
    json!({
        "id": deploy.id,
        "status": deploy.state,
        "trigger": "api",
        "createdAt": deploy.created_at.format(&Rfc3339).unwrap(),
        "commit": {"id": deploy.commit, "message": "Say hello", "createdAt": "2025-11-26T12:00:00Z"},
    })
}

fn says(status: u16, message: &str) -> Reply {
    Reply::json(status, json!({"id": "err-1", "message": message}))
}

fn check_new(body: &Value, wrong: &mut Vec<String>) {
    let fields = [
        "type",
        "name",
        "ownerId",
        "repo",
        "branch",
        "rootDir",
        "image",
        "autoDeploy",
        "envVars",
        "serviceDetails",
    ];
    only(body, &fields, "the service", wrong);
    word(&body["type"], &["web_service"], "type", wrong);
    for needed in ["type", "name", "ownerId"] {
        if body[needed].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{needed} is missing"));
        }
    }
    if body["repo"].is_string() == body["image"].is_object() {
        wrong.push("either a repository or an image".into());
    }
    if body["autoDeploy"] != "no" {
        wrong.push("Sealport wants no deploy without it".into());
    }
    for item in body["envVars"].as_array().into_iter().flatten() {
        only(item, &["key", "value"], "a variable", wrong);
        if !item["key"].is_string() || !item["value"].is_string() {
            wrong.push("a variable is not of strings".into());
        }
    }
    check_details(&body["serviceDetails"], true, wrong);
    check_image(body, wrong);
}

fn check_change(body: &Value, wrong: &mut Vec<String>) {
    let fields = [
        "autoDeploy",
        "repo",
        "branch",
        "image",
        "name",
        "rootDir",
        "serviceDetails",
    ];
    only(body, &fields, "the change", wrong);
    if body.as_object().is_none_or(Map::is_empty) {
        wrong.push("a change of nothing".into());
    }
    if !body["serviceDetails"].is_null() {
        check_details(&body["serviceDetails"], false, wrong);
        if ["free", "custom"].contains(&body["serviceDetails"]["plan"].as_str().unwrap_or("")) {
            wrong.push("a change to this plan".into());
        }
    }
    check_image(body, wrong);
}

fn check_image(body: &Value, wrong: &mut Vec<String>) {
    if body["image"].is_null() {
        return;
    }
    only(
        &body["image"],
        &["ownerId", "imagePath", "registryCredentialId"],
        "image",
        wrong,
    );
    if !body["image"]["ownerId"].is_string() || !body["image"]["imagePath"].is_string() {
        wrong.push("image lacks something".into());
    }
}

fn check_details(details: &Value, is_new: bool, wrong: &mut Vec<String>) {
    let mut fields = vec!["runtime", "plan", "healthCheckPath", "envSpecificDetails"];
    if is_new {
        fields.push("region");
        if !details["runtime"].is_string() {
            wrong.push("runtime is missing".into());
        }
    }
    only(details, &fields, "serviceDetails", wrong);
    word(&details["runtime"], &RUNTIMES, "runtime", wrong);
    word(&details["plan"], &PLANS, "plan", wrong);
    word(&details["region"], &REGIONS, "region", wrong);
    let specific = &details["envSpecificDetails"];
    let is_native = !["docker", "image"].contains(&details["runtime"].as_str().unwrap_or("docker"));
    if is_native {
        only(
            specific,
            &["buildCommand", "startCommand"],
            "native details",
            wrong,
        );
        for needed in ["buildCommand", "startCommand"] {
            if is_new && !specific[needed].is_string() {
                wrong.push(format!("{needed} is missing"));
            }
        }
    } else if !specific.is_null() {
        let fields = [
            "dockerCommand",
            "dockerContext",
            "dockerfilePath",
            "registryCredentialId",
        ];
        only(specific, &fields, "docker details", wrong);
    }
}

fn only(value: &Value, fields: &[&str], what: &str, wrong: &mut Vec<String>) {
    match value.as_object() {
        Some(members) => {
            let unknown = members.keys().filter(|key| !fields.contains(&key.as_str()));
            wrong.extend(unknown.map(|key| format!("{what} has no {key}")));
        }
        None => wrong.push(format!("{what} is no object")),
    }
}

fn word(value: &Value, words: &[&str], what: &str, wrong: &mut Vec<String>) {
    let is_one = value.as_str().is_some_and(|word| words.contains(&word));
    if !value.is_null() && !is_one {
        wrong.push(format!("{what} is {value}"));
    }
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (name, value) in change {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}
