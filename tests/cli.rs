//! The commands over the API: the real program against the real doors and a real database.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "common/installed.rs"]
mod installed;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "cli/served.rs"]
mod served;

#[path = "cli/completions.rs"]
mod completions;
#[path = "cli/deploying.rs"]
mod deploying;
#[path = "cli/faults.rs"]
mod faults;
#[path = "cli/leaks.rs"]
mod leaks;
#[path = "cli/running.rs"]
mod running;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/transcripts.rs"]
mod transcripts;
