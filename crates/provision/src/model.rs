//! Groups and profiles as their JSON files spell them.
//!
//! Reading follows Go's `encoding/json`, because that is what wrote and read these files so far:
//! field names match in any case, the last of a repeated field counts, unknown fields are ignored,
//! `null` leaves a field empty, anything of the wrong type makes the file bad. Where a file says
//! something that has no effect (the argument object of matchbox before 0.7) it gets a note.

use std::{collections::BTreeMap, fmt, io};

use serde::{
    Deserialize, Serialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{
    Map, Value,
    ser::{Formatter, PrettyFormatter},
};

use crate::mac::Mac;

/// Which machines get which profile, and what its templates may say of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// Its name towards the RPC clients; the file's name when the file has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The profile's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub profile: String,
    /// Labels that a machine must have; none: every machine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Values for templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// How a machine boots and what it is configured with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// File under `ignition/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ignition_id: String,
    /// File under `cloud/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cloud_id: String,
    /// Kernel and initrds; a profile without them has no boot script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// File under `generic/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub generic_id: String,
    /// Whether machines of this profile install once; larder's own field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_once: Option<bool>,
}

/// What iPXE or GRUB loads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// URL or path of the kernel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    /// URLs or paths of the initrds, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initrd: Vec<String>,
    /// Kernel arguments, in order, never quoted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The file has the argument object of matchbox before 0.7, which nothing reads.
    #[serde(skip)]
    pub old_cmdline: bool,
}

impl Group {
    /// The address of the one machine that this group is for. The selector's name is `mac` in just this
    /// case: that is what machines send, and names of labels count as they are written.
    pub fn machine(&self) -> Option<Mac> {
        Mac::parse(self.selector.get("mac")?)
    }

    /// Whether it is for machines that it names by their addresses.
    pub fn names_machines(&self) -> bool {
        self.machine().is_some()
    }

    /// Whether this machine must install once, if the group says anything of it: metadata
    /// `install_once`, a boolean or (from terraform, whose metadata are strings) its text.
    pub fn install_once(&self) -> Option<bool> {
        match self.metadata.as_ref()?.get("install_once")? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// Writes a group or profile as matchbox does: indented with tabs, no final newline, in Go's bytes.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, AsGo::default());
    value
        .serialize(&mut writer)
        .expect("maps with string keys always serialise into memory");
    bytes
}

/// Go's `json.MarshalIndent`: what HTML takes for markup is escaped, and large or small floats have an exponent.
struct AsGo(PrettyFormatter<'static>);

impl Default for AsGo {
    fn default() -> Self {
        Self(PrettyFormatter::with_indent(b"\t"))
    }
}

impl Formatter for AsGo {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        text: &str,
    ) -> io::Result<()> {
        let is_escaped = |letter: char| matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        for part in text.split_inclusive(is_escaped) {
            match part
                .chars()
                .next_back()
                .filter(|letter| is_escaped(*letter))
            {
                Some(letter) => {
                    let plain = part.strip_suffix(letter).unwrap_or(part);
                    write!(writer, "{plain}\\u{:04x}", u32::from(letter))?;
                }
                None => writer.write_all(part.as_bytes())?,
            }
        }
        Ok(())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, number: f64) -> io::Result<()> {
        if number != 0.0 && !(1e-6..1e21).contains(&number.abs()) {
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            return write!(writer, "{digits}e{sign}{exponent}");
        }
        write!(writer, "{number}")
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

/// A field that is absent when it is `null`.
fn field<'de, T, A>(map: &mut A) -> Result<T, A::Error>
where
    T: Deserialize<'de> + Default,
    A: MapAccess<'de>,
{
    Ok(map.next_value::<Option<T>>()?.unwrap_or_default())
}

/// A list of texts, of which each is empty when it is `null`.
fn texts<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<String>, A::Error> {
    let texts: Vec<Option<String>> = field(map)?;
    Ok(texts.into_iter().map(Option::unwrap_or_default).collect())
}

/// Reads a JSON object field by field, names in lower case.
struct Object<T>(fn() -> T);

/// Something whose fields are read one by one.
trait Fields<'de>: Default {
    const NAME: &'static str;
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

impl<'de, T: Fields<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (a JSON object)", T::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = (self.0)();
        while let Some(name) = map.next_key::<String>()? {
            value.take(&name.to_ascii_lowercase(), &mut map)?;
        }
        Ok(value)
    }
}

impl<'de> Fields<'de> for Group {
    const NAME: &'static str = "a group";

    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "id" => self.id = field(map)?,
            "name" => self.name = field(map)?,
            "profile" => self.profile = field(map)?,
            "selector" => {
                let selector: BTreeMap<String, Option<String>> = field(map)?;
                let pairs = selector.into_iter();
                self.selector = pairs
                    .map(|(name, value)| (name, value.unwrap_or_default()))
                    .collect();
            }
            "metadata" => self.metadata = map.next_value()?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Fields<'de> for Profile {
    const NAME: &'static str = "a profile";

    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "id" => self.id = field(map)?,
            "name" => self.name = field(map)?,
            "ignition_id" => self.ignition_id = field(map)?,
            "cloud_id" => self.cloud_id = field(map)?,
            "boot" => self.boot = map.next_value()?,
            "generic_id" => self.generic_id = field(map)?,
            "install_once" => self.install_once = map.next_value()?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Fields<'de> for Boot {
    const NAME: &'static str = "a boot section";

    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "kernel" => self.kernel = field(map)?,
            "initrd" => self.initrd = texts(map)?,
            "args" => self.args = texts(map)?,
            "cmdline" => {
                map.next_value::<IgnoredAny>()?;
                self.old_cmdline = true;
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object(Self::default))
    }
}

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object(Self::default))
    }
}

impl<'de> Deserialize<'de> for Boot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object(Self::default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_match_in_any_case_and_the_last_counts() {
        let group: Group =
            serde_json::from_str(r#"{"ID":"a","Profile":"x","profile":"y","other":[1]}"#).unwrap();
        assert_eq!((group.id.as_str(), group.profile.as_str()), ("a", "y"));
    }

    #[test]
    fn null_leaves_a_field_empty() {
        let group: Group =
            serde_json::from_str(r#"{"id":null,"selector":null,"metadata":null}"#).unwrap();
        assert_eq!(group, Group::default());
        let profile: Profile = serde_json::from_str(r#"{"id":"p","boot":null}"#).unwrap();
        assert_eq!(profile.boot, None);
    }

    #[test]
    fn the_wrong_type_names_its_place() {
        let error = serde_json::from_str::<Group>("{\n \"profile\": 7}").unwrap_err();
        assert_eq!((error.line(), error.column()), (2, 13));
        assert!(serde_json::from_str::<Group>(r#"{"selector":{"a":1}}"#).is_err());
        assert!(serde_json::from_str::<Profile>(r#"{"boot":{"args":"quiet"}}"#).is_err());
        assert!(serde_json::from_str::<Group>("[]").is_err());
    }

    #[test]
    fn the_old_cmdline_object_loads_and_is_remembered() {
        let text = r#"{"id":"p","boot":{"kernel":"k","cmdline":{"console":"ttyS0"}}}"#;
        let boot = serde_json::from_str::<Profile>(text).unwrap().boot.unwrap();
        assert!(boot.old_cmdline && boot.args.is_empty());
    }

    #[test]
    fn files_are_written_with_tabs_and_without_empty_fields() {
        let group = Group {
            id: "a".into(),
            profile: "p".into(),
            ..Group::default()
        };
        assert_eq!(
            to_json(&group),
            b"{\n\t\"id\": \"a\",\n\t\"profile\": \"p\"\n}"
        );
    }

    #[test]
    fn null_within_a_list_or_a_selector_is_an_empty_text() {
        let text = r#"{"id":"p","boot":{"kernel":"k","initrd":[null,"i"],"args":["a",null]}}"#;
        let boot = serde_json::from_str::<Profile>(text).unwrap().boot.unwrap();
        assert_eq!(
            (boot.initrd, boot.args),
            (
                vec![String::new(), "i".into()],
                vec!["a".into(), String::new()]
            )
        );
        let group: Group = serde_json::from_str(r#"{"selector":{"os":null}}"#).unwrap();
        assert_eq!(group.selector.get("os").unwrap(), "");
    }

    #[test]
    fn files_are_written_in_go_s_bytes() {
        let text = r#"{"id":"<a>&\u2028\u2029\"","metadata":{"f":[3.0,1e21,1e-7,1e20,0.5,7],"m":{},"l":[]}}"#;
        let group: Group = serde_json::from_str(text).unwrap();
        assert_eq!(
            String::from_utf8(to_json(&group)).unwrap(),
            "{\n\t\"id\": \"\\u003ca\\u003e\\u0026\\u2028\\u2029\\\"\",\n\t\"metadata\": {\n\t\t\"f\": [\n\t\t\t3,\n\t\t\t1e+21,\n\t\t\t1e-7,\n\t\t\t100000000000000000000,\n\t\t\t0.5,\n\t\t\t7\n\t\t],\n\t\t\"l\": [],\n\t\t\"m\": {}\n\t}\n}"
        );
    }

    #[test]
    fn terraform_says_install_once_in_a_string() {
        let said = |metadata: &str| {
            let text = format!(r#"{{"profile":"p","metadata":{metadata}}}"#);
            serde_json::from_str::<Group>(&text).unwrap().install_once()
        };
        assert_eq!(said(r#"{"install_once":"true"}"#), Some(true));
        assert_eq!(said(r#"{"install_once":false}"#), Some(false));
        assert_eq!(said(r#"{"install_once":"perhaps"}"#), None);
        assert_eq!(said("null"), None);
    }
}
