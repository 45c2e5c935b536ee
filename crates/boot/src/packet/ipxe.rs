//! What an iPXE client says of itself: its user class and the features in option 175.
//!
//! iPXE names itself in option 77, raw or length-prefixed (RFC 3004). Vendors' old builds and gPXE do the
//! same and yet can do neither HTTP nor Linux kernels; the features tell them apart.

use super::options::{code, find, walk};

/// What option 175 says that a build of iPXE can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Fetches by HTTP (0x13).
    pub http: bool,
    /// Starts Linux kernels on BIOS (0x18).
    pub bzimage: bool,
}

impl Features {
    /// Reads the value of option 175; what is not a three-byte feature is skipped.
    pub fn read(option: &[u8]) -> Self {
        let has = |code| find(option, code, 1).is_some_and(|value| value.first() != Some(&0));
        Self {
            http: has(0x13),
            bzimage: has(0x18),
        }
    }

    /// Tells whether this build can be handed a script's URL: it must fetch by HTTP and, on BIOS, start
    /// kernels (UEFI builds start them as UEFI programs and do not claim to).
    pub fn suffice(self, is_uefi: bool) -> bool {
        self.http && (self.bzimage || is_uefi)
    }
}

/// Tells whether a server's option 175 asks iPXE not to wait for proxy offers (`no-pxedhcp`, 0xb0).
pub fn is_no_pxedhcp(option: &[u8]) -> bool {
    walk(option).any(|(code, value)| code == 0xb0 && value.iter().any(|byte| *byte != 0))
}

/// Tells whether option 77 names iPXE, in either spelling.
pub fn is_ipxe_user_class(option: &[u8]) -> bool {
    option == b"iPXE"
        || walk_classes(option).is_some_and(|mut classes| classes.any(|c| c == b"iPXE"))
}

/// The counted strings of an RFC 3004 user class, if the counts add up to the option's length.
fn walk_classes(option: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let mut classes = Vec::new();
    let mut rest = option;
    while let Some((&length, tail)) = rest.split_first() {
        let (class, tail) = tail.split_at_checked(usize::from(length))?;
        classes.push(class);
        rest = tail;
    }
    Some(classes.into_iter())
}

/// The code of the iPXE option, for callers that look it up.
pub const OPTION: u8 = code::IPXE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_user_class_name_ipxe() {
        assert!(is_ipxe_user_class(b"iPXE"));
        assert!(is_ipxe_user_class(b"\x04iPXE"));
        assert!(is_ipxe_user_class(b"\x03foo\x04iPXE"));
        assert!(!is_ipxe_user_class(b"gPXE"));
        assert!(!is_ipxe_user_class(b"\x09iPXE"));
        assert!(!is_ipxe_user_class(b""));
    }

    #[test]
    fn features_are_read_from_the_codes_of_option_175() {
        let debian = [0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0x13, 1, 1, 0x18, 1, 1];
        assert_eq!(
            Features::read(&debian),
            Features {
                http: true,
                bzimage: true
            }
        );
        assert!(Features::read(&debian).suffice(false));
        assert!(Features::read(&[0x13, 1, 1]).suffice(true));
        assert!(!Features::read(&[0x13, 1, 1]).suffice(false));
        assert!(!Features::read(&[0x18, 1, 1]).suffice(false));
        assert!(!Features::read(&[]).suffice(true));
    }

    #[test]
    fn no_pxedhcp_is_seen_only_where_it_is_set() {
        assert!(is_no_pxedhcp(&[0xb0, 1, 1]));
        assert!(!is_no_pxedhcp(&[0xb0, 1, 0]));
        assert!(!is_no_pxedhcp(&[8, 1, 1]));
    }
}
