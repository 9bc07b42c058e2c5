//! What an installation consists of in this process: a supervisor with a sandbox, and the doors.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use leptos::prelude::LeptosOptions;
use sealport::deploy::sandbox::{Sandbox, SandboxConfig};
use sealport::deploy::sources::SourceHosts;
use sealport::deploy::{CallersLimits, Deployer, DeployerConfig, Providers};
use sealport::doors::web::{AppState, WebConfig};
use sealport::store::Db;

/// A supervisor that keeps its guests in `place`. It does nothing until it is run.
pub async fn deployer(
    db: &Db,
    place: &Path,
    change: impl FnOnce(&mut SandboxConfig, &mut DeployerConfig),
) -> Deployer {
    // Guests are other users: they must be able to pass through.
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o711)).unwrap();
    let guests_dir = place.join("guests");
    let mut sandbox = SandboxConfig {
        allow_unsandboxed: false,
        private_networks: Vec::new(),
        runtime_dir: place.join("run"),
        guests_dir: guests_dir.clone(),
        private: Vec::new(),
        tools_path: std::env::var_os("PATH").unwrap_or_default(),
        launcher: env!("CARGO_BIN_EXE_sealport").into(),
    };
    let mut config = DeployerConfig {
        guests_dir,
        dir_roots: Vec::new(),
        source_hosts: SourceHosts::new([]),
        providers: Providers {
            render_api: "https://render.invalid/v1".parse().unwrap(),
            railway_api: "https://railway.invalid/graphql/v2".parse().unwrap(),
            bridge_image: None,
            look_every: Duration::from_millis(20),
        },
        restart_after: Duration::from_millis(20),
        callers: CallersLimits::default(),
    };
    change(&mut sandbox, &mut config);
    Deployer::new(db.clone(), Sandbox::probe(sandbox).await.unwrap(), config)
}

/// All doors, as at `public_url`; 0: each token has as many requests as it likes.
pub fn doors(
    db: &Db,
    deployer: Deployer,
    public_url: &str,
    api_requests_per_minute: u32,
) -> Router {
    sealport::doors::router(AppState {
        options: Arc::new(
            LeptosOptions::builder()
                .output_name("sealport")
                .site_root("public")
                .build(),
        ),
        deployer,
        db: db.clone(),
        config: Arc::new(WebConfig {
            public_url: public_url.parse().unwrap(),
            trusted_proxies: Vec::new(),
            api_requests_per_minute,
            calls_per_minute: 0,
        }),
    })
}
