//! The store against a real PostgreSQL, connected as the bound role.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "store/audit_chain.rs"]
mod audit_chain;
#[path = "store/opening.rs"]
mod opening;
#[path = "store/people.rs"]
mod people;
#[path = "store/row_level_security.rs"]
mod row_level_security;
#[path = "store/secrets.rs"]
mod secrets;
