//! Between the wire's messages and the files' shapes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tonic::{Code, Status};

use super::wire::storagepb;
use crate::{
    error::Error,
    model::{Boot, Group, Profile},
    reason::Reason,
};

pub(super) fn group_to_wire(group: &Group) -> storagepb::Group {
    let metadata = group.metadata.as_ref().map(|metadata| {
        serde_json::to_vec(metadata).expect("maps with string keys always serialise")
    });
    storagepb::Group {
        id: group.id.clone(),
        name: group.name.clone(),
        profile: group.profile.clone(),
        selector: group.selector.clone().into_iter().collect(),
        metadata: metadata.unwrap_or_default(),
    }
}

pub(super) fn group_from_wire(group: storagepb::Group) -> Result<Group, Status> {
    let metadata: Option<Map<String, Value>> = match group.metadata.as_slice() {
        [] => None,
        text => serde_json::from_slice(text).map_err(|error| {
            Status::new(
                Code::Unknown,
                format!("metadata is no JSON object: {error}"),
            )
        })?,
    };
    Ok(Group {
        id: group.id,
        name: group.name,
        profile: group.profile,
        selector: group.selector.into_iter().collect::<BTreeMap<_, _>>(),
        metadata,
    })
}

/// `boot` is always there: terraform's provider reads through it without looking.
pub(super) fn profile_to_wire(profile: &Profile) -> storagepb::Profile {
    let boot = profile.boot.clone().unwrap_or_default();
    storagepb::Profile {
        id: profile.id.clone(),
        name: profile.name.clone(),
        ignition_id: profile.ignition_id.clone(),
        cloud_id: profile.cloud_id.clone(),
        boot: Some(storagepb::NetBoot {
            kernel: boot.kernel,
            initrd: boot.initrd,
            args: boot.args,
        }),
        generic_id: profile.generic_id.clone(),
    }
}

pub(super) fn profile_from_wire(profile: storagepb::Profile) -> Profile {
    Profile {
        id: profile.id,
        name: profile.name,
        ignition_id: profile.ignition_id,
        cloud_id: profile.cloud_id,
        boot: profile.boot.map(|boot| Boot {
            kernel: boot.kernel,
            initrd: boot.initrd,
            args: boot.args,
            old_cmdline: false,
        }),
        generic_id: profile.generic_id,
        install_once: None,
    }
}

impl From<Reason> for Status {
    fn from(reason: Reason) -> Self {
        Self::internal(reason.to_string())
    }
}

/// What a failure of the library is to a client.
pub(super) fn status(error: &Error) -> Status {
    let code = match error {
        Error::Name { .. } => Code::InvalidArgument,
        Error::PutTooLarge { .. } => Code::OutOfRange,
        _ => Code::Unknown,
    };
    Status::new(code, error.with_cause())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_status_says_why_a_file_was_not_written() {
        let why = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let status = status(&Error::Write("profiles/x.json".into(), why));
        assert_eq!(status.code(), Code::Unknown);
        assert!(status.message().contains("No space left"), "{status:?}");
        let why = io::Error::from(rustix::io::Errno::NOENT);
        let missing = Error::Open {
            path: "profiles/x.json".into(),
            source: why,
        };
        let text = super::status(&missing).message().to_owned();
        assert_eq!(text, "open profiles/x.json: no such file or directory");
    }
}
