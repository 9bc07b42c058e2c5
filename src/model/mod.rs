//! The words of the product as types. No I/O; also compiled for the browser, so nothing here can hold a value.

pub mod levels;
pub mod paths;

pub mod actors;
pub mod due;
pub mod imports;
pub mod moves;
pub mod secrets;
pub mod tree;

pub mod calls;
pub mod connections;
pub mod deployments;
pub mod drafts;
pub mod limits;
pub mod plans;
pub mod refusals;
pub mod renewals;
pub mod sources;
pub mod targets;

pub mod grants;
pub mod teams;

pub mod audit;
pub mod findings;
pub mod tokens;
pub mod users;

pub mod errors;
