//! Whether a value is the stored one.

use leptos::prelude::*;
use uuid::Uuid;

use super::super::frame::Folding;
use super::super::value_field::ValueField;
use super::super::wire::{Flash, Typed};
use super::FormOf;
use crate::model::errors::Refusal;

#[server(prefix = "/_fn", endpoint = "secret_compare")]
pub async fn secret_compare(
    id: Uuid,
    #[server(default)] path: String,
    #[server(default)] value: Typed,
) -> Result<(), Refusal> {
    use super::super::wire::{Flash, caller, go};
    use super::{again, own};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let compared = async {
        if value.is_empty() {
            return Err(Refusal::invalid("value", "Type or paste what it should be.").into());
        }
        db.secret_compare(&caller, id, value.into_value()).await
    };
    let mut flash = Flash::default();
    match compared.await {
        Ok(true) => {
            let same = "The same: what you typed is the newest version, to the last character.";
            flash.notice = Some(same.to_owned());
        }
        Ok(false) => {
            let other = "Different: what you typed is not the newest version.";
            flash.notes.push(other.to_owned());
        }
        Err(error) => return again(&caller, &path, "compare", error.into_refusal(), &[]).await,
    }
    go(&own(&caller, &path), flash).await
}

#[component]
pub fn Compare(
    form: FormOf,
    flash: Flash,
    unusable: Option<&'static str>,
    open: bool,
) -> impl IntoView {
    if let Some(why) = unusable {
        return view! {
            <Folding id="compare" icon="equal" title="Compare with what you have" open>
                <p>{format!("A secret that is {why} is opened for nobody, not even to compare.")}</p>
            </Folding>
        }
        .into_any();
    }
    view! {
        <Folding id="compare" icon="equal" title="Compare with what you have" open>
            <p class="text-dim">
                "Says whether a value is the stored one, without showing it. Each comparison is on record; 20 an hour are answered."
            </p>
            <form method="post" action="/_fn/secret_compare" class="flex flex-col gap-4">
                {form.hidden()}
                <ValueField
                    id="compare-value"
                    label="Value to compare"
                    error=flash.error("value")
                    hint="It is compared on the server and kept nowhere."
                />
                <div>
                    <button class="btn btn-primary">"Compare"</button>
                </div>
            </form>
        </Folding>
    }
    .into_any()
}
