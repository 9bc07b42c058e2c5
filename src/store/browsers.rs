//! What a browser keeps of a sign-in: a mark that only a master key makes. Wrong passwords of strangers do not count against whoever
//! signs in where they did before, wherever that is by now.
//! <https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies>

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::keyring::{self, MasterKey};
use super::sign_in::Account;
use super::{Db, Error, Result};

const NUMBER_LEN_BYTES: usize = 16;

impl Db {
    /// A new mark for a browser in which this person has just signed in. It signs nobody in, and is worth nothing once the password is
    /// another.
    pub fn browser_mark(&self, account: &Account) -> Result<String> {
        let mut number = [0; NUMBER_LEN_BYTES];
        keyring::random_bytes(&mut number)
            .map_err(|error| Error::caused("no mark could be made", error))?;
        let active = self.keys().master(&self.keys().active_fingerprint())?;
        let mac = mac(active, account.user.id, &account.session_stamp, &number)?
            .finalize()
            .into_bytes();
        Ok(URL_SAFE_NO_PAD.encode([&number[..], &mac].concat()))
    }

    /// The number of the browser that shows this mark, if this person has signed in there.
    pub(super) fn browser_number(&self, user_id: Uuid, stamp: &[u8], mark: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(mark).ok()?;
        let (number, shown) = bytes.split_at_checked(NUMBER_LEN_BYTES)?;
        let is_ours =
            |key| mac(key, user_id, stamp, number).is_ok_and(|mac| mac.verify_slice(shown).is_ok());
        self.keys()
            .masters()
            .iter()
            .any(is_ours)
            .then(|| hex::encode(number))
    }
}

fn mac(key: &MasterKey, user_id: Uuid, stamp: &[u8], number: &[u8]) -> Result<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.browser_key().as_slice())
        .map_err(|_| Error::broken("a key for marks has a wrong length"))?;
    // Each of a fixed length, so no two of them read alike.
    mac.update(user_id.as_bytes());
    mac.update(stamp);
    mac.update(number);
    Ok(mac)
}
