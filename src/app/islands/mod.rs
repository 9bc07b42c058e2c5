//! What moves: the only parts of the dashboard that the browser runs. They take no properties (those would bring a
//! JSON parser along) and find what they act on in the page around them; the page works without them.

pub mod copy;
pub mod follow;
pub mod keys;
pub mod value_tools;
