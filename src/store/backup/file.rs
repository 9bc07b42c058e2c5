//! The file around a backup: encrypted in age's format (age-encryption.org/v1), whole or not there.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use secrecy::{ExposeSecret, SecretString};

use super::super::{Error, Result, unfinished};
use super::lines::{self, Header};

/// A passphrase can be tried offline by whoever has the file.
pub const PASSPHRASE_MIN_CHARS: usize = 12;
/// 2^18 rounds of scrypt, as age's own program takes: about a second and 256 MiB for each guess.
const SCRYPT_WORK: u8 = 18;
/// A file that asks for more was not made here, and would hold the machine up.
const SCRYPT_WORK_MAX: u8 = 20;

/// What a backup is encrypted to.
pub enum Lock {
    Passphrase(SecretString),
    /// An age recipient (`age1…`). Only its identity opens the file; this machine then cannot.
    Recipient(x25519::Recipient),
}

impl Lock {
    /// Errors: a sentence when it is none.
    pub fn recipient(text: &str) -> Result<Self> {
        text.trim().parse().map(Lock::Recipient).map_err(|_| {
            Error::broken("That is no age recipient. It begins with age1; `age-keygen` makes one with its identity.")
        })
    }
}

/// A backup on its way.
pub(super) struct Unfinished {
    file: unfinished::Unfinished,
    last: PathBuf,
    /// Reads the file back: by the passphrase, or as a second recipient that is made for this file and forgotten with this.
    opener: Box<dyn Identity>,
}

/// The open end of a file that is being encrypted.
pub(super) struct Locked(StreamWriter<BufWriter<File>>);

impl Unfinished {
    /// Errors: there is a file of this name, or none can be made there.
    pub fn begin(last: &Path, lock: &Lock) -> Result<(Self, Locked)> {
        let (file, out) = unfinished::Unfinished::begin(last).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                return Error::broken(format!(
                    "{} is there already, and a backup is never written over another file. Take another name.",
                    last.display()
                ));
            }
            unwritten(last, error)
        })?;
        let (recipients, opener) = keyed(lock);
        let out = Encryptor::with_recipients(recipients.iter().map(AsRef::as_ref))
            .map_err(|error| Error::caused("The backup could not be encrypted.", error))?
            .wrap_output(BufWriter::new(out))
            .map_err(|error| unwritten(last, error))?;
        let last = last.to_owned();
        Ok((Unfinished { file, last, opener }, Locked(out)))
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads all of it from the disk.
    pub fn check(&self) -> Result<Header> {
        lines::check(Closed::find(self.path())?.open(std::slice::from_ref(&self.opener))?)
    }

    /// Gives it its name.
    pub fn keep(self) -> Result<()> {
        let Unfinished { file, last, .. } = self;
        file.keep().map_err(|error| unwritten(&last, error))
    }
}

fn unwritten(path: &Path, error: io::Error) -> Error {
    Error::caused(
        format!("The backup {} could not be written.", path.display()),
        error,
    )
}

impl Write for Locked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Locked {
    /// All of it is on the disk.
    pub fn finish(self) -> Result<()> {
        let finish = || -> io::Result<()> {
            let mut out = self.0.finish()?;
            out.flush()?;
            out.get_ref().sync_all()
        };
        finish().map_err(|error| Error::caused("The backup could not be written.", error))
    }
}

/// A backup that was found, and is not opened yet.
pub struct Closed {
    path: PathBuf,
    decryptor: Decryptor<BufReader<File>>,
}

/// A backup, decrypted as it is read.
pub type Decrypted = BufReader<StreamReader<BufReader<File>>>;

impl Closed {
    /// Errors: a sentence for a file that is not there, or is none.
    pub fn find(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| {
            Error::caused(
                format!("The backup {} cannot be opened.", path.display()),
                error,
            )
        })?;
        let decryptor = Decryptor::new_buffered(BufReader::new(file)).map_err(|_| {
            Error::broken(format!(
                "{} is no backup: it is not encrypted as one, or its beginning is damaged.",
                path.display()
            ))
        })?;
        Ok(Closed {
            path: path.to_owned(),
            decryptor,
        })
    }

    /// Whether it was encrypted with a passphrase, and not to a recipient.
    pub fn wants_passphrase(&self) -> bool {
        self.decryptor.is_scrypt()
    }

    /// Errors: the passphrase is wrong.
    pub fn open_by_passphrase(self, passphrase: &SecretString) -> Result<Decrypted> {
        self.open(&[by_passphrase(passphrase)])
    }

    /// By the texts of age identities. Errors: one is none, or it was encrypted to another.
    pub fn open_by_identities(self, identities: &[SecretString]) -> Result<Decrypted> {
        let identities: Vec<Box<dyn Identity>> = identities
            .iter()
            .map(|text| match text.expose_secret().parse::<x25519::Identity>() {
                Ok(identity) => Ok(Box::new(identity) as _),
                Err(_) => Err(Error::broken(
                    "The identity file holds what is no age identity. A line of it begins with AGE-SECRET-KEY-1.",
                )),
            })
            .collect::<Result<_>>()?;
        self.open(&identities)
    }

    fn open(self, openers: &[Box<dyn Identity>]) -> Result<Decrypted> {
        let by_passphrase = self.wants_passphrase();
        let openers = openers.iter().map(AsRef::as_ref);
        let opened = self.decryptor.decrypt(openers).map_err(|error| match error {
            DecryptError::NoMatchingKeys if by_passphrase => {
                Error::broken("This backup was encrypted with a passphrase. Give that.")
            }
            DecryptError::NoMatchingKeys => Error::broken(
                "This backup was encrypted to another recipient. Give the file with its identity by --identity.",
            ),
            DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed if by_passphrase => {
                Error::broken("The passphrase is wrong.")
            }
            error => Error::caused(
                format!("The backup {} does not open: its beginning is damaged.", self.path.display()),
                error,
            ),
        })?;
        Ok(BufReader::new(opened))
    }
}

/// Whom a file is encrypted to, and what then opens it here.
fn keyed(lock: &Lock) -> (Vec<Box<dyn Recipient>>, Box<dyn Identity>) {
    match lock {
        Lock::Passphrase(passphrase) => {
            let mut recipient = scrypt::Recipient::new(passphrase.clone());
            recipient.set_work_factor(SCRYPT_WORK);
            (vec![Box::new(recipient)], by_passphrase(passphrase))
        }
        Lock::Recipient(recipient) => {
            let witness = x25519::Identity::generate();
            let to: Vec<Box<dyn Recipient>> =
                vec![Box::new(recipient.clone()), Box::new(witness.to_public())];
            (to, Box::new(witness))
        }
    }
}

fn by_passphrase(passphrase: &SecretString) -> Box<dyn Identity> {
    let mut identity = scrypt::Identity::new(passphrase.clone());
    identity.set_max_work_factor(SCRYPT_WORK_MAX);
    Box::new(identity)
}
