//! Sharing and teams through the store: who may give what to whom, what it opens at once, and what stands on record.

use std::collections::BTreeMap;

use sealport::model::actors::Caller;
use sealport::model::audit::AuditFilter;
use sealport::model::errors::RefusalKind;
use sealport::model::grants::{Shareable, Shared};
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, Folder, Handle};
use sealport::model::secrets::SecretSort;
use sealport::store::Db;
use sealport::store::secrets::{NewSecret, NewValue, SecretEdit};
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::opening::{as_admin, open};
use crate::people::{add, caller, recorded, refusal, text};
use crate::secrets::{new, own, path};

struct House {
    database: TestDatabase,
    db: Db,
    ann: Caller,
    bob: Caller,
    cat: Caller,
}

async fn house() -> House {
    let database = common::new_database().await;
    let db = open(&database).await;
    let mut people = Vec::new();
    for name in ["ann", "bob", "cat"] {
        people.push(caller(&add(&db, &format!("{name}@example.org")).await));
    }
    let [ann, bob, cat]: [Caller; 3] = people.try_into().unwrap();
    House {
        database,
        db,
        ann,
        bob,
        cat,
    }
}

fn secret(id: Uuid) -> Shareable {
    Shareable::Secret { id }
}

fn folder(of: &Caller, prefix: &str) -> Shareable {
    Shareable::Folder {
        owner: own(of),
        prefix: Folder::parse(prefix).unwrap(),
    }
}

fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}

impl House {
    /// What of Ann's secrets somebody lists.
    async fn sees(&self, who: &Caller) -> BTreeMap<String, Level> {
        let list = self.db.secrets_list(who, "", SecretSort::Path, 100).await;
        list.unwrap()
            .into_iter()
            .map(|row| (row.path.to_string(), row.level))
            .collect()
    }

    /// What each operation says, from what `use` allows to what `admin` does.
    async fn can(&self, who: &Caller, id: Uuid, version: i32) -> Vec<&'static str> {
        let db = &self.db;
        let mut can = Vec::new();
        if db
            .secrets_list(who, "", SecretSort::Path, 100)
            .await
            .unwrap()
            .iter()
            .any(|row| row.id == id)
        {
            can.push("see");
        }
        if db.secret_compare(who, id, text("guess")).await.is_ok() {
            can.push("compare");
        }
        if db.secret_edit(who, id, SecretEdit::default()).await.is_ok() {
            can.push("edit");
        }
        // An old version: it is refused either way, as a conflict only where it would be allowed.
        let typed = NewValue::Typed(text("x"));
        if refusal(db.secret_replace(who, id, version - 1, typed).await).kind
            == RefusalKind::Conflict
        {
            can.push("replace");
        }
        if db.reachers(who, &secret(id)).await.is_ok() {
            can.push("share");
        }
        can
    }
}

fn about(path: &str, action: &str) -> AuditFilter {
    AuditFilter {
        path: path.into(),
        action: action.into(),
        ..AuditFilter::default()
    }
}

#[tokio::test]
async fn each_level_opens_what_it_says_and_is_taken_back_at_once() {
    let house = house().await;
    let (db, ann, bob) = (&house.db, &house.ann, &house.bob);
    let id = db.secret_create(ann, new("KEY", "value")).await.unwrap();
    assert!(house.can(bob, id, 1).await.is_empty());
    let mut grant = Uuid::nil();
    for (level, can) in [
        (Level::Use, vec!["see"]),
        (Level::Read, vec!["see", "compare"]),
        (Level::Write, vec!["see", "compare", "edit", "replace"]),
        (
            Level::Admin,
            vec!["see", "compare", "edit", "replace", "share"],
        ),
        (Level::Use, vec!["see"]),
    ] {
        // By e-mail address in another case, then by handle: it is the same person.
        let named = if level == Level::Use {
            " Bob@Example.org "
        } else {
            "bob"
        };
        let given = db.share(ann, &secret(id), named, level, &[]).await.unwrap();
        assert!(grant.is_nil() || grant == given, "changed, not added");
        grant = given;
        assert_eq!(house.can(bob, id, 1).await, can, "{level:?}");
        assert_eq!(
            house.sees(bob).await,
            BTreeMap::from([("KEY".to_owned(), level)])
        );
    }
    // A rename keeps it, and needs admin.
    let rename = |to: &str| SecretEdit {
        path: Some(path(to)),
        ..SecretEdit::default()
    };
    db.share(ann, &secret(id), "bob", Level::Write, &[])
        .await
        .unwrap();
    assert_eq!(
        refusal(db.secret_edit(bob, id, rename("OTHER")).await).kind,
        RefusalKind::Denied
    );
    assert_eq!(
        refusal(db.secret_delete(bob, id, None).await).kind,
        RefusalKind::Denied
    );
    db.secret_edit(ann, id, rename("OTHER")).await.unwrap();
    assert_eq!(
        house.sees(bob).await,
        BTreeMap::from([("OTHER".to_owned(), Level::Write)])
    );

    db.unshare(ann, grant).await.unwrap();
    assert!(house.can(bob, id, 1).await.is_empty());
    assert_eq!(
        refusal(db.unshare(ann, grant).await).kind,
        RefusalKind::NotFound
    );
    let rows = recorded(&house.database).await;
    assert_eq!(
        rows.iter()
            .filter(|row| row.starts_with("user ann share done"))
            .count(),
        6
    );
    let list = db
        .audit_list(ann, &about("", "unshare"), None, 10)
        .await
        .unwrap();
    let taken = list.iter().find(|row| row.outcome == "done").unwrap();
    assert_eq!(
        (
            taken.grantee.as_deref(),
            taken.level.as_deref(),
            taken.path.as_deref()
        ),
        (Some("bob"), Some("write"), Some("OTHER"))
    );
}

#[tokio::test]
async fn only_admins_share_and_nobody_is_shared_with_who_is_not_there() {
    let house = house().await;
    let (db, ann, bob, cat) = (&house.db, &house.ann, &house.bob, &house.cat);
    let id = db
        .secret_create(ann, new("project/shop/KEY", "value"))
        .await
        .unwrap();
    for (who, with, kind, field) in [
        (
            ann,
            "nobody@example.org",
            RefusalKind::Invalid,
            Some("with"),
        ),
        (ann, "no-one", RefusalKind::Invalid, Some("with")),
        (ann, "No Handle", RefusalKind::Invalid, Some("with")),
        (ann, "ann", RefusalKind::Invalid, Some("with")),
        (ann, "ann@example.org", RefusalKind::Invalid, Some("with")),
        (bob, "cat", RefusalKind::NotFound, None),
    ] {
        for on in [secret(id), folder(ann, "project/shop")] {
            let refused = refusal(db.share(who, &on, with, Level::Use, &[]).await);
            assert_eq!(
                (refused.kind, refused.field.as_deref()),
                (kind, field),
                "{with}"
            );
        }
    }
    // With write one shares nothing, with admin on one secret not its folder.
    db.share(ann, &secret(id), "bob", Level::Write, &[])
        .await
        .unwrap();
    let low = refusal(db.share(bob, &secret(id), "cat", Level::Use, &[]).await);
    assert_eq!(low.kind, RefusalKind::Denied);
    db.share(ann, &secret(id), "bob", Level::Admin, &[])
        .await
        .unwrap();
    db.share(bob, &secret(id), "cat", Level::Read, &[])
        .await
        .unwrap();
    let outside = refusal(
        db.share(bob, &folder(ann, "project/shop"), "cat", Level::Use, &[])
            .await,
    );
    assert_eq!(outside.kind, RefusalKind::NotFound);
    // The owner stays what they are, whatever an admin does.
    let found = db.reachers(bob, &secret(id)).await.unwrap();
    // His own last: with it goes his right to the others.
    for grant in found.grants.iter().rev() {
        db.unshare(bob, grant.id).await.unwrap();
    }
    assert_eq!(house.sees(ann).await["project/shop/KEY"], Level::Admin);
    assert!(house.sees(cat).await.is_empty());

    // An account that has ended is given nothing.
    as_admin(
        &house.database,
        "update owners set ended_at = now() where handle = 'cat'",
    )
    .await;
    let ended = refusal(db.share(ann, &secret(id), "cat", Level::Use, &[]).await);
    assert_eq!(ended.field.as_deref(), Some("with"));
    assert!(ended.detail.contains("ended"), "{ended}");
}

#[tokio::test]
async fn a_folder_reaches_whole_segments_also_later_ones_and_a_path_made_anew_inherits_nothing_of_its_own()
 {
    let house = house().await;
    let (db, ann, bob, cat) = (&house.db, &house.ann, &house.bob, &house.cat);
    for at in [
        "project/shop/KEY",
        "project/shopping/KEY",
        "project/Shop2/KEY",
        "meta/shop/KEY",
    ] {
        db.secret_create(ann, new(at, "value")).await.unwrap();
    }
    db.share(ann, &folder(ann, "project/shop"), "bob", Level::Admin, &[])
        .await
        .unwrap();
    db.secret_create(ann, new("project/shop/deep/er/KEY", "value"))
        .await
        .unwrap();
    let seen: Vec<String> = house.sees(bob).await.into_keys().collect();
    assert_eq!(seen, ["project/shop/KEY", "project/shop/deep/er/KEY"]);
    // An admin of the folder shares what is in it, and nothing above or beside it.
    db.share(
        bob,
        &folder(ann, "project/shop/deep"),
        "cat",
        Level::Use,
        &[],
    )
    .await
    .unwrap();
    for outside in ["project", "project/shopping", "meta/shop"] {
        let refused = db
            .share(bob, &folder(ann, outside), "cat", Level::Use, &[])
            .await;
        assert_eq!(refusal(refused).kind, RefusalKind::NotFound, "{outside}");
    }
    assert_eq!(house.sees(cat).await.len(), 1);

    let id = db.secret_create(ann, new("LOOSE", "value")).await.unwrap();
    db.share(ann, &secret(id), "bob", Level::Read, &[])
        .await
        .unwrap();
    db.secret_delete(ann, id, None).await.unwrap();
    db.secret_create(ann, new("LOOSE", "another"))
        .await
        .unwrap();
    assert!(!house.sees(bob).await.contains_key("LOOSE"));
}

#[tokio::test]
async fn a_rename_says_who_gains_and_who_loses() {
    let house = house().await;
    let (db, ann) = (&house.db, &house.ann);
    let id = db
        .secret_create(ann, new("project/shop/KEY", "value"))
        .await
        .unwrap();
    db.team_create(ann, &handle("ops")).await.unwrap();
    for (prefix, who, level) in [
        ("project/shop", "bob", Level::Write),
        ("project/bank", "bob", Level::Use),
        ("project/bank", "ops", Level::Read),
        ("project", "cat", Level::Read),
    ] {
        db.share(ann, &folder(ann, prefix), who, level, &[])
            .await
            .unwrap();
    }
    let effect = db
        .rename_effect(ann, id, &path("project/bank/KEY"))
        .await
        .unwrap();
    let said: Vec<String> = effect.iter().map(|change| change.sentence()).collect();
    assert_eq!(
        said,
        ["bob has use instead of write", "the team ops gains read"]
    );
    let effect = db.rename_effect(ann, id, &path("KEY")).await.unwrap();
    let said: Vec<String> = effect.iter().map(|change| change.sentence()).collect();
    assert_eq!(said, ["bob loses write", "cat loses read"]);
    assert!(
        db.rename_effect(ann, id, &path("project/shop/OTHER"))
            .await
            .unwrap()
            .is_empty()
    );
    let refused = db.rename_effect(&house.bob, id, &path("KEY")).await;
    assert_eq!(refusal(refused).kind, RefusalKind::Denied);
}

/// A path can mean something by itself: which key a target takes, and who reaches what stands in a folder.
#[tokio::test]
async fn admin_of_one_secret_renames_it_within_its_folder_alone() {
    let house = house().await;
    let (db, ann, bob) = (&house.db, &house.ann, &house.bob);
    let bare = db.secret_create(ann, new("ONE", "value")).await.unwrap();
    let inside = db
        .secret_create(ann, new("project/shop/KEY", "value"))
        .await
        .unwrap();
    let beside = db
        .secret_create(ann, new("meta/render/taken", "value"))
        .await
        .unwrap();
    for id in [bare, inside, beside] {
        db.share(ann, &secret(id), "bob", Level::Admin, &[])
            .await
            .unwrap();
    }
    let rename = async |who: &Caller, id: Uuid, to: &str| {
        let edit = SecretEdit {
            path: Some(path(to)),
            ..SecretEdit::default()
        };
        db.secret_edit(who, id, edit).await
    };
    let mut tries = 0;
    for (id, to) in [
        (bare, "meta/render/api_key"),
        // The same answer, so nobody learns what is there.
        (bare, "meta/render/taken"),
        (bare, "service/desk/KEY"),
        (bare, "project/shop/ONE"),
        (inside, "project/shop/deep/KEY"),
        (inside, "project/Shop/KEY"),
        (inside, "KEY"),
        // In its own folder, but the key that a target takes by itself.
        (beside, "meta/render/api_key"),
        (beside, "meta/render/API_KEY"),
    ] {
        for refused in [
            refusal(rename(bob, id, to).await),
            refusal(db.rename_effect(bob, id, &path(to)).await),
        ] {
            assert_eq!(
                (refused.kind, refused.field.as_deref()),
                (RefusalKind::Denied, Some("path")),
                "{to}"
            );
            assert!(refused.detail.contains("an admin of its folder alone"));
            tries += 1;
        }
    }
    let rows = recorded(&house.database).await;
    let refused = rows
        .iter()
        .filter(|row| row.starts_with("user bob secret.edit refused"))
        .filter(|row| row.ends_with("no admin of the new folder"));
    assert_eq!(refused.count(), tries, "{rows:?}");
    rename(bob, beside, "meta/render/old").await.unwrap();
    rename(bob, bare, "TWO").await.unwrap();
    rename(bob, inside, "project/shop/OTHER").await.unwrap();

    // By the folder it goes, with admin of that one.
    db.share(ann, &folder(ann, "project/bank"), "bob", Level::Write, &[])
        .await
        .unwrap();
    assert!(rename(bob, inside, "project/bank/KEY").await.is_err());
    db.share(ann, &folder(ann, "project/bank"), "bob", Level::Admin, &[])
        .await
        .unwrap();
    rename(bob, inside, "project/bank/deep/KEY").await.unwrap();
    rename(ann, bare, "meta/render/api_key").await.unwrap();
}

#[tokio::test]
async fn who_can_reach_this_is_whole_for_every_admin_of_it() {
    let house = house().await;
    let (db, ann, bob, cat) = (&house.db, &house.ann, &house.bob, &house.cat);
    let id = db
        .secret_create(ann, new("project/shop/KEY", "value"))
        .await
        .unwrap();
    db.team_create(cat, &handle("ops")).await.unwrap();
    db.share(ann, &folder(ann, "project"), "ops", Level::Read, &[])
        .await
        .unwrap();
    db.share(ann, &secret(id), "bob", Level::Admin, &[])
        .await
        .unwrap();
    let only = [DeploymentName::parse("weather").unwrap()];
    db.share(bob, &secret(id), "cat", Level::Use, &only)
        .await
        .unwrap();
    // Bob administers the secret alone: he sees all who reach it, and can end what is on it.
    let found = db.reachers(bob, &secret(id)).await.unwrap();
    assert_eq!(
        (found.owner.handle.as_str(), found.members.len()),
        ("ann", 0)
    );
    let rows: Vec<_> = found
        .grants
        .iter()
        .map(|grant| {
            let on = matches!(grant.on, Shared::Folder { .. });
            (
                grant.grantee.handle.as_str(),
                grant.level,
                on,
                grant.endable,
                grant.only.len(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("bob", Level::Admin, false, true, 0),
            ("cat", Level::Use, false, true, 1),
            ("ops", Level::Read, true, false, 0),
        ]
    );
    assert_eq!(found.through, [("ops".to_owned(), "cat".to_owned())]);
    // Narrowing is for use of secrets.
    for (on, level) in [
        (secret(id), Level::Read),
        (folder(ann, "project"), Level::Write),
    ] {
        let refused = refusal(db.share(ann, &on, "cat", level, &only).await);
        assert_eq!(refused.field.as_deref(), Some("only"));
    }

    // What can this person do: Ann sees what is hers, Cat all of her own, Bob what he administers.
    let reach = |who: &'static str| (who, handle(who));
    for (viewer, (who, of), grants, teams, is_self) in [
        (ann, reach("cat"), 2, 1, false),
        (cat, reach("cat"), 2, 1, true),
        (bob, reach("cat"), 1, 0, false),
        (ann, reach("ops"), 1, 0, false),
        (cat, reach("bob"), 0, 0, false),
        (bob, reach("bob"), 1, 0, true),
    ] {
        let found = db.holder_reach(viewer, &of).await.unwrap();
        assert_eq!(
            (found.grants.len(), found.teams.len(), found.is_self),
            (grants, teams, is_self),
            "{who} seen by {:?}",
            viewer.user().unwrap().handle
        );
    }
    // Given back by the grantee, and for a team by its admin.
    let mine = db.holder_reach(cat, &handle("cat")).await.unwrap();
    for grant in &mine.grants {
        assert!(grant.endable);
        db.unshare(cat, grant.id).await.unwrap();
    }
    assert!(house.sees(cat).await.is_empty());
}

#[tokio::test]
async fn a_team_reaches_by_the_levels_of_its_members() {
    let house = house().await;
    let (db, ann, bob, cat) = (&house.db, &house.ann, &house.bob, &house.cat);
    db.team_create(ann, &handle("ops")).await.unwrap();
    for taken in ["ops", "bob"] {
        let refused = refusal(db.team_create(bob, &handle(taken)).await);
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (RefusalKind::Taken, Some("handle"))
        );
    }
    let made = |who: &'static str| NewSecret {
        tags: Vec::new(),
        owner: Some(handle("ops")),
        ..new(who, "value")
    };
    let id = db.secret_create(ann, made("TEAM_KEY")).await.unwrap();
    let stranger = refusal(db.secret_create(bob, made("BOBS")).await);
    assert_eq!(
        (stranger.kind, stranger.field.as_deref()),
        (RefusalKind::Denied, Some("owner"))
    );
    let rows = recorded(&house.database).await;
    let refused = "user bob secret.create refused no right to the owner";
    assert!(rows.contains(&refused.to_owned()), "{rows:?}");
    assert_eq!(
        refusal(db.team_show(bob, &handle("ops")).await).kind,
        RefusalKind::NotFound
    );
    for (level, can) in [
        (Level::Use, vec!["see"]),
        (Level::Read, vec!["see", "compare"]),
        (Level::Write, vec!["see", "compare", "edit", "replace"]),
        (
            Level::Admin,
            vec!["see", "compare", "edit", "replace", "share"],
        ),
    ] {
        db.team_member_set(ann, &handle("ops"), "bob@example.org", level)
            .await
            .unwrap();
        assert_eq!(house.can(bob, id, 1).await, can, "{level:?}");
        let created = db
            .secret_create(bob, made(["A", "B", "C", "D"][level as usize - 1]))
            .await;
        assert_eq!(created.is_ok(), level >= Level::Write, "{level:?}");
    }
    let shown = db
        .secret_show(bob, &handle("ops"), &path("TEAM_KEY"))
        .await
        .unwrap();
    assert_eq!(
        (shown.summary.owner.as_str(), shown.summary.level),
        ("ops", Level::Admin)
    );
    let team = db.team_show(bob, &handle("ops")).await.unwrap();
    assert_eq!((team.members.len(), team.secrets.len()), (2, 3));

    // A team of a team is none, and what is shared with the team is its members'.
    let refused = refusal(
        db.team_member_set(ann, &handle("ops"), "ops", Level::Use)
            .await,
    );
    assert_eq!(refused.field.as_deref(), Some("with"));
    let shared = db.secret_create(cat, new("CATS", "value")).await.unwrap();
    db.share(cat, &secret(shared), "ops", Level::Read, &[])
        .await
        .unwrap();
    assert_eq!(house.sees(bob).await["CATS"], Level::Read);
    db.team_member_remove(ann, &handle("ops"), &handle("bob"))
        .await
        .unwrap();
    assert!(house.sees(bob).await.is_empty());
    assert!(house.can(bob, id, 1).await.is_empty());
    // The owner is a team: all who administer it see its record.
    let list = db
        .audit_list(ann, &about("TEAM_KEY", ""), None, 50)
        .await
        .unwrap();
    assert!(list.iter().any(|row| row.actor_name == "bob"));
}

#[tokio::test]
async fn a_team_keeps_an_admin_whoever_leaves_at_once() {
    let house = house().await;
    let (db, ann, bob) = (&house.db, &house.ann, &house.bob);
    let ops = handle("ops");
    db.team_create(ann, &ops).await.unwrap();
    for refused in [
        db.team_member_remove(ann, &ops, &own(ann)).await,
        db.team_member_set(ann, &ops, "ann", Level::Write)
            .await
            .map(drop),
    ] {
        assert_eq!(refusal(refused).kind, RefusalKind::Conflict);
    }
    db.team_member_set(ann, &ops, "bob", Level::Write)
        .await
        .unwrap();
    let low = refusal(db.team_member_set(bob, &ops, "bob", Level::Admin).await);
    assert_eq!(low.kind, RefusalKind::Denied);
    let low = refusal(db.team_member_remove(bob, &ops, &own(ann)).await);
    assert_eq!(low.kind, RefusalKind::Denied);
    for _ in 0..5 {
        db.team_member_set(ann, &ops, "bob", Level::Admin)
            .await
            .unwrap();
        // One leaves and the other steps down, in the same moment.
        let me = own(ann);
        let (one, other) = tokio::join!(
            db.team_member_remove(ann, &ops, &me),
            db.team_member_set(bob, &ops, "bob", Level::Use)
        );
        assert!(one.is_ok() ^ other.is_ok(), "{one:?} {other:?}");
        let stays = if one.is_ok() { bob } else { ann };
        let team = db.team_show(stays, &ops).await.unwrap();
        assert_eq!(team.level, Level::Admin);
        db.team_member_set(stays, &ops, "ann", Level::Admin)
            .await
            .unwrap();
    }
    // An account that has ended does not count as one who is there.
    db.team_member_set(ann, &ops, "bob", Level::Admin)
        .await
        .unwrap();
    as_admin(
        &house.database,
        "update owners set ended_at = now() where handle = 'bob'",
    )
    .await;
    let last = refusal(db.team_member_remove(ann, &ops, &own(ann)).await);
    assert_eq!(last.kind, RefusalKind::Conflict);
}

#[tokio::test]
async fn a_team_that_owns_nothing_is_dissolved_for_good() {
    let house = house().await;
    let (db, ann, bob, cat) = (&house.db, &house.ann, &house.bob, &house.cat);
    let ops = handle("ops");
    db.team_create(ann, &ops).await.unwrap();
    db.team_member_set(ann, &ops, "bob", Level::Write)
        .await
        .unwrap();
    let shared = db.secret_create(cat, new("CATS", "value")).await.unwrap();
    db.share(cat, &secret(shared), "ops", Level::Read, &[])
        .await
        .unwrap();
    let teams = NewSecret {
        tags: Vec::new(),
        owner: Some(ops.clone()),
        ..new("TEAM_KEY", "value")
    };
    let id = db.secret_create(bob, teams).await.unwrap();
    assert_eq!(
        refusal(db.team_dissolve(bob, &ops).await).kind,
        RefusalKind::Denied
    );
    assert_eq!(
        refusal(db.team_dissolve(cat, &ops).await).kind,
        RefusalKind::NotFound
    );
    let full = refusal(db.team_dissolve(ann, &ops).await);
    assert_eq!(full.kind, RefusalKind::Conflict);
    db.secret_delete(ann, id, None).await.unwrap();
    db.team_dissolve(ann, &ops).await.unwrap();
    for who in [ann, bob] {
        assert!(house.sees(who).await.is_empty());
        assert!(db.teams_list(who).await.unwrap().is_empty());
        assert_eq!(
            refusal(db.team_show(who, &ops).await).kind,
            RefusalKind::NotFound
        );
    }
    assert!(
        db.reachers(cat, &secret(shared))
            .await
            .unwrap()
            .grants
            .is_empty()
    );
    assert_eq!(
        refusal(db.team_create(ann, &ops).await).kind,
        RefusalKind::Taken
    );
    let gone = refusal(db.share(cat, &secret(shared), "ops", Level::Use, &[]).await);
    assert!(gone.detail.contains("has ended"), "{gone}");
    let rows = recorded(&house.database).await;
    for action in ["team.create", "team.member", "team.dissolve"] {
        let done = format!("user ann {action} done");
        assert!(rows.iter().any(|row| row.starts_with(&done)), "{action}");
    }
}

#[tokio::test]
async fn names_of_nobody_are_not_gone_through() {
    let house = house().await;
    let (db, ann) = (&house.db, &house.ann);
    let id = db.secret_create(ann, new("KEY", "value")).await.unwrap();
    let mut kinds = Vec::new();
    for number in 0..70 {
        let named = format!("user{number}@example.org");
        kinds.push(refusal(db.share(ann, &secret(id), &named, Level::Use, &[]).await).kind);
    }
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == RefusalKind::TooMany)
            .count(),
        10
    );
    // The first of them: each one would let anybody fill the record.
    let rows = recorded(&house.database).await;
    let refused = rows
        .iter()
        .filter(|row| *row == "user ann share refused KEY too many names of nobody");
    assert_eq!(refused.count(), 1, "{rows:?}");
}
