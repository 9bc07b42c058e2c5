//! `sealport doctor`: looks at everything that has to be right, and says for each what to do.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::config::{DatabaseArgs, GuestArgs};
use crate::deploy::sandbox::{self, SandboxConfig};
use crate::deploy::sources::SourceHosts;
use crate::model::findings::{Finding, State};
use crate::store::data_dir::DataDir;
use crate::store::doctor;

/// Less free space than this is too little for an install and the database's own files.
const FREE_MIN_BYTES: u64 = 1024 * 1024 * 1024;

#[derive(Args)]
pub struct DoctorArgs {
    /// One JSON array of {check, state, says} on standard output.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    guests: GuestArgs,
}

/// Looks, tells, and ends with 0 when nothing is to do, with 1 otherwise.
pub async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let findings = look(&args).await;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&findings)?)?;
    } else {
        for finding in &findings {
            let state = match finding.state {
                State::Ok => "ok",
                State::Note => "note",
                State::ToDo => "TO DO",
            };
            writeln!(out, "{state:<6} {:<20} {}", finding.check, finding.says)?;
        }
    }
    let sound = findings.iter().all(|finding| finding.state != State::ToDo);
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn look(args: &DoctorArgs) -> Vec<Finding> {
    // Looked for before it is opened, which would make it.
    if !args.database.data.is_dir() {
        let says = format!(
            "There is no data directory {}. Name yours in SEALPORT_DATA, or start `sealport serve` to make one.",
            args.database.data.display()
        );
        return vec![Finding::to_do("data directory", says)];
    }
    let data = match DataDir::open(&args.database.data) {
        Ok(data) => data,
        Err(error) => {
            return vec![Finding::to_do("data directory", error.to_string())];
        }
    };
    let mut findings = vec![Finding::ok(
        "data directory",
        data.root().display().to_string(),
    )];
    findings.extend(disk(&data));
    match store(args, &data).await {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::to_do("database", format!("{error:#}"))),
    }
    let guests = guests(args, &data).await;
    findings.push(guests.unwrap_or_else(|error| Finding::to_do("sandbox", format!("{error:#}"))));
    findings.push(sandbox::orphans(&data.guests_dir()));
    findings
}

/// Free space where the data and the database lie, which can be two disks.
fn disk(data: &DataDir) -> Vec<Finding> {
    let (root, guests) = (data.root().to_owned(), data.guests_dir());
    let mut findings = vec![free("disk", &root)];
    if !guests.starts_with(&root) {
        findings.push(free("disk of guests", &guests));
    }
    findings
}

fn free(check: &'static str, path: &Path) -> Finding {
    let free_bytes = match rustix::fs::statvfs(path) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            return Finding::to_do(check, format!("{}: {error}", path.display()));
        }
    };
    let says = format!(
        "{} MiB free at {}",
        free_bytes / 1024 / 1024,
        path.display()
    );
    if free_bytes >= FREE_MIN_BYTES {
        Finding::ok(check, says)
    } else {
        let to_do = "Make room: PostgreSQL stops when it cannot write, and installs fail.";
        Finding::to_do(check, format!("Only {says}. {to_do}"))
    }
}

/// What the store says. An embedded database that was never made is not made for this.
async fn store(args: &DoctorArgs, data: &DataDir) -> anyhow::Result<Vec<Finding>> {
    let keys = args.database.keys(data)?;
    if args.database.database_url.is_none() && !data.holds_a_database() {
        return Ok(vec![Finding::to_do(
            "database",
            "There is none yet. Start `sealport serve` for a new installation, or bring one back by `sealport restore`.",
        )]);
    }
    let (config, embedded) = args.database.place(data, false).await?;
    let (findings, db) = doctor::examine(&config, keys).await;
    if let Some(db) = db {
        db.close().await;
    }
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    Ok(findings)
}

/// Tries the sandbox out, apart from the servers that run.
async fn guests(args: &DoctorArgs, data: &DataDir) -> anyhow::Result<Finding> {
    let hosts = SourceHosts::new(args.guests.source_hosts.iter().cloned());
    let place =
        sandbox::trial_place(&data.guests_dir()).context("The sandbox could not be tried out")?;
    let config = SandboxConfig {
        allow_unsandboxed: args.guests.allow_unsandboxed,
        private_networks: hosts.private_networks().await,
        runtime_dir: place.path().join("run"),
        guests_dir: place.path().join("guests"),
        private: args.database.private_places(data),
        tools_path: std::env::var_os("PATH").unwrap_or_default(),
        launcher: std::env::current_exe().context("This program's own file cannot be found")?,
    };
    Ok(sandbox::examine(config).await)
}
