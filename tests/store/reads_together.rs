//! Reads of one token that come at once share statements, and nothing else.

use std::net::IpAddr;

use sealport::model::actors::Origin;
use sealport::model::errors::RefusalKind;
use sealport::model::levels::Level;
use sealport::model::paths::KeyPath;
use sealport::store::Error;
use sealport::store::secret_read::ReadValue;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{ConnectOptions, Connection, PgConnection, query_as, raw_sql};
use tokio::task::JoinHandle;

use crate::api_tokens::{World, value_at};
use crate::common::waiting::held_up;
use crate::people::refusal;

/// As many as one token asks at once, besides those that are under way.
const READS: u8 = 40;

type Read = JoinHandle<Result<ReadValue, Error>>;

/// Two reads of one token that are under way until they are let go, and others that came meanwhile.
struct Crowd {
    world: World,
    token: SecretString,
    /// Has locked the record: a row of it waits for the end of this transaction.
    holding: PgConnection,
    first: Vec<Read>,
}

impl Crowd {
    async fn new() -> Crowd {
        let world = World::new().await;
        let token = world.token(&world.ann, Level::Read, None).await;
        // Notes that the token is in use, and opens the data key.
        read(&world, &token, "BARE", None, 0)
            .await
            .unwrap()
            .unwrap();
        let mut holding = world.database.admin_options.connect().await.unwrap();
        raw_sql("begin; lock table audit in share mode")
            .execute(&mut holding)
            .await
            .unwrap();
        let mut first = Vec::new();
        for waiting in 1..=2 {
            let read = read(&world, &token, "BARE", None, 0);
            held_up(&world.database.admin_options, waiting, &read).await;
            first.push(read);
        }
        Crowd {
            world,
            token,
            holding,
            first,
        }
    }

    /// As many as come meanwhile; the place of each is the end of its address.
    async fn meanwhile(&self, wish: impl Fn(u8) -> (&'static str, Option<i32>)) -> Vec<Read> {
        let reads = (0..READS)
            .map(|number| {
                let (path, version) = wish(number);
                read(&self.world, &self.token, path, version, number)
            })
            .collect();
        // In this one thread each of them goes as far as it can before this goes on.
        tokio::task::yield_now().await;
        reads
    }

    /// The answers of those that were under way, and all rows of reads from `meanwhile`.
    async fn let_go(mut self) -> World {
        raw_sql("commit").execute(&mut self.holding).await.unwrap();
        self.holding.close().await.unwrap();
        for read in self.first {
            assert_eq!(opened(read.await.unwrap()), value_at("BARE"));
        }
        self.world
    }
}

fn read(world: &World, token: &SecretString, path: &str, version: Option<i32>, number: u8) -> Read {
    let (db, token, key) = (
        world.db.clone(),
        token.clone(),
        KeyPath::parse(path).unwrap(),
    );
    tokio::spawn(async move {
        let origin = Origin {
            address: Some(IpAddr::from([192, 0, 2, number])),
            agent: Some(format!("agent {number}")),
            request_id: Some(format!("request {number}")),
        };
        db.secret_read(&token, key.owner.as_ref(), &key.path, version, &origin)
            .await
    })
}

fn opened(read: Result<ReadValue, Error>) -> String {
    read.unwrap().value.expose_secret().to_owned()
}

/// Of reads that came meanwhile, by the number of each: its row without the id, and how many statements wrote them.
async fn rows(world: &World) -> (Vec<String>, i64) {
    let mut admin = world.database.admin_options.connect().await.unwrap();
    query_as(
        "with meanwhile as (
             select *, xmin::text as statement from audit where action = 'secret.read'
             order by id offset 3
         )
         select array_agg(concat_ws(' ', host(address), agent, request_id, outcome, path, version, reason) order by address),
                count(distinct statement)
         from meanwhile",
    )
    .fetch_one(&mut admin)
    .await
    .unwrap()
}

#[tokio::test]
async fn each_gets_its_own_answer_and_its_own_row() {
    let crowd = Crowd::new().await;
    let wish = |number| match number % 5 {
        0 => ("BARE", None),
        1 => ("ann:project/X/key", Some(1)),
        2 => ("GONE", None),
        3 => ("BARE", Some(7)),
        _ => ("bob:BARE", None),
    };
    let reads = crowd.meanwhile(wish).await;
    let world = crowd.let_go().await;
    let mut answers = Vec::new();
    for read in reads {
        answers.push(read.await.unwrap());
    }
    let (rows, statements) = rows(&world).await;
    assert_eq!(rows.len(), usize::from(READS));
    assert_eq!(statements, 1);
    for (read, number) in answers.into_iter().zip(0..) {
        let noted = match number % 5 {
            0 => {
                assert_eq!(opened(read), value_at("BARE"));
                "done BARE 1"
            }
            1 => {
                assert_eq!(opened(read), value_at("project/x/KEY"));
                "done project/x/KEY 1"
            }
            3 => {
                assert_eq!(refusal(read).detail, "The secret has no such version.");
                "refused BARE no such version"
            }
            _ => {
                assert_eq!(refusal(read).kind, RefusalKind::NotFound);
                "refused no such secret"
            }
        };
        let whose = format!("192.0.2.{number} agent {number} request {number} {noted}");
        assert!(rows.contains(&whose), "{whose}: {rows:?}");
    }
}

#[tokio::test]
async fn a_revoke_holds_for_whoever_waits() {
    let crowd = Crowd::new().await;
    let reads = crowd.meanwhile(|_| ("BARE", None)).await;
    crowd
        .world
        .sql("update tokens set revoked_at = now()".into())
        .await;
    let world = crowd.let_go().await;
    for read in reads {
        let refused = refusal(read.await.unwrap());
        assert_eq!(refused.kind, RefusalKind::Unauthenticated);
    }
    // As many as a token that opens nothing leaves in a minute.
    let (rows, _) = rows(&world).await;
    assert_eq!(rows.len(), 20, "{rows:?}");
    assert!(
        rows.iter()
            .all(|row| row.ends_with("refused revoked token")),
        "{rows:?}"
    );
}

#[tokio::test]
async fn whoever_hangs_up_stops_nobody() {
    let crowd = Crowd::new().await;
    let reads = crowd.meanwhile(|_| ("BARE", None)).await;
    crowd.first[0].abort();
    for read in reads.iter().step_by(2) {
        read.abort();
    }
    let mut crowd = crowd;
    crowd.first.remove(0);
    let world = crowd.let_go().await;
    for read in reads.into_iter().skip(1).step_by(2) {
        assert_eq!(opened(read.await.unwrap()), value_at("BARE"));
    }
    // What nobody waited for any more when its turn came is not read.
    let (rows, _) = rows(&world).await;
    assert_eq!(rows.len(), usize::from(READS / 2));
}

#[tokio::test]
async fn a_token_that_opens_nothing_leaves_few_rows_also_when_nobody_waits() {
    let crowd = Crowd::new().await;
    let first = crowd.meanwhile(|_| ("BARE", None)).await;
    crowd
        .world
        .sql("update tokens set revoked_at = now()".into())
        .await;
    let token = crowd.token.clone();
    let world = crowd.let_go().await;
    for read in first {
        assert!(read.await.unwrap().is_err());
    }
    for number in 0..READS {
        let gone = read(&world, &token, "BARE", None, number);
        tokio::task::yield_now().await;
        gone.abort();
    }
    let last = read(&world, &token, "BARE", None, 0).await.unwrap();
    assert_eq!(refusal(last).kind, RefusalKind::Unauthenticated);
    let (rows, _) = rows(&world).await;
    assert_eq!(rows.len(), 20, "{rows:?}");
}

#[tokio::test]
async fn what_fails_for_all_of_them_is_asked_again_by_each() {
    let crowd = Crowd::new().await;
    let reads = crowd.meanwhile(|_| ("BARE", None)).await;
    // No lone read calls this.
    crowd
        .world
        .sql("alter function secrets_read(text, text[], text[], integer[], uuid[], inet[], text[], text[], integer, boolean)
             rename to secrets_read_gone"
                .into())
        .await;
    let world = crowd.let_go().await;
    for read in reads {
        assert_eq!(opened(read.await.unwrap()), value_at("BARE"));
    }
    let (rows, statements) = rows(&world).await;
    assert_eq!(
        (rows.len(), statements),
        (usize::from(READS), i64::from(READS))
    );
}
