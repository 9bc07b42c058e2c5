//! Files of variables: what the plan says, what waits meanwhile, and that it is all or nothing.

use std::collections::BTreeSet;

use sealport::model::actors::{Actor, Caller, Origin, Presented};
use sealport::model::errors::RefusalKind;
use sealport::model::imports::{Destination, Import, Imported, LineState, Note};
use sealport::model::secrets::{Kind, SecretSort};
use sealport::store::Db;
use sealport::store::secrets::{NewValue, SecretEdit};
use sqlx::{ConnectOptions, Row};

use crate::common;
use crate::opening::{as_admin, open};
use crate::people::{add, caller, recorded, refusal, text};
use crate::secrets::{new, own, path};

fn folder(text: &str) -> Destination {
    Destination::parse(text).unwrap()
}

async fn keep(db: &Db, me: &Caller, under: &str, file: &str) -> Import {
    db.import_keep(me, &folder(under), file.as_bytes())
        .await
        .unwrap();
    db.import_waiting(me).await.unwrap().unwrap()
}

/// The lines as a person reads them: number, path, state.
fn told(import: &Import) -> Vec<String> {
    let lines = import.lines.iter();
    lines
        .map(|line| {
            let path = line.path.as_ref().map_or("-", |path| path.as_str());
            let state = match &line.state {
                LineState::New => "new",
                LineState::Same => "same",
                LineState::Different => "different",
                LineState::Exists => "exists",
                LineState::Invalid { reason } => reason.as_str(),
            };
            format!("{} {path} {state}", line.at)
        })
        .collect()
}

async fn apply(
    db: &Db,
    me: &Caller,
    import: &Import,
    take: &[u32],
) -> Result<Imported, sealport::store::Error> {
    let take = BTreeSet::from_iter(take.iter().copied());
    db.import_apply(me, import.id, &take, Kind::ApiKey).await
}

/// Path and version of all that is stored.
async fn stored(db: &Db, me: &Caller) -> Vec<(String, i32)> {
    let list = db.secrets_list(me, "", SecretSort::Path, 2_000).await;
    let rows = list.unwrap().into_iter();
    rows.map(|row| (row.path.to_string(), row.version))
        .collect()
}

#[tokio::test]
async fn a_file_is_planned_decided_and_applied() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let mut ids = Vec::new();
    for (at, value) in [
        ("project/x/SAME", "stored"),
        ("project/x/OTHER", "stored"),
        ("project/x/LEFT", "stored"),
        ("project/x/OFF", "stored"),
        ("project/x/cased", "stored"),
        ("NEW", "elsewhere"),
    ] {
        ids.push(db.secret_create(&me, new(at, value)).await.unwrap());
    }
    let off = SecretEdit {
        active: Some(false),
        ..SecretEdit::default()
    };
    db.secret_edit(&me, ids[3], off).await.unwrap();

    let file = "NEW=first value\nSAME=stored\nOTHER=another value\nLEFT=another\nOFF=another\nCASED=x\n\
                TWICE=one\nTWICE=two\nno variable\nPIN=123\nURL=${A}\nGIT_TOKEN=ghp_0123456789\n";
    let import = keep(&db, &me, "project/x", file).await;
    assert_eq!(
        told(&import),
        [
            "1 project/x/NEW new",
            "2 project/x/SAME same",
            "3 project/x/OTHER different",
            "4 project/x/LEFT different",
            "5 project/x/OFF exists",
            "6 project/x/CASED project/x/cased is stored already, and differs only in upper and lower case.",
            "7 project/x/TWICE new",
            "8 project/x/TWICE new",
            "9 - There is no = in this line. A variable looks like NAME=value; a value of several lines needs quotes around it.",
            "10 project/x/PIN new",
            "11 project/x/URL new",
            "12 project/x/GIT_TOKEN new",
        ]
    );
    let twins: Vec<_> = import.twins().into_iter().collect();
    assert_eq!(twins, [("project/x/twice".to_owned(), vec![7, 8])]);
    let notes = |at: usize| import.lines[at - 1].notes.as_slice();
    assert_eq!(notes(1), []);
    assert_eq!(notes(5), [Note::Closed]);
    assert_eq!(notes(10), [Note::Short]);
    assert_eq!(notes(11), [Note::Reference, Note::Short]);
    assert_eq!(notes(12), [Note::Refused]);

    // What cannot be taken, and two of one path, are refused, and the import waits on.
    for (take, says) in [
        (&[][..], "at least one line"),
        (&[2], "at least one line"),
        (&[1, 6], "Only lines"),
        (&[1, 99], "Only lines"),
        (&[1, 7, 8], "Lines 7 and 8"),
    ] {
        let refused = refusal(apply(&db, &me, &import, take).await);
        assert_eq!(refused.field.as_deref(), Some("take"));
        assert!(refused.detail.contains(says), "{}", refused.detail);
    }
    let before = stored(&db, &me).await;
    assert_eq!(before.len(), 6);

    let done = apply(&db, &me, &import, &[1, 3, 8, 10]).await.unwrap();
    let expected = Imported {
        added: 3,
        replaced: 1,
        left_out: 8,
    };
    assert_eq!(done, expected);
    assert!(db.import_waiting(&me).await.unwrap().is_none());
    let now = stored(&db, &me).await;
    assert_eq!(now.len(), 9);
    for (at, value, version) in [
        ("project/x/NEW", "first value", 1),
        ("project/x/OTHER", "another value", 2),
        ("project/x/TWICE", "two", 1),
        ("project/x/PIN", "123", 1),
        ("project/x/LEFT", "stored", 1),
        ("NEW", "elsewhere", 1),
    ] {
        let shown = db
            .secret_show(&me, &own(&me), &path(at))
            .await
            .unwrap()
            .summary;
        assert_eq!(shown.version, version, "{at}");
        assert_eq!(shown.maskable, value.len() >= 6, "{at}");
        let same = db.secret_compare(&me, shown.id, text(value)).await;
        assert!(same.unwrap(), "{at}");
    }
    // Pressed again.
    let again = refusal(apply(&db, &me, &import, &[1]).await);
    assert_eq!(again.kind, RefusalKind::NotFound);

    let record = recorded(&database).await;
    let of_import: Vec<&str> = record
        .iter()
        .map(String::as_str)
        .filter(|row| row.ends_with("imported") || row.ends_with("for an import"))
        .collect();
    assert_eq!(
        of_import,
        [
            "user ann secret.compare done project/x/SAME 1 for an import",
            "user ann secret.compare done project/x/OTHER 1 for an import",
            "user ann secret.compare done project/x/LEFT 1 for an import",
            "user ann secret.create done project/x/NEW 1 imported",
            "user ann secret.replace done project/x/OTHER 2 imported",
            "user ann secret.create done project/x/PIN 1 imported",
            "user ann secret.create done project/x/TWICE 1 imported",
        ]
    );
}

#[tokio::test]
async fn what_changed_since_the_plan_stops_all_of_it() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let id = db.secret_create(&me, new("KEY", "stored")).await.unwrap();
    let file = "AAA=first\nKEY=another\nZZZ=last";
    let import = keep(&db, &me, "", file).await;
    let seen = recorded(&database).await.len();

    // Replaced since: the versions of both people would be lost one over the other.
    let by_hand = NewValue::Typed(text("by hand"));
    db.secret_replace(&me, id, 1, by_hand).await.unwrap();
    let refused = refusal(apply(&db, &me, &import, &[1, 2, 3]).await);
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert!(
        refused.detail.starts_with("KEY (line 2)"),
        "{}",
        refused.detail
    );
    assert_eq!(stored(&db, &me).await, [("KEY".to_owned(), 2)]);
    // Made since, in another case.
    let made = db.secret_create(&me, new("zzz", "by hand")).await.unwrap();
    let refused = refusal(apply(&db, &me, &import, &[1, 3]).await);
    assert_eq!(refused.kind, RefusalKind::Taken);
    assert_eq!(stored(&db, &me).await.len(), 2);
    assert_eq!(
        recorded(&database).await[seen..],
        [
            "user ann secret.replace done KEY 2",
            "user ann secret.replace refused KEY newer version exists",
            "user ann secret.create done zzz 1",
            "user ann secret.create refused path in use",
        ]
    );
    // What is still as it was can be taken: the import waits on.
    db.secret_delete(&me, made, None).await.unwrap();
    let done = apply(&db, &me, &import, &[1, 3]).await.unwrap();
    assert_eq!((done.added, done.left_out), (2, 1));

    // Renamed and deleted since.
    for gone in [false, true] {
        let import = keep(&db, &me, "", "AAA=newer\nBBB=newer").await;
        let shown = db
            .secret_show(&me, &own(&me), &path("AAA"))
            .await
            .unwrap()
            .summary;
        if gone {
            db.secret_delete(&me, shown.id, None).await.unwrap();
        } else {
            let rename = SecretEdit {
                path: Some(path("AAA_OLD")),
                ..SecretEdit::default()
            };
            db.secret_edit(&me, shown.id, rename).await.unwrap();
        }
        let refused = refusal(apply(&db, &me, &import, &[1, 2]).await);
        assert_eq!(refused.kind, RefusalKind::Conflict);
        assert!(db.secret_show(&me, &own(&me), &path("BBB")).await.is_err());
        if !gone {
            let back = SecretEdit {
                path: Some(path("AAA")),
                ..SecretEdit::default()
            };
            db.secret_edit(&me, shown.id, back).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_import_is_its_persons_alone_for_a_while() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let (ann_user, bob_user) = (
        add(&db, "ann@example.org").await,
        add(&db, "bob@example.org").await,
    );
    let (me, other) = (caller(&ann_user), caller(&bob_user));
    let nobody = Caller {
        actor: Actor::Anonymous(Presented::Nothing),
        origin: Origin::default(),
    };
    let import = keep(&db, &me, "", "KEY=sk-0123456789abcdef").await;

    // Nothing of it stands there to be read.
    let mut admin = database.admin_options.connect().await.unwrap();
    let row: String = sqlx::query(
        "select pending_imports::text || encode(sealed, 'escape') from pending_imports",
    )
    .fetch_one(&mut admin)
    .await
    .unwrap()
    .get(0);
    assert!(row.contains("KEY") && !row.contains("0123456789"), "{row}");

    assert!(db.import_waiting(&other).await.unwrap().is_none());
    for stranger in [&other, &nobody] {
        assert!(apply(&db, stranger, &import, &[1]).await.is_err());
        assert!(db.import_drop(stranger, import.id).await.is_err());
    }
    // In the hands of another it does not open, nor under another id.
    let moved = format!("update pending_imports set user_id = '{}'", bob_user.id);
    as_admin(&database, &moved).await;
    let opened = apply(&db, &other, &import, &[1]).await;
    assert!(matches!(opened, Err(sealport::store::Error::Broken(..))));
    as_admin(
        &database,
        &format!(
            "update pending_imports set user_id = '{}', id = gen_random_uuid()",
            ann_user.id
        ),
    )
    .await;
    let swapped = db.import_waiting(&me).await.unwrap().unwrap();
    let opened = apply(&db, &me, &swapped, &[1]).await;
    assert!(matches!(opened, Err(sealport::store::Error::Broken(..))));
    assert!(stored(&db, &me).await.is_empty() && stored(&db, &other).await.is_empty());

    // A newer one takes its place; one that is taken back is gone.
    let first = keep(&db, &me, "", "A=first").await;
    let second = keep(&db, &me, "", "B=second").await;
    let late = refusal(apply(&db, &me, &first, &[1]).await);
    assert_eq!(late.kind, RefusalKind::NotFound);
    assert_eq!(told(&second), ["1 B new"]);
    db.import_drop(&me, second.id).await.unwrap();
    let gone = refusal(db.import_drop(&me, second.id).await);
    assert_eq!(gone.kind, RefusalKind::NotFound);

    // And one that waited too long, for its person at once, for good with the next round.
    let old = keep(&db, &me, "", "C=third").await;
    let minutes = (old.expires_at - time::OffsetDateTime::now_utc()).whole_minutes();
    assert!((13..=15).contains(&minutes), "{minutes}");
    assert_eq!(db.retention_step().await.unwrap(), 0);
    as_admin(
        &database,
        "update pending_imports set expires_at = now() - interval '1 second'",
    )
    .await;
    assert!(db.import_waiting(&me).await.unwrap().is_none());
    let late = refusal(apply(&db, &me, &old, &[1]).await);
    assert_eq!(late.kind, RefusalKind::NotFound);
    assert_eq!(db.retention_step().await.unwrap(), 1);
    assert!(stored(&db, &me).await.is_empty());
}

#[tokio::test]
async fn a_file_compares_within_the_limit_of_all_doors() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let id = db.secret_create(&me, new("PIN", "0007")).await.unwrap();
    for _ in 0..5 {
        db.secret_compare(&me, id, text("guess")).await.unwrap();
    }
    // One file with many guesses is as many comparisons.
    let guesses: Vec<String> = (0..30).map(|n| format!("PIN={n:04}")).collect();
    let import = keep(&db, &me, "", &guesses.join("\n")).await;
    let count =
        |is: fn(&LineState) -> bool| import.lines.iter().filter(|line| is(&line.state)).count();
    assert_eq!(count(|state| *state == LineState::Different), 14);
    assert_eq!(count(|state| *state == LineState::Same), 1);
    assert_eq!(count(|state| *state == LineState::Exists), 15);
    let record = recorded(&database).await;
    let refused: Vec<_> = record
        .iter()
        .filter(|row| row.contains("refused"))
        .collect();
    assert_eq!(
        refused,
        ["user ann secret.compare refused PIN 1 too many comparisons"]
    );
    let over = refusal(db.secret_compare(&me, id, text("0007")).await);
    assert_eq!(over.kind, RefusalKind::TooMany);
}

#[tokio::test]
async fn a_damaged_secret_keeps_no_file_from_being_read() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    for at in ["BAD", "GOOD"] {
        db.secret_create(&me, new(at, "stored")).await.unwrap();
    }
    let damage =
        "update secret_versions set sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)
                  where secret_id = (select id from secrets where path = 'BAD')";
    as_admin(&database, damage).await;
    let import = keep(&db, &me, "", "BAD=stored\nGOOD=stored").await;
    assert_eq!(told(&import), ["1 BAD exists", "2 GOOD same"]);
    let done = apply(&db, &me, &import, &[1]).await.unwrap();
    assert_eq!(done.replaced, 1);
}

#[tokio::test]
async fn a_file_of_the_largest_size_goes_in_whole() {
    let database = common::new_database().await;
    let db = open(&database).await;
    let me = caller(&add(&db, "ann@example.org").await);
    let long = "x".repeat(2_000);
    let lines: Vec<String> = (0..500).map(|n| format!("KEY_{n}={n}{long}")).collect();
    let import = keep(&db, &me, "service/all", &lines.join("\n")).await;
    let all: Vec<u32> = (1..=500).collect();
    let done = apply(&db, &me, &import, &all).await.unwrap();
    assert_eq!((done.added, done.left_out), (500, 0));
    assert_eq!(stored(&db, &me).await.len(), 500);
    // The same file again: nothing is left to do.
    let again = keep(&db, &me, "service/all", &lines.join("\n")).await;
    assert!(again.lines.iter().all(|line| line.state == LineState::Same));
}
