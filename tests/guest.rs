//! A hostile server in the sandbox: everything that it tries against the host, against Sealport
//! and against another guest fails, by name; what it may do works, so that these tests can fail.
//! Run as root they are run once more as a normal user.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "common/left_out.rs"]
mod left_out;
#[path = "common/programs.rs"]
mod programs;

#[path = "guest/hosts.rs"]
mod hosts;
#[path = "guest/house.rs"]
mod house;
#[path = "guest/installing.rs"]
mod installing;
#[path = "guest/leaving.rs"]
mod leaving;
#[path = "guest/limits.rs"]
mod limits;
#[path = "guest/may.rs"]
mod may;
#[path = "guest/scene.rs"]
mod scene;
#[path = "guest/tools.rs"]
mod tools;
#[path = "guest/tries.rs"]
mod tries;
#[path = "guest/walls.rs"]
mod walls;
