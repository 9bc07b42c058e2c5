//! What a list of secrets is narrowed to, as an address says it and as a form asks for it.

use leptos::prelude::*;
use leptos_router::location::Url;
use leptos_router::params::ParamsMap;

use super::super::icons::Icon;
use crate::model::paths::{Folder, Handle};
use crate::model::secrets::{Facets, Kind, Scope, SecretSort};

/// An address's query. What does not read narrows nothing, but for a folder: that is then one of nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub text: String,
    pub owner: Option<Handle>,
    pub under: Option<Folder>,
    pub scope: Option<Scope>,
    pub kind: Option<Kind>,
    pub tag: String,
    pub sort: Option<SecretSort>,
}

impl Asked {
    pub fn read(query: &ParamsMap) -> Asked {
        let get = |name: &str| query.get(name).unwrap_or_default();
        Asked {
            text: get("q"),
            owner: Handle::parse(&get("owner")).ok(),
            under: Folder::parse(&get("under")).ok(),
            scope: Scope::from_name(&get("scope")),
            kind: Kind::from_name(&get("kind")),
            tag: get("tag"),
            sort: sort_from(&get("sort")),
        }
    }

    /// Whether a list answers it rather than the tree.
    pub fn is_list(&self) -> bool {
        self.sort.is_some()
            || !self.text.trim().is_empty()
            || self.scope.is_some()
            || self.kind.is_some()
            || !self.tag.is_empty()
    }

    /// The same in another order.
    pub fn by(&self, sort: SecretSort) -> String {
        let mut to = format!("/secrets?sort={}", sort_name(sort));
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                to.push_str(&format!("&{name}={}", Url::escape(value)));
            }
        };
        add("q", &self.text);
        add("owner", self.owner.as_ref().map_or("", Handle::as_str));
        add("under", self.under.as_ref().map_or("", Folder::as_str));
        add("scope", self.scope.map_or("", Scope::as_str));
        add("kind", self.kind.map_or("", Kind::as_str));
        add("tag", &self.tag);
        to
    }
}

pub fn sort_name(sort: SecretSort) -> &'static str {
    match sort {
        SecretSort::Path => "path",
        SecretSort::Changed => "changed",
        SecretSort::Kind => "kind",
    }
}

fn sort_from(name: &str) -> Option<SecretSort> {
    [SecretSort::Path, SecretSort::Changed, SecretSort::Kind]
        .into_iter()
        .find(|sort| sort_name(*sort) == name)
}

#[component]
pub fn Filter(asked: Asked, facets: Facets) -> impl IntoView {
    let scopes = Scope::ALL.map(|scope| {
        let label = match scope {
            Scope::Bare => "Without a folder",
            Scope::Meta => "meta/",
            Scope::Project => "project/",
            Scope::Service => "service/",
        };
        (scope.as_str().to_owned(), label.to_owned())
    });
    let kinds = Kind::ALL.map(|kind| (kind.as_str().to_owned(), kind.label().to_owned()));
    let twice = |word: String| (word.clone(), word);
    let tags: Vec<_> = facets
        .tags
        .iter()
        .map(|tag| twice(tag.to_string()))
        .collect();
    let owners: Vec<_> = facets.owners.into_iter().map(twice).collect();
    let owner = asked.owner.map(String::from).unwrap_or_default();
    view! {
        <form method="get" action="/secrets" role="search" class="flex flex-wrap gap-2">
            {asked.sort.map(|sort| view! { <input type="hidden" name="sort" value=sort_name(sort) /> })}
            {asked.under.map(|folder| view! { <input type="hidden" name="under" value=folder.to_string() /> })}
            <label class="input w-full sm:w-72">
                <Icon name="search" label="Search secrets" />
                <input type="search" name="q" value=asked.text placeholder="Path or description" />
            </label>
            <Choice name="scope" label="Scope" all="Any scope" options=scopes.to_vec() now=asked.scope.map_or("", Scope::as_str).to_owned() />
            <Choice name="kind" label="Kind" all="Any kind" options=kinds.to_vec() now=asked.kind.map_or("", Kind::as_str).to_owned() />
            {(!tags.is_empty())
                .then(|| view! { <Choice name="tag" label="Tag" all="Any tag" options=tags now=asked.tag /> })}
            {if owners.len() > 1 {
                view! { <Choice name="owner" label="Owner" all="Any owner" options=owners now=owner /> }.into_any()
            } else {
                ().into_any()
            }}
            <button class="btn">"Search"</button>
        </form>
    }
}

/// A select that says by itself what it is about.
#[component]
fn Choice(
    name: &'static str,
    label: &'static str,
    all: &'static str,
    options: Vec<(String, String)>,
    now: String,
) -> impl IntoView {
    view! {
        <select class="select w-auto" name=name aria-label=label>
            <option value="">{all}</option>
            {options
                .into_iter()
                .map(|(sent, read)| {
                    let chosen = sent == now;
                    view! {
                        <option value=sent selected=chosen>
                            {read}
                        </option>
                    }
                })
                .collect_view()}
        </select>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_back() {
        let mut query = ParamsMap::new();
        for (name, value) in [
            ("q", "a&b"),
            ("under", "project/shop"),
            ("scope", "nonsense"),
            ("kind", "json"),
            ("owner", "Not A Handle"),
        ] {
            query.insert(name, value.to_owned());
        }
        let asked = Asked::read(&query);
        assert!(asked.is_list() && asked.scope.is_none() && asked.owner.is_none());
        assert_eq!(
            asked.by(SecretSort::Changed),
            "/secrets?sort=changed&q=a%26b&under=project%2Fshop&kind=json"
        );
        let mut query = ParamsMap::new();
        query.insert("under", "project/shop".to_owned());
        query.insert("q", " ".to_owned());
        assert!(!Asked::read(&query).is_list());
    }
}
