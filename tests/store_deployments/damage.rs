//! One damaged row shows as damaged where it stands, and everything else goes on.

use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, SecretPath};
use sealport::model::secrets::SecretSort;
use sealport::store::secrets::{NewValue, SecretEdit};
use uuid::Uuid;

use crate::world::{World, assert_refused, own, refusal, secret};

impl World {
    /// Changes one bit of a version's ciphertext, as a disk does.
    async fn damage(&self, id: Uuid, version: i32) {
        self.sql(&format!(
            "update secret_versions set sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)
             where secret_id = '{id}' and version = {version}"
        ))
        .await;
    }
}

#[tokio::test]
async fn a_damaged_version_says_so_and_the_next_one_is_whole() {
    let world = World::new().await;
    let (db, ada) = (&world.db, world.user("ada").await);
    let id = world.secret(&ada, "API_KEY", "first-value-0123").await;
    let other = world.secret(&ada, "OTHER", "other-value-0123").await;
    world.damage(id, 1).await;

    let told = refusal(db.secret_compare(&ada, id, "first-value-0123".into()).await);
    assert_eq!(told.kind, RefusalKind::Conflict);
    assert!(
        told.detail
            .starts_with("Version 1 is damaged: it does not open with its key."),
        "{}",
        told.detail
    );
    let refused = [(
        "user".into(),
        "refused".into(),
        "the version is damaged".into(),
    )];
    assert_eq!(world.record("secret.compare").await, refused);
    assert_eq!(
        world
            .text("select version::text from audit where action = 'secret.compare'")
            .await
            .as_deref(),
        Some("1")
    );

    // The pages and everything beside it live.
    let path = SecretPath::parse("API_KEY").unwrap();
    assert_eq!(
        db.secret_show(&ada, &own(&ada), &path)
            .await
            .unwrap()
            .versions
            .len(),
        1
    );
    assert!(
        db.secret_compare(&ada, other, "other-value-0123".into())
            .await
            .unwrap()
    );
    let next = NewValue::Typed("second-value-0123".into());
    assert_eq!(db.secret_replace(&ada, id, 1, next).await.unwrap(), 2);
    assert!(
        db.secret_compare(&ada, id, "second-value-0123".into())
            .await
            .unwrap()
    );
    let found = db.damage().await.unwrap();
    assert_eq!((found.damaged, found.versions), (1, 3));
    assert_eq!(found.named, ["ada:API_KEY, version 1"]);
}

#[tokio::test]
async fn a_deployment_that_binds_it_does_not_start_and_names_it() {
    let world = World::new().await;
    let (db, ada) = (&world.db, world.user("ada").await);
    let whole = world.secret(&ada, "WHOLE", "whole-value-0123").await;
    let id = world.secret(&ada, "API_KEY", "first-value-0123").await;
    let bindings = vec![secret("A_WHOLE", whole), secret("KEY", id)];
    world.deployment(&ada, "crawl", bindings).await;
    let task = world.claim(Uuid::now_v7()).await;
    world.damage(id, 1).await;

    let told = refusal(
        db.bindings_open(task.deployment_id, task.owner_id, 1)
            .await
            .map(drop),
    );
    assert!(
        told.detail.contains(
            "KEY needs the secret API_KEY, which is damaged: it does not open with its key"
        ),
        "{}",
        told.detail
    );
    // Nothing of it was handed out, so nothing of it is on record but the refusal.
    let refused = [(
        "deployment".into(),
        "refused".into(),
        "the version is damaged".into(),
    )];
    assert_eq!(world.record("secret.bind").await, refused);
    assert_eq!(world.count("release_bindings").await, 0);

    let told = refusal(
        db.fetch_key_open(task.owner_id, id, "crawl")
            .await
            .map(drop),
    );
    assert_eq!(told.field.as_deref(), Some("fetch_key"));
    assert!(told.detail.contains("damaged"), "{}", told.detail);
    assert!(
        db.fetch_key_open(task.owner_id, whole, "crawl")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_damaged_data_key_keeps_its_owner_from_values_and_nobody_else() {
    let world = World::new().await;
    let (db, ada) = (&world.db, world.user("ada").await);
    let bob = world.user("bob").await;
    let id = world.secret(&ada, "API_KEY", "first-value-0123").await;
    let bobs = world.secret(&bob, "API_KEY", "bobs-value-0123").await;
    world
        .sql(
            "update data_keys set wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1)
              where owner_id = (select id from owners where handle = 'ada')",
        )
        .await;
    // As after a start: no key is remembered.
    let db = &db_anew(&world, db).await;
    let told = refusal(db.secret_compare(&ada, id, "x".into()).await);
    assert!(told.detail.contains("damaged"), "{}", told.detail);
    let replaced = db
        .secret_replace(&ada, id, 1, NewValue::Typed("second-value".into()))
        .await;
    let told = refusal(replaced);
    assert_eq!(told.kind, RefusalKind::Unavailable);
    assert!(
        told.detail.contains("data key is damaged"),
        "{}",
        told.detail
    );
    let list = db.secrets_list(&ada, "", SecretSort::Path, 10).await;
    assert_eq!(list.unwrap().len(), 1);
    assert!(
        db.secret_compare(&bob, bobs, "bobs-value-0123".into())
            .await
            .unwrap()
    );
    let found = db.damage().await.unwrap();
    assert_eq!(found.named, ["ada:API_KEY, version 1"]);
}

async fn db_anew(world: &World, db: &sealport::store::Db) -> sealport::store::Db {
    use sealport::store::{DatabaseConfig, Db, KeySource};
    let config = DatabaseConfig::new(
        world.database.app_options.clone(),
        Some(world.database.owner_options.clone()),
    );
    let anew = Db::open(config, KeySource::Variable("42".repeat(32).into()))
        .await
        .unwrap();
    assert_eq!(anew.key_fingerprint(), db.key_fingerprint());
    anew
}

#[tokio::test]
async fn a_damaged_path_stands_in_the_list_and_can_be_mended() {
    let world = World::new().await;
    let (db, ada) = (&world.db, world.user("ada").await);
    let id = world.secret(&ada, "API_KEY", "first-value-0123").await;
    let other = world.secret(&ada, "OTHER", "other-value-0123").await;
    world
        .deployment(&ada, "crawl", vec![secret("KEY", id)])
        .await;
    let task = world.claim(Uuid::now_v7()).await;
    world
        .sql(&format!(
            "set session_replication_role = replica; update secrets set path = 'no/../path' where id = '{id}'"
        ))
        .await;

    let list = db
        .secrets_list(&ada, "", SecretSort::Path, 10)
        .await
        .unwrap();
    assert_eq!(list.len(), 2, "it is not dropped");
    let damaged: Vec<_> = list
        .iter()
        .filter(|row| row.path.stands_for() == Some(id))
        .collect();
    assert_eq!(damaged.len(), 1);
    let stand_in = damaged[0].path.clone();
    assert_eq!(stand_in.as_str(), format!("damaged-{id}"));
    let shown = db.secret_show(&ada, &own(&ada), &stand_in).await.unwrap();
    assert_eq!(shown.summary.id, id);
    // A name alone opens nothing of another's.
    let bob = world.user("bob").await;
    assert_refused(
        db.secret_show(&bob, &own(&bob), &stand_in).await,
        RefusalKind::NotFound,
        None,
    );
    // The value is whole, and is used.
    assert!(
        db.secret_compare(&ada, id, "first-value-0123".into())
            .await
            .unwrap()
    );
    assert!(
        db.bindings_open(task.deployment_id, task.owner_id, 1)
            .await
            .is_ok()
    );

    // Its deployment's page lives, what is shared of it is seen, and is taken back.
    let name = DeploymentName::parse("crawl").unwrap();
    let page = db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(page.bindings[0].secret.as_ref(), Some(&stand_in));
    let on = Shareable::Secret { id };
    db.share(&ada, &on, "bob", Level::Read, &[]).await.unwrap();
    for who in [&ada, &bob] {
        let reach = db.holder_reach(who, &own(&bob)).await.unwrap();
        assert_eq!(reach.grants.len(), 1);
    }
    let grants = db.reachers(&ada, &on).await.unwrap().grants;
    db.unshare(&ada, grants[0].id).await.unwrap();
    assert_eq!(world.count("grants").await, 0);
    // What is due is done, and is on record by the name that stands in.
    world
        .sql(&format!(
            "set session_replication_role = replica;
             update secret_versions set generated = true, created_at = now() - interval '2 days' where secret_id = '{id}';
             insert into rotation_rules (id, owner_id, secret_id, after_days, regenerate, set_by)
             select gen_random_uuid(), owner_id, id, 1, true, 'ada' from secrets where id = '{id}';
             update secrets set expires_at = now() where path = 'OTHER';
             update secrets set path = 'no/../other' where path = 'OTHER'"
        ))
        .await;
    db.caretaker_step().await.unwrap();
    let done = "select string_agg(action || ' ' || path, ', ' order by action) from audit where actor_kind = 'job'
                and action in ('secret.expire', 'secret.replace')";
    assert_eq!(
        world.text(done).await.unwrap(),
        format!("secret.expire damaged-{other}, secret.replace damaged-{id}")
    );
    world
        .sql(&format!(
            "set session_replication_role = replica; update secrets set path = 'OTHER' where id = '{other}'"
        ))
        .await;

    let edit = SecretEdit {
        path: Some(SecretPath::parse("API_KEY").unwrap()),
        ..SecretEdit::default()
    };
    db.secret_edit(&ada, id, edit).await.unwrap();
    let list = db
        .secrets_list(&ada, "", SecretSort::Path, 10)
        .await
        .unwrap();
    assert!(list.iter().all(|row| row.path.stands_for().is_none()));
}
