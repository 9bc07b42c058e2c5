//! Where a secret is shown: the caller's own by its path, another's by `handle:path`.

use super::super::secrets::{address, folder_address};
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::model::grants::LevelChange;
use crate::model::paths::{Folder, Handle, SecretPath};

/// The secret's page; the list for what is no path.
pub fn own(caller: &Caller, path: &str) -> String {
    match (SecretPath::parse(bare(path)), owner(caller, path)) {
        (Ok(path), Some(handle)) => address(&handle, path.as_str()),
        _ => "/secrets".to_owned(),
    }
}

/// The folder that the secret stands in, by itself; the list for one that stands in none.
pub fn folder_of(caller: &Caller, path: &str) -> String {
    let folder = SecretPath::parse(bare(path)).and_then(|path| Folder::parse(path.folder()));
    match (folder, owner(caller, path)) {
        (Ok(folder), Some(owner)) => folder_address(&owner, Some(&folder)),
        _ => "/secrets".to_owned(),
    }
}

fn owner(caller: &Caller, path: &str) -> Option<String> {
    match path.split_once(':') {
        Some((handle, _)) => Handle::parse(handle).map(String::from).ok(),
        None => caller.user().map(|user| user.handle.clone()),
    }
}

/// A path without its owner.
pub fn bare(path: &str) -> &str {
    path.split_once(':').map_or(path, |(_, path)| path)
}

/// Another path of the same owner.
pub fn beside(path: &str, other: &str) -> String {
    match path.split_once(':') {
        Some((handle, _)) => format!("{handle}:{other}"),
        None => other.to_owned(),
    }
}

/// Back to a form of the page, opened.
pub async fn again(
    caller: &Caller,
    path: &str,
    form: &'static str,
    refusal: Refusal,
    typed: &[(&str, &str)],
) -> Result<(), Refusal> {
    let to = format!("{}#{form}", own(caller, path));
    super::super::wire::back(&to, form, refusal, typed).await
}

/// What is said before a rename that changes who reaches the secret; the second Save does it.
pub fn to_be_sure(effect: &[LevelChange]) -> Option<Refusal> {
    let changes: Vec<String> = effect.iter().map(LevelChange::sentence).collect();
    (!changes.is_empty()).then(|| {
        Refusal::invalid(
            "path",
            format!(
                "This changes who reaches it, by what is shared with its folder: {}. Press Save again to do it.",
                changes.join(", ")
            ),
        )
    })
}
