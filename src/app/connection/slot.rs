//! One key that a deployment asks of its callers: how it stands, and the forms that give, connect and clear it.

use leptos::prelude::*;

use super::super::fields::TextField;
use super::super::frame::Section;
use super::super::icons::Icon;
use super::super::secrets::address as secret_address;
use super::super::times::day;
use super::super::value_field::ValueField;
use super::super::wire::{Flash, Typed};
use crate::model::connections::{ConnectPage, Slot, SlotState};
use crate::model::errors::Refusal;
use crate::model::paths::{DeploymentName, EnvName};

/// Names the forms of a slot in a flash.
pub(super) fn form_of(env: &EnvName) -> String {
    format!("slot-{env}")
}

/// Where its value is typed.
pub(super) fn value_id(env: &EnvName) -> String {
    format!("value-{env}")
}

/// Lets the deployment use the caller's own value: the one that was typed, or with `kept` the one that is there.
#[server(prefix = "/_fn", endpoint = "connection_put")]
pub async fn connection_put(
    name: DeploymentName,
    env: EnvName,
    /// What the person saw and agreed to, as a number.
    terms: i32,
    #[server(default)] value: Typed,
    #[server(default)] kept: bool,
) -> Result<(), Refusal> {
    use super::super::wire::{caller, done};
    use super::address;
    use super::answers::{refused, retire};
    use crate::store::secrets::NewValue;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let value = match (kept, value.is_empty()) {
        (true, _) => None,
        (false, false) => Some(NewValue::Typed(value.into_value())),
        (false, true) => {
            let refusal = Refusal::invalid("value", "Type or paste the value.");
            return refused(&name, &env, refusal).await;
        }
    };
    let is_new = value.is_some();
    let put = db.connection_put(&caller, &name, &env, Some(terms), value);
    if let Err(error) = put.await {
        return refused(&name, &env, error.into_refusal()).await;
    }
    let is_used = match retire(&caller, &name).await {
        Ok(page) => page
            .slots
            .iter()
            .any(|slot| slot.env == env && slot.state.is_used()),
        // It was taken away meanwhile: what was done stands all the same.
        Err(_) => true,
    };
    let notice = match (is_new, is_used) {
        (true, true) => format!(
            "{env} is sealed and connected. It cannot be shown here again. Your next call to {name} runs with it."
        ),
        (false, true) => format!("{env} is connected. Your next call to {name} runs with it."),
        (_, false) => format!("{env} is connected, and cannot be used yet: see below."),
    };
    done(&address(&name), notice).await
}

/// Takes the caller's own value away, for good.
#[server(prefix = "/_fn", endpoint = "connection_clear")]
pub async fn connection_clear(
    name: DeploymentName,
    env: EnvName,
    /// The variable, typed again.
    #[server(default)]
    typed: String,
) -> Result<(), Refusal> {
    use super::super::wire::{caller, done};
    use super::address;
    use super::answers::{refused, retire_of};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let ended = async {
        // First, so that nobody learns by a typo whether there is such a deployment.
        let page = db.connect_page(&caller, &name).await?;
        if typed.trim() != env.as_str() {
            let says = format!("Type {env} to clear it. Nothing was deleted.");
            return Err(Refusal::invalid("typed", says).into());
        }
        db.connection_end(&caller, &name, &env).await?;
        Ok::<_, crate::store::Error>(page.id)
    };
    match ended.await {
        Ok(id) => {
            retire_of(&caller, id);
            let notice = format!("{env} is cleared: your value of it is deleted.");
            done(&address(&name), notice).await
        }
        Err(error) => refused(&name, &env, error.into_refusal()).await,
    }
}

/// A word, the colour that repeats it, and what follows from it.
fn stands(slot: &Slot) -> (&'static str, &'static str, String) {
    let until = slot.expires_at.map(day).unwrap_or_default();
    match slot.state {
        SlotState::Missing => (
            "Missing",
            "badge badge-warning",
            "You have given no value yet.".into(),
        ),
        SlotState::Kept => (
            "Kept, not connected",
            "badge badge-warning",
            "A value of yours is kept under this path. It is not used here before you connect it. From then on it is for use only, for good: nobody reads it, you included."
                .into(),
        ),
        SlotState::Changed => (
            "Changed since",
            "badge badge-warning",
            "You connected it to what has changed since. It is not used until you connect it again."
                .into(),
        ),
        SlotState::Connected => (
            "Connected",
            "badge badge-success badge-soft",
            "Your calls run with it.".into(),
        ),
        SlotState::Expiring => (
            "Expires soon",
            "badge badge-warning",
            format!("Your calls run with it until {until}. Replace it before."),
        ),
        SlotState::Refused => (
            "Refused",
            "badge badge-error badge-soft",
            "The far service refused your keys when they were last used. Replace it, or connect it again once it is mended there.".into(),
        ),
        SlotState::Expired => (
            "Expired",
            "badge badge-error badge-soft",
            format!("It expired on {until} and is not used any more. Replace it."),
        ),
        SlotState::Off => (
            "Switched off",
            "badge badge-error badge-soft",
            "It is switched off and not used until you switch it on.".into(),
        ),
    }
}

/// How one key stands, with all that can be done about it.
pub fn slot(
    page: &ConnectPage,
    slot: &Slot,
    me: &str,
    flash: &dyn Fn(&str) -> Flash,
) -> impl IntoView + use<> {
    let flash = flash(&form_of(&slot.env));
    let (word, class, says) = stands(slot);
    let described = Some(slot.description.clone()).filter(|said| !said.is_empty());
    let (place, kept, switch) = (place(slot, me), use_kept(page, slot), switch_on(slot, me));
    let (give, clear) = (give(page, slot, &flash), clear(page, slot, &flash));
    view! {
        <Section title=slot.env.to_string() id=form_of(&slot.env)>
            {described.map(|said| view! { <p class="break-words text-dim">{said}</p> })}
            <p class="flex flex-wrap items-center gap-x-3 gap-y-1">
                <span class=class>{word}</span>
                <span>{says}</span>
            </p>
            {place}
            {kept}
            {switch}
            {give}
            {clear}
        </Section>
    }
}

/// Where the value is kept, or will be.
fn place(slot: &Slot, me: &str) -> impl IntoView + use<> {
    let path = slot.path.to_string();
    let href = slot
        .secret_id
        .map(|_| secret_address(me, slot.path.as_str()));
    view! {
        <p class="text-sm text-dim">
            {match href {
                Some(href) => {
                    view! {
                        "Kept at "
                        <a class="link inline-flex min-h-6 items-center break-all font-mono" href=href>
                            {path}
                        </a>
                    }
                        .into_any()
                }
                None => {
                    view! {
                        "It will be kept at "
                        <span class="break-all font-mono">{path}</span>
                        ", among your secrets."
                    }
                        .into_any()
                }
            }}
        </p>
    }
}

fn hidden(page: &ConnectPage, slot: &Slot) -> impl IntoView + use<> {
    view! {
        <input type="hidden" name="name" value=page.name.to_string() />
        <input type="hidden" name="env" value=slot.env.to_string() />
    }
}

/// What the person sees and agrees to with the form's button.
fn terms(page: &ConnectPage) -> impl IntoView + use<> {
    view! { <input type="hidden" name="terms" value=page.terms.to_string() /> }
}

/// Said to screen readers, which hear a button without what stands around it.
fn whose(slot: &Slot) -> impl IntoView + use<> {
    view! { <span class="sr-only">{format!(" of {}", slot.env)}</span> }
}

/// One press, where a value is kept already.
fn use_kept(page: &ConnectPage, slot: &Slot) -> Option<impl IntoView + use<>> {
    let (class, says) = match slot.state {
        SlotState::Kept | SlotState::Changed => ("btn btn-primary", "Connect what is kept"),
        // What was mended at the far service needs no new value.
        SlotState::Refused => ("btn", "Connect it again"),
        _ => return None,
    };
    Some(view! {
        <form method="post" action="/_fn/connection_put">
            {hidden(page, slot)}
            {terms(page)}
            <input type="hidden" name="kept" value="true" />
            <button class=class>
                <Icon name="check" />
                {says}
                {whose(slot)}
            </button>
        </form>
    })
}

/// One press, where that is all that is in the way.
fn switch_on(slot: &Slot, me: &str) -> Option<impl IntoView + use<>> {
    let id = slot.secret_id.filter(|_| slot.state == SlotState::Off)?;
    Some(view! {
        <form method="post" action="/_fn/secret_switch">
            <input type="hidden" name="id" value=id.to_string() />
            <input type="hidden" name="path" value=format!("{me}:{}", slot.path) />
            <input type="hidden" name="on" value="true" />
            <button class="btn btn-primary">
                <Icon name="off" />
                "Switch on"
                {whose(slot)}
            </button>
        </form>
    })
}

/// The value goes in, and never comes out again.
fn give(page: &ConnectPage, slot: &Slot, flash: &Flash) -> impl IntoView + use<> {
    let is_first = slot.secret_id.is_none();
    let class = match is_first {
        true => "btn btn-primary",
        false => "btn",
    };
    view! {
        <form method="post" action="/_fn/connection_put" class="flex flex-col gap-3">
            {hidden(page, slot)}
            {terms(page)}
            <ValueField
                id=value_id(&slot.env)
                label=if is_first { "Value" } else { "New value" }
                error=flash.error("value")
            />
            <div>
                <button class=class>
                    <Icon name="lock" />
                    {if is_first { "Connect" } else { "Replace" }}
                    {whose(slot)}
                </button>
            </div>
        </form>
    }
}

fn clear(page: &ConnectPage, slot: &Slot, flash: &Flash) -> Option<impl IntoView + use<>> {
    let error = flash.error("typed");
    let is_open = error.is_some();
    let env = slot.env.to_string();
    slot.secret_id.map(|_| {
        view! {
            <details open=is_open class="rounded-box border border-base-300">
                <summary class="cursor-pointer px-3 py-2 font-medium text-error">
                    "Clear" {whose(slot)}
                </summary>
                <form method="post" action="/_fn/connection_clear" class="flex flex-col gap-3 border-t border-base-300 p-3">
                    <p>
                        {format!(
                            "Deletes your value of {env} for good, with all its versions, for whatever else uses it too. Your calls to {} then wait until you connect one again.",
                            page.name,
                        )}
                    </p>
                    {hidden(page, slot)}
                    <TextField
                        name="typed"
                        id=format!("clear-{env}")
                        label=format!("Type {env} to go on")
                        code=true
                        required=true
                        error=error
                    />
                    <div>
                        <button class="btn btn-error">
                            <Icon name="trash" />
                            "Clear"
                            {whose(slot)}
                        </button>
                    </div>
                </form>
            </details>
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::deployments::DeploymentState;
    use crate::model::paths::SecretPath;
    use crate::model::sources::Source;
    use crate::model::targets::Target;

    fn shown(state: SlotState) -> String {
        let of = Slot {
            env: EnvName::parse("SHOP_KEY").unwrap(),
            description: "<b>The key</b>".into(),
            path: SecretPath::parse("service/shop/SHOP_KEY").unwrap(),
            state,
            secret_id: (state != SlotState::Missing).then(uuid::Uuid::nil),
            expires_at: None,
        };
        let page = ConnectPage {
            id: uuid::Uuid::nil(),
            terms: 7,
            name: DeploymentName::parse("shop").unwrap(),
            owner: "ada".into(),
            source: Source::parse("npm:shop@1.0.0").unwrap(),
            target: Target::Local,
            command: "server.mjs".into(),
            network: true,
            state: DeploymentState::Running,
            slots: vec![of.clone()],
            changes: Vec::new(),
            refused_at: None,
        };
        slot(&page, &of, "bob", &|_| Flash::default()).to_html()
    }

    #[test]
    fn each_state_has_a_word_and_what_mends_it() {
        let all = [
            (SlotState::Missing, "Missing", "Connect<"),
            (
                SlotState::Kept,
                "Kept, not connected",
                "Connect what is kept",
            ),
            (SlotState::Changed, "Changed since", "Connect what is kept"),
            (SlotState::Connected, "Connected", "Replace<"),
            (SlotState::Expiring, "Expires soon", "Replace<"),
            (SlotState::Refused, "Refused", "Replace<"),
            (SlotState::Expired, "Expired", "Replace<"),
            (SlotState::Off, "Switched off", "Switch on"),
        ];
        for (state, word, button) in all {
            let html = shown(state);
            assert!(html.contains(&format!(">{word}</span>")), "{html}");
            assert!(html.contains(button), "{button}: {html}");
            // Both forms say what was seen; a description is text.
            assert!(html.contains("name=\"terms\" value=\"7\""), "{html}");
            assert!(!html.contains("<b>"), "{html}");
            let has_value = state != SlotState::Missing;
            assert_eq!(html.contains("/_fn/connection_clear"), has_value);
            let link = "href=\"/secrets/bob/service/shop/SHOP_KEY\"";
            assert_eq!(html.contains(link), has_value, "{html}");
            let is_kept = matches!(
                state,
                SlotState::Kept | SlotState::Changed | SlotState::Refused
            );
            assert_eq!(html.contains("name=\"kept\""), is_kept);
        }
    }
}
