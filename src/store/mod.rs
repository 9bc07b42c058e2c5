//! PostgreSQL and keys: the only room that runs SQL or touches key bytes. It knows no HTTP.

pub mod data_dir;
pub mod embedded;

pub mod db;
pub mod error;
mod key_source;
mod keyring;
pub mod keys;
mod roles;

pub mod activity;
pub mod audit;
pub mod chain;
pub mod chain_check;
mod chain_file;
mod chain_keys;
mod sealer;

mod secret_pages;
mod secret_values;
pub mod secrets;

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

pub use db::{DatabaseConfig, Db, KeySource, Mode, OwnerLogin, new_key};
pub use error::{Error, Result};
