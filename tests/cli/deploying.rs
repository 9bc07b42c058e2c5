//! Deployments from the command line: a real server, and a log whose connection breaks.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::response::IntoResponse;
use sealport::model::levels::Level;
use tokio::net::TcpListener;

use crate::served::{Served, Shell};

const CANARY: &str = "canary-of-deploying-88";
/// Prints its environment when it is asked to, and needs no key.
const SOURCE: &str = "npm:@modelcontextprotocol/server-everything@2026.8.31";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_planned_deployed_watched_stopped_started_and_destroyed() {
    let served = Served::deploying().await;
    let anna = served.world.user("anna").await;
    served.world.secret(&anna, "project/shop/KEY", CANARY).await;
    // Admin of what it deploys; the value it never sees.
    let shell = served.shell(&anna, Level::Admin).await;
    let (mut out, mut err) = (String::new(), String::new());
    let mut ran = async |arguments: &[&str], status: i32| -> String {
        let ran = shell.run(arguments).await;
        assert_eq!(ran.status, status, "{arguments:?}: {}{}", ran.out, ran.err);
        out.push_str(&ran.out);
        err.push_str(&ran.err);
        ran.out
    };

    assert_eq!(ran(&["deployments"], 0).await, "");
    let wants = [
        "deploy",
        "shop",
        "--source",
        SOURCE,
        "--target",
        "local",
        "--dry-run",
        "--bind",
    ];
    let said = ran(&[&wants[..], &["SHOP_KEY=project/shop/NONE"]].concat(), 1).await;
    assert!(said.contains("missing\tbindings.SHOP_KEY\t"), "{said}");
    let said = ran(
        &[
            &wants[..],
            &["SHOP_KEY=project/shop/KEY", "--set", "MODE=loud"],
        ]
        .concat(),
        0,
    )
    .await;
    assert!(
        said.contains("bound\tMODE, SHOP_KEY") || said.contains("bound\tSHOP_KEY, MODE"),
        "{said}"
    );
    assert!(said.ends_with("Nothing is in the way.\n"), "{said}");
    let each = [
        "deploy",
        "each",
        "--source",
        SOURCE,
        "--per-user",
        "EACH_KEY",
        "--dry-run",
    ];
    let said = ran(&each, 0).await;
    assert!(said.contains("bound\tEACH_KEY\n"), "{said}");
    let said = ran(&[&each[..], &["--target", "render"]].concat(), 1).await;
    assert!(said.contains("refused\tbindings.EACH_KEY\t"), "{said}");
    assert_eq!(served.world.count("deployments").await, 0);

    let said = ran(
        &[
            "deploy",
            "shop",
            "--source",
            SOURCE,
            "--target",
            "local",
            "--bind",
            "SHOP_KEY=project/shop/KEY",
            "--watch",
        ],
        0,
    )
    .await;
    assert!(said.starts_with("Release 1 of shop has begun.\n"), "{said}");
    let said = ran(&["deployments"], 0).await;
    let cells: Vec<&str> = said.trim_end_matches('\n').split('\t').collect();
    assert_eq!(&cells[..4], ["shop", "anna", "running", "shared"], "{said}");
    assert!(cells[5].ends_with("/s/shop/mcp"), "{said}");

    let log = ran(&["logs", "shop"], 0).await;
    assert!(
        log.lines().count() > 1 && log.lines().all(|line| line.starts_with("20")),
        "{log}"
    );
    assert_eq!(
        ran(&["logs", "shop", "--tail", "1"], 0)
            .await
            .lines()
            .count(),
        1
    );
    let events = ran(&["logs", "shop", "--json"], 0).await;
    assert!(
        events.lines().all(|line| line.starts_with("{\"event\":")),
        "{events}"
    );

    assert_eq!(
        ran(&["start", "shop"], 0).await,
        "shop runs already (release 1).\n"
    );
    let events = ran(&["redeploy", "shop", "--watch", "--json"], 0).await;
    assert!(
        events.contains("\"release\":2") && !events.contains("\"release\":1,"),
        "{events}"
    );
    assert_eq!(
        ran(&["stop", "shop", "--watch"], 0).await,
        "shop is stopped.\n"
    );
    ran(&["start", "shop", "--watch"], 0).await;
    assert_eq!(ran(&["share", "--deployment", "shop"], 0).await, "");
    let bound = ["secret", "rm", "project/shop/KEY"];
    ran(&bound, 2).await;
    ran(&["destroy", "shop"], 2).await;
    // The name is taken, and what is not there is told.
    ran(
        &["deploy", "shop", "--source", SOURCE, "--target", "local"],
        5,
    )
    .await;
    ran(&["stop", "nothing"], 3).await;
    // One value for each flag: what follows is the name.
    let said = ran(
        &[
            "deploy",
            "--source",
            SOURCE,
            "--bind",
            "SHOP_KEY=project/shop/KEY",
            "shop",
        ],
        5,
    )
    .await;
    assert_eq!(said, "");
    ran(
        &["deploy", "x", "--bind", &format!("DB=postgres://{CANARY}")],
        2,
    )
    .await;
    ran(&["destroy", "shop", "--yes"], 0).await;
    assert_eq!(ran(&["deployments"], 0).await, "");
    ran(&["logs", "shop"], 3).await;
    assert!(
        !out.contains(&CANARY[..8]) && !err.contains(&CANARY[..8]),
        "{out}{err}"
    );
    assert!(err.contains("Release 1 is live."), "{err}");
    served.close().await;
}

/// A log that breaks off goes on behind the last line that came.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_on_where_its_connection_broke() {
    let line = |seq: i64| {
        let data = serde_json::json!({
            "seq": seq, "release": 1, "at": "2026-01-01T00:00:00Z", "stream": "stdout\u{9b}", "line": format!("line {seq} \u{1b}[31m"),
        });
        format!("event: line\nid: {seq}\ndata: {data}\n\n")
    };
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = asked.clone();
    let router = Router::new().fallback(move |request: Request| async move {
        let after = request.headers().get("last-event-id");
        let after = after
            .map_or("none", |after| after.to_str().unwrap())
            .to_owned();
        let text = match after.as_str() {
            "none" => format!("{}: comment\n\n{}event: li", line(1), line(2)),
            _ => format!("{}event: end\ndata: {{\"why\":\"all-told\"}}\n\n", line(3)),
        };
        seen.lock()
            .unwrap()
            .push(format!("{} {after}", request.uri()));
        ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let shell = Shell::new(&url, "sp_0000000000000000000000000000000000000000000");
    let said = shell.run(&["logs", "shop", "--follow"]).await.done();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [1, 2, 3]
            .map(|seq| format!("2026-01-01T00:00:00Z stdout\\u{{9b}} line {seq} \\u{{1b}}[31m"))
    );
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "/api/v1/deployments/shop/logs?follow=true none",
            "/api/v1/deployments/shop/logs?follow=true 2"
        ]
    );
}
