//! Whoever shows tokens that open nothing, over and over: the database is asked no more, and nobody else is shut out.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, header};
use sealport::model::levels::Level;
use tower::ServiceExt;

use crate::{HOST, Installation};

const DOORS: [(&str, &str); 3] = [
    ("GET", "/api/v1/secrets"),
    ("POST", "/mcp"),
    ("GET", "/metrics"),
];

impl Installation {
    async fn from(&self, address: &str, door: (&str, &str), token: &str) -> Response<Body> {
        let (method, path) = door;
        let peer: SocketAddr = format!("{address}:4000").parse().unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .extension(ConnectInfo(peer));
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }
}

#[tokio::test]
async fn a_flood_of_tokens_that_open_nothing_ends_before_the_database() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let (_, known) = house.token(&owner, Level::Read, None, false).await;
    let (_, new) = house.token(&owner, Level::Read, None, false).await;
    let (_, other) = house.token(&owner, Level::Read, None, false).await;
    let (flood, elsewhere) = ("192.0.2.7", "192.0.2.8");
    let answer = house.from(flood, DOORS[0], &known).await;
    assert_eq!(answer.status(), 200);

    // Well-formed, and nobody's.
    let (gone, unknown) = house.token(&owner, Level::Read, None, false).await;
    house
        .world
        .sql(&format!(
            "set session_replication_role = replica; delete from tokens where id = '{gone}'"
        ))
        .await;
    // At each door, and now and then none.
    let mut answers = 0;
    let last = loop {
        let token = match answers % 10 {
            0 => "",
            1 => "no-token-at-all",
            _ => unknown.as_str(),
        };
        let answer = house.from(flood, DOORS[answers % 3], token).await;
        if answer.status() != 401 {
            break answer;
        }
        answers += 1;
        assert!(answers <= 2_000, "there is no end to it");
    };
    assert_eq!(last.status(), 429);
    let wait: u64 = last.headers()[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");

    let recorded = house.world.count("audit").await;
    for door in DOORS {
        // Nothing is looked up any more, not even what would hold.
        for token in ["", "no-token-at-all", new.as_str()] {
            let answer = house.from(flood, door, token).await;
            assert_eq!(answer.status(), 429, "{door:?}");
        }
        // What held before is not shut out, nor is anybody else.
        let answer = house.from(flood, door, &known).await;
        assert!(![401, 429].contains(&answer.status().as_u16()), "{door:?}");
        let answer = house.from(elsewhere, door, &other).await;
        assert!(![401, 429].contains(&answer.status().as_u16()), "{door:?}");
    }
    assert_eq!(house.world.count("audit").await, recorded);
}

#[tokio::test]
async fn a_revoked_token_is_known_no_more() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let (id, token) = house.token(&owner, Level::Read, None, false).await;
    for door in DOORS {
        let answer = house.from("192.0.2.7", door, &token).await;
        assert_ne!(answer.status(), 401, "{door:?}");
    }
    house.world.db.token_revoke(&owner, id).await.unwrap();
    for door in DOORS.iter().chain(&DOORS) {
        let answer = house.from("192.0.2.7", *door, &token).await;
        assert_eq!(answer.status(), 401, "{door:?}");
    }
}
