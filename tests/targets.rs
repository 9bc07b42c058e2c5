//! Deployments at a provider, from the request to the call: the real supervisor and store, a provider that keeps state, and what it
//! "runs" is the real bridge in front of a real server, with the environment that the provider was given.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/providers/mod.rs"]
mod fakes;
#[path = "common/installed.rs"]
#[allow(dead_code)]
mod installed;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "targets/accounts.rs"]
mod accounts;
#[path = "targets/drift.rs"]
mod drift;
#[path = "targets/house.rs"]
mod house;
#[path = "targets/interrupted.rs"]
mod interrupted;
#[path = "targets/killed.rs"]
mod killed;
#[path = "targets/railway.rs"]
mod railway;
#[path = "targets/release_code.rs"]
mod release_code;
#[path = "targets/render.rs"]
mod render;
#[path = "targets/trial.rs"]
mod trial;
