//! Signing in: Argon2id, the same cost for known and unknown names, and limits that slow guessing.

use std::net::IpAddr;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::limits::{Full, Limit};
use super::passwords::Queue;
use super::{Db, Error, Result};
use crate::model::actors::{Actor, Caller, Origin, Presented, SignedInUser};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::users::{Email, PASSWORD_MAX_BYTES};

const QUARTER_SECS: i32 = 15 * 60;
const HOUR_SECS: i32 = 60 * 60;
/// Wrong tries in a quarter of an hour from one address, whatever the account.
const BY_ADDRESS: i64 = 30;
/// Wrong tries in a quarter of an hour from one address at one account.
const BY_ACCOUNT_AND_ADDRESS: i64 = 10;
/// Wrong tries in an hour at one account from all addresses where nobody has signed in to it.
const BY_ACCOUNT: i64 = 50;
/// Wrong tries in a quarter of an hour in a browser, or from an address, where someone has signed in to the account before. Nothing else
/// is counted there: strangers cannot lock anyone out.
const WHERE_KNOWN: i64 = 20;

/// One sentence for every cause, so that it does not tell whether there is such an account.
const DO_NOT_MATCH: &str =
    "That e-mail address and password do not belong together. Check both and try again.";

/// An account as axum-login needs it.
#[derive(Clone)]
pub struct Account {
    pub user: SignedInUser,
    /// Changes with the password, so that a change ends other sessions. A hash of the password hash.
    pub session_stamp: Vec<u8>,
}

impl Account {
    /// With the stamp of this very hash, not of what may have come after it.
    pub(super) fn of(user: SignedInUser, password_hash: &str) -> Self {
        Account {
            user,
            session_stamp: session_stamp(password_hash),
        }
    }
}

pub(super) struct Found {
    id: Uuid,
    email: String,
    pub(super) password_hash: String,
    is_admin: bool,
    pub(super) known_address: bool,
}

impl Db {
    /// Checks a password. Errors: `Unauthenticated` (one sentence for every cause), `TooMany` with when to try again. On record either way.
    pub async fn sign_in(
        &self,
        email: &str,
        password: &SecretString,
        origin: &Origin,
    ) -> Result<Account> {
        self.sign_in_with_mark(email, password, None, origin).await
    }

    /// The same from a browser that shows the mark of an earlier sign-in.
    pub async fn sign_in_with_mark(
        &self,
        email: &str,
        password: &SecretString,
        mark: Option<&str>,
        origin: &Origin,
    ) -> Result<Account> {
        // Canonical before anything is counted or looked up. What is no address belongs to nobody, and costs the same.
        let email = Email::parse(email).map_or_else(
            |_| email.trim().to_lowercase(),
            |email| email.as_str().to_owned(),
        );
        let place = origin.address.map(place_of);
        let found = self.account_by_email(&email, place, origin).await?;

        let known = self.known(found.as_ref(), mark);
        let caller = presenting(&email, origin);
        let entry = Entry {
            owner_id: found.as_ref().map(|found| found.id),
            ..Entry::of(Action::SignIn)
        };
        let taken = match self.limits_take(&limits(&email, place, &known)).await? {
            Ok(taken) => taken,
            Err(full) => return self.too_many(&caller, entry, full).await,
        };
        // Hashing far more than a password can have would be work for nothing; the length says nothing of the account.
        let right = password.expose_secret().len() <= PASSWORD_MAX_BYTES
            && self
                .passwords()
                .verify(
                    password,
                    found.as_ref().map(|f| f.password_hash.clone()),
                    known.queue(),
                )
                .await?;
        match found {
            Some(found) if right => {
                self.limits_give_back(taken).await?;
                self.signed_in(found, place, origin).await
            }
            _ => {
                let refusal = Refusal::new(RefusalKind::Unauthenticated, DO_NOT_MATCH);
                self.refuse_on_record(&caller, entry, "wrong e-mail or password", refusal)
                    .await
            }
        }
    }

    /// Puts the end of a session on record; the session itself ends in the session store.
    pub async fn signed_out(&self, caller: &Caller) -> Result<()> {
        let mut tx = self.begin_as(caller).await?;
        let entry = Entry {
            owner_id: caller.user().map(|user| user.id),
            ..Entry::of(Action::SignOut)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The account of a session, unless it has ended.
    pub async fn account(&self, id: Uuid) -> Result<Option<Account>> {
        let mut tx = self.begin_as(&themselves(id, &Origin::default())).await?;
        let row = sqlx::query!(
            "select o.handle, u.email, u.is_admin, u.password_hash
             from users u join owners o on o.id = u.id
             where u.id = $1 and u.ended_at is null",
            id
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row.map(|row| Account {
            user: SignedInUser {
                id,
                handle: row.handle,
                email: row.email,
                is_admin: row.is_admin,
            },
            session_stamp: session_stamp(&row.password_hash),
        }))
    }

    /// How often Argon2 has run since the start: tests show by it that every name costs the same.
    #[doc(hidden)]
    pub fn argon2_runs(&self) -> u64 {
        self.passwords().runs()
    }

    pub(super) async fn account_by_email(
        &self,
        email: &str,
        place: Option<IpNet>,
        origin: &Origin,
    ) -> Result<Option<Found>> {
        let mut tx = self.begin_as(&presenting(email, origin)).await?;
        let found = sqlx::query_as!(
            Found,
            r#"select u.id, u.email, u.password_hash, u.is_admin,
                      exists (select 1 from known_addresses k where k.user_id = u.id and k.address = $1) as "known_address!"
               from users u where u.email = presented() and u.ended_at is null"#,
            place
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(found)
    }

    async fn signed_in(
        &self,
        found: Found,
        place: Option<IpNet>,
        origin: &Origin,
    ) -> Result<Account> {
        let mut tx = self.begin_as(&themselves(found.id, origin)).await?;
        let handle = sqlx::query_scalar!("select handle from owners where id = $1", found.id)
            .fetch_one(&mut *tx)
            .await?;
        let user = SignedInUser {
            id: found.id,
            handle,
            email: found.email,
            is_admin: found.is_admin,
        };
        know_sign_in(&mut tx, user.id, place).await?;
        let caller = Caller {
            actor: Actor::User(user.clone()),
            origin: origin.clone(),
        };
        let entry = Entry {
            owner_id: Some(user.id),
            ..Entry::of(Action::SignIn)
        };
        audit::record(&mut tx, &caller, entry).await?;
        tx.commit().await?;
        Ok(Account {
            user,
            session_stamp: session_stamp(&found.password_hash),
        })
    }

    fn known(&self, found: Option<&Found>, mark: Option<&str>) -> Known {
        let Some(found) = found else {
            return Known::Nothing;
        };
        let stamp = session_stamp(&found.password_hash);
        match mark.and_then(|mark| self.browser_number(found.id, &stamp, mark)) {
            Some(number) => Known::Browser(number),
            None if found.known_address => Known::Address,
            None => Known::Nothing,
        }
    }

    async fn too_many<T>(&self, caller: &Caller, mut entry: Entry<'_>, full: Full) -> Result<T> {
        if full.on_record {
            entry.reason = Some("too many tries");
            self.record_refusal(caller, entry).await?;
        }
        Err(Error::from(full.refusal("Too many tries to sign in.")))
    }
}

/// Remembers that someone has signed in to their account now, from there.
pub(super) async fn know_sign_in(
    tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    user_id: Uuid,
    place: Option<IpNet>,
) -> Result<()> {
    sqlx::query!(
        "update users set signed_in_at = now() where id = $1",
        user_id
    )
    .execute(&mut **tx)
    .await?;
    if let Some(place) = place {
        sqlx::query!(
            "insert into known_addresses (user_id, address) values ($1, $2)
             on conflict (user_id, address) do update set last_at = now()",
            user_id,
            place
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 host can have all of.
pub(super) fn place_of(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(address) => IpNet::from(IpAddr::V4(address)),
        IpAddr::V6(address) => ipnet::Ipv6Net::new(address, 64)
            .map_or(IpNet::from(IpAddr::V6(address)), |net| {
                IpNet::V6(net.trunc())
            }),
    }
}

/// The address that counts, as text.
pub(super) fn place_name(origin: &Origin) -> String {
    origin.address.map_or_else(
        || "none".to_owned(),
        |address| place_of(address).to_string(),
    )
}

/// How somebody who signs in is known there.
pub(super) enum Known {
    /// By the browser with this number.
    Browser(String),
    /// By the address, which others may share.
    Address,
    Nothing,
}

impl Known {
    fn queue(&self) -> Queue {
        match self {
            Known::Browser(_) | Known::Address => Queue::Known,
            Known::Nothing => Queue::Strangers,
        }
    }
}

pub(super) fn limits(email: &str, place: Option<IpNet>, known: &Known) -> Vec<Limit> {
    let place = place.map_or_else(|| "none".to_owned(), |place| place.to_string());
    let by = match known {
        Known::Browser(number) => Some(("sign-in/browser", number)),
        Known::Address => Some(("sign-in/known", &place)),
        Known::Nothing => None,
    };
    if let Some((kind, by)) = by {
        return vec![Limit::new(kind, &[email, by], QUARTER_SECS, WHERE_KNOWN)];
    }
    vec![
        Limit::new("sign-in/address", &[&place], QUARTER_SECS, BY_ADDRESS),
        Limit::new(
            "sign-in/account-and-address",
            &[email, &place],
            QUARTER_SECS,
            BY_ACCOUNT_AND_ADDRESS,
        ),
        Limit::new("sign-in/account", &[email], HOUR_SECS, BY_ACCOUNT),
    ]
}

/// Somebody who says an address. What is no address presents nothing.
fn presenting(email: &str, origin: &Origin) -> Caller {
    let shown = match Email::parse(email) {
        Ok(email) => Presented::Email(email.as_str().to_owned()),
        Err(_) => Presented::Nothing,
    };
    Caller {
        actor: Actor::Anonymous(shown),
        origin: origin.clone(),
    }
}

/// A user of whom only the id is known yet; enough for Row Level Security.
fn themselves(id: Uuid, origin: &Origin) -> Caller {
    Caller {
        actor: Actor::User(SignedInUser {
            id,
            handle: String::new(),
            email: String::new(),
            is_admin: false,
        }),
        origin: origin.clone(),
    }
}

fn session_stamp(password_hash: &str) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(b"sealport/1/session-stamp");
    hash.update(password_hash.as_bytes());
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn one_ipv6_host_is_one_address() {
        let place = |text: &str| place_of(text.parse().unwrap()).to_string();
        assert_eq!(place("2001:db8:1:2:3:4:5:6"), place("2001:db8:1:2::9"));
        assert_ne!(place("2001:db8:1:2::9"), place("2001:db8:1:3::9"));
        assert_eq!(place("::ffff:192.0.2.7"), place("192.0.2.7"));
        assert_ne!(place("192.0.2.8"), place("192.0.2.7"));
    }
}
