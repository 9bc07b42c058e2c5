//! The dashboard: one file a page, its server functions first, then its view. Outside a server function's
//! body nothing here names the store or the deploy room.

pub mod fields;
#[cfg(feature = "ssr")]
mod forms;
pub mod frame;
pub mod icons;
pub mod islands;
pub mod times;
pub mod wire;

pub mod confirm;
pub mod links;
pub mod sign_in;

pub mod secret;
pub mod secret_import;
pub mod secret_move;
pub mod secret_new;
pub mod secret_runs;
pub mod secrets;
pub mod value_field;

pub mod grants;
pub mod holders;
pub mod teams;

pub mod activity;
pub mod activity_parts;
pub mod agents;
pub mod clients;
pub mod people;
pub mod people_end;
pub mod people_links;
pub mod people_list;
pub mod provider;
pub mod sessions;
pub mod settings;
pub mod tokens;

pub mod calls;
pub mod connection;
pub mod deploy;
pub mod deployment;
pub mod deployments;
pub mod earlier_releases;
pub mod placements;
pub mod release_timeline;

#[cfg(feature = "ssr")]
pub mod once;

use leptos::prelude::*;
use leptos_meta::{MetaTags, Title, provide_meta_context};
use leptos_router::components::{Route, Router, Routes};
use leptos_router::{SsrMode, path};

/// The document around every page.
pub fn shell(options: LeptosOptions) -> impl IntoView {
    view! {
        <!DOCTYPE html>
        <html lang="en" data-theme=wire::preferences().theme>
            <head>
                <meta charset="utf-8" />
                <meta name="viewport" content="width=device-width, initial-scale=1" />
                <meta name="color-scheme" content="light dark" />
                <link rel="icon" href="/favicon.svg" type="image/svg+xml" />
                <HydrationScripts options=options.clone() islands=true />
                <leptos_meta::HashedStylesheet options=options id="style" />
                <MetaTags />
            </head>
            <body>
                <App />
            </body>
        </html>
    }
}

/// Every page renders whole on the server before it is sent, so that it reads the same without JavaScript.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    view! {
        <Title formatter=|page: String| {
            if page.is_empty() { "Sealport".to_owned() } else { format!("{page} · Sealport") }
        } />
        <Router>
            <Routes fallback=frame::NotFound>
                <Route path=path!("/") view=secrets::SecretsPage ssr=SsrMode::Async />
                <Route path=path!("/sign-in") view=sign_in::SignInPage ssr=SsrMode::Async />
                <Route path=path!("/welcome/:link") view=sign_in::WelcomePage ssr=SsrMode::Async />
                <Route path=path!("/invitation/:link") view=links::InvitationPage ssr=SsrMode::Async />
                <Route path=path!("/reset/:link") view=links::ResetPage ssr=SsrMode::Async />
                <Route path=path!("/confirm") view=confirm::ConfirmPage ssr=SsrMode::Async />
                <Route path=path!("/secrets") view=secrets::SecretsPage ssr=SsrMode::Async />
                <Route path=path!("/secrets/new") view=secret_new::SecretNewPage ssr=SsrMode::Async />
                <Route path=path!("/secrets/import") view=secret_import::SecretImportPage ssr=SsrMode::Async />
                <Route path=path!("/secrets/:handle/*path") view=secret::SecretPage ssr=SsrMode::Async />
                <Route path=path!("/move/secret/:id") view=secret_move::SecretMovePage ssr=SsrMode::Async />
                <Route path=path!("/activity") view=activity::ActivityPage ssr=SsrMode::Async />
                <Route path=path!("/tokens") view=tokens::TokensPage ssr=SsrMode::Async />
                <Route path=path!("/people") view=people::PeoplePage ssr=SsrMode::Async />
                <Route path=path!("/people/:handle/end") view=people_end::AccountEndPage ssr=SsrMode::Async />
                <Route path=path!("/people/:handle") view=holders::HolderPage ssr=SsrMode::Async />
                <Route path=path!("/teams/:handle") view=teams::TeamPage ssr=SsrMode::Async />
                <Route path=path!("/share/secret/:id") view=grants::SharePage ssr=SsrMode::Async />
                <Route path=path!("/share/folder/:handle/*prefix") view=grants::SharePage ssr=SsrMode::Async />
                <Route path=path!("/share/deployment/:name") view=grants::SharePage ssr=SsrMode::Async />
                <Route path=path!("/settings") view=settings::SettingsPage ssr=SsrMode::Async />
                <Route path=path!("/settings/render") view=provider::RenderPage ssr=SsrMode::Async />
                <Route path=path!("/settings/railway") view=provider::RailwayPage ssr=SsrMode::Async />
                <Route path=path!("/deployments") view=deployments::DeploymentsPage ssr=SsrMode::Async />
                <Route path=path!("/deployments/:name") view=deployment::DeploymentPage ssr=SsrMode::Async />
                <Route path=path!("/connect/:name") view=connection::ConnectionPage ssr=SsrMode::Async />
                <Route path=path!("/deploy") view=deploy::DraftsPage ssr=SsrMode::Async />
                <Route path=path!("/deploy/:id/source") view=deploy::source::SourcePage ssr=SsrMode::Async />
                <Route path=path!("/deploy/:id/secrets") view=deploy::secrets::SecretsStepPage ssr=SsrMode::Async />
                <Route path=path!("/deploy/:id/target") view=deploy::target::TargetPage ssr=SsrMode::Async />
                <Route path=path!("/deploy/:id/review") view=deploy::review::ReviewPage ssr=SsrMode::Async />
            </Routes>
        </Router>
    }
}
