//! Asking for the password again: what gives power away is done by whoever knows the password, not by whoever finds a session open.

use secrecy::{ExposeSecret, SecretString};
use tower_sessions::session::Id;

use super::audit::{self, Entry};
use super::deployments::person;
use super::passwords::Queue;
use super::sessions::id_hash;
use super::sign_in::{Known, limits, place_of};
use super::{Db, Result};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::users::{CONFIRMED_MINUTES, PASSWORD_MAX_BYTES};

impl Db {
    /// Whether the password was typed in this session of the caller's within the last ten minutes.
    pub async fn is_confirmed(&self, caller: &Caller, session: &Id) -> Result<bool> {
        let mut tx = self.begin_as(caller).await?;
        let confirmed = sqlx::query_scalar!(
            r#"select exists (select 1 from sessions where id_hash = $1 and user_id = current_actor() and expires_at > now()
                      and confirmed_at > now() - make_interval(mins => $2)) as "confirmed!""#,
            id_hash(session),
            CONFIRMED_MINUTES
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(confirmed)
    }

    /// Checks the password, with the limits of a sign-in and counted with those; on record either way.
    /// Errors: `Invalid` at `password`; `TooMany`.
    pub async fn confirm(
        &self,
        caller: &Caller,
        session: &Id,
        password: &SecretString,
    ) -> Result<()> {
        let user = person(caller)?;
        let entry = Entry {
            owner_id: Some(user.id),
            ..Entry::of(Action::PasswordConfirm)
        };
        let place = caller.origin.address.map(place_of);
        let found = self
            .account_by_email(&user.email, place, &caller.origin)
            .await?;
        let known = match found.as_ref().is_some_and(|found| found.known_address) {
            true => Known::Address,
            false => Known::Nothing,
        };
        let taken = match self
            .limits_take(&limits(&user.email, place, &known))
            .await?
        {
            Ok(taken) => taken,
            Err(full) => {
                if full.on_record {
                    let reason = Some("too many tries");
                    self.record_refusal(caller, Entry { reason, ..entry })
                        .await?;
                }
                return Err(full.refusal("Too many wrong passwords.").into());
            }
        };
        let hash = found.map(|found| found.password_hash);
        let right = password.expose_secret().len() <= PASSWORD_MAX_BYTES
            && self
                .passwords()
                .verify(password, hash, Queue::Known)
                .await?;
        if !right {
            let refusal = Refusal::invalid("password", "That is not your password.");
            return self
                .refuse_on_record(caller, entry, "wrong password", refusal)
                .await;
        }
        self.limits_give_back(taken).await?;
        let mut tx = self.begin_as(caller).await?;
        sqlx::query!(
            "update sessions set confirmed_at = now() where id_hash = $1 and user_id = current_actor()",
            id_hash(session)
        )
        .execute(&mut *tx)
        .await?;
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }
}
