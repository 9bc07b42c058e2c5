//! `sealport key`: the master key.

use std::io::Write;

use secrecy::ExposeSecret;

/// Prints a new master key alone on standard output.
pub fn new() -> anyhow::Result<()> {
    let key = crate::store::db::new_key()?;
    writeln!(std::io::stdout(), "{}", key.expose_secret())?;
    Ok(())
}
