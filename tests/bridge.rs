//! `sealport bridge` as a provider runs it: the real program in front of real servers, called by real clients; and what becomes of
//! all its processes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "fixtures/clients/mod.rs"]
mod clients;

#[path = "bridge/bridged.rs"]
mod bridged;

#[path = "bridge/calls.rs"]
mod calls;
#[path = "bridge/ends.rs"]
mod ends;
#[path = "bridge/refusals.rs"]
mod refusals;
