//! The store as the proxy uses it: every story from the outside, on a real directory.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod audit;
mod away;
mod collapse;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod faults;
mod fill;
#[cfg(test)]
mod full_disk;
mod look;
mod overtaken;
mod partial;
mod restart;
mod room;
#[cfg(test)]
mod support;
