//! The life of a secret, who may do what with it, and what stands on record.

use std::collections::BTreeSet;

use sealport::model::actors::{Actor, Caller, Origin, Presented};
use sealport::model::errors::RefusalKind;
use sealport::model::paths::{Handle, SecretPath};
use sealport::model::secrets::{Kind, SecretSort};
use sealport::store::Db;
use sealport::store::secrets::{NewSecret, NewValue, SecretEdit};
use sqlx::{ConnectOptions, Row};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::common;
use crate::opening::{as_admin, open};
use crate::people::{add, caller, recorded, refusal, text};

pub fn path(text: &str) -> SecretPath {
    SecretPath::parse(text).unwrap()
}

/// The caller's own handle.
pub fn own(caller: &Caller) -> Handle {
    Handle::parse(&caller.user().unwrap().handle).unwrap()
}

pub fn new(at: &str, value: &str) -> NewSecret {
    NewSecret {
        owner: None,
        path: path(at),
        value: NewValue::Typed(text(value)),
        kind: Kind::ApiKey,
        description: format!("for {at}"),
        tags: Vec::new(),
        expires_at: None,
    }
}

async fn paths(db: &Db, me: &Caller, search: &str, sort: SecretSort) -> Vec<String> {
    let list = db.secrets_list(me, search, sort, 100).await.unwrap();
    list.iter().map(|row| row.path.to_string()).collect()
}

async fn is(db: &Db, me: &Caller, id: Uuid, guess: &str) -> bool {
    db.secret_compare(me, id, text(guess)).await.unwrap()
}

#[tokio::test]
async fn the_life_of_a_secret() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let value = "sk-ünïcode\r\nline two";
    let id = db
        .secret_create(&me, new("project/shop/STRIPE_KEY", value))
        .await
        .unwrap();
    assert!(is(&db, &me, id, value).await);
    assert!(!is(&db, &me, id, "sk-").await);

    assert_eq!(
        db.secret_replace(&me, id, 1, NewValue::Typed(text("second")))
            .await
            .unwrap(),
        2
    );
    assert!(is(&db, &me, id, "second").await);
    let late = db
        .secret_replace(&me, id, 1, NewValue::Typed(text("third")))
        .await;
    assert_eq!(refusal(late).kind, RefusalKind::Conflict);
    assert_eq!(
        db.secret_replace(&me, id, 2, NewValue::generated(32))
            .await
            .unwrap(),
        3
    );
    assert!(!is(&db, &me, id, "second").await);

    let expiry = OffsetDateTime::now_utc() + Duration::days(3);
    db.secret_edit(
        &me,
        id,
        SecretEdit {
            path: Some(path("STRIPE_KEY")),
            description: Some("the shop's".into()),
            tags: None,
            kind: Some(Kind::Custom),
            expires_at: Some(Some(expiry)),
            active: Some(false),
            expected: None,
        },
    )
    .await
    .unwrap();
    let gone = db
        .secret_show(&me, &own(&me), &path("project/shop/STRIPE_KEY"))
        .await;
    assert_eq!(refusal(gone).kind, RefusalKind::NotFound);
    let shown = db
        .secret_show(&me, &own(&me), &path("STRIPE_KEY"))
        .await
        .unwrap();
    assert_eq!(shown.summary.id, id);
    assert_eq!(
        (shown.summary.owner.as_str(), shown.summary.version),
        ("ann", 3)
    );
    assert_eq!(
        (shown.summary.kind, shown.summary.active),
        (Kind::Custom, false)
    );
    assert_eq!(
        shown.summary.expires_at.map(OffsetDateTime::unix_timestamp),
        Some(expiry.unix_timestamp())
    );
    let versions: Vec<_> = shown
        .versions
        .iter()
        .map(|v| (v.version, v.generated, v.created_by.as_str()))
        .collect();
    assert_eq!(
        versions,
        [(3, true, "ann"), (2, false, "ann"), (1, false, "ann")]
    );
    // A rename does not re-encrypt, and what was sealed still opens, once it is switched on.
    let off = refusal(db.secret_compare(&me, id, text("last")).await);
    assert_eq!(off.kind, RefusalKind::Conflict);
    let on = SecretEdit {
        active: Some(true),
        ..SecretEdit::default()
    };
    db.secret_edit(&me, id, on).await.unwrap();
    db.secret_replace(&me, id, 3, NewValue::Typed(text("last")))
        .await
        .unwrap();
    assert!(is(&db, &me, id, "last").await);

    db.secret_delete(&me, id, None).await.unwrap();
    assert_eq!(
        refusal(db.secret_delete(&me, id, None).await).kind,
        RefusalKind::NotFound
    );
    assert!(paths(&db, &me, "", SecretSort::Path).await.is_empty());
    let mut admin = database.admin_options.connect().await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from secret_versions")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(left, 0);
    assert_eq!(
        recorded(&database).await[1..],
        [
            "user ann secret.create done project/shop/STRIPE_KEY 1",
            "user ann secret.compare done project/shop/STRIPE_KEY 1",
            "user ann secret.compare done project/shop/STRIPE_KEY 1",
            "user ann secret.replace done project/shop/STRIPE_KEY 2",
            "user ann secret.compare done project/shop/STRIPE_KEY 2",
            "user ann secret.replace refused project/shop/STRIPE_KEY newer version exists",
            "user ann secret.replace done project/shop/STRIPE_KEY 3",
            "user ann secret.compare done project/shop/STRIPE_KEY 3",
            "user ann secret.edit done project/shop/STRIPE_KEY renamed from",
            "user ann secret.edit done STRIPE_KEY renamed to",
            "user ann secret.compare refused STRIPE_KEY the secret is switched off",
            "user ann secret.edit done STRIPE_KEY switched on",
            "user ann secret.replace done STRIPE_KEY 4",
            "user ann secret.compare done STRIPE_KEY 4",
            "user ann secret.delete done STRIPE_KEY 4",
            "user ann secret.delete refused no such secret in sight",
        ]
    );
}

#[tokio::test]
async fn a_path_in_use_is_never_overwritten_in_any_case() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let other = caller(&add(&db, "bob@example.org").await);
    let id = db
        .secret_create(&me, new("API_KEY", "first"))
        .await
        .unwrap();
    for same in ["API_KEY", "api_key", "Api_Key"] {
        let refused = refusal(db.secret_create(&me, new(same, "second")).await);
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (RefusalKind::Taken, Some("path")),
            "{same}"
        );
    }
    assert!(is(&db, &me, id, "first").await);
    let third = db.secret_create(&me, new("OTHER", "x")).await.unwrap();
    let onto = SecretEdit {
        path: Some(path("api_KEY")),
        ..SecretEdit::default()
    };
    assert_eq!(
        refusal(db.secret_edit(&me, third, onto).await).kind,
        RefusalKind::Taken
    );
    // Its own path in another case is free for it.
    let respelt = SecretEdit {
        path: Some(path("api_key")),
        ..SecretEdit::default()
    };
    db.secret_edit(&me, id, respelt).await.unwrap();
    // Another owner has a namespace of their own.
    db.secret_create(&other, new("API_KEY", "bob's"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said_at_its_field_and_changes_nothing() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let past = OffsetDateTime::now_utc() - Duration::minutes(1);
    let cases = [
        (new("A", ""), "value"),
        (new("A", "with\0nul"), "value"),
        (new("A", &"x".repeat(64 * 1024 + 1)), "value"),
        (
            NewSecret {
                description: "d".repeat(1_001),
                ..new("A", "x")
            },
            "description",
        ),
        (
            NewSecret {
                description: "\0".into(),
                ..new("A", "x")
            },
            "description",
        ),
        (
            NewSecret {
                expires_at: Some(past),
                ..new("A", "x")
            },
            "expires_at",
        ),
        (
            NewSecret {
                value: NewValue::generated(1),
                ..new("A", "x")
            },
            "value",
        ),
    ];
    for (wrong, field) in cases {
        let refused = refusal(db.secret_create(&me, wrong).await);
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (RefusalKind::Invalid, Some(field))
        );
    }
    assert!(paths(&db, &me, "", SecretSort::Path).await.is_empty());
    db.secret_create(&me, new("A", &"x".repeat(64 * 1024)))
        .await
        .unwrap();
}

#[tokio::test]
async fn one_that_has_expired_is_opened_for_nobody_until_its_day_is_moved() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let id = db.secret_create(&me, new("KEY", "value")).await.unwrap();
    as_admin(
        &database,
        "update secrets set expires_at = date_trunc('second', now()) - interval '1 day'",
    )
    .await;
    let shown = db
        .secret_show(&me, &own(&me), &path("KEY"))
        .await
        .unwrap()
        .summary;
    let now = OffsetDateTime::now_utc();
    assert_eq!(shown.unusable(now), Some("expired"));
    let closed = refusal(db.secret_compare(&me, id, text("value")).await);
    assert_eq!(closed.kind, RefusalKind::Conflict);

    // What stays as it is stands in the way of nothing else.
    let edit = |end: Option<OffsetDateTime>| SecretEdit {
        description: Some("the old one".into()),
        expires_at: Some(end),
        ..SecretEdit::default()
    };
    db.secret_edit(&me, id, edit(shown.expires_at))
        .await
        .unwrap();
    let past = now - Duration::minutes(1);
    let refused = refusal(db.secret_edit(&me, id, edit(Some(past))).await);
    assert_eq!(refused.field.as_deref(), Some("expires_at"));
    let value = || NewValue::Typed(text("newer"));
    let renewed = db.secret_renew(&me, id, 1, value(), Some(Some(past))).await;
    assert_eq!(refusal(renewed).field.as_deref(), Some("expires_at"));

    // A replacement alone does not bring it back; with its day moved it does.
    assert_eq!(db.secret_replace(&me, id, 1, value()).await.unwrap(), 2);
    let still = refusal(db.secret_compare(&me, id, text("newer")).await);
    assert_eq!(still.kind, RefusalKind::Conflict);
    let renewed = db.secret_renew(&me, id, 2, value(), Some(None)).await;
    assert_eq!(renewed.unwrap().version, 3);
    assert!(is(&db, &me, id, "newer").await);
    assert_eq!(
        recorded(&database).await[1..],
        [
            "user ann secret.create done KEY 1",
            "user ann secret.compare refused KEY the secret has expired",
            "user ann secret.edit done KEY",
            "user ann secret.replace done KEY 2",
            "user ann secret.compare refused KEY the secret has expired",
            "user ann secret.replace done KEY 3",
            "user ann secret.edit done KEY",
            "user ann secret.compare done KEY 3",
        ]
    );
}

#[tokio::test]
async fn a_short_value_is_marked_and_no_more_is_said_of_its_length() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let id = db.secret_create(&me, new("PIN", "12345")).await.unwrap();
    db.secret_create(&me, new("KEY", "123456")).await.unwrap();
    let list = db.secrets_list(&me, "", SecretSort::Path, 10).await;
    let marks: Vec<_> = list
        .unwrap()
        .iter()
        .map(|row| (row.path.to_string(), row.maskable))
        .collect();
    assert_eq!(marks, [("KEY".into(), true), ("PIN".into(), false)]);
    let longer = NewValue::Typed(text("a longer one"));
    db.secret_replace(&me, id, 1, longer).await.unwrap();
    let shown = db.secret_show(&me, &own(&me), &path("PIN")).await.unwrap();
    assert!(shown.summary.maskable);
}

#[tokio::test]
async fn lists_search_and_sort() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    db.secret_create(&me, new("b_KEY", "x")).await.unwrap();
    let first = db.secret_create(&me, new("A_TOKEN", "x")).await.unwrap();
    let json = NewSecret {
        kind: Kind::Json,
        description: "100%_sure".into(),
        ..new("meta/gcp/ACCOUNT", "{}")
    };
    db.secret_create(&me, json).await.unwrap();
    db.secret_replace(&me, first, 1, NewValue::Typed(text("y")))
        .await
        .unwrap();
    assert_eq!(
        paths(&db, &me, "", SecretSort::Path).await,
        ["A_TOKEN", "b_KEY", "meta/gcp/ACCOUNT"]
    );
    assert_eq!(
        paths(&db, &me, "", SecretSort::Changed).await,
        ["A_TOKEN", "meta/gcp/ACCOUNT", "b_KEY"]
    );
    assert_eq!(
        paths(&db, &me, "", SecretSort::Kind).await,
        ["A_TOKEN", "b_KEY", "meta/gcp/ACCOUNT"]
    );
    assert_eq!(paths(&db, &me, " key ", SecretSort::Path).await, ["b_KEY"]);
    // Wildcards and quotes are letters like others.
    assert_eq!(
        paths(&db, &me, "%_s", SecretSort::Path).await,
        ["meta/gcp/ACCOUNT"]
    );
    for nothing in ["' or '1'='1", "b%KEY", "\0zzz"] {
        assert!(
            paths(&db, &me, nothing, SecretSort::Path).await.is_empty(),
            "{nothing}"
        );
    }
    assert_eq!(
        db.secrets_list(&me, "", SecretSort::Path, 2)
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn nobody_else_reaches_a_secret() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let stranger = caller(&add(&db, "bob@example.org").await);
    let nobody = Caller {
        actor: Actor::Anonymous(Presented::Nothing),
        origin: Origin::default(),
    };
    let id = db.secret_create(&me, new("KEY", "value")).await.unwrap();
    for other in [&stranger, &nobody] {
        assert!(paths(&db, other, "", SecretSort::Path).await.is_empty());
        for (real_or_guessed, kind) in [
            (id, RefusalKind::NotFound),
            (Uuid::now_v7(), RefusalKind::NotFound),
        ] {
            assert_eq!(
                refusal(
                    db.secret_compare(other, real_or_guessed, text("value"))
                        .await
                )
                .kind,
                kind
            );
            let typed = NewValue::Typed(text("x"));
            assert_eq!(
                refusal(db.secret_replace(other, real_or_guessed, 1, typed).await).kind,
                kind
            );
            assert_eq!(
                refusal(
                    db.secret_edit(other, real_or_guessed, SecretEdit::default())
                        .await
                )
                .kind,
                kind
            );
            assert_eq!(
                refusal(db.secret_delete(other, real_or_guessed, None).await).kind,
                kind
            );
        }
        assert_eq!(
            refusal(db.secret_show(other, &own(&me), &path("KEY")).await).kind,
            RefusalKind::NotFound
        );
    }
    assert_eq!(
        refusal(db.secret_create(&nobody, new("KEY", "x")).await).kind,
        RefusalKind::Unauthenticated
    );
    assert!(is(&db, &me, id, "value").await);
    // Each refusal stands there, under who tried; none of them in sight of the owner, who would learn of nothing but noise.
    let rows = recorded(&database).await;
    assert_eq!(
        rows.iter()
            .filter(|row| row.ends_with("no such secret in sight"))
            .count(),
        16
    );
    assert_eq!(
        rows.iter()
            .filter(|row| row.starts_with("user bob secret.compare refused"))
            .count(),
        2
    );
}

#[tokio::test]
async fn comparing_is_limited_for_a_secret_and_an_actor() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let id = db.secret_create(&me, new("KEY", "value")).await.unwrap();
    let other = db.secret_create(&me, new("OTHER", "value")).await.unwrap();
    // At once, so that none slips through between looking and counting.
    let tries =
        futures::future::join_all((0..24).map(|_| db.secret_compare(&me, id, text("guess")))).await;
    let answered = tries.iter().filter(|result| result.is_ok()).count();
    assert_eq!(answered, 20);
    assert!(
        tries
            .into_iter()
            .filter(Result::is_err)
            .all(|result| refusal(result).kind == RefusalKind::TooMany)
    );
    assert!(is(&db, &me, other, "value").await);
    let rows = recorded(&database).await;
    assert_eq!(
        rows.iter()
            .filter(|row| row.contains("secret.compare done KEY"))
            .count(),
        20
    );
    assert_eq!(
        rows.iter()
            .filter(|row| row.ends_with("too many comparisons"))
            .count(),
        1
    );
}

#[tokio::test]
async fn no_record_no_access() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let id = db.secret_create(&me, new("KEY", "value")).await.unwrap();
    as_admin(&database, "revoke insert on audit from sealport_server").await;
    assert!(db.secret_compare(&me, id, text("value")).await.is_err());
    assert!(db.secret_create(&me, new("SECOND", "value")).await.is_err());
    assert!(
        db.secret_replace(&me, id, 1, NewValue::Typed(text("x")))
            .await
            .is_err()
    );
    assert!(db.secret_delete(&me, id, None).await.is_err());
    as_admin(&database, "grant insert on audit to sealport_server").await;
    assert_eq!(paths(&db, &me, "", SecretSort::Path).await, ["KEY"]);
    assert!(is(&db, &me, id, "value").await);
}

#[tokio::test]
async fn two_replacements_at_once_make_one_version() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let id = db.secret_create(&me, new("KEY", "value")).await.unwrap();
    let (one, other) = tokio::join!(
        db.secret_replace(&me, id, 1, NewValue::Typed(text("one"))),
        db.secret_replace(&me, id, 1, NewValue::Typed(text("other"))),
    );
    assert_eq!(
        [&one, &other]
            .iter()
            .filter(|result| result.is_ok())
            .count(),
        1
    );
    assert!(is(&db, &me, id, if one.is_ok() { "one" } else { "other" }).await);
}

#[tokio::test]
async fn first_secrets_at_once_share_one_data_key() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let made = futures::future::join_all(
        (0..8).map(|number| db.secret_create(&me, new(&format!("KEY_{number}"), "value"))),
    )
    .await;
    for id in made {
        assert!(is(&db, &me, id.unwrap(), "value").await);
    }
    let mut admin = database.admin_options.connect().await.unwrap();
    let keys: i64 = sqlx::query_scalar("select count(*) from data_keys")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(keys, 1);
}

/// Exchanges what is sealed between rows, as the database's owner could: nothing opens anywhere else.
#[tokio::test]
async fn sealed_values_open_in_their_own_row_only() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    let bob = caller(&add(&db, "bob@example.org").await);
    let one = db
        .secret_create(&ann, new("ONE", "value one"))
        .await
        .unwrap();
    db.secret_replace(&ann, one, 1, NewValue::Typed(text("value one, again")))
        .await
        .unwrap();
    let two = db
        .secret_create(&ann, new("TWO", "value two"))
        .await
        .unwrap();
    let bobs = db.secret_create(&bob, new("ONE", "bob's")).await.unwrap();
    let mut admin = database.admin_options.connect().await.unwrap();
    let rows = sqlx::query(
        "select secret_id, version, sealed, data_key_id, owner_id from secret_versions",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    let sealed_of = |id: Uuid, version: i32| -> Vec<u8> {
        rows.iter()
            .find(|row| {
                row.get::<Uuid, _>("secret_id") == id && row.get::<i32, _>("version") == version
            })
            .unwrap()
            .get("sealed")
    };
    let newest = [(&ann, one, 2), (&ann, two, 1), (&bob, bobs, 1)];
    for (who, id, version) in newest {
        for (other, other_version) in [(one, 1), (one, 2), (two, 1), (bobs, 1)] {
            if (other, other_version) == (id, version) {
                continue;
            }
            sqlx::query(
                "update secret_versions set sealed = $3 where secret_id = $1 and version = $2",
            )
            .bind(id)
            .bind(version)
            .bind(sealed_of(other, other_version))
            .execute(&mut admin)
            .await
            .unwrap();
            assert_broken(&db, who, id).await;
        }
        sqlx::query("update secret_versions set sealed = $3 where secret_id = $1 and version = $2")
            .bind(id)
            .bind(version)
            .bind(sealed_of(id, version))
            .execute(&mut admin)
            .await
            .unwrap();
        // Back in its place it opens, so it was the place that held it.
        let opened = db.secret_compare(who, id, text("x")).await;
        assert!(opened.is_ok());
    }
    // Not even with another store that has cached no key, nor with the data keys' rows exchanged.
    as_admin(
        &database,
        "update data_keys d set wrapped = o.wrapped from data_keys o where o.id <> d.id",
    )
    .await;
    let fresh = open(&database).await;
    for (who, id, _) in newest {
        assert_broken(&fresh, who, id).await;
    }
    let distinct: BTreeSet<Vec<u8>> = rows.iter().map(|row| row.get("sealed")).collect();
    assert_eq!(distinct.len(), 4);
}

/// It does not open, and says why.
async fn assert_broken(db: &Db, who: &Caller, id: Uuid) {
    let told = refusal(db.secret_compare(who, id, text("x")).await);
    assert_eq!(told.kind, RefusalKind::Conflict);
    assert!(
        told.detail.contains("it does not open with its key"),
        "{}",
        told.detail
    );
}
