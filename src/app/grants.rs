//! Sharing a secret, a folder or a deployment: who can reach it and by what, and giving and taking back.

use leptos::prelude::*;
use leptos_router::hooks::use_params_map;
use uuid::Uuid;

use super::fields::TextField;
use super::frame::{Here, Page, Section, page};
use super::icons::Icon;
use super::secrets::{address, way_to};
use super::times::When;
use super::wire::{Flash, page_open};
use crate::model::errors::Refusal;
use crate::model::grants::{Grant, Holder, Member, Reachers, Shareable, Shared};
use crate::model::levels::Level;
use crate::model::paths::Folder;

const FORM: &str = "share";

/// Who can reach it, for its admins. `of` as in the page's address: `secret/ID`, `folder/HANDLE/PREFIX`, `deployment/NAME`.
#[server(prefix = "/_fn", endpoint = "reachers_open")]
pub async fn reachers_open(of: String) -> Result<Reachers, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    db.reachers(&caller, &Shareable::parse(&of)?)
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// Gives a level, or changes the one that was given.
#[server(prefix = "/_fn", endpoint = "share")]
pub async fn share(
    of: String,
    #[server(default)] with: String,
    #[server(default)] level: String,
    /// Names of deployments, between spaces or commas.
    #[server(default)]
    only: String,
) -> Result<(), Refusal> {
    use super::wire::{back, confirmed_with, done};
    use crate::model::paths::DeploymentName;
    let db = expect_context::<crate::store::Db>();
    let with = with.trim().to_owned();
    let typed = [("with", with.as_str()), ("level", &level), ("only", &only)];
    let caller = confirmed_with(FORM, &typed).await?;
    let shared = async {
        let on = Shareable::parse(&of)?;
        let level = Level::from_name(&level)
            .ok_or_else(|| Refusal::invalid("level", "Choose how far it reaches."))?;
        let mut names = Vec::new();
        for name in only
            .split([',', ' ', '\n', '\r'])
            .filter(|name| !name.is_empty())
        {
            names.push(DeploymentName::parse(name).map_err(|refusal| refusal.at("only"))?);
        }
        db.share(&caller, &on, &with, level, &names).await?;
        Ok::<_, crate::store::Error>(level)
    };
    match shared.await {
        Ok(level) => {
            let notice = format!("{with} has {} from now on.", level.as_str());
            done(&format!("/share/{of}"), notice).await
        }
        Err(error) => {
            let to = match Shareable::parse(&of) {
                Ok(on) => format!("/share/{on}#{FORM}"),
                Err(_) => "/secrets".to_owned(),
            };
            back(&to, FORM, error.into_refusal(), &typed).await
        }
    }
}

/// Takes a level back, or gives it back, and leads to the page it was asked on.
#[server(prefix = "/_fn", endpoint = "unshare")]
pub async fn unshare(id: Uuid, #[server(default)] from: String) -> Result<(), Refusal> {
    use super::wire::{back, caller, done};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let to = page_of(&from);
    match db.unshare(&caller, id).await {
        Ok(()) => done(&to, "Taken back. It holds no more.").await,
        Err(error) => back(&to, "unshare", error.into_refusal(), &[]).await,
    }
}

/// Only pages of ours are led to.
pub fn page_of(from: &str) -> String {
    let person = from.strip_prefix("person/");
    if let Ok(on) = Shareable::parse(from) {
        format!("/share/{on}")
    } else if let Some(Ok(handle)) = person.map(crate::model::paths::Handle::parse) {
        format!("/people/{handle}")
    } else {
        "/people".to_owned()
    }
}

#[component]
pub fn SharePage() -> impl IntoView {
    let params = use_params_map().get_untracked();
    let (of, here) = match (params.get("id"), params.get("name")) {
        (Some(id), _) => (format!("secret/{id}"), Here::Secrets),
        (_, Some(name)) => (format!("deployment/{name}"), Here::Deployments),
        _ => {
            let owner = params.get("handle").unwrap_or_default();
            let prefix = params.get("prefix").unwrap_or_default();
            (format!("folder/{owner}/{prefix}"), Here::Secrets)
        }
    };
    page(here, async move {
        let found = reachers_open(of.clone()).await?;
        let opened = page_open().await?;
        let flash = opened.flash_of(FORM);
        let (title, crumbs) = place(&found, &opened.handle);
        let shown_at = of.clone();
        let is_deployment = matches!(found.on, Shared::Deployment { .. });
        Ok(view! {
            <Page opened here title crumbs>
                <Section title="Who can reach this" id="reachers">
                    <Reaching found of=shown_at />
                </Section>
                <Section title="Share it" id=FORM>
                    <Give of flash is_deployment />
                </Section>
            </Page>
        })
    })
}

fn place(found: &Reachers, me: &str) -> (String, Vec<(String, String)>) {
    let owner = found.owner.handle.as_str();
    match &found.on {
        Shared::Secret { path, .. } => {
            let folder = Folder::parse(path.folder()).ok();
            let mut crumbs = way_to(owner, folder.as_ref(), me);
            crumbs.push((path.name().to_owned(), address(owner, path.as_str())));
            (format!("Share {}", path.name()), crumbs)
        }
        Shared::Folder { prefix } => (
            format!("Share the folder {prefix}"),
            way_to(owner, Some(prefix), me),
        ),
        Shared::Deployment { name } => (
            format!("Share {name}"),
            vec![
                ("Deployments".to_owned(), "/deployments".to_owned()),
                (name.to_string(), format!("/deployments/{name}")),
            ],
        ),
    }
}

#[component]
fn Reaching(found: Reachers, of: String) -> impl IntoView {
    let owner = found.owner.clone();
    let is_secret = matches!(found.on, Shared::Secret { .. });
    let through = found.through;
    view! {
        <ul class="flex flex-col divide-y divide-base-300">
            <li class="flex flex-wrap items-center gap-x-4 gap-y-1 py-2">
                <Named holder=owner.clone() />
                <span class="text-dim">{if owner.is_team { "owns it; its members reach it" } else { "owns it" }}</span>
            </li>
            {found
                .members
                .into_iter()
                .map(|member| view! { <MemberOf member team=owner.handle.clone() /> })
                .collect_view()}
            {found
                .grants
                .into_iter()
                .map(|grant| {
                    let people: Vec<String> = through
                        .iter()
                        .filter(|(team, _)| grant.grantee.is_team && *team == grant.grantee.handle)
                        .map(|(_, handle)| handle.clone())
                        .collect();
                    view! { <Given grant people is_secret from=of.clone() /> }
                })
                .collect_view()}
        </ul>
    }
}

#[component]
fn MemberOf(member: Member, team: String) -> impl IntoView {
    let holder = Holder {
        handle: member.handle,
        is_team: false,
        ended: false,
    };
    view! {
        <li class="flex flex-wrap items-center gap-x-4 gap-y-1 py-2">
            <Named holder />
            <span class="badge badge-sm">{member.level.as_str()}</span>
            <span class="text-sm text-dim">"as a member of " <span class="font-mono">{team}</span></span>
        </li>
    }
}

#[component]
fn Given(grant: Grant, people: Vec<String>, is_secret: bool, from: String) -> impl IntoView {
    let by_folder = match &grant.on {
        Shared::Folder { prefix } => Some((
            prefix.to_string(),
            format!("/share/folder/{}/{prefix}", grant.owner),
        )),
        _ => None,
    };
    let label = if is_secret && by_folder.is_some() {
        "Take back for the whole folder"
    } else {
        "Take back"
    };
    view! {
        <li class="flex flex-wrap items-center gap-x-4 gap-y-1 py-2">
            <Named holder=grant.grantee.clone() />
            <span class="badge badge-sm">{grant.level.as_str()}</span>
            <span class="min-w-0 flex-1 basis-72 text-sm text-dim">
                {by_folder
                    .filter(|(prefix, _)| is_secret || !from.ends_with(prefix))
                    .map(|(prefix, href)| {
                        view! { "by the folder " <a class="link font-mono" href=href>{prefix}</a> ", " }
                    })}
                "given by " {grant.given_by.clone()} " " <When at=grant.given_at />
                <Only only=grant.only.clone() />
                {(!people.is_empty()).then(|| format!(". In the team: {}", people.join(", ")))}
            </span>
            {grant.endable.then(|| view! { <TakeBack grant=grant.clone() from label /> })}
        </li>
    }
}

/// In which deployments alone.
#[component]
pub fn Only(only: Vec<String>) -> impl IntoView {
    (!only.is_empty()).then(|| format!(", only in {}", only.join(", ")))
}

/// Ends a grant; `from` is the page that asks.
#[component]
pub fn TakeBack(grant: Grant, from: String, label: &'static str) -> impl IntoView {
    let what = match &grant.on {
        Shared::Secret { path, .. } => path.to_string(),
        Shared::Folder { prefix } => format!("{prefix}/"),
        Shared::Deployment { name } => name.to_string(),
    };
    view! {
        <form method="post" action="/_fn/unshare">
            <input type="hidden" name="id" value=grant.id.to_string() />
            <input type="hidden" name="from" value=from />
            <button class="btn btn-sm">
                {label}
                <span class="sr-only">{format!(": {} of {what}, {}", grant.level.as_str(), grant.grantee.handle)}</span>
            </button>
        </form>
    }
}

/// A handle that leads to what it can do.
#[component]
pub fn Named(holder: Holder) -> impl IntoView {
    view! {
        <span class="flex items-center gap-2">
            <a class="link min-h-6 font-mono" href=format!("/people/{}", holder.handle)>{holder.handle.clone()}</a>
            {holder.is_team.then(|| view! { <span class="badge badge-sm">"team"</span> })}
            {holder.ended.then(|| view! { <span class="badge badge-warning badge-sm">"ended"</span> })}
        </span>
    }
}

#[component]
fn Give(of: String, flash: Flash, is_deployment: bool) -> impl IntoView {
    let chosen = match flash.typed("level") {
        level if level.is_empty() => Level::Use.as_str().to_owned(),
        level => level,
    };
    let level_error = flash.error("level");
    view! {
        <form method="post" action="/_fn/share" class="flex max-w-2xl flex-col gap-4">
            <input type="hidden" name="of" value=of />
            <TextField
                name="with"
                label="With whom"
                required=true
                maxlength=254
                value=flash.typed("with")
                error=flash.error("with")
                hint="A person’s e-mail address or handle, or a team’s handle. Sharing again with the same one changes the level."
            />
            <fieldset class="flex flex-col gap-2">
                <legend class="mb-1 font-medium">"How far it reaches"</legend>
                {Level::ALL
                    .into_iter()
                    .map(|level| {
                        let words = if is_deployment { level.on_deployment() } else { level.on_secret() };
                        view! {
                            <label class="flex items-start gap-3">
                                <input
                                    class="radio radio-sm mt-0.5"
                                    type="radio"
                                    name="level"
                                    value=level.as_str()
                                    checked=chosen == level.as_str()
                                />
                                <span>
                                    <strong>{level.as_str()}</strong>
                                    ": "
                                    {words}
                                </span>
                            </label>
                        }
                    })
                    .collect_view()}
                {level_error.map(|error| view! { <p class="text-sm text-error">{error}</p> })}
            </fieldset>
            {(!is_deployment)
                .then(|| {
                    view! {
                        <TextField
                            name="only"
                            label="Only in these deployments"
                            code=true
                            maxlength=2_000
                            value=flash.typed("only")
                            error=flash.error("only")
                            hint="For use alone: names with a space between. Empty: in any deployment."
                        />
                        <Trust />
                    }
                })}
            <div>
                <button class="btn btn-primary">
                    <Icon name="people" />
                    "Share"
                </button>
            </div>
        </form>
    }
}

/// What `use` means, said plainly.
#[component]
fn Trust() -> impl IntoView {
    view! {
        <div class="flex items-start gap-2 rounded-box bg-base-200 p-3 text-sm">
            <Icon name="shield" class="mt-0.5 size-4 shrink-0" />
            <p>
                <strong>"What you trust them with when you give use. "</strong>
                "Nobody is shown the value for it, and it is masked in what a server prints or answers. But whoever has use in any deployment chooses the code that gets the value, and code can give it away. Name deployments to allow it in these alone; whoever administers those still chooses their code."
            </p>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_back_leads_to_pages_of_ours_alone() {
        assert_eq!(page_of("deployment/weather"), "/share/deployment/weather");
        assert_eq!(page_of("person/ann"), "/people/ann");
        for foreign in [
            "//evil.example",
            "https://evil.example",
            "person/../x",
            "secret//evil",
        ] {
            assert_eq!(page_of(foreign), "/people", "{foreign}");
        }
    }
}
