//! Keys: what is exchanged between rows, changing the master key and the data keys, recovery shares.

use sealport::model::actors::{Actor, Caller, Job, Origin};
use sealport::model::errors::RefusalKind;
use sealport::store::db::begin_for_tests;
use sealport::store::master_keys::MasterKeyNews;
use sealport::store::recovery;
use sealport::store::secrets::NewValue;
use sealport::store::{Db, Error, KeySource};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::opening::{as_admin, config, key, open};
use crate::people::{add, caller, recorded, refusal, text};
use crate::secrets::new;

/// The key that follows [`key`].
pub fn next_key() -> SecretString {
    SecretString::from("22".repeat(32))
}

pub fn both_keys() -> SecretString {
    SecretString::from(format!(
        "{},{}",
        key().expose_secret(),
        next_key().expose_secret()
    ))
}

pub async fn open_with(database: &TestDatabase, keys: SecretString) -> Db {
    try_open_with(database, keys).await.unwrap()
}

async fn try_open_with(database: &TestDatabase, keys: SecretString) -> Result<Db, Error> {
    Db::open(config(database), KeySource::Variable(keys)).await
}

pub async fn number(admin: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(admin)
        .await
        .unwrap()
}

/// Past the guards too, as whoever owns the database could.
pub fn past_guards(sql: &str) -> String {
    format!("begin; set local session_replication_role = replica; {sql}; commit")
}

async fn opens(db: &Db, who: &Caller, id: Uuid, value: &str) -> Result<bool, Error> {
    db.secret_compare(who, id, text(value)).await
}

/// Why it does not open, as the person is told.
async fn why_not(db: &Db, who: &Caller, id: Uuid) -> String {
    match db.secret_compare(who, id, text("x")).await {
        Err(Error::Refused(refusal)) => refusal.detail,
        other => panic!("it opened, or was refused: {other:?}"),
    }
}

/// Exchanges what is sealed and what is wrapped in the database, and puts it back: meanwhile nothing opens, and each says why.
#[tokio::test]
async fn what_is_exchanged_between_rows_opens_nowhere_and_says_why() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    let bob = caller(&add(&db, "bob@example.org").await);
    let one = db.secret_create(&ann, new("ONE", "one")).await.unwrap();
    let two = db.secret_create(&ann, new("TWO", "two")).await.unwrap();
    let bobs = db.secret_create(&bob, new("ONE", "bob's")).await.unwrap();
    db.secret_replace(&ann, two, 1, NewValue::Typed(text("two, again")))
        .await
        .unwrap();
    as_admin(
        &database,
        "create schema kept; create table kept.was as select * from secret_versions; \
         create table kept.wrapped_was as select * from data_keys",
    )
    .await;

    let exchange = |a: &str, b: &str, columns: &str| {
        let set = |from: &str| -> String {
            let columns: Vec<String> = columns
                .split(' ')
                .map(|column| format!("{column} = {from}.{column}"))
                .collect();
            columns.join(", ")
        };
        format!(
            "update secret_versions v set {} from kept.was b where {a} and {b}; \
             update secret_versions v set {} from kept.was b where {c} and {d}",
            set("b"),
            set("b"),
            c = b.replace("b.", "v."),
            d = a.replace("v.", "b."),
        )
    };
    let row = |table: &str, id: Uuid, version: i32| {
        format!("{table}.secret_id = '{id}' and {table}.version = {version}")
    };
    let of =
        "it was sealed for another owner, secret, version or data key, or its bytes were changed";
    let not_this_owners = "it was sealed by a data key that is not one of this owner's";
    let unwraps_not = "was wrapped by another master key, for another owner or under another id";
    let cases = [
        (
            "two secrets of one owner",
            exchange(&row("v", one, 1), &row("b", two, 2), "sealed"),
            of,
        ),
        (
            "two versions of one secret",
            exchange(&row("v", two, 1), &row("b", two, 2), "sealed"),
            of,
        ),
        (
            "secrets of two owners, sealed bytes alone",
            exchange(&row("v", two, 2), &row("b", bobs, 1), "sealed"),
            not_this_owners,
        ),
        (
            "secrets of two owners, with the data key's name",
            past_guards(&exchange(
                &row("v", two, 2),
                &row("b", bobs, 1),
                "sealed data_key_id",
            )),
            not_this_owners,
        ),
        (
            "data keys of two owners, wrapped bytes alone",
            "update data_keys d set wrapped = b.wrapped from kept.wrapped_was b where b.id <> d.id"
                .into(),
            unwraps_not,
        ),
        (
            "data keys of two owners, their owners",
            past_guards(
                "update data_keys set active = false; update data_keys d set owner_id = b.owner_id from kept.wrapped_was b where b.id <> d.id",
            ),
            not_this_owners,
        ),
        (
            "a number of a version",
            past_guards(&format!(
                "delete from secret_versions where secret_id = '{two}' and version = 2; \
                 update secret_versions set version = 2 where secret_id = '{two}'"
            )),
            of,
        ),
        (
            "one bit",
            format!(
                "update secret_versions set sealed = set_bit(sealed, 300, 1 - get_bit(sealed, 300)) where secret_id = '{two}'"
            ),
            of,
        ),
        (
            "all bytes for others",
            format!("update secret_versions set sealed = '\\x00' where secret_id = '{two}'"),
            "it is no sealed value of a known format",
        ),
    ];
    for (what, exchanged, why) in cases {
        as_admin(&database, &exchanged).await;
        // A store that has cached no data key.
        let fresh = open(&database).await;
        let told = why_not(&fresh, &ann, two).await;
        assert!(told.contains(why), "{what}: {told}");
        println!("exchanged: {what}: {told}");
        as_admin(
            &database,
            &past_guards(
                "delete from secret_versions; delete from data_keys; \
                 insert into data_keys select * from kept.wrapped_was; insert into secret_versions select * from kept.was",
            ),
        )
        .await;
        let fresh = open(&database).await;
        for (who, id, value) in [
            (&ann, one, "one"),
            (&ann, two, "two, again"),
            (&bob, bobs, "bob's"),
        ] {
            assert!(
                opens(&fresh, who, id, value).await.unwrap(),
                "{what}: in its place it opens"
            );
        }
        as_admin(&database, "delete from attempts").await;
    }
}

/// Between two data keys of one owner too: one that has a successor and the successor.
#[tokio::test]
async fn a_version_opens_under_no_other_data_key_of_its_owner() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    let id = db.secret_create(&ann, new("KEY", "value")).await.unwrap();
    as_admin(
        &database,
        "create schema kept; create table kept.was as select * from secret_versions",
    )
    .await;
    db.data_keys_rotate_all().await.unwrap();
    let done = db.rotation_step().await.unwrap().unwrap();
    assert_eq!((done.successors, done.resealed), (1, 1));
    as_admin(
        &database,
        "create table kept.renewed as select * from secret_versions; \
         update secret_versions v set sealed = overlay(w.sealed placing substring(v.sealed from 2 for 16) from 2) from kept.was w",
    )
    .await;
    let told = why_not(&open(&database).await, &ann, id).await;
    assert!(
        told.contains("another owner, secret, version or data key"),
        "{told}"
    );
    // What the former key sealed opens by the former key, and what the successor sealed by the successor.
    for copy in ["was", "renewed"] {
        as_admin(
            &database,
            &format!("update secret_versions v set sealed = w.sealed, data_key_id = w.data_key_id from kept.{copy} w"),
        )
        .await;
        assert!(
            opens(&open(&database).await, &ann, id, "value")
                .await
                .unwrap()
        );
    }
}

async fn rotate(db: &Db) -> Result<Vec<MasterKeyNews>, Error> {
    let mut news = Vec::new();
    db.master_key_rotate(|one| news.push(one)).await?;
    Ok(news)
}

#[tokio::test]
async fn the_master_key_changes_while_servers_run() {
    let database = common::new_database().await;
    // Opened before, and running on with what they have cached or not.
    let (db, other) = (
        open_with(&database, both_keys()).await,
        open_with(&database, both_keys()).await,
    );
    for server in [&db, &other] {
        server.server_start("a server").await.unwrap();
    }
    let (old, ann) = (
        db.key_fingerprint(),
        caller(&add(&db, "ann@example.org").await),
    );
    let id = db.secret_create(&ann, new("KEY", "value")).await.unwrap();

    let news = rotate(&open_with(&database, both_keys()).await)
        .await
        .unwrap();
    let status = db.keys_status().await.unwrap();
    let fresh = status.masters[0].fingerprint.clone();
    assert_eq!(
        news,
        [
            MasterKeyNews::Staged(fresh.clone()),
            MasterKeyNews::Promoted(fresh.clone()),
            MasterKeyNews::Rewrapped(1),
            MasterKeyNews::Retired(old.clone()),
        ]
    );
    assert_eq!(status.masters.len(), 1);
    assert_eq!(status.masters[0].state, "active");
    assert_eq!(status.masters[0].data_keys, 1);
    assert_eq!(status.retired[0].0, old);
    assert_eq!(status.servers.len(), 2);

    // Servers that were not started again go on: with what was there, and with an owner who comes now.
    for server in [&db, &other] {
        assert!(opens(server, &ann, id, "value").await.unwrap());
    }
    let bob = caller(&add(&db, "bob@example.org").await);
    let bobs = db.secret_create(&bob, new("KEY", "bob's")).await.unwrap();
    assert!(opens(&other, &bob, bobs, "bob's").await.unwrap());
    other.server_step("a server").await.unwrap();
    assert_eq!(other.key_fingerprint(), fresh);

    // The new key alone opens everything, the former one nothing, and it is not taken again.
    let alone = open_with(&database, next_key()).await;
    assert!(opens(&alone, &ann, id, "value").await.unwrap());
    assert!(opens(&alone, &bob, bobs, "bob's").await.unwrap());
    let told = try_open_with(&database, key())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        told.contains(&fresh) && told.contains("Retired here"),
        "{told}"
    );
    let nothing = refusal(rotate(&db).await);
    assert_eq!(nothing.kind, RefusalKind::Conflict);
    assert!(nothing.detail.contains(&old), "{}", nothing.detail);

    let lines = recorded(&database).await;
    for step in ["is staged", "is active", "is retired"] {
        assert!(
            lines
                .iter()
                .any(|line| line.contains("key.rotate") && line.contains(step)),
            "{step}: {lines:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_lacks_the_new_key_is_named_and_nothing_changes() {
    let database = common::new_database().await;
    let (knows, lacks) = (
        open_with(&database, both_keys()).await,
        open(&database).await,
    );
    knows.server_start("east, process 7").await.unwrap();
    lacks.server_start("west, process 8").await.unwrap();
    let old = lacks.key_fingerprint();
    for _ in 0..2 {
        let told = refusal(rotate(&knows).await);
        assert_eq!(told.kind, RefusalKind::Conflict);
        assert!(told.detail.contains("west, process 8"), "{}", told.detail);
        assert!(!told.detail.contains("east"), "{}", told.detail);
    }
    let status = knows.keys_status().await.unwrap();
    let states: Vec<&str> = status
        .masters
        .iter()
        .map(|key| key.state.as_str())
        .collect();
    assert_eq!(states, ["active", "staged"]);
    assert_eq!(status.masters[0].fingerprint, old);
    let lines = recorded(&database).await;
    assert!(
        lines
            .iter()
            .any(|line| line.contains("refused") && line.contains("lacks the new key")),
        "{lines:?}"
    );
    // One that was not heard of for long is gone.
    as_admin(
        &database,
        "update servers set seen_at = now() - interval '31 seconds' where name like 'west%'",
    )
    .await;
    rotate(&knows).await.unwrap();
    // Comes back, and is told. It answers no more that it is ready.
    let told = lacks
        .server_step("west, process 8")
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("was changed"), "{told}");
    assert!(lacks.ready().await.is_err());
    assert!(knows.ready().await.is_ok());
    knows.server_leave().await.unwrap();
    let left = knows.keys_status().await.unwrap().servers;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].name, "west, process 8");
}

#[tokio::test]
async fn there_has_to_be_one_new_key() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let told = refusal(rotate(&db).await);
    assert!(told.detail.contains("sealport key new"), "{}", told.detail);
    let three = format!("{},{}", both_keys().expose_secret(), "33".repeat(32));
    let db = open_with(&database, SecretString::from(three)).await;
    let status = db.keys_status().await.unwrap();
    assert_eq!(status.new_here.len(), 2);
    let told = refusal(rotate(&db).await);
    for new in &status.new_here {
        assert!(told.detail.contains(new), "{}", told.detail);
    }
    assert_eq!(status.masters.len(), 1);
}

/// A transaction that keeps a data key wrapped by the former key is under way when that key is about to go.
#[tokio::test]
async fn what_is_wrapped_meanwhile_is_not_left_behind() {
    let database = common::new_database().await;
    let db = open_with(&database, both_keys()).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    let bob = caller(&add(&db, "bob@example.org").await);
    db.secret_create(&ann, new("KEY", "value")).await.unwrap();

    let mut admin = database.admin_options.connect().await.unwrap();
    let mut watch = database.admin_options.connect().await.unwrap();
    sqlx::raw_sql("begin; lock table secret_versions in exclusive mode")
        .execute(&mut admin)
        .await
        .unwrap();
    let waiting = |blocked: &'static str| {
        format!(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' \
             and query like '%{blocked}%' and pid <> pg_backend_pid()"
        )
    };
    let making = tokio::spawn({
        let (db, bob) = (db.clone(), bob.clone());
        async move { db.secret_create(&bob, new("KEY", "bob's")).await.unwrap() }
    });
    until(&mut watch, &waiting("insert into secret_versions")).await;
    let rotating = tokio::spawn({
        let db = open_with(&database, both_keys()).await;
        async move { rotate(&db).await.unwrap() }
    });
    until(&mut watch, &waiting("delete from master_keys")).await;
    sqlx::raw_sql("rollback").execute(&mut admin).await.unwrap();
    let id = making.await.unwrap();
    let news = rotating.await.unwrap();
    let rewrapped: Vec<&MasterKeyNews> = news
        .iter()
        .filter(|one| matches!(one, MasterKeyNews::Rewrapped(_)))
        .collect();
    assert_eq!(rewrapped.len(), 2, "{news:?}");
    let alone = open_with(&database, next_key()).await;
    assert!(opens(&alone, &bob, id, "bob's").await.unwrap());
}

pub async fn until(admin: &mut PgConnection, counted: &str) {
    let seen = async {
        while number(admin, counted).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), seen)
        .await
        .expect(counted);
}

#[tokio::test]
async fn a_damaged_data_key_is_named_and_holds_up_no_other() {
    let database = common::new_database().await;
    let db = open_with(&database, both_keys()).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    let bob = caller(&add(&db, "bob@example.org").await);
    let id = db.secret_create(&ann, new("KEY", "value")).await.unwrap();
    db.secret_create(&bob, new("KEY", "bob's")).await.unwrap();
    let mut admin = database.admin_options.connect().await.unwrap();
    let damage = format!(
        "update data_keys set wrapped = set_bit(wrapped, 200, 1 - get_bit(wrapped, 200)) where owner_id <> '{}'",
        ann.user().unwrap().id
    );
    as_admin(&database, &damage).await;
    let damaged: Uuid = sqlx::query_scalar("select id from data_keys where owner_id = $1")
        .bind(bob.user().unwrap().id)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    let told = refusal(rotate(&db).await);
    assert!(
        told.detail.contains(&damaged.to_string()),
        "{}",
        told.detail
    );
    let status = db.keys_status().await.unwrap();
    let of = |state: &str| {
        let key = status.masters.iter().find(|key| key.state == state);
        key.unwrap().data_keys
    };
    assert_eq!((of("active"), of("retiring")), (1, 1));
    assert!(opens(&db, &ann, id, "value").await.unwrap());
    // Repaired, the same command ends the work.
    as_admin(&database, &damage).await;
    let news = rotate(&open_with(&database, both_keys()).await)
        .await
        .unwrap();
    assert!(matches!(news[0], MasterKeyNews::Rewrapped(1)), "{news:?}");
    assert!(matches!(news[1], MasterKeyNews::Retired(_)), "{news:?}");
}

#[tokio::test]
async fn data_keys_get_successors_at_their_age_and_versions_are_sealed_anew() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let other = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    let bob = caller(&add(&db, "bob@example.org").await);
    let id = db.secret_create(&ann, new("KEY", "value")).await.unwrap();
    let bobs = db.secret_create(&bob, new("KEY", "bob's")).await.unwrap();
    for version in 1..=4 {
        let value = NewValue::Typed(text(&format!("value {version}")));
        db.secret_replace(&ann, id, version, value).await.unwrap();
    }
    // Both have the data keys open.
    assert!(opens(&other, &ann, id, "value 4").await.unwrap());
    assert_eq!(db.rotation_step().await.unwrap(), Some(Default::default()));
    let aged = format!(
        "update data_keys set created_at = now() - interval '91 days' where owner_id = '{}'",
        ann.user().unwrap().id
    );
    as_admin(&database, &past_guards(&aged)).await;
    db.data_keys_max_age(0).await.unwrap();
    assert_eq!(db.rotation_step().await.unwrap(), Some(Default::default()));
    db.data_keys_max_age(90).await.unwrap();

    let mut admin = database.admin_options.connect().await.unwrap();
    let before = number(&mut admin, "select count(*) from secret_versions").await;
    let done = db.rotation_step().await.unwrap().unwrap();
    assert_eq!((done.successors, done.resealed), (1, 5));
    assert_eq!((done.removed, done.damaged), (0, 0));
    assert_eq!(
        number(&mut admin, "select count(*) from secret_versions").await,
        before
    );
    assert_eq!(
        number(
            &mut admin,
            "select count(*) from secret_versions v join data_keys d on d.id = v.data_key_id where not d.active"
        )
        .await,
        0
    );
    for server in [&db, &other, &open(&database).await] {
        assert!(opens(server, &ann, id, "value 4").await.unwrap());
        assert!(opens(server, &bob, bobs, "bob's").await.unwrap());
    }
    // One that only knew the former key writes with the successor.
    other
        .secret_replace(&ann, id, 5, NewValue::Typed(text("value 5")))
        .await
        .unwrap();
    assert!(opens(&db, &ann, id, "value 5").await.unwrap());

    // The former key goes when nobody can be using it any more.
    assert_eq!(
        number(&mut admin, "select count(*) from data_keys").await,
        3
    );
    // Nobody but an import that waits for its person, for a quarter of an hour.
    for (minutes, removed) in [(15, 0), (17, 1)] {
        let retired = format!(
            "update data_keys set retired_at = now() - interval '{minutes} minutes' where not active"
        );
        as_admin(&database, &past_guards(&retired)).await;
        let done = db.rotation_step().await.unwrap().unwrap();
        assert_eq!(
            (done.successors, done.resealed, done.removed),
            (0, 0, removed),
            "{minutes}"
        );
    }
    assert_eq!(
        number(&mut admin, "select count(*) from data_keys").await,
        2
    );
    assert!(
        opens(&open(&database).await, &ann, id, "value 5")
            .await
            .unwrap()
    );
    let lines = recorded(&database).await;
    let about: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("data-key.rotate"))
        .collect();
    assert_eq!(about.len(), 2, "{about:?}");
}

/// The clock went back after the order: successors are older than it, too.
#[tokio::test]
async fn a_clock_that_goes_back_keeps_no_round_going() {
    let database = common::new_database().await;
    let db = open(&database).await;
    for name in ["ann", "bob"] {
        let owner = caller(&add(&db, &format!("{name}@example.org")).await);
        db.secret_create(&owner, new("KEY", "value")).await.unwrap();
    }
    db.data_keys_rotate_all().await.unwrap();
    as_admin(
        &database,
        "update settings set value = to_jsonb(now() + interval '1 hour') where key = 'data_keys.rotate_before'",
    )
    .await;
    let round = tokio::time::timeout(std::time::Duration::from_secs(60), db.rotation_step());
    let done = round.await.expect("it does not end").unwrap().unwrap();
    assert_eq!((done.successors, done.resealed), (2, 2));
}

#[tokio::test]
async fn one_server_at_a_time_seals_anew_and_a_damaged_version_holds_up_no_other() {
    let database = common::new_database().await;
    let (db, other) = (open(&database).await, open(&database).await);
    let ann = caller(&add(&db, "ann@example.org").await);
    let one = db.secret_create(&ann, new("ONE", "one")).await.unwrap();
    let two = db.secret_create(&ann, new("TWO", "two")).await.unwrap();
    as_admin(
        &database,
        &format!("update secret_versions set sealed = set_bit(sealed, 300, 1 - get_bit(sealed, 300)) where secret_id = '{one}'"),
    )
    .await;
    db.data_keys_rotate_all().await.unwrap();
    let mut admin = database.admin_options.connect().await.unwrap();
    let held = "insert into leases (name, holder, held_until) values ('rotation', gen_random_uuid(), now() + interval '1 hour')";
    as_admin(&database, held).await;
    assert_eq!(db.rotation_step().await.unwrap(), None);
    assert_eq!(
        number(&mut admin, "select count(*) from data_keys").await,
        1
    );
    as_admin(&database, "update leases set held_until = now()").await;
    let done = other.rotation_step().await.unwrap().unwrap();
    assert_eq!((done.successors, done.resealed, done.damaged), (1, 1, 1));
    assert_eq!(db.data_keys_left().await.unwrap(), (0, 1));
    assert!(opens(&db, &ann, two, "two").await.unwrap());
    // The damaged one keeps its key: whoever has the right bytes again opens it.
    as_admin(
        &database,
        &format!("update secret_versions set sealed = set_bit(sealed, 300, 1 - get_bit(sealed, 300)) where secret_id = '{one}'"),
    )
    .await;
    assert!(opens(&db, &ann, one, "one").await.unwrap());
    let done = db.rotation_step().await.unwrap().unwrap();
    assert_eq!((done.resealed, done.damaged), (1, 0));
}

#[tokio::test]
async fn the_rotation_job_changes_nothing_but_keys_and_what_is_sealed() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    db.secret_create(&ann, new("KEY", "value")).await.unwrap();
    db.data_keys_rotate_all().await.unwrap();
    db.rotation_step().await.unwrap().unwrap();
    let rotation = Caller {
        actor: Actor::Job(Job::Rotation),
        origin: Origin::default(),
    };
    let done = async |who: &Caller, sql: &str| -> Result<u64, String> {
        let mut tx = begin_for_tests(&db, who).await.unwrap();
        match sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *tx)
            .await
        {
            Ok(done) => Ok(done.rows_affected()),
            Err(sqlx::Error::Database(error)) => Err(error.code().unwrap_or_default().into_owned()),
            Err(error) => panic!("{sql}: {error}"),
        }
    };
    let forbidden = || Err(String::from("42501"));
    for sql in [
        "update secret_versions set maskable = not maskable",
        "update secret_versions set version = 7",
        "update data_keys set owner_id = gen_random_uuid()",
        "update data_keys set active = true, retired_at = null where not active",
        "update data_keys set created_at = now()",
        "insert into secret_versions select * from secret_versions",
    ] {
        assert_eq!(done(&rotation, sql).await, forbidden(), "{sql}");
    }
    for sql in [
        "select 1 from secrets",
        "select 1 from users",
        "select 1 from audit",
        "delete from master_keys",
        "update master_keys set state = 'retiring'",
        "update settings set value = '1'",
    ] {
        assert_eq!(done(&rotation, sql).await, Ok(0), "{sql}");
    }
    // A person changes no keys, not even their own, and learns of master keys the active one's name.
    for sql in [
        "update data_keys set wrapped = wrapped",
        "select 1 from master_keys",
        "delete from data_keys",
    ] {
        assert_eq!(done(&ann, sql).await, Ok(0), "{sql}");
    }
    assert_eq!(done(&ann, "select active_master_key()").await, Ok(1));
    assert_eq!(
        done(&rotation, "update secret_versions set sealed = sealed").await,
        Ok(1)
    );
}

#[tokio::test]
async fn shares_are_made_on_record_and_rehearsed_without_a_change() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    db.secret_create(&ann, new("KEY", "value")).await.unwrap();
    let split = db.master_key_split(5, 3).await.unwrap();
    let lines = recorded(&database).await;
    assert!(
        lines.iter().any(|line| line.contains("key.split")),
        "{lines:?}"
    );
    let chosen: Vec<&str> = [4, 0, 2]
        .map(|at: usize| split.shares[at].expose_secret())
        .to_vec();
    let joined = recovery::join(&chosen.join("\n")).unwrap();
    assert_eq!(joined.text().expose_secret(), key().expose_secret());

    let mut admin = database.admin_options.connect().await.unwrap();
    let rows = number(&mut admin, "select count(*) from audit").await;
    let rehearsed = joined.rehearse(config(&database)).await.unwrap();
    assert_eq!(rehearsed.state, "active");
    assert_eq!((rehearsed.opened, rehearsed.data_keys), (1, 1));
    assert_eq!(number(&mut admin, "select count(*) from audit").await, rows);

    // Shares of a key that was changed since say so, and a stranger's too.
    rotate(&open_with(&database, both_keys()).await)
        .await
        .unwrap();
    let told = refusal(joined.rehearse(config(&database)).await);
    assert!(told.detail.contains("was retired here"), "{}", told.detail);
    let elsewhere = common::new_database().await;
    open_with(&elsewhere, next_key()).await;
    let told = refusal(joined.rehearse(config(&elsewhere)).await);
    assert!(told.detail.contains("does not know it"), "{}", told.detail);
    let too_many = refusal(db.master_key_split(3, 4).await.map(|_| ()));
    assert_eq!(too_many.field.as_deref(), Some("shares"));
}
