//! Tokens: machines' credentials, kept as hashes.

use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::audit::{self, Entry};
use super::deployments::person;
use super::{Db, Error, Result};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, Folder};
use crate::model::tokens::{NewToken, Opens, TokenSummary};

/// A token lives this long at most, and this long when nothing is said.
pub const TOKEN_MAX_AGE_DAYS: i64 = 365;
/// The longest name of a token, in characters.
pub const TOKEN_NAME_LEN_CHARS: usize = 100;
/// Rows of one list.
const TOKENS_LISTED: i64 = 1_000;

/// What every token begins with, so that a person and a scanner know one.
const PREFIX: &str = "sp_";
/// Random characters: 43 of 62 make just over 256 bits.
const RANDOM_LEN_CHARS: usize = 43;
/// Check characters: four bytes of SHA-256 in base 62.
const CHECK_LEN_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token as its bearer has it: `sp_`, 43 random letters and digits, 6 that check the others.
pub struct PlainToken(SecretString);

/// A token as it is stored: SHA-256 in hex. It carries 256 random bits, so a slow hash would add nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedToken(String);

impl HashedToken {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

impl PlainToken {
    /// Errors: `Broken` when the system has no randomness.
    pub fn generate() -> Result<(PlainToken, HashedToken)> {
        let mut token = Zeroizing::new(String::with_capacity(
            PREFIX.len() + RANDOM_LEN_CHARS + CHECK_LEN_CHARS,
        ));
        token.push_str(PREFIX);
        let mut bytes = Zeroizing::new([0_u8; 64]);
        while token.len() < PREFIX.len() + RANDOM_LEN_CHARS {
            SysRng
                .try_fill_bytes(bytes.as_mut_slice())
                .map_err(|error| Error::caused("the system gave no random bytes", error))?;
            let missing = PREFIX.len() + RANDOM_LEN_CHARS - token.len();
            // 248 is the largest multiple of 62 in a byte: what is above would make some letters likelier.
            let letters = bytes.iter().filter(|byte| **byte < 248).take(missing);
            token.extend(letters.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
        }
        let check = check_of(&token);
        token.push_str(&check);
        let plain = PlainToken(SecretString::from(token.as_str()));
        let hashed = plain.hashed();
        Ok((plain, hashed))
    }

    /// A token of the right form and check; nothing is looked up.
    pub fn parse(presented: &SecretString) -> Option<PlainToken> {
        let token = presented.expose_secret();
        let right_form = token.len() == PREFIX.len() + RANDOM_LEN_CHARS + CHECK_LEN_CHARS
            && token.starts_with(PREFIX)
            && token[PREFIX.len()..]
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric());
        if !right_form {
            return None;
        }
        let (body, check) = token.split_at(token.len() - CHECK_LEN_CHARS);
        (check_of(body) == check).then(|| PlainToken(presented.clone()))
    }

    /// For showing it once to its maker.
    pub(super) fn expose(&self) -> &SecretString {
        &self.0
    }

    pub fn hashed(&self) -> HashedToken {
        HashedToken(hex::encode(Sha256::digest(
            self.0.expose_secret().as_bytes(),
        )))
    }
}

/// Tells a typo from a token without asking the database; it protects nothing.
fn check_of(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    let mut rest = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let mut check = ['0'; CHECK_LEN_CHARS];
    for place in check.iter_mut().rev() {
        *place = char::from(ALPHABET[(rest % 62) as usize]);
        rest /= 62;
    }
    check.iter().collect()
}

impl Db {
    /// A token for one deployment's gateway, with the caller as maker. Shown once; without an end it lives a year, the most.
    /// Errors: `NotFound`, `Invalid` at `name` or `expires_at`.
    pub async fn gateway_token_create(
        &self,
        caller: &Caller,
        deployment: &DeploymentName,
        name: &str,
        expires_at: Option<OffsetDateTime>,
    ) -> Result<NewToken> {
        let user = person(caller)?;
        let name = checked_name(name)?;
        let expires_at = checked_end(expires_at)?;
        let mut tx = self.begin_as(caller).await?;
        let found = sqlx::query!(
            "select id, owner_id from deployments where name = $1 and reach(owner_id, 'deployment', id, null) >= 1",
            deployment.as_str(),
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(found) = found else {
            tx.rollback().await?;
            let entry = Entry {
                deployment: Some(deployment.as_str()),
                reason: Some("no right to the deployment"),
                ..Entry::of(Action::TokenCreate)
            };
            self.record_refusal(caller, entry).await?;
            return Err(Refusal::not_found("deployment").into());
        };
        let (plain, hashed) = PlainToken::generate()?;
        let id = Uuid::now_v7();
        sqlx::query!(
            "insert into tokens (id, hash, maker_id, owner_id, audience, deployment_id, name, expires_at) \
             values ($1, $2, $3, $4, 'gateway', $5, $6, $7)",
            id,
            hashed.0,
            user.id,
            found.owner_id,
            found.id,
            name,
            expires_at,
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            owner_id: Some(found.owner_id),
            deployment: Some(deployment.as_str()),
            ..Entry::of(Action::TokenCreate)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(NewToken {
            id,
            token: plain.0.expose_secret().to_owned(),
        })
    }

    /// The caller's tokens, those of their deployments, and those that act for teams of theirs; the newest first, at most 1,000.
    pub async fn tokens_list(&self, caller: &Caller) -> Result<Vec<TokenSummary>> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query!(
            r#"select t.id, t.name, t.audience, d.name as "deployment?", coalesce(m.handle, '') as "maker!", coalesce(o.handle, '') as "owner!",
                      t.ceiling, t.prefix, t.deploys, t.created_at, t.expires_at, t.last_used_at, t.revoked_at
               from tokens t
               left join deployments d on d.id = t.deployment_id
               left join owners m on m.id = t.maker_id
               left join owners o on o.id = t.owner_id
               where t.maker_id = current_actor() or t.deployment_id in (select deployments_in_sight())
                  or t.owner_id = any (record_owners())
               order by t.created_at desc, t.id desc limit $1"#,
            TOKENS_LISTED,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let listed = rows.into_iter().filter_map(|row| {
            let opens = match row.audience.as_str() {
                "api" => Opens::Api {
                    owner: row.owner,
                    ceiling: Level::from_number(row.ceiling?)?,
                    under: row.prefix.and_then(|prefix| Folder::parse(&prefix).ok()),
                    deploys: row.deploys,
                },
                _ => Opens::Gateway(row.deployment.unwrap_or_default()),
            };
            Some(TokenSummary {
                id: row.id,
                name: row.name,
                opens,
                maker: row.maker,
                created_at: row.created_at,
                expires_at: row.expires_at,
                last_used_at: row.last_used_at,
                revoked_at: row.revoked_at,
            })
        });
        Ok(listed.collect())
    }

    /// Ends a token from the next request on; one that is revoked stays so. Errors: `NotFound`.
    pub async fn token_revoke(&self, caller: &Caller, id: Uuid) -> Result<()> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let token = sqlx::query!(
            r#"select t.owner_id, t.revoked_at is not null as "revoked!", d.name as "deployment?"
               from tokens t left join deployments d on d.id = t.deployment_id
               where t.id = $1 for update of t"#,
            id,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(token) = token else {
            tx.rollback().await?;
            let entry = Entry {
                reason: Some("no right to the token"),
                ..Entry::of(Action::TokenRevoke)
            };
            self.record_refusal(caller, entry).await?;
            return Err(Refusal::not_found("token").into());
        };
        if token.revoked {
            return Ok(());
        }
        sqlx::query!("update tokens set revoked_at = now() where id = $1", id)
            .execute(&mut *tx)
            .await?;
        let entry = Entry {
            owner_id: Some(token.owner_id),
            deployment: token.deployment.as_deref(),
            ..Entry::of(Action::TokenRevoke)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// A token's name. Errors: `Invalid` at `name`.
pub(super) fn checked_name(name: &str) -> Result<&str> {
    let name = name.trim();
    let name_len_chars = name.chars().count();
    if name_len_chars == 0
        || name_len_chars > TOKEN_NAME_LEN_CHARS
        || name.chars().any(char::is_control)
    {
        return Err(Refusal::invalid(
            "name",
            "Give the token a name of 1 to 100 characters, such as the program that will use it.",
        )
        .into());
    }
    Ok(name)
}

/// When a token ends; without an end asked for, as late as it may. Errors: `Invalid` at `expires_at`.
pub(super) fn checked_end(asked: Option<OffsetDateTime>) -> Result<OffsetDateTime> {
    let now = OffsetDateTime::now_utc();
    let latest = now + time::Duration::days(TOKEN_MAX_AGE_DAYS);
    let expires_at = asked.unwrap_or(latest);
    // A minute of grace: the form that asked for a year was sent a moment ago.
    if expires_at <= now || expires_at > latest + time::Duration::minutes(1) {
        return Err(Refusal::invalid(
            "expires_at",
            "A token ends in the future, in a year at the latest.",
        )
        .into());
    }
    Ok(expires_at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_token_is_known_by_its_form_and_check() {
        let (plain, hashed) = PlainToken::generate().unwrap();
        let text = plain.0.expose_secret().to_owned();
        assert_eq!(text.len(), 52);
        assert!(text.starts_with("sp_"));
        assert_eq!(PlainToken::parse(&plain.0).unwrap().hashed(), hashed);
        assert!(!hashed.0.contains(&text[3..11]));
        for at in 0..text.len() {
            let mut typo = text.clone().into_bytes();
            typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
            let typo = SecretString::from(String::from_utf8(typo).unwrap());
            assert!(PlainToken::parse(&typo).is_none(), "at {at}");
        }
        for wrong in [
            "",
            "sp_",
            "ü",
            &text[..51],
            &format!("{text}0"),
            &text.replace("sp_", "sp-"),
        ] {
            assert!(
                PlainToken::parse(&SecretString::from(wrong)).is_none(),
                "{wrong}"
            );
        }
        let (other, _) = PlainToken::generate().unwrap();
        assert_ne!(other.0.expose_secret(), text);
    }
}
