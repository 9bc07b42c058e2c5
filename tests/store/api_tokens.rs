//! What a token of the API opens: the lesser of its ceiling and what its maker reaches, for one owner, under its prefix.

use sealport::model::actors::{Caller, Origin};
use sealport::model::audit::Action;
use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::imports::{Destination, EntryOutcome, OnConflict};
use sealport::model::levels::Level;
use sealport::model::paths::{Folder, Handle, KeyPath};
use sealport::model::secrets::Kind;
use sealport::store::Db;
use sealport::store::api_tokens::ApiTokenSpec;
use sealport::store::imports::entries::Entries;
use sealport::store::secret_put::{Expected, SecretPut};
use sealport::store::secrets::{NewValue, SecretEdit};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, ConnectOptions, raw_sql};
use time::{Duration, OffsetDateTime};

use crate::common;
use crate::opening::open;
use crate::people::{add, caller, refusal, text};
use crate::secrets::{new, own};

/// Several people's secrets, and tokens on them.
pub struct World {
    pub database: common::TestDatabase,
    pub db: Db,
    pub ann: Caller,
    bob: Caller,
}

impl World {
    /// Ann has values under `meta/`, two projects and a bare one; each value says where it stands.
    pub async fn new() -> World {
        let database = common::new_database().await;
        let db = open(&database).await;
        let ann = caller(&add(&db, "ann@example.org").await);
        let bob = caller(&add(&db, "bob@example.org").await);
        for path in ["meta/ops/KEY", "project/x/KEY", "project/xy/KEY", "BARE"] {
            db.secret_create(&ann, new(path, &value_at(path)))
                .await
                .unwrap();
        }
        World {
            database,
            db,
            ann,
            bob,
        }
    }

    pub async fn token(&self, maker: &Caller, can: Level, under: Option<&str>) -> SecretString {
        let spec = ApiTokenSpec {
            under: under.map(|under| Folder::parse(under).unwrap()),
            ..spec(can)
        };
        let new = self.db.api_token_create(maker, &spec).await.unwrap();
        SecretString::from(new.token)
    }

    async fn read(&self, token: &SecretString, path: &str) -> Result<String, RefusalKind> {
        let key = KeyPath::parse(path).unwrap();
        let read = self
            .db
            .secret_read(
                token,
                key.owner.as_ref(),
                &key.path,
                None,
                &Origin::default(),
            )
            .await;
        match read {
            Ok(read) => Ok(read.value.expose_secret().to_owned()),
            Err(error) => Err(error.into_refusal().kind),
        }
    }

    async fn opened(&self, token: &SecretString) -> Caller {
        self.db
            .api_token_open(token, &Origin::default())
            .await
            .unwrap()
    }

    async fn paths(&self, caller: &Caller) -> Vec<String> {
        let listed = self
            .db
            .secrets_page(caller, &Default::default(), None, 100)
            .await
            .unwrap();
        listed.into_iter().map(|row| row.path.to_string()).collect()
    }

    /// How each read ended, the oldest first.
    async fn reads_on_record(&self) -> Vec<String> {
        let mut admin = self.database.admin_options.connect().await.unwrap();
        sqlx::query_scalar("select concat_ws(' ', outcome, path, reason) from audit where action = 'secret.read' order by id")
            .fetch_all(&mut admin)
            .await
            .unwrap()
    }

    pub async fn sql(&self, sql: String) {
        let mut admin = self.database.admin_options.connect().await.unwrap();
        raw_sql(AssertSqlSafe(sql))
            .execute(&mut admin)
            .await
            .unwrap();
    }
}

fn spec(can: Level) -> ApiTokenSpec {
    ApiTokenSpec {
        owner: None,
        name: format!("can {}", can.as_str()),
        ceiling: can,
        under: None,
        deploys: false,
        expires_at: None,
    }
}

pub fn value_at(path: &str) -> String {
    format!("the value at {path}")
}

fn put(value: &str) -> SecretPut {
    SecretPut {
        value: NewValue::Typed(text(value)),
        kind: None,
        description: None,
        tags: None,
        expires_at: None,
        expected: Expected::Anything,
    }
}

#[tokio::test]
async fn tokens_of_two_prefixes_do_not_reach_each_others() {
    let world = World::new().await;
    let supervisor = world.token(&world.ann, Level::Admin, Some("meta")).await;
    let project = world
        .token(&world.ann, Level::Admin, Some("project/x"))
        .await;
    for (token, own, others) in [
        (
            &supervisor,
            "meta/ops/KEY",
            ["project/x/KEY", "project/xy/KEY", "BARE"],
        ),
        (
            &project,
            "project/x/KEY",
            ["meta/ops/KEY", "project/xy/KEY", "BARE"],
        ),
    ] {
        assert_eq!(world.read(token, own).await, Ok(value_at(own)));
        let caller = world.opened(token).await;
        assert_eq!(world.paths(&caller).await, [own]);
        for other in others {
            assert_eq!(world.read(token, other).await, Err(RefusalKind::NotFound));
            let key = KeyPath::parse(other).unwrap();
            assert_eq!(
                refusal(world.db.secret_at(&caller, &key).await).kind,
                RefusalKind::NotFound
            );
            // What is there and out of sight can neither be written over nor found out by trying.
            assert!(
                world
                    .db
                    .secret_put(&caller, &key, put("another"))
                    .await
                    .is_err()
            );
            assert!(
                world
                    .db
                    .secret_compare(&world.ann, at(&world, other).await, text(&value_at(other)))
                    .await
                    .unwrap()
            );
        }
        // Nor can something be made, or renamed, out of the prefix.
        let outside = KeyPath::parse("project/z/NEW").unwrap();
        let made = world.db.secret_put(&caller, &outside, put("x-and-y")).await;
        assert_eq!(refusal(made).kind, RefusalKind::Denied);
        let edit = SecretEdit {
            path: Some(outside.path.clone()),
            ..SecretEdit::default()
        };
        let renamed = world
            .db
            .secret_edit(&caller, at(&world, own).await, edit)
            .await;
        assert_eq!(refusal(renamed).kind, RefusalKind::Denied);
    }
}

/// The id of one of Ann's.
async fn at(world: &World, path: &str) -> uuid::Uuid {
    let key = KeyPath::parse(path).unwrap();
    world.db.secret_at(&world.ann, &key).await.unwrap().id
}

#[tokio::test]
async fn a_ceiling_holds_for_each_thing_one_can_do() {
    let world = World::new().await;
    let path = KeyPath::parse("project/x/KEY").unwrap();
    for can in Level::ALL {
        let token = world.token(&world.ann, can, None).await;
        let caller = world.opened(&token).await;
        let found = world.db.secret_at(&caller, &path).await.unwrap();
        assert_eq!(found.level, can);
        let read = world.read(&token, "project/x/KEY").await;
        assert_eq!(read.is_ok(), can >= Level::Read, "{can:?}");
        let compared = world.db.secret_compare(&caller, found.id, text("no")).await;
        assert_eq!(compared.is_ok(), can >= Level::Read, "{can:?}");
        let written = world
            .db
            .secret_put(&caller, &path, put(&value_at("project/x/KEY")))
            .await;
        assert_eq!(written.is_ok(), can >= Level::Write, "{can:?}");
        let on = Shareable::Secret { id: found.id };
        let shared = world.db.share(&caller, &on, "bob", Level::Use, &[]).await;
        assert_eq!(shared.is_ok(), can == Level::Admin, "{can:?}");
        let fresh = KeyPath::parse(&format!("FRESH_{}", can.as_str())).unwrap();
        let made = world
            .db
            .secret_put(&caller, &fresh, put("a fresh value"))
            .await;
        assert_eq!(made.is_ok(), can >= Level::Write, "{can:?}");
        let deleted = world
            .db
            .secret_delete(&caller, at(&world, "BARE").await, None)
            .await;
        assert_eq!(deleted.is_ok(), can == Level::Admin, "{can:?}");
    }
}

#[tokio::test]
async fn it_reaches_no_further_than_its_maker_does_now() {
    let world = World::new().await;
    let on = Shareable::Secret {
        id: at(&world, "project/x/KEY").await,
    };
    world
        .db
        .share(&world.ann, &on, "bob", Level::Read, &[])
        .await
        .unwrap();
    let spec = ApiTokenSpec {
        owner: Some(own(&world.ann)),
        ..spec(Level::Admin)
    };
    let token = SecretString::from(
        world
            .db
            .api_token_create(&world.bob, &spec)
            .await
            .unwrap()
            .token,
    );
    let path = "project/x/KEY";
    assert_eq!(world.read(&token, path).await, Ok(value_at(path)));
    assert_eq!(world.read(&token, "BARE").await, Err(RefusalKind::NotFound));
    // A lowered level holds from the next access on, on every server: nothing has to be told to it.
    let other_server = open(&world.database).await;
    world
        .db
        .share(&world.ann, &on, "bob", Level::Use, &[])
        .await
        .unwrap();
    let key = KeyPath::parse(path).unwrap();
    let read = other_server
        .secret_read(&token, None, &key.path, None, &Origin::default())
        .await;
    assert_eq!(read.err().unwrap().into_refusal().kind, RefusalKind::Denied);
    // What is Bob's own is not Ann's: a token acts for one owner.
    world
        .db
        .secret_create(&world.bob, new("BOBS", "Bob's own value"))
        .await
        .unwrap();
    assert_eq!(
        world.read(&token, "bob:BOBS").await,
        Err(RefusalKind::NotFound)
    );
    let caller = world.opened(&token).await;
    assert_eq!(world.paths(&caller).await, [path]);
}

#[tokio::test]
async fn what_ends_it_holds_at_the_next_access_on_every_server() {
    let world = World::new().await;
    // No notification reaches anybody: the tables alone decide.
    world
        .sql("create or replace function pg_catalog.pg_notify(text, text) returns void language sql as 'select'".into())
        .await;
    let other_server = open(&world.database).await;
    let path = KeyPath::parse("BARE").unwrap();
    let read = async |token: &SecretString| {
        let read = other_server
            .secret_read(token, None, &path.path, None, &Origin::default())
            .await;
        read.map(|_| ()).map_err(|error| error.into_refusal().kind)
    };
    let unauthenticated = Err(RefusalKind::Unauthenticated);

    let new = world
        .db
        .api_token_create(&world.ann, &spec(Level::Read))
        .await
        .unwrap();
    let token = SecretString::from(new.token);
    assert_eq!(read(&token).await, Ok(()));
    world.db.token_revoke(&world.ann, new.id).await.unwrap();
    assert_eq!(read(&token).await, unauthenticated);

    let ends = ApiTokenSpec {
        expires_at: Some(OffsetDateTime::now_utc() + Duration::days(1)),
        ..spec(Level::Read)
    };
    let new = world.db.api_token_create(&world.ann, &ends).await.unwrap();
    let token = SecretString::from(new.token);
    assert_eq!(read(&token).await, Ok(()));
    world
        .sql(format!(
            "alter table tokens disable trigger tokens_guard; update tokens set expires_at = now() where id = '{}'; \
             alter table tokens enable trigger tokens_guard",
            new.id
        ))
        .await;
    assert_eq!(read(&token).await, unauthenticated);

    let token = world.token(&world.ann, Level::Read, None).await;
    assert_eq!(read(&token).await, Ok(()));
    world
        .sql(format!(
            "alter table users disable trigger user; update users set ended_at = now() where id = '{}'",
            world.ann.user().unwrap().id
        ))
        .await;
    assert_eq!(read(&token).await, unauthenticated);
    let record = world.reads_on_record().await;
    let refused: Vec<&str> = record
        .iter()
        .filter_map(|line| line.contains("refused").then_some(line.as_str()))
        .collect();
    assert_eq!(refused.len(), 3, "{record:?}");
}

#[tokio::test]
async fn a_token_makes_no_other_and_changes_nothing_of_itself() {
    let world = World::new().await;
    let token = world.token(&world.ann, Level::Admin, None).await;
    let caller = world.opened(&token).await;
    let made = world.db.api_token_create(&caller, &spec(Level::Use)).await;
    assert_eq!(refusal(made).kind, RefusalKind::Denied);
    let team = world
        .db
        .team_create(&caller, &Handle::parse("crew").unwrap())
        .await;
    assert!(team.is_err());
    let mut tx = sealport::store::db::begin_for_tests(&world.db, &caller)
        .await
        .unwrap();
    for sql in [
        "update tokens set ceiling = 1",
        "update tokens set deploys = true",
        "insert into tokens (id, hash, maker_id, owner_id, audience, name, ceiling)
         select gen_random_uuid(), repeat('a', 64), maker_id, owner_id, 'api', 'twin', 4 from tokens limit 1",
    ] {
        sqlx::query("savepoint before").execute(&mut *tx).await.unwrap();
        let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut *tx).await;
        assert!(done.is_err(), "{sql}");
        sqlx::query("rollback to before").execute(&mut *tx).await.unwrap();
    }
    // Of its person it sees nothing that is not about the owner's things.
    for table in ["sessions", "drafts", "pending_imports", "known_addresses"] {
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test]
async fn many_values_come_all_or_none_and_each_is_on_record() {
    let world = World::new().await;
    let token = world.token(&world.ann, Level::Read, None).await;
    let keys = |paths: &[&str]| -> Vec<KeyPath> {
        paths
            .iter()
            .map(|path| KeyPath::parse(path).unwrap())
            .collect()
    };
    let asked = keys(&["BARE", "ann:project/x/KEY", "meta/ops/KEY"]);
    let read = world
        .db
        .secrets_read(&token, &asked, &Origin::default())
        .await
        .unwrap();
    let values: Vec<&str> = read.iter().map(|read| read.value.expose_secret()).collect();
    assert_eq!(
        values,
        ["BARE", "project/x/KEY", "meta/ops/KEY"].map(value_at)
    );
    let record = world.reads_on_record().await;
    assert_eq!(record.len(), 3, "{record:?}");

    let refused = world
        .db
        .secrets_read(&token, &keys(&["BARE", "GONE"]), &Origin::default())
        .await;
    let refusal = refused.err().unwrap().into_refusal();
    assert_eq!(refusal.kind, RefusalKind::NotFound);
    assert!(refusal.detail.starts_with("GONE:"), "{}", refusal.detail);
    let record = world.reads_on_record().await;
    assert_eq!(record.len(), 4, "only the refusal is new: {record:?}");
    for wrong in [keys(&[]), keys(&["BARE", "bare"])] {
        let refused = world
            .db
            .secrets_read(&token, &wrong, &Origin::default())
            .await;
        assert_eq!(
            refused.err().unwrap().into_refusal().kind,
            RefusalKind::Invalid
        );
    }
}

#[tokio::test]
async fn what_is_off_expired_or_destroyed_is_read_by_nobody() {
    let world = World::new().await;
    let token = world.token(&world.ann, Level::Admin, None).await;
    let id = at(&world, "BARE").await;
    let edit = |active| SecretEdit {
        active: Some(active),
        ..SecretEdit::default()
    };
    world
        .db
        .secret_edit(&world.ann, id, edit(false))
        .await
        .unwrap();
    assert_eq!(world.read(&token, "BARE").await, Err(RefusalKind::Conflict));
    world
        .db
        .secret_edit(&world.ann, id, edit(true))
        .await
        .unwrap();
    assert_eq!(world.read(&token, "BARE").await, Ok(value_at("BARE")));
    world
        .sql(format!(
            "update secrets set expires_at = now() where id = '{id}'"
        ))
        .await;
    assert_eq!(world.read(&token, "BARE").await, Err(RefusalKind::Conflict));
    let record = world.reads_on_record().await;
    assert_eq!(record.len(), 3);
}

/// One statement, which is durable when it comes back: no beginning, no commit, no question before or after it.
#[tokio::test]
async fn a_value_is_read_in_one_round_trip() {
    let world = World::new().await;
    let token = world.token(&world.ann, Level::Read, None).await;
    // Opens the data key, which stays open for minutes, and one connection.
    world.read(&token, "BARE").await.unwrap();
    let mut admin = world.database.admin_options.connect().await.unwrap();
    let asked = "select query from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                 and query_start > $1";
    let before: OffsetDateTime = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    world.read(&token, "BARE").await.unwrap();
    let queries: Vec<String> = sqlx::query_scalar(asked)
        .bind(before)
        .fetch_all(&mut admin)
        .await
        .unwrap();
    assert_eq!(queries.len(), 1, "{queries:?}");
    assert!(queries[0].contains("from secret_read("), "{queries:?}");
    assert_eq!(world.reads_on_record().await.len(), 2);
}

#[tokio::test]
async fn a_dead_token_leaves_few_refusals_however_often_it_is_shown() {
    let world = World::new().await;
    let new = world
        .db
        .api_token_create(&world.ann, &spec(Level::Read))
        .await
        .unwrap();
    let token = SecretString::from(new.token);
    world.db.token_revoke(&world.ann, new.id).await.unwrap();
    let paths = [KeyPath::parse("BARE").unwrap()];
    for _ in 0..15 {
        let one = world.read(&token, "BARE").await;
        assert_eq!(one, Err(RefusalKind::Unauthenticated));
        let origin = Origin::default();
        let many = world.db.secrets_read(&token, &paths, &origin).await;
        assert_eq!(refusal(many).kind, RefusalKind::Unauthenticated);
        let agents = world.db.secret_read_by_mcp(&token, &paths[0], &origin);
        assert_eq!(refusal(agents.await).kind, RefusalKind::Unauthenticated);
    }
    assert_eq!(world.reads_on_record().await.len(), 20);
}

#[tokio::test]
async fn what_a_token_tries_beyond_its_reach_is_on_record() {
    let world = World::new().await;
    let token = world
        .token(&world.ann, Level::Admin, Some("project/x"))
        .await;
    let caller = world.opened(&token).await;
    let elsewhere = KeyPath::parse("meta/ops/KEY").unwrap();
    for action in [Action::SecretDelete, Action::SecretCompare, Action::Share] {
        let tried = world.db.secret_at_for(&caller, &elsewhere, action).await;
        assert_eq!(refusal(tried).kind, RefusalKind::NotFound);
    }
    let tried = crate::people::recorded(&world.database).await;
    let refused: Vec<_> = tried
        .iter()
        .filter(|row| row.contains("no such secret in sight"))
        .collect();
    assert_eq!(refused.len(), 3, "{tried:?}");
    // Who its maker is elsewhere is not told.
    let team = Handle::parse("crew").unwrap();
    world.db.team_create(&world.ann, &team).await.unwrap();
    let all = world.token(&world.ann, Level::Admin, None).await;
    let caller = world.opened(&all).await;
    for owner in ["crew", "bob", "nobody"] {
        let key = KeyPath::parse(&format!("{owner}:KEY")).unwrap();
        let refused = refusal(world.db.secret_put(&caller, &key, put("a value")).await);
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (RefusalKind::Denied, Some("owner"))
        );
        assert_eq!(
            refused.detail.replace(owner, "X"),
            "This token acts for ann alone. Make one for X."
        );
        let handle = Handle::parse(owner).unwrap();
        let (db, maker) = (&world.db, own(&world.ann));
        let set = db.team_member_set(&caller, &handle, "bob", Level::Admin);
        assert_eq!(refusal(set.await).kind, RefusalKind::NotFound);
        let ended = db.team_member_remove(&caller, &handle, &maker);
        assert_eq!(refusal(ended.await).kind, RefusalKind::NotFound);
    }
    let rows = crate::people::recorded(&world.database).await;
    for action in ["secret.create", "team.member", "team.leave"] {
        let row = format!("token can admin {action} refused a token of another owner");
        let count = rows.iter().filter(|there| **there == row).count();
        assert_eq!(count, 3, "{row}: {rows:?}");
    }
}

#[tokio::test]
async fn members_are_changed_by_a_token_that_reaches_all_of_the_team() {
    let world = World::new().await;
    let (db, crew) = (&world.db, Handle::parse("crew").unwrap());
    db.team_create(&world.ann, &crew).await.unwrap();
    let opened = async |ceiling, under: Option<&str>| {
        let spec = ApiTokenSpec {
            owner: Some(crew.clone()),
            under: under.map(|under| Folder::parse(under).unwrap()),
            ..spec(ceiling)
        };
        let new = db.api_token_create(&world.ann, &spec).await.unwrap();
        world.opened(&SecretString::from(new.token)).await
    };
    for (ceiling, under, may) in [
        (Level::Write, None, false),
        (Level::Admin, Some("project"), false),
        (Level::Admin, None, true),
    ] {
        let caller = opened(ceiling, under).await;
        let set = db.team_member_set(&caller, &crew, "bob", Level::Use).await;
        let ended = db
            .team_member_remove(&caller, &crew, &own(&world.bob))
            .await;
        assert_eq!(
            (set.is_ok(), ended.is_ok()),
            (may, may),
            "{ceiling:?} {under:?}"
        );
        if !may {
            let refused = refusal(set);
            assert_eq!(refused.kind, RefusalKind::Denied);
            assert!(refused.detail.contains("can admin all that the team owns"));
            assert_eq!(refusal(ended).kind, RefusalKind::Denied);
        }
    }
    let rows = crate::people::recorded(&world.database).await;
    for action in ["team.member", "team.leave"] {
        let refused = format!("{action} refused level too low");
        let count = rows.iter().filter(|row| row.ends_with(&refused)).count();
        assert_eq!(count, 2, "{rows:?}");
    }
}

#[tokio::test]
async fn an_import_says_which_lines_a_token_may_not_store() {
    let world = World::new().await;
    let db = &world.db;
    let narrow = world
        .token(&world.ann, Level::Write, Some("project/x"))
        .await;
    let reads = world.token(&world.ann, Level::Read, None).await;
    let entries = |under: &str, dry_run| Entries {
        owner: None,
        under: Destination::parse(under).unwrap(),
        entries: vec![
            ("KEY".into(), text("another value")),
            ("NEW".into(), text("a new value")),
        ],
        on_conflict: OnConflict::Replace,
        kind: Kind::default(),
        dry_run,
    };
    for (token, under, why) in [
        // What is there is out of its sight, and told by nothing.
        (&narrow, "project/xy", ["to store there", "to store there"]),
        (&narrow, "", ["to store there", "to store there"]),
        (&reads, "project/x", ["to replace", "to store there"]),
    ] {
        let caller = world.opened(token).await;
        let before = crate::people::recorded(&world.database).await.len();
        let planned = db.import_entries(&caller, entries(under, true)).await;
        let planned = planned.unwrap();
        assert!(planned.is_refused() && planned.denied, "{planned:?}");
        for (line, why) in planned.lines.iter().zip(why) {
            assert_eq!(line.outcome, EntryOutcome::Invalid);
            assert!(
                line.notes[0].contains(&format!("not yours {why}")),
                "{line:?}"
            );
        }
        // A dry run asks for nothing, and leaves nothing.
        let rows = crate::people::recorded(&world.database).await;
        assert_eq!(rows.len(), before, "{rows:?}");
        let refused = db.import_entries(&caller, entries(under, false)).await;
        assert!(!refused.unwrap().applied);
        let rows = crate::people::recorded(&world.database).await;
        assert_eq!(rows.len(), before + 1, "{rows:?}");
        assert!(
            rows[before].ends_with("refused no right to make it"),
            "{rows:?}"
        );
    }
    assert_eq!(world.paths(&world.ann).await.len(), 4);
    let caller = world.opened(&narrow).await;
    let done = db
        .import_entries(&caller, entries("project/x", false))
        .await;
    assert!(done.unwrap().applied);
}

#[tokio::test]
async fn a_fetch_key_leaves_for_a_token_that_may_use_it_now_and_names_it() {
    let world = World::new().await;
    let ann = world.ann.user().unwrap().id;
    let spec = ApiTokenSpec {
        name: "looker".into(),
        under: Some(Folder::parse("project/x").unwrap()),
        deploys: true,
        ..spec(Level::Use)
    };
    let new = world.db.api_token_create(&world.ann, &spec).await.unwrap();
    let caller = world.opened(&SecretString::from(new.token)).await;
    let look = async |secret| {
        let source = "git:https://git.example/repository";
        let db = &world.db;
        db.fetch_key_open_to_look(&caller, ann, secret, source)
            .await
    };
    let key = at(&world, "project/x/KEY").await;
    let value = look(key).await.unwrap();
    assert_eq!(value.expose_secret(), value_at("project/x/KEY"));
    let other = at(&world, "meta/ops/KEY").await;
    assert_eq!(refusal(look(other).await).kind, RefusalKind::NotFound);
    world.db.token_revoke(&world.ann, new.id).await.unwrap();
    let dead = refusal(look(key).await);
    assert_eq!(dead.kind, RefusalKind::Unauthenticated);
    let rows = world
        .db
        .audit_list(&world.ann, &Default::default(), None, 50)
        .await
        .unwrap();
    let by_token: Vec<_> = rows
        .iter()
        .filter(|row| row.action == "secret.bind" && row.actor_name == "looker")
        .map(|row| (row.outcome.as_str(), row.path.as_deref()))
        .collect();
    assert_eq!(
        by_token,
        [("refused", None), ("done", Some("project/x/KEY"))]
    );
}

#[tokio::test]
async fn who_wrote_a_version_is_named_with_the_token() {
    let world = World::new().await;
    let level = Level::Write;
    let secret = at(&world, "project/x/KEY").await;
    let on = Shareable::Secret { id: secret };
    let shared = world.db.share(&world.ann, &on, "bob", level, &[]).await;
    shared.unwrap();
    let spec = ApiTokenSpec {
        owner: Some(Handle::parse("ann").unwrap()),
        name: "ann".into(),
        ..spec(level)
    };
    let new = world.db.api_token_create(&world.bob, &spec).await.unwrap();
    let caller = world.opened(&SecretString::from(new.token)).await;
    let key = KeyPath::parse("project/x/KEY").unwrap();
    world
        .db
        .secret_put(&caller, &key, put("another value"))
        .await
        .unwrap();
    let versions = world.db.secret_history(&world.ann, &key).await.unwrap();
    assert_eq!(versions[0].created_by, "bob, by the token ann");
    let rows = world
        .db
        .audit_list(&world.ann, &Default::default(), None, 10)
        .await
        .unwrap();
    let row = rows.iter().find(|row| row.actor_kind == "token").unwrap();
    assert_eq!(row.maker.as_deref(), Some("bob"));
}

#[tokio::test]
async fn an_ended_owners_tokens_open_nothing_of_the_heirs() {
    let world = World::new().await;
    let secret = at(&world, "project/x/KEY").await;
    let on = Shareable::Secret { id: secret };
    let shared = world.db.share(&world.ann, &on, "bob", Level::Read, &[]);
    shared.await.unwrap();
    let spec = ApiTokenSpec {
        owner: Some(Handle::parse("ann").unwrap()),
        deploys: true,
        ..spec(Level::Admin)
    };
    let new = world.db.api_token_create(&world.bob, &spec).await.unwrap();
    let token = SecretString::from(new.token);
    assert!(world.read(&token, "project/x/KEY").await.is_ok());
    world
        .db
        .secret_create(&world.bob, self::new("BOBS", "of bob alone"))
        .await
        .unwrap();
    world
        .sql(format!(
            "set session_replication_role = replica; update users set is_admin = true where id = '{}'",
            world.bob.user().unwrap().id
        ))
        .await;
    let bob = Handle::parse("bob").unwrap();
    let ann = world.ann.user().unwrap().id;
    world
        .db
        .account_end(&world.bob, ann, Some(&bob))
        .await
        .unwrap();
    for path in ["BOBS", "project/x/KEY"] {
        assert_eq!(
            world.read(&token, path).await,
            Err(RefusalKind::Unauthenticated)
        );
    }
}

#[tokio::test]
async fn paths_that_differ_in_case_alone_are_not_mixed_up() {
    let world = World::new().await;
    let token = world.token(&world.ann, Level::Admin, None).await;
    let caller = world.opened(&token).await;
    let key = KeyPath::parse("project/x/key").unwrap();
    let refused = refusal(world.db.secret_put(&caller, &key, put("another")).await);
    assert_eq!(refused.kind, RefusalKind::Taken);
    assert!(
        refused.detail.contains("project/x/KEY"),
        "{}",
        refused.detail
    );
    let kept = world.read(&token, "project/x/KEY").await;
    assert_eq!(kept.unwrap(), value_at("project/x/KEY"));
    // Somebody was quicker: what is deleted or changed is at the version that was looked at.
    let id = at(&world, "project/x/KEY").await;
    let late = refusal(world.db.secret_delete(&caller, id, Some(7)).await);
    assert_eq!(late.kind, RefusalKind::Conflict);
    assert_eq!(late.field.as_deref(), Some("if-match"));
    let edit = SecretEdit {
        description: Some("late".into()),
        expected: Some(7),
        ..SecretEdit::default()
    };
    let late = refusal(world.db.secret_edit(&caller, id, edit).await);
    assert_eq!(late.field.as_deref(), Some("if-match"));
    world.db.secret_delete(&caller, id, Some(1)).await.unwrap();
}

#[tokio::test]
async fn putting_makes_or_replaces_and_heeds_what_is_expected() {
    let world = World::new().await;
    let token = world.token(&world.ann, Level::Write, None).await;
    let caller = world.opened(&token).await;
    let key = KeyPath::parse("service/mail/KEY").unwrap();
    let made = world
        .db
        .secret_put(&caller, &key, put("first value"))
        .await
        .unwrap();
    assert_eq!((made.version, made.created), (1, true));
    let again = world
        .db
        .secret_put(&caller, &key, put("second value"))
        .await
        .unwrap();
    assert_eq!((again.version, again.created), (2, false));
    for (expected, field) in [
        (Expected::Nothing, "if-none-match"),
        (Expected::Version(1), "if-match"),
    ] {
        let late = SecretPut {
            expected,
            ..put("third value")
        };
        let refused = refusal(world.db.secret_put(&caller, &key, late).await);
        assert_eq!(refused.kind, RefusalKind::Conflict);
        assert_eq!(refused.field.as_deref(), Some(field));
    }
    let right = SecretPut {
        expected: Expected::Version(2),
        description: Some("the mail server's".into()),
        ..put("third value")
    };
    assert_eq!(
        world
            .db
            .secret_put(&caller, &key, right)
            .await
            .unwrap()
            .version,
        3
    );
    let found = world.db.secret_at(&caller, &key).await.unwrap();
    assert_eq!(
        (found.version, found.description.as_str()),
        (3, "the mail server's")
    );
    // Many at once, none of them lost and none refused.
    let all = futures::future::join_all((0..8).map(|n| {
        let (db, caller, key) = (&world.db, &caller, &key);
        async move {
            db.secret_put(caller, key, put(&format!("value number {n}")))
                .await
        }
    }))
    .await;
    let done = all.iter().filter(|done| done.is_ok()).count();
    let found = world.db.secret_at(&caller, &key).await.unwrap();
    assert_eq!(found.version, 3 + done as i32);
}
