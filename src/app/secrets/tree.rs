//! Secrets as a tree: folders open and close without a script. A large tree shows its folders as links.

use std::collections::HashMap;

use leptos::prelude::*;
use uuid::Uuid;

use super::super::icons::Icon;
use super::filter::Asked;
use super::folder_address;
use super::list::Table;
use crate::model::secrets::{SecretSort, SecretSummary};
use crate::model::tree::{Branch, FOLDERS_MAX, SecretTree};

/// A tree of at most so many secrets begins unfolded.
const UNFOLDED_MAX: usize = 40;

#[component]
pub fn Tree(tree: SecretTree, asked: Asked) -> impl IntoView {
    let whole = tree.whole();
    let cut = tree.cut;
    let unfolded = whole && tree.root.count <= UNFOLDED_MAX;
    let count = tree.root.count;
    let mut rows: HashMap<Uuid, SecretSummary> =
        tree.rows.into_iter().map(|row| (row.id, row)).collect();
    let Branch {
        branches, leaves, ..
    } = tree.root;
    let more = leaves.len().saturating_sub(rows.len());
    let own: Vec<SecretSummary> = leaves.iter().filter_map(|id| rows.remove(id)).collect();
    let folders = branches.len();
    let branches: Vec<AnyView> = branches
        .into_iter()
        .take(FOLDERS_MAX)
        .map(|branch| match whole {
            true => folding(branch, &mut rows, unfolded),
            false => links(branch),
        })
        .collect();
    let all = asked.by(SecretSort::Path);
    let no_rows = own.is_empty();
    view! {
        {(!no_rows).then(|| view! { <Table rows=own asked=asked.clone() /> })}
        {(folders > 0).then(|| view! { <ul class="flex flex-col gap-1" aria-label="Folders">{branches}</ul> })}
        {(folders > FOLDERS_MAX).then(|| view! { <p class="text-sm text-dim">"More folders are here than this page shows. Search for them."</p> })}
        <p class="text-sm text-dim">
            {match (cut, count) {
                (true, _) => "More secrets than can be counted here".to_owned(),
                (false, count) => secrets(count),
            }}
            {(more > 0).then(|| format!(", {more} of them not shown here"))} ". "
            <a class="link inline-flex min-h-6 items-center" href=all>"As one list"</a>
        </p>
    }
}

fn secrets(count: usize) -> String {
    match count {
        1 => "1 secret".to_owned(),
        count => format!("{count} secrets"),
    }
}

/// What it is called where it stands, and where it is by itself.
fn parts(branch: &Branch) -> (String, String) {
    let name = match &branch.folder {
        Some(folder) => folder.name().to_owned(),
        None => branch.owner.clone(),
    };
    (name, folder_address(&branch.owner, branch.folder.as_ref()))
}

fn folding(branch: Branch, rows: &mut HashMap<Uuid, SecretSummary>, open: bool) -> AnyView {
    let (name, to) = parts(&branch);
    let icon = if branch.folder.is_some() {
        "folder"
    } else {
        "people"
    };
    let path = branch
        .folder
        .map_or(branch.owner, |folder| folder.to_string());
    let own: Vec<SecretSummary> = branch
        .leaves
        .iter()
        .filter_map(|id| rows.remove(id))
        .collect();
    let below: Vec<AnyView> = branch
        .branches
        .into_iter()
        .map(|branch| folding(branch, rows, open))
        .collect();
    let by_itself = by_itself(to, path.clone());
    view! {
        <li class="relative">
            {by_itself}
            <details open=open class="group/f">
                <summary class="flex min-h-8 cursor-pointer list-none items-center gap-2 rounded-field px-1 pe-16 hover:bg-base-200 [&::-webkit-details-marker]:hidden">
                    <span class="transition-transform [details[open]>summary>&]:rotate-90">
                        <Icon name="right" />
                    </span>
                    <Icon name=icon class="size-4 shrink-0 text-dim" />
                    <strong class="min-w-0 break-all font-mono">{name}</strong>
                    <span class="text-sm text-dim">{secrets(branch.count)}</span>
                </summary>
                <div class="ms-3 flex flex-col gap-1 border-s border-base-300 ps-4">
                    {(!below.is_empty()).then(|| view! { <ul class="flex flex-col gap-1">{below}</ul> })}
                    {(!own.is_empty()).then(|| view! { <Table rows=own folder=path /> })}
                </div>
            </details>
        </li>
    }
    .into_any()
}

/// The way to a folder's own address, at the end of its line: beside the summary, for nothing that is pressed stands within it.
fn by_itself(to: String, path: String) -> impl IntoView {
    view! {
        <a class="link absolute end-1 top-1 z-1 inline-flex min-h-6 items-center text-sm" href=to>
            "Open"
            <span class="sr-only">" " {path} " by itself"</span>
        </a>
    }
}

/// Of a large tree: a scope or an owner unfolds to links, and what is below is behind them.
fn links(branch: Branch) -> AnyView {
    let (name, to) = parts(&branch);
    let icon = if branch.folder.is_some() {
        "folder"
    } else {
        "people"
    };
    let more = branch.branches.len().saturating_sub(FOLDERS_MAX);
    let below = branch
        .branches
        .into_iter()
        .take(FOLDERS_MAX)
        .map(|below| {
            let (name, to) = parts(&below);
            view! {
                <li class="flex min-h-8 flex-wrap items-center gap-2">
                    <Icon name="folder" class="size-4 shrink-0 text-dim" />
                    <a class="link inline-flex min-h-6 min-w-0 items-center break-all font-mono" href=to>
                        {name}
                    </a>
                    <span class="text-sm text-dim">{secrets(below.count)}</span>
                </li>
            }
        })
        .collect_view();
    let whole = match &branch.folder {
        Some(folder) => folder.to_string(),
        None => branch.owner.clone(),
    };
    let by_itself = by_itself(to, whole);
    view! {
        <li class="relative">
            {by_itself}
            <details open>
                <summary class="flex min-h-8 cursor-pointer list-none items-center gap-2 rounded-field px-1 pe-16 hover:bg-base-200 [&::-webkit-details-marker]:hidden">
                    <span class="transition-transform [details[open]>summary>&]:rotate-90">
                        <Icon name="right" />
                    </span>
                    <Icon name=icon class="size-4 shrink-0 text-dim" />
                    <strong class="min-w-0 break-all font-mono">{name.clone()}</strong>
                    <span class="text-sm text-dim">{secrets(branch.count)}</span>
                </summary>
                <ul class="ms-3 flex flex-col border-s border-base-300 ps-4">
                    {below}
                    {(more > 0)
                        .then(|| {
                            view! { <li class="text-sm text-dim">{format!("{more} folders more: open {name} by itself.")}</li> }
                        })}
                </ul>
            </details>
        </li>
    }
    .into_any()
}
