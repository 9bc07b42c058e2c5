//! The second lock, by SQL alone: what the bound role can do with another's rows, table by table. Nothing of ours is asked.

use std::collections::BTreeSet;

use sealport::model::actors::{Actor, Caller, Job, Origin, Presented};
use sealport::store::Db;
use sealport::store::db::begin_for_tests;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use crate::common;
use crate::opening::{as_admin, open};
use crate::people::{add, caller};
use crate::secrets::new;

/// One table, with a row of Ann's in it.
struct Table {
    name: &'static str,
    /// Finds the row, as SQL.
    row: &'static str,
    /// Whether Ann, signed in, sees it; what only jobs see is nobody's.
    owner_sees: bool,
    /// Makes another such row in Ann's name, as SQL.
    forged: &'static str,
}

/// `{ann}` and the like are filled in by [`filled`].
const TABLES: &[Table] = &[
    Table {
        name: "team_members",
        row: "team_id = '{team}'",
        owner_sees: true,
        forged: "(team_id, user_id, level, added_by) values ('{team}', '{bob}', 4, 'eve')",
    },
    Table {
        name: "grants",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(id, owner_id, prefix, grantee_id, level, granted_by, granted_by_name) \
                 values (gen_random_uuid(), '{ann}', 'meta', '{bob}', 4, '{ann}', 'ann')",
    },
    Table {
        name: "users",
        row: "id = '{ann}'",
        owner_sees: true,
        forged: "(id, email, password_hash) values ('{team}', 'eve@example.org', 'x')",
    },
    Table {
        name: "one_time_links",
        row: "hash = 'aa'",
        owner_sees: false,
        forged: "(hash, purpose, expires_at) values ('bb', 'first-administrator', now() + interval '1 hour')",
    },
    Table {
        name: "sessions",
        row: "user_id = '{ann}'",
        owner_sees: true,
        forged: "(id_hash, user_id, data, expires_at) values ('bb', '{ann}', '{}', now() + interval '1 hour')",
    },
    Table {
        name: "known_addresses",
        row: "user_id = '{ann}'",
        owner_sees: true,
        forged: "(user_id, address) values ('{ann}', '198.51.100.66')",
    },
    Table {
        name: "attempts",
        row: "key = 'aa'",
        owner_sees: false,
        forged: "(key, window_start, count) values ('bb', now(), 1000)",
    },
    Table {
        name: "master_keys",
        row: "state = 'active'",
        owner_sees: false,
        forged: "(fingerprint, canary, state) values ('bb', '\\x00', 'staged')",
    },
    Table {
        name: "retired_master_keys",
        row: "fingerprint = 'aa'",
        owner_sees: false,
        forged: "(fingerprint) values ('bb')",
    },
    Table {
        name: "servers",
        row: "name = 'here'",
        owner_sees: false,
        forged: "(id, name, version, keys) values ('{team}', 'forged', '1', '{}')",
    },
    Table {
        name: "secrets",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(id, owner_id, path, kind, version) values (gen_random_uuid(), '{ann}', 'FORGED', 'custom', 1)",
    },
    Table {
        name: "data_keys",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(id, owner_id, master_key, wrapped, active) \
                 select gen_random_uuid(), '{ann}', '{master_key}', '\\x00', false",
    },
    Table {
        name: "secret_versions",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(secret_id, owner_id, version, data_key_id, sealed, created_by) \
                 values ('{secret}', '{ann}', 2, '{data_key}', '\\x00', 'eve')",
    },
    Table {
        name: "pending_imports",
        row: "user_id = '{ann}'",
        owner_sees: true,
        forged: "(user_id, id, under, plan, sealed, expires_at) \
                 values ('{team}', gen_random_uuid(), '', '{}', '\\x00', now() + interval '1 hour')",
    },
    Table {
        name: "rotation_rules",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(id, owner_id, secret_id, after_days, set_by) values (gen_random_uuid(), '{ann}', '{secret}', 1, 'eve')",
    },
    Table {
        name: "audit",
        row: "owner_id = '{ann}' and action = 'secret.create'",
        owner_sees: true,
        forged: "(id, actor_kind, actor_name, user_id, action, outcome) \
                 values (gen_random_uuid(), 'user', 'ann', '{ann}', 'secret.delete', 'done')",
    },
    Table {
        name: "drafts",
        row: "user_id = '{ann}'",
        owner_sees: true,
        forged: "(id, user_id, form) values (gen_random_uuid(), '{ann}', '{}')",
    },
    Table {
        name: "deployment_names",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(name, owner_id) values ('forged', '{ann}')",
    },
    Table {
        name: "destroyed_deployments",
        row: "owner_id = '{ann}'",
        owner_sees: false,
        forged: "(id, owner_id) values ('{deployment}', '{ann}')",
    },
    Table {
        name: "deployments",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(id, name, owner_id, source, start, target, state) \
                 values (gen_random_uuid(), 'anns', '{ann}', 'npm:x', '{}', 'local', 'running')",
    },
    Table {
        name: "bindings",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(deployment_id, owner_id, env, text) values ('{deployment}', '{ann}', 'FORGED', 'x')",
    },
    Table {
        name: "connections",
        row: "user_id = '{ann}'",
        owner_sees: true,
        forged: "(deployment_id, owner_id, user_id, env, secret_id, terms, agreed) \
                 values ('{deployment}', '{ann}', '{ann}', 'FORGED', '{secret}', 1, '{}')",
    },
    Table {
        name: "releases",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(deployment_id, owner_id, number, state, created_by) values ('{deployment}', '{ann}', 2, 'queued', 'eve')",
    },
    Table {
        name: "release_steps",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(deployment_id, owner_id, number, step, state) values ('{deployment}', '{ann}', 1, 'start', 'waiting')",
    },
    Table {
        name: "release_bindings",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(deployment_id, owner_id, number, env, secret_id, path, version) \
                 values ('{deployment}', '{ann}', 1, 'FORGED', '{secret}', 'KEY', 1)",
    },
    Table {
        name: "log_lines",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(deployment_id, owner_id, number, stream, line) values ('{deployment}', '{ann}', 1, 'stdout', 'forged')",
    },
    Table {
        name: "calls",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(deployment_id, owner_id, user_id, tool, outcome, took_ms) \
                 values ('{deployment}', '{ann}', '{ann}', 'forged', 'done', 1)",
    },
    Table {
        name: "tokens",
        row: "owner_id = '{ann}'",
        owner_sees: true,
        forged: "(id, hash, maker_id, owner_id, audience, deployment_id, name) \
                 values (gen_random_uuid(), 'bb', '{ann}', '{ann}', 'gateway', '{deployment}', 'forged')",
    },
    Table {
        name: "leases",
        row: "name = 'work'",
        owner_sees: false,
        forged: "(name, holder, held_until) values ('forged', gen_random_uuid(), now())",
    },
    Table {
        name: "gateway_keys",
        row: "owner_id = '{ann}'",
        owner_sees: false,
        forged: "(deployment_id, owner_id, master_key, wrapped) values ('{bobs_deployment}', '{bob}', '{master_key}', '\\x00')",
    },
    Table {
        name: "chain_keys",
        row: "id = '{team}'",
        owner_sees: false,
        forged: "(id, master_key, wrapped) values (gen_random_uuid(), '{master_key}', '\\x00')",
    },
    Table {
        name: "audit_batches",
        row: "number = 1",
        owner_sees: false,
        forged: "(number, first_seq, rows, key_id, previous, hash, sealed_at, after_xid, after_id, cluster) \
                 values (2, 1, 0, '{team}', '\\x00', '\\x00', now(), '1', '{team}', '')",
    },
    Table {
        name: "audit_seals",
        row: "seq = 1",
        owner_sees: false,
        forged: "(seq, audit_id, mac) values (2, gen_random_uuid(), '\\x00')",
    },
    Table {
        name: "audit_drops",
        row: "number = 1",
        owner_sees: false,
        forged: "(number, last_seq, key_id, hash, mac, dropped_at) values (2, 1, '{team}', '\\x00', '\\x00', now())",
    },
];

/// Tables without anybody's rows: settings and handles are the installation's own.
const SHARED: &[&str] = &["settings", "owners"];

const ROWS: &str = "
    insert into owners (id, handle, kind, maker_id) values ('{team}', 'team', 'team', '{ann}');
    insert into team_members (team_id, user_id, level, added_by) values ('{team}', '{ann}', 4, 'ann');
    insert into grants (id, owner_id, secret_id, grantee_id, level, granted_by, granted_by_name)
        values ('{team}', '{ann}', '{secret}', '{team}', 2, '{ann}', 'ann');
    insert into rotation_rules (id, owner_id, prefix, after_days, set_by) values ('{team}', '{ann}', 'project/shop', 30, 'ann');
    insert into settings (key, value) values ('colour', '1'), ('secret_versions', '{}');
    insert into one_time_links (hash, purpose, expires_at) values ('aa', 'first-administrator', now() + interval '1 hour');
    insert into sessions (id_hash, user_id, data, expires_at) values ('aa', '{ann}', '{}', now() + interval '1 hour');
    insert into known_addresses (user_id, address) values ('{ann}', '192.0.2.1');
    insert into attempts (key, window_start, count) values ('aa', now(), 1);
    insert into pending_imports (user_id, id, under, plan, sealed, expires_at)
        values ('{ann}', '{team}', '', '{}', '\\x00', now() + interval '1 hour');
    insert into drafts (id, user_id, form) values ('{team}', '{ann}', '{}');
    insert into deployment_names (name, owner_id) values ('anns', '{ann}'), ('bobs', '{bob}');
    insert into deployments (id, name, owner_id, source, start, target, state)
        values ('{deployment}', 'anns', '{ann}', 'npm:x', '{}', 'local', 'running'),
               ('{bobs_deployment}', 'bobs', '{bob}', 'npm:x', '{}', 'local', 'running');
    insert into destroyed_deployments (id, owner_id) values ('{team}', '{ann}');
    insert into bindings (deployment_id, owner_id, env, secret_id, secret_path)
        values ('{deployment}', '{ann}', 'KEY', '{secret}', 'KEY');
    insert into connections (deployment_id, owner_id, user_id, env, secret_id, terms, agreed)
        values ('{deployment}', '{ann}', '{ann}', 'OWN_KEY', '{secret}', 1, '{}');
    insert into releases (deployment_id, owner_id, number, state, created_by)
        values ('{deployment}', '{ann}', 1, 'live', 'ann'), ('{bobs_deployment}', '{bob}', 1, 'live', 'bob');
    insert into release_steps (deployment_id, owner_id, number, step, state) values ('{deployment}', '{ann}', 1, 'fetch', 'done');
    insert into release_bindings (deployment_id, owner_id, number, env, secret_id, path, version)
        values ('{deployment}', '{ann}', 1, 'KEY', '{secret}', 'KEY', 1);
    insert into log_lines (deployment_id, owner_id, number, stream, line) values ('{deployment}', '{ann}', 1, 'stdout', 'hello');
    insert into calls (deployment_id, owner_id, user_id, tool, outcome, took_ms) values ('{deployment}', '{ann}', '{ann}', 'search', 'done', 1);
    insert into tokens (id, hash, maker_id, owner_id, audience, deployment_id, name)
        values ('{team}', 'aa', '{ann}', '{ann}', 'gateway', '{deployment}', 'laptop');
    insert into leases (name, holder, held_until) values ('work', '{team}', now());
    insert into gateway_keys (deployment_id, owner_id, master_key, wrapped) values ('{deployment}', '{ann}', '{master_key}', '\\x00');
    insert into chain_keys (id, master_key, wrapped) values ('{team}', '{master_key}', '\\x00');
    insert into audit_batches (number, first_seq, rows, key_id, previous, hash, sealed_at, after_xid, after_id, cluster)
        values (1, 1, 1, '{team}', '\\x00', '\\x00', now(), '1', '{team}', '');
    insert into audit_seals (seq, audit_id, mac) values (1, '{team}', '\\x00');
    insert into audit_drops (number, last_seq, key_id, hash, mac, dropped_at) values (1, 1, '{team}', '\\x00', '\\x00', now());
    insert into retired_master_keys (fingerprint) values ('aa');
    insert into servers (id, name, version, keys) values ('{secret}', 'here', '1', '{}');
";

struct House {
    database: common::TestDatabase,
    db: Db,
    ann: Caller,
    strangers: Vec<(&'static str, Caller)>,
    names: Vec<(&'static str, String)>,
}

async fn house() -> House {
    let database = common::new_database().await;
    let db = open(&database).await;
    let (ann_user, bob_user) = (
        add(&db, "ann@example.org").await,
        add(&db, "bob@example.org").await,
    );
    let (ann, bob) = (caller(&ann_user), caller(&bob_user));
    let secret = db.secret_create(&ann, new("KEY", "value")).await.unwrap();
    db.secret_create(&bob, new("KEY", "bob's")).await.unwrap();
    let mut admin = database.admin_options.connect().await.unwrap();
    let data_key: String = value(
        &mut admin,
        &format!(
            "select id::text from data_keys where owner_id = '{}'",
            ann_user.id
        ),
    )
    .await;
    let master_key: String = value(&mut admin, "select fingerprint from master_keys").await;
    let nobody = |shown| Caller {
        actor: Actor::Anonymous(shown),
        origin: Origin::default(),
    };
    let house = House {
        names: vec![
            ("{ann}", ann_user.id.to_string()),
            ("{bob}", bob_user.id.to_string()),
            ("{secret}", secret.to_string()),
            ("{data_key}", data_key),
            ("{master_key}", master_key),
            ("{team}", uuid::Uuid::now_v7().to_string()),
            ("{deployment}", uuid::Uuid::now_v7().to_string()),
            ("{bobs_deployment}", uuid::Uuid::now_v7().to_string()),
            ("{free}", uuid::Uuid::now_v7().to_string()),
        ],
        strangers: vec![
            ("another user", bob),
            ("nobody", nobody(Presented::Nothing)),
            (
                "an unknown e-mail address",
                nobody(Presented::Email("x@example.org".into())),
            ),
            (
                "an unknown credential",
                nobody(Presented::Hash("00".repeat(32))),
            ),
        ],
        database,
        db,
        ann,
    };
    as_admin(&house.database, &house.filled(ROWS)).await;
    house
}

async fn value(admin: &mut PgConnection, sql: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(admin)
        .await
        .unwrap()
}

impl House {
    fn filled(&self, sql: &str) -> String {
        self.names
            .iter()
            .fold(sql.to_owned(), |sql, (name, value)| {
                sql.replace(name, value)
            })
    }

    /// Rows that a statement gives or touches as the bound role, in a transaction of its own; none when it is refused.
    async fn rows_as(&self, who: &Caller, sql: &str) -> Result<u64, String> {
        let mut tx = begin_for_tests(&self.db, who).await.unwrap();
        let done = sqlx::query(AssertSqlSafe(self.filled(sql)))
            .execute(&mut *tx)
            .await;
        match done {
            Ok(done) => {
                tx.commit().await.unwrap();
                Ok(done.rows_affected())
            }
            Err(sqlx::Error::Database(error)) => Err(error.code().unwrap_or_default().into_owned()),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    async fn picture(&self, table: &Table) -> String {
        let mut admin = self.database.admin_options.connect().await.unwrap();
        let sql = format!(
            "select coalesce(string_agg(t::text, '\n' order by t::text), '') from {} t where {}",
            table.name, table.row
        );
        value(&mut admin, &self.filled(&sql)).await
    }
}

#[tokio::test]
async fn every_table_has_its_row_here() {
    let database = common::new_database().await;
    let mut admin = database.admin_options.connect().await.unwrap();
    let there: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
         and relname <> '_sqlx_migrations'",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    let here: BTreeSet<&str> = TABLES
        .iter()
        .map(|table| table.name)
        .chain(SHARED.iter().copied())
        .collect();
    assert_eq!(there, here);
}

#[tokio::test]
async fn another_users_rows_are_neither_seen_nor_changed() {
    let house = house().await;
    for table in TABLES {
        let before = house.picture(table).await;
        assert!(!before.is_empty(), "{} has no row to try", table.name);
        let column = match table.name {
            "attempts" => "count",
            "known_addresses" => "last_at",
            _ => table.row.split_whitespace().next().unwrap(),
        };
        for (name, stranger) in &house.strangers {
            let tried = format!("{name} at {}", table.name);
            let seen = house
                .rows_as(
                    stranger,
                    &format!("select 1 from {} where {}", table.name, table.row),
                )
                .await;
            assert_eq!(seen, Ok(0), "{tried}: select");
            for change in [
                format!(
                    "update {0} set {column} = {column} where {1}",
                    table.name, table.row
                ),
                format!("delete from {} where {}", table.name, table.row),
            ] {
                let changed = house.rows_as(stranger, &change).await;
                assert!(
                    matches!(
                        changed.as_ref().map_err(String::as_str),
                        Ok(0) | Err("42501")
                    ),
                    "{tried}: {change}: {changed:?}"
                );
            }
            let made = house
                .rows_as(
                    stranger,
                    &format!("insert into {} {}", table.name, table.forged),
                )
                .await;
            assert_eq!(made, Err("42501".into()), "{tried}: insert");
        }
        assert_eq!(house.picture(table).await, before, "{}", table.name);
        let own = house
            .rows_as(
                &house.ann,
                &format!("select 1 from {} where {}", table.name, table.row),
            )
            .await;
        assert_eq!(
            own.unwrap() > 0,
            table.owner_sees,
            "{}: what Ann sees",
            table.name
        );
    }
}

#[tokio::test]
async fn settings_are_read_by_whoever_is_signed_in_and_changed_by_the_operator() {
    let house = house().await;
    let nobody = &house.strangers[1].1;
    assert_eq!(
        house.rows_as(&house.ann, "select 1 from settings").await,
        Ok(2)
    );
    assert_eq!(house.rows_as(nobody, "select 1 from settings").await, Ok(0));
    assert_eq!(
        house
            .rows_as(&house.ann, "update settings set value = '2'")
            .await,
        Ok(0)
    );
    let made = house
        .rows_as(
            &house.ann,
            "insert into settings (key, value) values ('x', '1')",
        )
        .await;
    assert_eq!(made, Err("42501".into()));
    // An administrator decides on old versions, and on nothing else.
    as_admin(
        &house.database,
        &house.filled(
            "alter table users disable trigger users_guard; update users set is_admin = true where id = '{bob}'",
        ),
    )
    .await;
    let administrator = &house.strangers[0].1;
    let changed = "update settings set value = '{\"count\": 5}'";
    assert_eq!(house.rows_as(administrator, changed).await, Ok(1));
    assert_eq!(house.rows_as(&house.ann, changed).await, Ok(0));
}

/// Jobs are bound too: each does its own, and nothing else of a secret.
#[tokio::test]
async fn the_jobs_that_look_after_secrets_do_their_own_alone() {
    let house = house().await;
    let second = "update secrets set version = 2 where id = '{secret}';
        insert into secret_versions (secret_id, owner_id, version, data_key_id, sealed, maskable, created_by)
        values ('{secret}', '{ann}', 2, '{data_key}', '\\x00', true, 'ann')";
    as_admin(&house.database, &house.filled(second)).await;
    let gone = |version: i32| {
        format!(
            "update secret_versions set sealed = '', data_key_id = null, destroyed_at = now() \
             where secret_id = '{{secret}}' and version = {version}"
        )
    };
    let own = |set: &str| format!("update secrets set {set} where id = '{{secret}}'");
    let version = |generated: bool| {
        format!(
            "insert into secret_versions (secret_id, owner_id, version, data_key_id, sealed, maskable, created_by, generated)
             values ('{{secret}}', '{{ann}}', 3, '{{data_key}}', '\\x00', true, 'caretaker', {generated})"
        )
    };
    let no = || Err("42501".to_owned());
    let (retention, caretaker) = (Caller::job(Job::Retention), Caller::job(Job::Caretaker));
    for (who, sql, done) in [
        (&retention, own("active = false"), Ok(0)),
        (&retention, "delete from secrets".into(), Ok(0)),
        (
            &retention,
            "update secret_versions set sealed = '\\x01' where version = 1".into(),
            no(),
        ),
        // Never the newest, and what is destroyed stays so.
        (&retention, gone(2), no()),
        (&retention, gone(1), Ok(1)),
        (&house.ann, gone(2), no()),
        (
            &house.ann,
            "update secret_versions set sealed = '\\x01', data_key_id = '{data_key}', destroyed_at = null where version = 1"
                .into(),
            no(),
        ),
        (&caretaker, "select 1 from data_keys where active".into(), Ok(2)),
        (&caretaker, gone(1), Ok(0)),
        (&caretaker, own("path = 'X'"), no()),
        (&caretaker, own("expires_at = null, description = 'x'"), no()),
        (&caretaker, own("active = false"), Ok(1)),
        (&caretaker, own("active = true"), no()),
        (&caretaker, version(false), no()),
        (&caretaker, version(true), Ok(1)),
        (
            &caretaker,
            "update deployments set wanted = false where id = '{deployment}'".into(),
            no(),
        ),
        (&caretaker, "delete from rotation_rules".into(), Ok(0)),
    ] {
        assert_eq!(house.rows_as(who, &sql).await, done, "{:?}: {sql}", who.actor);
    }
}

#[tokio::test]
async fn handles_are_read_by_whoever_is_signed_in_and_made_for_teams_alone() {
    let house = house().await;
    let (bob, nobody) = (&house.strangers[0].1, &house.strangers[1].1);
    let sql = "select 1 from owners where id = '{ann}'";
    assert_eq!(house.rows_as(bob, sql).await, Ok(1));
    assert_eq!(house.rows_as(nobody, sql).await, Ok(0));
    for (who, forged) in [
        (bob, "(gen_random_uuid(), 'eve', 'user', null, now())"),
        (bob, "(gen_random_uuid(), 'eve', 'team', '{ann}', now())"),
        // In an hour one would be its first member, though others had come meanwhile.
        (
            bob,
            "(gen_random_uuid(), 'eve', 'team', '{bob}', now() + interval '1 hour')",
        ),
        (nobody, "(gen_random_uuid(), 'eve', 'team', '{bob}', now())"),
    ] {
        let sql =
            format!("insert into owners (id, handle, kind, maker_id, created_at) values {forged}");
        assert_eq!(house.rows_as(who, &sql).await, Err("42501".into()), "{sql}");
    }
    for sql in [
        "update owners set handle = 'eve' where id = '{ann}'",
        "update owners set ended_at = now() where id = '{ann}'",
    ] {
        assert_eq!(house.rows_as(bob, sql).await, Ok(0), "{sql}");
    }
    // A team's first member is who makes it, in the same transaction; afterwards nobody comes in so.
    let mut tx = begin_for_tests(&house.db, bob).await.unwrap();
    for sql in [
        "insert into owners (id, handle, kind, maker_id) values ('{free}', 'crew', 'team', '{bob}')",
        "insert into team_members (team_id, user_id, level, added_by) values ('{free}', '{bob}', 4, 'bob')",
    ] {
        let done = sqlx::query(AssertSqlSafe(house.filled(sql)))
            .execute(&mut *tx)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
    }
    tx.commit().await.unwrap();
    let gone = "set sealport.job = 'operator'; delete from team_members where team_id = '{free}'";
    as_admin(&house.database, &house.filled(gone)).await;
    let late = "insert into team_members (team_id, user_id, level, added_by) values ('{free}', '{bob}', 4, 'bob')";
    assert_eq!(house.rows_as(bob, late).await, Err("42501".into()));
}

/// Rows that claim to be one's own and hang on what is another's.
#[tokio::test]
async fn nothing_of_ones_own_hangs_on_what_is_anothers() {
    let house = house().await;
    let bob = &house.strangers[0].1;
    for forged in [
        "insert into bindings (deployment_id, owner_id, env, secret_id, secret_path) values ('{bobs_deployment}', '{bob}', 'X', '{secret}', 'KEY')",
        "insert into bindings (deployment_id, owner_id, env, text) values ('{deployment}', '{bob}', 'X', 'x')",
        "insert into secret_versions (secret_id, owner_id, version, data_key_id, sealed, maskable, created_by)
         select '{secret}', '{bob}', 2, id, '\\x00', true, 'bob' from data_keys",
        "insert into releases (deployment_id, owner_id, number, state, created_by) values ('{deployment}', '{bob}', 2, 'queued', 'bob')",
        "insert into release_steps (deployment_id, owner_id, number, step, state) values ('{deployment}', '{bob}', 1, 'start', 'waiting')",
        "insert into release_bindings (deployment_id, owner_id, number, env, secret_id, path, version)
         values ('{deployment}', '{bob}', 1, 'X', '{secret}', 'KEY', 1)",
        "insert into deployments (id, name, owner_id, source, start, target, state)
         values (gen_random_uuid(), 'anns', '{bob}', 'npm:x', '{}', 'local', 'running')",
        "insert into deployments (id, name, owner_id, source, start, target, state, fetch_key)
         values (gen_random_uuid(), 'bobs', '{bob}', 'npm:x', '{}', 'local', 'running', '{secret}')",
        "insert into deployment_names (name, owner_id) values ('anns', '{bob}')",
        // A token of one's own making, for another's deployment or in another's name.
        "insert into tokens (id, hash, maker_id, owner_id, audience, deployment_id, name)
         values (gen_random_uuid(), 'bb', '{bob}', '{bob}', 'gateway', '{deployment}', 'x')",
        "insert into tokens (id, hash, maker_id, owner_id, audience, deployment_id, name)
         values (gen_random_uuid(), 'bb', '{bob}', '{ann}', 'gateway', '{deployment}', 'x')",
        "insert into tokens (id, hash, maker_id, owner_id, audience, deployment_id, name)
         values (gen_random_uuid(), 'bb', '{bob}', '{ann}', 'gateway', '{bobs_deployment}', 'x')",
        // A line in another's record.
        "insert into audit (id, actor_kind, actor_name, user_id, owner_id, action, outcome)
         values (gen_random_uuid(), 'user', 'bob', '{bob}', '{ann}', 'secret.bind', 'done')",
        "insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome)
         values (gen_random_uuid(), 'token', '{team}', 'laptop', '{bob}', '{ann}', 'gateway.connect', 'done')",
    ] {
        let made = house.rows_as(bob, forged).await;
        // Row Level Security, a foreign key, or a name that is taken.
        assert!(
            matches!(made.as_ref().map_err(String::as_str), Err("42501" | "23503" | "23505")),
            "{forged}: {made:?}"
        );
    }
    let moved = house
        .rows_as(bob, "update secrets set owner_id = '{ann}'")
        .await;
    assert_eq!(moved, Err("42501".into()));
    let promoted = house.rows_as(bob, "update users set is_admin = true").await;
    assert_eq!(promoted, Err("42501".into()));
}

/// Whoever chooses the code, or the account where it runs, can make it give its values away.
#[tokio::test]
async fn other_code_takes_the_use_of_all_that_is_bound() {
    let house = house().await;
    let bob = &house.strangers[0].1;
    let key = house
        .db
        .secret_create(bob, new("OTHER", "bob's"))
        .await
        .unwrap();
    let set = |what: &str| format!("update deployments set {what} where id = '{{deployment}}'");
    let given = |what: &str, level: i32, only: &str| {
        let sql = format!(
            "set sealport.job = 'operator'; delete from grants where grantee_id = '{{bob}}' and {what}_id is not null;
             insert into grants (id, owner_id, {what}_id, grantee_id, level, only_deployments, granted_by, granted_by_name)
             values (gen_random_uuid(), '{{ann}}', '{{{what}}}', '{{bob}}', {level}, {only}, '{{ann}}', 'ann')"
        );
        house.filled(&sql)
    };
    // Bob administers the deployment, and what it is bound to is not his to use: not at all, or in another deployment alone.
    as_admin(&house.database, &given("deployment", 4, "null")).await;
    let code = [
        set("source = 'npm:y'"),
        set("start = '{\"command\": [\"x\"]}'"),
        set("options = '{\"network\": \"none\"}'"),
        set("target = 'render'"),
        set(&format!("provider_key = '{key}'")),
    ];
    for narrowed in [false, true] {
        if narrowed {
            as_admin(&house.database, &given("secret", 1, "'{other}'")).await;
        }
        for sql in &code {
            let changed = house.rows_as(bob, sql).await;
            assert_eq!(changed, Err("42501".into()), "{narrowed}: {sql}");
        }
    }
    // What is no other code takes no more than before, and so does the same code again.
    for sql in [
        set("wanted = false"),
        set("follows_changes = true"),
        set("source = source, start = start"),
    ] {
        assert_eq!(house.rows_as(bob, &sql).await, Ok(1), "{sql}");
    }
    as_admin(&house.database, &given("secret", 1, "'{anns}'")).await;
    for sql in &code {
        assert_eq!(house.rows_as(bob, sql).await, Ok(1), "{sql}");
    }
    // Also its owner, once the use of what was shared is taken back. A key that goes leaves its place whoever deletes it.
    let fetch = set(&format!("fetch_key = '{key}'"));
    assert_eq!(house.rows_as(bob, &fetch).await, Ok(1));
    for sql in [&code[0], &set("source = 'npm:z'")] {
        let changed = house.rows_as(&house.ann, sql).await;
        let same = sql == &code[0];
        assert_eq!(changed, if same { Ok(1) } else { Err("42501".into()) });
    }
    house.db.secret_delete(bob, key, None).await.unwrap();
    let changed = house.rows_as(&house.ann, &set("source = 'npm:z'")).await;
    assert_eq!(changed, Ok(1));
}

#[tokio::test]
async fn the_record_is_written_about_ones_own_alone() {
    let house = house().await;
    let line = |kind: &str, actor: &str, user: &str, owner: &str| {
        format!(
            "insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome)
             values (gen_random_uuid(), '{kind}', {actor}, 'x', {user}, {owner}, 'sign-in', 'refused')"
        )
    };
    let anonymous = |shown| Caller {
        actor: Actor::Anonymous(shown),
        origin: Origin::default(),
    };
    let (email, token) = (
        anonymous(Presented::Email("ann@example.org".into())),
        anonymous(Presented::Hash("aa".into())),
    );
    let (bob, nobody) = (&house.strangers[0].1, &house.strangers[1].1);
    let about_ann = line("anonymous", "null", "null", "'{ann}'");
    let by_token = line("token", "'{team}'", "null", "'{ann}'");
    for (who, sql, made) in [
        (bob, line("user", "'{bob}'", "'{bob}'", "'{bob}'"), true),
        (bob, line("user", "'{bob}'", "'{bob}'", "null"), true),
        (nobody, line("anonymous", "null", "null", "null"), true),
        (nobody, about_ann.clone(), false),
        // Whoever tries to sign in to her account stands in her record, and a token of hers does.
        (&email, about_ann.clone(), true),
        (&email, line("anonymous", "null", "null", "'{bob}'"), false),
        (&token, by_token.clone(), true),
        (&token, line("token", "'{team}'", "null", "'{bob}'"), false),
        (&token, line("token", "'{bob}'", "null", "'{ann}'"), false),
        (&token, about_ann, false),
        (bob, by_token, false),
    ] {
        let written = house.rows_as(who, &sql).await;
        let expected = if made { Ok(1) } else { Err("42501".into()) };
        assert_eq!(written, expected, "{:?}: {sql}", who.actor);
    }
}

#[tokio::test]
async fn the_record_cannot_be_rewritten_even_by_those_it_is_about() {
    let house = house().await;
    for sql in [
        "update audit set reason = 'x'",
        "delete from audit",
        "truncate audit",
    ] {
        assert_eq!(
            house.rows_as(&house.ann, sql).await,
            Err("42501".into()),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_transaction_leaves_no_actor_behind() {
    let house = house().await;
    assert_eq!(
        house.rows_as(&house.ann, "select 1 from secrets").await,
        Ok(1)
    );
    // The pool gives the same connections again.
    for _ in 0..20 {
        assert_eq!(
            house
                .rows_as(&house.strangers[1].1, "select 1 from secrets")
                .await,
            Ok(0)
        );
    }
}

#[tokio::test]
async fn what_is_presented_cannot_end_its_quotes() {
    let house = house().await;
    let ann = house.filled("{ann}");
    for shown in [
        format!("x'; set local sealport.actor = '{ann}"),
        format!("ann@example.org'; set local sealport.actor = '{ann}"),
        "\\'".to_owned(),
        "ä'".to_owned(),
    ] {
        for shown in [Presented::Email(shown.clone()), Presented::Hash(shown)] {
            let stranger = Caller {
                actor: Actor::Anonymous(shown),
                origin: Origin::default(),
            };
            assert_eq!(
                house.rows_as(&stranger, "select 1 from secrets").await,
                Ok(0)
            );
        }
    }
}
