//! What to do: every decision of the proxy, as pure functions and plain values.
//!
//! No I/O, no clock (`now` is always an argument) and no async: the same inputs give the same
//! decision, so that each rule can be tested as a table and a reload is the swap of one value.
//!
//! In reading order: what is asked for ([`url`], [`target`]), who may ask ([`access`]), where it
//! would be fetched ([`route`]), what kind of file it is ([`class`]), under which name it is kept
//! ([`store_id`], [`key`]), what is kept of a response ([`meta`]), how long that stays fresh
//! ([`refresh`], [`freshness`]), how it is validated and sliced ([`validator`], [`range`]), and
//! what follows from all that ([`verdict`]).

pub mod access;
pub mod cache_control;
pub mod class;
pub mod framing;
pub mod freshness;
pub mod headers;
pub mod key;
pub mod lines;
pub mod meta;
pub mod part;
pub mod policy;
pub mod range;
pub mod reason;
pub mod refresh;
pub mod route;
pub mod store_id;
pub mod target;
pub mod url;
pub mod validator;
pub mod verdict;
