//! The door of agents: what each tool gives to each token, in both eras of the protocol, to real clients, over HTTP and joined to
//! standard input and output.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/installed.rs"]
mod installed;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "fixtures/clients/mod.rs"]
mod clients;

#[path = "mcp/deployments.rs"]
mod deployments;
#[path = "mcp/door.rs"]
mod door;
#[path = "mcp/house.rs"]
mod house;
#[path = "mcp/clients.rs"]
mod real_clients;
#[path = "mcp/secrets.rs"]
mod secrets;
#[path = "mcp/stdio.rs"]
mod stdio;
