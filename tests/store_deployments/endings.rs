//! Accounts that end, and what becomes of what they owned.

use sealport::model::actors::{Caller, Job};
use sealport::model::errors::RefusalKind;
use sealport::model::paths::{DeploymentName, Handle, SecretPath};
use sealport::store::db::begin_for_tests;
use sealport::store::logs::NewLine;
use sealport::store::secrets::NewValue;
use sealport::store::sessions::Sessions;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use uuid::Uuid;

use crate::common::waiting;
use crate::world::{self, World, assert_refused, id, refusal};

fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}

fn guess(text: &str) -> SecretString {
    SecretString::from(text)
}

/// Ada administers; Ben leaves; Carl stays.
struct House {
    world: World,
    ada: Caller,
    ben: Caller,
    carl: Caller,
}

async fn house() -> House {
    let world = World::new().await;
    let (ada, ben, carl) = (
        world.user("ada").await,
        world.user("ben").await,
        world.user("carl").await,
    );
    let house = House {
        world,
        ada,
        ben,
        carl,
    };
    house.make_administrator(&house.ada).await;
    house
}

impl House {
    async fn make_administrator(&self, who: &Caller) {
        let sql = format!(
            "set sealport.job = 'operator'; update users set is_admin = true where id = '{}'",
            id(who)
        );
        self.world.sql(&sql).await;
    }

    async fn team(&self, handle: &str, members: &[(&Caller, i32)]) -> Uuid {
        let team = Uuid::now_v7();
        let maker = id(members[0].0);
        self.world
            .sql(&format!(
                "insert into owners (id, handle, kind, maker_id) values ('{team}', '{handle}', 'team', '{maker}')"
            ))
            .await;
        for (member, level) in members {
            let sql = format!(
                "insert into team_members (team_id, user_id, level, added_by) values ('{team}', '{}', {level}, 'x')",
                id(member)
            );
            self.world.sql(&sql).await;
        }
        team
    }

    async fn grant(&self, column: &str, value: &str, to: &Caller, level: i32) {
        let sql = format!(
            "insert into grants (id, owner_id, {column}, grantee_id, level, granted_by, granted_by_name)
             values (gen_random_uuid(), '{0}', '{value}', '{1}', {level}, '{0}', 'ben')",
            id(&self.ben),
            id(to)
        );
        self.world.sql(&sql).await;
    }

    async fn end(&self, heir: Option<&str>) -> Result<(), sealport::store::Error> {
        let heir = heir.map(handle);
        self.world
            .db
            .account_end(&self.ada, id(&self.ben), heir.as_ref())
            .await
    }

    /// All that there is but the record.
    async fn picture(&self) -> String {
        let mut picture = String::new();
        for table in [
            "owners",
            "users",
            "secrets",
            "secret_versions",
            "data_keys",
            "grants",
            "team_members",
            "deployments",
            "deployment_names",
            "bindings",
            "releases",
            "log_lines",
            "tokens",
            "sessions",
            "one_time_links",
        ] {
            let rows =
                format!("select string_agg(t::text, E'\\n' order by t::text) from {table} t");
            picture.push_str(&self.world.text(&rows).await.unwrap_or_default());
        }
        picture
    }
}

#[tokio::test]
async fn everything_goes_to_the_heir_in_one_step() {
    let house = house().await;
    let db = &house.world.db;
    let key = house
        .world
        .secret(&house.ben, "KEY", "the first value")
        .await;
    let value = NewValue::Typed(guess("the second value"));
    db.secret_replace(&house.ben, key, 1, value).await.unwrap();
    let shared = house
        .world
        .secret(&house.ben, "project/web/SHARED", "a shared value")
        .await;
    house
        .grant("secret_id", &shared.to_string(), &house.carl, 2)
        .await;
    house
        .grant("secret_id", &key.to_string(), &house.ada, 1)
        .await;
    house.grant("prefix", "project/web", &house.carl, 3).await;

    let name = house
        .world
        .deployment(&house.ben, "crawl", vec![world::secret("KEY", key)])
        .await;
    let task = house.world.claim(Uuid::now_v7()).await;
    let line = |text: &str| NewLine {
        stream: "stdout",
        line: text.to_owned(),
    };
    db.log_append(task.deployment_id, 1, &[line("before")])
        .await
        .unwrap();
    house
        .grant(
            "deployment_id",
            &task.deployment_id.to_string(),
            &house.carl,
            1,
        )
        .await;
    let carls = db
        .gateway_token_create(&house.carl, &name, "carl's", None)
        .await
        .unwrap();
    let bens = db
        .gateway_token_create(&house.ben, &name, "ben's", None)
        .await
        .unwrap();
    // A name that was used once goes too.
    house.world.deployment(&house.ben, "old", vec![]).await;
    db.deployment_destroy(&house.ben, &DeploymentName::parse("old").unwrap(), "old")
        .await
        .unwrap();
    house
        .team("crew", &[(&house.carl, 4), (&house.ben, 4)])
        .await;
    let mut session = Record {
        id: Id::default(),
        data: [(
            "axum-login.data".to_owned(),
            serde_json::json!({"user_id": id(&house.ben), "auth_hash": [1]}),
        )]
        .into(),
        expiry_date: time::OffsetDateTime::now_utc() + time::Duration::days(1),
    };
    Sessions(db.clone()).create(&mut session).await.unwrap();

    let ending = db
        .account_ending(&house.ada, &handle("ben"), None)
        .await
        .unwrap();
    assert_eq!((ending.secrets, ending.deployments), (2, 1));
    assert!(ending.last_admin_of.is_empty() && !ending.last_administrator);
    house.end(Some("ada")).await.unwrap();

    // The heir has it all: values, versions, the deployment with its log, the name of the other.
    for (secret, value) in [(key, "the second value"), (shared, "a shared value")] {
        assert!(
            db.secret_compare(&house.ada, secret, guess(value))
                .await
                .unwrap()
        );
    }
    let path = SecretPath::parse("KEY").unwrap();
    let versions = db
        .secret_show(&house.ada, &handle("ada"), &path)
        .await
        .unwrap()
        .versions;
    assert_eq!(versions.len(), 2);
    let lines = db.log_read(&house.ada, &name, None, 10).await.unwrap();
    assert_eq!(lines.len(), 1);
    db.log_append(task.deployment_id, 1, &[line("after")])
        .await
        .unwrap();
    house.world.deployment(&house.ada, "old", vec![]).await;
    let owners = "select string_agg(distinct o.handle, ' ') from owners o where o.id in
        (select owner_id from secrets union select owner_id from secret_versions union select owner_id from deployments
         union select owner_id from bindings union select owner_id from releases union select owner_id from release_steps
         union select owner_id from log_lines union select owner_id from deployment_names union select owner_id from tokens
         union select owner_id from grants)";
    assert_eq!(house.world.text(owners).await.as_deref(), Some("ada"));
    // What was shared one by one stays shared; the folder, and what the heir had been given, do not.
    let grants = "select string_agg(concat_ws(' ', g.level, g.prefix, o.handle), ', ' order by g.level) from grants g
        join owners o on o.id = g.grantee_id";
    assert_eq!(
        house.world.text(grants).await.as_deref(),
        Some("1 carl, 2 carl")
    );
    assert!(
        db.secret_compare(&house.carl, shared, guess("a shared value"))
            .await
            .unwrap()
    );

    // Nothing of Ben's opens any more.
    assert!(db.account(id(&house.ben)).await.unwrap().is_none());
    assert!(
        Sessions(db.clone())
            .load(&session.id)
            .await
            .unwrap()
            .is_none()
    );
    let open = async |token: &str| {
        let origin = house.carl.origin.clone();
        db.gateway_open(&SecretString::from(token), name.as_str(), &origin, true)
            .await
            .is_ok()
    };
    assert!(open(&carls.token).await);
    assert!(!open(&bens.token).await);
    assert_eq!(house.world.count("team_members").await, 1);
    let again = refusal(house.end(Some("ada")).await);
    assert_eq!(again.kind, RefusalKind::NotFound);
    // And nothing comes to him.
    let late = db
        .secret_create(
            &house.ben,
            sealport::store::secrets::NewSecret {
                tags: Vec::new(),
                owner: None,
                path: SecretPath::parse("LATE").unwrap(),
                value: NewValue::Typed(guess("late")),
                kind: sealport::model::secrets::Kind::ApiKey,
                description: String::new(),
                expires_at: None,
            },
        )
        .await;
    assert_eq!(refusal(late).kind, RefusalKind::Denied);

    // Both accounts have it on record.
    let rows = "select string_agg(concat_ws(' ', a.action, o.handle, a.path, a.deployment), E'\\n' order by a.action, o.handle, a.path)
        from audit a join owners o on o.id = a.owner_id
        where a.actor_name = 'ada' and a.outcome = 'done' and a.action in ('account.end', 'secret.move', 'deployment.move')";
    assert_eq!(
        house.world.text(rows).await.unwrap(),
        "account.end ada\naccount.end ben\ndeployment.move ada crawl\ndeployment.move ben crawl\n\
         secret.move ada KEY\nsecret.move ada project/web/SHARED\nsecret.move ben KEY\nsecret.move ben project/web/SHARED"
    );
}

#[tokio::test]
async fn a_large_account_goes_whole_to_a_team() {
    let house = house().await;
    let db = &house.world.db;
    // More than is taken in hand at a time.
    let mut secrets = Vec::new();
    for number in 0..230 {
        let path = format!("project/p{}/KEY_{number}", number % 7);
        let value = format!("the value of {number}");
        secrets.push((house.world.secret(&house.ben, &path, &value).await, value));
    }
    house.team("crew", &[(&house.carl, 3)]).await;
    house.end(Some("crew")).await.unwrap();
    for (secret, value) in &secrets {
        assert!(
            db.secret_compare(&house.carl, *secret, guess(value))
                .await
                .unwrap()
        );
    }
    // An administrator is no nearer to it than before.
    for (secret, value) in secrets.iter().take(3) {
        let none = db.secret_compare(&house.ada, *secret, guess(value)).await;
        assert_refused(none, RefusalKind::NotFound, None);
    }
}

/// What the heir shares by folder covers what comes; it is said before, and so is what stays behind.
#[tokio::test]
async fn it_is_told_whom_the_heirs_folders_let_in_and_which_rules_stay_behind() {
    let house = house().await;
    let (world, db) = (&house.world, &house.world.db);
    for path in ["project/shop/KEY", "OTHER"] {
        world.secret(&house.ben, path, "a value").await;
    }
    let carls = |prefix: &str, to: Uuid, level: i32| {
        format!(
            "insert into grants (id, owner_id, prefix, grantee_id, level, granted_by, granted_by_name)
             values (gen_random_uuid(), '{0}', '{prefix}', '{to}', {level}, '{0}', 'carl')",
            id(&house.carl)
        )
    };
    // Dora twice, and the higher holds; nobody by a folder into which nothing comes; not who ends.
    let dora = world.user("dora").await;
    for (prefix, to, level) in [
        ("project", id(&dora), 1),
        ("project/shop", id(&dora), 3),
        ("project/sho", id(&house.ada), 4),
        ("project", id(&house.ben), 2),
    ] {
        world.sql(&carls(prefix, to, level)).await;
    }
    for prefix in ["project/shop", "meta"] {
        let rule = format!(
            "insert into rotation_rules (id, owner_id, prefix, after_days, set_by)
             values (gen_random_uuid(), '{}', '{prefix}', 30, 'ben')",
            id(&house.ben)
        );
        world.sql(&rule).await;
    }
    let told = async |heir: Option<&str>| {
        let heir = heir.map(handle);
        let ending = db
            .account_ending(&house.ada, &handle("ben"), heir.as_ref())
            .await
            .unwrap();
        (ending.let_in.to_string(), ending.rules_lost.to_string())
    };
    let lost = || "project/shop".to_owned();
    assert_eq!(told(None).await, (String::new(), lost()));
    assert_eq!(
        told(Some("carl")).await,
        ("dora (write)".to_owned(), lost())
    );
    assert_eq!(told(Some("ada")).await, (String::new(), lost()));
    // Of many, the first and the number.
    for number in 10..25 {
        let one = world.user(&format!("e{number}")).await;
        world.sql(&carls("project", id(&one), 1)).await;
    }
    let (many, _) = told(Some("carl")).await;
    assert!(
        many.starts_with("dora (write), e10 (use), ") && many.ends_with("e18 (use) and 6 more"),
        "{many}"
    );
    let nobody = db
        .account_ending(&house.ada, &handle("ben"), Some(&handle("nobody")))
        .await;
    assert_refused(nobody, RefusalKind::Invalid, Some("heir"));
}

/// Whoever is being ended can still rename, from where was not looked yet to where was.
#[tokio::test]
async fn a_rename_meanwhile_hides_no_secret_from_the_hand_over() {
    let house = house().await;
    let ben = id(&house.ben);
    house
        .world
        .sql(&format!(
            "insert into secrets (id, owner_id, path, kind, version)
             select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, '{ben}', 'KEY_' || lpad(n::text, 4, '0'), 'custom', 1
             from generate_series(1, 230) n"
        ))
        .await;
    let mut holder = house.world.database.admin_options.connect().await.unwrap();
    sqlx::raw_sql("begin; select 1 from secrets where path = 'KEY_0001' for update")
        .execute(&mut holder)
        .await
        .unwrap();
    let ending = tokio::spawn({
        let (db, ada) = (house.world.db.clone(), house.ada.clone());
        async move { db.account_end(&ada, ben, Some(&handle("ada"))).await }
    });
    waiting::held_up(&house.world.database.admin_options, 1, &ending).await;
    assert!(!ending.is_finished());
    house
        .world
        .sql(&format!(
            "set sealport.actor = '{ben}'; update secrets set path = 'A_KEY' where path = 'KEY_0230'"
        ))
        .await;
    sqlx::raw_sql("rollback")
        .execute(&mut holder)
        .await
        .unwrap();
    ending.await.unwrap().unwrap();
    let left = format!("secrets where owner_id = '{ben}'");
    assert_eq!(house.world.count(&left).await, 0);
    assert_eq!(house.world.count("secrets").await, 230);
}

/// Two admins of a team: one leaves it while the other's account ends.
#[tokio::test]
async fn a_team_keeps_an_admin_when_one_leaves_while_the_other_ends() {
    let house = house().await;
    let team = house
        .team("crew", &[(&house.carl, 4), (&house.ben, 4)])
        .await;
    let (ben, carl) = (id(&house.ben), id(&house.carl));
    let mut leaving = house.world.database.admin_options.connect().await.unwrap();
    let leave = format!(
        "begin; set local sealport.actor = '{carl}'; delete from team_members where user_id = '{carl}'"
    );
    sqlx::raw_sql(AssertSqlSafe(leave))
        .execute(&mut leaving)
        .await
        .unwrap();
    let ending = tokio::spawn({
        let (db, ada) = (house.world.db.clone(), house.ada.clone());
        async move { db.account_end(&ada, ben, None).await }
    });
    waiting::held_up(&house.world.database.admin_options, 1, &ending).await;
    sqlx::raw_sql("commit").execute(&mut leaving).await.unwrap();
    let refused = refusal(ending.await.unwrap());
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert!(refused.detail.contains("administers crew."), "{refused}");
    let admins = format!("team_members where team_id = '{team}' and level = 4");
    assert_eq!(house.world.count(&admins).await, 1);
}

#[tokio::test]
async fn an_account_that_owns_nothing_needs_no_heir() {
    let house = house().await;
    house.end(None).await.unwrap();
    assert!(
        house
            .world
            .db
            .account(id(&house.ben))
            .await
            .unwrap()
            .is_none()
    );
    let people = house.world.db.people_list(&house.ada, "").await.unwrap();
    let ended: Vec<_> = people
        .iter()
        .filter(|person| person.ended_at.is_some())
        .map(|person| person.handle.as_str())
        .collect();
    assert_eq!(ended, ["ben"]);
}

#[tokio::test]
async fn what_does_not_end_stays_whole_and_says_why() {
    let house = house().await;
    let db = &house.world.db;
    house.world.secret(&house.ben, "KEY", "a value").await;
    let named = house
        .world
        .secret(&house.carl, "key", "another value")
        .await;
    let before = house.picture().await;
    for (heir, kind, field, says) in [
        (
            None,
            RefusalKind::Invalid,
            Some("heir"),
            "1 secret and 0 deployments",
        ),
        (
            Some("nobody"),
            RefusalKind::Invalid,
            Some("heir"),
            "no other user or team",
        ),
        (
            Some("ben"),
            RefusalKind::Invalid,
            Some("heir"),
            "no other user or team",
        ),
        (
            Some("carl"),
            RefusalKind::Invalid,
            Some("heir"),
            "these paths: KEY",
        ),
    ] {
        let refused = refusal(house.end(heir).await);
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (kind, field),
            "{heir:?}"
        );
        assert!(refused.detail.contains(says), "{}", refused.detail);
        assert_eq!(house.picture().await, before, "{heir:?}");
    }
    // Not by somebody who is no administrator, not even for oneself.
    for who in [&house.carl, &house.ben] {
        let refused = db
            .account_end(who, id(&house.ben), Some(&handle("ada")))
            .await;
        assert_refused(refused, RefusalKind::Denied, None);
        let looked = db.account_ending(who, &handle("ben"), None).await;
        assert_refused(looked, RefusalKind::Denied, None);
    }
    assert_eq!(house.picture().await, before);
    let last = db.account_end(&house.ada, id(&house.ada), None).await;
    assert_refused(last, RefusalKind::Conflict, None);
    assert_eq!(house.picture().await, before);

    // A team would be left without an admin: named, and refused.
    house
        .team("crew", &[(&house.ben, 4), (&house.carl, 3)])
        .await;
    house
        .team("tended", &[(&house.ben, 4), (&house.carl, 4)])
        .await;
    let refused = refusal(house.end(Some("ada")).await);
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert!(refused.detail.contains("administers crew."), "{refused}");
    house.world.sql("update team_members set level = 4").await;

    // One damaged value keeps all of it.
    house
        .world
        .sql(&format!(
            "update secret_versions set sealed = set_byte(sealed, 40, (get_byte(sealed, 40) + 1) % 256)
             where secret_id <> '{named}'"
        ))
        .await;
    let before = house.picture().await;
    let refused = refusal(house.end(Some("ada")).await);
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert!(refused.detail.contains("Version 1 of KEY"), "{refused}");
    assert_eq!(house.picture().await, before);
    let ends = house.world.record("account.end").await;
    assert!(
        ends.iter().all(|(_, outcome, _)| outcome == "refused"),
        "{ends:?}"
    );
}

#[tokio::test]
async fn two_administrators_who_end_each_other_leave_one() {
    let house = house().await;
    house.make_administrator(&house.ben).await;
    let db = &house.world.db;
    let (one, other) = tokio::join!(
        db.account_end(&house.ada, id(&house.ben), None),
        db.account_end(&house.ben, id(&house.ada), None)
    );
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(
        house
            .world
            .count("users where is_admin and ended_at is null")
            .await,
        1
    );
}

/// What the job of a hand-over can do by SQL alone: nothing beyond the two accounts that its transaction names.
#[tokio::test]
async fn the_hand_over_reaches_what_it_names_and_no_more() {
    let house = house().await;
    let db = &house.world.db;
    for (who, path) in [
        (&house.ben, "KEY"),
        (&house.carl, "KEY"),
        (&house.ada, "OWN"),
    ] {
        house.world.secret(who, path, "a value").await;
    }
    let run = async |who: &Caller, settings: &str, sql: &str| -> Result<u64, String> {
        let mut tx = begin_for_tests(db, who).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(settings.to_owned()))
            .execute(&mut *tx)
            .await
            .unwrap();
        match sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *tx)
            .await
        {
            Ok(done) => Ok(done.rows_affected()),
            Err(sqlx::Error::Database(error)) => Err(error.code().unwrap_or_default().into_owned()),
            Err(error) => panic!("{sql}: {error}"),
        }
    };
    let job = Caller::job(Job::Handover);
    let (ben, carl, ada) = (id(&house.ben), id(&house.carl), id(&house.ada));
    let named =
        format!("set local sealport.handing_over = '{ben}'; set local sealport.heir = '{ada}'");
    assert_eq!(run(&job, "select", "select 1 from secrets").await, Ok(0));
    assert_eq!(run(&job, &named, "select 1 from secrets").await, Ok(2));
    let to = |owner: Uuid| format!("update secrets set owner_id = '{owner}' where path = 'KEY'");
    assert_eq!(run(&job, &named, &to(carl)).await, Err("42501".into()));
    for sql in [
        format!("update users set ended_at = now() where id = '{carl}'"),
        format!("update secrets set path = 'X' where owner_id = '{carl}'"),
        format!("delete from sessions where user_id = '{carl}'"),
    ] {
        assert_eq!(run(&job, &named, &sql).await, Ok(0), "{sql}");
    }
    for sql in [
        format!("update owners set ended_at = now() where id = '{carl}'"),
        format!("update users set password_hash = 'x' where id = '{ben}'"),
        format!("update users set is_admin = true where id = '{ben}'"),
        format!(
            "insert into secrets (id, owner_id, path, kind, version) values (gen_random_uuid(), '{ada}', 'X', 'custom', 1)"
        ),
    ] {
        assert_eq!(run(&job, &named, &sql).await, Err("42501".into()), "{sql}");
    }
    // Without the job the names are words.
    for who in [&house.carl, &house.ada] {
        assert_eq!(
            run(who, &named, &to(ada)).await.map_err(|_| ()),
            match id(who) == carl {
                true => Err(()),
                false => Ok(0),
            }
        );
    }
    // What an administrator can do to another's account by SQL alone: their role, and nothing else.
    let me = &house.ada;
    for (sql, expected) in [
        (
            format!("update users set is_admin = true where id = '{ben}'"),
            Ok(1),
        ),
        (
            format!("update users set password_hash = 'x' where id = '{ben}'"),
            Err("42501".into()),
        ),
        (
            format!("update users set ended_at = now() where id = '{ben}'"),
            Err("42501".into()),
        ),
        (
            format!("update users set email = 'x@example.org' where id = '{ben}'"),
            Err("42501".into()),
        ),
    ] {
        assert_eq!(run(me, "select", &sql).await, expected, "{sql}");
    }
    // And what somebody who is none can do to the links.
    let forged = format!(
        "insert into one_time_links (hash, purpose, expires_at, email, user_id, made_by, made_by_name)
         values ('bb', 'reset', now() + interval '1 hour', 'x', '{ada}', '{carl}', 'carl')"
    );
    assert_eq!(
        run(&house.carl, "select", &forged).await,
        Err("42501".into())
    );
}
