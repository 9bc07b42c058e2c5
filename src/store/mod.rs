//! PostgreSQL and keys: the only room that runs SQL or touches key bytes. It knows no HTTP.

pub mod data_dir;
pub mod embedded;

pub mod db;
pub mod error;
mod key_source;
mod keyring;
pub mod keys;
mod roles;

pub mod audit;
mod secret_pages;
mod secret_values;
pub mod secrets;

mod grant_pages;
pub mod grants;
mod holders;
pub mod teams;

mod limits;
mod passwords;
pub mod sessions;
pub mod sign_in;
pub mod users;

pub mod drafts;

pub mod bindings;
pub mod deployment_pages;
pub mod deployments;
pub mod holds;
pub mod logs;
pub mod releases;

pub mod tokens;

pub mod retention;

pub use db::{DatabaseConfig, Db, KeySource, Mode, new_key};
pub use error::{Error, Result};
