//! The providers' APIs as typed functions over one HTTP client. They know no store, no deployment and no target: what they
//! are given is what they send, and nothing here keeps or logs a key, a value or a body.

pub mod http;
pub mod railway;
pub mod render;

mod trouble;
mod waits;

pub use trouble::{Says, Trouble};
