//! PostgreSQL and keys: the only room that runs SQL or touches key bytes. It knows no HTTP.

pub mod data_dir;
pub mod embedded;

pub mod db;
pub mod error;
mod key_source;
pub mod key_status;
mod keyring;
pub mod keys;
mod leases;
pub mod master_keys;
pub mod recovery;
mod roles;
pub mod rotation;
pub mod servers;
mod steps;
mod wrapped_keys;

pub mod activity;
pub mod audit;
pub mod chain;
pub mod chain_check;
mod chain_file;
mod chain_keys;
mod sealer;

mod secret_checks;
mod secret_pages;
pub mod secret_put;
mod secret_tree;
mod secret_values;
mod secret_versions;
pub mod secrets;

pub mod due;
pub mod env_files;
mod grant_pages;
pub mod grants;
mod holders;
pub mod imports;
pub mod moves;
mod renames;
pub mod settings;
pub mod teams;

mod browsers;
mod limits;
mod passwords;
pub mod sessions;
pub mod sign_in;
pub mod users;

pub mod administrators;
pub mod confirmations;
pub mod endings;
pub mod links;

pub mod drafts;

pub mod bindings;
pub mod calls;
mod connection_pages;
pub mod connection_use;
pub mod connections;
pub mod deployment_changes;
pub mod deployment_checks;
pub mod deployment_pages;
pub mod deployments;
pub mod drift;
pub mod holds;
pub mod logs;
mod outside_keys;
pub mod placements;
mod release_code;
pub mod releases;
mod renewals;

pub mod api_tokens;
pub mod gateway;
mod queues;
pub mod secret_read;
pub mod tokens;

pub mod retention;

pub mod backup;
mod damage;
pub mod doctor;
mod key_backup;
pub mod unfinished;

pub use damage::Damage;
pub use db::{DatabaseConfig, Db, KeySource, Mode, OwnerLogin, new_key};
pub use error::{Error, Result};
