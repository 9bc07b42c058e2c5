//! Whose a secret is, how far one reaches on it, and who runs with it without a right to it.

use leptos::prelude::*;

use super::super::icons::Icon;
use crate::model::secrets::{BoundWithoutUse, SecretSummary};

/// Whose it is and how far one reaches on it, where it is another's; and who runs with it without a right to it.
#[component]
pub fn Standing(
    secret: SecretSummary,
    is_mine: bool,
    lost_by: Vec<BoundWithoutUse>,
) -> impl IntoView {
    view! {
        {(!is_mine)
            .then(|| {
                view! {
                    <p class="flex items-center gap-2 text-dim">
                        <Icon name="people" />
                        <span>
                            "It belongs to "
                            <a class="link font-mono" href=format!("/people/{}", secret.owner)>{secret.owner.clone()}</a>
                            ". You have " <strong>{secret.level.as_str()}</strong> ": " {secret.level.on_secret()} "."
                        </span>
                    </p>
                }
            })}
        {lost_by
            .into_iter()
            .map(|bound| {
                view! {
                    <p role="status" class="flex items-start gap-2 text-amber">
                        <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                        <span>
                            "The deployment " <span class="font-mono">{bound.deployment}</span> " of "
                            <span class="font-mono">{bound.owner}</span>
                            {if bound.runs {
                                " runs with a value that it was given, and has no right to it any more. Its next start stops it. Replace the value where it was issued if it must not be used."
                            } else {
                                " binds it and has no right to it any more: it does not start."
                            }}
                        </span>
                    </p>
                }
            })
            .collect_view()}
    }
}
