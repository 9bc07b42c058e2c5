//! Log lines, and what retention takes away.

use sealport::model::deployments::{LOG_LINE_LEN_BYTES, LOG_LINES_KEPT};
use sealport::model::errors::RefusalKind;
use sealport::store::logs::NewLine;
use uuid::Uuid;

use crate::world::{World, assert_refused};

fn line(line: impl Into<String>) -> NewLine {
    NewLine {
        stream: "stdout",
        line: line.into(),
    }
}

#[tokio::test]
async fn a_line_is_kept_as_text_whatever_it_holds() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let task = world.claim(Uuid::now_v7()).await;
    let lines = [
        line("'); drop table log_lines; --"),
        line("<script>alert(1)</script>"),
        line("\x1b[31mred\x1b[0m\0\r\n\tend"),
        line("ä".repeat(1_000_000)),
        line(""),
    ];
    let db = &world.db;
    db.log_append(task.deployment_id, 1, &lines).await.unwrap();
    db.log_append(task.deployment_id, 1, &[]).await.unwrap();
    let read = db.log_read(&ada, &name, None, 100).await.unwrap();
    assert_eq!(read.len(), 5);
    assert_eq!(read[0].line, "'); drop table log_lines; --");
    assert_eq!(read[1].line, "<script>alert(1)</script>");
    assert_eq!(read[2].line, "\\x1b[31mred\\x1b[0m\\x00\\x0d\\x0a\tend");
    assert!(
        read[3].line.len() <= LOG_LINE_LEN_BYTES && read[3].line.len() > LOG_LINE_LEN_BYTES - 8
    );
    assert_eq!(
        (
            read[4].line.as_str(),
            read[4].release,
            read[4].stream.as_str()
        ),
        ("", 1, "stdout")
    );
    assert!(read.is_sorted_by_key(|line| line.seq));

    // Reading on, and the newest few.
    let after = db
        .log_read(&ada, &name, Some(read[2].seq), 100)
        .await
        .unwrap();
    assert_eq!(after, read[3..]);
    assert_eq!(db.log_read(&ada, &name, None, 2).await.unwrap(), read[3..]);
    assert!(
        db.log_read(&ada, &name, Some(read[4].seq), 100)
            .await
            .unwrap()
            .is_empty()
    );

    db.deployment_destroy(&ada, &name, "crawl").await.unwrap();
    assert_eq!(world.count("log_lines").await, 0);
    let late = db.log_append(task.deployment_id, 1, &[line("late")]).await;
    assert_refused(late, RefusalKind::Conflict, None);
}

#[tokio::test]
async fn a_chatty_server_does_not_fill_the_database() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let task = world.claim(Uuid::now_v7()).await;
    for batch in 0..12 {
        let lines: Vec<NewLine> = (0..500).map(|n| line(format!("{batch} {n}"))).collect();
        world
            .db
            .log_append(task.deployment_id, 1, &lines)
            .await
            .unwrap();
    }
    assert_eq!(world.count("log_lines").await, LOG_LINES_KEPT);
    let newest = world.db.log_read(&ada, &name, None, 1).await.unwrap();
    assert_eq!(newest[0].line, "11 499");
    for n in 0..100 {
        world
            .db
            .log_append(task.deployment_id, 1, &[line(n.to_string())])
            .await
            .unwrap();
    }
    world.db.retention_step().await.unwrap();
    assert_eq!(world.count("log_lines").await, LOG_LINES_KEPT);
}

#[tokio::test]
async fn what_is_past_its_age_goes_and_the_rest_stays() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let user = crate::world::id(&ada);
    world.deployment(&ada, "crawl", vec![]).await;
    let task = world.claim(Uuid::now_v7()).await;
    world
        .db
        .log_append(task.deployment_id, 1, &[line("old"), line("new")])
        .await
        .unwrap();
    world.db.draft_create(&ada).await.unwrap();
    world.db.draft_create(&ada).await.unwrap();
    let deployment = task.deployment_id;
    world
        .sql(&format!(
            "update log_lines set at = now() - interval '31 days' where line = 'old'; \
             update drafts set changed_at = now() - interval '8 days' where id = (select min(id::text)::uuid from drafts); \
             insert into sessions values ('a', null, '{{}}', now(), now() - interval '1 second'), ('b', null, '{{}}', now(), now() + interval '1 hour'); \
             insert into one_time_links values ('a', 'first-administrator', now(), now() - interval '1 second', null), ('b', 'first-administrator', now(), now() + interval '1 hour', null); \
             insert into attempts values ('k', now() - interval '25 hours', 1), ('k', now(), 1); \
             insert into known_addresses values ('{user}', '192.0.2.1', now() - interval '91 days'), ('{user}', '192.0.2.2', now()); \
             update releases set state = 'live' where number = 1; \
             insert into releases (deployment_id, owner_id, number, state, created_by) \
             select '{deployment}', '{user}', n, case when n = 60 then 'queued' else 'failed' end, 'ada' from generate_series(2, 60) n"
        ))
        .await;
    // 1 log line, 1 draft, 1 session, 1 link, 1 counter, 1 address, releases 2 to 10.
    assert_eq!(world.db.retention_step().await.unwrap(), 15);
    for table in [
        "log_lines",
        "drafts",
        "sessions",
        "attempts",
        "known_addresses",
    ] {
        assert_eq!(world.count(table).await, 1, "{table}");
    }
    assert_eq!(
        world
            .count("releases where number = 1 or number > 10")
            .await,
        51
    );
    assert_eq!(world.count("releases").await, 51);
    assert_eq!(world.db.retention_step().await.unwrap(), 0);
}
