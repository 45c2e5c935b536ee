//! Option 43 as PXE uses it (PXE 2.1 §2.3): discovery control, prompt, boot servers and menu.

use std::net::Ipv4Addr;

/// Sub-option codes.
pub mod sub {
    /// Discovery control bits.
    pub const DISCOVERY_CONTROL: u8 = 6;
    /// Boot servers: `{type u16, count u8, addresses}`.
    pub const BOOT_SERVERS: u8 = 8;
    /// Menu items: `{type u16, length u8, text}`.
    pub const MENU: u8 = 9;
    /// Prompt: `{timeout u8, text}`.
    pub const PROMPT: u8 = 10;
    /// The chosen item: `{type u16, layer u16}`.
    pub const ITEM: u8 = 71;
}

/// Discovery control: no broadcast (1), no multicast (2).
pub const LISTED_SERVERS: u8 = 3;
/// Discovery control: no multicast, but broadcast for servers that are not listed.
pub const BROADCAST: u8 = 2;
/// Discovery control: use the file name in this packet and discover nothing.
pub const USE_FILE_NAME: u8 = 8;

/// Largest value of one sub-option list: an option's 255 bytes less its own code and length.
const LIST_LIMIT: usize = 253;

/// One line of a boot menu, with what a reply needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuItem<'a> {
    /// The item's type; 0 is local boot, from 0x8000 on they are larder's own.
    pub kind: u16,
    /// Text that the firmware shows.
    pub text: &'a [u8],
    /// Who serves it; none where the client must broadcast for it.
    pub server: Option<Ipv4Addr>,
}

/// A menu encoded for option 43: discovery control, boot servers and items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// Value of sub-option 6.
    pub discovery_control: u8,
    /// Value of sub-option 8, empty where no server is known.
    pub servers: Vec<u8>,
    /// Value of sub-option 9, empty without items.
    pub items: Vec<u8>,
    /// How many items there are.
    pub count: usize,
}

/// Encodes `items`; none where the lists grow beyond one option, so that the menu is left out.
pub fn menu<'a>(items: impl Iterator<Item = MenuItem<'a>>) -> Option<Menu> {
    let mut menu = Menu {
        discovery_control: LISTED_SERVERS,
        servers: Vec::new(),
        items: Vec::new(),
        count: 0,
    };
    for item in items {
        let length = item.text.len();
        if menu.items.len() + length + 3 >= LIST_LIMIT {
            return None;
        }
        menu.items.extend(item.kind.to_be_bytes());
        menu.items.push(u8::try_from(length).ok()?);
        menu.items.extend(item.text);
        menu.count += 1;
        match item.server {
            Some(_) if menu.servers.len() + 7 >= LIST_LIMIT => return None,
            Some(server) => {
                menu.servers.extend(item.kind.to_be_bytes());
                menu.servers.push(1);
                menu.servers.extend(server.octets());
            }
            None if item.kind != 0 => menu.discovery_control = BROADCAST,
            None => {}
        }
    }
    if menu.count == 0 {
        menu.discovery_control = USE_FILE_NAME;
    }
    Some(menu)
}

/// Joins sub-options into values for option 43, each ended where its last one is and none longer than
/// 255 bytes. Only the last value carries the end mark, as dnsmasq sends it.
pub fn encapsulate(subs: &[(u8, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    let mut value = Vec::new();
    for (code, data) in subs {
        let Ok(length) = u8::try_from(data.len()) else {
            continue;
        };
        if value.len() + data.len() + 2 >= usize::from(u8::MAX) {
            values.push(std::mem::take(&mut value));
        }
        value.push(*code);
        value.push(length);
        value.extend(data);
    }
    if !value.is_empty() {
        value.push(super::options::code::END);
        values.push(value);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_menu_is_encoded_as_measured() {
        let here = Ipv4Addr::new(10, 77, 0, 2);
        let item = MenuItem {
            kind: 0x8000,
            text: b"PXE chainload to iPXE",
            server: Some(here),
        };
        let menu = menu(std::iter::once(item)).unwrap();
        let subs = [
            (sub::DISCOVERY_CONTROL, vec![menu.discovery_control]),
            (sub::PROMPT, b"\0PXE".to_vec()),
            (sub::BOOT_SERVERS, menu.servers),
            (sub::MENU, menu.items),
        ];
        let mut expected = vec![
            6, 1, 3, 10, 4, 0, b'P', b'X', b'E', 8, 7, 0x80, 0, 1, 10, 77, 0, 2,
        ];
        expected.extend([9, 24, 0x80, 0, 21]);
        expected.extend(b"PXE chainload to iPXE\xff");
        assert_eq!(encapsulate(&subs), [expected]);
    }

    #[test]
    fn a_menu_beyond_one_option_is_left_out() {
        let text = [b'x'; 100];
        let item = || MenuItem {
            kind: 0x8000,
            text: &text,
            server: None,
        };
        assert!(menu([item(), item()].into_iter()).is_some());
        assert!(menu([item(), item(), item()].into_iter()).is_none());
    }

    #[test]
    fn an_unknown_server_lets_the_client_broadcast_unless_it_boots_locally() {
        let item = |kind| MenuItem {
            kind,
            text: b"x",
            server: None,
        };
        assert_eq!(
            menu([item(0)].into_iter()).unwrap().discovery_control,
            LISTED_SERVERS
        );
        assert_eq!(
            menu([item(7)].into_iter()).unwrap().discovery_control,
            BROADCAST
        );
        assert_eq!(
            menu([].into_iter()).unwrap().discovery_control,
            USE_FILE_NAME
        );
    }

    #[test]
    fn long_sub_options_are_split_over_several_options() {
        let values = encapsulate(&[(9, vec![1; 200]), (8, vec![2; 100])]);
        assert_eq!(values.iter().map(Vec::len).collect::<Vec<_>>(), [202, 103]);
    }
}
