//! Where master keys come from: `SEALPORT_MASTER_KEY`, or a key file that is made at the first start.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

use super::keyring::{KEY_LEN_BYTES, MasterKey};
use super::{Error, Result};

/// The largest key file that is read, in bytes: hundreds of keys.
const KEY_FILE_LEN_BYTES: u64 = 64 * 1024;

/// Where the master keys are.
#[derive(Clone)]
pub enum KeySource {
    /// The text of `SEALPORT_MASTER_KEY`.
    Variable(SecretString),
    /// A key file that must be there (`SEALPORT_MASTER_KEY_FILE`).
    File(PathBuf),
    /// The key file in the data directory: made when the database has no key yet.
    FileOrNew(PathBuf),
}

/// The text of a new master key, as `sealport key new` prints it.
pub fn new_key() -> Result<SecretString> {
    Ok(generate()?.to_text())
}

/// Reads the keys, the first being the one to use where none is in use yet. `in_use` is the fingerprint that the database names;
/// with none, a missing file of `FileOrNew` is made, and its path returned.
pub(super) fn read(
    source: KeySource,
    in_use: Option<&str>,
) -> Result<(Vec<MasterKey>, Option<PathBuf>)> {
    match source {
        KeySource::Variable(text) => {
            let keys = parse(text.expose_secret(), "SEALPORT_MASTER_KEY")?;
            Ok((keys, None))
        }
        KeySource::File(path) => match read_file(&path)? {
            Some(keys) => Ok((keys, None)),
            None => Err(Error::broken(format!(
                "SEALPORT_MASTER_KEY_FILE names {}, and there is no such file. Put the key there, mode 0600; \
                 `sealport key new` makes one.",
                path.display()
            ))),
        },
        KeySource::FileOrNew(path) => match (read_file(&path)?, in_use) {
            (Some(keys), _) => Ok((keys, None)),
            (None, None) => {
                let key = generate()?;
                make_file(&path, &key).map_err(|error| {
                    Error::caused(
                        format!("The key file {} could not be made.", path.display()),
                        error,
                    )
                })?;
                Ok((vec![key], Some(path)))
            }
            (None, Some(fingerprint)) => Err(Error::broken(format!(
                "The key file {} is missing, and this database is sealed with the key whose fingerprint is {fingerprint}. \
                 Put the file back from your backup, or give the key in SEALPORT_MASTER_KEY. \
                 A new key (`sealport key new`) cannot open what another one sealed.",
                path.display()
            ))),
        },
    }
}

/// Which keys were given, by fingerprint.
pub(super) fn describe(keys: &[MasterKey]) -> String {
    let names: Vec<String> = keys.iter().map(MasterKey::fingerprint).collect();
    match names.as_slice() {
        [] => "none was given".into(),
        [one] => format!("the one that was given is {one}"),
        many => format!("those that were given are {}", many.join(", ")),
    }
}

fn generate() -> Result<MasterKey> {
    MasterKey::generate().map_err(|error| Error::caused("no key could be made", error))
}

fn read_file(path: &Path) -> Result<Option<Vec<MasterKey>>> {
    let unreadable = |error: io::Error| {
        Error::caused(
            format!("The key file {} cannot be read.", path.display()),
            error,
        )
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    // Asked of the open file, so that what was checked is what is read.
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::broken(format!(
            "The key file {} can be read by others (mode {:04o}). Close it with: chmod 600 {}",
            path.display(),
            metadata.mode() & 0o7777,
            path.display()
        )));
    }
    if !metadata.is_file() || metadata.len() > KEY_FILE_LEN_BYTES {
        return Err(Error::broken(format!(
            "{} is no key file. A key file holds keys alone, one a line; `sealport key new` makes one.",
            path.display()
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(
        usize::try_from(metadata.len()).unwrap_or_default() + 1,
    ));
    file.take(KEY_FILE_LEN_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    parse(&text, &format!("The key file {}", path.display())).map(Some)
}

/// Makes the file whole or not at all, and never over another.
fn make_file(path: &Path, key: &MasterKey) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", uuid::Uuid::now_v7().simple()));
    let unfinished = PathBuf::from(unfinished);
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(key.to_text().expose_secret().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        // Unlike a rename, a link fails when the name is taken.
        fs::hard_link(&unfinished, path)
    })();
    let removed = fs::remove_file(&unfinished);
    written?;
    removed?;
    fs::File::open(folder)?.sync_all()
}

/// Reads keys separated by commas or white space; each exactly 32 bytes, as 64 hex digits or base64.
/// Errors name `from` and show the way to a key; they never quote what was given.
fn parse(text: &str, from: &str) -> Result<Vec<MasterKey>> {
    let entries: Vec<&str> = text
        .split(|c: char| c == ',' || c.is_ascii_whitespace())
        .filter(|entry| !entry.is_empty())
        .collect();
    let mut keys: Vec<MasterKey> = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let key = parse_key(entry).ok_or_else(|| {
            let which = match entries.len() {
                1 => String::from("what it holds is none"),
                many => format!("number {} of the {many} it holds is none", at + 1),
            };
            Error::broken(format!(
                "{from} is wrong: a master key is exactly 32 bytes, as 64 hex digits or as base64, and {which}. \
                 `sealport key new` makes one."
            ))
        })?;
        let key = MasterKey::new(key);
        if !keys
            .iter()
            .any(|known| known.fingerprint() == key.fingerprint())
        {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Err(Error::broken(format!(
            "{from} holds no key. `sealport key new` makes one."
        )));
    }
    Ok(keys)
}

fn parse_key(entry: &str) -> Option<Zeroizing<[u8; KEY_LEN_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_LEN_BYTES]);
    // 64 hex digits are base64 of 48 bytes too; hex is asked first, and 48 bytes would be no key.
    if hex::decode_to_slice(entry, key.as_mut_slice()).is_ok() {
        return Some(key);
    }
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    for alphabet in [&alphabet::STANDARD, &alphabet::URL_SAFE] {
        if let Ok(mut bytes) = GeneralPurpose::new(alphabet, lenient).decode(entry) {
            let right_length = bytes.len() == KEY_LEN_BYTES;
            if right_length {
                key.copy_from_slice(&bytes);
            }
            bytes.zeroize();
            return right_length.then_some(key);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn fingerprint(bytes: &[u8; 32]) -> String {
        MasterKey::new(Zeroizing::new(*bytes)).fingerprint()
    }

    fn fingerprints(text: &str) -> Option<Vec<String>> {
        let keys = parse(text, "SEALPORT_MASTER_KEY").ok()?;
        Some(keys.iter().map(MasterKey::fingerprint).collect())
    }

    fn sentence(text: &str) -> String {
        parse(text, "SEALPORT_MASTER_KEY").unwrap_err().to_string()
    }

    proptest! {
        #[test]
        fn every_spelling_is_the_same_key(bytes: [u8; 32]) {
            let expected = Some(vec![fingerprint(&bytes)]);
            for spelling in [
                hex::encode(bytes),
                hex::encode_upper(bytes),
                STANDARD.encode(bytes),
                STANDARD_NO_PAD.encode(bytes),
                URL_SAFE.encode(bytes),
                URL_SAFE_NO_PAD.encode(bytes),
                format!("  {}\n", hex::encode(bytes)),
            ] {
                prop_assert_eq!(fingerprints(&spelling), expected.clone());
            }
        }

        #[test]
        fn several_keys_keep_their_order(first: [u8; 32], second: [u8; 32], separator in "[,\n ]|, |\r\n|,\n") {
            prop_assume!(first != second);
            let text = format!("{}{separator}{}", hex::encode(first), STANDARD.encode(second));
            prop_assert_eq!(
                fingerprints(&text),
                Some(vec![fingerprint(&first), fingerprint(&second)])
            );
        }

        #[test]
        fn another_length_is_no_key(bytes in proptest::collection::vec(any::<u8>(), 1..80)) {
            prop_assume!(bytes.len() != 32);
            prop_assert_eq!(fingerprints(&STANDARD.encode(&bytes)), None);
            // 43 and 44 hex digits can be base64 of 32 bytes: so can any such word, and it is then a key.
            prop_assume!(bytes.len() != 22);
            prop_assert_eq!(fingerprints(&hex::encode(&bytes)), None);
        }

        #[test]
        fn an_error_quotes_nothing(text in "[a-z!]{8,40}") {
            prop_assert!(!sentence(&text).contains(&text));
        }

        #[test]
        fn a_key_written_out_reads_back(bytes: [u8; 32]) {
            let key = MasterKey::new(Zeroizing::new(bytes));
            let text = key.to_text();
            prop_assert_eq!(text.expose_secret(), hex::encode(bytes));
        }
    }

    #[test]
    fn errors_name_the_variable_and_the_way_to_a_key() {
        for wrong in ["", " , ", "short", &"a".repeat(63)] {
            let told = sentence(wrong);
            assert!(told.contains("SEALPORT_MASTER_KEY"), "{told}");
            assert!(told.contains("sealport key new"), "{told}");
        }
        let one_good = format!("{},nonsense", hex::encode([1; 32]));
        assert!(sentence(&one_good).contains("number 2 of the 2"));
    }

    #[test]
    fn a_key_file_is_made_closed_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let (keys, made) = read(KeySource::FileOrNew(path.clone()), None).unwrap();
        assert_eq!(made.as_deref(), Some(path.as_path()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let (again, made) = read(KeySource::FileOrNew(path.clone()), None).unwrap();
        assert_eq!(made, None);
        assert_eq!(again[0].fingerprint(), keys[0].fingerprint());

        let other = MasterKey::generate().unwrap();
        assert!(make_file(&path, &other).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let kept = read_file(&path).unwrap().unwrap();
        assert_eq!(kept[0].fingerprint(), keys[0].fingerprint());
    }

    #[test]
    fn an_open_key_file_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        read(KeySource::FileOrNew(path.clone()), None).unwrap();
        for mode in [0o640, 0o604, 0o644, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let told = read(KeySource::File(path.clone()), None)
                .unwrap_err()
                .to_string();
            assert!(told.contains("chmod 600"), "{told}");
        }
    }

    #[test]
    fn a_missing_file_is_not_made_anew_over_a_sealed_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let told = read(KeySource::FileOrNew(path.clone()), Some("abcd"))
            .unwrap_err()
            .to_string();
        assert!(told.contains("abcd") && told.contains("backup"), "{told}");
        assert!(!path.exists());
        assert!(read(KeySource::File(path.clone()), None).is_err());
        assert!(!path.exists());
    }
}
