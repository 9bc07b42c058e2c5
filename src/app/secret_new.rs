//! Adding a secret.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

use super::fields::{SelectField, TextField};
use super::frame::{Here, Page, page};
use super::icons::Icon;
use super::teams::owners;
use super::value_field::{GenerateUnseen, ValueField, value_error};
use super::wire::{Flash, Typed, page_open};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::secrets::{DESCRIPTION_LEN_CHARS, Kind};

/// Names its form in a flash.
pub const FORM: &str = "add";
/// What a browser holds against a path before the value is sent on its way; the server decides.
const PATH_PATTERN: &str = r"\s*([A-Za-z0-9_][A-Za-z0-9._\-]*|(meta|project|service)(/[A-Za-z0-9_][A-Za-z0-9._\-]*){2,7})\s*";
const PATH_TITLE: &str = "A name, as in OPENAI_API_KEY, or a folder and a name, as in project/shop/STRIPE_KEY: letters, digits, '.', '_' and '-', and 3 to 8 parts from meta, project or service on.";
pub const TAGS_HINT: &str =
    "Words to find it by, apart by blanks: small letters, digits, dots, hyphens.";

#[server(prefix = "/_fn", endpoint = "secret_add")]
#[allow(clippy::too_many_arguments)] // One argument a field of the form.
pub async fn secret_add(
    #[server(default)] owner: String,
    #[server(default)] path: String,
    #[server(default)] value: Typed,
    #[server(default)] generate: bool,
    #[server(default)] kind: String,
    #[server(default)] description: String,
    #[server(default)] tags: String,
    #[server(default)] expires: String,
    /// The provider whose page the form stands on, if it does.
    #[server(default)]
    then: String,
) -> Result<(), Refusal> {
    use super::forms::{expiry, new_value, trimmed};
    use super::secrets::address;
    use super::wire::{back, caller, go};
    use crate::model::errors::RefusalKind;
    use crate::model::paths::{Handle, SecretPath, Tag};
    use crate::model::secrets::SecretSort;
    use crate::model::targets::Target;
    use crate::store::secrets::NewSecret;

    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let provider = Target::provider(&then).ok();
    let provider = provider.map(super::provider::address_of);
    let path = path.trim().to_owned();
    let description = trimmed(&description);
    let made = async {
        let new = NewSecret {
            owner: match owner.trim() {
                "" => None,
                owner => Some(Handle::parse(owner)?),
            },
            path: SecretPath::parse(&path)?,
            value: new_value(value, generate)?,
            kind: Kind::from_name(&kind).unwrap_or_default(),
            description: description.clone(),
            tags: Tag::parse_all(&tags)?,
            expires_at: expiry(&expires)?,
        };
        db.secret_add(&caller, new).await
    };
    let refusal = match made.await {
        Ok(added) => {
            let own = caller.user().map_or("", |user| user.handle.as_str());
            let handle = Some(owner.trim()).filter(|owner| !owner.is_empty());
            return go(
                &provider.unwrap_or_else(|| address(handle.unwrap_or(own), &path)),
                Flash {
                    notice: Some(super::secret::SEALED.to_owned()),
                    notes: added.notes,
                    ..Flash::default()
                },
            )
            .await;
        }
        Err(error) => error.into_refusal(),
    };
    let mut taken = String::new();
    if refusal.kind == RefusalKind::Taken {
        // It may differ in case: the link must lead to the one that exists.
        taken = db
            .secrets_list(&caller, &path, SecretSort::Path, 1_000)
            .await
            .unwrap_or_default()
            .into_iter()
            .find(|row| {
                let own = caller.user().map_or("", |user| user.handle.as_str());
                let handle = Some(owner.trim()).filter(|owner| !owner.is_empty());
                row.path.as_str().eq_ignore_ascii_case(&path) && row.owner == handle.unwrap_or(own)
            })
            .map(|row| address(&row.owner, row.path.as_str()))
            .unwrap_or_default();
    }
    let form = provider.map(|page| format!("{page}#store"));
    back(
        form.as_deref().unwrap_or("/secrets/new"),
        FORM,
        refusal,
        &[
            ("owner", &owner),
            ("path", &path),
            ("kind", &kind),
            ("description", &description),
            ("tags", &tags),
            ("expires", &expires),
            ("taken", &taken),
        ],
    )
    .await
}

#[component]
pub fn SecretNewPage() -> impl IntoView {
    let query = use_query_map().get_untracked();
    let asked = query.get("path").unwrap_or_default();
    let asked_owner = query.get("owner").unwrap_or_default();
    page(Here::Secrets, async move {
        let mut opened = page_open().await?;
        let flash = opened.flash_of(FORM);
        let owners = owners(&opened.handle, Level::Write).await?;
        let (path, owner) = if flash.form.is_empty() {
            (asked, asked_owner)
        } else {
            (flash.typed("path"), flash.typed("owner"))
        };
        let is_taken = flash.typed("taken");
        // Of a path that is taken it is said above, with the way out.
        let value_error = match is_taken.is_empty() {
            true => value_error(&flash),
            false => None,
        };
        if !is_taken.is_empty() {
            // Said below, with the way out.
            opened.flash = Flash::default();
        }
        Ok(view! {
            <Page
                opened
                here=Here::Secrets
                title="Add a secret"
                crumbs=vec![("Secrets".to_owned(), "/secrets".to_owned())]
            >
                {(!is_taken.is_empty()).then(|| taken(&is_taken))}
                <form method="post" action="/_fn/secret_add" class="flex max-w-2xl flex-col gap-5">
                    <TextField
                        name="path"
                        label="Path"
                        code=true
                        required=true
                        autofocus=true
                        maxlength=255
                        pattern=PATH_PATTERN
                        title=PATH_TITLE
                        value=path
                        error=flash.error("path")
                        placeholder="OPENAI_API_KEY"
                        hint="A name, or a folder and a name, as in project/shop/STRIPE_KEY. Folders start with meta/, project/ or service/. The last part becomes the variable's name."
                    />
                    {(owners.len() > 1)
                        .then(|| {
                            view! {
                                <SelectField
                                    name="owner"
                                    label="Whose it is"
                                    options=owners
                                    value=owner
                                    error=flash.error("owner")
                                    hint="A team’s secret belongs to its members, each with their level."
                                />
                            }
                        })}
                    <div class="flex flex-col gap-1">
                        <ValueField error=value_error generate=true />
                        <p class="text-sm text-dim">
                            "Several variables, as in a .env file? "
                            <a class="link" href="/secrets/import">"Import them"</a>
                            ", each as a secret of its own."
                        </p>
                    </div>
                    <div class="grid gap-5 sm:grid-cols-2">
                        <SelectField
                            name="kind"
                            label="Kind"
                            options=kind_options()
                            value=if flash.form.is_empty() { Kind::ApiKey.as_str().to_owned() } else { flash.typed("kind") }
                            error=flash.error("kind")
                        />
                        <TextField
                            name="expires"
                            label="Expires on"
                            kind="date"
                            value=flash.typed("expires")
                            error=flash.error("expires_at")
                            hint="It is usable until this day ends in UTC."
                        />
                    </div>
                    <TextField
                        name="description"
                        label="Description"
                        maxlength=DESCRIPTION_LEN_CHARS
                        value=flash.typed("description")
                        error=flash.error("description")
                        hint="Visible to whoever may see the secret. Never part of the value."
                    />
                    <TextField
                        name="tags"
                        label="Tags"
                        code=true
                        maxlength=1_000
                        value=flash.typed("tags")
                        error=flash.error("tags")
                        hint=TAGS_HINT
                    />
                    <div class="flex flex-wrap gap-2">
                        <button class="btn btn-primary">"Seal and add"</button>
                        <GenerateUnseen />
                        <a class="btn btn-ghost" href="/secrets">"Cancel"</a>
                    </div>
                </form>
            </Page>
        })
    })
}

/// Something is stored there already; its address leads on.
pub fn taken(address: &str) -> impl IntoView + use<> {
    let replace = format!("{address}?open=replace#replace");
    view! {
        <div role="alert" class="alert">
            <span class="text-amber">
                <Icon name="alert" />
            </span>
            <span>
                "A secret with this path is stored already, and nothing was changed. Give this one another path, or "
                <a class="link" href=replace>"replace that one"</a>
                ". The value has to be typed again: it was not kept."
            </span>
        </div>
    }
}

/// What a kind is sent as, and its name.
pub fn kind_options() -> Vec<(String, String)> {
    Kind::ALL
        .into_iter()
        .map(|kind| (kind.as_str().to_owned(), kind.label().to_owned()))
        .collect()
}
