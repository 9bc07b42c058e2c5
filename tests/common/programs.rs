//! Programs that a test makes for itself.

use std::path::Path;
use std::process::Command;

/// A copy that can be started at once. By a process of its own: what this one has open for writing is still open in a child that
/// another test starts just now, and such a file cannot be run.
pub fn copied(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("--").args([from, to]).status();
    assert!(done.unwrap().success(), "{from:?} could not be copied");
}
