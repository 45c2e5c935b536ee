//! Places in texts: where a field of a JSON object stands, where a byte does.

/// Line and column (in bytes) of a byte, both from 1.
pub(super) fn of_byte(text: &[u8], at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.split(|byte| *byte == b'\n').count();
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    (line, before.len() - start + 1)
}

/// Where the name of a field stands, given by the names on the way to it, in any case. The last of a
/// repeated field, as that one counts.
pub(super) fn of_field(text: &[u8], way: &[&str]) -> Option<(usize, usize)> {
    // The names of the objects around; an array's stands for none.
    let mut around: Vec<Option<String>> = Vec::new();
    let mut name: Option<String> = None;
    let mut found = None;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(text, at);
                let string = text.get(at + 1..end.saturating_sub(1)).unwrap_or_default();
                let rest = text.get(end..).unwrap_or_default();
                let is_name = rest.trim_ascii_start().starts_with(b":");
                if is_name {
                    let string = String::from_utf8_lossy(string).into_owned();
                    let names = around.iter().skip(1).map(Option::as_deref);
                    let names = names.chain([Some(string.as_str())]);
                    if matches(names, way) {
                        found = Some(of_byte(text, at));
                    }
                    name = Some(string);
                }
                at = end;
                continue;
            }
            b'{' => around.push(name.take()),
            b'[' => {
                name = None;
                around.push(None);
            }
            b'}' | b']' => {
                around.pop();
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn matches<'a>(names: impl Iterator<Item = Option<&'a str>>, way: &[&str]) -> bool {
    let names: Vec<Option<&str>> = names.collect();
    names.len() == way.len()
        && names
            .iter()
            .zip(way)
            .all(|(name, wanted)| name.is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
}

/// The byte behind the string that begins at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_where_it_stands_and_not_where_its_name_does() {
        let text = br#"{
  "metadata": {"profile": "no", "list": [{"kernel": 1}]},
  "x": "\"profile\": ",
  "Profile": "p",
  "boot": {"kernel":
    "k"}
}"#;
        assert_eq!(of_field(text, &["profile"]), Some((4, 3)));
        assert_eq!(of_field(text, &["boot", "kernel"]), Some((5, 12)));
        assert_eq!(of_field(text, &["kernel"]), None);
        assert_eq!(of_field(b"{\"a", &["a"]), None);
        assert_eq!(of_byte(b"a\nbc", 3), (2, 2));
    }
}
