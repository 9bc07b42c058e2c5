//! Secrets as a tree of folders. What is not in sight is in no count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::paths::{Folder, SecretPath};
use super::secrets::SecretSummary;

/// Rows that one tree carries; what is beyond is a link away.
pub const ROWS_MAX: usize = 200;
/// Folders that one folder shows.
pub const FOLDERS_MAX: usize = 500;

/// Where a secret stands: all that a tree has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub id: Uuid,
    /// The handle of the owner.
    pub owner: String,
    pub path: SecretPath,
}

/// A folder with what is in it, or an owner with what is theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    pub owner: String,
    /// None for all that is an owner's.
    pub folder: Option<Folder>,
    /// Secrets in it and in the folders below it.
    pub count: usize,
    pub branches: Vec<Branch>,
    /// Its own secrets, by id, in the order of their paths.
    pub leaves: Vec<Uuid>,
}

/// What a page shows of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretTree {
    pub root: Branch,
    /// What is shown of the leaves.
    pub rows: Vec<SecretSummary>,
    /// There is more in sight than a tree counts.
    pub cut: bool,
}

impl SecretTree {
    /// Whether all of it is here; otherwise folders are links.
    pub fn whole(&self) -> bool {
        self.rows.len() >= self.root.count
    }
}

impl Branch {
    /// What stands at an owner's folder. At one's own root, the branches of other owners follow one's own.
    pub fn grow(mut standing: Vec<Standing>, me: &str, owner: &str, at: Option<&Folder>) -> Branch {
        standing.sort_by_cached_key(|leaf| (leaf.path.as_str().to_ascii_lowercase(), leaf.id));
        let mut owners = BTreeMap::<String, Vec<Standing>>::new();
        for leaf in standing {
            owners.entry(leaf.owner.clone()).or_default().push(leaf);
        }
        let begin = at.map_or(0, |folder| folder.as_str().len() + 1);
        let own = owners.remove(owner).unwrap_or_default();
        let mut root = Branch::of(owner, at.cloned(), own, begin);
        if at.is_none() && owner == me {
            for (other, leaves) in owners {
                let branch = Branch::of(&other, None, leaves, 0);
                root.count += branch.count;
                root.branches.push(branch);
            }
        }
        root
    }

    /// `begin`: where what is below the folder begins in a path.
    fn of(owner: &str, folder: Option<Folder>, leaves: Vec<Standing>, begin: usize) -> Branch {
        let mut branch = Branch {
            owner: owner.to_owned(),
            folder,
            count: leaves.len(),
            branches: Vec::new(),
            leaves: Vec::new(),
        };
        let mut below = BTreeMap::<String, Vec<Standing>>::new();
        for leaf in leaves {
            let rest = leaf.path.as_str().get(begin..).unwrap_or_default();
            match rest.split_once('/') {
                Some((segment, _)) => {
                    let end = begin + segment.len();
                    let folder = leaf.path.as_str()[..end].to_owned();
                    below.entry(folder).or_default().push(leaf);
                }
                None => branch.leaves.push(leaf.id),
            }
        }
        for (path, leaves) in below {
            // A path's folders have the grammar of folders.
            let Ok(folder) = Folder::parse(&path) else {
                continue;
            };
            let begin = path.len() + 1;
            branch
                .branches
                .push(Branch::of(owner, Some(folder), leaves, begin));
        }
        branch
    }

    /// The leaves that a page loads: all if they are few, else those of the root, as many as it carries.
    pub fn wanted(&self) -> Vec<Uuid> {
        if self.count <= ROWS_MAX {
            let mut all = Vec::with_capacity(self.count);
            self.collect(&mut all);
            return all;
        }
        self.leaves.iter().take(ROWS_MAX).copied().collect()
    }

    fn collect(&self, into: &mut Vec<Uuid>) {
        into.extend(&self.leaves);
        for branch in &self.branches {
            branch.collect(into);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn standing(owner: &str, path: &str) -> Standing {
        Standing {
            id: Uuid::now_v7(),
            owner: owner.into(),
            path: SecretPath::parse(path).unwrap(),
        }
    }

    fn drawn(branch: &Branch) -> String {
        let name = branch
            .folder
            .as_ref()
            .map_or(branch.owner.as_str(), |f| f.name());
        let below: String = branch.branches.iter().map(drawn).collect();
        format!("{name}({}:{}{below})", branch.count, branch.leaves.len())
    }

    #[test]
    fn folders_hold_what_stands_under_them() {
        let all = vec![
            standing("ann", "B_KEY"),
            standing("ann", "a_key"),
            standing("ann", "project/shop/KEY"),
            standing("ann", "project/shop/eu/KEY"),
            standing("ann", "project/shopping/KEY"),
            standing("crew", "KEY"),
            standing("crew", "meta/render/api_key"),
        ];
        let (a, b) = (all[1].id, all[0].id);
        let root = Branch::grow(all.clone(), "ann", "ann", None);
        assert_eq!(
            drawn(&root),
            "ann(7:2project(3:0shop(2:1eu(1:1))shopping(1:1))crew(2:1meta(1:0render(1:1))))"
        );
        assert_eq!(root.leaves, [a, b]);
        assert_eq!(root.wanted().len(), 7);

        let shop = Folder::parse("project/shop").unwrap();
        let under = vec![all[2].clone(), all[3].clone()];
        let branch = Branch::grow(under, "ann", "ann", Some(&shop));
        assert_eq!(drawn(&branch), "shop(2:1eu(1:1))");
        let theirs = vec![all[5].clone(), all[6].clone()];
        let crew = Branch::grow(theirs, "ann", "crew", None);
        assert_eq!(drawn(&crew), "crew(2:1meta(1:0render(1:1)))");
    }

    #[test]
    fn of_a_large_tree_only_what_stands_at_its_root_is_wanted() {
        let mut all: Vec<Standing> = (0..ROWS_MAX)
            .map(|n| standing("ann", &format!("project/p/K{n}")))
            .collect();
        let bare = standing("ann", "KEY");
        all.push(bare.clone());
        let root = Branch::grow(all, "ann", "ann", None);
        assert_eq!(root.wanted(), [bare.id]);
    }
}
