//! Gateway tokens.

use sealport::model::actors::Origin;
use sealport::model::errors::{Refusal, RefusalKind};
use sealport::model::tokens::Opens;
use sealport::store::tokens::TOKEN_MAX_AGE_DAYS;
use secrecy::SecretString;
use time::{Duration, OffsetDateTime};

use crate::world::{World, assert_refused, id, refusal};

fn origin() -> Origin {
    Origin {
        address: Some("198.51.100.9".parse().unwrap()),
        agent: Some("an agent\n<script>".into()),
        request_id: Some("r-1".into()),
    }
}

impl World {
    async fn open(&self, token: &str, name: &str, record: bool) -> Result<(), Refusal> {
        let token = SecretString::from(token);
        match self.db.gateway_open(&token, name, &origin(), record).await {
            Ok(pass) => {
                assert_eq!(
                    Some(pass.deployment_id.to_string()),
                    self.text(&format!(
                        "select id::text from deployments where name = '{name}'"
                    ))
                    .await
                );
                Ok(())
            }
            Err(error) => Err(refusal::<()>(Err(error))),
        }
    }
}

#[tokio::test]
async fn a_token_opens_its_deployment_and_is_stored_as_a_hash() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let new = world
        .db
        .gateway_token_create(&ada, &name, " Claude Code ", None)
        .await
        .unwrap();
    let listed = world.db.tokens_list(&ada).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].id, listed[0].name.as_str()),
        (new.id, "Claude Code")
    );
    assert_eq!(
        (&listed[0].opens, listed[0].maker.as_str()),
        (&Opens::Gateway("crawl".into()), "ada")
    );
    assert_eq!(listed[0].last_used_at, None);
    let latest = OffsetDateTime::now_utc() + Duration::days(TOKEN_MAX_AGE_DAYS);
    assert!(listed[0].expires_at.unwrap() <= latest);

    world.open(&new.token, "crawl", true).await.unwrap();
    world.open(&new.token, "crawl", false).await.unwrap();
    assert!(
        world.db.tokens_list(&ada).await.unwrap()[0]
            .last_used_at
            .is_some()
    );
    // The access that was to go on record did, with who and from where.
    assert_eq!(
        world.record("gateway.connect").await,
        [("token".into(), "done".into(), String::new())]
    );
    let row = world
        .text("select concat_ws(' ', actor_name, deployment, host(address), agent, request_id) from audit where action = 'gateway.connect'")
        .await;
    assert_eq!(
        row.as_deref(),
        Some("Claude Code crawl 198.51.100.9 an agent<script> r-1")
    );
    assert_eq!(world.record("token.create").await.len(), 1);

    let dump = world.dump().await;
    assert!(dump.contains("Claude Code"));
    for at in 3..new.token.len() - 8 {
        assert!(
            !dump.contains(&new.token[at..at + 8]),
            "a piece of the token is in the dump"
        );
    }
}

#[tokio::test]
async fn every_other_token_gets_the_same_answer_and_is_on_record() {
    let world = World::new().await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let other = world.deployment(&ada, "other", vec![]).await;
    let eves = world.deployment(&eve, "eves", vec![]).await;
    let make = async |caller, name| {
        world
            .db
            .gateway_token_create(caller, name, "t", None)
            .await
            .unwrap()
    };
    let (good, expired, revoked) = (
        make(&ada, &name).await,
        make(&ada, &name).await,
        make(&ada, &name).await,
    );
    let (others, strangers) = (make(&ada, &other).await, make(&eve, &eves).await);
    world
        .sql(&format!(
            "alter table tokens disable trigger tokens_guard; \
             update tokens set expires_at = now() - interval '1 second' where id = '{}'; \
             alter table tokens enable trigger tokens_guard",
            expired.id
        ))
        .await;
    world.db.token_revoke(&ada, revoked.id).await.unwrap();
    world.db.token_revoke(&ada, revoked.id).await.unwrap();
    assert_eq!(world.record("token.revoke").await.len(), 1);

    world.open(&good.token, "crawl", false).await.unwrap();
    let answer = world.open(&others.token, "crawl", false).await.unwrap_err();
    assert_eq!(answer.kind, RefusalKind::Unauthenticated);
    let unknown = {
        // Well formed, from another installation.
        let elsewhere = World::new().await;
        let ada = elsewhere.user("ada").await;
        let name = elsewhere.deployment(&ada, "crawl", vec![]).await;
        elsewhere
            .db
            .gateway_token_create(&ada, &name, "t", None)
            .await
            .unwrap()
    };
    for (token, name) in [
        (strangers.token.as_str(), "crawl"),
        (&expired.token, "crawl"),
        (&revoked.token, "crawl"),
        (&unknown.token, "crawl"),
        (&good.token, "not-there"),
        (&good.token, "'; drop table tokens; --\0"),
        ("sp_typo", "crawl"),
        ("", "crawl"),
        (&good.token.replace("sp_", "sk_"), "crawl"),
        (&good.token[..51], "crawl"),
    ] {
        assert_eq!(
            world.open(token, name, false).await,
            Err(answer.clone()),
            "{name}"
        );
    }
    let ended = format!(
        "update users set ended_at = now() where id = '{}'",
        id(&ada)
    );
    world.sql(&format!("alter table users disable trigger users_guard; {ended}; alter table users enable trigger users_guard")).await;
    assert_eq!(world.open(&good.token, "crawl", false).await, Err(answer));

    let record = world.record("gateway.connect").await;
    let rows: Vec<(&str, &str)> = record
        .iter()
        .map(|row| (row.0.as_str(), row.2.as_str()))
        .collect();
    assert_eq!(
        rows,
        [
            ("token", "token of another deployment"),
            ("token", "token of another deployment"),
            ("token", "expired token"),
            ("token", "revoked token"),
            ("anonymous", "unknown token"),
            ("token", "token of another deployment"),
            ("token", "token of another deployment"),
            ("anonymous", "malformed token"),
            ("anonymous", "malformed token"),
            ("anonymous", "malformed token"),
            ("anonymous", "malformed token"),
            ("token", "ended account"),
        ]
    );
    assert!(record.iter().all(|row| row.1 == "refused"));
}

#[tokio::test]
async fn refused_tokens_are_on_record_some_in_each_minute() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let make = async || {
        let made = world.db.gateway_token_create(&ada, &name, "t", None).await;
        made.unwrap()
    };
    let (revoked, gone, good) = (make().await, make().await, make().await);
    world.db.token_revoke(&ada, revoked.id).await.unwrap();
    // Well formed, and nobody's.
    world
        .sql(&format!("delete from tokens where id = '{}'", gone.id))
        .await;
    let recorded = async |reason: &str| {
        let record = world.record("gateway.connect").await;
        record
            .iter()
            .filter(|row| row.2.starts_with(reason))
            .count()
    };
    for _ in 0..30 {
        for token in ["sp_malformed", &gone.token, &revoked.token] {
            assert!(world.open(token, "crawl", true).await.is_err());
        }
    }
    assert_eq!(recorded("revoked token").await, 20);
    // Two kinds of strangers' refusals share one address's places.
    let strangers = recorded("malformed token").await + recorded("unknown token").await;
    assert_eq!(strangers, 20);
    assert_eq!(recorded("revoked token, and more in this minute").await, 1);
    assert_eq!(recorded("unknown token, and more in this minute").await, 1);
    // Who is let in stands on record as ever.
    world.open(&good.token, "crawl", true).await.unwrap();
    let record = world.record("gateway.connect").await;
    assert_eq!(record.iter().filter(|row| row.1 == "done").count(), 1);
}

#[tokio::test]
async fn tokens_are_made_and_ended_by_those_whose_they_are() {
    let world = World::new().await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let db = &world.db;
    let stolen = db.gateway_token_create(&eve, &name, "mine", None).await;
    assert_refused(stolen, RefusalKind::NotFound, None);
    let now = OffsetDateTime::now_utc();
    for (label, expires_at, field) in [
        (" ", None, "name"),
        ("a\nb", None, "name"),
        (&*"x".repeat(101), None, "name"),
        ("t", Some(now - Duration::seconds(1)), "expires_at"),
        (
            "t",
            Some(now + Duration::days(TOKEN_MAX_AGE_DAYS + 1)),
            "expires_at",
        ),
    ] {
        let result = db
            .gateway_token_create(&ada, &name, label, expires_at)
            .await;
        assert_refused(result, RefusalKind::Invalid, Some(field));
    }
    assert_eq!(world.count("tokens").await, 0);
    let new = db
        .gateway_token_create(&ada, &name, "<script>'", Some(now + Duration::days(1)))
        .await
        .unwrap();
    assert!(db.tokens_list(&eve).await.unwrap().is_empty());
    assert_refused(
        db.token_revoke(&eve, new.id).await,
        RefusalKind::NotFound,
        None,
    );
    world.open(&new.token, "crawl", false).await.unwrap();
    assert_eq!(world.record("token.create").await.len(), 2);
    let refused = (
        "user".into(),
        "refused".into(),
        "no right to the token".into(),
    );
    assert_eq!(world.record("token.revoke").await, [refused]);

    // Destroyed with its deployment; a new one of the name has none of the old tokens.
    db.deployment_destroy(&ada, &name, "crawl").await.unwrap();
    world.deployment(&ada, "crawl", vec![]).await;
    assert!(world.open(&new.token, "crawl", false).await.is_err());
}
