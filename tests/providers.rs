//! The adapters of the providers' APIs against fakes that keep state and fail on demand, and against the providers' own
//! schemas where those are at hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "common/providers/mod.rs"]
mod fakes;
#[path = "common/left_out.rs"]
mod left_out;

#[path = "providers/http.rs"]
mod http_client;
#[path = "providers/railway.rs"]
mod railway;
#[path = "providers/render.rs"]
mod render;
#[path = "providers/render_contract.rs"]
mod render_contract;
