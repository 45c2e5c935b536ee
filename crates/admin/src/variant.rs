//! What the variant in a key's text says of the request that it answers.

/// A request field and its value; `None`: the request did not have it.
pub type Field = (String, Option<Vec<u8>>);

/// Reads a variant as [`larder_policy::key::CacheKey::with_variant`] writes it: `name=value&` for
/// each field, octets as %XX where they are not plain, and `name!&` for one that was absent.
pub fn fields(variant: &str) -> Option<Vec<Field>> {
    let parts = variant.strip_suffix('&')?.split('&');
    parts.map(field).collect()
}

fn field(text: &str) -> Option<Field> {
    let Some((name, value)) = text.split_once('=') else {
        return Some((text.strip_suffix('!')?.to_owned(), None));
    };
    let mut octets = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            octets.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
    }
    Some((name.to_owned(), Some(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::key::CacheKey;

    #[test]
    fn the_fields_of_a_variant_are_read_back_as_they_were() {
        let written = [
            ("accept".to_owned(), Some(b"a/b;q=1, \xff%&".to_vec())),
            ("x-absent!".to_owned(), None),
            ("empty".to_owned(), Some(Vec::new())),
        ];
        let key = CacheKey::of_store_id("x").with_variant(&written);
        let text = key.to_string();
        let (_, variant) = text.split_once('\n').expect("a variant");
        assert_eq!(fields(variant).expect("readable"), written);
        for bad in ["", "accept", "accept&", "a=%4&", "a=%zz&"] {
            assert_eq!(fields(bad), None, "{bad}");
        }
    }
}
