//! Drafts, deployments, releases, logs and tokens against a real PostgreSQL, as the bound role.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "store_deployments/world.rs"]
mod world;

#[path = "store_deployments/binding.rs"]
mod binding;
#[path = "store_deployments/connections/mod.rs"]
mod connections;
#[path = "store_deployments/creating.rs"]
mod creating;
#[path = "store_deployments/damage.rs"]
mod damage;
#[path = "store_deployments/drafts.rs"]
mod drafts;
#[path = "store_deployments/drift.rs"]
mod drift;
#[path = "store_deployments/endings.rs"]
mod endings;
#[path = "store_deployments/key_backup.rs"]
mod key_backup;
#[path = "store_deployments/life.rs"]
mod life;
#[path = "store_deployments/logs.rs"]
mod logs;
#[path = "store_deployments/openings_together.rs"]
mod openings_together;
#[path = "store_deployments/renewals.rs"]
mod renewals;
#[path = "store_deployments/running.rs"]
mod running;
#[path = "store_deployments/sharing.rs"]
mod sharing;
#[path = "store_deployments/targets.rs"]
mod targets;
#[path = "store_deployments/tokens.rs"]
mod tokens;
