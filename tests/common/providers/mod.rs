//! Providers of a test's own: stateful, over real HTTP, moody on demand.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod heard;
pub mod railway;
pub mod render;
pub mod wire;

use std::path::PathBuf;

/// Where other people's schemas are: `SEALPORT_CONTRACTS`, or `../shared/contracts` beside the checkout.
pub fn contracts() -> Option<PathBuf> {
    let dir = std::env::var_os("SEALPORT_CONTRACTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/contracts"),
        PathBuf::from,
    );
    dir.is_dir().then_some(dir)
}
