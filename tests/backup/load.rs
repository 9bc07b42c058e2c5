//! A backup that is taken while people write, brought back elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sealport::model::actors::{Actor, Caller, Origin};
use sealport::model::paths::EnvName;
use sealport::store::secrets::NewValue;
use sealport::store::{DatabaseConfig, Db, KeySource};
use secrecy::SecretString;
use uuid::Uuid;

use crate::common::TestCluster;
use crate::program::{Place, column, key, said};
use crate::world::{World, brought, id, secret, text};

const PEOPLE: usize = 4;
const SECRETS: usize = 60;

/// What was acknowledged: secret and version, with the value.
type Written = BTreeMap<(Uuid, i32), String>;

fn value(secret: Uuid, version: i32) -> String {
    format!("sk-{secret}-{version}-{}", "x".repeat(300))
}

/// Replaces one secret after the other until it is told to stop.
async fn write(db: Db, who: Caller, secrets: Vec<Uuid>, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written::new();
    let mut version = 1;
    while !stop.load(Ordering::Relaxed) {
        for secret in &secrets {
            let next = value(*secret, version + 1);
            let made = db
                .secret_replace(&who, *secret, version, NewValue::Typed(next.clone().into()))
                .await
                .unwrap();
            written.insert((*secret, made), next);
        }
        version += 1;
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_under_load_is_restored_elsewhere_value_by_value() {
    let world = World::new().await;
    let place = Place::new();
    let mut written = Written::new();
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        let who = world.user(&format!("person{number}")).await;
        let mut secrets = Vec::new();
        for number in 0..SECRETS {
            let path = match number {
                0 => "service/crawl/OWN_KEY".to_owned(),
                number => format!("service/s{number}/KEY"),
            };
            let made = world.secret(&who, &path, "the first value").await;
            written.insert((made, 1), "the first value".into());
            secrets.push(made);
        }
        people.push((who, secrets));
    }
    let (ann, anns) = (people[0].0.clone(), people[0].1.clone());
    let bindings = vec![
        secret("KEY", anns[1]),
        text("PLAIN", "text"),
        brought("OWN_KEY"),
    ];
    let name = world.deployment(&ann, "crawl", bindings).await;
    let env = EnvName::parse("OWN_KEY").unwrap();
    let connected = world.db.connection_put(&ann, &name, &env, None, None).await;
    connected.unwrap();
    world.claim(Uuid::now_v7()).await;
    let token = world
        .db
        .gateway_token_create(&ann, &name, "laptop", None)
        .await
        .unwrap();
    let open = |db: &Db| {
        let (db, token) = (db.clone(), token.token.clone());
        async move {
            let token = SecretString::from(token);
            db.gateway_open(&token, "crawl", &Origin::default(), true)
                .await
        }
    };
    assert!(open(&world.db).await.is_ok());
    let before = written.clone();
    let recorded_before = column(&world.database, "select id::text from audit").await;

    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = people
        .iter()
        .map(|(who, secrets)| {
            tokio::spawn(write(
                world.db.clone(),
                who.clone(),
                secrets.clone(),
                stop.clone(),
            ))
        })
        .collect();
    // They are at it before the backup begins, and still when it has ended.
    let versions = "select count(*)::text from secret_versions";
    let there = |count: Vec<String>| count[0].parse::<usize>().unwrap();
    let at_first = there(column(&world.database, versions).await);
    while there(column(&world.database, versions).await) < at_first + 50 {
        tokio::task::yield_now().await;
    }
    // The record is sealed as it grows; what is not sealed yet is in the backup all the same.
    while column(&world.database, "select 1::text from audit_batches")
        .await
        .is_empty()
    {
        world.db.seal_step().await.unwrap();
    }
    let begun = Instant::now();
    let file = place.backup(&world.database, "store.age").await;
    let took = begun.elapsed();
    let at_last = there(column(&world.database, versions).await);
    while there(column(&world.database, versions).await) == at_last {
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    assert_eq!(place.files(), ["store.age"]);

    // Another cluster: other roles, other transaction ids.
    let elsewhere = TestCluster::start().await;
    let target = elsewhere.new_database().await;
    let begun = Instant::now();
    let restored = place.restore(&target, &file).await;
    assert!(restored.status.success(), "{}", said(&restored.stderr));
    let told = said(&restored.stdout);
    let db = Db::open(
        DatabaseConfig::new(
            target.app_options.clone(),
            Some(target.owner_options.clone()),
        ),
        KeySource::Variable(key().into()),
    )
    .await
    .unwrap();
    let restored_in = begun.elapsed();

    // The chain is whole, and goes on where transactions are numbered otherwise.
    let sealed = db.audit_verify(None).await.unwrap();
    assert_eq!(sealed.damage, None);
    assert!(sealed.rows > 0 && sealed.unsealed > 0, "{sealed:?}");
    while db.audit_verify(None).await.unwrap().unsealed > 0 {
        db.seal_step().await.unwrap();
    }
    let report = db.audit_verify(sealed.link).await.unwrap();
    assert_eq!(report.damage, None);

    // Every value: the same sealed bytes, each opens at its place, and the newest is what was written.
    let sealed = "select concat_ws(' ', secret_id, version, data_key_id, encode(sealed, 'hex')) from secret_versions";
    let back: BTreeSet<String> = column(&target, sealed).await.into_iter().collect();
    let source: BTreeSet<String> = column(&world.database, sealed).await.into_iter().collect();
    assert!(back.is_subset(&source));
    assert!(back.len() < source.len(), "nothing was written after it");
    let damage = db.damage().await.unwrap();
    assert_eq!((damage.damaged, damage.versions), (0, back.len() as u64));
    let newest = column(
        &target,
        "select concat_ws(' ', s.id, s.version, (select max(version) from secret_versions v where v.secret_id = s.id),
                 (select count(*) from secret_versions v where v.secret_id = s.id)) from secrets s",
    )
    .await;
    assert_eq!(newest.len(), PEOPLE * SECRETS);
    let mut compared = 0;
    for row in newest {
        let parts: Vec<&str> = row.split(' ').collect();
        let (secret, version): (Uuid, i32) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
        // One moment: a secret and its versions agree, and none of them is missing.
        assert_eq!((parts[1], parts[1]), (parts[2], parts[3]), "{row}");
        let (who, _) = people
            .iter()
            .find(|(_, secrets)| secrets.contains(&secret))
            .unwrap();
        let expected = &written[&(secret, version)];
        assert!(
            db.secret_compare(who, secret, expected.clone().into())
                .await
                .unwrap(),
            "{row}"
        );
        assert!(
            !db.secret_compare(who, secret, "another".into())
                .await
                .unwrap()
        );
        compared += 1;
    }
    // What was acknowledged before the backup began is in it.
    let pairs: BTreeSet<String> = column(
        &target,
        "select secret_id || ' ' || version from secret_versions",
    )
    .await
    .into_iter()
    .collect();
    for (secret, version) in before.keys() {
        assert!(pairs.contains(&format!("{secret} {version}")));
    }

    // What was connected is, to the same terms, and stays for use only.
    let connected = "select concat_ws(' ', c.env, c.terms = d.terms, s.use_only, c.secret_id) from connections c
        join deployments d on d.id = c.deployment_id join secrets s on s.id = c.secret_id";
    let expected = format!("OWN_KEY t t {}", anns[0]);
    assert_eq!(column(&target, connected).await, [expected.as_str()]);
    let env = "select description from bindings where per_user";
    assert_eq!(column(&target, env).await, ["The OWN_KEY of whoever calls"]);

    // The record: each line as it was, one for each version and no other.
    let lines = "select a::text from audit a where action not in ('store.restore', 'store.check')
                 and not (action = 'secret.compare')";
    let back_lines: BTreeSet<String> = column(&target, lines).await.into_iter().collect();
    let source_lines: BTreeSet<String> = column(&world.database, lines).await.into_iter().collect();
    assert!(back_lines.is_subset(&source_lines));
    for id in &recorded_before {
        assert!(back_lines.iter().any(|line| line.contains(id)), "{id}");
    }
    let made: BTreeSet<String> = column(
        &target,
        "select secret_id || ' ' || version from audit
         where action in ('secret.create', 'secret.replace') and outcome = 'done'",
    )
    .await
    .into_iter()
    .collect();
    assert_eq!(made, pairs);
    assert_eq!(
        column(
            &target,
            "select actor_name || ' ' || reason from audit where action = 'store.restore'"
        )
        .await,
        ["operator tokens were revoked, and deployments stopped"]
    );

    // Nothing acts by itself.
    assert!(open(&db).await.is_err());
    assert!(open(&world.db).await.is_ok());
    assert_eq!(
        column(
            &target,
            "select concat_ws(' ', wanted, state, reason, holder) from deployments"
        )
        .await,
        ["f stopped restored from a backup"]
    );
    assert_eq!(
        column(
            &target,
            "select concat_ws(' ', state, reason) from releases"
        )
        .await,
        ["failed restored from a backup"]
    );
    assert!(
        db.deployments_hold(Uuid::now_v7(), 60)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(db.release_claim(Uuid::now_v7()).await.unwrap().is_none());
    assert!(
        told.contains("Revoked 1 tokens and stopped 1 deployments"),
        "{told}"
    );

    // It goes on: numbers too.
    db.deployment_create(
        &ann,
        None,
        &crate::world::spec("another", vec![secret("KEY", anns[1])]),
    )
    .await
    .unwrap();
    assert_eq!(
        column(
            &target,
            "select ordinal::text from deployments order by ordinal"
        )
        .await,
        ["1", "2"]
    );
    let bob = Caller {
        actor: Actor::User(people[1].0.user().unwrap().clone()),
        origin: Origin::default(),
    };
    assert_ne!(id(&bob), id(&ann));
    assert!(
        db.secret_compare(&bob, anns[0], "x".into()).await.is_err(),
        "another's stays another's"
    );
    println!(
        "backup under load: {} versions and {} lines of the record in {took:.1?}, {} KiB, {} versions were written meanwhile; \
         restored elsewhere and opened in {restored_in:.1?}; {compared} newest values compared, {} sealed values the same",
        back.len(),
        back_lines.len(),
        std::fs::metadata(&file).unwrap().len() / 1024,
        source.len() - back.len(),
        back.len(),
    );
}
