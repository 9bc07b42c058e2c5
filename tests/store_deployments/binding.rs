//! The opening of bindings: rights at this moment, the record first, and no value otherwise.

use sealport::model::errors::RefusalKind;
use sealport::model::paths::SecretPath;
use sealport::model::secrets::{SecretSort, VALUES_LEN_BYTES};
use sealport::store::db::begin_for_tests;
use sealport::store::releases::OpenedBindings;
use sealport::store::secrets::{NewValue, SecretEdit};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::world::{World, assert_refused, id, own, refusal, secret, spec, text};

fn plain(opened: &OpenedBindings) -> Vec<(&str, &str)> {
    opened
        .environment
        .iter()
        .map(|(env, value)| (env.as_str(), value.expose_secret()))
        .collect()
}

#[tokio::test]
async fn a_start_gets_its_values_and_the_record_names_the_versions() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let key = world.secret(&ada, "API_KEY", "first-value-0123").await;
    let bindings = vec![
        secret("KEY", key),
        secret("SAME", key),
        text("LEVEL", "debug"),
    ];
    let name = world.deployment(&ada, "crawl", bindings).await;
    let task = world.claim(Uuid::now_v7()).await;
    let (deployment, owner) = (task.deployment_id, task.owner_id);
    let db = &world.db;

    let opened = db.bindings_open(deployment, owner, 1).await.unwrap();
    let first = [
        ("KEY", "first-value-0123"),
        ("LEVEL", "debug"),
        ("SAME", "first-value-0123"),
    ];
    assert_eq!(plain(&opened), first);
    assert_eq!(opened.secrets.len(), 2);
    let done = ("deployment".to_owned(), "done".to_owned(), String::new());
    assert_eq!(
        world.record("secret.bind").await,
        [done.clone(), done.clone()]
    );
    let row = world
        .text("select concat_ws(' ', actor_name, path, version, deployment, release) from audit where action = 'secret.bind' limit 1")
        .await;
    assert_eq!(row.as_deref(), Some("crawl API_KEY 1 crawl 1"));

    // A later start of the same release has the recorded version, a new release the newest.
    let next = NewValue::Typed(SecretString::from("second-value-0123"));
    db.secret_replace(&ada, key, 1, next).await.unwrap();
    assert_eq!(
        plain(&db.bindings_open(deployment, owner, 1).await.unwrap()),
        first
    );
    assert_eq!(db.deployment_redeploy(&ada, &name).await.unwrap(), 2);
    let opened = db.bindings_open(deployment, owner, 2).await.unwrap();
    assert_eq!(plain(&opened)[0], ("KEY", "second-value-0123"));
    assert_eq!(world.record("secret.bind").await.len(), 6);
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    let versions = |at: usize| -> Vec<i32> {
        shown.releases[at]
            .versions
            .iter()
            .map(|(_, v)| *v)
            .collect()
    };
    assert_eq!((versions(0), versions(1)), (vec![2, 2], vec![1, 1]));
    assert!(!world.dump().await.contains("value-0123"));
}

#[tokio::test]
async fn what_may_not_be_used_is_named_and_nothing_is_opened() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let good = world.secret(&ada, "GOOD", "good-value-0123").await;
    let off = world.secret(&ada, "OFF", "off-value-0123").await;
    let old = world.secret(&ada, "OLD", "old-value-0123").await;
    let gone = world
        .secret(&ada, "meta/some/GONE", "gone-value-0123")
        .await;
    let bindings = vec![
        secret("A", good),
        secret("B", off),
        secret("C", old),
        secret("D", gone),
    ];
    world.deployment(&ada, "crawl", bindings).await;
    let task = world.claim(Uuid::now_v7()).await;
    let open = || world.db.bindings_open(task.deployment_id, task.owner_id, 1);

    let switch = |active| SecretEdit {
        active: Some(active),
        ..SecretEdit::default()
    };
    world
        .db
        .secret_edit(&ada, off, switch(false))
        .await
        .unwrap();
    let refused = refusal(open().await);
    assert_eq!(refused.kind, RefusalKind::Denied);
    assert_eq!(
        refused.detail,
        "B needs the secret OFF, which is switched off."
    );

    world
        .sql("update secrets set expires_at = now() - interval '1 second' where path = 'OLD'")
        .await;
    world.db.secret_delete(&ada, gone, None).await.unwrap();
    let refused = refusal(open().await);
    for part in [
        "B needs the secret OFF",
        "C needs the secret OLD, which has expired",
        "D needs the secret meta/some/GONE, which is gone",
    ] {
        assert!(refused.detail.contains(part), "{refused}");
    }
    let record = world.record("secret.bind").await;
    let reasons: Vec<&str> = record.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "the secret is switched off",
            "the secret is switched off",
            "the secret has expired",
            "the secret is gone or no longer usable"
        ]
    );
    assert!(record.iter().all(|row| row.1 == "refused"));
    assert_eq!(world.count("release_bindings").await, 0);

    // Put right, it opens: the refusals had these causes and no other.
    world.db.secret_edit(&ada, off, switch(true)).await.unwrap();
    world.sql("update secrets set expires_at = null").await;
    world.sql("delete from bindings where env = 'D'").await;
    assert_eq!(open().await.unwrap().secrets.len(), 3);
}

#[tokio::test]
async fn only_with_the_owners_rights() {
    let world = World::new().await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let key = world.secret(&ada, "API_KEY", "adas-value-0123").await;
    world
        .deployment(&ada, "adas", vec![secret("KEY", key)])
        .await;
    let task = world.claim(Uuid::now_v7()).await;
    let not_found = RefusalKind::NotFound;
    let result = world
        .db
        .bindings_open(task.deployment_id, id(&eve), 1)
        .await;
    assert_refused(result, not_found, None);
    let result = world
        .db
        .bindings_open(task.deployment_id, id(&ada), 7)
        .await;
    assert_refused(result, not_found, None);

    // A binding that a forgotten check let in: the owner of the deployment has no right to the secret.
    world.deployment(&eve, "eves", vec![text("A", "x")]).await;
    world
        .sql(&format!("update bindings set text = null, secret_id = '{key}', secret_path = 'API_KEY' where env = 'A'"))
        .await;
    let task = world.claim(Uuid::now_v7()).await;
    let result = world
        .db
        .bindings_open(task.deployment_id, id(&eve), 1)
        .await;
    assert_refused(result, not_found, None);
    assert_refused(
        world.db.fetch_key_open(id(&eve), key, "eves").await,
        not_found,
        Some("fetch_key"),
    );
    assert!(
        world
            .record("secret.bind")
            .await
            .iter()
            .all(|row| row.1 == "refused")
    );
    assert_eq!(world.count("release_bindings").await, 0);
}

#[tokio::test]
async fn values_that_are_too_long_together_are_refused_before_any_is_opened() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let half = "x".repeat(VALUES_LEN_BYTES / 2);
    let first = world.secret(&ada, "FIRST", &half).await;
    let second = world.secret(&ada, "SECOND", &half[1..]).await;
    let bindings = |more: &str| vec![secret("A", first), secret("B", second), text("C", more)];
    let too_long = spec("crawl", bindings("12"));
    let refused = refusal(world.db.deployment_create(&ada, None, &too_long).await);
    assert_eq!(
        (refused.kind, refused.field.as_deref()),
        (RefusalKind::Invalid, Some("bindings"))
    );
    assert_eq!(
        refused.detail,
        "The values of a deployment have at most 128 KiB together, these have 129. Bind fewer or shorter ones."
    );
    assert_eq!(world.count("deployments").await, 0);

    // Just short enough, until one grows.
    world.deployment(&ada, "crawl", bindings("1")).await;
    let task = world.claim(Uuid::now_v7()).await;
    let longer = NewValue::Typed(SecretString::from(half));
    world
        .db
        .secret_replace(&ada, second, 1, longer)
        .await
        .unwrap();
    let open = || world.db.bindings_open(task.deployment_id, task.owner_id, 1);
    assert_refused(open().await, RefusalKind::Invalid, Some("bindings"));
    assert_eq!(
        world.record("secret.bind").await,
        [(
            "deployment".into(),
            "refused".into(),
            "the values are too long together".into()
        )]
    );
    assert_eq!(world.count("release_bindings").await, 0);
    world
        .sql("update bindings set text = '' where env = 'C'")
        .await;
    assert_eq!(open().await.unwrap().secrets.len(), 2);
}

#[tokio::test]
async fn no_record_no_value() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let key = world.secret(&ada, "API_KEY", "adas-value-0123").await;
    world
        .deployment(&ada, "adas", vec![secret("KEY", key)])
        .await;
    let task = world.claim(Uuid::now_v7()).await;
    world
        .sql("alter table audit add constraint full_disk check (action <> 'secret.bind') not valid")
        .await;
    assert!(
        world
            .db
            .bindings_open(task.deployment_id, task.owner_id, 1)
            .await
            .is_err()
    );
    assert!(
        world
            .db
            .fetch_key_open(id(&ada), key, "inspection")
            .await
            .is_err()
    );
    assert_eq!(world.count("release_bindings").await, 0);
    world
        .sql("alter table audit drop constraint full_disk")
        .await;
    world
        .db
        .bindings_open(task.deployment_id, task.owner_id, 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_fetch_key_opens_for_its_user_on_record() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let key = world.secret(&ada, "GIT_TOKEN", "git-value-0123").await;
    let mut asked = spec("private", vec![]);
    asked.fetch_key = Some(key);
    world
        .db
        .deployment_create(&ada, None, &asked)
        .await
        .unwrap();
    let task = world.claim(Uuid::now_v7()).await;
    assert_eq!(task.fetch_key, Some(key));
    for (for_what, deployment) in [("private", "private"), ("a draft", "none")] {
        let value = world
            .db
            .fetch_key_open(task.owner_id, key, for_what)
            .await
            .unwrap();
        assert_eq!(value.expose_secret(), "git-value-0123");
        let named = world
            .text("select coalesce(deployment, 'none') from audit where action = 'secret.bind' order by id desc limit 1")
            .await;
        assert_eq!(named.as_deref(), Some(deployment));
    }
    world.db.secret_delete(&ada, key, None).await.unwrap();
    let result = world.db.fetch_key_open(task.owner_id, key, "private").await;
    assert_refused(result, RefusalKind::NotFound, Some("fetch_key"));
    let record = world.record("secret.bind").await;
    let outcomes: Vec<&str> = record.iter().map(|row| row.1.as_str()).collect();
    assert_eq!(outcomes, ["done", "done", "refused"]);
}

#[tokio::test]
async fn a_secrets_page_names_what_is_fetched_with_it() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let key = world
        .secret(&ada, "REGISTRY_TOKEN", "a value to keep")
        .await;
    let mut asked = spec("private", vec![]);
    asked.fetch_key = Some(key);
    let db = &world.db;
    db.deployment_create(&ada, None, &asked).await.unwrap();
    world
        .deployment(&ada, "bound", vec![secret("TOKEN", key)])
        .await;
    let path = SecretPath::parse("REGISTRY_TOKEN").unwrap();
    let shown = db
        .secret_show(&ada, &own(&ada), &path)
        .await
        .unwrap()
        .summary;
    let listed = db.secrets_list(&ada, "", SecretSort::Path, 10).await;
    for seen in [&shown, &listed.unwrap()[0]] {
        assert_eq!(seen.used_by, ["bound"]);
        assert_eq!(seen.fetched_by, ["private"]);
        assert_eq!(seen.deployments().len(), 2);
    }
}

#[tokio::test]
async fn another_fetch_key_is_asked_about_by_the_database_too() {
    let world = World::new().await;
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let (own, bobs) = (
        world.secret(&ada, "GIT_TOKEN", "hers").await,
        world.secret(&bob, "GIT_TOKEN", "his").await,
    );
    world.deployment(&ada, "crawl", vec![]).await;
    for (key, allowed) in [(bobs, false), (own, true)] {
        let mut tx = begin_for_tests(&world.db, &ada).await.unwrap();
        let changed = sqlx::query("update deployments set fetch_key = $1")
            .bind(key)
            .execute(&mut *tx)
            .await;
        assert_eq!(changed.is_ok(), allowed, "{changed:?}");
    }
}
