//! The proxy's stories, one module each, over real sockets with a scripted origin.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod bounded;
mod broken;
mod collapse;
mod directives;
mod endless;
mod goes_on;
mod hit;
mod hostile;
mod line_ends;
mod loops;
mod mirror;
mod mirrors_tags;
mod mixes;
mod odd_parts;
mod once;
mod parts;
mod parts_refused;
mod parts_strict;
mod patience;
mod requests;
mod revalidate;
mod sharing;
mod silence;
mod sites;
mod strict;
mod support;
mod tunnel;
mod unchecked;
mod uploads;
mod wire;
