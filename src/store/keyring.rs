//! Sealing itself: AES-256-GCM, bound to its place. Knows no database; `keys` keeps what it makes.

use std::fmt;

use aes_gcm::aead::{Aead, AeadInOut, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use hkdf::Hkdf;
use rand::TryRng;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

/// The first byte of all that is sealed; another number is another format.
pub(super) const FORMAT: u8 = 1;
pub(super) const KEY_LEN_BYTES: usize = 32;
pub(super) const FINGERPRINT_LEN_BYTES: usize = 16;
const NONCE_LEN_BYTES: usize = 12;
const TAG_LEN_BYTES: usize = 16;
const ID_LEN_BYTES: usize = 16;
/// What a sealed value has beside the value: its length can be told without opening it.
pub(super) const SEALED_EXTRA_BYTES: usize = 1 + ID_LEN_BYTES + NONCE_LEN_BYTES + TAG_LEN_BYTES;

/// Labels keep keys for different uses apart (RFC 5869, section 3.2).
const FINGERPRINT_LABEL: &[u8] = b"sealport/1/fingerprint";
const CANARY_LABEL: &[u8] = b"sealport/1/canary";
const DATA_KEY_LABEL: &[u8] = b"sealport/1/data-key";
const CHAIN_KEY_LABEL: &[u8] = b"sealport/1/chain-key";
const GATEWAY_KEY_LABEL: &[u8] = b"sealport/1/gateway-key";
const BROWSER_LABEL: &[u8] = b"sealport/1/browser";
const IMPORT_LABEL: &[u8] = b"sealport/1/import";
const CANARY_TEXT: &[u8] = b"sealport opens with this key";

/// Where a value is sealed to: a ciphertext moved to another owner, secret, version or key does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub owner_id: Uuid,
    pub secret_id: Uuid,
    pub version: i32,
}

/// Where the values of an import that waits are sealed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImportPlace {
    pub(super) owner_id: Uuid,
    pub(super) import_id: Uuid,
}

/// What a key is for that a master key wraps beside data keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFor {
    /// The record's chain.
    Chain,
    /// Calls of a deployment at a provider.
    Gateway,
}

impl KeyFor {
    fn label(self) -> &'static [u8] {
        match self {
            KeyFor::Chain => CHAIN_KEY_LABEL,
            KeyFor::Gateway => GATEWAY_KEY_LABEL,
        }
    }
}

/// A sealed value, as it stands in the database: format byte, data key id, nonce, ciphertext and tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// It did not open, or could not be sealed. Says nothing more, so that it tells an attacker nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it does not open here: the key is another, or the bytes or their place were changed")]
    DoesNotOpen,
    #[error("the system gave no random bytes")]
    NoRandomness,
    #[error("what was opened is no text")]
    NoText,
    #[error("it is too long to seal")]
    TooLong,
}

/// The key above all: comes from the environment or the key file, never from the database.
pub(super) struct MasterKey {
    key: Zeroizing<[u8; KEY_LEN_BYTES]>,
    fingerprint: [u8; FINGERPRINT_LEN_BYTES],
}

impl MasterKey {
    pub(super) fn new(key: Zeroizing<[u8; KEY_LEN_BYTES]>) -> Self {
        let mut fingerprint = [0; FINGERPRINT_LEN_BYTES];
        derive(&key, FINGERPRINT_LABEL, &mut fingerprint);
        MasterKey { key, fingerprint }
    }

    pub(super) fn generate() -> Result<Self, SealError> {
        Ok(MasterKey::new(random_key()?))
    }

    /// Names the key and says nothing of it: 32 hex digits.
    pub(super) fn fingerprint(&self) -> String {
        hex::encode(self.fingerprint)
    }

    /// The key in the form `SEALPORT_MASTER_KEY` and the key file take.
    pub(super) fn to_text(&self) -> SecretString {
        let mut text = vec![0; KEY_LEN_BYTES * 2];
        // The buffer is as long as the digits, so this cannot fail.
        let _ = hex::encode_to_slice(self.key.as_slice(), &mut text);
        SecretString::from(String::from_utf8(text).unwrap_or_default())
    }

    /// The key itself, for splitting it.
    pub(super) fn bytes(&self) -> &[u8; KEY_LEN_BYTES] {
        &self.key
    }

    /// Marks browsers that someone has signed in with.
    pub(super) fn browser_key(&self) -> Zeroizing<[u8; KEY_LEN_BYTES]> {
        self.derived(BROWSER_LABEL)
    }

    /// A known text, sealed under a key derived from this one.
    pub(super) fn canary(&self) -> Result<Vec<u8>, SealError> {
        let mut canary = vec![FORMAT];
        encrypt_onto(
            &mut canary,
            &self.derived(CANARY_LABEL),
            &self.fingerprint,
            CANARY_TEXT,
        )?;
        Ok(canary)
    }

    pub(super) fn opens_canary(&self, canary: &[u8]) -> bool {
        canary.split_first().is_some_and(|(&format, rest)| {
            format == FORMAT
                && decrypt(&self.derived(CANARY_LABEL), &self.fingerprint, rest)
                    .is_ok_and(|text| text.as_slice() == CANARY_TEXT)
        })
    }

    pub(super) fn wrap(&self, data_key: &DataKey, owner_id: Uuid) -> Result<Vec<u8>, SealError> {
        let mut wrapped = vec![FORMAT];
        encrypt_onto(
            &mut wrapped,
            &self.key,
            &self.data_key_place(data_key.id, owner_id),
            data_key.key.as_slice(),
        )?;
        Ok(wrapped)
    }

    pub(super) fn unwrap(
        &self,
        id: Uuid,
        owner_id: Uuid,
        wrapped: &[u8],
    ) -> Result<DataKey, SealError> {
        let Some((&FORMAT, rest)) = wrapped.split_first() else {
            return Err(SealError::DoesNotOpen);
        };
        let opened = decrypt(&self.key, &self.data_key_place(id, owner_id), rest)?;
        let mut key = Zeroizing::new([0; KEY_LEN_BYTES]);
        if opened.len() != KEY_LEN_BYTES {
            return Err(SealError::DoesNotOpen);
        }
        key.copy_from_slice(&opened);
        Ok(DataKey { id, key })
    }

    /// Seals a key for one use to the id that it has there.
    pub(super) fn wrap_key(
        &self,
        what_for: KeyFor,
        id: Uuid,
        key: &[u8; KEY_LEN_BYTES],
    ) -> Result<Vec<u8>, SealError> {
        let mut wrapped = vec![FORMAT];
        encrypt_onto(&mut wrapped, &self.key, &self.key_place(what_for, id), key)?;
        Ok(wrapped)
    }

    pub(super) fn unwrap_key(
        &self,
        what_for: KeyFor,
        id: Uuid,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; KEY_LEN_BYTES]>, SealError> {
        let Some((&FORMAT, rest)) = wrapped.split_first() else {
            return Err(SealError::DoesNotOpen);
        };
        let opened = decrypt(&self.key, &self.key_place(what_for, id), rest)?;
        let mut key = Zeroizing::new([0; KEY_LEN_BYTES]);
        if opened.len() != KEY_LEN_BYTES {
            return Err(SealError::DoesNotOpen);
        }
        key.copy_from_slice(&opened);
        Ok(key)
    }

    /// Label, format, master key, the key's id: shorter than a data key's place, and under a label for each use.
    fn key_place(&self, what_for: KeyFor, id: Uuid) -> Vec<u8> {
        let label = what_for.label();
        let mut place = Vec::with_capacity(label.len() + 1 + 2 * ID_LEN_BYTES);
        place.extend_from_slice(label);
        place.push(FORMAT);
        place.extend_from_slice(&self.fingerprint);
        place.extend_from_slice(id.as_bytes());
        place
    }

    /// Label, format, master key, data key, owner: each of a fixed length, so no two places read alike.
    fn data_key_place(&self, id: Uuid, owner_id: Uuid) -> Vec<u8> {
        let mut place = Vec::with_capacity(DATA_KEY_LABEL.len() + 1 + 3 * ID_LEN_BYTES);
        place.extend_from_slice(DATA_KEY_LABEL);
        place.push(FORMAT);
        place.extend_from_slice(&self.fingerprint);
        place.extend_from_slice(id.as_bytes());
        place.extend_from_slice(owner_id.as_bytes());
        place
    }

    fn derived(&self, label: &[u8]) -> Zeroizing<[u8; KEY_LEN_BYTES]> {
        let mut key = Zeroizing::new([0; KEY_LEN_BYTES]);
        derive(&self.key, label, key.as_mut_slice());
        key
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.fingerprint())
    }
}

/// An owner's key, opened. Seals and opens the values of that owner.
pub(super) struct DataKey {
    pub(super) id: Uuid,
    key: Zeroizing<[u8; KEY_LEN_BYTES]>,
}

impl DataKey {
    pub(super) fn generate(id: Uuid) -> Result<Self, SealError> {
        Ok(DataKey {
            id,
            key: random_key()?,
        })
    }

    pub(super) fn seal(&self, place: Place, value: &SecretString) -> Result<Sealed, SealError> {
        self.seal_to(&self.value_place(place), value)
    }

    pub(super) fn open(&self, place: Place, sealed: &Sealed) -> Result<SecretString, SealError> {
        self.open_at(&self.value_place(place), sealed)
    }

    pub(super) fn seal_import(
        &self,
        place: ImportPlace,
        values: &SecretString,
    ) -> Result<Sealed, SealError> {
        self.seal_to(&self.import_place(place), values)
    }

    pub(super) fn open_import(
        &self,
        place: ImportPlace,
        sealed: &Sealed,
    ) -> Result<SecretString, SealError> {
        self.open_at(&self.import_place(place), sealed)
    }

    fn seal_to(&self, place: &[u8], value: &SecretString) -> Result<Sealed, SealError> {
        let mut sealed = vec![FORMAT];
        sealed.extend_from_slice(self.id.as_bytes());
        let text = value.expose_secret().as_bytes();
        encrypt_onto(&mut sealed, &self.key, place, text)?;
        Ok(Sealed(sealed))
    }

    fn open_at(&self, place: &[u8], sealed: &Sealed) -> Result<SecretString, SealError> {
        if sealed.data_key_id() != Some(self.id) {
            return Err(SealError::DoesNotOpen);
        }
        let mut opened = decrypt(&self.key, place, &sealed.0[1 + ID_LEN_BYTES..])?;
        // The buffer is exactly as long as its text, so it moves into the secret without a copy left behind.
        match String::from_utf8(std::mem::take(&mut *opened)) {
            Ok(text) => Ok(SecretString::from(text)),
            Err(error) => {
                error.into_bytes().zeroize();
                Err(SealError::NoText)
            }
        }
    }

    /// Format, data key, owner, secret, version: each of a fixed length. Not the path: a rename does not re-encrypt.
    fn value_place(&self, place: Place) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 3 * ID_LEN_BYTES + 4);
        bytes.push(FORMAT);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(place.owner_id.as_bytes());
        bytes.extend_from_slice(place.secret_id.as_bytes());
        bytes.extend_from_slice(&place.version.to_be_bytes());
        bytes
    }

    /// Label, format, data key, owner, import: longer than any value's place, so that no one passes for the other.
    fn import_place(&self, place: ImportPlace) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(IMPORT_LABEL.len() + 1 + 3 * ID_LEN_BYTES);
        bytes.extend_from_slice(IMPORT_LABEL);
        bytes.push(FORMAT);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(place.owner_id.as_bytes());
        bytes.extend_from_slice(place.import_id.as_bytes());
        bytes
    }
}

impl Sealed {
    /// The key that sealed it; none when this is no sealed value of a known format.
    pub(super) fn data_key_id(&self) -> Option<Uuid> {
        let (&format, rest) = self.0.split_first()?;
        let id = rest.get(..ID_LEN_BYTES)?;
        (format == FORMAT && rest.len() >= ID_LEN_BYTES + NONCE_LEN_BYTES + TAG_LEN_BYTES)
            .then(|| Uuid::from_slice(id).ok())?
    }
}

/// Fills `bytes` from the operating system's generator.
pub(super) fn random_bytes(bytes: &mut [u8]) -> Result<(), SealError> {
    rand::rngs::SysRng
        .try_fill_bytes(bytes)
        .map_err(|_| SealError::NoRandomness)
}

pub(super) fn random_key() -> Result<Zeroizing<[u8; KEY_LEN_BYTES]>, SealError> {
    let mut key = Zeroizing::new([0; KEY_LEN_BYTES]);
    random_bytes(key.as_mut_slice())?;
    Ok(key)
}

fn derive(key: &[u8; KEY_LEN_BYTES], label: &[u8], out: &mut [u8]) {
    // Fails only past 255 hash lengths; every caller asks for one at most.
    let _ = Hkdf::<Sha256>::new(None, key).expand(label, out);
}

/// Appends nonce, ciphertext and tag.
fn encrypt_onto(
    out: &mut Vec<u8>,
    key: &[u8; KEY_LEN_BYTES],
    place: &[u8],
    text: &[u8],
) -> Result<(), SealError> {
    let mut nonce = [0; NONCE_LEN_BYTES];
    // Random nonces: NIST SP 800-38D allows 2^32 of them for a key, and each owner has keys of their own.
    random_bytes(&mut nonce)?;
    let ciphertext = cipher(key)
        .encrypt(
            &Nonce::from(nonce),
            Payload {
                msg: text,
                aad: place,
            },
        )
        .map_err(|_| SealError::TooLong)?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&ciphertext);
    Ok(())
}

/// Opens nonce, ciphertext and tag.
fn decrypt(
    key: &[u8; KEY_LEN_BYTES],
    place: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, rest) = sealed
        .split_first_chunk::<NONCE_LEN_BYTES>()
        .ok_or(SealError::DoesNotOpen)?;
    let (ciphertext, tag) = rest
        .split_last_chunk::<TAG_LEN_BYTES>()
        .ok_or(SealError::DoesNotOpen)?;
    let mut text = Zeroizing::new(ciphertext.to_vec());
    cipher(key)
        .decrypt_inout_detached(
            &Nonce::from(*nonce),
            place,
            text.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .map_err(|_| SealError::DoesNotOpen)?;
    Ok(text)
}

fn cipher(key: &[u8; KEY_LEN_BYTES]) -> Aes256Gcm {
    Aes256Gcm::new(<&Key<Aes256Gcm>>::from(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn place() -> Place {
        Place {
            owner_id: Uuid::now_v7(),
            secret_id: Uuid::now_v7(),
            version: 3,
        }
    }

    fn value(text: &str) -> SecretString {
        SecretString::from(text)
    }

    fn fixed<const N: usize>(digits: &str) -> [u8; N] {
        hex::decode(digits).unwrap().try_into().unwrap()
    }

    /// D. McGrew and J. Viega, "The Galois/Counter Mode of Operation", test cases 13 to 16 (AES-256).
    #[test]
    fn published_vectors() {
        const KEY: &str = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
        const TEXT: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                            1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
        const CIPHERTEXT: &str = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                                  8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
        // key, nonce, text, additional data, ciphertext, tag
        let cases = [
            (
                "00".repeat(32),
                "00".repeat(12),
                String::new(),
                String::new(),
                String::new(),
                "530f8afbc74536b9a963b4f1c4cb738b",
            ),
            (
                "00".repeat(32),
                "00".repeat(12),
                "00".repeat(16),
                String::new(),
                "cea7403d4d606b6e074ec5d3baf39d18".into(),
                "d0d1c8a799996bf0265b98b5d48ab919",
            ),
            (
                KEY.into(),
                "cafebabefacedbaddecaf888".into(),
                TEXT.into(),
                String::new(),
                CIPHERTEXT.into(),
                "b094dac5d93471bdec1a502270e3cc6c",
            ),
            (
                KEY.into(),
                "cafebabefacedbaddecaf888".into(),
                TEXT[..120].into(),
                "feedfacedeadbeeffeedfacedeadbeefabaddad2".into(),
                CIPHERTEXT[..120].into(),
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ),
        ];
        for (key, nonce, text, aad, ciphertext, tag) in cases {
            let text = hex::decode(text).unwrap();
            let aad = hex::decode(aad).unwrap();
            let sealed = hex::decode(format!("{nonce}{ciphertext}{tag}")).unwrap();
            let made = cipher(&fixed(&key))
                .encrypt(
                    &Nonce::from(fixed::<12>(&nonce)),
                    Payload {
                        msg: &text,
                        aad: &aad,
                    },
                )
                .unwrap();
            assert_eq!(made, sealed[12..]);
            assert_eq!(*decrypt(&fixed(&key), &aad, &sealed).unwrap(), text);
        }
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_only() {
        let key = DataKey::generate(Uuid::now_v7()).unwrap();
        let here = place();
        let sealed = key.seal(here, &value("sk-ünïcode\r\n")).unwrap();
        assert_eq!(
            key.open(here, &sealed).unwrap().expose_secret(),
            "sk-ünïcode\r\n"
        );
        for elsewhere in [
            Place {
                owner_id: Uuid::now_v7(),
                ..here
            },
            Place {
                secret_id: Uuid::now_v7(),
                ..here
            },
            Place { version: 4, ..here },
            Place {
                owner_id: here.secret_id,
                secret_id: here.owner_id,
                ..here
            },
        ] {
            assert_eq!(
                key.open(elsewhere, &sealed).unwrap_err(),
                SealError::DoesNotOpen
            );
        }
        let other = DataKey::generate(key.id).unwrap();
        assert!(other.open(here, &sealed).is_err());
        let same_bytes = DataKey {
            id: Uuid::now_v7(),
            key: key.key.clone(),
        };
        assert!(same_bytes.open(here, &sealed).is_err());
    }

    #[test]
    fn an_import_opens_as_itself_alone_and_never_as_a_version() {
        let key = DataKey::generate(Uuid::now_v7()).unwrap();
        let here = place();
        let import = ImportPlace {
            owner_id: here.owner_id,
            import_id: here.secret_id,
        };
        let sealed = key.seal_import(import, &value("[]")).unwrap();
        assert_eq!(
            key.open_import(import, &sealed).unwrap().expose_secret(),
            "[]"
        );
        let version = key.seal(here, &value("[]")).unwrap();
        assert!(key.open(here, &sealed).is_err());
        assert!(key.open_import(import, &version).is_err());
        for elsewhere in [
            ImportPlace {
                owner_id: Uuid::now_v7(),
                ..import
            },
            ImportPlace {
                import_id: Uuid::now_v7(),
                ..import
            },
        ] {
            assert!(key.open_import(elsewhere, &sealed).is_err());
        }
    }

    #[test]
    fn a_changed_byte_anywhere_does_not_open() {
        let key = DataKey::generate(Uuid::now_v7()).unwrap();
        let here = place();
        let sealed = key.seal(here, &value("value")).unwrap();
        for at in 0..sealed.0.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed.0[at] ^= 1 << bit;
                assert!(key.open(here, &changed).is_err(), "byte {at}, bit {bit}");
            }
            assert!(key.open(here, &Sealed(sealed.0[..at].to_vec())).is_err());
        }
    }

    #[test]
    fn a_wrapped_key_opens_for_its_owner_under_its_master_key_only() {
        let master = MasterKey::generate().unwrap();
        let owner = Uuid::now_v7();
        let key = DataKey::generate(Uuid::now_v7()).unwrap();
        let wrapped = master.wrap(&key, owner).unwrap();
        assert_eq!(master.unwrap(key.id, owner, &wrapped).unwrap().key, key.key);
        assert!(master.unwrap(key.id, Uuid::now_v7(), &wrapped).is_err());
        assert!(master.unwrap(Uuid::now_v7(), owner, &wrapped).is_err());
        let wrong = MasterKey::generate().unwrap();
        assert!(wrong.unwrap(key.id, owner, &wrapped).is_err());
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(master.unwrap(key.id, owner, &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_canary_opens_with_its_own_key_only() {
        let master = MasterKey::generate().unwrap();
        let canary = master.canary().unwrap();
        assert!(master.opens_canary(&canary));
        assert!(!MasterKey::generate().unwrap().opens_canary(&canary));
        assert!(!master.opens_canary(&[]));
        for at in 0..canary.len() {
            let mut changed = canary.clone();
            changed[at] ^= 1;
            assert!(!master.opens_canary(&changed), "byte {at}");
        }
    }

    #[test]
    fn a_fingerprint_is_steady_and_shows_nothing_of_the_key() {
        let key = MasterKey::new(Zeroizing::new([7; 32]));
        // Would change every installation's name for its key: HKDF-SHA256 of 32 bytes of 0x07 under the label.
        assert_eq!(
            key.fingerprint(),
            MasterKey::new(Zeroizing::new([7; 32])).fingerprint()
        );
        assert_ne!(
            key.fingerprint(),
            MasterKey::new(Zeroizing::new([8; 32])).fingerprint()
        );
        assert!(!format!("{key:?}").contains("0707"));
    }
}
