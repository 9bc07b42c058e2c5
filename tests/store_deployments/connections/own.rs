//! A connected key is its caller’s alone, and nobody is shown it.

use sealport::model::actors::Caller;
use sealport::model::connections::{PersonState, SlotState};
use sealport::model::errors::RefusalKind;
use sealport::model::paths::SecretPath;
use sealport::model::targets::Target;
use sealport::store::deployment_changes::DeploymentChange;
use sealport::store::logs::NewLine;
use sealport::store::secrets::{NewValue, SecretEdit};
use secrecy::SecretString;
use uuid::Uuid;

use super::{House, VALUE, typed};
use crate::world::{assert_refused, brought, id, refusal, secret};

/// By SQL alone, whatever the functions ask.
#[tokio::test]
async fn only_ones_own_key_is_connected_and_only_by_oneself() {
    let house = House::new().await;
    let (bob, cat) = (&house.bob, &house.cat);
    let key = house.connected().await;
    let catskey = house
        .world
        .secret(cat, "service/desk/DESK_KEY", "cat's value")
        .await;
    let bobs_other = house
        .world
        .secret(bob, "OTHER", "not given to anybody")
        .await;
    let connect = |env: &str, user: &str, secret: String| {
        format!(
            "insert into connections (deployment_id, owner_id, user_id, env, secret_id, terms, agreed) \
             values ('{{deployment}}', '{{ann}}', '{user}', '{env}', '{secret}', 1, '{{}}')"
        )
    };
    let no = || Err("42501".to_owned());
    for (who, what, sql) in [
        (
            bob,
            "another's secret",
            connect("X", "{bob}", "{anns_key}".into()),
        ),
        (
            bob,
            "another's use-only secret",
            connect("X", "{bob}", catskey.to_string()),
        ),
        (
            bob,
            "one that is not for use only",
            connect("X", "{bob}", bobs_other.to_string()),
        ),
        (
            bob,
            "in another's name",
            connect("X", "{cat}", key.to_string()),
        ),
        (
            cat,
            "where one may not call",
            connect("X", "{cat}", catskey.to_string()),
        ),
        (
            &house.ann,
            "in a caller's name",
            connect("X", "{bob}", key.to_string()),
        ),
    ] {
        assert_eq!(house.sql_as(who, &sql).await, no(), "{what}");
    }
    let replace =
        format!("update connections set secret_id = '{bobs_other}' where user_id = '{{bob}}'");
    assert_eq!(house.sql_as(bob, &replace).await, no());
    // Seen by whose it is, and by whoever may change the deployment; changed and ended by whose it is alone.
    for (who, sees, changes) in [(bob, 1, 1), (&house.ann, 1, 0), (cat, 0, 0)] {
        let all = "select 1 from connections";
        assert_eq!(house.sql_as(who, all).await, Ok(sees));
        let change = "update connections set connected_at = now()";
        assert_eq!(house.sql_as(who, change).await, Ok(changes));
    }
    for who in [&house.ann, cat] {
        assert_eq!(house.sql_as(who, "delete from connections").await, Ok(0));
    }
    // For use only, for good; and the secret itself is nobody else's to see.
    let free = format!("update secrets set use_only = false where id = '{key}'");
    assert_eq!(house.sql_as(bob, &free).await, no());
    for who in [&house.ann, cat] {
        let seen = format!("select 1 from secrets where id = '{key}'");
        assert_eq!(house.sql_as(who, &seen).await, Ok(0));
        assert_eq!(house.sql_as(who, &free).await, Ok(0));
    }
    assert_eq!(house.world.count("secrets where use_only").await, 1);
    // Neither does it become another's with a move of the connection.
    let moved = "update connections set user_id = '{cat}'";
    assert_eq!(house.sql_as(bob, moved).await, no());
    assert!(house.page(bob).await.is_connected());
}

#[tokio::test]
async fn a_connected_key_stays_for_use_only() {
    let house = House::new().await;
    let (db, bob) = (&house.world.db, &house.bob);
    let key = house.connected().await;
    house
        .put(bob, None, typed("the second value"))
        .await
        .unwrap();
    let renamed = SecretEdit {
        path: Some(SecretPath::parse("project/mine/KEY").unwrap()),
        ..SecretEdit::default()
    };
    db.secret_edit(bob, key, renamed).await.unwrap();
    db.secret_roll_back(bob, key, 2, 1).await.unwrap();
    let value = NewValue::Typed(SecretString::from("the fourth value"));
    db.secret_replace(bob, key, 3, value).await.unwrap();
    let for_use = format!("secrets where use_only and id = '{key}'");
    assert_eq!(house.world.count(&for_use).await, 1);
    let terms = house.terms().await;
    assert_eq!(house.versions().await, format!("{terms} DESK_KEY={key}@4"));
}

/// What was bound elsewhere before is not used there any more: it was given to one deployment and to nobody else.
#[tokio::test]
async fn what_used_a_key_before_it_was_connected_uses_it_no_more() {
    let house = House::new().await;
    let (world, db, bob) = (&house.world, &house.world.db, &house.bob);
    let key = world.secret(bob, "service/desk/DESK_KEY", VALUE).await;
    let name = world
        .deployment(bob, "other", vec![secret("KEY", key)])
        .await;
    let other: Uuid = world
        .text("select id::text from deployments where name = 'other'")
        .await
        .unwrap()
        .parse()
        .unwrap();
    db.bindings_open(other, id(bob), 1).await.unwrap();
    db.fetch_key_open(id(bob), key, "npm:x").await.unwrap();
    let check = || db.provider_key_open_to_check(bob, key, Target::Render);
    check().await.unwrap();

    assert_eq!(house.connected().await, key);
    let refused = refusal(db.bindings_open(other, id(bob), 1).await);
    assert_eq!(refused.kind, RefusalKind::Denied);
    assert_eq!(
        refused.detail,
        "KEY needs the secret service/desk/DESK_KEY, which was connected to a deployment for that one’s use only. Bind another secret."
    );
    let fetched = db.fetch_key_open(id(bob), key, "npm:x").await;
    assert_refused(fetched, RefusalKind::Denied, Some("fetch_key"));
    assert_refused(check().await, RefusalKind::Denied, Some("key"));
    let record = world.record("secret.bind").await;
    let refused = record
        .iter()
        .filter(|row| row.1 == "refused" && row.2 == "the secret is for use only");
    assert_eq!(refused.count(), 3, "{record:?}");
    // Its page says so before the next start.
    let shown = db.deployment_show(bob, &name).await.unwrap();
    assert!(shown.bindings[0].lost.is_some());
    // Nor does it become a key of another deployment, by SQL alone.
    for sql in [
        format!("update deployments set fetch_key = '{key}' where id = '{other}'"),
        format!(
            "update deployments set target = 'render', provider_key = '{key}' where id = '{other}'"
        ),
    ] {
        assert_eq!(house.sql_as(bob, &sql).await, Err("42501".into()), "{sql}");
    }
    // Where it was given to, it is used.
    let versions = house.versions().await;
    assert_eq!(house.opened(&versions).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_owner_sees_who_is_connected_and_nobody_else_does() {
    let house = House::new().await;
    let db = &house.world.db;
    let people = async |who: &Caller| db.connected_people(who, &house.name).await.unwrap();
    assert!(people(&house.ann).await.is_empty());
    house.connected().await;
    let seen = people(&house.ann).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].handle.as_str(), seen[0].state),
        ("bob", PersonState::Connected)
    );
    assert!(people(&house.bob).await.is_empty());
    assert!(people(&house.cat).await.is_empty());
    let bindings = vec![brought("DESK_KEY"), brought("MORE")];
    house
        .change(DeploymentChange {
            bindings: Some(bindings),
            ..DeploymentChange::default()
        })
        .await;
    assert_eq!(people(&house.ann).await[0].state, PersonState::Missing);
    // What was connected is not hers to see.
    let slot = house.slot(&house.ann).await;
    assert_eq!((slot.state, slot.secret_id), (SlotState::Missing, None));
}

/// A log of an instance is its caller's, also for whoever owns the server, and by SQL.
#[tokio::test]
async fn the_log_of_an_instance_is_its_callers_alone() {
    let house = House::new().await;
    let db = &house.world.db;
    house.world.claim(Uuid::now_v7()).await;
    let line = |text: &str| NewLine {
        stream: "stdout",
        line: text.to_owned(),
    };
    let append = async |user: Option<&Caller>, text: &str| {
        db.log_append_of(house.deployment, 1, user.map(id), &[line(text)])
            .await
            .unwrap();
    };
    append(None, "everybody's").await;
    append(Some(&house.bob), "bob's").await;
    append(Some(&house.ann), "ann's").await;
    let own = async |who: &Caller| -> Vec<String> {
        let lines = db.own_log_read(who, &house.name, 100).await.unwrap();
        lines.into_iter().map(|line| line.line).collect()
    };
    assert_eq!(own(&house.bob).await, ["bob's"]);
    assert_eq!(own(&house.ann).await, ["ann's"]);
    assert_refused(
        db.own_log_read(&house.cat, &house.name, 100).await,
        RefusalKind::NotFound,
        None,
    );
    let common = db
        .log_read(&house.ann, &house.name, None, 100)
        .await
        .unwrap();
    let common: Vec<&str> = common.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(common, ["everybody's"]);
    let after = db
        .log_read(&house.ann, &house.name, Some(0), 100)
        .await
        .unwrap();
    assert_eq!(after.len(), 1);
    for (who, sees) in [(&house.ann, 2), (&house.bob, 1), (&house.cat, 0)] {
        assert_eq!(house.sql_as(who, "select 1 from log_lines").await, Ok(sees));
    }
    let bobs = "select 1 from log_lines where user_id = '{bob}'";
    assert_eq!(house.sql_as(&house.ann, bobs).await, Ok(0));
    // Nobody writes into another's.
    let forged = "insert into log_lines (deployment_id, owner_id, number, stream, line, user_id) \
        values ('{deployment}', '{ann}', 1, 'stdout', 'forged', '{bob}')";
    assert_eq!(house.sql_as(&house.ann, forged).await, Err("42501".into()));
    // Each log has bounds of its own: a chatty caller takes nothing of the others'.
    let many: Vec<NewLine> = (0..500).map(|n| line(&n.to_string())).collect();
    for _ in 0..5 {
        db.log_append_of(house.deployment, 1, Some(id(&house.bob)), &many)
            .await
            .unwrap();
    }
    assert_eq!(own(&house.ann).await, ["ann's"]);
    let bobs = format!("log_lines where user_id = '{}'", id(&house.bob));
    assert!(house.world.count(&bobs).await <= 1_000 + 500);
}
