//! The store, opened for the server or for a command beside it: the one way in, which looks before it makes anything.

use anyhow::{Context, bail};

use super::config::DatabaseArgs;
use crate::store::data_dir::DataDir;
use crate::store::db::{Db, Opening, OwnerLogin};
use crate::store::embedded::Embedded;

/// The store, opened, with the database that came with it.
pub struct Opened {
    pub db: Db,
    pub embedded: Option<Embedded>,
    /// For what only the tables' owner may do.
    pub owner: OwnerLogin,
}

impl Opened {
    /// Ends what was opened, beside a server or without one.
    pub async fn close(self) -> anyhow::Result<()> {
        self.db.close().await;
        if let Some(embedded) = self.embedded {
            embedded.stop().await?;
        }
        Ok(())
    }
}

/// Opens the store for a command, works on it, and closes it; beside a server that runs, or alone.
pub async fn with_store<T>(
    database: &DatabaseArgs,
    opening: Opening,
    work: impl AsyncFnOnce(&Opened) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let data = database.data_dir(opening)?;
    let opened = database.open(&data, opening).await?;
    let worked = work(&opened).await;
    let closed = opened.close().await;
    let worked = worked?;
    closed?;
    Ok(worked)
}

impl DatabaseArgs {
    /// The data directory, made when it is not there. Errors: for a command that works on what is there, when nothing is; nothing was
    /// made then. An installation of its own in whatever directory it was called from would tell of success where there is none.
    pub fn data_dir(&self, opening: Opening) -> anyhow::Result<DataDir> {
        let wants_one = opening == Opening::Command && self.database_url.is_none();
        if wants_one && !DataDir::may_hold_a_database(&self.data) {
            return self.refuse_to_make_one();
        }
        let data = DataDir::open(&self.data).context("SEALPORT_DATA cannot be used")?;
        if wants_one && !data.holds_a_database() {
            return self.refuse_to_make_one();
        }
        Ok(data)
    }

    fn refuse_to_make_one(&self) -> anyhow::Result<DataDir> {
        // In full: what is wrong with `./data` is where it was called from.
        let looked_at = std::path::absolute(&self.data).unwrap_or_else(|_| self.data.clone());
        bail!(
            "There is no database in {}, and no DATABASE_URL. Name your data directory in SEALPORT_DATA, start `sealport serve` for a \
             new installation, or bring one back by `sealport restore`. Nothing was made.",
            looked_at.display()
        )
    }

    /// Opens the store.
    pub async fn open(&self, data: &DataDir, opening: Opening) -> anyhow::Result<Opened> {
        let keys = self.keys(data)?;
        let (config, embedded) = self.place(data, opening == Opening::Server).await?;
        let owner = config.owner_login();
        match Db::open_for(opening, config, keys).await {
            Ok(db) => Ok(Opened {
                db,
                embedded,
                owner,
            }),
            Err(error) => {
                if let Some(embedded) = embedded {
                    let _ = embedded.stop().await;
                }
                let error = anyhow::Error::from(error);
                Err(match self.database_url {
                    Some(_) => error.context("The database of DATABASE_URL cannot be used"),
                    None => error,
                })
            }
        }
    }
}
