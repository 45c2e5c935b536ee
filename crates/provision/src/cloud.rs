//! Which cloud-configs may be sent: YAML that parses, or a script.

use crate::reason::Reason;

/// Checks the text that the file `name` gives.
///
/// # Errors
///
/// A [`Reason`] that says what a person has to change.
pub(crate) fn check(name: &str, config: &str) -> Result<(), Reason> {
    let first = config.split('\n').next().unwrap_or_default();
    if first.trim_end() == "#cloud-config" {
        let broken = saphyr_parser::Parser::new_from_str(config).find_map(Result::err);
        return broken.map_or(Ok(()), |error| {
            Err(Reason::Template {
                name: name.to_owned(),
                why: error.to_string(),
            })
        });
    }
    if first.starts_with("#!") {
        return Ok(());
    }
    Err(Reason::Cloud(name.to_owned()))
}
