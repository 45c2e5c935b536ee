//! `larder convert`: another program's configuration as a larder.toml.
//!
//! What has no counterpart is listed on standard error, with why it is not needed or how to keep it;
//! the configuration alone goes to standard output, or into a file that is not there yet.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use larder_boot::words;

use super::boot::read_files;
use crate::output::{self, Failure};

const EXAMPLES: &str = "\
Examples:
  larder convert /etc/dnsmasq.d/pxe.conf --from dnsmasq
  larder convert dnsmasq.conf --from dnsmasq --output larder.toml

Exit codes: 0 good, 1 failed, 2 usage or a configuration that is not good.";

/// The words of `larder convert`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose it is
    #[arg(long, value_enum)]
    from: From,
    /// Write this file, which must not exist yet
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Programs whose configurations are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// dnsmasq's file, as far as it boots machines
    Dnsmasq,
}

/// Converts the file.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let From::Dnsmasq = args.from;
    let converted = dnsmasq(&args.file)?;
    for left in &converted.left {
        output::notice(&format!("left out: {left}\n"));
    }
    let Some(path) = &args.output else {
        return output::text(&converted.toml);
    };
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    created
        .and_then(|mut file| file.write_all(converted.toml.as_bytes()))
        .map_err(|error| Failure::step(format!("cannot write {}", path.display()), error))?;
    Ok(ExitCode::SUCCESS)
}

fn dnsmasq(file: &Path) -> Result<words::convert::Converted, Failure> {
    let content = std::fs::read(file)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?;
    let content = String::from_utf8_lossy(&content);
    let rules = words::read::file(&file.display().to_string(), &content, &read_files);
    let rules = rules.map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(words::convert::to_toml(&rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;
    use crate::config::Sources;
    use crate::environment::Environment;

    #[test]
    fn what_comes_out_is_a_good_configuration_and_no_file_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pxe.conf");
        let root = folder.path().display();
        let lines = format!(
            "port=0\ndhcp-range=10.0.0.0,proxy\nenable-tftp\ntftp-root={root}\n\
             tftp-single-port\npxe-service=x86PC, \"Boot\", undionly.kpxe\n\
             dhcp-boot=tag:ipxe,http://10.0.0.1:8080/boot.ipxe\n"
        );
        std::fs::write(&file, lines).unwrap();
        let output = folder.path().join("larder.toml");
        let args = Args {
            file: file.clone(),
            from: From::Dnsmasq,
            output: Some(output.clone()),
        };
        run(&args).unwrap();
        let source = args::Source {
            config: Some(output),
            squid_conf: None,
        };
        let environment = Environment::of_pairs([("", ""); 0]);
        let loaded = Sources::new(&source, &environment).load().unwrap();
        assert!(loaded.settings.boot.enabled);
        let next = loaded.settings.boot.next.as_deref();
        assert_eq!(next, Some("http://10.0.0.1:8080/boot.ipxe"));
        let left = dnsmasq(&file).unwrap().left;
        assert!(
            left.iter().any(|line| line.contains("tftp-single-port")),
            "{left:?}"
        );
        assert!(run(&args).is_err(), "it exists now");
    }

    #[test]
    fn a_file_that_dnsmasq_would_refuse_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pxe.conf");
        std::fs::write(&file, "no-such-word=1\n").unwrap();
        assert!(matches!(dnsmasq(&file), Err(Failure::Usage(_))));
        assert!(matches!(
            dnsmasq(&folder.path().join("none")),
            Err(Failure::Usage(_))
        ));
    }
}
