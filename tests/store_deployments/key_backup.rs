//! The administrator's word that the master key is backed up.

use sealport::model::actors::{Actor, Caller};
use sealport::model::errors::RefusalKind;
use sealport::store::db::begin_for_tests;

use crate::world::{World, assert_refused, id};

/// Makes somebody an administrator.
pub async fn administrator(world: &World, handle: &str) -> Caller {
    let mut caller = world.user(handle).await;
    world
        .sql(&format!(
            "set sealport.job = 'operator'; update users set is_admin = true where id = '{}'",
            id(&caller)
        ))
        .await;
    if let Actor::User(user) = &mut caller.actor {
        user.is_admin = true;
    }
    caller
}

#[tokio::test]
async fn an_administrator_says_it_once_for_each_key() {
    let world = World::new().await;
    let db = &world.db;
    let (root, ada) = (administrator(&world, "root").await, world.user("ada").await);
    let key = db.key_fingerprint().to_owned();
    assert!(!db.key_backup_confirmed(&root).await.unwrap());

    assert_refused(
        db.key_backup_confirm(&ada, &key).await,
        RefusalKind::Denied,
        None,
    );
    assert_refused(
        db.key_backup_confirm(&root, "another").await,
        RefusalKind::Conflict,
        None,
    );
    assert!(!db.key_backup_confirmed(&root).await.unwrap());
    db.key_backup_confirm(&root, &key).await.unwrap();
    db.key_backup_confirm(&root, &key).await.unwrap();
    assert!(db.key_backup_confirmed(&root).await.unwrap());
    let row =
        |outcome: &str, reason: &str| ("user".to_owned(), outcome.to_owned(), reason.to_owned());
    assert_eq!(
        world.record("key.backed-up").await,
        [
            row("refused", "no administrator"),
            row("refused", "another key is in use"),
            row("done", ""),
            row("done", ""),
        ]
    );
    // Said of another key, it says nothing of this one.
    world
        .sql("update settings set value = '\"an older key\"' where key = 'master_key_backup_confirmed'")
        .await;
    assert!(!db.key_backup_confirmed(&root).await.unwrap());
}

/// By SQL alone: of all settings this one, and by an administrator whose account has not ended.
#[tokio::test]
async fn the_database_lets_nobody_else_write_settings() {
    let world = World::new().await;
    let (root, ada) = (administrator(&world, "root").await, world.user("ada").await);
    let gone = administrator(&world, "gone").await;
    world
        .sql(&format!(
            "set sealport.job = 'operator'; update users set ended_at = now() where id = '{}'",
            id(&gone)
        ))
        .await;
    let made = "insert into settings (key, value) values ('master_key_backup_confirmed', '1')";
    let other = "insert into settings (key, value) values ('colour', '1')";
    for (who, sql, may) in [
        (&ada, made, false),
        (&gone, made, false),
        (&root, other, false),
        (&root, made, true),
        (&ada, "update settings set value = '2'", false),
        (&gone, "update settings set value = '2'", false),
        (&root, "update settings set value = '2'", true),
        (&root, "update settings set key = 'colour'", false),
    ] {
        let mut tx = begin_for_tests(&world.db, who).await.unwrap();
        let done = sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut *tx)
            .await;
        let changed = done.is_ok_and(|done| done.rows_affected() == 1);
        assert_eq!(changed, may, "{:?}: {sql}", who.actor);
        if changed {
            tx.commit().await.unwrap();
        }
    }
}
