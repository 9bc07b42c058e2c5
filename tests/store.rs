//! The store against a real PostgreSQL, connected as the bound role.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

#[path = "store/api_tokens.rs"]
mod api_tokens;
#[path = "store/audit_chain.rs"]
mod audit_chain;
#[path = "store/imports.rs"]
mod imports;
#[path = "store/key_rotation.rs"]
mod key_rotation;
#[path = "store/keys.rs"]
mod keys;
#[path = "store/levels.rs"]
mod levels;
#[path = "store/links.rs"]
mod links;
#[path = "store/moves.rs"]
mod moves;
#[path = "store/opening.rs"]
mod opening;
#[path = "store/people.rs"]
mod people;
#[path = "store/reads_together.rs"]
mod reads_together;
#[path = "store/row_level_security.rs"]
mod row_level_security;
#[path = "store/secret_life.rs"]
mod secret_life;
#[path = "store/secrets.rs"]
mod secrets;
#[path = "store/sessions.rs"]
mod sessions;
#[path = "store/sharing.rs"]
mod sharing;
