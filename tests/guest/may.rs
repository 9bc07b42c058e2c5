//! What a guest may do.

use std::path::Path;
use std::time::Duration;

use sealport::deploy::sandbox::{GuestNetwork, GuestSpec, Isolation, Outside, SandboxError};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::house::House;
use crate::left_out;

#[tokio::test]
async fn a_guest_has_its_environment_its_files_its_port_and_nothing_more() {
    let house = House::new(&[]).await;
    let report = house.sandbox.report();
    println!("{report}");
    assert_eq!(report.isolation, Isolation::Bubblewrap, "{report}");
    assert_eq!(report.network, Outside::UserMode, "{report}");
    assert!(report.landlock, "{report}");

    let server = house.server("own", &[("TOKEN", "canary-of-its-own")]).await;
    std::fs::write(server.home.join("note"), "mine").unwrap();
    assert_eq!(
        server.does(json!({"what": "env"})).await,
        json!({"HOME": "/srv", "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin",
               "PORT": "4000", "TOKEN": "canary-of-its-own"}),
        "exactly its environment"
    );
    assert_eq!(server.does(json!({"what": "cwd"})).await, "/srv");
    assert_eq!(
        server
            .does(json!({"what": "read", "path": "/srv/note"}))
            .await,
        "mine"
    );
    server
        .does(json!({"what": "write", "path": "/srv/own"}))
        .await;
    server
        .does(json!({"what": "write", "path": "/tmp/own"}))
        .await;
    assert!(server.home.join("own").is_file(), "a home is on the host");
    assert!(!Path::new("/tmp/own").exists(), "a /tmp is the guest's own");
}

#[tokio::test]
async fn a_stdio_guest_is_joined_to_its_streams_and_its_status_is_told() {
    let house = House::new(&[]).await;
    let mut guest = house
        .guest(
            "stdio",
            &["sh", "-c", "cat; echo over >/dev/stderr; exit 7"],
        )
        .await;
    let mut stdin = guest.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    drop(stdin);
    let (mut said, mut complained) = (String::new(), String::new());
    guest
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .await
        .unwrap();
    guest
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complained)
        .await
        .unwrap();
    assert_eq!(
        (said.as_str(), complained.as_str()),
        ("one\ntwo\n", "over\n")
    );
    assert_eq!(guest.wait().await.code, 7);

    let mut guest = house.guest("stdio", &["/srv/is-not-there"]).await;
    let mut complained = String::new();
    guest
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complained)
        .await
        .unwrap();
    assert!(
        complained.contains("/srv/is-not-there could not be started"),
        "{complained}"
    );
    assert_eq!(guest.wait().await.code, 127);
}

#[tokio::test]
async fn a_guest_reaches_the_outside_where_there_is_one() {
    let registry = std::process::Command::new("npm")
        .args(["config", "get", "registry"])
        .output()
        .expect("install node and npm");
    let registry = String::from_utf8(registry.stdout)
        .unwrap()
        .trim()
        .to_owned();
    let host = registry
        .split('/')
        .nth(2)
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .to_owned();
    let reachable = tokio::net::TcpStream::connect((host.as_str(), 443));
    if !matches!(
        tokio::time::timeout(Duration::from_secs(5), reachable).await,
        Ok(Ok(_))
    ) {
        left_out::say("a guest that reaches the outside: no registry is reachable from here");
        return;
    }
    let house = House::new(&[]).await;
    let mut spec = house.spec("out", &["node", "server.mjs"]).await;
    let certificates = "/etc/ssl/certs/ca-certificates.crt";
    if Path::new(certificates).exists() {
        spec.env
            .push(("NODE_EXTRA_CA_CERTS".into(), certificates.into()));
    }
    let server = house.serve(spec).await;
    assert_eq!(
        server.does(json!({"what": "fetch", "url": registry})).await,
        200
    );

    let mut spec = house.spec("in", &["node", "server.mjs"]).await;
    spec.network = GuestNetwork::None;
    let alone = house.serve(spec).await;
    alone.fails(json!({"what": "fetch", "url": registry})).await;
}

#[tokio::test]
async fn a_server_that_listens_on_localhost_is_reached_wherever_that_is() {
    let house = House::new(&[]).await;
    let mut spec = house.spec("six", &["node", "server.mjs"]).await;
    spec.env.push(("LISTEN".into(), "::1".into()));
    let server = house.serve(spec).await;
    assert_eq!(server.does(json!({"what": "cwd"})).await, "/srv");
}

#[tokio::test]
async fn a_listed_loopback_is_the_hosts_by_the_gateways_address_only() {
    let house = House::new(&["127.0.0.0/8"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = house.server("listed", &[]).await;
    server
        .does(json!({"what": "connect", "host": "10.0.2.2", "port": port}))
        .await;
    let named = json!({"what": "connect", "host": "host.sealport.internal", "port": port});
    server.does(named).await;
    server
        .fails(json!({"what": "connect", "host": "127.0.0.1", "port": port}))
        .await;
    server
        .fails(json!({"what": "connect", "host": "10.1.2.3", "port": port}))
        .await;
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let house = House::new(&[]).await;
    let root = GuestSpec {
        uid: 0,
        ..house.spec("refused", &["true"]).await
    };
    let nul = GuestSpec {
        env: vec![("TOKEN".into(), "with\0nul".into())],
        ..house.spec("refused", &["true"]).await
    };
    let nothing = house.spec("refused", &[]).await;
    for spec in [root, nul, nothing] {
        let refused = house.sandbox.spawn(spec).await;
        assert!(
            matches!(refused, Err(SandboxError::Invalid(_))),
            "{refused:?}"
        );
    }
}
