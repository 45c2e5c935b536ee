//! Which URLs lead back to this host: larder must neither send a machine to the script that it is just
//! reading, nor take the port of the server that machines are sent to.

use std::net::Ipv4Addr;

/// The port and the path of an http URL whose host is an address of this host; none for all other URLs.
pub fn part<'u>(url: &'u str, is_own: &dyn Fn(Ipv4Addr) -> bool) -> Option<(u16, &'u str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(at)?;
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let port = port.parse().ok()?;
    let address: Ipv4Addr = host.parse().ok()?;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    is_own(address).then_some((port, path))
}

/// Tells whether a URL is a script that larder itself makes on `port`.
pub fn is_own_script(url: &str, port: u16, is_own: &dyn Fn(Ipv4Addr) -> bool) -> bool {
    part(url, is_own).is_some_and(|(named, path)| {
        let path = path.strip_suffix(".0").unwrap_or(path);
        let scripts = ["/boot.ipxe", "/menu.ipxe", "/autoexec.ipxe", "/m"];
        named == port && scripts.contains(&path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    #[test]
    fn only_a_script_on_the_own_port_leads_back() {
        let is_own = |address| address == HERE;
        for (url, leads_back) in [
            ("http://10.77.0.2:8080/boot.ipxe", true),
            ("HTTP://10.77.0.2:8080/m?mac=${mac}", true),
            ("http://10.77.0.2:8082/boot.ipxe", false),
            ("http://10.77.0.2/boot.ipxe", false),
            ("http://10.77.0.9:8080/boot.ipxe", false),
            ("http://10.77.0.2:8080/other.ipxe", false),
            ("http://matchbox:8080/boot.ipxe", false),
            ("http://10.77.0.2:99999/boot.ipxe", false),
            ("tftp://10.77.0.2:8080/boot.ipxe", false),
        ] {
            assert_eq!(is_own_script(url, 8080, &is_own), leads_back, "{url}");
        }
    }
}
