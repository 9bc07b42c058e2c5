//! Deployments by `/api/v1`, as a program makes, follows, changes and ends them: a real server, real guests, a package from its registry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "rest_deployments/house.rs"]
mod house;

#[path = "rest_deployments/making.rs"]
mod making;
#[path = "rest_deployments/planning.rs"]
mod planning;
#[path = "rest_deployments/rights.rs"]
mod rights;
