//! `larder machines rm`: machines that are no more are forgotten.
//!
//! It writes to the file that remembers machines, under its lock; a server that runs reads of it there. A
//! machine that comes back is new: with `install-once` it installs. Therefore age alone forgets neither a
//! machine that a group names nor one that the running larder heard of since.

use std::time::{Duration, SystemTime};

use larder_provision::{Library, Mac, Machines};

use super::provision::failed;
use crate::config::units;
use crate::output::Failure;
use crate::serve::boot::Journey;

/// The words of `machines rm`.
#[derive(clap::Args, Debug)]
pub(super) struct Words {
    /// Its hardware address
    #[arg(required_unless_present = "older")]
    mac: Option<String>,
    /// All that no group names and that nothing was heard of for so long: 90d, 12h
    #[arg(long, value_name = "AGE", conflicts_with = "mac", value_parser = units::duration)]
    older: Option<Duration>,
}

/// Forgets what is meant; `heard` is what a running larder tells of its machines.
///
/// # Errors
/// No address, a machine that is not known, a file that cannot be written.
pub(super) fn run(
    words: &Words,
    heard: &[Journey],
    (library, machines): &(Library, Machines),
) -> Result<Vec<String>, Failure> {
    let gone = match (&words.mac, words.older) {
        (Some(mac), _) => vec![super::machines::address(mac)?],
        (None, Some(age)) => older(age, heard, library, machines),
        (None, None) => Vec::new(),
    };
    for mac in &gone {
        machines.forget(mac).map_err(failed)?;
    }
    Ok(gone.iter().map(Mac::to_string).collect())
}

/// The machines of which nothing was heard for so long and that no group names.
fn older(age: Duration, heard: &[Journey], library: &Library, machines: &Machines) -> Vec<Mac> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = now.unwrap_or_default().saturating_sub(age).as_secs();
    let catalog = library.catalog();
    let is_named = |mac: &Mac| {
        catalog
            .groups()
            .iter()
            .any(|group| group.machine().as_ref() == Some(mac))
    };
    let last_heard = |mac: &Mac| {
        let mac = mac.to_string();
        let journey = heard.iter().find(|journey| journey.mac == mac);
        journey
            .and_then(|journey| journey.events.last())
            .map_or(0, |event| event.at)
    };
    let all = machines.all().into_iter();
    let old =
        all.filter(|(mac, machine)| machine.since.max(last_heard(mac)) < since && !is_named(mac));
    old.map(|(mac, _)| mac).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::boot::Event;

    #[test]
    fn age_forgets_neither_who_is_named_nor_who_was_heard_of() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let mac = |last: u8| format!("52:54:00:00:00:{last:02x}");
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let old = now - 100 * 86_400;
        let line = |last, since: u64| {
            format!(
                "{{\"mac\":\"{}\",\"state\":\"installed\",\"since\":{since},\"address\":null}}\n",
                mac(last)
            )
        };
        let text: String = [line(1, old), line(2, old), line(3, old), line(4, now)].concat();
        std::fs::write(root.join("journal"), text).unwrap();
        let library = Library::open(root).unwrap();
        let group = format!(
            r#"{{"id":"g","profile":"p","selector":{{"mac":"{}"}}}}"#,
            mac(1)
        );
        library
            .put_group(&serde_json::from_str(&group).unwrap())
            .unwrap();
        let heard = Journey {
            mac: mac(2),
            events: vec![Event {
                at: now,
                step: "local".into(),
                detail: String::new(),
                count: 1,
            }],
            ..Journey::default()
        };
        let shelves = (library, Machines::open(root.join("journal")).unwrap());
        let words = |mac, older| Words { mac, older };
        let age = Some(Duration::from_hours(90 * 24));
        assert_eq!(
            run(&words(None, age), &[heard], &shelves).unwrap(),
            [mac(3)]
        );
        assert_eq!(shelves.1.all().len(), 3);
        assert_eq!(
            run(&words(Some(mac(1)), None), &[], &shelves).unwrap(),
            [mac(1)]
        );
        assert!(
            run(&words(Some(mac(1)), None), &[], &shelves).is_err(),
            "not known any more"
        );
    }
}
