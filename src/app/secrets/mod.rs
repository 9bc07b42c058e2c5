//! The first page: what is due, and the secrets as a tree or as a list.

pub mod due;
pub mod filter;
pub mod list;
pub mod reminder;
pub mod tree;

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

use super::frame::{Empty, Here, Page, page, primary};
use super::icons::Icon;
use super::secret::rotation::{FolderRotationForm, folder_reach};
use super::wire::page_open;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::Folder;
use crate::model::secrets::{Facets, Kind, Scope, SecretSort, SecretSummary};
use crate::model::tree::SecretTree;
use due::{DueSection, secrets_due};
use filter::{Asked, Filter};
use list::List;
use reminder::{KeyBackupReminder, key_backup_missing};
use tree::Tree;

/// Rows of one list; a narrower one finds what is beyond.
const LISTED: usize = 500;

#[server(prefix = "/_fn", endpoint = "secrets_list")]
pub async fn secrets_list(
    #[server(default)] search: String,
    #[server(default)] sort: SecretSort,
    #[server(default)] owner: String,
    #[server(default)] under: String,
    #[server(default)] scope: String,
    #[server(default)] kind: String,
    #[server(default)] tag: String,
) -> Result<Vec<SecretSummary>, Refusal> {
    use crate::model::paths::{Handle, Tag};
    use crate::model::secrets::SecretFilter;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    // A tag that cannot be one has no secrets.
    let tag = match tag.as_str() {
        "" => None,
        tag => match Tag::parse(tag) {
            Ok(tag) => Some(tag),
            Err(_) => return Ok(Vec::new()),
        },
    };
    let filter = SecretFilter {
        text: search.trim().chars().take(255).collect(),
        owner: Handle::parse(&owner).ok(),
        under: Folder::parse(&under).ok(),
        scope: Scope::from_name(&scope),
        kind: Kind::from_name(&kind),
        tag,
    };
    db.secrets_find(&caller, &filter, sort, LISTED as i64)
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// What stands at an owner's folder; without an owner at one's own.
#[server(prefix = "/_fn", endpoint = "secrets_tree")]
pub async fn secrets_tree(
    #[server(default)] owner: String,
    #[server(default)] under: String,
) -> Result<SecretTree, Refusal> {
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let me = caller.user().map_or("", |user| user.handle.as_str());
    let owner = Handle::parse(if owner.is_empty() { me } else { &owner })?;
    let folder = match under.as_str() {
        "" => None,
        under => Some(Folder::parse(under)?),
    };
    db.secrets_tree(&caller, &owner, folder.as_ref())
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// What the list can be narrowed by.
#[server(prefix = "/_fn", endpoint = "secrets_facets")]
pub async fn secrets_facets() -> Result<Facets, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    db.secrets_facets(&caller)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[component]
pub fn SecretsPage() -> impl IntoView {
    let asked = Asked::read(&use_query_map().get_untracked());
    page(Here::Secrets, async move {
        let opened = page_open().await?;
        let me = opened.handle.clone();
        let facets = secrets_facets().await?;
        let owner = asked.owner.as_ref().map(ToString::to_string);
        let under = asked
            .under
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let is_root = !asked.is_list() && under.is_empty() && owner.is_none();
        let due = if is_root {
            secrets_due().await?
        } else {
            Vec::new()
        };
        let whose = owner.clone().unwrap_or(me.clone());
        let (level, rule) = match under.is_empty() {
            true => (None, None),
            false => folder_reach(whose.clone(), under.clone()).await?,
        };
        let found = if asked.is_list() {
            let asked = asked.clone();
            let rows = secrets_list(
                asked.text.clone(),
                asked.sort.unwrap_or_default(),
                owner.clone().unwrap_or_default(),
                under.clone(),
                asked.scope.map_or("", Scope::as_str).to_owned(),
                asked.kind.map_or("", Kind::as_str).to_owned(),
                asked.tag.clone(),
            )
            .await?;
            view! { <List rows asked most=LISTED /> }.into_any()
        } else {
            let tree = secrets_tree(owner.clone().unwrap_or_default(), under.clone()).await?;
            match (tree.root.count, is_root) {
                (0, true) => view! { <FirstSecret /> }.into_any(),
                (0, false) => view! { <Nothing /> }.into_any(),
                _ => view! { <Tree tree asked=asked.clone() /> }.into_any(),
            }
        };
        let is_new = is_root && facets.owners.is_empty();
        let reminder = is_root && key_backup_missing().await?;
        let share = (level == Some(Level::Admin)).then(|| format!("/share/folder/{whose}/{under}"));
        let (add, import) = ways_in(&whose, &under, whose == me, level);
        let rotation = (!asked.is_list() && level >= Some(Level::Write)).then(|| {
            let flash = opened.flash_of("rotation");
            view! { <FolderRotationForm owner=whose under flash rule /> }
        });
        let (title, crumbs) = place(&asked, &me);
        let code = !crumbs.is_empty();
        Ok(view! {
            <Page
                opened
                here=Here::Secrets
                title
                code
                crumbs
                action=move || {
                    let share = share.clone();
                    view! {
                        <div class="flex flex-wrap gap-2">
                            {share.map(|share| view! { <a class="btn" href=share>"Share"</a> })}
                            <a class="btn" href=import.clone()>"Import"</a>
                            {primary(add.clone(), "plus", "Add secret")}
                        </div>
                    }
                }
            >
                {reminder.then(|| view! { <KeyBackupReminder /> })}
                <DueSection due me />
                {(!is_new).then(|| view! { <Filter asked facets /> })}
                {found}
                {rotation}
            </Page>
        })
    })
}

/// Where a secret's page is. Paths and handles need no escaping: their grammar is narrower than a URL's.
pub fn address(owner: &str, path: &str) -> String {
    format!("/secrets/{owner}/{path}")
}

/// Where a folder is by itself, or all that is an owner's.
pub fn folder_address(owner: &str, folder: Option<&Folder>) -> String {
    match folder {
        Some(folder) => format!("/secrets?owner={owner}&under={folder}"),
        None => format!("/secrets?owner={owner}"),
    }
}

/// Where one adds and imports to what is shown. What is imported is always one's own.
fn ways_in(owner: &str, under: &str, is_mine: bool, level: Option<Level>) -> (String, String) {
    let (add, import) = ("/secrets/new".to_owned(), "/secrets/import".to_owned());
    match (under, is_mine) {
        ("", true) => (add, import),
        ("", false) => (format!("{add}?owner={owner}"), import),
        (under, true) => (
            format!("{add}?path={under}/"),
            format!("{import}?under={under}/"),
        ),
        (under, false) if level >= Some(Level::Write) => {
            (format!("{add}?owner={owner}&path={under}/"), import)
        }
        _ => (add, import),
    }
}

/// The way to a folder, or to all that is an owner's: a crumb for each folder, itself the last.
pub fn way_to(owner: &str, folder: Option<&Folder>, me: &str) -> Vec<(String, String)> {
    let mut crumbs = vec![("Secrets".to_owned(), "/secrets".to_owned())];
    if owner != me {
        crumbs.push((owner.to_owned(), folder_address(owner, None)));
    }
    let line = folder.map(Folder::line).unwrap_or_default();
    crumbs.extend(line.iter().map(|folder| {
        let to = folder_address(owner, Some(folder));
        (folder.name().to_owned(), to)
    }));
    crumbs
}

/// The title of a list or a folder, and the way to it.
fn place(asked: &Asked, me: &str) -> (String, Vec<(String, String)>) {
    let owner = asked.owner.as_ref().map_or(me, |owner| owner.as_str());
    let mut crumbs = way_to(owner, asked.under.as_ref(), me);
    // The last is where one is.
    match crumbs.pop() {
        Some((title, _)) => (title, crumbs),
        None => (String::new(), crumbs),
    }
}

#[component]
fn Nothing() -> impl IntoView {
    view! {
        <p class="text-dim">
            "Nothing of what you may see stands here. " <a class="link" href="/secrets">"Show all secrets"</a>
        </p>
    }
}

#[component]
fn FirstSecret() -> impl IntoView {
    view! {
        <Empty
            icon="lock"
            title="Store a key once, use it in every server"
            action=|| {
                view! {
                    <div class="flex flex-wrap gap-2">
                        <a class="btn btn-primary" href="/secrets/new">
                            <Icon name="plus" />
                            "Add the first secret"
                        </a>
                        <a class="btn" href="/secrets/import">
                            "Import a .env file"
                        </a>
                        <a class="btn" href="/deploy">
                            "Deploy a server"
                        </a>
                    </div>
                }
            }
        >
            <p>
                "A secret is an API key, a database URL or any other value that a server needs. It is sealed here, \
                 handed only to the deployments that you tick it for, and never shown again in a browser."
            </p>
        </Empty>
    }
}
