//! `sealport audit`: whether the record is as it was sealed, and its oldest part as a file.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::macros::format_description;

use super::audit_list::{self, ListArgs};
use super::config::DatabaseArgs;
use super::opened::{Opened, with_store};
use crate::store::chain::Link;
use crate::store::chain_check::ChainReport;
use crate::store::db::Opening;
use crate::store::unfinished::Unfinished;

/// The record over the API, or on the server's machine whether it is whole.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Checks every sealed row and batch, and prints the last link. The exit status is 1 when something is not as it was sealed.
    Verify {
        /// A link that an earlier check printed and that was kept elsewhere: shows whether the end was cut off or made anew.
        #[arg(long, value_parser = Link::parse)]
        link: Option<Link>,
        /// Checks an exported file rather than the record.
        #[arg(long)]
        file: Option<PathBuf>,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Writes what was sealed before a day to a new file, as JSON lines, and checks the file. Nothing is removed.
    Export {
        /// As in 2027-03-31; that day itself stays, in UTC.
        #[arg(long, value_parser = day)]
        before: OffsetDateTime,
        /// The file to write; it must not be there yet.
        file: PathBuf,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Removes from the record what stands in an exported file, after checking the file. The link to it is kept.
    Drop {
        /// The file. Keep it: afterwards it is the only copy.
        #[arg(long)]
        exported: PathBuf,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// Works while the server runs and when it does not.
pub async fn run(args: AuditArgs) -> anyhow::Result<()> {
    let Some(command) = args.command else {
        return audit_list::run(args.list).await;
    };
    match command {
        AuditCommand::Verify {
            link,
            file,
            database,
        } => {
            let report = with_store(&database, Opening::Command, async |opened| {
                verified(opened, link, file.as_deref()).await
            })
            .await?;
            said(&report, file.as_deref())?;
            whole(&report)
        }
        AuditCommand::Export {
            before,
            file,
            database,
        } => {
            let report = with_store(&database, Opening::Command, async |opened| {
                exported(opened, before, &file).await
            })
            .await?;
            said(&report, Some(&file))
        }
        AuditCommand::Drop { exported, database } => {
            let report = with_store(&database, Opening::Command, async |opened| {
                dropped(opened, &exported).await
            })
            .await?;
            whole(&report)?;
            writeln!(
                std::io::stdout(),
                "Dropped {} rows in {} batches from the record. Keep {}: it is the only copy now.",
                report.rows,
                report.batches,
                exported.display()
            )?;
            Ok(())
        }
    }
}

async fn verified(
    opened: &Opened,
    link: Option<Link>,
    file: Option<&Path>,
) -> anyhow::Result<ChainReport> {
    Ok(match file {
        Some(path) => opened.db.audit_verify_file(read(path)?, link).await?,
        None => opened.db.audit_verify(link).await?,
    })
}

async fn exported(
    opened: &Opened,
    before: OffsetDateTime,
    path: &Path,
) -> anyhow::Result<ChainReport> {
    let unwritten = || format!("{} was not written", path.display());
    // Never over another file. Whoever may read the record may be fewer than may read this directory.
    let (unfinished, file) = Unfinished::begin(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                anyhow!("a file of this name is there already. Take another name")
            }
            _ => anyhow::Error::from(error),
        })
        .with_context(unwritten)?;
    let mut out = BufWriter::new(file);
    let exported = opened.db.audit_export(before, &mut out).await;
    exported.with_context(unwritten)?;
    let file = out.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all())
        .with_context(unwritten)?;
    // What counts is what can be read again.
    let written = read(unfinished.path())?;
    let report = opened.db.audit_verify_file(written, None).await?;
    whole(&report).with_context(unwritten)?;
    unfinished.keep().with_context(unwritten)?;
    Ok(report)
}

async fn dropped(opened: &Opened, path: &Path) -> anyhow::Result<ChainReport> {
    Ok(opened.db.audit_drop(&opened.owner, read(path)?).await?)
}

fn read(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(BufReader::new(file))
}

fn said(report: &ChainReport, file: Option<&Path>) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    if let Some(path) = file {
        writeln!(out, "File: {}", path.display())?;
    }
    if let Some(dropped) = report.dropped {
        writeln!(out, "Exported and dropped: up to {dropped}")?;
    }
    writeln!(
        out,
        "Sealed and whole: {} rows in {} batches",
        report.rows, report.batches
    )?;
    if file.is_none() {
        writeln!(out, "Not sealed yet: {}", report.unsealed)?;
    }
    if let Some(link) = report.link {
        writeln!(out, "Link: {link}")?;
    }
    if report.damage.is_none() && file.is_none() {
        writeln!(
            out,
            "Keep the link elsewhere: `sealport audit verify --link` then shows whether anything up to it was cut off."
        )?;
    }
    Ok(())
}

fn whole(report: &ChainReport) -> anyhow::Result<()> {
    match &report.damage {
        Some(damage) => bail!("Damaged. {}", damage.sentence),
        None => Ok(()),
    }
}

fn day(text: &str) -> Result<OffsetDateTime, String> {
    time::Date::parse(text.trim(), format_description!("[year]-[month]-[day]"))
        .map(|day| day.midnight().assume_utc())
        .map_err(|_| "write the day as in 2027-03-31".into())
}
