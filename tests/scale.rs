//! One user's secrets among few and among many: lists, search, tree and the decision read what is in sight, and nothing of what
//! others have. Asserted on the rows that PostgreSQL reads; times are printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::time::{Duration, Instant};

use sealport::model::actors::{Actor, Caller, Origin, SignedInUser};
use sealport::model::paths::{Folder, Handle, SecretPath};
use sealport::model::secrets::{SecretFilter, SecretSort};
use sealport::store::db::begin_for_tests;
use sealport::store::{DatabaseConfig, Db, KeySource};
use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions};
use uuid::Uuid;

use common::TestDatabase;

/// What the one user has: 500 secrets, and grants on some of others.
const OWN: i64 = 500;
const TEAMS: i64 = 50;
const GRANTS: i64 = 10_000;
/// How much more may be read, and how much longer it may take, among many.
const RATIO_MAX: f64 = 1.5;
const ROUNDS: usize = 15;

struct Population {
    name: &'static str,
    secrets: i64,
    users: i64,
    teams: i64,
    grants: i64,
}

/// The one user owns 500 in both, is in two teams and was granted on 40 secrets and one folder of others.
const FEW: Population = Population {
    name: "1,000 secrets of 2 users",
    secrets: 1_000,
    users: 2,
    teams: 2,
    grants: 100,
};
const MANY: Population = Population {
    name: "100,000 secrets of 200 users",
    secrets: 100_000,
    users: 200,
    teams: TEAMS,
    grants: GRANTS,
};

struct House {
    database: TestDatabase,
    db: Db,
    me: Caller,
    /// One that was granted alone.
    granted: Uuid,
}

fn config(database: &TestDatabase) -> DatabaseConfig {
    DatabaseConfig::new(
        database.app_options.clone(),
        Some(database.owner_options.clone()),
    )
}

async fn opened(database: &TestDatabase) -> Db {
    let key = SecretString::from("11".repeat(32));
    Db::open(config(database), KeySource::Variable(key))
        .await
        .unwrap()
}

/// An id that can be computed: kind and number.
fn id(kind: u8, number: i64) -> String {
    format!("{kind:08}-0000-4000-8000-{number:012}")
}

/// The same as SQL over a number.
fn id_of(kind: u8, number: &str) -> String {
    format!("('{kind:08}-0000-4000-8000-' || lpad(({number})::text, 12, '0'))::uuid")
}

async fn run(admin: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(admin)
        .await
        .unwrap();
}

impl Population {
    async fn made(&self) -> House {
        let database = common::new_database().await;
        let db = opened(&database).await;
        let mut admin = database.admin_options.connect().await.unwrap();
        // Only the numbers of rows are of interest: no triggers, and sealed values that nothing opens.
        run(
            &mut admin,
            &format!("set session_replication_role = replica; {}", self.sql()),
        )
        .await;
        // What a database does by itself once it has been used for a minute.
        run(&mut admin, "vacuum analyze").await;
        let me = Caller {
            actor: Actor::User(SignedInUser {
                id: Uuid::parse_str(&id(1, 1)).unwrap(),
                handle: "u1".into(),
                email: "u1@example.org".into(),
                is_admin: false,
            }),
            origin: Origin::default(),
        };
        House {
            database,
            db,
            me,
            granted: Uuid::parse_str(&id(3, OWN + 1)).unwrap(),
        }
    }

    fn sql(&self) -> String {
        let Population {
            secrets,
            users,
            teams,
            grants,
            ..
        } = self;
        let (user, team, secret) = (
            |n: &str| id_of(1, n),
            |n: &str| id_of(2, n),
            |n: &str| id_of(3, n),
        );
        let (key, deployment, grant) = (
            |n: &str| id_of(4, n),
            |n: &str| id_of(5, n),
            |n: &str| id_of(6, n),
        );
        // The first 500 are the one user's, the others go round the other users; every tenth of those is a team's, and of the first
        // of them one of the two that the one user is in.
        let owner = format!(
            "case when n <= {OWN} then {} when n % 10 > 0 then {} when n <= 1000 then {} else {} end",
            user("1"),
            user(&format!("2 + n % greatest({users} - 1, 1)")),
            team("1 + n / 10 % 2"),
            team(&format!("3 + n / 10 % greatest({teams} - 2, 1)")),
        );
        let bound_in = format!("1 + n / 5 % ({secrets} / 100)");
        format!(
            "insert into owners (id, handle, kind) select {u}, 'u' || n, 'user' from generate_series(1, {users}) n;
             insert into users (id, email, password_hash) select {u}, 'u' || n || '@example.org', 'x' from generate_series(1, {users}) n;
             insert into owners (id, handle, kind, maker_id) select {t}, 't' || n, 'team', {second} from generate_series(1, {teams}) n;
             -- The one user is in the first two; everybody else is in some.
             insert into team_members (team_id, user_id, level, added_by)
                 select {t}, {me}, 2, 'x' from generate_series(1, 2) n;
             insert into team_members (team_id, user_id, level, added_by)
                 select distinct {t}, {member}, 1 + n % 4, 'x' from generate_series(1, {teams}) n, generate_series(0, 9) m;
             insert into data_keys (id, owner_id, master_key, wrapped)
                 select {ku}, {u}, fingerprint, 'x'::bytea from generate_series(1, {users}) n, master_keys
                 union all select {kt}, {t}, fingerprint, 'x' from generate_series(1, {teams}) n, master_keys;
             insert into secrets (id, owner_id, path, kind, version, tags, expires_at)
                 select {s}, {owner}, case when n % 5 = 0 then 'KEY_' || n else 'project/p' || n % 20 || '/KEY_' || n end,
                        'api_key', 3, array['t' || n % 7], case when n % 50 = 0 then now() + interval '20 days' end
                 from generate_series(1, {secrets}) n;
             insert into secret_versions (secret_id, owner_id, version, data_key_id, sealed, maskable, created_by)
                 select s.id, s.owner_id, v, k.id, 'x', true, 'x' from secrets s join data_keys k on k.owner_id = s.owner_id,
                        generate_series(1, 3) v;
             insert into deployment_names (name, owner_id) select 'd' || n, {deployer} from generate_series(1, {secrets} / 100) n;
             insert into deployments (id, name, owner_id, source, start, target, state)
                 select {d}, 'd' || n, {deployer}, 'npm:x', '{{}}', 'local', 'running' from generate_series(1, {secrets} / 100) n;
             insert into bindings (deployment_id, owner_id, env, secret_id, secret_path)
                 select {d_bound}, {deployer_bound}, 'K' || n, {s}, 'x' from generate_series(5, {secrets}, 5) n;
             -- To the one user: 40 secrets alone, and a folder of the second user's.
             insert into grants (id, owner_id, secret_id, grantee_id, level, granted_by, granted_by_name)
                 select {g}, s.owner_id, s.id, {me}, 1, s.owner_id, 'x' from generate_series(1, 40) n
                 join secrets s on s.id = {beyond};
             insert into grants (id, owner_id, prefix, grantee_id, level, granted_by, granted_by_name)
                 select {folder}, {second}, 'project/shared', {me}, 2, {second}, 'x';
             insert into secrets (id, owner_id, path, kind, version) select {shared}, {second}, 'project/shared/KEY_' || n, 'api_key', 1
                 from generate_series(1, 20) n;
             -- And among all the others.
             insert into grants (id, owner_id, secret_id, grantee_id, level, granted_by, granted_by_name)
                 select {more}, s.owner_id, s.id, {to}, 1 + n % 4, s.owner_id, 'x' from generate_series(1, {grants}) n
                 join secrets s on s.id = {any}
                 where s.owner_id <> {to} on conflict do nothing;
             insert into rotation_rules (id, owner_id, prefix, after_days, set_by)
                 select gen_random_uuid(), {u}, 'project/p1', 30, 'x' from generate_series(1, {users}) n;
             insert into audit (id, actor_kind, actor_name, user_id, owner_id, action, outcome, secret_id, path)
                 select gen_random_uuid(), 'user', 'x', s.owner_id, s.owner_id, 'secret.create', 'done', s.id, s.path from secrets s;",
            u = user("n"),
            t = team("n"),
            second = user("2"),
            me = user("1"),
            member = user(&format!("2 + (n * 10 + m) % greatest({users} - 1, 1)")),
            ku = key("n"),
            kt = key("1000000 + n"),
            s = secret("n"),
            d = deployment("n"),
            d_bound = deployment(&bound_in),
            deployer = user(&format!("1 + n % {users}")),
            deployer_bound = user(&format!("1 + ({bound_in}) % {users}")),
            g = grant("n"),
            beyond = secret(&format!("{OWN} + n")),
            folder = grant("1000"),
            shared = secret("1000000 + n"),
            more = grant("10000 + n"),
            to = user(&format!("2 + (n * 7) % greatest({users} - 1, 1)")),
            any = secret(&format!("{OWN} + 41 + (n * 9) % ({secrets} - {OWN} - 41)")),
        )
    }
}

/// What was read, in rows of all tables, and how long it took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    rows: i64,
    found: usize,
    time: Duration,
}

impl House {
    /// Rows that the whole database has read so far, by sequence and by index, by sessions that have ended.
    async fn rows_read(&self, admin: &mut PgConnection) -> i64 {
        // A session hands in its numbers when it ends.
        let others = "select count(*) from pg_stat_activity \
                      where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
        loop {
            let open: i64 = sqlx::query_scalar(others)
                .fetch_one(&mut *admin)
                .await
                .unwrap();
            if open == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let sum = "select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint from pg_stat_user_tables";
        run(admin, "select pg_stat_clear_snapshot()").await;
        sqlx::query_scalar(sum).fetch_one(admin).await.unwrap()
    }

    /// What `what` costs the store: rows once, and the least disturbed time of several.
    async fn cost<F: AsyncFn(&Db, &Caller) -> usize>(&self, what: F) -> Cost {
        let mut admin = self.database.admin_options.connect().await.unwrap();
        // A store of its own, so that its sessions end; opening one reads a little, which is counted before.
        let (mut reads, mut found) = (Vec::new(), 0);
        for times in [0, 1] {
            let before = self.rows_read(&mut admin).await;
            let db = opened(&self.database).await;
            if times > 0 {
                found = what(&db, &self.me).await;
            }
            db.close().await;
            reads.push(self.rows_read(&mut admin).await - before);
        }
        let mut times = Vec::new();
        let db = opened(&self.database).await;
        what(&db, &self.me).await;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            what(&db, &self.me).await;
            times.push(begun.elapsed());
        }
        db.close().await;
        Cost {
            rows: (reads[1] - reads[0]).max(1),
            found,
            time: times.into_iter().min().unwrap(),
        }
    }
}

fn ratio(few: f64, many: f64) -> f64 {
    many / few.max(1e-9)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_user_has_costs_the_same_among_few_and_among_many() {
    let begun = Instant::now();
    let (few, many) = (FEW.made().await, MANY.made().await);
    println!(
        "Two populations made in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    few.db.close().await;
    many.db.close().await;
    let me = Handle::parse("u1").unwrap();
    let folder = Folder::parse("project/p1").unwrap();
    let filter = |text: &str| SecretFilter {
        text: text.into(),
        ..SecretFilter::default()
    };

    let mut told = Vec::new();
    let mut tell = |what: &'static str, few: Cost, many: Cost| {
        assert!(few.found > 0 && many.found > 0, "{what} finds something");
        let rows = ratio(few.rows as f64, many.rows as f64);
        let time = ratio(few.time.as_secs_f64(), many.time.as_secs_f64());
        println!(
            "{what:10} rows read {:7} and {:7}: {rows:5.2} times; time {:6.1} and {:6.1} ms: {time:5.2} times",
            few.rows,
            many.rows,
            few.time.as_secs_f64() * 1e3,
            many.time.as_secs_f64() * 1e3,
        );
        told.push((what, rows));
    };
    println!("{} against {}", FEW.name, MANY.name);
    macro_rules! measure {
        ($what:literal, $do:expr) => {{
            let what = $do;
            tell($what, few.cost(&what).await, many.cost(&what).await);
        }};
    }
    measure!("list", async |db: &Db, who: &Caller| {
        db.secrets_list(who, "", SecretSort::Path, 500)
            .await
            .unwrap()
            .len()
    });
    measure!("search", async |db: &Db, who: &Caller| {
        let found = db
            .secrets_find(who, &filter("key_49"), SecretSort::Changed, 500)
            .await;
        found.unwrap().len()
    });
    measure!("tree", async |db: &Db, who: &Caller| {
        db.secrets_tree(who, &me, None).await.unwrap().root.count
    });
    measure!("folder", async |db: &Db, who: &Caller| {
        db.secrets_tree(who, &me, Some(&folder))
            .await
            .unwrap()
            .root
            .count
    });
    measure!("facets", async |db: &Db, who: &Caller| {
        db.secrets_facets(who).await.unwrap().owners.len()
    });
    measure!("due", async |db: &Db, who: &Caller| {
        db.secrets_due(who).await.unwrap().len()
    });
    let own = SecretPath::parse("KEY_5").unwrap();
    measure!("one", async |db: &Db, who: &Caller| {
        let handle = Handle::parse(&who.user().unwrap().handle).unwrap();
        let shown = db.secret_show(who, &handle, &own).await;
        shown.unwrap().versions.len()
    });
    // The decision itself, on what was granted alone, on what is a team's, and on what is neither.
    let granted = few.granted;
    measure!("decision", async |db: &Db, who: &Caller| {
        let mut tx = begin_for_tests(db, who).await.unwrap();
        let level: i32 = sqlx::query_scalar(
            "select coalesce(max(reach(owner_id, 'secret', id, path)), 0) from secrets where id = $1",
        )
        .bind(granted)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        level as usize
    });
    for (what, rows) in told {
        assert!(
            rows <= RATIO_MAX,
            "{what} reads {rows:.2} times as many rows"
        );
    }
    println!("All in {:.1} s", begun.elapsed().as_secs_f64());
}
