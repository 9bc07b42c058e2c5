//! Secrets that move to another owner.

use sealport::model::actors::{Caller, SignedInUser};
use sealport::model::errors::RefusalKind;
use sealport::model::levels::Level;
use sealport::model::paths::Handle;
use sealport::store::Db;
use sealport::store::secrets::NewValue;
use sqlx::ConnectOptions;
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::opening::{as_admin, open};
use crate::people::{add, caller, recorded, refusal, text};
use crate::secrets::new;

struct House {
    database: TestDatabase,
    db: Db,
    ann: Caller,
    bob: Caller,
    carl: Caller,
    ids: [Uuid; 4],
}

fn user(caller: &Caller) -> &SignedInUser {
    caller.user().unwrap()
}

fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}

/// Ann and Bob are in the team `crew`, with `write` and `admin`; Carl is a stranger to it.
async fn house() -> House {
    let database = common::new_database().await;
    let db = open(&database).await;
    let (ann, bob, carl) = (
        caller(&add(&db, "ann@example.org").await),
        caller(&add(&db, "bob@example.org").await),
        caller(&add(&db, "carl@example.org").await),
    );
    let crew = Uuid::now_v7();
    let ids = [user(&ann).id, user(&bob).id, user(&carl).id, crew];
    let house = House {
        database,
        db,
        ann,
        bob,
        carl,
        ids,
    };
    house
        .sql(
            "insert into owners (id, handle, kind, maker_id) values ('{crew}', 'crew', 'team', '{bob}'), (gen_random_uuid(), 'others', 'team', '{bob}');
             insert into team_members (team_id, user_id, level, added_by) values ('{crew}', '{ann}', 3, 'bob'), ('{crew}', '{bob}', 4, 'bob')",
        )
        .await;
    house
}

impl House {
    async fn sql(&self, sql: &str) {
        let names = ["{ann}", "{bob}", "{carl}", "{crew}"];
        let filled = names
            .iter()
            .zip(self.ids)
            .fold(sql.to_owned(), |sql, (name, id)| {
                sql.replace(name, &id.to_string())
            });
        as_admin(&self.database, &filled).await;
    }

    async fn grant(&self, secret: Option<Uuid>, to: &str, level: i32) {
        let (column, value) = match secret {
            Some(id) => ("secret_id", id.to_string()),
            None => ("prefix", "project/web".to_owned()),
        };
        self.sql(&format!(
            "insert into grants (id, owner_id, {column}, grantee_id, level, granted_by, granted_by_name)
             values (gen_random_uuid(), '{{ann}}', '{value}', '{to}', {level}, '{{ann}}', 'ann')"
        ))
        .await;
    }

    async fn rows(&self, sql: &'static str) -> Vec<String> {
        let mut admin = self.database.admin_options.connect().await.unwrap();
        sqlx::query_scalar(sql).fetch_all(&mut admin).await.unwrap()
    }

    async fn owner(&self, id: Uuid) -> String {
        let mut admin = self.database.admin_options.connect().await.unwrap();
        sqlx::query_scalar(
            "select o.handle from secrets s join owners o on o.id = s.owner_id where s.id = $1",
        )
        .bind(id)
        .fetch_one(&mut admin)
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn a_secret_moves_to_a_team_with_all_its_versions_and_grants() {
    let house = house().await;
    let db = &house.db;
    let id = db
        .secret_create(&house.ann, new("project/web/KEY", "version 1"))
        .await
        .unwrap();
    // More versions than are taken in hand at a time.
    for version in 1..60 {
        let value = NewValue::Typed(text(&format!("version {}", version + 1)));
        db.secret_replace(&house.ann, id, version, value)
            .await
            .unwrap();
    }
    house.grant(Some(id), "{carl}", 2).await;
    house.grant(Some(id), "{crew}", 1).await;
    house.grant(None, "{carl}", 3).await;

    let plan = db.secret_move_plan(&house.ann, id, None).await.unwrap();
    assert_eq!(
        (plan.owner.as_str(), plan.targets),
        ("ann", vec!["crew".to_owned()])
    );
    let plan = db
        .secret_move_plan(&house.ann, id, Some(&handle("crew")))
        .await
        .unwrap();
    let effect = plan.effect.unwrap();
    assert!(!effect.taken);
    let changes: Vec<_> = effect
        .changes
        .iter()
        .map(|change| (change.handle.as_str(), change.before, change.after))
        .collect();
    assert_eq!(
        changes,
        [
            ("ann", Some(Level::Admin), Some(Level::Write)),
            ("bob", None, Some(Level::Admin)),
            ("carl", Some(Level::Write), Some(Level::Read)),
            ("crew", Some(Level::Use), None),
        ]
    );
    assert_eq!(house.owner(id).await, "ann", "a plan changes nothing");

    db.secret_move(&house.ann, id, &handle("crew"))
        .await
        .unwrap();
    assert_eq!(house.owner(id).await, "crew");
    for version in [1, 2, 50, 51, 60] {
        // As if that one were the newest.
        house
            .sql(&format!("update secrets set version = {version}"))
            .await;
        let guess = text(&format!("version {version}"));
        assert!(db.secret_compare(&house.bob, id, guess).await.unwrap());
    }
    let keys = house
        .rows("select distinct o.handle from secret_versions v join data_keys k on k.id = v.data_key_id join owners o on o.id = k.owner_id")
        .await;
    assert_eq!(keys, ["crew"]);
    // Grants on the secret follow it; the new owner needs none, and the old owner's folder covers it no more.
    let grants = house
        .rows(
            "select concat_ws(' ', o.handle, ge.handle, g.level, g.prefix) from grants g join owners o on o.id = g.owner_id
             join owners ge on ge.id = g.grantee_id order by 1",
        )
        .await;
    assert_eq!(grants, ["ann carl 3 project/web", "crew carl 2"]);
    assert!(
        db.secret_compare(&house.carl, id, text("version 60"))
            .await
            .unwrap()
    );
    let replaced = db
        .secret_replace(&house.carl, id, 60, NewValue::Typed(text("x")))
        .await;
    assert_eq!(refusal(replaced).kind, RefusalKind::Denied);
    // Both owners have it on record.
    let rows = house
        .rows(
            "select concat_ws(' ', a.actor_name, o.handle, a.path, a.reason) from audit a join owners o on o.id = a.owner_id
             where action = 'secret.move' order by a.id",
        )
        .await;
    assert_eq!(
        rows,
        [
            "ann ann project/web/KEY to another owner",
            "ann crew project/web/KEY from another owner"
        ]
    );
}

#[tokio::test]
async fn a_secret_moves_back_to_whoever_administers_it() {
    let house = house().await;
    let db = &house.db;
    let id = db
        .secret_create(&house.ann, new("KEY", "value of some length"))
        .await
        .unwrap();
    db.secret_move(&house.ann, id, &handle("crew"))
        .await
        .unwrap();
    // Write is enough to bring one, not to take one.
    let refused = db.secret_move(&house.ann, id, &handle("ann")).await;
    assert_eq!(refusal(refused).kind, RefusalKind::Denied);
    db.secret_move(&house.bob, id, &handle("bob"))
        .await
        .unwrap();
    assert_eq!(house.owner(id).await, "bob");
    assert!(
        db.secret_compare(&house.bob, id, text("value of some length"))
            .await
            .unwrap()
    );
    let gone = db.secret_compare(&house.ann, id, text("x")).await;
    assert_eq!(refusal(gone).kind, RefusalKind::NotFound);
}

#[tokio::test]
async fn what_does_not_move_stays_whole_and_says_why() {
    let house = house().await;
    let db = &house.db;
    let id = db
        .secret_create(&house.ann, new("KEY", "value of some length"))
        .await
        .unwrap();
    house.grant(Some(id), "{carl}", 3).await;
    let theirs = db.secret_create(&house.bob, new("key", "x")).await.unwrap();
    db.secret_move(&house.bob, theirs, &handle("crew"))
        .await
        .unwrap();
    for (who, to, kind, field) in [
        (&house.carl, "carl", RefusalKind::Denied, None),
        (&house.bob, "crew", RefusalKind::NotFound, None),
        (&house.ann, "bob", RefusalKind::Invalid, Some("to")),
        (&house.ann, "others", RefusalKind::Invalid, Some("to")),
        (&house.ann, "nobody", RefusalKind::Invalid, Some("to")),
        (&house.ann, "ann", RefusalKind::Invalid, Some("to")),
        // The team has it in another case.
        (&house.ann, "crew", RefusalKind::Taken, Some("to")),
    ] {
        let refused = refusal(db.secret_move(who, id, &handle(to)).await);
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (kind, field),
            "{to}"
        );
        assert_eq!(house.owner(id).await, "ann");
    }
    let plan = db
        .secret_move_plan(&house.ann, id, Some(&handle("crew")))
        .await
        .unwrap();
    assert!(plan.effect.unwrap().taken);
    let rows = recorded(&house.database).await;
    assert!(
        rows.contains(&"user ann secret.move refused KEY path in use".to_owned()),
        "{rows:?}"
    );
    assert!(rows.contains(&"user carl secret.move refused KEY level too low".to_owned()));
    assert!(!rows.contains(&"user ann secret.move done KEY to another owner".to_owned()));

    // One damaged version keeps all of it where it is.
    house
        .sql("delete from secrets where owner_id = '{crew}'")
        .await;
    house
        .sql("update secret_versions set sealed = set_byte(sealed, 40, (get_byte(sealed, 40) + 1) % 256)")
        .await;
    let damaged = refusal(db.secret_move(&house.ann, id, &handle("crew")).await);
    assert_eq!(damaged.kind, RefusalKind::Conflict);
    assert!(damaged.detail.contains("Version 1 of KEY"), "{damaged}");
    assert_eq!(house.owner(id).await, "ann");
}

#[tokio::test]
async fn a_move_says_which_rule_of_rotation_holds_no_more() {
    let house = house().await;
    let db = &house.db;
    let mut told = Vec::new();
    for (path, own_rule) in [
        ("project/web/KEY", false),
        ("project/web/OWN", true),
        ("KEY", false),
    ] {
        let id = db
            .secret_create(&house.ann, new(path, "value"))
            .await
            .unwrap();
        house
            .sql(
                "insert into rotation_rules (id, owner_id, prefix, after_days, set_by)
                 values (gen_random_uuid(), '{ann}', 'project/web', 30, 'ann') on conflict do nothing",
            )
            .await;
        if own_rule {
            let rule = format!(
                "insert into rotation_rules (id, owner_id, secret_id, after_days, set_by)
                 values (gen_random_uuid(), '{{ann}}', '{id}', 30, 'ann')"
            );
            house.sql(&rule).await;
        }
        let plan = db
            .secret_move_plan(&house.ann, id, Some(&handle("crew")))
            .await
            .unwrap();
        told.push(plan.effect.unwrap().rule_lost);
    }
    assert_eq!(told, [Some("project/web".to_owned()), None, None]);
}

/// A secret is on its way into a team, moved but not yet for good, when the team is dissolved.
#[tokio::test]
async fn a_team_is_not_dissolved_while_a_secret_comes_to_it() {
    let house = house().await;
    let db = &house.db;
    let id = db
        .secret_create(&house.ann, new("KEY", "value"))
        .await
        .unwrap();
    // So that the team has a data key, which the end of a move looks at.
    let first = db
        .secret_create(&house.ann, new("FIRST", "value"))
        .await
        .unwrap();
    db.secret_move(&house.ann, first, &handle("crew"))
        .await
        .unwrap();
    db.secret_delete(&house.bob, first, None).await.unwrap();

    let mut holder = house.database.admin_options.connect().await.unwrap();
    let lock = format!(
        "begin; select 1 from data_keys where owner_id = '{}' for update",
        house.ids[3]
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock))
        .execute(&mut holder)
        .await
        .unwrap();
    let moving = tokio::spawn({
        let (db, ann) = (db.clone(), house.ann.clone());
        async move { db.secret_move(&ann, id, &handle("crew")).await }
    });
    common::waiting::held_up(&house.database.admin_options, 1, &moving).await;
    assert!(!moving.is_finished());
    let dissolving = tokio::spawn({
        let (db, bob) = (db.clone(), house.bob.clone());
        async move { db.team_dissolve(&bob, &handle("crew")).await }
    });
    common::waiting::held_up(&house.database.admin_options, 2, &dissolving).await;
    sqlx::raw_sql("rollback")
        .execute(&mut holder)
        .await
        .unwrap();
    moving.await.unwrap().unwrap();
    let refused = refusal(dissolving.await.unwrap());
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert_eq!(house.owner(id).await, "crew");
    assert_eq!(
        house
            .rows("select handle from owners where ended_at is not null")
            .await,
        [""; 0]
    );
}

#[tokio::test]
async fn an_ended_team_is_nobodys_new_owner() {
    let house = house().await;
    let id = house
        .db
        .secret_create(&house.ann, new("KEY", "value"))
        .await
        .unwrap();
    house
        .sql("update owners set ended_at = now() where id = '{crew}'")
        .await;
    let refused = house.db.secret_move(&house.ann, id, &handle("crew")).await;
    assert_eq!(refusal(refused).field.as_deref(), Some("to"));
    // The second lock says the same.
    let mut tx = sealport::store::db::begin_for_tests(&house.db, &house.ann)
        .await
        .unwrap();
    let moved = sqlx::query("update secrets set owner_id = $1 where id = $2")
        .bind(house.ids[3])
        .bind(id)
        .execute(&mut *tx)
        .await;
    match moved {
        Err(sqlx::Error::Database(error)) => assert_eq!(error.code().as_deref(), Some("42501")),
        other => panic!("{other:?}"),
    }
}
