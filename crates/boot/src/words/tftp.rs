//! The words about TFTP.

use super::rules::{TftpWords, UniqueRoot};
use super::text::{fields, shown};
use super::value;

/// Takes a word.
pub(super) fn take(tftp: &mut TftpWords, name: &str, value: Option<&str>) -> Result<(), String> {
    if name == "tftp-unique-root" {
        return unique_root(tftp, value);
    }
    let value = value.unwrap_or_default();
    let number = || {
        let number = value::decimal(value).and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| format!("{:?} is no number", shown(value)))
    };
    match name {
        "enable-tftp" => {
            tftp.is_enabled = true;
            let names = fields(value).into_iter().map(shown);
            tftp.interfaces
                .extend(names.filter(|name| !name.is_empty()));
        }
        "tftp-no-fail" => tftp.may_root_be_missing = true,
        "tftp-root" => match fields(value).as_slice() {
            [root, name, ..] => tftp.roots_by_link.push((shown(name), shown(root).into())),
            [root] => tftp.root = Some(shown(root).into()),
            [] => {}
        },
        "tftp-lowercase" => tftp.is_lowercase = true,
        "tftp-no-blocksize" => tftp.has_no_blocksize = true,
        "tftp-single-port" => tftp.is_single_port = true,
        "tftp-secure" => tftp.is_secure = true,
        // To dnsmasq, 0 is no bound.
        "tftp-mtu" => {
            tftp.mtu = Some(number()?.try_into().unwrap_or(u16::MAX)).filter(|mtu| *mtu > 0);
        }
        "tftp-max" => tftp.transfers_max = usize::try_from(number()?).ok(),
        "tftp-port-range" => {
            let (first, last) = value.split_once(',').ok_or("needs two ports")?;
            let port = |text: &str| {
                let number = value::decimal(text.trim()).map(u16::try_from);
                let port = number.and_then(Result::ok);
                port.ok_or_else(|| format!("{:?} is no port", shown(text)))
            };
            let (first, last): (u16, u16) = (port(first)?, port(last)?);
            tftp.port_range = Some((first.min(last), first.max(last)));
        }
        _ => {}
    }
    Ok(())
}

/// Whether a client has a folder of its own, and by which name.
fn unique_root(tftp: &mut TftpWords, value: Option<&str>) -> Result<(), String> {
    let kind = value.map(|value| shown(value).to_ascii_lowercase());
    tftp.unique_root = Some(match kind.as_deref() {
        None | Some("ip") => UniqueRoot::Address,
        Some("mac") => UniqueRoot::Hardware,
        Some(other) => return Err(format!("{:?} is neither ip nor mac", shown(other))),
    });
    Ok(())
}
