//! What holds for the tree and for the program as a whole, one module per story.

mod broken_configurations;
mod deploy;
mod documents;
mod tidy;
