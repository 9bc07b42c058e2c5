//! Versions that are rolled back to and destroyed, tags and folders, what the kinds say, what is due.

use sealport::model::actors::Caller;
use sealport::model::due::DueWhy;
use sealport::model::errors::RefusalKind;
use sealport::model::levels::Level;
use sealport::model::paths::{Folder, Handle, Tag};
use sealport::model::secrets::{
    Kind, RotationRule, Scope, SecretFilter, SecretSort, VersionSummary, VersionsKept,
};
use sealport::store::Db;
use sealport::store::secrets::{NewSecret, NewValue, SecretEdit};
use sqlx::{AssertSqlSafe, ConnectOptions};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::opening::{as_admin, open};
use crate::people::{add, caller, recorded, refusal, text};
use crate::secrets::{new, own, path};

struct House {
    database: TestDatabase,
    db: Db,
    me: Caller,
}

async fn house() -> House {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    House { database, db, me }
}

impl House {
    /// A secret whose versions have these values.
    async fn secret(&self, at: &str, values: &[&str]) -> Uuid {
        let id = self.db.secret_create(&self.me, new(at, values[0])).await;
        let id = id.unwrap();
        for (number, value) in values.iter().enumerate().skip(1) {
            let value = NewValue::Typed(text(value));
            let replaced = self
                .db
                .secret_replace(&self.me, id, number as i32, value)
                .await;
            assert_eq!(replaced.unwrap(), number as i32 + 1);
        }
        id
    }

    async fn history(&self, at: &str) -> Vec<VersionSummary> {
        let shown = self
            .db
            .secret_show(&self.me, &own(&self.me), &path(at))
            .await;
        shown.unwrap().versions
    }

    async fn is(&self, id: Uuid, guess: &str) -> bool {
        let same = self.db.secret_compare(&self.me, id, text(guess)).await;
        same.unwrap()
    }

    async fn text(&self, sql: &str) -> String {
        let mut admin = self.database.admin_options.connect().await.unwrap();
        let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        found.fetch_one(&mut admin).await.unwrap()
    }

    /// Which versions of a secret still hold something.
    async fn whole(&self, id: Uuid) -> String {
        self.text(&format!(
            "select coalesce(string_agg(version::text, ' ' order by version), '') from secret_versions
             where secret_id = '{id}' and octet_length(sealed) > 0"
        ))
        .await
    }
}

#[tokio::test]
async fn an_old_version_becomes_the_newest_again_as_a_new_one() {
    let house = house().await;
    let (db, me) = (&house.db, &house.me);
    let id = house.secret("KEY", &["first one", "second one"]).await;
    assert_eq!(db.secret_roll_back(me, id, 2, 1).await.unwrap(), 3);
    assert!(house.is(id, "first one").await);
    let shown = house.history("KEY").await;
    let line = |v: &VersionSummary| (v.version, v.rolled_back_from, v.destroyed_at.is_some());
    let lines: Vec<_> = shown.iter().map(line).collect();
    assert_eq!(
        lines,
        [(3, Some(1), false), (2, None, false), (1, None, false)]
    );
    // Who, when, from where.
    assert_eq!(shown[0].created_by, "ann");
    assert_eq!(shown[0].address.as_deref(), Some("192.0.2.1"));
    assert_eq!(shown[0].agent.as_deref(), Some("Firefox"));

    // From an old page, to nothing, to the newest: nothing changes.
    for (expected, to, says) in [
        (2, 2, "version 3 now"),
        (3, 9, "no version 9"),
        (3, 3, "the newest already"),
    ] {
        let refused = refusal(db.secret_roll_back(me, id, expected, to).await);
        let kind = match to {
            9 => RefusalKind::NotFound,
            _ => RefusalKind::Conflict,
        };
        assert_eq!(refused.kind, kind);
        assert!(refused.detail.contains(says), "{refused}");
    }
    assert!(house.is(id, "first one").await);
    let stranger = caller(&add(db, "bob@example.org").await);
    for result in [
        refusal(db.secret_roll_back(&stranger, id, 3, 1).await),
        refusal(db.secret_version_destroy(&stranger, id, 1).await),
        refusal(db.rotation_set(&stranger, id, None).await),
    ] {
        assert_eq!(result.kind, RefusalKind::NotFound);
    }
    let rows = recorded(&house.database).await;
    for row in [
        "user ann secret.roll-back done KEY 3",
        "user ann secret.roll-back refused KEY newer version exists",
        "user ann secret.roll-back refused KEY 9 no such version",
        "user bob secret.roll-back refused no such secret in sight",
    ] {
        assert!(rows.contains(&row.to_owned()), "{row}: {rows:#?}");
    }
}

#[tokio::test]
async fn a_version_is_destroyed_for_good_and_the_newest_is_not() {
    let house = house().await;
    let (db, me) = (&house.db, &house.me);
    let id = house.secret("KEY", &["one", "two", "three"]).await;
    db.secret_version_destroy(me, id, 2).await.unwrap();
    assert_eq!(house.whole(id).await, "1 3");
    let shown = house.history("KEY").await;
    assert!(shown[1].destroyed_at.is_some());
    assert_eq!(shown[1].destroyed_by.as_deref(), Some("ann"));
    for (version, says) in [
        (3, "is the newest"),
        (2, "destroyed before"),
        (7, "no version 7"),
    ] {
        let refused = refusal(db.secret_version_destroy(me, id, version).await);
        assert_eq!(refused.kind, RefusalKind::Conflict);
        assert!(refused.detail.contains(says), "{refused}");
    }
    let back = refusal(db.secret_roll_back(me, id, 3, 2).await);
    assert!(back.detail.contains("was destroyed"), "{back}");
    assert!(house.is(id, "three").await);
    let rows = recorded(&house.database).await;
    for row in [
        "user ann secret.version-destroy done KEY 2",
        "user ann secret.version-destroy refused KEY 3 the version is the newest",
        "user ann secret.roll-back refused KEY 2 the version was destroyed",
    ] {
        assert!(rows.contains(&row.to_owned()), "{row}: {rows:#?}");
    }
}

#[tokio::test]
async fn old_versions_are_kept_by_count_and_age_as_an_administrator_says() {
    let house = house().await;
    let (db, me) = (&house.db, &house.me);
    let id = house.secret("KEY", &["1", "2", "3", "4", "5"]).await;
    let other = house.secret("OTHER", &["1", "2"]).await;
    db.retention_step().await.unwrap();
    assert_eq!(house.whole(id).await, "1 2 3 4 5");

    let keep = |count, days| VersionsKept::new(count, days).unwrap();
    let refused = refusal(db.versions_keep(me, keep(Some(0), None)).await);
    assert_eq!(refused.kind, RefusalKind::Denied);
    let refused = refusal(db.versions_beyond(me, keep(Some(0), None)).await);
    assert_eq!(refused.kind, RefusalKind::Denied);
    as_admin(
        &house.database,
        "alter table users disable trigger users_guard; update users set is_admin = true",
    )
    .await;
    // What it would destroy is counted before, and nothing goes by that.
    for (limits, said) in [
        (keep(Some(2), None), "2 old versions of 1 secret"),
        (keep(Some(0), None), "5 old versions of 2 secrets"),
        (keep(None, Some(1)), "0 old versions of 0 secrets"),
    ] {
        let beyond = db.versions_beyond(me, limits).await.unwrap();
        assert_eq!(beyond.counted(), said);
    }
    assert_eq!(house.whole(id).await, "1 2 3 4 5");
    db.versions_keep(me, keep(Some(2), None)).await.unwrap();
    assert_eq!(db.versions_kept(me).await.unwrap(), keep(Some(2), None));
    db.retention_step().await.unwrap();
    assert_eq!(house.whole(id).await, "3 4 5");
    assert_eq!(house.whole(other).await, "1 2");

    // Its age is counted from when another took its place: version 3 was the newest until now.
    let aged =
        "update secret_versions set created_at = now() - interval '40 days' where version <= 3";
    as_admin(&house.database, aged).await;
    db.versions_keep(me, keep(None, Some(30))).await.unwrap();
    db.retention_step().await.unwrap();
    assert_eq!(house.whole(id).await, "3 4 5");
    assert_eq!(house.whole(other).await, "2");
    as_admin(
        &house.database,
        "update secret_versions set created_at = now() - interval '35 days' where version = 4",
    )
    .await;
    assert_eq!(db.retention_step().await.unwrap(), 1);
    assert_eq!(db.retention_step().await.unwrap(), 0);
    // However old: the newest stays.
    as_admin(
        &house.database,
        "update secret_versions set created_at = now() - interval '3000 days'",
    )
    .await;
    db.versions_keep(me, keep(Some(0), Some(1))).await.unwrap();
    db.retention_step().await.unwrap();
    assert_eq!(house.whole(id).await, "5");
    assert!(house.is(id, "5").await);
    let rows = recorded(&house.database).await;
    for row in [
        "user ann settings.change refused no administrator",
        "user ann settings.change done old versions of secrets that are kept",
        "job retention secret.version-destroy done KEY 2 more than the installation keeps",
        "job retention secret.version-destroy done KEY 3 older than the installation keeps",
    ] {
        assert!(rows.contains(&row.to_owned()), "{row}: {rows:#?}");
    }
}

#[tokio::test]
async fn the_kind_tells_what_is_wrong_with_a_value_and_never_quotes_it() {
    let house = house().await;
    let (db, me) = (&house.db, &house.me);
    let of = |at: &str, kind: Kind, value: &str| NewSecret {
        kind,
        ..new(at, value)
    };
    for (kind, value) in [
        (Kind::Json, "{\"a\": c4n4ry}"),
        (Kind::DatabaseUrl, "c4n4ry"),
        (Kind::Certificate, "c4n4ry"),
    ] {
        let refused = refusal(db.secret_add(me, of("A", kind, value)).await);
        assert_eq!(refused.kind, RefusalKind::Invalid);
        assert_eq!(refused.field.as_deref(), Some("value"));
        assert!(!refused.detail.contains("c4n4ry"), "{refused}");
    }
    let short = db.secret_add(me, of("JWT", Kind::JwtSecret, "short")).await;
    assert!(short.unwrap().notes[0].contains("32 bytes"));
    let pasted = db.secret_add(me, of("KEY", Kind::ApiKey, "pasted\n")).await;
    assert!(pasted.unwrap().notes[0].contains("line break"));

    // A certificate brings its end, also when it replaces another value; one that a person chooses stands above it.
    let certificate = include_str!("../fixtures/certificate.pem");
    let own_end = time::macros::date!(2126 - 11 - 02);
    let added = db
        .secret_add(me, of("TLS", Kind::Certificate, certificate))
        .await;
    let added = added.unwrap();
    assert!(added.notes[0].contains("2126-11-02"), "{:?}", added.notes);
    let end = async || {
        let shown = db.secret_show(me, &own(me), &path("TLS")).await.unwrap();
        shown.summary.expires_at.map(OffsetDateTime::date)
    };
    assert_eq!(end().await, Some(own_end));
    let sooner = OffsetDateTime::now_utc() + Duration::days(3);
    let value = || NewValue::Typed(text(certificate));
    let renewed = db
        .secret_renew(me, added.id, 1, value(), Some(Some(sooner)))
        .await;
    assert!(renewed.unwrap().notes.is_empty());
    assert_eq!(end().await, Some(sooner.date()));
    db.secret_replace(me, added.id, 2, value()).await.unwrap();
    assert_eq!(end().await, Some(own_end));
    let bad = NewValue::Typed(text("c4n4ry"));
    let refused = refusal(db.secret_replace(me, added.id, 3, bad).await);
    assert_eq!(refused.field.as_deref(), Some("value"));
    assert!(house.is(added.id, certificate).await);
}

#[tokio::test]
async fn lists_are_narrowed_and_folders_counted_by_what_is_in_sight() {
    let house = house().await;
    let (db, me) = (&house.db, &house.me);
    let bob = caller(&add(db, "bob@example.org").await);
    for at in [
        "BARE",
        "project/shop/KEY",
        "project/shop/eu/KEY",
        "project/shopping/KEY",
        "meta/render/api_key",
    ] {
        house.secret(at, &["x"]).await;
    }
    let tags = |words: &str| Tag::parse_all(words).unwrap();
    let tagged = db
        .secret_show(me, &own(me), &path("project/shop/KEY"))
        .await
        .unwrap();
    let edit = SecretEdit {
        tags: Some(tags("prod eu")),
        kind: Some(Kind::Json),
        ..SecretEdit::default()
    };
    db.secret_edit(me, tagged.summary.id, edit).await.unwrap();
    let theirs = db.secret_create(&bob, new("project/theirs/KEY", "x")).await;
    let theirs = theirs.unwrap();
    db.secret_create(&bob, new("project/theirs/HIDDEN", "x"))
        .await
        .unwrap();

    let find = async |filter: SecretFilter| -> Vec<String> {
        let rows = db.secrets_find(me, &filter, SecretSort::Path, 100).await;
        let rows = rows.unwrap();
        rows.iter().map(|row| row.path.to_string()).collect()
    };
    let folder = |at: &str| Folder::parse(at).unwrap();
    let all = SecretFilter::default;
    let under = |at: &str| SecretFilter {
        under: Some(folder(at)),
        ..all()
    };
    assert_eq!(find(all()).await.len(), 5);
    // Whole segments.
    assert_eq!(
        find(under("project/shop")).await,
        ["project/shop/eu/KEY", "project/shop/KEY"]
    );
    let bare = SecretFilter {
        scope: Some(Scope::Bare),
        ..all()
    };
    assert_eq!(find(bare).await, ["BARE"]);
    let meta = SecretFilter {
        scope: Some(Scope::Meta),
        ..all()
    };
    assert_eq!(find(meta).await, ["meta/render/api_key"]);
    let both = SecretFilter {
        tag: tags("prod").pop(),
        kind: Some(Kind::Json),
        text: "SHOP".into(),
        ..all()
    };
    assert_eq!(find(both).await, ["project/shop/KEY"]);
    let of_bob = SecretFilter {
        owner: Handle::parse("bob").ok(),
        ..all()
    };
    assert!(find(of_bob.clone()).await.is_empty());

    // Of what another has, only what was granted is seen and counted.
    let (ann, bobs) = (me.user().unwrap().id, bob.user().unwrap().id);
    as_admin(
        &house.database,
        &format!(
            "insert into grants (id, owner_id, secret_id, grantee_id, level, granted_by, granted_by_name)
             values (gen_random_uuid(), '{bobs}', '{theirs}', '{ann}', 1, '{bobs}', 'bob')"
        ),
    )
    .await;
    assert_eq!(find(of_bob).await, ["project/theirs/KEY"]);
    let handle = |name: &str| Handle::parse(name).unwrap();
    let tree = db.secrets_tree(me, &handle("ann"), None).await.unwrap();
    assert!(tree.whole() && !tree.cut);
    assert_eq!((tree.root.count, tree.rows.len()), (6, 6));
    let counts: Vec<_> = tree
        .root
        .branches
        .iter()
        .map(|branch| {
            let name = branch
                .folder
                .as_ref()
                .map_or(branch.owner.as_str(), Folder::as_str);
            (name.to_owned(), branch.count)
        })
        .collect();
    assert_eq!(
        counts,
        [
            ("meta".to_owned(), 1),
            ("project".to_owned(), 3),
            ("bob".to_owned(), 1)
        ]
    );
    let shop = db
        .secrets_tree(me, &handle("ann"), Some(&folder("project/shop")))
        .await
        .unwrap();
    assert_eq!((shop.root.count, shop.root.leaves.len()), (2, 1));
    let nothing = db.secrets_tree(me, &handle("nobody-there"), None).await;
    assert_eq!(nothing.unwrap().root.count, 0);
    let facets = db.secrets_facets(me).await.unwrap();
    assert_eq!(facets.owners, ["ann", "bob"]);
    assert_eq!(facets.tags, tags("eu prod"));
    assert!(db.secrets_facets(&bob).await.unwrap().tags.is_empty());
}

#[tokio::test]
async fn what_ends_soon_or_has_to_be_rotated_is_due() {
    let house = house().await;
    let (db, me) = (&house.db, &house.me);
    let bob = caller(&add(db, "bob@example.org").await);
    let ends = async |at: &str, days: i64| {
        let new = NewSecret {
            expires_at: Some(OffsetDateTime::now_utc() + Duration::days(days)),
            ..new(at, "value")
        };
        db.secret_create(me, new).await.unwrap()
    };
    ends("IN_3", 3).await;
    ends("IN_29", 29).await;
    ends("IN_31", 31).await;
    let old = house.secret("project/shop/OLD", &["value"]).await;
    let young = house.secret("project/shop/YOUNG", &["value"]).await;
    let made = NewSecret {
        value: NewValue::generated(32),
        ..new("project/shop/MADE", "")
    };
    db.secret_create(me, made).await.unwrap();
    as_admin(
        &house.database,
        &format!("update secret_versions set created_at = now() - interval '100 days' where secret_id <> '{young}'"),
    )
    .await;
    let due = async |who: &Caller| -> Vec<(String, DueWhy)> {
        let due = db.secrets_due(who).await.unwrap();
        due.iter()
            .map(|row| (row.path.to_string(), row.why))
            .collect()
    };
    let of = |at: &str, why: DueWhy| (at.to_owned(), why);
    let ending = [of("IN_3", DueWhy::Expires), of("IN_29", DueWhy::Expires)];
    assert_eq!(due(me).await, ending);

    // A folder's rule, then a nearer one that is kinder, then the secret's own.
    let rule = |days, regenerate| Some(RotationRule::new(days, regenerate).unwrap());
    let ann = Handle::parse("ann").unwrap();
    let set = async |at: &str, rule| {
        let folder = Folder::parse(at).unwrap();
        db.rotation_set_in(me, &ann, &folder, rule).await.unwrap();
    };
    set("project", rule(90, true)).await;
    // What Sealport generated comes by itself; nobody has to be told.
    let old_due = of("project/shop/OLD", DueWhy::Rotate);
    assert_eq!(due(me).await[0], old_due);
    assert_eq!(due(me).await.len(), 3);
    set("project/shop", rule(120, false)).await;
    assert_eq!(due(me).await, ending);
    db.rotation_set(me, old, rule(30, false)).await.unwrap();
    assert_eq!(due(me).await[0], old_due);
    let shown = db
        .secret_show(me, &own(me), &path("project/shop/OLD"))
        .await
        .unwrap();
    let rotation = shown.rotation.unwrap();
    assert_eq!((rotation.rule.after_days, rotation.folder), (30, None));
    // A value that came back is as old as it was.
    let newer = NewValue::Typed(text("newer"));
    db.secret_replace(me, old, 1, newer).await.unwrap();
    assert_eq!(due(me).await, ending);
    db.secret_roll_back(me, old, 2, 1).await.unwrap();
    assert_eq!(due(me).await[0], old_due);
    db.rotation_set(me, old, None).await.unwrap();
    assert_eq!(due(me).await, ending);

    assert!(due(&bob).await.is_empty());
    let folder = Folder::parse("project/shop").unwrap();
    let refused = refusal(db.rotation_set_in(&bob, &ann, &folder, None).await);
    assert_eq!(refused.kind, RefusalKind::NotFound);
    assert_eq!(db.rotation_in(&bob, &ann, &folder).await.unwrap(), None);
    assert_eq!(db.folder_level(&bob, &ann, &folder).await.unwrap(), None);
    let level = db.folder_level(me, &ann, &folder).await.unwrap();
    assert_eq!(level, Some(Level::Admin));
    assert_eq!(
        db.rotation_in(me, &ann, &folder).await.unwrap(),
        rule(120, false)
    );
    let rows = recorded(&house.database).await;
    for row in [
        "user ann secret.rotation done project/ to be generated anew",
        "user ann secret.rotation done project/shop/OLD to be reminded of",
        "user bob secret.rotation refused no such folder in sight",
    ] {
        assert!(rows.contains(&row.to_owned()), "{row}: {rows:#?}");
    }
}

#[tokio::test]
async fn one_whose_end_has_come_is_switched_off_on_record_and_on_again_when_it_moves() {
    let house = house().await;
    let (db, me) = (&house.db, &house.me);
    let id = house.secret("KEY", &["value"]).await;
    let off = house.secret("OFF", &["value"]).await;
    let switch = |on: bool| SecretEdit {
        active: Some(on),
        ..SecretEdit::default()
    };
    db.secret_edit(me, off, switch(false)).await.unwrap();
    as_admin(
        &house.database,
        "update secrets set expires_at = now() - interval '1 day'",
    )
    .await;
    // Two servers at once do it once.
    let (one, other) = tokio::join!(db.caretaker_step(), db.caretaker_step());
    assert_eq!(one.unwrap() + other.unwrap(), 1);
    assert_eq!(db.caretaker_step().await.unwrap(), 0);
    let shown = db
        .secret_show(me, &own(me), &path("KEY"))
        .await
        .unwrap()
        .summary;
    assert!(!shown.active);
    assert_eq!(shown.unusable(OffsetDateTime::now_utc()), Some("expired"));
    let due = db.secrets_due(me).await.unwrap();
    assert_eq!(due.len(), 1, "what a person switched off is nobody's worry");
    assert_eq!(due[0].why, DueWhy::Expired);

    let on = refusal(db.secret_edit(me, id, switch(true)).await);
    assert_eq!(on.kind, RefusalKind::Conflict);
    assert!(on.detail.contains("Move its day"), "{on}");
    let later = |days| SecretEdit {
        expires_at: Some(Some(OffsetDateTime::now_utc() + Duration::days(days))),
        ..SecretEdit::default()
    };
    db.secret_edit(me, id, later(1)).await.unwrap();
    assert!(house.is(id, "value").await);
    // What a person switched off stays so when its day moves.
    db.secret_edit(me, off, later(1)).await.unwrap();
    let closed = refusal(db.secret_compare(me, off, text("value")).await);
    assert!(closed.detail.contains("switched off"), "{closed}");
    let rows = recorded(&house.database).await;
    let ended: Vec<_> = rows.iter().filter(|row| row.contains("expire")).collect();
    assert_eq!(
        ended,
        [
            "job caretaker secret.expire done KEY its end has come",
            "user ann secret.edit refused KEY the secret has expired"
        ]
    );
}
