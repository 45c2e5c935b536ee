//! What the operator said, and how the parts are put together from it: command line, configuration
//! and wiring of the program `larder`.
//!
//! This is the only crate that reads configuration files and the environment, and the only one that
//! prints. In reading order: the command line ([`args`]), what surrounds the process
//! ([`environment`]), the configuration ([`config`]), the commands ([`commands`]), the running
//! program ([`serve`]), and what is printed ([`output`]).

pub mod args;
pub mod commands;
pub mod config;
pub mod environment;
pub mod output;
pub mod serve;
