//! Names as they are typed: `handle:path` for what another owns, a path alone for one's own.

use std::fmt;

use crate::model::errors::Refusal;
use crate::model::paths::{Folder, Handle, KeyPath, SecretPath};

/// What paths begin with: a folder, or nothing for all of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    pub owner: Option<Handle>,
    folder: Option<Folder>,
}

impl Prefix {
    /// With or without its last slash.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let (owner, folder) = match raw.split_once(':') {
            Some((handle, rest)) => (Some(Handle::parse(handle)?), rest),
            None => (None, raw),
        };
        let folder = match folder {
            "" => None,
            folder => Some(Folder::parse(folder)?),
        };
        Ok(Prefix { owner, folder })
    }

    /// The folder without its last slash; empty for all.
    pub fn folder(&self) -> &str {
        self.folder.as_ref().map_or("", Folder::as_str)
    }

    /// What narrows a list to it.
    pub fn query(&self) -> [(&'static str, &str); 2] {
        let owner = self.owner.as_ref().map_or("", Handle::as_str);
        [("under", self.folder()), ("owner", owner)]
    }

    /// A path of its owner's.
    pub fn named(&self, path: SecretPath) -> KeyPath {
        KeyPath {
            owner: self.owner.clone(),
            path,
        }
    }

    /// What of a path stands below it.
    pub fn below<'a>(&self, path: &'a SecretPath) -> &'a str {
        let path = path.as_str();
        path.strip_prefix(self.folder())
            .map_or(path, |rest| rest.trim_start_matches('/'))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}:{}", self.folder()),
            None => f.write_str(self.folder()),
        }
    }
}

/// A secret, or with a slash at its end what stands under a folder.
#[derive(Clone, Debug)]
pub enum SecretOrPrefix {
    Secret(KeyPath),
    Prefix(Prefix),
}

impl SecretOrPrefix {
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        Ok(if raw.ends_with('/') {
            SecretOrPrefix::Prefix(Prefix::parse(raw)?)
        } else {
            SecretOrPrefix::Secret(KeyPath::parse(raw)?)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_prefix_is_whole_segments() {
        let prefix = Prefix::parse("team:project/shop/").unwrap();
        assert_eq!(prefix.to_string(), "team:project/shop");
        let path = SecretPath::parse("project/shop/eu/KEY").unwrap();
        assert_eq!(prefix.below(&path), "eu/KEY");
        let all = Prefix::parse("").unwrap();
        assert_eq!(
            (all.folder(), all.below(&path)),
            ("", "project/shop/eu/KEY")
        );
        for bad in ["shop", "Team:project/shop", ":project/shop", "a:b:c"] {
            assert!(Prefix::parse(bad).is_err(), "{bad}");
        }
        let either = |raw: &str| SecretOrPrefix::parse(raw).unwrap();
        assert!(matches!(either("t:meta/x/"), SecretOrPrefix::Prefix(_)));
        assert!(matches!(either("t:meta/x/Y"), SecretOrPrefix::Secret(_)));
    }
}
