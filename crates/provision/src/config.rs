//! What the operator decides about provisioning; filled in by the program, never read from here.

use std::{path::PathBuf, str::FromStr};

/// Which matchbox the HTTP endpoints imitate where two releases differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// 0.7.1: `/boot.ipxe` without `arch`, `;` separates query pairs.
    V0_7,
    /// 0.11.0.
    #[default]
    V0_11,
}

impl FromStr for Compat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "0.7" => Ok(Self::V0_7),
            "0.11" => Ok(Self::V0_11),
            other => Err(format!("compat {other:?} is neither \"0.7\" nor \"0.11\"")),
        }
    }
}

/// How the URLs of kernels and initrds are turned towards the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Off: scripts carry the profile's URLs as they are.
    pub enabled: bool,
    /// Where `/http/HOST/PATH` is answered, such as `http://10.0.0.2:3128`. Empty: on the
    /// provisioning listener itself, by a URL without a host, which iPXE resolves against the
    /// script's own.
    pub base: String,
    /// With an empty base: the port on which larder's forward listener answers `/http/HOST/PATH`,
    /// on the host by whose name the machine asked for its script.
    pub port: Option<u16>,
    /// Hosts that an accelerator listener serves: `(host, accelerator's URL without a final /)`.
    pub accelerators: Vec<(String, String)>,
}

/// Server key, server certificate and the authority of client certificates, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// Whoever holds a certificate of this authority may change everything.
    pub authority: PathBuf,
}

/// The provisioning server's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The matchbox data directory: `groups/ profiles/ ignition/ generic/ cloud/ script/`.
    pub data: PathBuf,
    /// What `/assets/` serves; `None` turns it off.
    pub assets: Option<PathBuf>,
    /// The file that remembers which machines are installed; `None`: `.larder/machines` in `data`.
    pub state: Option<PathBuf>,
    /// Imitated release.
    pub compat: Compat,
    /// Adds `initrd=NAME` to the kernel's arguments in `/ipxe`, which UEFI kernels need. Off gives
    /// matchbox's bytes.
    pub initrd_args: bool,
    /// Machines install once unless their group says otherwise.
    pub install_once: bool,
    /// Kernels and initrds through the cache.
    pub rewrite: Rewrite,
    /// OpenPGP secret key that signs `.sig` and `.asc`.
    pub key_ring: Option<PathBuf>,
    /// Its passphrase.
    pub passphrase: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("/var/lib/matchbox"),
            assets: Some(PathBuf::from("/var/lib/matchbox/assets")),
            state: None,
            compat: Compat::default(),
            initrd_args: false,
            install_once: false,
            rewrite: Rewrite::default(),
            key_ring: None,
            passphrase: None,
        }
    }
}
