//! Which tokens may do what with deployments, and what the others are told.

use sealport::model::levels::Level;
use serde_json::{Value, json};

use crate::house::{CANARY, House, SOURCE};
use crate::world;

const CALLS: [(&str, &str); 10] = [
    ("POST", "/deployments"),
    ("POST", "/deployments?dry_run=true"),
    ("GET", "/deployments/adas"),
    ("PATCH", "/deployments/adas"),
    ("DELETE", "/deployments/adas"),
    ("POST", "/deployments/adas/start"),
    ("POST", "/deployments/adas/stop"),
    ("POST", "/deployments/adas/releases"),
    ("GET", "/deployments/adas/releases/1"),
    ("GET", "/deployments/adas/logs?follow=false"),
];

async fn statuses(house: &House, token: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (method, path) in CALLS {
        let body = match (method, path) {
            ("POST", path) if path.starts_with("/deployments?") || path == "/deployments" => {
                // A name that is taken: who may deploy is told so, and nothing is looked at.
                json!({"name": "bobs", "source": SOURCE})
            }
            ("PATCH", _) => json!({"follows_changes": false}),
            _ => Value::Null,
        };
        let answer = house.call(method, path, token, body).await;
        statuses.push(answer.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn each_token_gets_what_it_was_made_for() {
    let house = House::new().await;
    let (world, ada, bob) = (&house.world, &house.ada, &house.bob);
    world.deployment(bob, "bobs", vec![]).await;
    // What a supervisor does meanwhile does not count.
    let rows = async || {
        let kept = [
            "select string_agg(concat(name, owner_id, source, wanted, follows_changes, release), ' ' order by name) from deployments",
            "select string_agg(t::text, ' ' order by name) from deployment_names t",
            "select string_agg(t::text, ' ') from bindings t",
            "select string_agg(concat(id, revoked_at), ' ' order by id) from tokens",
        ];
        let mut all = String::new();
        for sql in kept {
            all += &world.text(sql).await.unwrap_or_default();
        }
        all
    };
    let cases = [
        (
            "admin, without deploying",
            Level::Admin,
            false,
            None,
            [403, 200, 200, 403, 403, 403, 403, 403, 200, 200],
        ),
        (
            "use, without deploying",
            Level::Use,
            false,
            None,
            [403, 200, 200, 403, 403, 403, 403, 403, 404, 404],
        ),
        (
            "read, without deploying, under a folder in which it does not stand",
            Level::Read,
            false,
            Some("project/shop"),
            [403, 200, 404, 404, 404, 404, 404, 404, 404, 404],
        ),
    ];
    world.deployment(ada, "adas", vec![]).await;
    for (what, ceiling, deploys, under, expected) in cases {
        let token = house.token_under(ada, ceiling, deploys, under).await;
        let before = rows().await;
        assert_eq!(statuses(&house, &token).await, expected, "{what}");
        assert_eq!(rows().await, before, "{what}");
    }
    let refused = world.record("deployment.create").await;
    assert!(refused.iter().any(|(kind, outcome, why)| kind == "token"
        && outcome == "refused"
        && why == "no right to deploy"));

    // Another owner's sees nothing, whatever it may do with its own.
    let bobs = house.token(bob, Level::Admin, true).await;
    let before = rows().await;
    assert_eq!(
        statuses(&house, &bobs).await,
        [409, 200, 404, 404, 404, 404, 404, 404, 404, 404]
    );
    assert_eq!(rows().await, before);
    // What has ended, was revoked, or opens a gateway is nobody.
    let ended = async |how: &str| {
        let token = house.token(ada, Level::Admin, true).await;
        let newest = "(select id from tokens order by id desc limit 1)";
        world
            .sql(&format!("set session_replication_role = replica; update tokens set {how} where id = {newest}"))
            .await;
        token
    };
    let expired = ended("expires_at = now() - interval '1 second'").await;
    let revoked = ended("revoked_at = now()").await;
    let name = sealport::model::paths::DeploymentName::parse("adas").unwrap();
    let gateway = world.db.gateway_token_create(ada, &name, "client", None);
    let gateway = gateway.await.unwrap().token;
    for token in [&expired, &revoked, &gateway, &"sp_nobody".to_owned()] {
        assert_eq!(statuses(&house, token).await, [401; 10]);
    }

    // With the right to deploy, `use` is enough: under a folder for what stands in it.
    let token = house
        .token_under(ada, Level::Use, true, Some("project/shop"))
        .await;
    let nothing = [409, 200, 404, 404, 404, 404, 404, 404, 404, 404];
    let before = rows().await;
    for folder in ["null", "'project/shopping'", "'project'"] {
        put_in(world, folder).await;
        assert_eq!(statuses(&house, &token).await, nothing, "{folder}");
    }
    assert_eq!(rows().await, before);
    put_in(world, "'project/shop/api'").await;
    assert_eq!(
        statuses(&house, &token).await,
        [409, 200, 200, 200, 204, 404, 404, 404, 404, 404]
    );
    house.close().await;
}

/// Moves ada's deployment to a folder.
async fn put_in(world: &world::World, folder: &str) {
    world
        .sql(&format!(
            "set session_replication_role = replica; update deployments set folder = {folder} where name = 'adas'"
        ))
        .await;
}

#[tokio::test]
async fn what_a_token_deploys_stands_in_its_folder_for_good() {
    let house = House::new().await;
    let (world, ada) = (&house.world, &house.ada);
    let shop = house
        .token_under(ada, Level::Use, true, Some("project/shop"))
        .await;
    let made = house
        .call(
            "POST",
            "/deployments",
            &shop,
            json!({"name": "shops", "source": SOURCE}),
        )
        .await;
    house.ok(made, 202);
    world.deployment(ada, "adas", vec![]).await;
    let sees = async |ceiling, deploys, under| {
        let token = house.token_under(ada, ceiling, deploys, under).await;
        let answer = house.call("GET", "/deployments", &token, Value::Null).await;
        let list = house.ok(answer, 200);
        let names = list["items"].as_array().unwrap().iter();
        let mut names: Vec<String> = names
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        sees(Level::Use, true, Some("project/shop")).await,
        ["shops"]
    );
    assert_eq!(sees(Level::Read, false, Some("project")).await, ["shops"]);
    assert!(
        sees(Level::Admin, true, Some("project/sho"))
            .await
            .is_empty()
    );
    assert!(
        sees(Level::Admin, true, Some("project/shop/api"))
            .await
            .is_empty()
    );
    assert_eq!(sees(Level::Use, false, None).await, ["adas", "shops"]);
    // Not even its owner moves it: what other tokens reach does not change under them.
    let mut tx = sealport::store::db::begin_for_tests(&world.db, ada)
        .await
        .unwrap();
    let moved = sqlx::query("update deployments set folder = null where name = 'shops'")
        .execute(&mut *tx)
        .await;
    assert!(moved.unwrap_err().to_string().contains("does not change"));
    drop(tx);
    house.close().await;
}

/// By SQL alone, whatever the functions ask.
#[tokio::test]
async fn the_database_gives_names_to_tokens_that_deploy_and_to_no_others() {
    let house = House::new().await;
    let (world, ada) = (&house.world, &house.ada);
    let cases = [
        (Level::Admin, false, None, false),
        (Level::Use, true, None, true),
        (Level::Use, true, Some("project/shop"), true),
        (Level::Admin, false, Some("project/shop"), false),
    ];
    for (number, (ceiling, deploys, under, may)) in cases.into_iter().enumerate() {
        let token = house.token_under(ada, ceiling, deploys, under).await;
        let caller = world
            .db
            .api_token_open(&token.into(), &Default::default())
            .await
            .unwrap();
        let insert = async |owner: &sealport::model::actors::Caller| {
            let mut tx = sealport::store::db::begin_for_tests(&world.db, &caller)
                .await
                .unwrap();
            let taken =
                sqlx::query("insert into deployment_names (name, owner_id) values ($1, $2)")
                    .bind(format!("name-{number}"))
                    .bind(world::id(owner))
                    .execute(&mut *tx)
                    .await;
            taken.is_ok()
        };
        assert_eq!(insert(ada).await, may, "{ceiling:?} {deploys} {under:?}");
        assert!(!insert(&house.bob).await, "another's");
    }
    house.close().await;
}

#[tokio::test]
async fn a_token_binds_what_it_reaches_and_no_more() {
    let house = House::new().await;
    let (world, ada, bob) = (&house.world, &house.ada, &house.bob);
    let shop = world.secret(ada, "project/shop/KEY", CANARY).await;
    let other = world.secret(ada, "project/other/KEY", CANARY).await;
    world.secret(bob, "project/shop/KEY", CANARY).await;
    let token = house
        .token_under(ada, Level::Use, true, Some("project/shop"))
        .await;
    let deploy = |secret: &str| json!({"name": "adas", "source": "npm:left-pad", "bindings": [{"env": "KEY", "secret": secret}]});
    for path in [
        "project/other/KEY",
        "bob:project/shop/KEY",
        "project/shopping/KEY",
    ] {
        let answer = house
            .call("POST", "/deployments", &token, deploy(path))
            .await;
        let problem = house.ok(answer, 403);
        assert_eq!(problem["field"], "bindings.KEY", "{path}");
        assert_eq!(problem["missing"][0]["secret"], path);
    }
    // A fetch key is bound as well.
    let fetched =
        json!({"name": "adas", "source": "npm:left-pad", "fetch_key": "project/other/KEY"});
    let answer = house.call("POST", "/deployments", &token, fetched).await;
    assert_eq!(house.ok(answer, 403)["field"], "fetch_key");
    // Directories of this machine are for people.
    world
        .sql(&format!(
            "set session_replication_role = replica; update users set is_admin = true where id = '{}'",
            world::id(ada)
        ))
        .await;
    let directory = json!({"name": "adas", "source": "dir:/srv/server"});
    let answer = house.call("POST", "/deployments", &token, directory).await;
    let problem = house.ok(answer, 403);
    assert_eq!(problem["field"], "source");
    assert!(problem["detail"].as_str().unwrap().contains("A token"));
    assert_eq!(world.count("deployments").await, 0);
    assert_eq!(world.count("deployment_names").await, 0);

    // Whoever chooses the code can make it give everything away: the token must reach all that stays bound.
    world
        .deployment(
            ada,
            "adas",
            vec![world::secret("KEY", shop), world::secret("OTHER", other)],
        )
        .await;
    put_in(world, "'project/shop'").await;
    let other_code = json!({"source": SOURCE});
    let answer = house
        .call(
            "PATCH",
            "/deployments/adas?dry_run=true",
            &token,
            other_code.clone(),
        )
        .await;
    let plan = house.ok(answer, 200);
    assert_eq!(plan["missing"][0]["field"], "bindings.OTHER", "{plan}");
    let answer = house
        .call("PATCH", "/deployments/adas", &token, other_code)
        .await;
    assert_eq!(house.ok(answer, 403)["field"], "bindings.OTHER");
    let source = world.text("select source from deployments").await.unwrap();
    assert_eq!(source, "npm:firecrawl-mcp@1.2.3");
    let record = world.record("deployment.change").await;
    assert_eq!(
        record.last().unwrap(),
        &(
            "token".to_owned(),
            "refused".to_owned(),
            "no right to a bound secret".to_owned()
        )
    );
    // What it reaches it may bind anew, and what it does not reach it may let go.
    let bindings = json!({"bindings": [{"env": "KEY", "secret": "project/shop/KEY"}]});
    let answer = house
        .call("PATCH", "/deployments/adas", &token, bindings)
        .await;
    assert_eq!(house.ok(answer, 202)["number"], 2);
    assert_eq!(world.count("bindings").await, 1);
    house.close().await;
}
