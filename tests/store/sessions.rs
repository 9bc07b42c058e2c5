//! Sessions as their person sees them, and the password asked for again.

use sealport::model::actors::{Caller, SignedInUser};
use sealport::model::errors::RefusalKind;
use sealport::store::Db;
use sealport::store::sessions::{Sessions, id_hash};
use tower_sessions::SessionStore;
use tower_sessions::session::Record;
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::opening::{as_admin, open};
use crate::people::{PASSWORD, add, caller, recorded, refusal, session_of, text};

struct House {
    database: TestDatabase,
    db: Db,
    ann: Caller,
    ann_user: SignedInUser,
}

async fn house() -> House {
    let database = common::new_database().await;
    let db = open(&database).await;
    let ann_user = add(&db, "ann@example.org").await;
    House {
        ann: caller(&ann_user),
        ann_user,
        database,
        db,
    }
}

impl House {
    async fn session(&self, user: &SignedInUser, address: &str) -> Record {
        let mut record = session_of(Some(user));
        record.data.insert(
            "begun".into(),
            serde_json::json!({"address": address, "agent": "Firefox"}),
        );
        Sessions(self.db.clone()).create(&mut record).await.unwrap();
        record
    }

    async fn age(&self, record: &Record, minutes: u32) {
        let sql = format!(
            "update sessions set confirmed_at = now() - interval '{minutes} minutes', last_seen = now() - interval '{minutes} minutes'
             where id_hash = '{}'",
            id_hash(&record.id)
        );
        as_admin(&self.database, &sql).await;
    }

    async fn confirmed(&self, record: &Record) -> bool {
        self.db.is_confirmed(&self.ann, &record.id).await.unwrap()
    }
}

#[tokio::test]
async fn one_sees_and_ends_ones_own_sessions_alone() {
    let house = house().await;
    let db = &house.db;
    let bob = add(db, "bob@example.org").await;
    let here = house.session(&house.ann_user, "192.0.2.1").await;
    let there = house.session(&house.ann_user, "192.0.2.2").await;
    let third = house.session(&house.ann_user, "192.0.2.3").await;
    let bobs = house.session(&bob, "192.0.2.4").await;
    house.age(&there, 3).await;

    let seen = db.sessions_list(&house.ann, &here.id).await.unwrap();
    let addresses: Vec<_> = seen
        .iter()
        .map(|session| (session.address.as_deref().unwrap(), session.here))
        .collect();
    assert_eq!(
        addresses,
        [
            ("192.0.2.1", true),
            ("192.0.2.3", false),
            ("192.0.2.2", false)
        ]
    );
    assert_eq!(seen[0].agent.as_deref(), Some("Firefox"));
    // Being used is noted, once in a minute.
    let sessions = Sessions(db.clone());
    sessions.load(&there.id).await.unwrap().unwrap();
    let used = db.sessions_list(&house.ann, &here.id).await.unwrap();
    assert!(used[1].last_seen > seen[2].last_seen);
    assert_eq!(used[1].id, seen[2].id);
    sessions.load(&there.id).await.unwrap().unwrap();
    let again = db.sessions_list(&house.ann, &here.id).await.unwrap();
    assert_eq!(again[1].last_seen, used[1].last_seen);

    let bobs_id = db.sessions_list(&caller(&bob), &bobs.id).await.unwrap()[0].id;
    for id in [bobs_id, Uuid::now_v7()] {
        let refused = db.session_end(&house.ann, id).await;
        assert_eq!(refusal(refused).kind, RefusalKind::NotFound);
    }
    db.session_end(&house.ann, seen[2].id).await.unwrap();
    assert!(sessions.load(&there.id).await.unwrap().is_none());
    assert!(sessions.load(&third.id).await.unwrap().is_some());
    db.sessions_end_others(&house.ann, &here.id).await.unwrap();
    assert!(sessions.load(&third.id).await.unwrap().is_none());
    assert!(sessions.load(&here.id).await.unwrap().is_some());
    assert!(sessions.load(&bobs.id).await.unwrap().is_some());
    let rows = recorded(&house.database).await;
    assert!(rows.contains(&"user ann session.end done one session".to_owned()));
    assert!(rows.contains(&"user ann session.end done all other sessions".to_owned()));
}

#[tokio::test]
async fn a_password_counts_for_ten_minutes_in_its_session() {
    let house = house().await;
    let here = house.session(&house.ann_user, "192.0.2.1").await;
    let there = house.session(&house.ann_user, "192.0.2.2").await;
    // Signing in was typing it.
    assert!(house.confirmed(&here).await);
    house.age(&here, 9).await;
    assert!(house.confirmed(&here).await);
    house.age(&here, 11).await;
    house.age(&there, 11).await;
    assert!(!house.confirmed(&here).await);

    let wrong = house
        .db
        .confirm(&house.ann, &here.id, &text("wrong password"))
        .await;
    assert_eq!(refusal(wrong).field.as_deref(), Some("password"));
    assert!(!house.confirmed(&here).await);
    house
        .db
        .confirm(&house.ann, &here.id, &text(PASSWORD))
        .await
        .unwrap();
    assert!(house.confirmed(&here).await);
    assert!(!house.confirmed(&there).await);
    // What the session holds is not touched, nor does saving it renew the password's time.
    house.age(&here, 11).await;
    Sessions(house.db.clone()).save(&here).await.unwrap();
    assert!(!house.confirmed(&here).await);
    // Nor is a session somebody else's.
    let bob = add(&house.db, "bob@example.org").await;
    assert!(
        !house
            .db
            .is_confirmed(&caller(&bob), &here.id)
            .await
            .unwrap()
    );
    let rows = recorded(&house.database).await;
    assert!(rows.contains(&"user ann password.confirm refused wrong password".to_owned()));
    assert!(rows.contains(&"user ann password.confirm done".to_owned()));
}

#[tokio::test]
async fn guessing_there_is_guessing_at_the_sign_in() {
    let house = house().await;
    let here = house.session(&house.ann_user, "192.0.2.1").await;
    house.age(&here, 11).await;
    let mut kinds = Vec::new();
    for _ in 0..11 {
        let wrong = house
            .db
            .confirm(&house.ann, &here.id, &text("wrong password"))
            .await;
        kinds.push(refusal(wrong).kind);
    }
    assert_eq!(kinds.pop(), Some(RefusalKind::TooMany));
    assert!(kinds.iter().all(|kind| *kind == RefusalKind::Invalid));
    // One counter for both doors.
    let tried = house
        .db
        .sign_in("ann@example.org", &text(PASSWORD), &house.ann.origin)
        .await;
    assert_eq!(refusal(tried.map(|_| ())).kind, RefusalKind::TooMany);
}
