//! Holding somebody up at a row that the test has locked, and going on when they wait there.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, query_scalar};
use tokio::task::JoinHandle;

/// Long, for it ends a test that hangs and nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Until so many connections to this database wait for a lock, or the task has ended without waiting.
pub async fn held_up<T>(admin: &PgConnectOptions, waiting: i64, task: &JoinHandle<T>) {
    let mut watch = admin.connect().await.unwrap();
    let seen = async {
        while !task.is_finished() && waiters(&mut watch).await < waiting {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .expect("neither waits nor ends");
}

async fn waiters(watch: &mut PgConnection) -> i64 {
    query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    .fetch_one(watch)
    .await
    .unwrap()
}
