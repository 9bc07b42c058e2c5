//! One-time links that administrators make: an invitation makes an account, a reset link sets a password. Kept as hashes,
//! shown once; whoever holds one is whoever the administrator gave it to.

use secrecy::SecretString;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::administrators::{is_administrator, not_yours};
use super::audit::{self, Entry};
use super::passwords::check_rules;
use super::sign_in::{Account, know_sign_in, place_of};
use super::users::{link_hash, make_user, new_link, presenting};
use super::{Db, Result};
use crate::model::actors::{Actor, Caller, Origin, SignedInUser};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::users::{Email, Invitation, LinkSays};

/// How long an invitation holds.
pub const INVITATION_HOURS: i32 = 72;
/// How long a reset link holds.
pub const RESET_HOURS: i32 = 1;
/// Invitations that are open at once.
const INVITATIONS_MAX: i64 = 500;

/// What a link is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Invitation,
    Reset,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Purpose::Invitation => "invitation",
            Purpose::Reset => "reset",
        }
    }

    /// What stands in the record when one is used.
    fn action(self) -> Action {
        match self {
            Purpose::Invitation => Action::UserAdd,
            Purpose::Reset => Action::PasswordReset,
        }
    }

    fn spent(self) -> Refusal {
        Refusal::new(
            RefusalKind::Unauthenticated,
            match self {
                Purpose::Invitation => {
                    "This invitation was used or withdrawn, or is older than 72 hours. Ask the administrator who sent it for another."
                }
                Purpose::Reset => {
                    "This link was used, or is older than an hour. Ask an administrator for another."
                }
            },
        )
    }
}

impl Db {
    /// Invites the person with this address, in the place of an earlier invitation. Returns the link's secret part, which is shown once.
    /// Errors: `Denied` for whoever is no administrator; `Taken` at `email` when there is such an account.
    pub async fn invitation_make(
        &self,
        caller: &Caller,
        email: &Email,
        as_administrator: bool,
    ) -> Result<SecretString> {
        let action = Action::InvitationMake;
        let (mut tx, me) = self.administering(caller, action).await?;
        let there = sqlx::query!(
            r#"select exists (select 1 from users where email = $1) as "taken!",
                      (select count(*) from one_time_links where purpose = 'invitation' and used_at is null
                       and expires_at > now() and email <> $1) as "open!""#,
            email.as_str()
        )
        .fetch_one(&mut *tx)
        .await?;
        if there.taken {
            return Err(Refusal::new(
                RefusalKind::Taken,
                "There is an account with this e-mail address already. If the person cannot sign in, make a reset link for them.",
            )
            .at("email")
            .into());
        }
        if there.open >= INVITATIONS_MAX {
            return Err(Refusal::new(
                RefusalKind::TooMany,
                format!("{INVITATIONS_MAX} invitations are open. Withdraw some first."),
            )
            .into());
        }
        sqlx::query!(
            "delete from one_time_links where purpose = 'invitation' and email = $1",
            email.as_str()
        )
        .execute(&mut *tx)
        .await?;
        let link = new_link()?;
        sqlx::query!(
            "insert into one_time_links (hash, purpose, expires_at, email, as_administrator, made_by, made_by_name)
             values ($1, 'invitation', now() + make_interval(hours => $2), $3, $4, $5, $6)",
            link_hash(&link),
            INVITATION_HOURS,
            email.as_str(),
            as_administrator,
            me.id,
            me.handle
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            reason: as_administrator.then_some("as an administrator"),
            ..Entry::of(action)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(link)
    }

    /// Invitations that can still be used, newest first. Errors: `Denied`.
    pub async fn invitations_list(&self, caller: &Caller) -> Result<Vec<Invitation>> {
        let mut tx = self.begin_as(caller).await?;
        if !is_administrator(&mut tx).await? {
            return Err(not_yours().into());
        }
        let open = sqlx::query_as!(
            Invitation,
            r#"select id, email as "email!", as_administrator, made_by_name as "made_by!", created_at, expires_at
               from one_time_links where purpose = 'invitation' and used_at is null and expires_at > now()
               order by created_at desc, id limit $1"#,
            INVITATIONS_MAX
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(open)
    }

    /// Ends an invitation. Errors: `Denied`; `NotFound` when it is not open any more.
    pub async fn invitation_withdraw(&self, caller: &Caller, id: Uuid) -> Result<()> {
        let action = Action::InvitationWithdraw;
        let (mut tx, _) = self.administering(caller, action).await?;
        let gone = sqlx::query!(
            "delete from one_time_links where id = $1 and purpose = 'invitation' and used_at is null",
            id
        )
        .execute(&mut *tx)
        .await?;
        if gone.rows_affected() != 1 {
            return Err(Refusal::not_found("invitation").into());
        }
        audit::record(&mut tx, caller, Entry::of(action)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A link with which the person sets a new password, in the place of an earlier one. Returns its secret part, which is shown once.
    /// Errors: `Denied`; `NotFound`.
    pub async fn reset_make(&self, caller: &Caller, user_id: Uuid) -> Result<SecretString> {
        let action = Action::ResetMake;
        let (mut tx, me) = self.administering(caller, action).await?;
        let email = sqlx::query_scalar!(
            "select email from users where id = $1 and ended_at is null",
            user_id
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Refusal::not_found("person"))?;
        sqlx::query!(
            "delete from one_time_links where purpose = 'reset' and user_id = $1",
            user_id
        )
        .execute(&mut *tx)
        .await?;
        let link = new_link()?;
        sqlx::query!(
            "insert into one_time_links (hash, purpose, expires_at, email, user_id, made_by, made_by_name)
             values ($1, 'reset', now() + make_interval(hours => $2), $3, $4, $5, $6)",
            link_hash(&link),
            RESET_HOURS,
            email,
            user_id,
            me.id,
            me.handle
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            owner_id: Some(user_id),
            ..Entry::of(action)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(link)
    }

    /// What an invitation says, if it holds; changes nothing (a GET must not burn it).
    pub async fn invitation_open(&self, link: &SecretString) -> Result<Option<LinkSays>> {
        self.link_open(link, Purpose::Invitation).await
    }

    /// Whose password a reset link sets, if it holds; changes nothing.
    pub async fn reset_open(&self, link: &SecretString) -> Result<Option<LinkSays>> {
        self.link_open(link, Purpose::Reset).await
    }

    /// Burns the invitation and makes the account, both or neither. Errors: `Unauthenticated` for a link that does not hold;
    /// `Invalid` at `password`, `Taken` at `email` (the link then still holds).
    pub async fn invitation_accept(
        &self,
        link: &SecretString,
        password: &SecretString,
        origin: &Origin,
    ) -> Result<SignedInUser> {
        let purpose = Purpose::Invitation;
        let (mut tx, caller, burnt, password_hash) =
            self.burnt(link, purpose, password, origin).await?;
        let email = Email::parse(&burnt.email)?;
        let user = make_user(&mut tx, &email, &password_hash, burnt.as_administrator).await?;
        let entry = Entry {
            owner_id: Some(user.id),
            ..Entry::of(purpose.action())
        };
        audit::record(&mut tx, &caller, entry).await?;
        tx.commit().await?;

        let themselves = Caller {
            actor: Actor::User(user.clone()),
            origin: origin.clone(),
        };
        let mut tx = self.begin_as(&themselves).await?;
        know_sign_in(&mut tx, user.id, origin.address.map(place_of)).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Burns the reset link, sets the password and ends all the person's sessions, all or nothing. Returns whose it is, with
    /// the stamp of the password that was set.
    /// Errors: as [`Db::invitation_accept`].
    pub async fn reset_use(
        &self,
        link: &SecretString,
        password: &SecretString,
        origin: &Origin,
    ) -> Result<Account> {
        let purpose = Purpose::Reset;
        let (mut tx, caller, burnt, password_hash) =
            self.burnt(link, purpose, password, origin).await?;
        let user_id = burnt.user_id.ok_or_else(|| purpose.spent())?;
        let changed = sqlx::query!(
            // Whoever sets it is signed in by that.
            "update users set password_hash = $2, password_changed_at = now(), signed_in_at = now()
             where id = $1 and ended_at is null",
            user_id,
            password_hash
        )
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() != 1 {
            return Err(purpose.spent().into());
        }
        sqlx::query!("delete from sessions where user_id = $1", user_id)
            .execute(&mut *tx)
            .await?;
        let entry = Entry {
            owner_id: Some(user_id),
            ..Entry::of(purpose.action())
        };
        audit::record(&mut tx, &caller, entry).await?;
        tx.commit().await?;
        // Whoever only holds a link does not see the handle. The stamp is not looked up: another password may be there by now.
        let account = self.account(user_id).await?;
        let account = account.ok_or_else(|| purpose.spent())?;
        Ok(Account::of(account.user, &password_hash))
    }

    async fn link_open(&self, link: &SecretString, purpose: Purpose) -> Result<Option<LinkSays>> {
        let hash = link_hash(link);
        let mut tx = self
            .begin_as(&presenting(&hash, &Origin::default()))
            .await?;
        let says = sqlx::query_as!(
            LinkSays,
            r#"select email as "email!", as_administrator from one_time_links
               where hash = $1 and purpose = $2 and used_at is null and expires_at > now()"#,
            hash,
            purpose.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(says)
    }

    /// A transaction of whoever holds the link, in which it is burnt, and the hash of the password that came with it.
    async fn burnt(
        &self,
        link: &SecretString,
        purpose: Purpose,
        password: &SecretString,
        origin: &Origin,
    ) -> Result<(Transaction<'static, Postgres>, Caller, Burnt, String)> {
        let hash = link_hash(link);
        let caller = presenting(&hash, origin);
        let entry = || Entry::of(purpose.action());
        // Before any work is done for someone who only guesses.
        if self.link_open(link, purpose).await?.is_none() {
            let spent = purpose.spent();
            return self
                .refuse_on_record(&caller, entry(), "link does not hold", spent)
                .await;
        }
        check_rules(password, "password")?;
        let password_hash = self.passwords().hash(password).await?;
        let mut tx = self.begin_as(&caller).await?;
        let burnt = sqlx::query_as!(
            Burnt,
            r#"update one_time_links set used_at = now()
               where hash = $1 and purpose = $2 and used_at is null and expires_at > now()
               returning email as "email!", as_administrator, user_id"#,
            hash,
            purpose.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?;
        match burnt {
            Some(burnt) => Ok((tx, caller, burnt, password_hash)),
            None => {
                tx.rollback().await?;
                let spent = purpose.spent();
                self.refuse_on_record(&caller, entry(), "link does not hold", spent)
                    .await
            }
        }
    }
}

struct Burnt {
    email: String,
    as_administrator: bool,
    user_id: Option<Uuid>,
}
