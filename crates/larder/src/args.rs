//! The command line.
//!
//! A subcommand is one arm of [`Command`]; its own words are the `Args` of its file in
//! [`crate::commands`]. `--config` and `--squid-conf` are understood by every command, before or
//! after its name.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;

const EXAMPLES: &str = "\
Examples:
  larder serve                                      a forward proxy on port 3128, no configuration
  larder serve --squid-conf /etc/squid/squid.conf   Squid's configuration
  larder serve --accelerate :80=http://ftp.example.org/
                                                    a stand-in for one mirror beside the proxy
  larder check --config /etc/larder/larder.toml     what is wrong with a configuration
  larder explain http://ftp.example.org/pub/a.rpm   what larder would do with a URL

Exit codes: 0 good, 1 failed, 2 usage or configuration.";

/// Gives a network its packages once: a caching proxy for package mirrors, and the network-boot
/// server beside it.
#[derive(Debug, Parser)]
#[command(name = "larder", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// Which configuration is meant.
    #[command(flatten)]
    pub source: Source,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which configuration is meant.
#[derive(Args, Clone, Debug, Default)]
pub struct Source {
    /// A larder.toml [default: $LARDER_CONFIG, else /etc/larder/larder.toml where it is there]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "squid_conf"
    )]
    pub config: Option<PathBuf>,
    /// A squid.conf
    #[arg(long, global = true, value_name = "FILE")]
    pub squid_conf: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot machines over the network
    Boot(commands::boot::Args),
    /// Run the proxy
    Serve(commands::serve::Args),
    /// See and change what the cache holds
    Cache(commands::cache::Args),
    /// Say what is wrong with a configuration, or worth knowing about it
    Check(commands::check::Args),
    /// Say what larder would do with a URL, and what it holds of it
    Explain(commands::explain::Args),
    /// Provision machines: a matchbox data directory over HTTP and gRPC
    Provision(commands::provision::Args),
    /// Run as matchbox, with its flags and environment
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Matchbox(commands::matchbox::Args),
    /// List the machines that are known, or let one install again
    Machines(commands::machines::Args),
    /// Turn another program's configuration into a larder.toml
    Convert(commands::convert::Args),
    /// Say how a running larder is
    Status(commands::status::Args),
    /// Let a running larder read its configuration again
    Reload(commands::reload::Args),
    /// Print a shell's completion script
    Completions(commands::completions::Args),
    /// Print the manual page
    Man,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_may_be_named_before_and_after_the_command() {
        for words in [
            ["larder", "--config", "f", "check"],
            ["larder", "check", "--config", "f"],
        ] {
            let cli = Cli::try_parse_from(words).unwrap();
            assert_eq!(cli.source.config, Some(PathBuf::from("f")));
        }
    }

    #[test]
    fn two_configurations_at_once_are_refused() {
        let words = ["larder", "check", "--config", "f", "--squid-conf", "g"];
        assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2);
    }
}
