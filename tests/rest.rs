//! `/api/v1` on a port of its own: deployments, as a program makes, follows, changes and ends them with real guests and a package from
//! its registry; and all of it against its own description.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "common/installed.rs"]
mod installed;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "rest/house.rs"]
mod house;

#[path = "rest/connections.rs"]
mod connections;
#[path = "rest/contract.rs"]
mod contract;
#[path = "rest/making.rs"]
mod making;
#[path = "rest/planning.rs"]
mod planning;
#[path = "rest/rights.rs"]
mod rights;
