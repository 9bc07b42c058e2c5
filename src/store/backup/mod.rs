//! One encrypted file with all that is stored, and the way back from it. It holds sealed values: nothing is opened for it, and
//! the master key is not in it.
//!
//! Inside the encryption (`file`) are lines (`lines`): a header, then the rows of each table (`catalogue`) as JSON, then a count
//! and a hash. `take` writes them from one snapshot, `restore` brings them back in one transaction.

mod catalogue;
mod file;
mod lines;
mod restore;
mod take;

pub use catalogue::LEFT_OUT;
pub use file::{Closed, Decrypted, Lock, PASSPHRASE_MIN_CHARS};
pub use lines::{FORMAT_VERSION, Header, KeyMark, TableMark};
pub use restore::{Restored, restore};
pub use take::Taken;
