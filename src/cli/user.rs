//! `sealport user`: people with an account.

use std::io::{IsTerminal, Read, Write};

use anyhow::Context;
use secrecy::SecretString;

use super::config::DatabaseArgs;
use super::opened::with_store;
use crate::model::users::{Email, PASSWORD_MAX_BYTES};
use crate::store::db::Opening;

/// Makes an account; works while the server runs and when it does not.
pub async fn add(email: &str, is_admin: bool, database: DatabaseArgs) -> anyhow::Result<()> {
    let email = Email::parse(email)?;
    let password = password_from_stdin()?;
    let user = with_store(&database, Opening::FirstCommand, async |opened| {
        Ok(opened.db.user_add(&email, &password, is_admin).await?)
    })
    .await?;
    writeln!(
        std::io::stdout(),
        "Made an account for {} ({}{}).",
        user.email,
        user.handle,
        if user.is_admin { ", administrator" } else { "" }
    )?;
    Ok(())
}

/// One line of standard input, without its end; at a terminal it is asked for and not shown.
fn password_from_stdin() -> anyhow::Result<SecretString> {
    if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password("Password: ");
        return Ok(SecretString::from(
            typed.context("The password could not be read")?,
        ));
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    std::io::stdin()
        .take(PASSWORD_MAX_BYTES as u64 + 2)
        .read_to_string(&mut text)
        .context("The password could not be read from standard input")?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}
