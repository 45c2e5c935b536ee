//! The machines as the administrators' API tells of them.

use std::sync::Arc;

use larder_admin::{Counts, Machines, Refusal};
use larder_provision::{Error, Mac, ansible};
use serde_json::Value;

use super::boot::Journeys;

/// What the boot and the provisioning part know.
#[derive(Debug)]
pub(super) struct Known(pub(super) Arc<Journeys>);

impl Machines for Known {
    fn list(&self) -> Option<Value> {
        if !self.0.is_any() {
            return None;
        }
        if let Some(provision) = self.0.provisioning() {
            // What cannot be read is told from memory.
            let _unread = provision.machines().catch_up();
        }
        serde_json::to_value(self.0.list()).ok()
    }

    fn inventory(&self) -> Option<String> {
        let provision = self.0.provisioning()?;
        let _unread = provision.machines().catch_up();
        let machines = provision.machines().all();
        Some(ansible(&provision.library().catalog(), &machines))
    }

    fn reinstall(&self, mac: &str) -> Result<String, Refusal> {
        let provision = self.0.provisioning();
        let provision = provision.ok_or_else(|| {
            Refusal::Unknown("no machines are provisioned here: [provision] is off".to_owned())
        })?;
        let parsed = Mac::parse(mac);
        let mac =
            parsed.ok_or_else(|| Refusal::Senseless(Error::NotAMac(mac.to_owned()).to_string()))?;
        match provision.machines().reinstall(&mac) {
            Ok(()) => Ok(mac.to_string()),
            Err(error @ Error::UnknownMachine(_)) => Err(Refusal::Unknown(error.to_string())),
            Err(error) => Err(Refusal::Failed(error.with_cause())),
        }
    }

    fn counts(&self) -> Option<[Counts; 2]> {
        let [replies, _silences, transfers] = self.0.counts()?;
        let owned = |counts: larder_boot::serve::core::Counts| {
            let counts = counts.into_iter();
            counts
                .map(|(kind, count)| (kind.to_string(), count))
                .collect()
        };
        Some([owned(replies), owned(transfers)])
    }
}
