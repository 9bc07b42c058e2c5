//! The second lock by level, by SQL alone: what the bound role sees and changes for an actor of each level, whatever plan the
//! database takes; and the one decision against a model of it, on random graphs of teams and grants.

use std::collections::{BTreeMap, BTreeSet};

use sealport::model::actors::{Actor, Caller, Origin, SignedInUser};
use sealport::store::Db;
use sealport::store::db::begin_for_tests;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::opening::{as_admin, open};

/// What is tried, as SQL, then who may: `use`, `read`, `write`, `admin`; a stranger may nothing. Each alone, and undone.
const TABLE: &str = "
see the secret            | select 1 from secrets where id = '{secret}' | y y y y
see its sealed versions   | select 1 from secret_versions where secret_id = '{secret}' | y y y y
change its details        | update secrets set description = 'x' where id = '{secret}' | - - y y
switch it off             | update secrets set active = false where id = '{secret}' | - - y y
rename it                 | update secrets set path = 'project/shop/NEW' where id = '{secret}' | - - - y
give it a new version     | insert into secret_versions (secret_id, owner_id, version, data_key_id, sealed, maskable, created_by) values ('{secret}', '{owner}', 2, '{data_key}', '\\x00', true, 'x') | - - y y
seal a version anew       | update secret_versions set sealed = '\\x01' where secret_id = '{secret}' | - - - y
delete it                 | delete from secrets where id = '{secret}' | - - - y
see the owner's data key  | select 1 from data_keys where owner_id = '{owner}' | y y y y
share it                  | insert into grants (id, owner_id, secret_id, grantee_id, level, granted_by, granted_by_name) values (gen_random_uuid(), '{owner}', '{secret}', '{third}', 1, '{me}', 'x') | - - - y
share it in another's name| insert into grants (id, owner_id, secret_id, grantee_id, level, granted_by, granted_by_name) values (gen_random_uuid(), '{owner}', '{secret}', '{third}', 1, '{third}', 'x') | - - - -
raise oneself             | update grants set level = 4, granted_by = '{me}' where owner_id = '{owner}' and level < 4 | - - - y
see what others have      | select 1 from grants where id = '{others}' | - - - y
take it from others       | delete from grants where id = '{others}' | - - - y
see the deployment        | select 1 from deployments where id = '{deployment}' | y y y y
see its bindings          | select 1 from bindings where deployment_id = '{deployment}' | - y y y
see its releases          | select 1 from releases where deployment_id = '{deployment}' | - y y y
see their steps           | select 1 from release_steps where deployment_id = '{deployment}' | - y y y
see what they used        | select 1 from release_bindings where deployment_id = '{deployment}' | - y y y
see its log               | select 1 from log_lines where deployment_id = '{deployment}' | - y y y
write into its log        | insert into log_lines (deployment_id, owner_id, number, stream, line) values ('{deployment}', '{owner}', 1, 'stdout', 'x') | - - - -
stop it                   | update deployments set wanted = false where id = '{deployment}' | - - y y
queue a release           | insert into releases (deployment_id, owner_id, number, state, created_by) values ('{deployment}', '{owner}', 2, 'queued', 'x') | - - y y
change its source         | update deployments set source = 'npm:other' where id = '{deployment}' | - - - y
rename it                 | update deployments set name = 'other' where id = '{deployment}' | - - - -
hold it                   | update deployments set fence = 9 where id = '{deployment}' | - - - -
bind text                 | insert into bindings (deployment_id, owner_id, env, text) values ('{deployment}', '{owner}', 'B', 'x') | - - - y
bind the secret           | insert into bindings (deployment_id, owner_id, env, secret_id, secret_path) values ('{deployment}', '{owner}', 'B', '{secret}', 'x') | - - - y
destroy it                | delete from deployments where id = '{deployment}' | - - - y
make a token for it       | insert into tokens (id, hash, maker_id, owner_id, audience, deployment_id, name) values (gen_random_uuid(), 'cc', '{me}', '{owner}', 'gateway', '{deployment}', 'x') | y y y y
see the owner's token     | select 1 from tokens where id = '{token}' | - - - y
revoke the owner's token  | update tokens set revoked_at = now() where id = '{token}' | - - - y
share the deployment      | insert into grants (id, owner_id, deployment_id, grantee_id, level, granted_by, granted_by_name) values (gen_random_uuid(), '{owner}', '{deployment}', '{third}', 1, '{me}', 'x') | - - - y
";

/// What no grant gives, whatever its level: the owner is not shut out.
const GIVEN: &str = "
rename it to elsewhere    | update secrets set path = 'meta/render/api_key' where id = '{secret}' | - - - -
take it for oneself       | update secrets set owner_id = '{me}' where id = '{secret}' | - - - -
";

/// Only members of the owner itself, a team: the columns are their levels.
const OF_THE_OWNER: &str = "
rename it to elsewhere    | update secrets set path = 'meta/render/api_key' where id = '{secret}' | - - - y
see the members           | select 1 from team_members where team_id = '{owner}' and user_id <> '{me}' | y y y y
take it for oneself       | update secrets set owner_id = '{me}' where id = '{secret}' | - - - y
add a member              | insert into team_members (team_id, user_id, level, added_by) values ('{owner}', '{third}', 4, 'x') | - - - y
raise oneself             | update team_members set level = 4 where team_id = '{owner}' and user_id = '{me}' and level < 4 | - - - -
remove another            | delete from team_members where team_id = '{owner}' and user_id <> '{me}' and level < 4 | - - - y
leave                     | delete from team_members where team_id = '{owner}' and user_id = '{me}' | y y y y
dissolve it               | update owners set ended_at = now() where id = '{owner}' | - - - -
rename it                 | update owners set handle = 'other' where id = '{owner}' | - - - -
add a secret              | insert into secrets (id, owner_id, path, kind, version) values (gen_random_uuid(), '{owner}', 'NEW', 'custom', 1) | - - y y
take a deployment's name  | insert into deployment_names (name, owner_id) values ('new', '{owner}') | - - - y
see its record            | select 1 from audit where owner_id = '{owner}' | - - - y
share a folder            | insert into grants (id, owner_id, prefix, grantee_id, level, granted_by, granted_by_name) values (gen_random_uuid(), '{owner}', 'meta', '{third}', 1, '{me}', 'x') | - - - y
";

/// Ways of finding rows that the planner may take.
const PLANS: [&str; 3] = [
    "set local enable_seqscan = on",
    "set local enable_indexscan = off; set local enable_bitmapscan = off; set local enable_indexonlyscan = off",
    "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_nestloop = on",
];

fn user(id: Uuid) -> Caller {
    Caller {
        actor: Actor::User(SignedInUser {
            id,
            handle: "x".into(),
            email: String::new(),
            is_admin: false,
        }),
        origin: Origin::default(),
    }
}

/// Makes people; their ids.
async fn people(database: &TestDatabase, names: &[&str]) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for name in names {
        let id = Uuid::now_v7();
        as_admin(
            database,
            &format!(
                "insert into owners (id, handle, kind) values ('{id}', '{name}', 'user');
                 insert into users (id, email, password_hash) values ('{id}', '{name}@example.org', 'none')"
            ),
        )
        .await;
        ids.push(id);
    }
    ids
}

struct Things {
    names: Vec<(&'static str, String)>,
}

impl Things {
    fn fill(&self, sql: &str, me: Uuid) -> String {
        self.names.iter().fold(
            sql.replace("{me}", &me.to_string()),
            |sql, (name, value)| sql.replace(name, value),
        )
    }
}

/// A secret and a deployment of an owner's, with all that hangs on them.
async fn things(
    database: &TestDatabase,
    number: usize,
    owner: Uuid,
    third: Uuid,
    fourth: Uuid,
) -> Things {
    let mut names = vec![
        ("{owner}", owner.to_string()),
        ("{third}", third.to_string()),
    ];
    for name in [
        "{secret}",
        "{deployment}",
        "{token}",
        "{others}",
        "{data_key}",
    ] {
        names.push((name, Uuid::now_v7().to_string()));
    }
    let things = Things { names };
    let sql = format!(
        "insert into data_keys (id, owner_id, master_key, wrapped) select '{{data_key}}', '{{owner}}', fingerprint, '\\x00' from master_keys;
         insert into secrets (id, owner_id, path, kind, version) values ('{{secret}}', '{{owner}}', 'project/shop/KEY', 'custom', 1);
         insert into secret_versions (secret_id, owner_id, version, data_key_id, sealed, maskable, created_by)
             values ('{{secret}}', '{{owner}}', 1, '{{data_key}}', '\\x00', true, 'x');
         insert into deployment_names (name, owner_id) values ('server-{number}', '{{owner}}');
         insert into deployments (id, name, owner_id, source, start, target, state)
             values ('{{deployment}}', 'server-{number}', '{{owner}}', 'npm:x', '{{}}', 'local', 'running');
         insert into bindings (deployment_id, owner_id, env, secret_id, secret_path)
             values ('{{deployment}}', '{{owner}}', 'A', '{{secret}}', 'project/shop/KEY');
         insert into releases (deployment_id, owner_id, number, state, created_by) values ('{{deployment}}', '{{owner}}', 1, 'live', 'x');
         insert into release_steps (deployment_id, owner_id, number, step, state) values ('{{deployment}}', '{{owner}}', 1, 'fetch', 'done');
         insert into release_bindings (deployment_id, owner_id, number, env, secret_id, path, version)
             values ('{{deployment}}', '{{owner}}', 1, 'A', '{{secret}}', 'x', 1);
         insert into log_lines (deployment_id, owner_id, number, stream, line) values ('{{deployment}}', '{{owner}}', 1, 'stdout', 'x');
         insert into tokens (id, hash, maker_id, owner_id, audience, deployment_id, name)
             values ('{{token}}', 'hash-{number}', '{{third}}', '{{owner}}', 'gateway', '{{deployment}}', 'x');
         insert into audit (id, actor_kind, actor_name, owner_id, action, outcome) values (gen_random_uuid(), 'job', 'x', '{{owner}}', 'x', 'done');
         insert into grants (id, owner_id, secret_id, grantee_id, level, granted_by, granted_by_name)
             values ('{{others}}', '{{owner}}', '{{secret}}', '{fourth}', 1, '{{owner}}', 'x')"
    );
    as_admin(database, &things.fill(&sql, owner)).await;
    things
}

/// Whether the statement reaches a row, as the bound role and this actor; undone.
async fn may(db: &Db, who: &Caller, plan: &str, sql: &str) -> bool {
    let mut tx = begin_for_tests(db, who).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(plan.to_owned()))
        .execute(&mut *tx)
        .await
        .unwrap();
    let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(&mut *tx)
        .await;
    tx.rollback().await.unwrap();
    match done {
        Ok(done) => done.rows_affected() > 0,
        Err(sqlx::Error::Database(error))
            if ["42501", "23514"].contains(&error.code().unwrap_or_default().as_ref()) =>
        {
            false
        }
        Err(error) => panic!("{sql}: {error}"),
    }
}

struct Rows<'a> {
    db: &'a Db,
    things: &'a Things,
    wrong: Vec<String>,
}

impl Rows<'_> {
    async fn hold(&mut self, table: &str, way: &str, whos: [Uuid; 4], stranger: Uuid) {
        for line in table.lines().filter(|line| !line.is_empty()) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let expected: Vec<bool> = cells[2].split(' ').map(|word| word == "y").collect();
            for plan in PLANS {
                let mut got = Vec::new();
                for who in whos.into_iter().chain([stranger]) {
                    got.push(
                        may(self.db, &user(who), plan, &self.things.fill(cells[1], who)).await,
                    );
                }
                if got[..4] != expected[..] || got[4] {
                    self.wrong
                        .push(format!("{way}: {}: {got:?} under {plan}", cells[0]));
                }
            }
        }
    }
}

#[tokio::test]
async fn each_level_sees_and_changes_what_the_table_says_by_any_plan() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ids = people(
        &database,
        &[
            "ann", "d1", "d2", "d3", "d4", "t1", "t2", "t3", "t4", "m1", "m2", "m3", "m4", "third",
            "fourth", "stranger",
        ],
    )
    .await;
    let at = |from: usize| [ids[from], ids[from + 1], ids[from + 2], ids[from + 3]];
    let (ann, third, fourth, stranger) = (ids[0], ids[13], ids[14], ids[15]);
    let personal = things(&database, 1, ann, third, fourth).await;
    // Each level given to a person, and to a team of which the next is a member with the least.
    for (place, (direct, through)) in at(1).into_iter().zip(at(5)).enumerate() {
        let (level, team) = (place + 1, Uuid::now_v7());
        as_admin(
            &database,
            &format!("insert into owners (id, handle, kind, maker_id) values ('{team}', 'team-{level}', 'team', '{through}');
                      insert into team_members (team_id, user_id, level, added_by) values ('{team}', '{through}', 1, 'x')"),
        )
        .await;
        for grantee in [direct, team] {
            // The secret by its folder for teams, itself for people.
            let object = if grantee == team {
                "prefix"
            } else {
                "secret_id"
            };
            let on = if grantee == team {
                "project/shop"
            } else {
                "{secret}"
            };
            let sql = format!(
                "insert into grants (id, owner_id, {object}, grantee_id, level, granted_by, granted_by_name)
                     values (gen_random_uuid(), '{{owner}}', '{on}', '{grantee}', {level}, '{{owner}}', 'x');
                 insert into grants (id, owner_id, deployment_id, grantee_id, level, granted_by, granted_by_name)
                     values (gen_random_uuid(), '{{owner}}', '{{deployment}}', '{grantee}', {level}, '{{owner}}', 'x')"
            );
            as_admin(&database, &personal.fill(&sql, ann)).await;
        }
    }
    let mut rows = Rows {
        db: &db,
        things: &personal,
        wrong: Vec::new(),
    };
    rows.hold(TABLE, "given", at(1), stranger).await;
    rows.hold(TABLE, "given to a team", at(5), stranger).await;
    rows.hold(GIVEN, "given", at(1), stranger).await;
    rows.hold(GIVEN, "given to a team", at(5), stranger).await;

    let team = Uuid::now_v7();
    as_admin(
        &database,
        &format!("insert into owners (id, handle, kind, maker_id) values ('{team}', 'owning', 'team', '{}')", ids[12]),
    )
    .await;
    for (place, member) in at(9).into_iter().enumerate() {
        as_admin(
            &database,
            &format!("insert into team_members (team_id, user_id, level, added_by) values ('{team}', '{member}', {}, 'x')", place + 1),
        )
        .await;
    }
    // A second admin, so that the first may leave.
    as_admin(&database, &format!("insert into team_members (team_id, user_id, level, added_by) values ('{team}', '{ann}', 4, 'x')")).await;
    let of_team = things(&database, 2, team, third, fourth).await;
    rows.things = &of_team;
    rows.hold(TABLE, "member of the owner", at(9), stranger)
        .await;
    rows.hold(OF_THE_OWNER, "member of the owner", at(9), stranger)
        .await;
    assert!(rows.wrong.is_empty(), "{}", rows.wrong.join("\n"));
}

/// A small generator of numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

struct Given {
    owner: Uuid,
    secret: Option<Uuid>,
    prefix: Option<&'static str>,
    grantee: Uuid,
    level: i32,
    only: Option<&'static str>,
}

/// What is decided, said anew in a few lines.
struct Model {
    members: BTreeMap<(Uuid, Uuid), i32>,
    given: Vec<Given>,
}

impl Model {
    fn reach(
        &self,
        actor: Uuid,
        owner: Uuid,
        secret: Uuid,
        path: &str,
        deployment: Option<&str>,
    ) -> i32 {
        if actor == owner {
            return 4;
        }
        let as_team = self.members.get(&(owner, actor)).copied().unwrap_or(0);
        let given = self.given.iter().filter(|given| {
            let is_mine =
                given.grantee == actor || self.members.contains_key(&(given.grantee, actor));
            let covers = given.secret == Some(secret)
                || given.prefix.is_some_and(|prefix| {
                    path.strip_prefix(prefix)
                        .is_some_and(|rest| rest.starts_with('/'))
                });
            let holds = deployment.is_none() || given.only.is_none() || given.only == deployment;
            given.owner == owner && is_mine && covers && holds
        });
        given
            .map(|given| given.level)
            .max()
            .unwrap_or(0)
            .max(as_team)
    }
}

#[tokio::test]
async fn the_decision_is_the_models_on_random_graphs() {
    const PATHS: [&str; 6] = [
        "KEY",
        "project/a/KEY",
        "project/a/b/KEY",
        "project/ab/KEY",
        "meta/a/KEY",
        "service/x/y/KEY",
    ];
    const PREFIXES: [&str; 5] = ["project", "project/a", "project/a/b", "meta/a", "service/x"];
    let database = common::new_database().await;
    let db = open(&database).await;
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 | 1);
    let mut dice = Dice(seed);
    for round in 0..6 {
        let names: Vec<String> = (0..5).map(|number| format!("r{round}-u{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let users = people(&database, &names).await;
        let mut sql = String::new();
        let mut model = Model {
            members: BTreeMap::new(),
            given: Vec::new(),
        };
        // In some rounds one is in so many teams that the planner weighs the list of them differently.
        let teams: Vec<Uuid> = (0..if round % 2 == 0 { 3 } else { 40 })
            .map(|_| Uuid::now_v7())
            .collect();
        for (number, team) in teams.iter().enumerate() {
            sql += &format!(
                "insert into owners (id, handle, kind, maker_id) values ('{team}', 'r{round}-t{number}', 'team', '{}');",
                users[0]
            );
            for user in &users {
                if number >= 3 && *user == users[1] || dice.roll(3) == 0 {
                    let level = 1 + dice.roll(4) as i32;
                    model.members.insert((*team, *user), level);
                    sql += &format!(
                        "insert into team_members (team_id, user_id, level, added_by) values ('{team}', '{user}', {level}, 'x');"
                    );
                }
            }
        }
        let owners: Vec<Uuid> = users.iter().chain(&teams[..3]).copied().collect();
        let mut secrets = Vec::new();
        for owner in &owners {
            for path in PATHS {
                let id = Uuid::now_v7();
                secrets.push((*owner, id, path));
                sql += &format!(
                    "insert into secrets (id, owner_id, path, kind, version) values ('{id}', '{owner}', '{path}', 'custom', 1);"
                );
            }
        }
        for _ in 0..40 {
            let (owner, id, _) = secrets[dice.roll(secrets.len())];
            let grantee = owners[dice.roll(owners.len())];
            if grantee == owner {
                continue;
            }
            let (secret, prefix) = if dice.roll(2) == 0 {
                (Some(id), None)
            } else {
                (None, Some(PREFIXES[dice.roll(PREFIXES.len())]))
            };
            let only = (dice.roll(3) == 0).then(|| ["one", "two"][dice.roll(2)]);
            let level = if only.is_some() {
                1
            } else {
                1 + dice.roll(4) as i32
            };
            let same = |given: &Given| {
                given.owner == owner
                    && given.secret == secret
                    && given.prefix == prefix
                    && given.grantee == grantee
            };
            if model.given.iter().any(same) {
                continue;
            }
            let quoted =
                |text: Option<String>| text.map_or("null".into(), |text| format!("'{text}'"));
            sql += &format!(
                "insert into grants (id, owner_id, secret_id, prefix, grantee_id, level, only_deployments, granted_by, granted_by_name)
                 values (gen_random_uuid(), '{owner}', {}, {}, '{grantee}', {level}, {}, '{owner}', 'x');",
                quoted(secret.map(|id| id.to_string())),
                quoted(prefix.map(str::to_owned)),
                quoted(only.map(|name| format!("{{{name}}}"))),
            );
            model.given.push(Given {
                owner,
                secret,
                prefix,
                grantee,
                level,
                only,
            });
        }
        as_admin(&database, &sql).await;
        for actor in owners {
            let mut expected = BTreeMap::new();
            for (owner, id, path) in &secrets {
                let level = model.reach(actor, *owner, *id, path, None);
                if level > 0 {
                    let usable = ["one", "two", "three"]
                        .map(|name| model.reach(actor, *owner, *id, path, Some(name)) > 0);
                    expected.insert(*id, (level, usable));
                }
            }
            for plan in PLANS {
                let mut tx = begin_for_tests(&db, &user(actor)).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(plan.to_owned()))
                    .execute(&mut *tx)
                    .await
                    .unwrap();
                let rows = sqlx::query(
                    "select id, reach(owner_id, 'secret', id, path) as level,
                            array(select usable_in(current_actor(), owner_id, id, path, name) from unnest(array['one', 'two', 'three']) as name) as usable
                     from secrets",
                )
                .fetch_all(&mut *tx)
                .await
                .unwrap();
                let got: BTreeMap<Uuid, (i32, [bool; 3])> = rows
                    .iter()
                    .map(|row| {
                        (
                            row.get("id"),
                            (
                                row.get("level"),
                                row.get::<Vec<bool>, _>("usable").try_into().unwrap(),
                            ),
                        )
                    })
                    .collect();
                assert_eq!(got, expected, "SEED={seed} round {round} {actor} {plan}");
                // Lists begin with candidates, and miss nothing.
                let candidates: Vec<Uuid> = sqlx::query_scalar("select secrets_in_sight()")
                    .fetch_all(&mut *tx)
                    .await
                    .unwrap();
                let candidates: BTreeSet<Uuid> = candidates.into_iter().collect();
                assert!(
                    expected.keys().all(|id| candidates.contains(id)),
                    "SEED={seed}"
                );
                tx.rollback().await.unwrap();
            }
        }
    }
}
