//! Which Ignition configs may be sent, and why another one is refused.
//!
//! A config is sent as it is: larder does not raise its version, fill in its fields or translate
//! it. matchbox 0.11 answers 200 with an empty config where it cannot read one, and the machine
//! installs itself unconfigured; here such a file is refused with its reason. Container Linux
//! Configs and Butane files are YAML that only their own transpilers understand.

mod rules;

use serde_json::Value;

use self::rules::Generation;
use crate::reason::Reason;

/// Ignition 2 releases that exist.
const SECOND: [&str; 5] = ["2.0.0", "2.1.0", "2.2.0", "2.3.0", "2.4.0"];

/// Checks the config in the file `name`.
///
/// # Errors
///
/// [`Reason::Ignition`] says what a person has to change.
pub(crate) fn check(name: &str, config: &[u8]) -> Result<(), Reason> {
    let refuse = |why: String| {
        Err(Reason::Ignition {
            name: name.to_owned(),
            why,
        })
    };
    if !is_raw(name) && serde_json::from_slice::<Value>(config).is_err() {
        return refuse(transpiler_hint(config));
    }
    let json: Value = match serde_json::from_slice(config) {
        Ok(json) => json,
        Err(error) => return refuse(format!("is not JSON: {error}")),
    };
    let Some(version) = json.pointer("/ignition/version").and_then(Value::as_str) else {
        let first = json.get("ignitionVersion").is_some();
        return refuse(if first {
            "is an Ignition 1 config, which no supported system reads".to_owned()
        } else {
            "has no ignition.version".to_owned()
        });
    };
    if SECOND.contains(&version) {
        return rules::check(&json, Generation::Second).or_else(refuse);
    }
    match ignition_config::Config::parse_slice(config) {
        Ok((_, unused)) => {
            for warning in unused {
                tracing::warn!(ignition = name, "{warning}");
            }
            rules::check(&json, Generation::Third).or_else(refuse)
        }
        Err(ignition_config::Error::UnknownVersion(version)) => refuse(format!(
            "has the version {version}, which is not known here (2.0.0 to 2.4.0, 3.0.0 to 3.6.0)"
        )),
        Err(error) => refuse(format!("is not Ignition {version}: {error}")),
    }
}

/// Whether a name says that its file is Ignition, as matchbox decides it.
pub(crate) fn is_raw(name: &str) -> bool {
    [".ign", ".ignition"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

/// What to run for a file that is a transpiler's input.
fn transpiler_hint(config: &[u8]) -> String {
    let text = String::from_utf8_lossy(config);
    let is_butane = text.lines().any(|line| line.starts_with("variant:"));
    let (what, command) = if is_butane {
        ("a Butane config", "butane --strict FILE > FILE.ign")
    } else {
        (
            "a Container Linux Config (or no config at all)",
            "ct < FILE > FILE.ign",
        )
    };
    format!("is {what}: run `{command}` and name the .ign file in ignition_id")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, config: &str) -> String {
        check(name, config.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn second_and_third_generation_configs_pass() {
        for version in [
            "2.0.0", "2.2.0", "3.0.0", "3.3.0", "3.4.0", "3.5.0", "3.6.0",
        ] {
            let config = format!(r#"{{"ignition":{{"version":"{version}"}},"storage":{{}}}}"#);
            assert_eq!(check("a.ign", config.as_bytes()), Ok(()), "{version}");
        }
    }

    #[test]
    fn what_no_machine_could_read_is_refused() {
        assert!(refusal("a.ign", "{").contains("not JSON"));
        assert!(refusal("a.ign", "{}").contains("no ignition.version"));
        assert!(refusal("a.ign", r#"{"ignitionVersion":1}"#).contains("Ignition 1"));
        assert!(refusal("a.ign", r#"{"ignition":{"version":"9.0.0"}}"#).contains("9.0.0"));
        assert!(refusal("a.ign", r#"{"ignition":{"version":"three"}}"#).contains("three"));
        let wrong = r#"{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":1}]}}"#;
        assert!(refusal("a.ign", wrong).contains("is not Ignition 3.3.0"));
        assert!(refusal("a.ign", r#"{"ignition":{"version":"2.5.0"}}"#).contains("2.4.0"));
        let wrong = r#"{"ignition":{"version":"2.2.0"},"storage":[]}"#;
        assert!(refusal("a.ign", wrong).contains("storage"));
    }

    #[test]
    fn yaml_names_its_transpiler() {
        assert!(refusal("a.yaml", "variant: fcos\nversion: 1.5.0\n").contains("butane"));
        assert!(refusal("a.yaml.tmpl", "passwd:\n  users: []\n").contains("ct <"));
    }
}
