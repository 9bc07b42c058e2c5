//! Connecting a provider: how a key is made there, where it is sealed here, and what it can do.

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::fields::{SelectField, TextField};
use super::frame::{Here, Page, Section, page};
use super::icons::Icon;
use super::secret_new::taken;
use super::teams::owners;
use super::value_field::{ValueField, value_error};
use super::wire::{Flash, page_open};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::secrets::Kind;
use crate::model::targets::{AccountSays, Target};

/// Names the checking forms in a flash.
const CHECK: &str = "provider-check";
/// Where a flash has what the provider said, and of which key.
const SAYS: &str = "says";
const KEY: &str = "key";

/// A secret that could be a provider's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// As it is typed: with its owner's handle where that is another.
    pub path: String,
    /// The address of its page.
    pub href: String,
    /// Why it cannot be used now, in a word.
    pub unusable: Option<String>,
}

/// What a provider's page shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProviderView {
    /// Secrets of the caller's sight whose paths name the provider.
    pub keys: Vec<KeyRow>,
    /// What the provider said a moment ago.
    pub says: Option<AccountSays>,
}

/// Everything that a provider's page shows; `said` is what a flash has of its answer.
#[server(prefix = "/_fn", endpoint = "provider_open")]
pub async fn provider_open(
    #[server(default)] target: String,
    #[server(default)] said: String,
) -> Result<ProviderView, Refusal> {
    use super::secrets::address;
    use crate::model::secrets::SecretSort;

    /// More are a matter for the list of secrets.
    const KEYS_MAX: i64 = 100;

    let caller = super::wire::caller().await?;
    let target = Target::provider(&target)?;
    let db = expect_context::<crate::store::Db>();
    let named = db
        .secrets_list(&caller, target.as_str(), SecretSort::Path, KEYS_MAX)
        .await
        .map_err(crate::store::Error::into_refusal)?;
    let me = caller.user().map_or("", |user| user.handle.as_str());
    let now = time::OffsetDateTime::now_utc();
    let could_be = named
        .into_iter()
        .filter(|secret| target.may_be_key(secret.path.as_str()));
    let keys = could_be
        .map(|secret| KeyRow {
            href: address(&secret.owner, secret.path.as_str()),
            unusable: secret.unusable(now).map(str::to_owned),
            path: match secret.owner == me {
                true => secret.path.to_string(),
                false => format!("{}:{}", secret.owner, secret.path),
            },
        })
        .collect();
    let says = serde_json::from_str(&said).ok();
    Ok(ProviderView { keys, says })
}

/// Asks the provider what a key can do, with the caller's right to use it.
#[server(prefix = "/_fn", endpoint = "provider_check")]
pub async fn provider_check(
    #[server(default)] target: String,
    #[server(default)] key: String,
) -> Result<(), Refusal> {
    use super::wire::{back, caller, go};
    use crate::model::errors::RefusalKind;
    use crate::model::paths::KeyPath;

    let caller = caller().await?;
    let target = Target::provider(&target)?;
    let here = format!("{}#check", address_of(target));
    let key = key.trim().to_owned();
    let asked = async {
        let path = KeyPath::parse(&key).map_err(|refusal| refusal.at(KEY))?;
        let deployer = expect_context::<crate::deploy::Deployer>();
        let says = deployer.account_says(&caller, target, &path).await?;
        serde_json::to_string(&says).map_err(|_| Refusal::internal())
    };
    let refusal = match asked.await {
        Ok(says) => {
            let mut flash = Flash {
                form: CHECK.to_owned(),
                ..Flash::default()
            };
            flash.typed.insert(KEY.to_owned(), key);
            flash.typed.insert(SAYS.to_owned(), says);
            return go(&here, flash).await;
        }
        Err(refusal) => refusal,
    };
    // What is not among the keys may be the key itself, and is not said again.
    let listed = provider_open(target.as_str().to_owned(), String::new())
        .await?
        .keys;
    if listed.iter().any(|row| row.path == key) {
        return back(&here, CHECK, refusal, &[(KEY, key.as_str())]).await;
    }
    let usual = target.key_path().unwrap_or_default();
    let hint = format!(
        "Type the path of a secret, as in {usual}, and never the key itself. What was typed was not kept."
    );
    let says = match KeyPath::parse(&key) {
        Err(_) => Refusal::invalid(KEY, hint),
        Ok(_) if refusal.kind == RefusalKind::NotFound => Refusal {
            detail: format!("{} {hint}", refusal.detail),
            ..refusal
        },
        Ok(_) => refusal,
    };
    back(&here, CHECK, says, &[]).await
}

/// The page of a provider.
pub fn address_of(target: Target) -> String {
    format!("/settings/{}", target.as_str())
}

#[component]
pub fn RenderPage() -> impl IntoView {
    provider_page(Target::Render)
}

#[component]
pub fn RailwayPage() -> impl IntoView {
    provider_page(Target::Railway)
}

fn provider_page(target: Target) -> impl IntoView {
    page(Here::Settings, async move {
        let opened = page_open().await?;
        let check = opened.flash_of(CHECK);
        let shown = provider_open(target.as_str().to_owned(), check.typed(SAYS)).await?;
        let owners = owners(&opened.handle, Level::Write).await?;
        let add = opened.flash_of(super::secret_new::FORM);
        Ok(view! {
            <Page
                opened
                here=Here::Settings
                title=format!("Connect {}", target.title())
                crumbs=vec![("Settings".to_owned(), "/settings".to_owned())]
            >
                <div class="flex max-w-2xl flex-col gap-5">
                    <Make target />
                    <Store target owners flash=add />
                    <Check target shown flash=check />
                </div>
            </Page>
        })
    })
}

/// How a key is made at the provider.
#[component]
fn Make(target: Target) -> impl IntoView {
    let says = match target {
        Target::Railway => {
            "Make a token there. One of a workspace makes a project for each deployment; one of a project, made in that project’s settings, reaches that one environment alone, which is safer; one of the account reaches everything."
        }
        _ => {
            "Make an API key there, under API Keys of the account’s settings. It reaches every workspace of that account: Render makes none that can do less. An account of its own, in one workspace, is safer."
        }
    };
    view! {
        <Section title=format!("1. Make a key at {}", target.title()) id="make">
            <p>{says}</p>
            <p>
                <a class="link break-all" href=target.key_page() rel="noreferrer">
                    {target.key_page()}
                </a>
            </p>
        </Section>
    }
}

/// Write-only, as every value.
#[component]
fn Store(target: Target, owners: Vec<(String, String)>, flash: Flash) -> impl IntoView {
    let usual = target.key_path().unwrap_or_default();
    let path = match flash.form.is_empty() {
        true => usual.to_owned(),
        false => flash.typed("path"),
    };
    let is_taken = flash.typed("taken");
    let path_error = flash.error("path");
    let value_error = match is_taken.is_empty() {
        true => value_error(&flash),
        false => None,
    };
    let owner_error = flash.error("owner");
    view! {
        <Section title="2. Seal it here" id="store">
            {(!is_taken.is_empty()).then(|| taken(&is_taken))}
            <form method="post" action="/_fn/secret_add" class="flex flex-col gap-4">
                <input type="hidden" name="then" value=target.as_str() />
                <input type="hidden" name="kind" value=Kind::ApiKey.as_str() />
                <ValueField error=value_error />
                <TextField
                    name="path"
                    label="Path"
                    code=true
                    required=true
                    maxlength=255
                    value=path
                    error=path_error
                    hint=format!("Deployments to {} look for their key at {usual} unless they are told another path.", target.title())
                />
                {(owners.len() > 1)
                    .then(|| {
                        view! {
                            <SelectField
                                name="owner"
                                label="Whose it is"
                                options=owners
                                value=flash.typed("owner")
                                error=owner_error
                                hint="A team’s deployments run with a key that the team may use."
                            />
                        }
                    })}
                <div>
                    <button class="btn btn-primary">"Seal and add"</button>
                </div>
            </form>
        </Section>
    }
}

/// What the keys can do, by the provider's own word.
#[component]
fn Check(target: Target, shown: ProviderView, flash: Flash) -> impl IntoView {
    let ProviderView { keys, says } = shown;
    let title = target.title();
    let error = flash
        .error(KEY)
        .or_else(|| flash.error("target"))
        .or_else(|| flash.error(""));
    let checked = flash.typed(KEY);
    let typed = match says.is_some() || keys.iter().any(|key| key.path == checked) {
        true => String::new(),
        false => checked.clone(),
    };
    view! {
        <Section title="3. Check what it can do" id="check">
            <p class="text-dim">
                {format!("{title} is asked with the key, once. To use the key is right enough; that it was opened goes on record.")}
            </p>
            {says.map(|says| view! { <Says says key=checked title /> })}
            {error
                .clone()
                .map(|error| {
                    view! {
                        <p role="alert" class="flex items-start gap-2 text-error">
                            <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                            <span class="min-w-0 break-words">{error}</span>
                        </p>
                    }
                })}
            {match keys.is_empty() {
                true => {
                    view! { <p>{format!("No secret in your sight has {title} in its path yet.")}</p> }
                        .into_any()
                }
                false => {
                    view! {
                        <ul class="flex flex-col gap-2">
                            {keys.into_iter().map(|key| view! { <KeyToCheck target key /> }).collect_view()}
                        </ul>
                    }
                        .into_any()
                }
            }}
            <form method="post" action="/_fn/provider_check" class="flex flex-col gap-4 border-t border-base-300 pt-4">
                <input type="hidden" name="target" value=target.as_str() />
                <TextField
                    name="key"
                    id="other-key"
                    label="Path of another secret"
                    code=true
                    required=true
                    maxlength=300
                    value=typed
                    hint="With its owner’s handle where that is not you, as in team:meta/render/api_key. Never the key itself."
                />
                <div>
                    <button class="btn">"Check"</button>
                </div>
            </form>
        </Section>
    }
}

#[component]
fn KeyToCheck(target: Target, key: KeyRow) -> impl IntoView {
    let label = format!("Check {}", key.path);
    view! {
        <li class="flex flex-wrap items-center justify-between gap-2">
            <a class="link min-w-0 break-all font-mono" href=key.href>
                {key.path.clone()}
            </a>
            {match key.unusable {
                Some(why) => view! { <span class="text-amber">{why}</span> }.into_any(),
                None => {
                    view! {
                        <form method="post" action="/_fn/provider_check">
                            <input type="hidden" name="target" value=target.as_str() />
                            <input type="hidden" name="key" value=key.path />
                            <button class="btn btn-sm" aria-label=label>
                                "Check"
                            </button>
                        </form>
                    }
                        .into_any()
                }
            }}
        </li>
    }
}

#[component]
fn Says(says: AccountSays, key: String, title: &'static str) -> impl IntoView {
    let places = says
        .places
        .into_iter()
        .map(|place| {
            view! {
                <li class="flex min-w-0 flex-wrap gap-x-2">
                    <span class="text-dim">{place.kind}</span>
                    <span class="min-w-0 break-words font-medium">{place.name}</span>
                    <code class="min-w-0 break-all text-sm">{place.id}</code>
                </li>
            }
        })
        .collect_view();
    view! {
        <div role="status" class="flex flex-col gap-2 rounded-box border border-base-300 p-3">
            <p class="flex items-start gap-2">
                <span class="mt-0.5 text-success">
                    <Icon name="check" />
                </span>
                <span class="min-w-0">
                    {format!("{title} takes ")} <code class="break-all">{key}</code> ". " {says.sentence}
                </span>
            </p>
            <ul class="flex flex-col gap-1">{places}</ul>
            {says.cut.then(|| view! { <p class="text-dim">"There are more than are listed here."</p> })}
        </div>
    }
}

/// The providers' pages, from the settings.
#[component]
pub fn Providers() -> impl IntoView {
    let pages = Target::ALL
        .into_iter()
        .filter(|target| target.is_remote())
        .map(|target| {
            view! {
                <li>
                    <a class="link inline-flex min-h-6 items-center" href=address_of(target)>
                        {format!("Connect {}", target.title())}
                    </a>
                </li>
            }
        })
        .collect_view();
    view! {
        <Section title="Providers" id="providers">
            <p>"Servers can run at a provider, with a key of yours: how it is made, sealed, and what it can do."</p>
            <ul class="flex flex-col gap-1">{pages}</ul>
        </Section>
    }
}
