//! Accounts: the first administrator, signing in, limits, passwords, sessions.

use std::net::IpAddr;

use sealport::model::actors::{Actor, Caller, Origin, SignedInUser};
use sealport::model::audit::AuditFilter;
use sealport::model::errors::{Refusal, RefusalKind};
use sealport::model::users::Email;
use sealport::store::sessions::{Sessions, id_hash};
use sealport::store::{Db, Error};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{ConnectOptions, Row};
use time::{Duration, OffsetDateTime};
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};

use crate::common::{self, TestDatabase};
use crate::opening::{as_admin, open};

pub const PASSWORD: &str = "correct horse battery";

pub fn text(text: &str) -> SecretString {
    SecretString::from(text)
}

pub fn email(text: &str) -> Email {
    Email::parse(text).unwrap()
}

pub fn from(address: &str) -> Origin {
    Origin {
        address: Some(address.parse::<IpAddr>().unwrap()),
        agent: Some("Firefox".into()),
        request_id: Some("r-1".into()),
    }
}

pub fn caller(user: &SignedInUser) -> Caller {
    Caller {
        actor: Actor::User(user.clone()),
        origin: from("192.0.2.1"),
    }
}

pub async fn add(db: &Db, address: &str) -> SignedInUser {
    db.user_add(&email(address), &text(PASSWORD), false)
        .await
        .unwrap()
}

pub fn refusal<T>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        Err(error) => panic!("not refused but broken: {error:?}"),
        Ok(_) => panic!("not refused"),
    }
}

/// Rows of the record as the superuser sees them: actor, action, outcome, path, version, reason.
pub async fn recorded(database: &TestDatabase) -> Vec<String> {
    let mut admin = database.admin_options.connect().await.unwrap();
    sqlx::query(
        "select concat_ws(' ', actor_kind, actor_name, action, outcome, path, version, reason) from audit order by id",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap()
    .iter()
    .map(|row| row.get::<String, _>(0))
    .collect()
}

async fn try_sign_in(db: &Db, address: &str, password: &str, origin: &Origin) -> RefusalKind {
    let result = db.sign_in(address, &text(password), origin).await;
    refusal(result.map(|_| ())).kind
}

#[tokio::test]
async fn the_first_administrators_link_opens_once() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let earlier = db.first_administrator_link().await.unwrap().unwrap();
    let link = db.first_administrator_link().await.unwrap().unwrap();
    assert_eq!(link.expose_secret().len(), 43);
    assert!(!db.first_administrator_link_holds(&earlier).await.unwrap());
    // Looking does not burn.
    assert!(db.first_administrator_link_holds(&link).await.unwrap());
    assert!(db.first_administrator_link_holds(&link).await.unwrap());

    let address = email("Ann@Example.org");
    let weak = db
        .first_administrator(&link, &address, &text("short"), &from("192.0.2.1"))
        .await;
    assert_eq!(refusal(weak).field.as_deref(), Some("password"));
    assert!(db.first_administrator_link_holds(&link).await.unwrap());

    let spaced = text(&format!(" {}\n", link.expose_secret()));
    let origin = from("192.0.2.1");
    let password = text(PASSWORD);
    let (one, other) = tokio::join!(
        db.first_administrator(&link, &address, &password, &origin),
        db.first_administrator(&spaced, &address, &password, &origin),
    );
    let (user, refused) = match (one, other) {
        (Ok(user), refused) | (refused, Ok(user)) => (user, refused),
        (one, other) => panic!("neither made an account: {one:?} {other:?}"),
    };
    assert_eq!(refusal(refused).kind, RefusalKind::Unauthenticated);
    assert!(user.is_admin);
    assert_eq!(
        (user.handle.as_str(), user.email.as_str()),
        ("ann", "ann@example.org")
    );

    assert!(!db.first_administrator_link_holds(&link).await.unwrap());
    assert!(db.first_administrator_link().await.unwrap().is_none());
    let guessed = db
        .first_administrator(&text("guess"), &address, &password, &origin)
        .await;
    assert_eq!(refusal(guessed).kind, RefusalKind::Unauthenticated);
    assert_eq!(
        recorded(&database).await,
        [
            "anonymous unknown user.add done",
            "anonymous unknown user.add refused link does not hold",
            "anonymous unknown user.add refused link does not hold",
        ]
    );
    let account = db.account(user.id).await.unwrap().unwrap();
    assert_eq!(account.user, user);
    let people = db.people_list(&caller(&user), "").await.unwrap();
    assert!(people[0].signed_in_at.is_some());
}

#[tokio::test]
async fn an_old_link_and_one_beside_a_user_do_not_open() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let link = db.first_administrator_link().await.unwrap().unwrap();
    as_admin(
        &database,
        "update one_time_links set expires_at = now() - interval '1 second'",
    )
    .await;
    let late = db
        .first_administrator(&link, &email("a@b.c"), &text(PASSWORD), &Origin::default())
        .await;
    assert_eq!(refusal(late).kind, RefusalKind::Unauthenticated);

    let link = db.first_administrator_link().await.unwrap().unwrap();
    add(&db, "ann@example.org").await;
    assert!(!db.first_administrator_link_holds(&link).await.unwrap());
}

#[tokio::test]
async fn accounts_have_handles_of_their_own() {
    let database = common::new_database().await;
    let db = open(&database).await;
    assert_eq!(add(&db, "ann@example.org").await.handle, "ann");
    assert_eq!(add(&db, "ann@example.net").await.handle, "ann-2");
    assert_eq!(add(&db, "ANN@example.com").await.handle, "ann-3");
    let again = db
        .user_add(&email(" Ann@Example.org "), &text(PASSWORD), false)
        .await;
    let refused = refusal(again);
    assert_eq!(
        (refused.kind, refused.field.as_deref()),
        (RefusalKind::Taken, Some("email"))
    );
}

#[tokio::test]
async fn signing_in_costs_the_same_for_every_name_and_stands_on_record() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let user = add(&db, "ann@example.org").await;
    let origin = from("192.0.2.1");
    for (name, password, right) in [
        ("ann@example.org", "wrong password", false),
        ("nobody@example.org", "wrong password", false),
        ("no address at all", "wrong password", false),
        ("  ANN@Example.ORG ", PASSWORD, true),
    ] {
        let before = db.argon2_runs();
        let result = db.sign_in(name, &text(password), &origin).await;
        assert_eq!(db.argon2_runs() - before, 1, "{name}");
        match result {
            Ok(account) => {
                assert!(right, "{name}");
                assert_eq!(account.user, user);
            }
            refused => {
                assert!(!right, "{name}");
                let refused = refusal(refused.map(|_| ()));
                assert_eq!(refused.kind, RefusalKind::Unauthenticated);
                assert!(refused.detail.contains("do not belong together"));
            }
        }
    }
    assert_eq!(
        recorded(&database).await,
        [
            "job operator user.add done",
            "anonymous unknown sign-in refused wrong e-mail or password",
            "anonymous unknown sign-in refused wrong e-mail or password",
            "anonymous unknown sign-in refused wrong e-mail or password",
            "user ann sign-in done",
        ]
    );
    // Its owner sees the failure at their account, and not those of others.
    let sign_ins = AuditFilter {
        action: "sign-in".into(),
        ..AuditFilter::default()
    };
    let seen = db
        .audit_list(&caller(&user), &sign_ins, None, 10)
        .await
        .unwrap();
    let seen: Vec<_> = seen
        .iter()
        .map(|row| (row.outcome.as_str(), row.address.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [("done", Some("192.0.2.1")), ("refused", Some("192.0.2.1"))]
    );
}

#[tokio::test]
async fn guessing_from_one_address_ends_soon_and_each_spelling_counts() {
    let database = common::new_database().await;
    let db = open(&database).await;
    add(&db, "ann@example.org").await;
    let origin = from("198.51.100.1");
    let spellings = ["ann@example.org", "ANN@example.org", " ann@EXAMPLE.org"];
    for name in spellings.iter().cycle().take(10) {
        assert_eq!(
            try_sign_in(&db, name, "wrong password", &origin).await,
            RefusalKind::Unauthenticated
        );
    }
    let before = db.argon2_runs();
    for _ in 0..3 {
        // Even the right password does not open now, and nothing is hashed.
        assert_eq!(
            try_sign_in(&db, "Ann@example.org", PASSWORD, &origin).await,
            RefusalKind::TooMany
        );
    }
    assert_eq!(db.argon2_runs(), before);
    // A limit that is met goes on record once in a while, not each time.
    let met = recorded(&database).await;
    assert_eq!(
        met.iter()
            .filter(|row| row.ends_with("too many tries"))
            .count(),
        1
    );
    // Other addresses are not held up by this one.
    let other = db
        .sign_in("ann@example.org", &text(PASSWORD), &from("192.0.2.9"))
        .await;
    assert!(other.is_ok());
}

#[tokio::test]
async fn one_address_cannot_try_many_accounts() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let origin = from("198.51.100.1");
    for number in 0..30 {
        let name = format!("user{number}@example.org");
        assert_eq!(
            try_sign_in(&db, &name, "wrong password", &origin).await,
            RefusalKind::Unauthenticated
        );
    }
    assert_eq!(
        try_sign_in(&db, "one-more@example.org", "wrong password", &origin).await,
        RefusalKind::TooMany
    );
}

#[tokio::test]
async fn a_stranger_with_many_addresses_cannot_lock_anyone_out() {
    let database = common::new_database().await;
    let db = open(&database).await;
    add(&db, "ann@example.org").await;
    let home = from("192.0.2.1");
    db.sign_in("ann@example.org", &text(PASSWORD), &home)
        .await
        .unwrap();
    let mut kinds = Vec::new();
    for number in 0..51 {
        let origin = from(&format!("198.51.100.{number}"));
        kinds.push(try_sign_in(&db, "ann@example.org", "wrong password", &origin).await);
    }
    assert_eq!(kinds.pop(), Some(RefusalKind::TooMany));
    assert!(
        kinds
            .iter()
            .all(|kind| *kind == RefusalKind::Unauthenticated)
    );
    // From where she has signed in before, she still does.
    db.sign_in("ann@example.org", &text(PASSWORD), &home)
        .await
        .unwrap();
}

#[tokio::test]
async fn in_a_known_browser_nobody_is_locked_out_not_even_from_the_same_address() {
    let database = common::new_database().await;
    let db = open(&database).await;
    add(&db, "ann@example.org").await;
    add(&db, "ben@example.org").await;
    let shared = from("192.0.2.1");
    let sign_in = async |email: &str| db.sign_in(email, &text(PASSWORD), &shared).await.unwrap();
    let (ann, ben) = (
        sign_in("ann@example.org").await,
        sign_in("ben@example.org").await,
    );
    let hers = db.browser_mark(&ann).unwrap();
    let his = db.browser_mark(&ben).unwrap();
    for _ in 0..20 {
        let kind = try_sign_in(&db, "ann@example.org", "wrong password", &shared).await;
        assert_eq!(kind, RefusalKind::Unauthenticated);
    }
    let with = async |mark: Option<&str>, password: &str, origin: &Origin| {
        db.sign_in_with_mark("ann@example.org", &text(password), mark, origin)
            .await
            .map_err(|error| error.into_refusal().kind)
            .map(|_| ())
    };
    // A mark of somebody else, and one that was changed, are none.
    let mut changed = hers.clone().into_bytes();
    changed[0] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    for mark in [
        None,
        Some(his.as_str()),
        Some(&changed),
        Some(""),
        Some("é"),
    ] {
        let refused = with(mark, PASSWORD, &shared).await;
        assert_eq!(refused, Err(RefusalKind::TooMany), "{mark:?}");
    }
    with(Some(&hers), PASSWORD, &shared).await.unwrap();
    // On the way too, where strangers have used up what places that are not known have.
    for number in 0..51 {
        let origin = from(&format!("198.51.100.{number}"));
        try_sign_in(&db, "ann@example.org", "wrong password", &origin).await;
    }
    let elsewhere = from("203.0.113.9");
    let refused = with(None, PASSWORD, &elsewhere).await;
    assert_eq!(refused, Err(RefusalKind::TooMany));
    with(Some(&hers), PASSWORD, &elsewhere).await.unwrap();

    // Whoever took the browser along guesses slowly too.
    for _ in 0..20 {
        let refused = with(Some(&hers), "wrong password", &elsewhere).await;
        assert_eq!(refused, Err(RefusalKind::Unauthenticated));
    }
    let refused = with(Some(&hers), PASSWORD, &elsewhere).await;
    assert_eq!(refused, Err(RefusalKind::TooMany));

    // Marks of a password that was changed are none: whoever knew it collects no tries.
    let another = "another long password";
    let changed = db
        .password_change(&caller(&ann.user), &text(PASSWORD), &text(another), None)
        .await
        .unwrap();
    let newest = db.browser_mark(&changed).unwrap();
    let further = from("203.0.113.10");
    let refused = with(Some(&hers), another, &further).await;
    assert_eq!(refused, Err(RefusalKind::TooMany));
    with(Some(&newest), another, &further).await.unwrap();
}

#[tokio::test]
async fn many_right_sign_ins_are_no_guessing() {
    let database = common::new_database().await;
    let db = open(&database).await;
    add(&db, "ann@example.org").await;
    let origin = from("192.0.2.1");
    for _ in 0..25 {
        db.sign_in("ann@example.org", &text(PASSWORD), &origin)
            .await
            .unwrap();
    }
}

pub fn session_of(user: Option<&SignedInUser>) -> Record {
    let mut record = Record {
        id: Id::default(),
        data: Default::default(),
        expiry_date: OffsetDateTime::now_utc() + Duration::days(400),
    };
    record.data.insert("flash".into(), "hello".into());
    if let Some(user) = user {
        record.data.insert(
            "axum-login.data".into(),
            serde_json::json!({"user_id": user.id, "auth_hash": [1, 2]}),
        );
    }
    record
}

#[tokio::test]
async fn a_session_is_kept_and_ended_by_its_id_alone() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let user = add(&db, "ann@example.org").await;
    let sessions = Sessions(db.clone());
    let mut record = session_of(None);
    sessions.create(&mut record).await.unwrap();
    let loaded = sessions.load(&record.id).await.unwrap().unwrap();
    assert_eq!((loaded.id, &loaded.data), (record.id, &record.data));
    assert!(loaded.expiry_date <= OffsetDateTime::now_utc() + Duration::days(14));

    record.data = session_of(Some(&user)).data;
    sessions.save(&record).await.unwrap();
    assert_eq!(
        sessions.load(&record.id).await.unwrap().unwrap().data,
        record.data
    );
    assert_eq!(sessions.load(&Id::default()).await.unwrap(), None);

    // An id in use is not taken over.
    let mut twin = session_of(None);
    twin.id = record.id;
    sessions.create(&mut twin).await.unwrap();
    assert_ne!(twin.id, record.id);

    as_admin(
        &database,
        &format!(
            "update sessions set expires_at = now() where id_hash = '{}'",
            id_hash(&twin.id)
        ),
    )
    .await;
    assert_eq!(sessions.load(&twin.id).await.unwrap(), None);
    sessions.delete(&record.id).await.unwrap();
    assert_eq!(sessions.load(&record.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_dump_of_the_sessions_holds_no_id() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let user = add(&db, "ann@example.org").await;
    let sessions = Sessions(db.clone());
    let mut record = session_of(Some(&user));
    sessions.create(&mut record).await.unwrap();
    sessions.save(&record).await.unwrap();
    let mut admin = database.admin_options.connect().await.unwrap();
    let dump: Vec<String> = sqlx::query_scalar("select sessions::text from sessions")
        .fetch_all(&mut admin)
        .await
        .unwrap();
    assert_eq!(dump.len(), 1);
    assert!(dump[0].contains(&user.id.to_string()), "{}", dump[0]);
    for form in [
        record.id.to_string(),
        record.id.0.to_string(),
        hex::encode(record.id.0.to_le_bytes()),
        hex::encode(record.id.0.to_be_bytes()),
    ] {
        assert!(!dump[0].contains(&form), "{form} in {}", dump[0]);
    }
}

#[tokio::test]
async fn changing_a_password_ends_other_sessions() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let user = add(&db, "ann@example.org").await;
    let stranger = add(&db, "bob@example.org").await;
    let sessions = Sessions(db.clone());
    let (mut here, mut elsewhere, mut bobs) = (
        session_of(Some(&user)),
        session_of(Some(&user)),
        session_of(Some(&stranger)),
    );
    for record in [&mut here, &mut elsewhere, &mut bobs] {
        sessions.create(record).await.unwrap();
    }
    let stamp = db.account(user.id).await.unwrap().unwrap().session_stamp;
    let me = caller(&user);
    let keep = id_hash(&here.id);
    let new = text("another long password");

    let wrong = db
        .password_change(&me, &text("wrong password"), &new, Some(&keep))
        .await;
    assert_eq!(refusal(wrong).field.as_deref(), Some("current"));
    let short = db
        .password_change(&me, &text(PASSWORD), &text("short"), Some(&keep))
        .await;
    assert_eq!(refusal(short).field.as_deref(), Some("new"));
    assert!(sessions.load(&elsewhere.id).await.unwrap().is_some());

    let changed = db
        .password_change(&me, &text(PASSWORD), &new, Some(&keep))
        .await
        .unwrap();
    assert!(sessions.load(&here.id).await.unwrap().is_some());
    assert!(sessions.load(&elsewhere.id).await.unwrap().is_none());
    assert!(sessions.load(&bobs.id).await.unwrap().is_some());
    let now = db.account(user.id).await.unwrap().unwrap().session_stamp;
    assert_ne!(now, stamp);
    assert_eq!(changed.session_stamp, now);
    let origin = from("192.0.2.1");
    assert!(
        db.sign_in("ann@example.org", &text(PASSWORD), &origin)
            .await
            .is_err()
    );
    assert!(db.sign_in("ann@example.org", &new, &origin).await.is_ok());
    let rows = recorded(&database).await;
    assert!(
        rows.contains(&"user ann password.change refused wrong password".to_owned()),
        "{rows:?}"
    );
    assert!(
        rows.contains(&"user ann password.change done".to_owned()),
        "{rows:?}"
    );
}

/// Somebody who knows the old password changes it while it is reset.
#[tokio::test]
async fn a_change_that_is_under_way_does_not_undo_a_reset() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann = add(&db, "ann@example.org").await;
    let (reset, theirs) = (
        text("the password of the reset"),
        text("what an intruder sets"),
    );
    db.user_add(&email("bob@example.org"), &reset, false)
        .await
        .unwrap();
    let mut resetting = database.admin_options.connect().await.unwrap();
    sqlx::raw_sql(
        "begin; set local sealport.job = 'operator';
         update users set password_hash = (select password_hash from users where email = 'bob@example.org')
         where email = 'ann@example.org'",
    )
    .execute(&mut resetting)
    .await
    .unwrap();
    let changing = tokio::spawn({
        let (db, theirs) = (db.clone(), theirs.clone());
        async move {
            db.password_change(&caller(&ann), &text(PASSWORD), &theirs, None)
                .await
                .map(drop)
        }
    });
    common::waiting::held_up(&database.admin_options, 1, &changing).await;
    sqlx::raw_sql("commit")
        .execute(&mut resetting)
        .await
        .unwrap();
    let refused = refusal(changing.await.unwrap());
    assert_eq!(refused.kind, RefusalKind::Conflict);
    let origin = from("192.0.2.1");
    assert!(
        db.sign_in("ann@example.org", &theirs, &origin)
            .await
            .is_err()
    );
    assert!(db.sign_in("ann@example.org", &reset, &origin).await.is_ok());
    let rows = recorded(&database).await;
    assert!(
        rows.contains(&"user ann password.change refused changed meanwhile".to_owned()),
        "{rows:?}"
    );
}

#[tokio::test]
async fn an_ended_account_is_nobodys() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let user = add(&db, "ann@example.org").await;
    assert!(db.account(user.id).await.unwrap().is_some());
    as_admin(
        &database,
        "set sealport.job = 'operator'; update users set ended_at = now()",
    )
    .await;
    assert!(db.account(user.id).await.unwrap().is_none());
    assert_eq!(
        try_sign_in(&db, "ann@example.org", PASSWORD, &from("192.0.2.1")).await,
        RefusalKind::Unauthenticated
    );
}
