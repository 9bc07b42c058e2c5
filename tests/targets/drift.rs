//! Looking for drift: what is other at the provider than Sealport left it, when somebody asks.

use sealport::model::deployments::DeploymentState;
use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use serde_json::json;

use crate::fakes::render::KEY;
use crate::fakes::wire::Fault;
use crate::house::House;
use crate::world::secret;

const VALUE: &str = "sk-canary-8hT2VbN5kS9wXy3";

#[tokio::test]
async fn what_is_other_there_is_said_and_asking_is_on_record() {
    let house = House::new().await;
    let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
    let name = house.deploy("crawl", vec![secret("SHOP_KEY", bound)]).await;
    let served = house.serve().await;
    house.state(&name, DeploymentState::Running).await;
    let deployer = &house.deployer;
    let none = deployer.look_for_drift(&house.ada, &name).await.unwrap();
    assert_eq!(none, Vec::<String>::new());
    let of_provider = |rows: Vec<(String, String, String)>| {
        let opened = rows.into_iter();
        opened
            .filter(|row| row.2 == "to reach the provider")
            .count()
    };
    let opened = of_provider(house.world.record("secret.bind").await);
    assert_eq!(
        house.world.record("deployment.show").await,
        [("user", "done", "looked for drift at the provider")].map(|(who, how, why)| (
            who.into(),
            how.into(),
            why.into()
        ))
    );

    house.render.state().services[0].env.remove("SHOP_KEY");
    house.render.state().services[0].suspended = true;
    let says = deployer.look_for_drift(&house.ada, &name).await.unwrap();
    let says = says.join(" ");
    assert!(says.contains("suspended at Render"), "{says}");
    assert!(says.contains("removed SHOP_KEY at Render"), "{says}");
    let now = of_provider(house.world.record("secret.bind").await);
    assert_eq!(now, opened + 1, "each look opens the key once, on record");

    // A provider that quotes what is set there is not quoted.
    let quoting = json!({"id": "e", "message": format!("SHOP_KEY is {VALUE}")});
    for path in ["GET /v1/services/srv-1/env-vars", "GET /v1/services/srv-1"] {
        let fault = Fault::Status(400, Vec::new(), quoting.clone());
        house.render.wire.will(path, fault);
        let refused = deployer
            .look_for_drift(&house.ada, &name)
            .await
            .unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Unavailable);
        assert!(refused.detail.contains("Render refused it"), "{refused}");
        for hidden in [VALUE, KEY, "SHOP_KEY is"] {
            assert!(!refused.detail.contains(hidden), "{refused}");
        }
    }
    house.render.state().services.clear();
    let says = deployer.look_for_drift(&house.ada, &name).await.unwrap();
    assert!(
        says[0].contains("The service is gone at Render"),
        "{says:?}"
    );
    drop(served);
    house.end().await;
}

#[tokio::test]
async fn who_may_not_read_about_it_does_not_look() {
    let house = House::new().await;
    let name = house.deploy("crawl", vec![]).await;
    let served = house.serve().await;
    house.state(&name, DeploymentState::Running).await;
    let bob = house.world.user("bob").await;
    let asked = house.render.wire.lines().len();
    let look = || house.deployer.look_for_drift(&bob, &name);
    assert_eq!(look().await.unwrap_err().kind, RefusalKind::NotFound);
    let db = &house.world.db;
    let of = Shareable::Deployment { name: name.clone() };
    db.share(&house.ada, &of, "bob", Level::Use, &[])
        .await
        .unwrap();
    assert_eq!(look().await.unwrap_err().kind, RefusalKind::NotFound);
    assert_eq!(house.render.wire.lines().len(), asked);
    db.share(&house.ada, &of, "bob", Level::Read, &[])
        .await
        .unwrap();
    assert_eq!(look().await.unwrap(), Vec::<String>::new());
    let record = house.world.record("deployment.show").await;
    let outcomes: Vec<&str> = record.iter().map(|row| row.1.as_str()).collect();
    assert_eq!(outcomes, ["refused", "refused", "done"]);
    drop(served);
    house.end().await;
}
