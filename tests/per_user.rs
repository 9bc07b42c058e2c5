//! Per-user deployments: each caller's calls run with that caller's own keys, alone. Real packages, real guests, the real gateway.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "common/installed.rs"]
#[allow(dead_code)]
mod installed;
#[path = "per_user/mod.rs"]
mod per_user;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;
