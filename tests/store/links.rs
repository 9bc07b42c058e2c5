//! Invitations and reset links: made by administrators, shown once, used once.

use sealport::model::actors::{Caller, Origin, SignedInUser};
use sealport::model::audit::AuditFilter;
use sealport::model::errors::RefusalKind;
use sealport::store::Db;
use sealport::store::sessions::Sessions;
use secrecy::{ExposeSecret, SecretString};
use tower_sessions::SessionStore;
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::opening::{as_admin, open};
use crate::people::{PASSWORD, add, caller, email, from, recorded, refusal, session_of, text};

struct House {
    database: TestDatabase,
    db: Db,
    ada_user: SignedInUser,
    ada: Caller,
}

/// With Ada, who is an administrator.
async fn house() -> House {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ada_user = db
        .user_add(&email("ada@example.org"), &text(PASSWORD), true)
        .await
        .unwrap();
    let ada = caller(&ada_user);
    House {
        database,
        db,
        ada_user,
        ada,
    }
}

impl House {
    async fn invite(&self, address: &str) -> SecretString {
        self.db
            .invitation_make(&self.ada, &email(address), false)
            .await
            .unwrap()
    }

    async fn has_signed_in(&self, address: &str) -> bool {
        let found = self.db.people_list(&self.ada, address).await.unwrap();
        found.iter().any(|person| person.signed_in_at.is_some())
    }

    async fn spent(&self, link: &SecretString) -> bool {
        let origin = from("192.0.2.1");
        let tried = self
            .db
            .invitation_accept(link, &text(PASSWORD), &origin)
            .await;
        self.db.invitation_open(link).await.unwrap().is_none()
            && refusal(tried).kind == RefusalKind::Unauthenticated
    }
}

#[tokio::test]
async fn an_invitation_makes_one_account_for_its_address() {
    let house = house().await;
    let db = &house.db;
    let link = house.invite("Ben@Example.org").await;
    let says = db.invitation_open(&link).await.unwrap().unwrap();
    assert_eq!(
        (says.email.as_str(), says.as_administrator),
        ("ben@example.org", false)
    );
    // Looking does not burn, and neither does a password that is too short.
    let origin = from("192.0.2.1");
    let weak = db.invitation_accept(&link, &text("short"), &origin).await;
    assert_eq!(refusal(weak).field.as_deref(), Some("password"));
    assert!(db.invitation_open(&link).await.unwrap().is_some());

    let password = text(PASSWORD);
    let (one, other) = tokio::join!(
        db.invitation_accept(&link, &password, &origin),
        db.invitation_accept(&link, &password, &origin),
    );
    let (user, refused) = match (one, other) {
        (Ok(user), refused) | (refused, Ok(user)) => (user, refused),
        (one, other) => panic!("neither made an account: {one:?} {other:?}"),
    };
    assert_eq!(refusal(refused).kind, RefusalKind::Unauthenticated);
    assert_eq!(
        (user.handle.as_str(), user.email.as_str(), user.is_admin),
        ("ben", "ben@example.org", false)
    );
    assert!(house.spent(&link).await);
    assert!(house.has_signed_in("ben@example.org").await);
    db.sign_in("ben@example.org", &text(PASSWORD), &origin)
        .await
        .unwrap();
    let rows = recorded(&house.database).await;
    for row in [
        "user ada invitation.make done",
        "anonymous unknown user.add done",
        "anonymous unknown user.add refused link does not hold",
    ] {
        assert!(rows.contains(&row.to_owned()), "{row} in {rows:?}");
    }
}

#[tokio::test]
async fn an_invitation_can_make_an_administrator() {
    let house = house().await;
    let link = house
        .db
        .invitation_make(&house.ada, &email("ben@example.org"), true)
        .await
        .unwrap();
    let user = house
        .db
        .invitation_accept(&link, &text(PASSWORD), &Origin::default())
        .await
        .unwrap();
    assert!(user.is_admin);
}

#[tokio::test]
async fn an_invitation_ends_by_age_by_another_and_by_hand() {
    let house = house().await;
    let db = &house.db;
    let first = house.invite("ben@example.org").await;
    let second = house.invite("ben@example.org").await;
    assert!(house.spent(&first).await);
    let open = db.invitations_list(&house.ada).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].made_by, "ada");
    let hours = (open[0].expires_at - open[0].created_at).whole_hours();
    assert_eq!(hours, 72);

    db.invitation_withdraw(&house.ada, open[0].id)
        .await
        .unwrap();
    assert!(house.spent(&second).await);
    let again = db.invitation_withdraw(&house.ada, open[0].id).await;
    assert_eq!(refusal(again).kind, RefusalKind::NotFound);

    let late = house.invite("ben@example.org").await;
    as_admin(
        &house.database,
        "update one_time_links set expires_at = now() - interval '1 second'",
    )
    .await;
    assert!(house.spent(&late).await);
    assert!(db.invitations_list(&house.ada).await.unwrap().is_empty());
    assert_eq!(db.people_list(&house.ada, "").await.unwrap().len(), 1);
}

#[tokio::test]
async fn links_are_made_by_administrators_alone_and_end_with_their_makers_role() {
    let house = house().await;
    let db = &house.db;
    let ben_user = add(db, "ben@example.org").await;
    let ben = caller(&ben_user);
    let somebody = email("carl@example.org");
    for refused in [
        refusal(db.invitation_make(&ben, &somebody, true).await),
        refusal(db.invitation_withdraw(&ben, Uuid::now_v7()).await),
        refusal(db.invitations_list(&ben).await.map(|_| ())),
        refusal(db.reset_make(&ben, house.ada_user.id).await),
        refusal(db.people_list(&ben, "").await.map(|_| ())),
        refusal(db.administrator_set(&ben, ben_user.id, true).await),
    ] {
        assert_eq!(refused.kind, RefusalKind::Denied, "{refused}");
    }
    let rows = recorded(&house.database).await;
    assert!(rows.contains(&"user ben reset.make refused no administrator".to_owned()));

    db.administrator_set(&house.ada, ben_user.id, true)
        .await
        .unwrap();
    let invitation = db.invitation_make(&ben, &somebody, true).await.unwrap();
    let reset = db.reset_make(&ben, house.ada_user.id).await.unwrap();
    db.administrator_set(&house.ada, ben_user.id, false)
        .await
        .unwrap();
    assert!(house.spent(&invitation).await);
    assert!(db.reset_open(&reset).await.unwrap().is_none());
    assert_eq!(
        refusal(db.invitation_make(&ben, &somebody, false).await).kind,
        RefusalKind::Denied
    );
    // The last one stays.
    let last = db
        .administrator_set(&house.ada, house.ada_user.id, false)
        .await;
    assert_eq!(refusal(last).kind, RefusalKind::Conflict);
    assert!(
        db.account(house.ada_user.id)
            .await
            .unwrap()
            .unwrap()
            .user
            .is_admin
    );
}

#[tokio::test]
async fn an_address_with_an_account_is_not_invited() {
    let house = house().await;
    let taken = house
        .db
        .invitation_make(&house.ada, &email("ADA@example.org"), false)
        .await;
    assert_eq!(refusal(taken).kind, RefusalKind::Taken);
    // Nor does an invitation make a second account where there is one since.
    let link = house.invite("ben@example.org").await;
    add(&house.db, "ben@example.org").await;
    let late = house
        .db
        .invitation_accept(&link, &text(PASSWORD), &Origin::default())
        .await;
    let late = refusal(late);
    assert_eq!(
        (late.kind, late.field.as_deref()),
        (RefusalKind::Taken, Some("email"))
    );
}

#[tokio::test]
async fn a_reset_link_sets_the_password_once_and_ends_all_sessions() {
    let house = house().await;
    let db = &house.db;
    let ben = add(db, "ben@example.org").await;
    let sessions = Sessions(db.clone());
    let (mut bens, mut adas) = (session_of(Some(&ben)), session_of(Some(&house.ada_user)));
    for record in [&mut bens, &mut adas] {
        sessions.create(record).await.unwrap();
    }
    let earlier = db.reset_make(&house.ada, ben.id).await.unwrap();
    let link = db.reset_make(&house.ada, ben.id).await.unwrap();
    let (new, origin) = (text("another long password"), from("192.0.2.1"));
    assert!(db.reset_open(&earlier).await.unwrap().is_none());
    let says = db.reset_open(&link).await.unwrap().unwrap();
    assert_eq!(says.email, "ben@example.org");
    // It is no invitation, and an invitation is no reset.
    assert!(db.invitation_open(&link).await.unwrap().is_none());

    assert!(!house.has_signed_in("ben@example.org").await);
    let account = db.reset_use(&link, &new, &origin).await.unwrap();
    assert_eq!(
        (&account.user.id, &account.user.handle),
        (&ben.id, &ben.handle)
    );
    let now = db.account(ben.id).await.unwrap().unwrap();
    assert_eq!(account.session_stamp, now.session_stamp);
    assert!(house.has_signed_in("ben@example.org").await);
    let again = db.reset_use(&link, &new, &origin).await;
    assert_eq!(refusal(again).kind, RefusalKind::Unauthenticated);
    assert!(sessions.load(&bens.id).await.unwrap().is_none());
    assert!(sessions.load(&adas.id).await.unwrap().is_some());
    assert!(
        db.sign_in("ben@example.org", &text(PASSWORD), &origin)
            .await
            .is_err()
    );
    assert!(db.sign_in("ben@example.org", &new, &origin).await.is_ok());
    assert!(
        db.sign_in("ada@example.org", &text(PASSWORD), &origin)
            .await
            .is_ok()
    );
    let rows = recorded(&house.database).await;
    for row in [
        "user ada reset.make done",
        "anonymous unknown password.reset done",
        "anonymous unknown password.reset refused link does not hold",
    ] {
        assert!(rows.contains(&row.to_owned()), "{row} in {rows:?}");
    }
    // Ben sees in his record that somebody made and used one.
    let seen = db
        .audit_list(&caller(&ben), &AuditFilter::default(), None, 100)
        .await
        .unwrap();
    let resets = seen.iter().filter(|row| row.action.contains("reset"));
    assert_eq!(resets.count(), 3, "{seen:?}");
}

/// A link that is out would set yet another password, and sign in.
#[tokio::test]
async fn whoever_changes_their_password_ends_the_links_that_would() {
    let house = house().await;
    let db = &house.db;
    let ben = add(db, "ben@example.org").await;
    let bens = db.reset_make(&house.ada, ben.id).await.unwrap();
    let adas = db.reset_make(&house.ada, house.ada_user.id).await.unwrap();
    let new = text("another long password");
    db.password_change(&caller(&ben), &text(PASSWORD), &new, None)
        .await
        .unwrap();
    assert!(db.reset_open(&bens).await.unwrap().is_none());
    let origin = from("192.0.2.1");
    let theirs = text("an intruder's own one");
    let used = db.reset_use(&bens, &theirs, &origin).await;
    assert_eq!(refusal(used).kind, RefusalKind::Unauthenticated);
    assert!(db.sign_in("ben@example.org", &new, &origin).await.is_ok());
    // Another's stays.
    assert!(db.reset_open(&adas).await.unwrap().is_some());
}

#[tokio::test]
async fn a_dump_holds_no_link() {
    let house = house().await;
    let link = house.invite("ben@example.org").await;
    let reset = house
        .db
        .reset_make(&house.ada, house.ada_user.id)
        .await
        .unwrap();
    use sqlx::ConnectOptions;
    let mut admin = house.database.admin_options.connect().await.unwrap();
    let dump: Vec<String> = sqlx::query_scalar(
        "select l::text from one_time_links l union all select a::text from audit a",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    let dump = dump.join("\n");
    assert!(dump.contains("ben@example.org"));
    for link in [link, reset] {
        assert!(!dump.contains(link.expose_secret()));
    }
}
