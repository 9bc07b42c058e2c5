//! Render's adapter: what it makes, looks up, sets and watches, and what becomes of it when things go wrong.

use std::time::Duration;

use sealport::deploy::masks::{MASK, Masks};
use sealport::deploy::providers::Trouble;
use sealport::deploy::providers::render::{
    DeployState, LogKind, LogMark, NewService, OwnerKind, Plan, Region, Render, Runtime,
    ServiceBuild, ServiceChange, ServiceSource,
};
use sealport::deploy::sources::SourceHosts;
use sealport::model::paths::EnvName;
use secrecy::SecretString;
use serde_json::json;
use tokio::time::Instant;

use crate::fakes::heard::Heard;
use crate::fakes::render::{FailAt, FakeRender, KEY};
use crate::fakes::wire::Fault;

const VALUE: &str = "value-canary-77aa0c19fe";
/// Of a variable that somebody else set at Render.
const FOREIGN: &str = "foreign-canary-3b9e4420d1";

pub fn adapter(fake: &FakeRender) -> Render {
    Render::new(fake.base(), SecretString::from(KEY), fake.hosts()).unwrap()
}

pub fn env(pairs: &[(&str, &str)]) -> Vec<(EnvName, SecretString)> {
    let pair =
        |(name, value): &(&str, &str)| (EnvName::stored(name).unwrap(), SecretString::from(*value));
    pairs.iter().map(pair).collect()
}

fn names(names: &[&str]) -> Vec<EnvName> {
    let name = |name: &&str| EnvName::stored(name).unwrap();
    names.iter().map(name).collect()
}

pub fn native() -> ServiceSource {
    ServiceSource::Git {
        repo: "https://github.com/acme/weather".into(),
        branch: Some("main".into()),
        folder: Some("servers/weather".into()),
        build: ServiceBuild::Native {
            runtime: Runtime::Node,
            build: "npm ci".into(),
            start: "node index.js".into(),
        },
    }
}

pub fn dockerfile() -> ServiceSource {
    ServiceSource::Git {
        repo: "https://github.com/acme/weather".into(),
        branch: None,
        folder: None,
        build: ServiceBuild::Dockerfile {
            path: Some("./deploy/Dockerfile".into()),
            context: Some(".".into()),
            command: Some("weather --http".into()),
        },
    }
}

pub fn image() -> ServiceSource {
    ServiceSource::Image {
        path: "docker.io/library/nginx:1.29".into(),
        command: Some("sealport bridge -- npx -y weather@1.2.3".into()),
    }
}

pub fn weather(source: ServiceSource) -> NewService {
    NewService {
        owner: "tea-1".into(),
        name: "weather".into(),
        source,
        region: Region::Frankfurt,
        plan: Plan::Starter,
        health_check_path: Some("/healthz".into()),
    }
}

/// A service with one variable of ours and one of somebody else's.
async fn made(fake: &FakeRender) -> (Render, String, String) {
    let render = adapter(fake);
    let created = render
        .create(&weather(native()), &env(&[("API_KEY", VALUE)]))
        .await
        .unwrap();
    fake.state().services[0]
        .env
        .insert("THEIRS".into(), FOREIGN.into());
    (render, created.service_id, created.deploy_id.unwrap())
}

/// Looks until it is over.
async fn ended(render: &Render, service: &str, deploy: &str) -> Vec<DeployState> {
    let mut seen: Vec<DeployState> = Vec::new();
    for _ in 0..50 {
        let state = render.deploy_state(service, deploy).await.unwrap();
        if seen.last() != Some(&state) {
            seen.push(state.clone());
        }
        if state.is_over() {
            return seen;
        }
    }
    panic!("it never ends: {seen:?}");
}

#[tokio::test]
async fn a_key_is_checked_and_tells_all_its_workspaces() {
    let fake = FakeRender::start().await;
    {
        let mut state = fake.state();
        state.owners = (0..7)
            .map(|n| (format!("tea-{n}"), format!("Team {n}"), "team"))
            .collect();
        state.owners[3].2 = "user";
        state.page_items = 3;
    }
    let account = adapter(&fake).check().await.unwrap();
    assert_eq!(account.owners.len(), 7);
    assert_eq!(account.owners[6].id, "tea-6");
    assert_eq!(account.owners[3].kind, OwnerKind::User);
    let says = account.says();
    assert!(
        says.contains("Team 3 (personal)") && says.contains("Team 6 (team)"),
        "{says}"
    );

    fake.state().owners.clear();
    let nothing = adapter(&fake).check().await.unwrap();
    assert!(nothing.says().contains("no workspace"));

    let wrong = Render::new(fake.base(), SecretString::from("rnd_wrong"), fake.hosts()).unwrap();
    let trouble = wrong.check().await.unwrap_err();
    assert!(
        matches!(trouble, Trouble::Unauthorised { .. }),
        "{trouble:?}"
    );
    let unlisted = Render::new(fake.base(), SecretString::from(KEY), SourceHosts::default());
    let trouble = unlisted.unwrap().check().await.unwrap_err();
    assert!(matches!(trouble, Trouble::NotAllowed { .. }), "{trouble:?}");
    assert_eq!(fake.wrong(), [""; 0]);
}

#[tokio::test]
async fn a_service_is_made_of_each_source_with_its_variables() {
    let fake = FakeRender::start().await;
    let render = adapter(&fake);
    let variables = env(&[("API_KEY", VALUE), ("PORT", "8080")]);
    for source in [native(), dockerfile(), image()] {
        let created = render.create(&weather(source), &variables).await.unwrap();
        assert_eq!(created.url.unwrap().scheme(), "https");
        let state = fake.state();
        let service = state.service(&created.service_id);
        assert_eq!(Some(&service.deploys[0].id), created.deploy_id.as_ref());
        assert_eq!(
            service.deploys[0].env["API_KEY"], VALUE,
            "the first deploy has it"
        );
        assert_eq!(service.deploys[0].env["PORT"], "8080");
    }
    assert_eq!(fake.wrong(), [""; 0]);
    let bodies: Vec<_> = fake
        .wire
        .recorded()
        .iter()
        .map(|request| request.json())
        .collect();
    let variables = json!([{"key": "API_KEY", "value": VALUE}, {"key": "PORT", "value": "8080"}]);
    let common = |more: serde_json::Value| {
        let mut body = json!({
            "type": "web_service", "name": "weather", "ownerId": "tea-1", "autoDeploy": "no", "envVars": variables,
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let details = |runtime: &str, specific: serde_json::Value| {
        json!({
            "region": "frankfurt", "plan": "starter", "healthCheckPath": "/healthz", "runtime": runtime,
            "envSpecificDetails": specific,
        })
    };
    assert_eq!(
        bodies,
        [
            common(json!({
                "repo": "https://github.com/acme/weather", "branch": "main", "rootDir": "servers/weather",
                "serviceDetails": details("node", json!({"buildCommand": "npm ci", "startCommand": "node index.js"})),
            })),
            common(json!({
                "repo": "https://github.com/acme/weather",
                "serviceDetails": details("docker", json!({
                    "dockerfilePath": "./deploy/Dockerfile", "dockerContext": ".", "dockerCommand": "weather --http",
                })),
            })),
            common(json!({
                "image": {"ownerId": "tea-1", "imagePath": "docker.io/library/nginx:1.29"},
                "serviceDetails": details("image", json!({"dockerCommand": "sealport bridge -- npx -y weather@1.2.3"})),
            })),
        ]
    );
}

/// The work may be done or not; the look-up by name tells which, and nothing is made twice.
#[tokio::test(start_paused = true)]
async fn a_service_whose_making_was_not_answered_is_found_by_its_name() {
    for (fault, is_made) in [
        (Fault::LoseAnswer, true),
        (Fault::LoseAnswerAt502, true),
        (Fault::Cut, false),
        (Fault::Hang, false),
    ] {
        let fake = FakeRender::start().await;
        let render = adapter(&fake);
        fake.wire.will("POST /v1/services ", fault.clone());
        let service = weather(native());
        let trouble = render
            .create(&service, &env(&[("A", VALUE)]))
            .await
            .unwrap_err();
        assert!(
            matches!(trouble, Trouble::Lost { .. }),
            "{fault:?}: {trouble:?}"
        );
        assert!(trouble.may_be_done());

        let found = render.services_named("tea-1", "weather").await.unwrap();
        assert_eq!(found.len(), usize::from(is_made), "{fault:?}");
        if let [service] = found.as_slice() {
            assert!(!service.suspended && service.url.is_some());
            let deploys = render.deploys(&service.id, 1).await.unwrap();
            assert_eq!(deploys.len(), 1, "its first deploy is found too");
            assert_eq!(deploys[0].state, DeployState::Created);
        }
        let posts = fake
            .wire
            .lines()
            .iter()
            .filter(|line| line.starts_with("POST"))
            .count();
        assert_eq!(posts, 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn making_waits_where_nothing_was_done() {
    let fake = FakeRender::start().await;
    fake.wire
        .will("POST", Fault::limited("ratelimit-reset", 12));
    let began = Instant::now();
    made(&fake).await;
    assert!(began.elapsed() >= Duration::from_secs(12));
    assert_eq!(fake.state().services.len(), 1);
}

#[tokio::test]
async fn services_are_looked_up_by_their_whole_name() {
    let fake = FakeRender::start().await;
    let render = adapter(&fake);
    {
        let mut state = fake.state();
        state.owners.push(("tea-2".into(), "Other".into(), "team"));
        state.page_items = 2;
    }
    let mut ids = Vec::new();
    for (owner, name) in [
        ("tea-2", "weather"),
        ("tea-1", "weather-2"),
        ("tea-1", "weather"),
        ("tea-1", "weather"),
        ("tea-1", "weather"),
    ] {
        let mut service = weather(image());
        (service.owner, service.name) = (owner.into(), name.into());
        ids.push(render.create(&service, &[]).await.unwrap().service_id);
    }
    let found = render.services_named("tea-1", "weather").await.unwrap();
    let found: Vec<&str> = found.iter().map(|service| service.id.as_str()).collect();
    assert_eq!(found, ids[2..], "the third comes with a later page");
    // A comma is Render's way to ask for several names.
    let both = render
        .services_named("tea-1", "weather,weather-2")
        .await
        .unwrap();
    assert_eq!(both, []);
    assert_eq!(fake.wrong(), [""; 0]);
}

#[tokio::test]
async fn a_service_is_described() {
    let fake = FakeRender::start().await;
    fake.serve_at("http://127.0.0.1:9/");
    let (render, id, _) = made(&fake).await;
    let service = render.service(&id).await.unwrap();
    assert_eq!(service.url.unwrap().as_str(), "http://127.0.0.1:9/");
    assert_eq!(service.branch.as_deref(), Some("main"));
    assert_eq!(service.folder.as_deref(), Some("servers/weather"));
    assert_eq!(service.region.as_deref(), Some("frankfurt"));
    assert_eq!(service.runtime.as_deref(), Some("node"));
    assert_eq!((service.image, service.suspended), (None, false));
    let trouble = render.service("srv-none").await.unwrap_err();
    assert!(matches!(trouble, Trouble::NotFound { .. }), "{trouble:?}");
}

#[tokio::test]
async fn only_what_changes_is_sent() {
    let fake = FakeRender::start().await;
    let (render, id, _) = made(&fake).await;
    let sent_before = fake.wire.lines().len();
    for nothing in [
        ServiceChange::default(),
        ServiceChange {
            plan: Some(Plan::Free),
            ..ServiceChange::default()
        },
    ] {
        render.change("tea-1", &id, &nothing).await.unwrap();
    }
    assert_eq!(fake.wire.lines().len(), sent_before);

    let change = ServiceChange {
        plan: Some(Plan::Pro),
        health_check_path: Some("/up".into()),
        source: None,
    };
    render.change("tea-1", &id, &change).await.unwrap();
    for source in [native(), dockerfile(), image()] {
        let change = ServiceChange {
            source: Some(source),
            ..ServiceChange::default()
        };
        render.change("tea-1", &id, &change).await.unwrap();
    }
    assert_eq!(fake.wrong(), [""; 0]);
    let patches: Vec<_> = fake.wire.recorded().split_off(sent_before);
    assert_eq!(
        patches[0].json(),
        json!({"serviceDetails": {"healthCheckPath": "/up", "plan": "pro"}})
    );
    assert_eq!(patches[1].json()["rootDir"], "servers/weather");
    assert_eq!(
        patches[2].json()["rootDir"],
        "",
        "the folder of before goes"
    );
    assert_eq!(patches[2].json().get("branch"), None, "the branch stays");
    assert_eq!(patches[3].json()["image"]["ownerId"], "tea-1");
}

#[tokio::test]
async fn only_our_variables_are_set_and_removed() {
    let fake = FakeRender::start().await;
    let (render, id, _) = made(&fake).await;
    let sent_before = fake.wire.lines().len();
    render
        .set_env(
            &id,
            &env(&[("API_KEY", "another-value"), ("NEW", "new-value")]),
            // One is not there, one is set at the same time.
            &names(&["OLD", "NEW"]),
        )
        .await
        .unwrap();
    let sent = fake.wire.recorded().split_off(sent_before);
    assert!(
        sent.iter().all(|request| request.method != "GET"),
        "nobody's values are asked for"
    );
    {
        let state = fake.state();
        let service = state.service(&id);
        assert_eq!(service.env["API_KEY"], "another-value");
        assert_eq!(service.env["NEW"], "new-value");
        assert_eq!(service.env["THEIRS"], FOREIGN);
        assert_eq!(
            service.deploys[0].env["API_KEY"], VALUE,
            "nothing rolls by itself"
        );
    }
    render
        .set_env(&id, &[], &names(&["API_KEY", "NEW"]))
        .await
        .unwrap();
    assert_eq!(render.env_vars(&id).await.unwrap(), ["THEIRS"]);
    // And with the next deploy it is so.
    let deploy = render.deploy(&id, None).await.unwrap().unwrap();
    let state = fake.state();
    let deploys = &state.service(&id).deploys;
    let newest = deploys.iter().find(|one| one.id == deploy).unwrap();
    assert_eq!(newest.env.len(), 1);
    drop(state);
    assert_eq!(fake.wrong(), [""; 0]);
}

/// Render takes thirty changes a minute.
#[tokio::test(start_paused = true)]
async fn many_variables_wait_for_the_next_minute() {
    let fake = FakeRender::start().await;
    let (render, id, _) = made(&fake).await;
    let many: Vec<(String, String)> = (0..65)
        .map(|n| (format!("NAME_{n}"), format!("value-{n}")))
        .collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    for full in ["NAME_30 ", "NAME_60 "] {
        fake.wire.will(full, Fault::limited("ratelimit-reset", 59));
    }
    let began = Instant::now();
    render.set_env(&id, &env(&many), &[]).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(118));
    assert_eq!(fake.state().service(&id).env.len(), 67);
}

#[tokio::test]
async fn names_come_from_all_pages_and_values_never() {
    let fake = FakeRender::start().await;
    let (render, id, _) = made(&fake).await;
    fake.state().page_items = 1;
    let names = render.env_vars(&id).await.unwrap();
    assert_eq!(names, ["API_KEY", "THEIRS"]);
}

#[tokio::test]
async fn a_deploy_is_watched_to_its_end() {
    use DeployState::*;
    let fake = FakeRender::start().await;
    fake.state().looks_per_state = 3;
    let (render, id, first) = made(&fake).await;
    let begin = [Created, Queued, BuildInProgress];
    let seen = ended(&render, &id, &first).await;
    assert_eq!(seen, [&begin[..], &[UpdateInProgress, Live]].concat());
    for (fail_at, end) in [
        (FailAt::Build, vec![BuildFailed]),
        (
            FailAt::PreDeploy,
            vec![PreDeployInProgress, PreDeployFailed],
        ),
        (FailAt::Update, vec![UpdateInProgress, UpdateFailed]),
    ] {
        fake.state().fail_at = Some(fail_at);
        let deploy = render.deploy(&id, None).await.unwrap().unwrap();
        let seen = ended(&render, &id, &deploy).await;
        assert_eq!(seen, [&begin[..], &end].concat());
        assert!(seen.last().unwrap().has_failed());
    }
    let first_still = render.deploy_state(&id, &first).await.unwrap();
    assert_eq!(first_still, Live, "what failed took nobody's place");
    fake.state().fail_at = None;
    let next = render.deploy(&id, None).await.unwrap().unwrap();
    ended(&render, &id, &next).await;
    assert_eq!(render.deploy_state(&id, &first).await.unwrap(), Deactivated);

    // A word that is newer than this program is waited for.
    let text = json!({"id": next, "status": "warming_up\u{1b}[1m"}).to_string();
    fake.wire.will("/deploys/", Fault::Text(text));
    let state = render.deploy_state(&id, &next).await.unwrap();
    assert_eq!(state, Unknown("warming_up1m".into()));
    assert!(!state.is_over() && !state.has_failed());
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_is_not_told_is_found() {
    let fake = FakeRender::start().await;
    let (render, id, first) = made(&fake).await;
    fake.state().tells_no_deploy = true;
    let second = render.deploy(&id, None).await.unwrap().unwrap();
    assert_ne!(second, first);
    fake.state().tells_no_deploy = false;
    for fault in [Fault::LoseAnswer, Fault::LoseAnswerAt502] {
        fake.wire.will("POST", fault);
        let before = fake.state().service(&id).deploys.len();
        let found = render.deploy(&id, None).await.unwrap().unwrap();
        let state = fake.state();
        let deploys = &state.service(&id).deploys;
        assert_eq!(deploys.len(), before + 1, "one, not two");
        assert_eq!(deploys[before].id, found);
    }
    // Nothing was done: then none is ours, and it is not known that none will be.
    for fault in [Fault::Cut, Fault::status(500)] {
        let before = fake.state().service(&id).deploys.len();
        fake.wire.will("POST", fault);
        let trouble = render.deploy(&id, None).await.unwrap_err();
        assert!(trouble.may_be_done(), "{trouble:?}");
        assert_eq!(fake.state().service(&id).deploys.len(), before);
    }
    fake.wire.will("POST", Fault::limited("retry-after", 600));
    let trouble = render.deploy(&id, None).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Limited { .. }), "{trouble:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deploy_is_cancelled_once() {
    let fake = FakeRender::start().await;
    let (render, id, first) = made(&fake).await;
    assert_eq!(
        render.cancel(&id, &first).await.unwrap(),
        DeployState::Canceled
    );
    // It is over, which Render refuses to change.
    assert_eq!(
        render.cancel(&id, &first).await.unwrap(),
        DeployState::Canceled
    );
    let second = render.deploy(&id, None).await.unwrap().unwrap();
    fake.wire.will("POST", Fault::LoseAnswer);
    assert_eq!(
        render.cancel(&id, &second).await.unwrap(),
        DeployState::Canceled
    );
    let third = render.deploy(&id, None).await.unwrap().unwrap();
    fake.wire.will("POST", Fault::Cut);
    let trouble = render.cancel(&id, &third).await.unwrap_err();
    assert!(
        matches!(trouble, Trouble::Lost { .. }),
        "it goes on: {trouble:?}"
    );
    let trouble = render.cancel(&id, "dep-none").await.unwrap_err();
    assert!(matches!(trouble, Trouble::NotFound { .. }), "{trouble:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_stopped_started_and_removed() {
    let fake = FakeRender::start().await;
    let (render, id, _) = made(&fake).await;
    for _ in 0..2 {
        render.suspend(&id).await.unwrap();
        assert!(render.service(&id).await.unwrap().suspended);
    }
    // Done and not answered, so it is asked again, and refused because it is so.
    fake.wire.will("POST", Fault::LoseAnswer);
    render.resume(&id).await.unwrap();
    assert!(!render.service(&id).await.unwrap().suspended);
    fake.wire.will("POST", Fault::status(400));
    let trouble = render.suspend(&id).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Refused { .. }), "{trouble:?}");

    // A page that says 404 is from somebody who does not know.
    fake.wire.will("DELETE", Fault::Html(404));
    let trouble = render.delete(&id).await.unwrap_err();
    assert!(matches!(trouble, Trouble::NotJson { .. }), "{trouble:?}");
    assert_eq!(fake.state().services.len(), 1);
    fake.wire.will("DELETE", Fault::LoseAnswer);
    render.delete(&id).await.unwrap();
    assert_eq!(fake.state().services.len(), 0);
    render.delete(&id).await.unwrap();
    let trouble = render.suspend(&id).await.unwrap_err();
    assert!(matches!(trouble, Trouble::NotFound { .. }), "{trouble:?}");
    assert_eq!(fake.wrong(), [""; 0]);
}

async fn texts(render: &Render, mark: &mut LogMark) -> Vec<String> {
    let (lines, next) = render.logs("tea-1", "srv-1", mark).await.unwrap();
    // What is kept between two calls comes back as it was.
    let kept = serde_json::to_string(&next).unwrap();
    *mark = serde_json::from_str(&kept).unwrap();
    assert_eq!(*mark, next);
    lines.into_iter().map(|line| line.text).collect()
}

#[tokio::test]
async fn lines_come_once_and_in_order() {
    let fake = FakeRender::start().await;
    fake.state().page_items = 5;
    let render = adapter(&fake);
    let print = |secs: f64, text: &str| fake.print("srv-1", secs, text, "app", text);
    print(-60.0, "before");
    for n in 0..10 {
        // Several at one instant, over the ends of pages.
        print(f64::from(n / 3), &format!("line {n}"));
    }
    let mut mark = LogMark::at(fake.began() - time::Duration::seconds(1));
    let all: Vec<String> = (0..10).map(|n| format!("line {n}")).collect();
    let mut got = texts(&render, &mut mark).await;
    got.extend(texts(&render, &mut mark).await);
    assert_eq!(got, all);
    assert_eq!(texts(&render, &mut mark).await, [""; 0]);

    print(3.0, "later");
    // Printed before that, and come after it.
    print(1.5, "late");
    assert_eq!(texts(&render, &mut mark).await, ["late", "later"]);
    assert_eq!(texts(&render, &mut mark).await, [""; 0]);
    // In the meantime much was printed: not all comes at once, but all comes.
    for n in 0..70 {
        print(10.0 + f64::from(n) / 10.0, &format!("more {n}"));
    }
    let mut got = Vec::new();
    loop {
        let some = texts(&render, &mut mark).await;
        if some.is_empty() {
            break;
        }
        got.extend(some);
    }
    let more: Vec<String> = (0..70).map(|n| format!("more {n}")).collect();
    assert_eq!(got, more);
    assert_eq!(fake.wrong(), [""; 0]);
}

/// More at one instant than a page holds: what follows comes nevertheless.
#[tokio::test]
async fn a_crowd_of_lines_holds_nobody_up() {
    let fake = FakeRender::start().await;
    fake.state().page_items = 3;
    let render = adapter(&fake);
    for n in 0..9 {
        let id = format!("crowd {n}");
        fake.print("srv-1", 1.0, &id, "app", &id);
    }
    fake.print("srv-1", 2.0, "after", "app", "after");
    let mut mark = LogMark::at(fake.began());
    let mut got = Vec::new();
    for _ in 0..4 {
        got.extend(texts(&render, &mut mark).await);
    }
    assert_eq!(got.last().map(String::as_str), Some("after"));
    let mut once = got.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), got.len(), "{got:?}");
}

#[tokio::test]
async fn lines_tell_what_printed_them() {
    let fake = FakeRender::start().await;
    let render = adapter(&fake);
    for (n, kind) in ["build", "app", "request", "new-kind"]
        .into_iter()
        .enumerate()
    {
        fake.print("srv-1", n as f64, kind, kind, VALUE);
    }
    let mark = LogMark::at(fake.began());
    let (lines, _) = render.logs("tea-1", "srv-1", &mark).await.unwrap();
    let kinds: Vec<LogKind> = lines.iter().map(|line| line.kind.clone()).collect();
    let other = LogKind::Other("new-kind".into());
    assert_eq!(
        kinds,
        [LogKind::Build, LogKind::App, LogKind::Request, other]
    );
    assert_eq!(lines[0].level.as_deref(), Some("info"));
    assert_eq!(lines[0].text, VALUE);
    assert!(
        !format!("{lines:?}").contains(VALUE),
        "a line shows nothing until it is masked"
    );
}

pub const CALLS: [&str; 14] = [
    "check",
    "services_named",
    "create",
    "service",
    "change",
    "env_vars",
    "set_env",
    "remove_env",
    "deploy",
    "deploys",
    "deploy_state",
    "suspend",
    "logs",
    "delete",
];

/// Each function once, with what it answers as it prints.
pub async fn call(render: &Render, name: &str, id: &str, deploy: &str) -> Result<String, Trouble> {
    let variables = env(&[("API_KEY", VALUE)]);
    fn shown<T: std::fmt::Debug>(answer: Result<T, Trouble>) -> Result<String, Trouble> {
        answer.map(|answer| format!("{answer:?}"))
    }
    match name {
        "check" => shown(render.check().await),
        "services_named" => shown(render.services_named("tea-1", "weather").await),
        "create" => shown(render.create(&weather(native()), &variables).await),
        "service" => shown(render.service(id).await),
        "change" => {
            let change = ServiceChange {
                source: Some(native()),
                health_check_path: Some("/up".into()),
                plan: Some(Plan::Standard),
            };
            shown(render.change("tea-1", id, &change).await)
        }
        "env_vars" => shown(render.env_vars(id).await),
        "set_env" => shown(render.set_env(id, &variables, &[]).await),
        "remove_env" => shown(render.set_env(id, &[], &names(&["API_KEY"])).await),
        "deploy" => shown(render.deploy(id, Some("c0ffee")).await),
        "deploys" => shown(render.deploys(id, 5).await),
        "deploy_state" => shown(render.deploy_state(id, deploy).await),
        "cancel" => shown(render.cancel(id, deploy).await),
        "suspend" => shown(render.suspend(id).await),
        "resume" => shown(render.resume(id).await),
        "logs" => {
            let since = time::OffsetDateTime::now_utc() - time::Duration::minutes(1);
            shown(render.logs("tea-1", id, &LogMark::at(since)).await)
        }
        "delete" => shown(render.delete(id).await),
        _ => panic!("no such function: {name}"),
    }
}

#[tokio::test]
async fn each_failure_ends_each_function_with_its_name() {
    let faults = [
        (Fault::status(401), "Unauthorised"),
        (Fault::status(402), "Payment"),
        (Fault::status(403), "Refused"),
        (Fault::status(404), "NotFound"),
        (Fault::limited("retry-after", 900), "Limited"),
        (Fault::limited("ratelimit-reset", 900), "Limited"),
        (Fault::limited("x-ratelimit-reset", 900), "Limited"),
        (Fault::status(500), "Refused"),
        (Fault::Html(200), "NotJson"),
        (Fault::Html(403), "NotJson"),
        (Fault::Redirect("http://127.0.0.1:1/".into()), "Moved"),
        (Fault::Huge { announced: true }, "TooLarge"),
    ];
    for name in CALLS {
        for (fault, wanted) in &faults {
            let fake = FakeRender::start().await;
            let (render, id, deploy) = made(&fake).await;
            fake.wire.will("", fault.clone());
            let answer = call(&render, name, &id, &deploy).await;
            // What is not there is removed.
            if *wanted == "NotFound" && ["remove_env", "delete"].contains(&name) {
                answer.unwrap();
                continue;
            }
            let trouble = answer.unwrap_err();
            let kind = format!("{trouble:?}");
            assert_eq!(kind.split(' ').next(), Some(*wanted), "{name} {fault:?}");
            assert_eq!(fake.state().services.len(), 1, "{name} {fault:?}");
        }
    }
}

/// With all that libraries say too; over every function, well and badly ended.
#[tokio::test(start_paused = true)]
async fn no_key_and_no_value_is_shown() {
    let heard = Heard::listen();
    let mut shown = String::new();
    let mut echoes = 0;
    for fault in [
        None,
        Some(Fault::Echo),
        Some(Fault::Cut),
        Some(Fault::status(503)),
    ] {
        for name in CALLS.into_iter().chain(["cancel", "resume"]) {
            let fake = FakeRender::start().await;
            let (render, id, deploy) = made(&fake).await;
            fake.print(&id, 1.0, "line", "app", VALUE);
            shown.push_str(&format!("{render:?}"));
            if let Some(fault) = &fault {
                fake.wire.will("", fault.clone());
            }
            match call(&render, name, &id, &deploy).await {
                Ok(answer) => shown.push_str(&answer),
                Err(trouble) => {
                    shown.push_str(&format!("{trouble} {trouble:?}"));
                    let masks = Masks::new([&SecretString::from(VALUE)]);
                    let masked = trouble.masked(&masks);
                    echoes += usize::from(masked.to_string().contains(MASK));
                    shown.push_str(&format!("{masked} {masked:?}"));
                }
            }
        }
    }
    assert!(echoes > 10, "what Render says is told: {echoes}");
    let heard = heard.text();
    assert!(heard.contains("env-vars"), "something is logged at all");
    for text in [&shown, &heard] {
        for canary in [KEY, VALUE, FOREIGN] {
            assert!(!text.contains(canary), "{canary}");
        }
    }
}
