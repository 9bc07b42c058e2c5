//! The adapter of Railway against a Railway of the test's own; what it can send, against Railway's schema.

#[path = "railway/contract.rs"]
mod contract;
#[path = "railway/failures.rs"]
mod failures;
#[path = "railway/logs.rs"]
mod logs;
#[path = "railway/quiet.rs"]
mod quiet;

use sealport::deploy::masks::Masks;
use sealport::deploy::providers::Trouble;
use sealport::deploy::providers::railway::{
    Change, DeploymentId, DeploymentState, EnvironmentId, NewService, Place, ProjectId, Railway,
    Service, ServiceSettings, Source, TokenKind, WorkspaceId,
};
use sealport::model::paths::EnvName;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::fakes::railway::{ACCOUNT_KEY, FakeRailway, PROJECT_KEY, WORKSPACE_KEY};
use crate::fakes::wire::Fault;

const VALUE: &str = "canary-9b27-e61f\"'\\<ö>";

fn env(name: &str) -> EnvName {
    EnvName::parse(name).unwrap()
}

fn values(of: &[(&str, &str)]) -> Vec<(EnvName, SecretString)> {
    of.iter()
        .map(|(name, value)| (env(name), SecretString::from(*value)))
        .collect()
}

fn image() -> Source {
    Source::Image("ghcr.io/ada/server:1.2.0".into())
}

/// A Railway of the test's own, and the adapter with a key for it.
struct House {
    fake: FakeRailway,
    railway: Railway,
    project: ProjectId,
    environment: EnvironmentId,
}

impl House {
    /// With a key whose kind is known, so that each call is one request.
    async fn new() -> House {
        let house = House::with_key(ACCOUNT_KEY).await;
        House {
            railway: house.railway.with_kind(TokenKind::Account),
            ..house
        }
    }

    async fn with_key(key: &str) -> House {
        let fake = FakeRailway::start().await;
        let railway =
            Railway::new(fake.url.clone(), SecretString::from(key), fake.hosts()).unwrap();
        let (project, environment) = {
            let state = fake.state();
            (
                state.projects[0].id.clone(),
                state.environments[0].id.clone(),
            )
        };
        House {
            fake,
            railway,
            project: project.into(),
            environment: environment.into(),
        }
    }

    fn service<'a>(&'a self, name: &'a str, source: Option<&'a Source>) -> NewService<'a> {
        NewService {
            project: &self.project,
            environment: &self.environment,
            name,
            source,
        }
    }

    /// A service that was made; its deployment has begun.
    async fn made(&self, name: &str) -> Place {
        let source = image();
        let new = self.service(name, Some(&source));
        let made = self
            .railway
            .service_create(&new, &values(&[("API_KEY", VALUE)]))
            .await
            .unwrap();
        self.place(&made)
    }

    fn place(&self, service: &Service) -> Place {
        Place {
            project: self.project.clone(),
            environment: self.environment.clone(),
            service: service.id.clone(),
        }
    }

    async fn latest(&self, place: &Place) -> DeploymentId {
        let latest = self.railway.latest_deployment(place).await.unwrap();
        latest.unwrap().id
    }

    fn last_variables(&self) -> Value {
        let asked = self.fake.asked().pop().unwrap();
        Value::Object(asked.variables)
    }
}

#[tokio::test]
async fn each_kind_of_key_is_found_out_and_says_what_it_reaches() {
    let house = House::with_key(ACCOUNT_KEY).await;
    house.fake.state().new_project("other", "workspace-2");
    let account = house.railway.check().await.unwrap();
    assert_eq!(account.kind, TokenKind::Account);
    let names: Vec<&str> = account
        .workspaces
        .iter()
        .map(|of| of.name.as_str())
        .collect();
    assert_eq!(names, ["Ada's", "The team"]);
    let projects: Vec<&str> = account.projects.iter().map(|of| of.name.as_str()).collect();
    assert_eq!(projects, ["existing", "other"]);
    assert_eq!(account.projects[0].environments[0].name, "production");
    assert!(!account.cut);
    assert_eq!(house.fake.fields(), ["me", "projects", "projects"]);
    assert!(
        house
            .fake
            .asked()
            .iter()
            .all(|asked| asked.header == "authorization")
    );

    let house = House::with_key(WORKSPACE_KEY).await;
    house.fake.state().new_project("other", "workspace-2");
    let account = house.railway.check().await.unwrap();
    assert_eq!(account.kind, TokenKind::Workspace);
    assert_eq!((account.workspaces.len(), account.projects.len()), (1, 1));
    assert_eq!(house.fake.fields(), ["me", "apiToken", "projects"]);

    let house = House::with_key(PROJECT_KEY).await;
    let account = house.railway.check().await.unwrap();
    assert_eq!(account.kind, TokenKind::Project);
    assert!(account.workspaces.is_empty());
    assert_eq!(account.projects[0].id, house.project);
    assert_eq!(account.projects[0].environments[0].id, house.environment);
    assert_eq!(house.fake.fields(), ["me", "apiToken", "projectToken"]);
    // Known now, and sent in its own header.
    house
        .railway
        .services_named(&house.project, "x")
        .await
        .unwrap();
    assert_eq!(house.fake.times("me"), 1);
    assert_eq!(
        house.fake.asked().pop().unwrap().header,
        "project-access-token"
    );
}

#[tokio::test]
async fn a_key_that_was_not_checked_is_asked_for_once() {
    let house = House::with_key(PROJECT_KEY).await;
    // However a key is refused.
    house.fake.will("me", Fault::status(401));
    for name in ["x", "y"] {
        let found = house.railway.services_named(&house.project, name).await;
        assert_eq!(found.unwrap(), []);
    }
    assert_eq!(
        house.fake.fields(),
        ["me", "apiToken", "projectToken", "project", "project"]
    );
    assert_eq!(house.railway.kind().await.unwrap(), TokenKind::Project);
}

#[tokio::test]
async fn a_dead_key_and_missing_access_are_told_as_both() {
    let house = House::with_key("railway-key-that-is-dead").await;
    for said in [
        house.railway.check().await.unwrap_err(),
        house
            .railway
            .services_named(&house.project, "x")
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(said, Trouble::NoAccess { .. }), "{said:?}");
        let text = said.to_string();
        assert!(
            text.contains("Railway") && text.contains("not valid"),
            "{text}"
        );
        assert!(text.contains("does not reach this workspace"), "{text}");
    }
    // A key that lives, where it may not.
    let house = House::with_key(PROJECT_KEY).await;
    let (other, _) = house.fake.state().new_project("other", "workspace-2");
    let said = house.railway.services_named(&other.into(), "x").await;
    assert!(matches!(said, Err(Trouble::NoAccess { .. })));
    let said = house.railway.project_create("mine", None).await;
    assert!(matches!(said, Err(Trouble::NoAccess { .. })));
    assert_eq!(house.fake.state().projects.len(), 2, "none was made");
}

#[tokio::test]
async fn projects_and_environments_are_found_by_name_on_any_page() {
    let house = House::new().await;
    let one = WorkspaceId::from("workspace-1".to_owned());
    let last = {
        let mut state = house.fake.state();
        for number in 0..6 {
            state.new_project(&format!("project {number}"), "workspace-1");
        }
        state.new_project("wanted", "workspace-2");
        let deleted = state.projects.len();
        state.new_project("wanted", "workspace-1");
        state.projects[deleted].deleted = true;
        state.new_project("wanted", "workspace-1").0
    };
    let found = house
        .railway
        .projects_named(Some(&one), "wanted")
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id.as_str(), last);
    assert!(house.fake.times("projects") > 2, "page by page");
    let anywhere = house.railway.projects_named(None, "wanted").await.unwrap();
    assert_eq!(anywhere.len(), 2);
    let none = house
        .railway
        .projects_named(Some(&one), "want")
        .await
        .unwrap();
    assert_eq!(none, []);

    let (project, first) = house
        .railway
        .project_create("new", Some(&one))
        .await
        .unwrap();
    assert_eq!(
        (project.name.as_str(), first.name.as_str()),
        ("new", "production")
    );
    assert_eq!(
        house.last_variables(),
        json!({"input": {"name": "new", "workspaceId": "workspace-1"}})
    );
    for name in ["a", "b", "c"] {
        house
            .fake
            .state()
            .new_environment(name, project.id.as_str());
    }
    let made = house
        .railway
        .environment_create(&project.id, "staging")
        .await
        .unwrap();
    let found = house
        .railway
        .environment_find(&project.id, "staging")
        .await
        .unwrap();
    assert_eq!(found, Some(made));
    let none = house
        .railway
        .environment_find(&project.id, "stag")
        .await
        .unwrap();
    assert_eq!(none, None);
    let missing = ProjectId::from("no-such-project".to_owned());
    let said = house.railway.environment_find(&missing, "x").await;
    assert!(matches!(said, Err(Trouble::NotFound { .. })));
}

/// Seen in part, a list would say that something is not there, and it would be made twice.
#[tokio::test]
async fn a_list_without_an_end_is_no_list() {
    let house = House::new().await;
    {
        let mut state = house.fake.state();
        state.page_len = 1;
        for number in 0..60 {
            state.new_project(&format!("project {number}"), "workspace-1");
        }
    }
    let said = house.railway.projects_named(None, "none of them").await;
    assert!(matches!(said, Err(Trouble::TooLarge { .. })));
    assert!(house.fake.times("projects") < 60);
    // A person who chooses from it sees the first, and that there are more.
    let account = house.railway.check().await.unwrap();
    assert!(account.cut && !account.projects.is_empty());
}

#[tokio::test]
async fn a_service_from_an_image_has_its_variables_when_its_build_starts() {
    let house = House::new().await;
    let place = house.made("shop").await;
    assert_eq!(house.fake.fields(), ["serviceCreate"], "in one call");
    assert_eq!(
        house.last_variables(),
        json!({"input": {
            "projectId": house.project.as_str(),
            "environmentId": house.environment.as_str(),
            "name": "shop",
            "source": {"image": "ghcr.io/ada/server:1.2.0"},
            "variables": {"API_KEY": VALUE},
        }})
    );
    let id = house.latest(&place).await;
    assert_eq!(
        house.fake.state().deployment(id.as_str()).variables["API_KEY"],
        VALUE
    );
    let mut states = Vec::new();
    loop {
        let seen = house.railway.deployment(&id).await.unwrap();
        assert_eq!(seen.id, id);
        states.push(seen.state);
        if seen.state == DeploymentState::Success {
            break;
        }
    }
    assert_eq!(
        states,
        [
            DeploymentState::Initializing,
            DeploymentState::Building,
            DeploymentState::Deploying,
            DeploymentState::Success
        ]
    );
    let domain = house.railway.domain_create(&place, 8080).await.unwrap();
    assert_eq!(domain.port, Some(8080));
    let again = house.railway.domain_create(&place, 9090).await.unwrap();
    assert_eq!(again, domain, "there is one, and it stays");
    assert_eq!(house.fake.times("serviceDomainCreate"), 1);
    let domains = house.railway.domains(&place).await.unwrap();
    assert_eq!(domains.given, std::slice::from_ref(&domain));
    assert!(domains.own.is_empty());
    let seen = house.railway.deployment(&id).await.unwrap();
    assert_eq!(seen.static_url, Some(domain.name));
}

#[tokio::test]
async fn a_service_from_a_repository_names_its_branch() {
    let house = House::new().await;
    let source = Source::Repository {
        name: "ada/server".into(),
        branch: Some("main".into()),
    };
    let new = house.service("shop", Some(&source));
    house.railway.service_create(&new, &[]).await.unwrap();
    assert_eq!(
        house.last_variables()["input"],
        json!({
            "projectId": house.project.as_str(),
            "environmentId": house.environment.as_str(),
            "name": "shop",
            "branch": "main",
            "source": {"repo": "ada/server"},
        })
    );
}

#[tokio::test]
async fn an_empty_service_deploys_nothing_until_it_is_connected() {
    let house = House::new().await;
    let new = house.service("shop", None);
    let made = house.railway.service_create(&new, &[]).await.unwrap();
    let place = house.place(&made);
    house
        .railway
        .variables_set(&place, &values(&[("API_KEY", VALUE)]), true)
        .await
        .unwrap();
    let settings = ServiceSettings {
        start_command: Change::To("sealport bridge -- npx -y thing@1".into()),
        ..ServiceSettings::default()
    };
    house.railway.service_set(&place, &settings).await.unwrap();
    assert_eq!(house.railway.latest_deployment(&place).await.unwrap(), None);
    let source = Source::Repository {
        name: "ada/server".into(),
        branch: None,
    };
    house
        .railway
        .service_connect(&place.service, &source)
        .await
        .unwrap();
    let id = house.latest(&place).await;
    let mut state = house.fake.state();
    assert_eq!(state.deployments.len(), 1);
    assert_eq!(state.deployment(id.as_str()).variables["API_KEY"], VALUE);
    assert_eq!(
        state.services[0].settings["startCommand"],
        "sealport bridge -- npx -y thing@1"
    );
}

#[tokio::test]
async fn settings_are_kept_cleared_or_set() {
    let house = House::new().await;
    let place = house.made("shop").await;
    let first = ServiceSettings {
        start_command: Change::To("serve".into()),
        build_command: Change::To("make".into()),
        root_directory: Change::To("/server".into()),
        healthcheck_path: Change::To("/healthz".into()),
        source: Some(Source::Image("ghcr.io/ada/server:1.3.0".into())),
        ..ServiceSettings::default()
    };
    house.railway.service_set(&place, &first).await.unwrap();
    let second = ServiceSettings {
        start_command: Change::Clear,
        build_command: Change::To("make all".into()),
        ..ServiceSettings::default()
    };
    house.railway.service_set(&place, &second).await.unwrap();
    assert_eq!(
        house.last_variables(),
        json!({
            "serviceId": place.service.as_str(),
            "environmentId": house.environment.as_str(),
            "input": {"startCommand": null, "buildCommand": "make all"},
        })
    );
    let state = house.fake.state();
    assert_eq!(
        Value::Object(state.services[0].settings.clone()),
        json!({"buildCommand": "make all", "rootDirectory": "/server", "healthcheckPath": "/healthz"})
    );
    assert_eq!(
        state.services[0].source["image"],
        "ghcr.io/ada/server:1.3.0"
    );
    assert_eq!(state.deployments.len(), 1, "settings deploy nothing");
}

#[tokio::test]
async fn variables_are_set_and_removed_one_by_one_and_never_read() {
    let house = House::new().await;
    let place = house.made("shop").await;
    house.fake.state().services[0]
        .variables
        .insert("THEIRS".into(), "set by hand".into());
    let other = house.made("other").await;
    let deployed = house.fake.state().deployments.len();
    let new = values(&[("API_KEY", "second"), ("REGION", "eu")]);
    house
        .railway
        .variables_set(&place, &new, true)
        .await
        .unwrap();
    let sent = house.last_variables();
    assert_eq!(sent["input"]["replace"], false);
    assert_eq!(sent["input"]["skipDeploys"], true);
    assert_eq!(house.fake.state().deployments.len(), deployed, "skipped");
    house
        .railway
        .variables_set(&place, &new, false)
        .await
        .unwrap();
    assert_eq!(house.fake.state().deployments.len(), deployed + 1);
    let kept = house.fake.state().services[0].variables.clone();
    assert_eq!(kept["API_KEY"], "second");
    assert_eq!(kept["THEIRS"], "set by hand");

    let names = house.railway.variable_names(&place).await.unwrap();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(names, ["API_KEY", "REGION", "THEIRS"], "and no one else's");
    assert_eq!(
        house.fake.times("variables"),
        0,
        "which answers with values"
    );

    // One that is not there is removed.
    let gone = [env("API_KEY"), env("NEVER_SET"), env("REGION")];
    house.railway.variables_remove(&place, &gone).await.unwrap();
    let left = house.railway.variable_names(&place).await.unwrap();
    assert_eq!(left.into_iter().collect::<Vec<_>>(), ["THEIRS"]);
    assert!(
        !house
            .railway
            .variable_names(&other)
            .await
            .unwrap()
            .is_empty()
    );
}

/// Railway would put another variable's value there, or nothing.
#[tokio::test]
async fn a_value_with_a_reference_is_refused_before_anything_is_sent() {
    let house = House::with_key(ACCOUNT_KEY).await;
    let source = image();
    let place = Place {
        project: house.project.clone(),
        environment: house.environment.clone(),
        service: "service-1".to_owned().into(),
    };
    for value in ["${{", "a${{Postgres.PASSWORD}}z", "${{secret()}}"] {
        let given = values(&[("FINE", "$ {{ and $${ } are"), ("API_KEY", value)]);
        let new = house.service("shop", Some(&source));
        for said in [
            house
                .railway
                .service_create(&new, &given)
                .await
                .unwrap_err(),
            house
                .railway
                .variables_set(&place, &given, true)
                .await
                .unwrap_err(),
        ] {
            assert!(matches!(said, Trouble::Reference { .. }), "{said:?}");
            assert!(!said.may_be_done());
            let text = said.to_string();
            assert!(
                text.contains("API_KEY") && text.contains("replaces"),
                "{text}"
            );
            for text in [text, format!("{said:?}")] {
                assert!(
                    !text.contains("Postgres") && !text.contains("secret()"),
                    "{text}"
                );
            }
        }
    }
    assert!(house.fake.asked().is_empty());
    let fine = values(&[("FINE", "$ {{ and $${ } are")]);
    let new = house.service("shop", Some(&source));
    house.railway.service_create(&new, &fine).await.unwrap();
}

#[tokio::test]
async fn every_state_is_known_and_a_new_one_is_unknown() {
    let house = House::new().await;
    let place = house.made("shop").await;
    let id = house.latest(&place).await;
    for (name, state) in [
        ("QUEUED", DeploymentState::Queued),
        ("WAITING", DeploymentState::Waiting),
        ("NEEDS_APPROVAL", DeploymentState::NeedsApproval),
        ("INITIALIZING", DeploymentState::Initializing),
        ("BUILDING", DeploymentState::Building),
        ("DEPLOYING", DeploymentState::Deploying),
        ("SUCCESS", DeploymentState::Success),
        ("SLEEPING", DeploymentState::Sleeping),
        ("FAILED", DeploymentState::Failed),
        ("CRASHED", DeploymentState::Crashed),
        ("SKIPPED", DeploymentState::Skipped),
        ("REMOVING", DeploymentState::Removing),
        ("REMOVED", DeploymentState::Removed),
        ("PONDERING", DeploymentState::Unknown),
    ] {
        house.fake.state().deployment(id.as_str()).becomes(name);
        let seen = house.railway.deployment(&id).await.unwrap();
        assert_eq!(seen.state, state, "{name}");
    }
}

#[tokio::test]
async fn builds_that_fail_are_seen_to_fail() {
    for (course, end) in [
        (
            vec!["QUEUED", "BUILDING", "FAILED"],
            DeploymentState::Failed,
        ),
        (
            vec!["QUEUED", "NEEDS_APPROVAL"],
            DeploymentState::NeedsApproval,
        ),
        (
            vec!["QUEUED", "BUILDING", "DEPLOYING", "CRASHED"],
            DeploymentState::Crashed,
        ),
    ] {
        let house = House::new().await;
        let steps = course.len();
        house.fake.state().courses.push_back(course);
        let place = house.made("shop").await;
        let id = house.latest(&place).await;
        let mut seen = DeploymentState::Queued;
        for _ in 0..steps {
            seen = house.railway.deployment(&id).await.unwrap().state;
        }
        assert_eq!(seen, end);
    }
}

#[tokio::test]
async fn deployments_are_stopped_restarted_cancelled_and_removed() {
    let house = House::new().await;
    let place = house.made("shop").await;
    let id = house.latest(&place).await;
    house.railway.deployment_cancel(&id).await.unwrap();
    let seen = house.railway.deployment(&id).await.unwrap();
    assert_eq!(seen.state, DeploymentState::Removed);

    let second = house.railway.deploy(&place, None).await.unwrap();
    assert_ne!(second, id);
    assert_eq!(house.latest(&place).await, second);
    house
        .fake
        .state()
        .deployment(second.as_str())
        .becomes("SUCCESS");
    let said = house.railway.deployment_cancel(&second).await.unwrap_err();
    assert!(matches!(said, Trouble::Refused { status: 200, .. }));
    let said = said.masked(&Masks::none()).to_string();
    assert!(said.contains("cannot be changed in its state"), "{said}");

    house.railway.deployment_stop(&second).await.unwrap();
    let seen = house.railway.deployment(&second).await.unwrap();
    assert_eq!(seen.state, DeploymentState::Removed);
    house.railway.deployment_restart(&second).await.unwrap();
    assert_eq!(house.fake.state().deployment(second.as_str()).restarts, 1);
    // A second time there is nothing left to do.
    for _ in 0..2 {
        house.railway.deployment_remove(&second).await.unwrap();
        house.railway.service_delete(&place.service).await.unwrap();
    }
    assert!(house.fake.state().services_named("shop").is_empty());
    let named = house.railway.services_named(&house.project, "shop").await;
    assert_eq!(named.unwrap(), []);
    let said = house.railway.deployment(&second).await;
    assert!(matches!(said, Err(Trouble::NotFound { .. })));
    let said = house.railway.latest_deployment(&place).await;
    assert!(matches!(said, Err(Trouble::NotFound { .. })));
}

#[tokio::test]
async fn what_runs_is_known_beside_what_failed_and_what_is_on_its_way() {
    let house = House::new().await;
    let place = house.made("shop").await;
    let first = house.latest(&place).await;
    let standing = || async {
        let standing = house.railway.standing_deployments(&place).await.unwrap();
        standing.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(standing().await, std::slice::from_ref(&first));
    house
        .fake
        .state()
        .deployment(first.as_str())
        .becomes("SUCCESS");
    assert_eq!(standing().await, std::slice::from_ref(&first));
    let second = house.railway.deploy(&place, None).await.unwrap();
    assert_eq!(standing().await, [first.clone(), second.clone()]);
    house
        .fake
        .state()
        .deployment(second.as_str())
        .becomes("FAILED");
    assert_eq!(standing().await, [first]);
}

#[tokio::test]
async fn a_project_is_empty_without_services_and_volumes_and_ends() {
    let house = House::new().await;
    let (made, _) = house.railway.project_create("shop", None).await.unwrap();
    assert!(house.railway.project_is_empty(&made.id).await.unwrap());
    let volume = json!({ "id": "volume-1" });
    house.fake.state().projects[1].volumes.push(volume);
    assert!(!house.railway.project_is_empty(&made.id).await.unwrap());
    let place = house.made("shop").await;
    assert!(
        !house
            .railway
            .project_is_empty(&place.project)
            .await
            .unwrap()
    );
    house.railway.service_delete(&place.service).await.unwrap();
    assert!(
        house
            .railway
            .project_is_empty(&place.project)
            .await
            .unwrap()
    );
    // A second time there is nothing left to do.
    for _ in 0..2 {
        house.railway.project_delete(&made.id).await.unwrap();
    }
    let said = house.railway.project_is_empty(&made.id).await;
    assert!(matches!(said, Err(Trouble::NotFound { .. })));
}
