//! Calls of one token that stand at the gateway's door at once share the question whether they may pass.

use std::net::IpAddr;

use sealport::model::actors::Origin;
use sealport::store::Error;
use sealport::store::gateway::{CallersKeys, GatewayPass};
use secrecy::SecretString;
use sqlx::{PgConnection, raw_sql};
use tokio::task::JoinHandle;

use crate::common::waiting::held_up;
use crate::world::World;

/// As many as one token asks besides the first.
const CALLS: u8 = 40;

type Call = JoinHandle<Result<GatewayPass, Error>>;

/// A call that is asked about until it is let go.
struct Door {
    world: World,
    token: SecretString,
    /// Has locked the token's row: a first call passes, and notes that the token is in use.
    holding: PgConnection,
    first: Call,
}

impl Door {
    async fn new() -> Door {
        let world = World::new().await;
        let ada = world.user("ada").await;
        let name = world.deployment(&ada, "crawl", vec![]).await;
        world.deployment(&ada, "other", vec![]).await;
        let made = world.db.gateway_token_create(&ada, &name, "t", None).await;
        let token = SecretString::from(made.unwrap().token.as_str());
        // Counts the questions.
        world
            .sql(
                "alter function gateway_open(text, text, uuid, boolean, text, inet, text, text) rename to gateway_open_counted; \
                 create sequence asked; grant usage on sequence asked to sealport_server; \
                 create function gateway_open(text, text, uuid, boolean, text, inet, text, text) \
                   returns table (token_id uuid, deployment_id uuid, refused text, user_id uuid, per_user boolean, versions text, missing text[]) \
                   language sql volatile as 'select nextval(''asked''); select * from gateway_open_counted($1, $2, $3, $4, $5, $6, $7, $8)'; \
                 grant execute on function gateway_open(text, text, uuid, boolean, text, inet, text, text) to sealport_server",
            )
            .await;
        let mut holding = world.admin().await;
        raw_sql("begin; select from tokens for update")
            .execute(&mut holding)
            .await
            .unwrap();
        let first = call(&world, &token, "crawl", CALLS, false);
        held_up(&world.database.admin_options, 1, &first).await;
        Door {
            world,
            token,
            holding,
            first,
        }
    }

    /// As many as come meanwhile; the place of each is the end of its address.
    async fn meanwhile(&self, wish: impl Fn(u8) -> (&'static str, bool)) -> Vec<Call> {
        let calls = (0..CALLS)
            .map(|number| {
                let (name, record) = wish(number);
                call(&self.world, &self.token, name, number, record)
            })
            .collect();
        // In this one thread each of them goes as far as it can before this goes on.
        tokio::task::yield_now().await;
        calls
    }

    async fn let_go(&mut self) {
        raw_sql("commit").execute(&mut self.holding).await.unwrap();
    }
}

async fn asked(world: &World) -> Option<String> {
    world.text("select last_value::text from asked").await
}

fn call(world: &World, token: &SecretString, name: &'static str, number: u8, record: bool) -> Call {
    let (db, token) = (world.db.clone(), token.clone());
    tokio::spawn(async move {
        let origin = Origin {
            address: Some(IpAddr::from([192, 0, 2, number])),
            ..Origin::default()
        };
        db.gateway_open(&token, name, &origin, record).await
    })
}

/// Where those came from that left such a row, by the ends of their addresses.
async fn noted(world: &World, outcome: &str) -> Vec<u8> {
    let places = world
        .text(&format!(
            "select string_agg(split_part(host(address), '.', 4), ' ' order by address) from audit \
             where action = 'gateway.connect' and outcome = '{outcome}'"
        ))
        .await;
    let places = places.unwrap_or_default();
    places
        .split(' ')
        .map(|place| place.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn one_question_is_enough_for_all_that_wait() {
    let mut door = Door::new().await;
    // To another deployment than its own the token opens nothing, whoever passes beside it. What begins a session goes on record.
    let calls = door
        .meanwhile(|number| match number % 4 {
            0 => ("other", false),
            1 => ("crawl", true),
            _ => ("crawl", false),
        })
        .await;
    door.let_go().await;
    let first = door.first.await.unwrap();
    assert_eq!(first.unwrap().keys, CallersKeys::Shared);
    for (call, number) in calls.into_iter().zip(0..) {
        let passes = call.await.unwrap().is_ok();
        assert_eq!(passes, number % 4 != 0, "{number}");
    }
    // The first, one for the twenty that share, and each by itself of those that are refused or go on record.
    assert_eq!(asked(&door.world).await.as_deref(), Some("22"));
    let every_fourth = |from| (from..CALLS).step_by(4).collect::<Vec<u8>>();
    assert_eq!(noted(&door.world, "refused").await, every_fourth(0));
    assert_eq!(noted(&door.world, "done").await, every_fourth(1));
}

#[tokio::test]
async fn a_revoke_holds_for_whoever_waits_and_each_refusal_is_on_record() {
    let mut door = Door::new().await;
    let calls = door.meanwhile(|_| ("crawl", false)).await;
    raw_sql("update tokens set revoked_at = now()")
        .execute(&mut door.holding)
        .await
        .unwrap();
    door.let_go().await;
    // It was let in before the revoke.
    assert!(door.first.await.unwrap().is_ok());
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
    // As many as a token that opens nothing leaves in a minute, each with the place that it came from; one question for all others.
    assert_eq!(
        noted(&door.world, "refused").await,
        (0..20).collect::<Vec<u8>>()
    );
    assert_eq!(asked(&door.world).await.as_deref(), Some("22"));
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_nobody() {
    let mut door = Door::new().await;
    let calls = door.meanwhile(|_| ("crawl", false)).await;
    door.first.abort();
    for call in calls.iter().step_by(2) {
        call.abort();
    }
    door.let_go().await;
    for call in calls.into_iter().skip(1).step_by(2) {
        assert!(call.await.unwrap().is_ok());
    }
    assert_eq!(asked(&door.world).await.as_deref(), Some("2"));
}
