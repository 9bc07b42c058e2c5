//! What goes wrong between us and Railway, and that nothing is done twice for it.

use super::*;

/// A service that is to be made, for requests that are sent once.
async fn create(house: &House) -> Result<Service, Trouble> {
    let source = image();
    let new = house.service("shop", Some(&source));
    let given = values(&[("API_KEY", VALUE)]);
    house.railway.service_create(&new, &given).await
}

/// Both ways in which an answer is lost after the work was done.
fn losses() -> [Fault; 2] {
    [Fault::LoseAnswer, Fault::LoseAnswerAt502]
}

fn lost<T>(outcome: Result<T, Trouble>) -> bool {
    outcome.is_err_and(|trouble| matches!(trouble, Trouble::Lost { .. }) && trouble.may_be_done())
}

#[tokio::test]
async fn each_failure_is_told_as_what_it_is() {
    type Is = fn(&Trouble) -> bool;
    let cases: [(Fault, Is); 11] = [
        (Fault::status(401), |it| {
            matches!(it, Trouble::Unauthorised { .. })
        }),
        (Fault::status(402), |it| {
            matches!(it, Trouble::Payment { .. })
        }),
        (Fault::status(404), |it| {
            matches!(it, Trouble::NotFound { .. })
        }),
        (Fault::status(400), |it| {
            matches!(it, Trouble::Refused { status: 400, .. })
        }),
        (Fault::status(500), |it| {
            matches!(it, Trouble::Refused { status: 500, .. })
        }),
        (Fault::Html(200), |it| {
            matches!(it, Trouble::NotJson { status: 200, .. })
        }),
        (Fault::Html(403), |it| {
            matches!(it, Trouble::NotJson { status: 403, .. })
        }),
        (Fault::Redirect("http://127.0.0.1:1/".into()), |it| {
            matches!(it, Trouble::Moved { .. })
        }),
        (Fault::Huge { announced: true }, |it| {
            matches!(it, Trouble::TooLarge { .. })
        }),
        (Fault::Text("{\"data\":{\"else\":[]}}".into()), |it| {
            matches!(it, Trouble::Unexpected { status: 200, .. })
        }),
        (Fault::Text("{\"data\":".into()), |it| {
            matches!(it, Trouble::NotJson { status: 200, .. })
        }),
    ];
    for (fault, is) in cases {
        let house = House::new().await;
        house.fake.will("serviceCreate", fault.clone());
        let said = create(&house).await.unwrap_err();
        assert!(is(&said), "{fault:?}: {said:?}");
        house.fake.will("deployment", fault.clone());
        let id = DeploymentId::from("deployment-1".to_owned());
        let said = house.railway.deployment(&id).await.unwrap_err();
        assert!(is(&said), "{fault:?}: {said:?}");
        assert!(said.to_string().contains("Railway"), "{said}");
        assert_eq!(
            house.fake.fields(),
            ["serviceCreate", "deployment"],
            "{fault:?}"
        );
        assert!(house.fake.state().services.is_empty());
    }
}

/// With status 200, as GraphQL has it, and even beside data.
#[tokio::test]
async fn errors_in_an_answer_of_success_are_errors() {
    type Is = fn(&Trouble) -> bool;
    let cases: [(&str, Is); 4] = [
        ("Not Authorized", |it| {
            matches!(it, Trouble::NoAccess { .. })
        }),
        ("User is not authorized", |it| {
            matches!(it, Trouble::NoAccess { .. })
        }),
        ("Deployment not found", |it| {
            matches!(it, Trouble::NotFound { .. })
        }),
        ("Problem processing request", |it| {
            matches!(it, Trouble::Refused { status: 200, .. })
        }),
    ];
    let house = House::new().await;
    let id = DeploymentId::from("deployment-1".to_owned());
    for (message, is) in cases {
        house.fake.will_refuse("deployment", message);
        let said = house.railway.deployment(&id).await.unwrap_err();
        assert!(is(&said), "{message}: {said:?}");
    }
    let place = house.made("shop").await;
    let beside = json!({
        "data": {"serviceInstance": {"latestDeployment": null}},
        "errors": [{"message": "half of it failed"}],
    });
    house
        .fake
        .will("serviceInstance", Fault::Text(beside.to_string()));
    let said = house.railway.latest_deployment(&place).await.unwrap_err();
    let said = said.masked(&Masks::none()).to_string();
    assert_eq!(said, "Railway refused it (status 200): half of it failed");
    house.fake.will(
        "serviceDelete",
        Fault::Text("{\"data\":{\"done\":false}}".into()),
    );
    let said = house.railway.service_delete(&place.service).await;
    assert!(
        matches!(said, Err(Trouble::Refused { .. })),
        "false is no success"
    );
}

#[tokio::test]
async fn limits_are_obeyed_and_what_was_limited_is_done_once() {
    let house = House::new().await;
    house
        .fake
        .will("serviceCreate", Fault::limited("retry-after", 0));
    house
        .fake
        .will("serviceCreate", Fault::limited("x-ratelimit-reset", 1));
    create(&house).await.unwrap();
    assert_eq!(house.fake.times("serviceCreate"), 3);
    assert_eq!(house.fake.state().services.len(), 1);

    house
        .fake
        .will("serviceCreate", Fault::limited("retry-after", 3600));
    let said = create(&house).await.unwrap_err();
    assert!(
        matches!(said, Trouble::Limited { wait_secs, .. } if wait_secs >= 3599),
        "{said:?}"
    );
    assert!(said.may_pass() && !said.may_be_done());
    assert_eq!(house.fake.state().services.len(), 1);
}

#[tokio::test]
async fn a_cut_connection_is_tried_again_only_where_that_is_safe() {
    let house = House::new().await;
    for fault in [Fault::Cut, Fault::CutWithin] {
        let before = house.fake.times("serviceCreate");
        house.fake.will("serviceCreate", fault);
        assert!(lost(create(&house).await));
        assert_eq!(house.fake.times("serviceCreate"), before + 1);
        let found = house.railway.services_named(&house.project, "shop").await;
        assert_eq!(found.unwrap(), [], "and it was not made");
    }
    let place = house.made("shop").await;
    let before = house.fake.times("serviceInstance");
    house.fake.will("serviceInstance", Fault::Cut);
    assert!(
        house
            .railway
            .latest_deployment(&place)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(house.fake.times("serviceInstance"), before + 2);
}

#[tokio::test]
async fn what_was_made_is_found_when_the_answer_was_lost() {
    for loss in losses() {
        let house = House::new().await;
        house.fake.will("projectCreate", loss.clone());
        assert!(lost(house.railway.project_create("mine", None).await));
        let found = house.railway.projects_named(None, "mine").await.unwrap();
        assert_eq!((found.len(), found[0].environments.len()), (1, 1));

        house.fake.will("environmentCreate", loss.clone());
        let project = &found[0].id;
        assert!(lost(
            house.railway.environment_create(project, "staging").await
        ));
        let found = house.railway.environment_find(project, "staging").await;
        assert!(found.unwrap().is_some());

        house.fake.will("serviceCreate", loss.clone());
        assert!(lost(create(&house).await));
        let found = house
            .railway
            .services_named(&house.project, "shop")
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        let place = house.place(&found[0]);
        let first = house.latest(&place).await;
        let started = house
            .fake
            .state()
            .deployment(first.as_str())
            .variables
            .clone();
        assert_eq!(started["API_KEY"], VALUE);

        house.fake.will("serviceDomainCreate", loss.clone());
        assert!(lost(house.railway.domain_create(&place, 8080).await));
        house.railway.domain_create(&place, 8080).await.unwrap();
        assert_eq!(house.fake.state().domains.len(), 1);

        house.fake.will("serviceInstanceDeployV2", loss.clone());
        assert!(lost(house.railway.deploy(&place, None).await));
        assert_ne!(house.latest(&place).await, first, "one has begun");
        assert_eq!(house.fake.state().deployments.len(), 2);

        house.fake.will("variableCollectionUpsert", loss.clone());
        let given = values(&[("REGION", "eu")]);
        assert!(lost(
            house.railway.variables_set(&place, &given, false).await
        ));
        let names = house.railway.variable_names(&place).await.unwrap();
        assert!(names.contains("REGION"));
        assert_eq!(house.fake.state().deployments.len(), 3, "deployed once");

        let latest = house.latest(&place).await;
        house.fake.will("deploymentRestart", loss.clone());
        assert!(lost(house.railway.deployment_restart(&latest).await));
        assert_eq!(house.fake.state().deployment(latest.as_str()).restarts, 1);

        house.fake.will("serviceConnect", loss);
        let connected = house
            .railway
            .service_connect(&place.service, &image())
            .await;
        assert!(lost(connected));
        assert_ne!(house.latest(&place).await, latest);
        assert_eq!(house.fake.state().deployments.len(), 4);
        assert_eq!(house.fake.state().services.len(), 1);
    }
}

#[tokio::test]
async fn what_ends_the_same_is_asked_again_when_the_answer_was_lost() {
    for loss in losses() {
        let house = House::new().await;
        let place = house.made("shop").await;
        let id = house.latest(&place).await;
        house.fake.will("serviceInstanceUpdate", loss.clone());
        let settings = ServiceSettings {
            healthcheck_path: Change::To("/mcp".into()),
            ..ServiceSettings::default()
        };
        house.railway.service_set(&place, &settings).await.unwrap();
        assert_eq!(house.fake.times("serviceInstanceUpdate"), 2);

        house.fake.will("variableCollectionUpsert", loss.clone());
        let given = values(&[("REGION", "eu")]);
        house
            .railway
            .variables_set(&place, &given, true)
            .await
            .unwrap();
        assert_eq!(house.fake.state().deployments.len(), 1, "none for it");

        // The second time it is not there.
        house.fake.will("variableDelete", loss.clone());
        house
            .railway
            .variables_remove(&place, &[env("REGION")])
            .await
            .unwrap();
        house.fake.will("deploymentRemove", loss.clone());
        house.railway.deployment_remove(&id).await.unwrap();
        house.fake.will("serviceDelete", loss);
        house.railway.service_delete(&place.service).await.unwrap();
        assert!(house.fake.state().services_named("shop").is_empty());
    }
}
