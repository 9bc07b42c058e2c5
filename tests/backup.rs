//! Backup and restore by the real program: under load, elsewhere, with the wrong key, cut, changed, killed half-way. And what
//! `sealport doctor` says of damage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "backup/doctor.rs"]
mod doctor;
#[path = "backup/load.rs"]
mod load;
#[path = "backup/older.rs"]
mod older;
#[path = "backup/program.rs"]
mod program;
#[path = "backup/refusals.rs"]
mod refusals;
