//! The configuration: found, read, and turned into [`Settings`].
//!
//! Two front-ends, larder.toml ([`toml`]) and squid.conf ([`squid`]), fill the same [`Settings`]; the rest of
//! the program does not know which it was. Reading collects every [`Problem`] before it gives up,
//! and has no effect beside reading files, so that a reload with a bad file changes nothing.

pub mod problem;
pub mod settings;
pub mod sources;
pub mod squid;
mod surroundings;
pub mod toml;
pub mod tree;
pub mod units;
pub mod values;

pub use problem::{Place, Problem, Problems, Severity, Source};
pub use settings::Settings;
pub use sources::{Loaded, Origin, Sources};
pub use toml::{clash, parse_address, store_id_file};
