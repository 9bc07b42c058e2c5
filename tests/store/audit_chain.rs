//! The record's chain: what is sealed when, and that every change to it is found, whoever made it.

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use sealport::model::actors::{Actor, Caller, Job, Origin};
use sealport::model::audit::{AuditAsked, AuditFilter};
use sealport::store::chain::Link;
use sealport::store::db::begin_for_tests;
use sealport::store::{DatabaseConfig, Db, KeySource, OwnerLogin};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, raw_sql};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::keys::{both_keys, next_key, open_with};
use crate::opening::{as_admin, config, key, open};
use crate::people::{add, caller, refusal};
use crate::secrets::new;

/// Runs SQL as the tables' owner, whom Row Level Security binds too until he lifts it.
async fn as_owner(database: &TestDatabase, sql: &str) {
    let mut owner = database.owner_options.connect().await.unwrap();
    let tables = ["audit", "audit_seals", "audit_batches", "audit_drops"];
    let lifted = tables.map(|table| format!("alter table {table} no force row level security;"));
    let forced = tables.map(|table| format!("alter table {table} force row level security;"));
    let sql = format!(
        "begin; {} {sql}; {} commit",
        lifted.join(" "),
        forced.join(" ")
    );
    raw_sql(AssertSqlSafe(sql))
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();
}

async fn text(database: &TestDatabase, sql: &str) -> String {
    let mut admin: PgConnection = database.admin_options.connect().await.unwrap();
    let sql = format!("select coalesce(({sql})::text, '')");
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(&mut admin)
        .await
        .unwrap()
}

async fn count(database: &TestDatabase, from: &str) -> i64 {
    let sql = format!("select count(*) from {from}");
    text(database, &sql).await.parse().unwrap()
}

/// Waits until every transaction that wrote to the record counts as finished: others of the cluster hold that up, too.
async fn finished(database: &TestDatabase) {
    // Not beyond all numbers of this cluster: those are another's.
    let open =
        "audit where xid >= pg_snapshot_xmin(pg_current_snapshot()) and xid < '900000000000'::xid8";
    while count(database, open).await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Seals all that waits.
async fn seal(database: &TestDatabase, db: &Db) {
    finished(database).await;
    for _ in 0..1_000 {
        if !db.seal_step().await.unwrap() {
            return lapse(db).await;
        }
    }
    panic!("it seals for ever");
}

/// Lets the lease lapse, as when its server is gone.
async fn lapse(db: &Db) {
    let mut tx = begin_for_tests(db, &Caller::job(Job::Sealer))
        .await
        .unwrap();
    sqlx::query("update leases set held_until = now() - interval '1 second' where name = 'sealer'")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// The sentence of the first damage; empty when all is whole.
async fn damage(db: &Db, kept: Option<Link>) -> String {
    let report = db.audit_verify(kept).await.unwrap();
    report
        .damage
        .map(|found| found.sentence)
        .unwrap_or_default()
}

struct House {
    database: TestDatabase,
    db: Db,
    ann: Caller,
}

/// Three batches, of what Ann did.
async fn house() -> House {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    for path in ["ONE", "TWO"] {
        db.secret_create(&ann, new(path, "a value")).await.unwrap();
    }
    seal(&database, &db).await;
    for path in ["THREE", "FOUR"] {
        db.secret_create(&ann, new(path, "a value")).await.unwrap();
    }
    seal(&database, &db).await;
    db.secret_create(&ann, new("FIVE", "a value"))
        .await
        .unwrap();
    seal(&database, &db).await;
    let house = House { database, db, ann };
    assert_eq!(count(&house.database, "audit_batches").await, 3);
    house
}

#[tokio::test]
async fn rows_are_numbered_without_a_hole_and_the_chain_is_whole() {
    let house = house().await;
    let report = house.db.audit_verify(None).await.unwrap();
    let rows = count(&house.database, "audit").await;
    assert_eq!((report.rows, report.batches, report.unsealed), (rows, 3, 0));
    assert_eq!(report.damage, None);
    let numbers = text(
        &house.database,
        "select string_agg(seq::text, ',' order by seq) from audit_seals",
    )
    .await;
    let expected: Vec<String> = (1..=rows).map(|seq| seq.to_string()).collect();
    assert_eq!(numbers, expected.join(","));
    // A link stays true while the record grows, and an idle step writes nothing.
    let link = report.link.unwrap();
    seal(&house.database, &house.db).await;
    assert_eq!(count(&house.database, "audit_batches").await, 3);
    house
        .db
        .secret_create(&house.ann, new("SIX", "a value"))
        .await
        .unwrap();
    assert_eq!(house.db.audit_verify(Some(link)).await.unwrap().unsealed, 1);
    seal(&house.database, &house.db).await;
    assert_eq!(damage(&house.db, Some(link)).await, "");
    // With the same master key the chain opens after a new start, too.
    let again = open(&house.database).await;
    assert_eq!(damage(&again, Some(link)).await, "");
}

#[tokio::test]
async fn only_finished_transactions_are_sealed_and_none_is_passed_over() {
    let house = house().await;
    let line = "insert into audit (id, actor_kind, actor_name, action, outcome)
                values (gen_random_uuid(), 'job', 'operator', 'key.create', 'done')";
    let operator = Caller::job(Job::Operator);
    let mut slow = begin_for_tests(&house.db, &operator).await.unwrap();
    sqlx::query(line).execute(&mut *slow).await.unwrap();
    // Later, and finished first.
    let mut quick = begin_for_tests(&house.db, &operator).await.unwrap();
    sqlx::query(line).execute(&mut *quick).await.unwrap();
    quick.commit().await.unwrap();
    let mut undone = begin_for_tests(&house.db, &operator).await.unwrap();
    sqlx::query(line).execute(&mut *undone).await.unwrap();
    undone.rollback().await.unwrap();
    let before = count(&house.database, "audit_seals").await;
    assert!(!house.db.seal_step().await.unwrap());
    assert_eq!(count(&house.database, "audit_seals").await, before);
    slow.commit().await.unwrap();
    seal(&house.database, &house.db).await;
    assert_eq!(count(&house.database, "audit_seals").await, before + 2);
    assert_eq!(damage(&house.db, None).await, "");
}

#[tokio::test]
async fn a_backlog_is_sealed_in_batches_also_within_one_transaction() {
    let house = house().await;
    as_admin(
        &house.database,
        "insert into audit (id, actor_kind, actor_name, action, outcome)
         select gen_random_uuid(), 'job', 'operator', 'key.create', 'done' from generate_series(1, 1234)",
    )
    .await;
    seal(&house.database, &house.db).await;
    let report = house.db.audit_verify(None).await.unwrap();
    assert_eq!((report.batches, report.unsealed), (6, 0));
    assert_eq!(report.damage, None);
    assert_eq!(report.rows, count(&house.database, "audit").await);
}

#[tokio::test]
async fn one_server_seals_at_a_time_and_another_follows_when_it_is_gone() {
    let house = house().await;
    let (one, other) = (open(&house.database).await, open(&house.database).await);
    let more = async |path: &str| {
        let made = house.db.secret_create(&house.ann, new(path, "v")).await;
        made.unwrap();
        finished(&house.database).await;
    };
    more("A").await;
    one.seal_step().await.unwrap();
    more("B").await;
    other.seal_step().await.unwrap();
    assert_eq!(house.db.audit_verify(None).await.unwrap().unsealed, 1);
    lapse(&house.db).await;
    // Both at once: one batch is made.
    let (a, b) = tokio::join!(one.seal_step(), other.seal_step());
    a.unwrap();
    b.unwrap();
    let report = house.db.audit_verify(None).await.unwrap();
    assert_eq!((report.batches, report.unsealed), (5, 0));
    assert_eq!(report.damage, None);
}

#[tokio::test]
async fn every_change_to_what_is_sealed_is_named() {
    // The first of what was made, seen from the third batch: rows 1 to 3, 4 and 5, 6.
    let seq = |path: &str| {
        format!(
            "(select s.seq from audit_seals s join audit a on a.id = s.audit_id where a.path = '{path}')"
        )
    };
    let cases: Vec<(&str, String, &str)> = vec![
        (
            "a changed field",
            "update audit set reason = 'x' where path = 'THREE'".into(),
            "Row {THREE}, in batch 2, is not as it was sealed",
        ),
        (
            "a field taken away",
            "update audit set user_id = null where path = 'THREE'".into(),
            "Row {THREE}, in batch 2, is not as it was sealed",
        ),
        (
            "another moment",
            "update audit set at = at - interval '1 microsecond' where path = 'FOUR'".into(),
            "Row {FOUR}, in batch 2, is not as it was sealed",
        ),
        (
            "two changes: the first is named",
            "update audit set outcome = 'refused' where path in ('TWO', 'FIVE')".into(),
            "Row {TWO}, in batch 1, is not as it was sealed",
        ),
        (
            "a deleted row",
            "delete from audit where path = 'FOUR'".into(),
            "Row {FOUR}, in batch 2, is missing",
        ),
        (
            "a deleted row with its seal",
            "delete from audit_seals s using audit a where a.id = s.audit_id and a.path = 'THREE';
             delete from audit where path = 'THREE'"
                .into(),
            "Row {THREE}, in batch 2, has lost its seal",
        ),
        (
            "two rows with each other's contents",
            "update audit a set path = case a.path when 'ONE' then 'TWO' else 'ONE' end where a.path in ('ONE', 'TWO')".into(),
            "Row {ONE}, in batch 1, is not as it was sealed",
        ),
        (
            "two seals with each other's rows",
            format!(
                "create temp table two on commit drop as select seq, audit_id from audit_seals where seq in ({}, {});
                 delete from audit_seals where seq in (select seq from two);
                 insert into audit_seals (seq, audit_id, mac)
                 select x.seq, y.audit_id, '\\x00' from two x join two y on x.seq <> y.seq",
                seq("ONE"),
                seq("TWO")
            ),
            "Row {ONE}, in batch 1, is not as it was sealed",
        ),
        (
            "a row put in among sealed ones",
            "insert into audit (id, at, xid, actor_kind, actor_name, action, outcome)
             select '00000000-0000-7000-8000-000000000001', at, xid, 'user', 'eve', 'secret.bind', 'done'
             from audit where path = 'ONE'"
                .into(),
            "A row was put in among sealed ones: its id is 00000000-0000-7000-8000-000000000001",
        ),
        (
            "a seal with a number of its own making",
            "insert into audit_seals (seq, audit_id, mac) values (7000, gen_random_uuid(), '\\x00')".into(),
            "Row 7000 has a number and is in no batch",
        ),
        (
            "a batch that says another number of rows",
            "update audit_batches set rows = rows - 1 where number = 2".into(),
            "The entry of batch 2 was changed",
        ),
        (
            "a batch with another hash",
            "update audit_batches set hash = set_byte(hash, 0, (get_byte(hash, 0) + 1) % 256) where number = 2".into(),
            "The entry of batch 2 was changed",
        ),
        (
            "a batch of another moment",
            "update audit_batches set sealed_at = sealed_at - interval '1 day' where number = 1".into(),
            "The entry of batch 1 was changed",
        ),
        (
            "a batch that is gone",
            "delete from audit_batches where number = 2".into(),
            "Batch 2 is missing",
        ),
        (
            "the oldest batches dropped without a mark",
            "delete from audit a using audit_seals s where s.audit_id = a.id and s.seq < (select first_seq from audit_batches where number = 2);
             delete from audit_seals where seq < (select first_seq from audit_batches where number = 2);
             delete from audit_batches where number = 1"
                .into(),
            "Batch 1 is missing",
        ),
        (
            "the oldest batches dropped with a mark of one's own",
            "insert into audit_drops (number, last_seq, key_id, hash, mac, dropped_at)
             select number, first_seq + rows - 1, key_id, hash, hash, now() from audit_batches where number = 1"
                .into(),
            "The mark of what was dropped from the record was changed",
        ),
    ];
    for (what, sql, named) in cases {
        let house = house().await;
        assert_eq!(damage(&house.db, None).await, "", "{what}");
        let mut named = named.to_owned();
        for path in ["ONE", "TWO", "THREE", "FOUR", "FIVE"] {
            let number = text(&house.database, &format!("select {}", seq(path))).await;
            named = named.replace(&format!("{{{path}}}"), &number);
        }
        as_owner(&house.database, &sql).await;
        let told = damage(&house.db, None).await;
        assert!(told.contains(&named), "{what}: {told:?}, not {named:?}");
        // Sealing on does not hide it.
        let made = house.db.secret_create(&house.ann, new("LATER", "v")).await;
        made.unwrap();
        finished(&house.database).await;
        if house.db.seal_step().await.is_ok() {
            let told = damage(&house.db, None).await;
            assert!(told.contains(&named), "{what}, later: {told:?}");
        }
    }
}

#[tokio::test]
async fn a_link_kept_elsewhere_shows_a_cut_end_and_a_chain_made_anew() {
    let house = house().await;
    let link = house.db.audit_verify(None).await.unwrap().link.unwrap();
    let cut = "delete from audit a using audit_seals s
                   where s.audit_id = a.id and s.seq >= (select first_seq from audit_batches where number = 3);
               delete from audit_seals where seq >= (select first_seq from audit_batches where number = 3);
               delete from audit_batches where number = 3";
    as_owner(&house.database, cut).await;
    // By itself, a shorter chain is a chain.
    assert_eq!(damage(&house.db, None).await, "");
    let told = damage(&house.db, Some(link)).await;
    assert!(told.contains("its end was cut off"), "{told}");
    // It grows again, and is another one.
    let made = house.db.secret_create(&house.ann, new("LATER", "v")).await;
    made.unwrap();
    finished(&house.database).await;
    // Not by the server that saw the end which is gone: it would make it look whole.
    let refused = house.db.seal_step().await.unwrap_err();
    let said = format!("{refused:?}");
    assert!(
        said.contains("Batch 3 of the record is not there"),
        "{said}"
    );
    assert_eq!(count(&house.database, "audit_batches").await, 2);
    // One that starts anew knows nothing of it.
    let later = open(&house.database).await;
    seal(&house.database, &later).await;
    assert_eq!(damage(&later, None).await, "");
    let told = damage(&later, Some(link)).await;
    assert!(told.contains("was made anew"), "{told}");
}

#[tokio::test]
async fn what_the_bound_role_may_not() {
    let house = house().await;
    for job in [Job::Sealer, Job::Operator] {
        for (sql, code) in [
            ("update audit_seals set seq = seq", "42501"),
            ("delete from audit_batches", "42501"),
            ("delete from audit_seals", "42501"),
            ("delete from audit", "42501"),
            (
                "insert into audit_drops (number, last_seq, key_id, hash, mac, dropped_at)
              select 9, 9, key_id, hash, hash, now() from audit_batches limit 1",
                "42501",
            ),
            // When it was written, and in which transaction, is not for the server to say.
            (
                "insert into audit (id, actor_kind, actor_name, action, outcome, xid)
              values (gen_random_uuid(), 'job', 'x', 'x', 'done', '1')",
                "42501",
            ),
            (
                "insert into audit (id, actor_kind, actor_name, action, outcome, at)
              values (gen_random_uuid(), 'job', 'x', 'x', 'done', now())",
                "42501",
            ),
        ] {
            let mut tx = begin_for_tests(&house.db, &Caller::job(job)).await.unwrap();
            let refused = sqlx::query(sql).execute(&mut *tx).await.unwrap_err();
            let got = refused
                .as_database_error()
                .and_then(|e| e.code().map(|c| c.into_owned()));
            assert_eq!(got.as_deref(), Some(code), "{sql}");
        }
    }
    // A server whose role may drop rows does not start.
    for table in ["audit_seals", "audit_batches", "audit_drops"] {
        as_admin(
            &house.database,
            &format!("grant delete on {table} to sealport_server"),
        )
        .await;
        let told = Db::open(config(&house.database), KeySource::Variable(key()))
            .await
            .unwrap_err()
            .to_string();
        assert!(told.contains(table), "{told}");
        as_admin(
            &house.database,
            &format!("revoke delete on {table} from sealport_server"),
        )
        .await;
    }
}

#[tokio::test]
async fn a_master_key_that_wraps_a_key_of_the_chain_is_missed() {
    let house = house().await;
    let wrapped = text(
        &house.database,
        "select encode(wrapped, 'hex') from chain_keys",
    )
    .await;
    // Key, nonce and tag, and nothing of the key in clear.
    assert_eq!(wrapped.len(), 2 * (1 + 12 + 32 + 16));
    as_admin(
        &house.database,
        "update chain_keys set wrapped = set_byte(wrapped, 20, (get_byte(wrapped, 20) + 1) % 256)",
    )
    .await;
    let told = damage(&house.db, None).await;
    assert!(
        told.contains("The key of batch 1 is missing or does not open"),
        "{told}"
    );
    // Not active any more and without a data key, it is still needed for the chain.
    let other = sealport::store::new_key().unwrap();
    as_admin(
        &house.database,
        "delete from secret_versions; delete from data_keys; update master_keys set state = 'retiring'",
    )
    .await;
    let told = Db::open(config(&house.database), KeySource::Variable(other))
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("missing or wrong"), "{told}");
}

#[tokio::test]
async fn a_new_master_key_takes_the_chain_along() {
    let house = house().await;
    let link = house.db.audit_verify(None).await.unwrap().link;
    let both = open_with(&house.database, both_keys()).await;
    both.master_key_rotate(|_| ()).await.unwrap();
    // With the new one alone, what was sealed before is checked and sealed on.
    let next = open_with(&house.database, next_key()).await;
    assert_eq!(damage(&next, link).await, "");
    seal(&house.database, &next).await;
    let report = next.audit_verify(link).await.unwrap();
    assert_eq!((report.unsealed, report.damage), (0, None));
    assert_eq!(count(&house.database, "chain_keys").await, 1);
}

#[tokio::test]
async fn a_record_restored_elsewhere_is_sealed_on_from_where_it_ended() {
    let house = house().await;
    let link = house.db.audit_verify(None).await.unwrap().link;
    let made = house.db.secret_create(&house.ann, new("LAST", "v")).await;
    made.unwrap();
    // In another cluster of databases transactions have other numbers: here, as if there had been many more.
    as_owner(
        &house.database,
        "update audit_batches set cluster = 'another', after_xid = '1000000000000'::xid8;
         update audit set xid = (xid::text::bigint + 900000000000)::text::xid8",
    )
    .await;
    assert_eq!(house.db.audit_verify(link).await.unwrap().unsealed, 1);
    seal(&house.database, &house.db).await;
    let made = house.db.secret_create(&house.ann, new("NEXT", "v")).await;
    made.unwrap();
    seal(&house.database, &house.db).await;
    let report = house.db.audit_verify(link).await.unwrap();
    assert_eq!((report.unsealed, report.damage), (0, None));
    let batches = count(&house.database, "audit_batches").await;
    seal(&house.database, &house.db).await;
    assert_eq!(count(&house.database, "audit_batches").await, batches);
}

fn owner(database: &TestDatabase) -> OwnerLogin {
    config(database).owner_login()
}

fn tomorrow() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(1)
}

#[tokio::test]
async fn closed_batches_are_exported_checked_and_dropped_and_their_link_stays() {
    let house = house().await;
    let before = house.db.audit_verify(None).await.unwrap();
    let mut file = Vec::new();
    let early = OffsetDateTime::now_utc() - Duration::days(1);
    let none = house.db.audit_export(early, &mut file).await;
    assert!(refusal(none).detail.contains("Nothing was sealed before"));
    assert!(file.is_empty());
    let exported = house.db.audit_export(tomorrow(), &mut file).await.unwrap();
    // The newest batch stays.
    assert_eq!(exported.batches, 2);
    assert_eq!(exported.link.unwrap().number, 2);
    let text_of = String::from_utf8(file.clone()).unwrap();
    for word in ["THREE", "secret.create", "192.0.2.1"] {
        assert!(text_of.contains(word), "{word}");
    }
    let checked = house
        .db
        .audit_verify_file(Cursor::new(&file), exported.link)
        .await
        .unwrap();
    assert_eq!(checked, exported);

    let dropped = house
        .db
        .audit_drop(&owner(&house.database), Cursor::new(&file))
        .await
        .unwrap();
    assert_eq!((dropped.rows, dropped.damage), (exported.rows, None));
    assert_eq!(
        count(&house.database, "audit where path in ('ONE', 'THREE')").await,
        0
    );
    assert_eq!(count(&house.database, "audit where path = 'FIVE'").await, 1);
    assert_eq!(
        count(&house.database, "audit where action = 'audit.drop'").await,
        1
    );
    let after = house.db.audit_verify(before.link).await.unwrap();
    assert_eq!(after.dropped, exported.link);
    assert_eq!((after.batches, after.damage), (1, None));
    // The link of the file holds here too; one from before does not, and is told where to look.
    assert_eq!(damage(&house.db, exported.link).await, "");
    let older = Link {
        number: 1,
        hash: [0; 32],
    };
    assert!(
        damage(&house.db, Some(older))
            .await
            .contains("check the link with the exported file")
    );
    // Not twice.
    let again = house
        .db
        .audit_drop(&owner(&house.database), Cursor::new(&file))
        .await;
    assert!(refusal(again).detail.contains("dropped already"));
    // And on from there, with another file.
    seal(&house.database, &house.db).await;
    let mut next = Vec::new();
    house.db.audit_export(tomorrow(), &mut next).await.unwrap();
    house
        .db
        .audit_drop(&owner(&house.database), Cursor::new(&next))
        .await
        .unwrap();
    assert_eq!(count(&house.database, "audit where path = 'FIVE'").await, 0);
    assert_eq!(damage(&house.db, None).await, "");
    // Rows put back are rows that were never sealed here.
    as_owner(
        &house.database,
        "insert into audit (id, xid, actor_kind, actor_name, action, outcome)
         values (gen_random_uuid(), '1', 'user', 'eve', 'secret.bind', 'done')",
    )
    .await;
    assert!(
        damage(&house.db, None)
            .await
            .contains("was put in among sealed ones")
    );
}

#[tokio::test]
async fn a_file_that_is_not_whole_drops_nothing() {
    let house = house().await;
    let mut file = Vec::new();
    house.db.audit_export(tomorrow(), &mut file).await.unwrap();
    let file = String::from_utf8(file).unwrap();
    let lines: Vec<&str> = file.lines().collect();
    let joined = |lines: &[&str]| lines.join("\n") + "\n";
    let row = lines
        .iter()
        .position(|line| line.contains("THREE"))
        .unwrap();
    let mut without_row = lines.clone();
    without_row.remove(row);
    let mut twice = lines.clone();
    twice.insert(row, lines[row]);
    let more = [lines.as_slice(), &lines[lines.len() - 1..]].concat();
    for (what, file) in [
        ("a changed row", file.replace("THREE", "OTHER")),
        ("a row too few", joined(&without_row)),
        ("a row twice", joined(&twice)),
        ("cut short", joined(&lines[..lines.len() - 1])),
        ("something behind the end", joined(&more)),
        (
            "another beginning",
            file.replacen("\"last_seq\":0", "\"last_seq\":1", 1),
        ),
    ] {
        let report = house
            .db
            .audit_verify_file(Cursor::new(&file), None)
            .await
            .unwrap();
        assert!(report.damage.is_some(), "{what}");
        let dropped = house
            .db
            .audit_drop(&owner(&house.database), Cursor::new(&file))
            .await
            .unwrap();
        assert!(dropped.damage.is_some(), "{what}");
    }
    for (what, file) in [
        ("nothing", String::new()),
        ("another file", "hello\n".into()),
        ("a line without end", "[".repeat(1_000_000)),
    ] {
        let refused = house.db.audit_verify_file(Cursor::new(&file), None).await;
        assert_eq!(refusal(refused).field.as_deref(), Some("file"), "{what}");
    }
    // Of another installation.
    let elsewhere = self::house().await;
    let report = elsewhere
        .db
        .audit_verify_file(Cursor::new(&file), None)
        .await
        .unwrap();
    assert!(
        report
            .damage
            .unwrap()
            .sentence
            .contains("The key of batch 1")
    );
    assert_eq!(count(&house.database, "audit_drops").await, 0);
    assert_eq!(damage(&house.db, None).await, "");
}

#[tokio::test]
async fn a_list_reads_nothing_of_what_others_have_on_record() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    let bob = add(&db, "bob@example.org").await;
    let deployment = "anns";
    for path in ["ONE", "TWO", "THREE"] {
        db.secret_create(&ann, new(path, "a value")).await.unwrap();
    }
    as_admin(
        &database,
        &format!(
            "insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, path, deployment)
             select ('01990000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user', '{0}', 'bob', '{0}', '{0}',
                    'secret.bind', 'done', 'KEY', 'bobs' from generate_series(1, 100000) n;
             analyze audit",
            bob.id
        ),
    )
    .await;
    db.close().await;
    let everything = AuditFilter::default();
    let named = AuditFilter::parse(&AuditAsked {
        path: "ONE".into(),
        from: "2020-01-01".into(),
        ..AuditAsked::default()
    })
    .unwrap();
    let all = db_list(&database, &ann, &everything).await;
    assert_eq!(all, 4, "her account and her secrets");
    assert_eq!(db_list(&database, &ann, &named).await, 1);
    // Many times, for a plan that serves all parameters may replace those made for each.
    let read = rows_read(&database, async |db| {
        for _ in 0..8 {
            db.audit_list(&ann, &everything, None, 50).await.unwrap();
            db.audit_list(&ann, &named, None, 50).await.unwrap();
            db.audit_days(&ann, &everything).await.unwrap();
            let name = sealport::model::paths::DeploymentName::parse(deployment).unwrap();
            db.audit_of_deployment(&ann, &name).await.unwrap();
        }
    })
    .await;
    assert!(read < 1_000, "{read} rows were read");
    // The measure does measure.
    let read = rows_read(&database, async |db| {
        let mut tx = begin_for_tests(&db, &ann).await.unwrap();
        sqlx::query("select count(*) from audit")
            .execute(&mut *tx)
            .await
            .unwrap();
    })
    .await;
    assert!(read >= 100_000, "{read} rows were read");
    // What waits to be sealed is found without looking at what is.
    let db = open(&database).await;
    seal(&database, &db).await;
    db.close().await;
    let read = rows_read(&database, async |db| {
        for _ in 0..8 {
            assert!(!db.seal_step().await.unwrap());
        }
    })
    .await;
    assert!(read < 1_000, "{read} rows were read");
    // And sealed so.
    let sealed = count(&database, "audit_seals").await;
    let read = rows_read(&database, async |db| {
        for path in ["FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN"] {
            db.secret_create(&ann, new(path, "a value")).await.unwrap();
            // Until it is: other transactions of the cluster hold it up.
            let batches = "audit_batches";
            let before = count(&database, batches).await;
            while count(&database, batches).await == before {
                db.seal_step().await.unwrap();
            }
        }
    })
    .await;
    assert_eq!(count(&database, "audit_seals").await, sealed + 7);
    assert!(read < 1_000, "{read} rows were read");
}

async fn db_list(database: &TestDatabase, who: &Caller, filter: &AuditFilter) -> usize {
    let db = open(database).await;
    let rows = db.audit_list(who, filter, None, 50).await.unwrap();
    db.close().await;
    rows.len()
}

/// How many rows of the record PostgreSQL read for this, by its own count.
async fn rows_read(database: &TestDatabase, work: impl AsyncFnOnce(Db)) -> i64 {
    let counted =
        "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'audit'";
    let connections = format!(
        "pg_stat_activity where datname = '{}' and usename <> current_user",
        database.name
    );
    // What a connection read is counted when it ends, at the latest.
    let settled = async || {
        while count(database, &connections).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        text(database, counted).await.parse::<i64>().unwrap()
    };
    let before = settled().await;
    let config = DatabaseConfig {
        max_connections: 1,
        ..config(database)
    };
    let db = Db::open(config, KeySource::Variable(key())).await.unwrap();
    work(db.clone()).await;
    db.close().await;
    settled().await - before
}

#[tokio::test]
async fn an_owner_and_whoever_acted_find_the_row_and_nobody_else() {
    let house = house().await;
    let bob = caller(&add(&house.db, "bob@example.org").await);
    let all = AuditFilter::default();
    let seen = async |who: &Caller| house.db.audit_list(who, &all, None, 100).await.unwrap();
    // The list and the policy agree.
    for who in [&house.ann, &bob] {
        let mut tx = begin_for_tests(&house.db, who).await.unwrap();
        let by_policy: Vec<Uuid> = sqlx::query_scalar("select id from audit order by id desc")
            .fetch_all(&mut *tx)
            .await
            .unwrap();
        let listed: Vec<Uuid> = seen(who).await.iter().map(|row| row.id).collect();
        assert_eq!(listed, by_policy);
    }
    assert_eq!(seen(&house.ann).await.len(), 6);
    assert_eq!(seen(&bob).await.len(), 1);
    let secret = text(&house.database, "select id from secrets where path = 'ONE'").await;
    let secret: Uuid = secret.parse().unwrap();
    let found = house.db.audit_of_secret(&house.ann, secret).await.unwrap();
    assert_eq!(
        (found.rows.len(), found.accesses, found.last_access),
        (1, 0, None)
    );
    house
        .db
        .secret_compare(&house.ann, secret, crate::people::text("a guess"))
        .await
        .unwrap();
    let found = house.db.audit_of_secret(&house.ann, secret).await.unwrap();
    assert_eq!((found.rows.len(), found.accesses), (2, 1));
    assert_eq!(found.last_access, Some(found.rows[0].at));
    let others = house.db.audit_of_secret(&bob, secret).await.unwrap();
    assert_eq!(others, Default::default());
    // By page, by day, by action.
    let first = house
        .db
        .audit_list(&house.ann, &all, None, 2)
        .await
        .unwrap();
    let rest = house
        .db
        .audit_list(&house.ann, &all, Some(first[1].id), 100)
        .await
        .unwrap();
    assert_eq!(rest.len(), 5);
    let today = OffsetDateTime::now_utc().date().to_string();
    for (asked, expected) in [
        (
            AuditAsked {
                action: "secret".into(),
                ..AuditAsked::default()
            },
            6,
        ),
        (
            AuditAsked {
                action: "secret.compare".into(),
                ..AuditAsked::default()
            },
            1,
        ),
        (
            AuditAsked {
                action: "secre".into(),
                ..AuditAsked::default()
            },
            0,
        ),
        (
            AuditAsked {
                path: "o".into(),
                ..AuditAsked::default()
            },
            4,
        ),
        (
            AuditAsked {
                person: "ANN".into(),
                ..AuditAsked::default()
            },
            6,
        ),
        (
            AuditAsked {
                person: "bob".into(),
                ..AuditAsked::default()
            },
            0,
        ),
        (
            AuditAsked {
                from: today.clone(),
                to: today.clone(),
                ..AuditAsked::default()
            },
            7,
        ),
        (
            AuditAsked {
                to: "2020-01-01".into(),
                ..AuditAsked::default()
            },
            0,
        ),
        (
            AuditAsked {
                secret: secret.to_string(),
                ..AuditAsked::default()
            },
            2,
        ),
        (
            AuditAsked {
                deployment: "none".into(),
                ..AuditAsked::default()
            },
            0,
        ),
    ] {
        let filter = AuditFilter::parse(&asked).unwrap();
        let listed = house
            .db
            .audit_list(&house.ann, &filter, None, 100)
            .await
            .unwrap();
        assert_eq!(listed.len(), expected, "{asked:?}");
    }
    let days = house.db.audit_days(&house.ann, &all).await.unwrap();
    assert_eq!(days.days.len(), 30);
    assert_eq!(days.days.iter().map(|day| day.done).sum::<i64>(), 7);
    assert!(!days.more);
    let nobody = Caller {
        actor: Actor::Job(Job::Limits),
        origin: Origin::default(),
    };
    assert!(
        house
            .db
            .audit_list(&nobody, &all, None, 100)
            .await
            .unwrap()
            .is_empty()
    );
}

/// The program itself, as an operator calls it.
fn sealport(database: &TestDatabase, place: &std::path::Path, args: &[&str]) -> Output {
    command(database, place, args).output().unwrap()
}

fn command(database: &TestDatabase, place: &std::path::Path, args: &[&str]) -> Command {
    use secrecy::ExposeSecret;
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealport"));
    command
        .arg("audit")
        .args(args)
        .env_clear()
        .env("SEALPORT_DATA", place)
        .env("DATABASE_URL", &database.app_url)
        .env("DATABASE_OWNER_URL", &database.owner_url)
        .env("SEALPORT_MASTER_KEY", key().expose_secret());
    command
}

#[tokio::test]
async fn the_command_tells_by_its_exit_status() {
    let house = house().await;
    let place = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let done = sealport(&house.database, place.path(), args);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code().unwrap(), said, told)
    };
    let (status, said, told) = run(&["verify"]);
    assert_eq!((status, told.as_str()), (0, ""), "{said}");
    assert!(said.contains("rows in 3 batches"), "{said}");
    let link = said
        .lines()
        .find_map(|line| line.strip_prefix("Link: "))
        .unwrap()
        .to_owned();
    assert_eq!(run(&["verify", "--link", &link]).0, 0);
    let (status, _, told) = run(&["verify", "--link", "3:abc"]);
    assert_eq!(status, 2, "{told}");
    let other = link.replace("3:", "4:");
    let (status, _, told) = run(&["verify", "--link", &other]);
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("its end was cut off"), "{told}");

    let file = place.path().join("old.jsonl");
    let file = file.to_str().unwrap();
    let day = tomorrow().date().to_string();
    let (status, said, told) = run(&["export", "--before", &day, file]);
    assert_eq!(status, 0, "{said}{told}");
    let (status, _, told) = run(&["export", "--before", &day, file]);
    assert_eq!(status, 1, "never over a file: {told}");
    assert_eq!(run(&["verify", "--file", file]).0, 0);
    let (status, said, told) = run(&["drop", "--exported", file]);
    assert_eq!(status, 0, "{said}{told}");
    let (status, said, told) = run(&["verify"]);
    assert_eq!(status, 0, "{said}{told}");
    assert!(said.contains("Exported and dropped: up to 2:"), "{said}");

    as_owner(
        &house.database,
        "update audit set actor_name = 'eve' where path = 'FIVE'",
    )
    .await;
    let (status, _, told) = run(&["verify"]);
    assert_eq!(status, 1);
    assert!(
        told.contains("in batch 3, is not as it was sealed"),
        "{told}"
    );
}

#[tokio::test]
async fn an_export_that_ends_half_way_leaves_no_file_of_its_name() {
    let house = house().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("old.jsonl");
    let day = tomorrow().date().to_string();
    let export = ["export", "--before", &day, file.to_str().unwrap()];
    // Files may grow by a few hundred bytes: then the kernel kills, or says that there is no more room.
    let cut_short = |before: &str| {
        let whole = command(&house.database, place.path(), &export);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{before} ulimit -f 1; exec \"$0\" \"$@\"")])
            .arg(whole.get_program())
            .args(whole.get_args())
            .env_clear();
        for (name, value) in whole.get_envs() {
            shell.env(name, value.unwrap());
        }
        shell.output().unwrap()
    };
    let others = || {
        let entries = std::fs::read_dir(place.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("old.jsonl"))
            .count()
    };
    let killed = cut_short("");
    assert_eq!(
        killed.status.signal(),
        Some(rustix::process::Signal::XFSZ.as_raw()),
        "{}",
        String::from_utf8_lossy(&killed.stderr)
    );
    assert!(!file.exists());
    assert_eq!(others(), 1, "what is left has a name that says so");

    let full = cut_short("trap '' XFSZ;");
    let told = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{told}");
    assert!(told.contains("old.jsonl"), "{told}");
    assert_eq!(others(), 1, "of this one nothing stays");

    // The next one is not kept from it, and is whole.
    let done = sealport(&house.database, place.path(), &export);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{told}");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let whole = std::fs::read(&file).unwrap();
    assert!(whole.len() > 1024);
    let again = sealport(&house.database, place.path(), &export);
    let told = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(1));
    assert!(told.contains("is there already"), "{told}");
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    assert_eq!(others(), 2);
}
