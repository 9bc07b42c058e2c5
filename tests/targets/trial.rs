//! `sealport target check`, as a person calls it, against providers that keep state: it proves what it says, and removes what it made
//! however it ends.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use crate::fakes::railway::{ACCOUNT_KEY, FakeRailway, PROJECT_KEY, WORKSPACE_KEY};
use crate::fakes::render::{FailAt, FakeRender, KEY};
use crate::fakes::wire::Fault;

/// Long, for it ends a test that hangs and nothing else.
const PATIENCE: Duration = Duration::from_secs(90);
const ALL: &str = "make, deploy, answer, log, change, again, stop, remove.";
const LINE: &str = "sealport-check listens";

type Env = BTreeMap<String, String>;

/// What the providers' servers answer, and with which variables they ran.
struct Servers {
    address: String,
    ran_with: Arc<Mutex<Vec<Env>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Servers {
    /// As what the script of the service says, whenever one is up.
    async fn start(up: impl Fn() -> Option<Env> + Clone + Send + Sync + 'static) -> Servers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let ran_with = Arc::<Mutex<Vec<Env>>>::default();
        let seen = Arc::clone(&ran_with);
        let answer = move || {
            let env = up();
            seen.lock().unwrap().extend(env.clone());
            async move {
                match env {
                    Some(env) => (StatusCode::OK, answered(&env)),
                    None => (StatusCode::BAD_GATEWAY, "nothing runs".to_owned()),
                }
            }
        };
        let router = axum::Router::new().route("/", axum::routing::get(answer));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Servers {
            address,
            ran_with,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn first_and_last(&self) -> (Env, Env) {
        let seen = self.ran_with.lock().unwrap();
        (seen.first().unwrap().clone(), seen.last().unwrap().clone())
    }
}

fn answered(env: &Env) -> String {
    let of = |name: &str| env.get(name).cloned().unwrap_or_default();
    let four = [
        "CHECK_KEPT",
        "CHECK_CHANGED",
        "CHECK_REMOVED",
        "CHECK_ADDED",
    ]
    .map(of);
    let hash = Sha256::digest(four.join(".").as_bytes());
    format!("{}  -\n", hex::encode(hash))
}

async fn render() -> (Arc<FakeRender>, Servers) {
    let render = Arc::new(FakeRender::start().await);
    let there = Arc::clone(&render);
    let servers = Servers::start(move || {
        let (service, deploy, env) = {
            let state = there.state();
            let service = state.services.first().filter(|one| !one.suspended)?;
            let live = service.deploys.iter().rfind(|one| one.state == "live")?;
            (service.id.clone(), live.id.clone(), live.env.clone())
        };
        there.print(&service, 1.0, &deploy, "app", LINE);
        Some(env)
    })
    .await;
    render.serve_at(&format!("http://{}/", servers.address));
    (render, servers)
}

async fn railway() -> (Arc<FakeRailway>, Servers) {
    let railway = Arc::new(FakeRailway::start().await);
    let there = Arc::clone(&railway);
    let servers = Servers::start(move || {
        let mut state = there.state();
        let mut all = state.deployments.iter_mut();
        let up = all.rfind(|one| one.status() == "SUCCESS")?;
        if up.run_log.is_empty() {
            up.run_log.push((up.created, LINE.to_owned()));
        }
        Some(up.variables.clone())
    })
    .await;
    let address = servers.address.clone();
    railway.state().domain_names = [address].into();
    (railway, servers)
}

/// The program, with where the providers are.
fn program(apis: [(&str, String); 1], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealport"));
    command
        .args(["target", "check"])
        .args(arguments)
        .env_clear()
        .env("SEALPORT_SOURCE_HOSTS", "127.0.0.1")
        .envs(apis)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn at_render(render: &FakeRender, arguments: &[&str]) -> Command {
    let mut all = vec!["render", "--look-every", "25"];
    all.extend(arguments);
    program([("SEALPORT_RENDER_API", render.base().to_string())], &all)
}

fn at_railway(railway: &FakeRailway, arguments: &[&str]) -> Command {
    let mut all = vec!["railway", "--look-every", "25"];
    all.extend(arguments);
    program([("SEALPORT_RAILWAY_API", railway.url.to_string())], &all)
}

async fn begun(mut command: Command, key: &str) -> Child {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended without reading.
    let _ = stdin.write_all(format!("{key}\n").as_bytes()).await;
    child
}

/// Its exit status, and what it printed on both.
async fn ended(child: Child) -> (i32, String, String) {
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = ended.expect("it ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

async fn ran(command: Command, key: &str) -> (i32, String, String) {
    ended(begun(command, key).await).await
}

async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("there never was {what}"))
}

fn interrupt(child: &Child) {
    let pid = child.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(sent.unwrap().success());
}

fn holds_none_of(text: &str, secrets: &[&str], env: &Env) {
    let values = env.iter().filter(|(name, _)| name.starts_with("CHECK_"));
    let values = values.map(|(_, value)| value.as_str());
    for secret in values.chain(secrets.iter().copied()) {
        assert!(!text.contains(secret), "{secret} stands in\n{text}");
    }
}

const LIVE: [&str; 2] = ["--live", "--yes"];

#[tokio::test]
async fn a_key_says_what_it_can_do_and_nothing_is_made() {
    let (render, _servers) = render().await;
    let (status, out, err) = ran(at_render(&render, &[]), KEY).await;
    assert_eq!(status, 0, "{err}");
    assert!(
        out.contains("every service in Shop") && out.contains("tea-1"),
        "{out}"
    );
    assert!(!out.contains(KEY));
    let lines = render.wire.lines();
    assert!(
        lines.iter().all(|line| line == "GET /v1/owners"),
        "{lines:?}"
    );

    let (railway, _servers) = railway().await;
    let (status, out, err) = ran(at_railway(&railway, &[]), ACCOUNT_KEY).await;
    assert_eq!(status, 0, "{err}");
    for place in ["Ada's", "The team", "existing", "production"] {
        assert!(out.contains(place), "{place} in {out}");
    }
    let asked = railway.fields();
    assert!(
        asked
            .iter()
            .all(|field| ["me", "projects"].contains(&field.as_str())),
        "{asked:?}"
    );

    let (status, out, err) = ran(at_render(&render, &[]), "rnd_anotherKeyThatIsNone00000").await;
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains("Render does not take this key"), "{err}");
}

#[tokio::test]
async fn all_goes_well_at_render_and_nothing_is_left() {
    let (render, servers) = render().await;
    let (status, out, err) = ran(at_render(&render, &LIVE), KEY).await;
    assert_eq!(status, 0, "{out}{err}\n{:?}", render.wire.lines());
    assert!(out.contains(&format!("Proved at Render: {ALL}")), "{out}");
    assert!(
        out.contains("plan free") && out.contains("Render charges nothing"),
        "{out}"
    );
    assert!(out.contains("Nothing of it is left there."), "{out}");
    assert!(render.state().services.is_empty());
    assert_eq!(render.wrong(), Vec::<String>::new());

    let (first, last) = servers.first_and_last();
    assert_eq!(first["PORT"], "8080");
    assert_eq!(first["CHECK_KEPT"], last["CHECK_KEPT"]);
    assert_ne!(first["CHECK_CHANGED"], last["CHECK_CHANGED"]);
    assert!(first.contains_key("CHECK_REMOVED") && !last.contains_key("CHECK_REMOVED"));
    assert!(!first.contains_key("CHECK_ADDED") && last.contains_key("CHECK_ADDED"));
    let shown = format!("{out}{err}");
    holds_none_of(&shown, &[KEY], &first);
    holds_none_of(&shown, &[KEY], &last);
}

#[tokio::test]
async fn all_goes_well_at_railway_and_nothing_is_left() {
    let (railway, servers) = railway().await;
    let (status, out, err) = ran(at_railway(&railway, &LIVE), WORKSPACE_KEY).await;
    assert_eq!(status, 0, "{out}{err}\n{:?}", railway.fields());
    assert!(out.contains(&format!("Proved at Railway: {ALL}")), "{out}");
    assert!(
        out.contains("in a project of its own, in the workspace Ada's"),
        "{out}"
    );
    let (first, last) = servers.first_and_last();
    assert_eq!(first["CHECK_KEPT"], last["CHECK_KEPT"]);
    assert!(!last.contains_key("CHECK_REMOVED") && last.contains_key("CHECK_ADDED"));
    holds_none_of(&format!("{out}{err}"), &[WORKSPACE_KEY], &last);
    let state = railway.state();
    assert_eq!(state.projects.iter().filter(|one| !one.deleted).count(), 1);
    assert!(state.services.iter().all(|one| one.deleted));
}

/// A key of one project makes its service there, and the project stays.
#[tokio::test]
async fn a_project_that_was_there_stays() {
    let (railway, _servers) = railway().await;
    let (status, out, err) = ran(at_railway(&railway, &LIVE), PROJECT_KEY).await;
    assert_eq!(status, 0, "{out}{err}\n{:?}", railway.fields());
    assert!(
        out.contains("in the project existing, environment production"),
        "{out}"
    );
    let state = railway.state();
    assert!(state.projects.iter().all(|one| !one.deleted));
    assert!(state.services.iter().all(|one| one.deleted));
    drop(state);
    assert_eq!(railway.times("projectDelete"), 0);
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_nothing() {
    let (render, _servers) = render().await;
    render.wire.will("POST /v1/services", Fault::LoseAnswer);
    let (status, out, err) = ran(at_render(&render, &LIVE), KEY).await;
    assert_eq!(status, 0, "{out}{err}");
    assert!(render.state().services.is_empty());
}

/// Whichever step fails: it is named, and what was made is gone.
#[tokio::test]
async fn a_failure_at_any_step_at_render_removes_what_was_made() {
    let no = || Fault::status(403);
    for (step, at, fault) in [
        ("make", "POST /v1/services", Fault::status(402)),
        ("make", "POST /v1/services", Fault::Echo),
        ("deploy", "/deploys/", no()),
        ("log", "GET /v1/logs", no()),
        ("change", "PUT /v1/services", Fault::Echo),
        ("change", "GET /v1/services/srv-1/env-vars", no()),
        ("again", "POST /v1/services/srv-1/deploys", no()),
        ("stop", "/suspend", no()),
    ] {
        let (render, servers) = render().await;
        render.wire.will(at, fault);
        let (status, out, err) = ran(at_render(&render, &LIVE), KEY).await;
        let all = format!("{out}{err}");
        assert_eq!(status, 1, "{step}: {all}");
        let said = format!("It failed at the step {step}: ");
        assert!(err.contains(&said), "{step}: {all}");
        assert!(
            err.contains("Nothing of it is left there."),
            "{step}: {all}"
        );
        assert!(render.state().services.is_empty(), "{step}: {all}");
        for env in servers.ran_with.lock().unwrap().iter() {
            holds_none_of(&all, &[KEY], env);
        }
        for sent in render.wire.recorded() {
            for item in sent.json()["envVars"].as_array().into_iter().flatten() {
                let value = item["value"].as_str().unwrap();
                assert!(value == "8080" || !all.contains(value), "{step}: {all}");
            }
        }
    }
    let (render, _servers) = render().await;
    render.state().fail_at = Some(FailAt::Build);
    let (status, _, err) = ran(at_render(&render, &LIVE), KEY).await;
    assert_eq!(status, 1);
    assert!(err.contains("failed while it was built"), "{err}");
    assert!(render.state().services.is_empty());
}

/// What Render calls live has to answer, with its variables.
#[tokio::test]
async fn a_server_without_its_variables_is_found_out() {
    for with_some in [false, true] {
        let render = FakeRender::start().await;
        let servers = Servers::start(move || with_some.then(Env::new)).await;
        render.serve_at(&format!("http://{}/", servers.address));
        let (status, _, err) = ran(at_render(&render, &LIVE), KEY).await;
        assert_eq!(status, 1);
        assert!(err.contains("It failed at the step answer: "), "{err}");
        let says = match with_some {
            true => "not as a server does that has the variables",
            false => "answers with 502",
        };
        assert!(err.contains(says), "{err}");
        assert!(render.state().services.is_empty());
    }
}

#[tokio::test]
async fn a_failure_at_any_step_at_railway_removes_what_was_made() {
    for (step, field) in [
        ("make", "projectCreate"),
        ("make", "serviceCreate"),
        ("deploy", "variableCollectionUpsert"),
        ("deploy", "serviceDomainCreate"),
        ("deploy", "serviceConnect"),
        ("deploy", "deployment"),
        ("log", "deploymentLogs"),
        ("change", "variableDelete"),
        ("again", "serviceInstanceDeployV2"),
        ("stop", "deploymentRemove"),
    ] {
        let (railway, _servers) = railway().await;
        railway.will_refuse(field, "Not Authorized");
        let (status, out, err) = ran(at_railway(&railway, &LIVE), WORKSPACE_KEY).await;
        let all = format!("{out}{err}\n{:?}", railway.fields());
        assert_eq!(status, 1, "{field}: {all}");
        assert!(
            err.contains(&format!("It failed at the step {step}: ")),
            "{field}: {all}"
        );
        assert!(
            err.contains("Nothing of it is left there."),
            "{field}: {all}"
        );
        let state = railway.state();
        assert_eq!(
            state.projects.iter().filter(|one| !one.deleted).count(),
            1,
            "{field}: {all}"
        );
        assert!(
            state.services.iter().all(|one| one.deleted),
            "{field}: {all}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_removed_is_named() {
    let (render, _servers) = render().await;
    // The first removes a variable.
    render.wire.will("DELETE /v1/services/srv-1", Fault::None);
    for _ in 0..5 {
        render
            .wire
            .will("DELETE /v1/services/srv-1", Fault::status(403));
    }
    let (status, out, err) = ran(at_render(&render, &LIVE), KEY).await;
    assert_eq!(status, 1, "{out}{err}");
    let name = render.state().services[0].name.clone();
    let left =
        format!("Left there: the service {name} (srv-1): https://dashboard.render.com/web/srv-1");
    assert!(err.contains(&left), "{err}");
    assert!(
        out.contains("Proved at Render: make, deploy, answer, log, change, again, stop."),
        "{out}"
    );
}

#[tokio::test]
async fn an_interruption_removes_what_was_made() {
    // While it is built.
    let (render, _servers) = render().await;
    render.state().looks_per_state = u32::MAX;
    let child = begun(at_render(&render, &LIVE), KEY).await;
    until("a look at the deploy", || {
        let lines = render.wire.lines();
        lines
            .iter()
            .any(|line| line.contains("/deploys/"))
            .then_some(())
    })
    .await;
    interrupt(&child);
    let (status, out, err) = ended(child).await;
    assert_eq!(status, 1, "{out}{err}");
    assert!(
        err.contains("It failed at the step deploy: It was interrupted."),
        "{err}"
    );
    assert!(err.contains("Nothing of it is left there."), "{err}");
    assert!(render.state().services.is_empty());

    // While it is made: what becomes of that is waited for.
    render
        .wire
        .will("POST /v1/services", Fault::Late(Duration::from_millis(500)));
    let before = render.wire.lines().len();
    let child = begun(at_render(&render, &LIVE), KEY).await;
    until("the making", || {
        let lines = render.wire.lines();
        lines[before..]
            .contains(&"POST /v1/services".to_owned())
            .then_some(())
    })
    .await;
    interrupt(&child);
    let (status, out, err) = ended(child).await;
    assert_eq!(status, 1, "{out}{err}");
    assert!(
        err.contains("It failed at the step make: It was interrupted."),
        "{err}"
    );
    let lines = render.wire.lines();
    let deletes = |line: &String| line.starts_with("DELETE /v1/services/srv-");
    assert!(lines[before..].iter().any(deletes), "{lines:?}");
    assert!(render.state().services.is_empty());
}

#[tokio::test]
async fn a_second_interruption_ends_the_removing_and_names_what_is_left() {
    let (railway, _servers) = railway().await;
    railway.state().courses = [vec!["BUILDING"]].into();
    railway.will("serviceDelete", Fault::Hang);
    let child = begun(at_railway(&railway, &LIVE), WORKSPACE_KEY).await;
    until("a look at the deployment", || {
        (railway.times("deployment") > 0).then_some(())
    })
    .await;
    interrupt(&child);
    until("the removing", || {
        (railway.times("serviceDelete") > 0).then_some(())
    })
    .await;
    interrupt(&child);
    let (status, out, err) = ended(child).await;
    assert_eq!(status, 1, "{out}{err}");
    assert!(
        err.contains("Left there: the project sealport-check-"),
        "{err}"
    );
}

#[tokio::test]
async fn a_key_in_the_command_line_is_refused_and_nothing_is_asked() {
    let (render, _servers) = render().await;
    for arguments in [vec![KEY], vec!["--key", KEY], vec!["--option", KEY]] {
        let (status, out, err) = ran(at_render(&render, &arguments), KEY).await;
        assert_eq!(status, 2, "{arguments:?} {err}");
        assert!(!format!("{out}{err}").contains(KEY), "{out}{err}");
    }
    let (_, _, err) = ran(at_render(&render, &[KEY]), KEY).await;
    assert!(
        err.contains("printf %s \"$KEY\" | sealport target check render"),
        "{err}"
    );
    // Where nobody can be asked before.
    let (status, _, err) = ran(at_render(&render, &["--live"]), KEY).await;
    assert_eq!(status, 2);
    assert!(err.contains("Give --yes"), "{err}");
    let option = format!("key={KEY}");
    let (status, _, err) = ran(at_render(&render, &["--option", &option]), KEY).await;
    assert_eq!(status, 2);
    assert!(
        err.contains("owner, region, plan") && !err.contains(KEY),
        "{err}"
    );
    assert_eq!(render.wire.lines(), Vec::<String>::new());
}
