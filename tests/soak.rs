//! What is left after very many starts, idle stops and crashes, after `kill -9`, and beside a second server: nothing. Real
//! guests, a real database, the real gateway. `make soak` does the first for longer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "soak/counts.rs"]
mod counts;
#[path = "per_user/house.rs"]
#[allow(dead_code)]
mod house;
#[path = "common/installed.rs"]
#[allow(dead_code)]
mod installed;
#[path = "soak/killed.rs"]
mod killed;
#[path = "soak/rounds.rs"]
mod rounds;
#[path = "soak/two.rs"]
mod two;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

/// Each counts what is below this process, so one at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
