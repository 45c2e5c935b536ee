//! What holds for the tree and for the program as a whole, one module per story.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod broken_configurations;
mod deploy;
mod documents;
mod tidy;
