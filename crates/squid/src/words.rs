//! Every directive that Squid knows, and what becomes of it here.
//!
//! No line is dropped in silence. A directive is applied, or it has no counterpart that matters
//! ([`Treatment::Harmless`]), or it is not applied yet ([`Treatment::NotYet`]), or it is refused
//! because going on without it would open access or break TLS ([`Treatment::Refused`]), or Squid
//! itself no longer heeds it ([`Treatment::Obsolete`]). An old name that Squid still obeys stands
//! for today's ([`today`]).

mod lists;

use crate::suggest;
use lists::{ALIASES, APPLIED, HARMLESS, NOT_YET, OBSOLETE};

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It is read elsewhere.
    Applied,
    /// It tunes what larder does not have, or does by itself.
    Harmless,
    /// It is known and has no effect yet.
    NotYet,
    /// Going on without it would open access or break TLS: what to do instead.
    Refused(&'static str),
    /// Squid has dropped it.
    Obsolete,
}

const REFUSED: [(&str, &str); 1] = [("https_port", "put a TLS server in front, or use http_port")];

/// What becomes of a directive; `None`: Squid does not know it either.
pub(crate) fn treatment(name: &str) -> Option<Treatment> {
    if let Some((_, mend)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Some(Treatment::Refused(mend));
    }
    [
        (&APPLIED[..], Treatment::Applied),
        (&HARMLESS[..], Treatment::Harmless),
        (&NOT_YET[..], Treatment::NotYet),
        (&OBSOLETE[..], Treatment::Obsolete),
    ]
    .into_iter()
    .find(|(words, _)| words.contains(&name))
    .map(|(_, treatment)| treatment)
}

/// Today's name of a directive that is written by an old one.
pub(crate) fn today(name: &str) -> Option<&'static str> {
    let alias = ALIASES.iter().find(|(old, _)| *old == name);
    alias.map(|(_, today)| *today)
}

/// The directive that was probably meant.
pub(crate) fn suggestion(name: &str) -> Option<&'static str> {
    let refused = REFUSED.iter().map(|(name, _)| *name);
    let known = [&APPLIED[..], &HARMLESS[..], &NOT_YET[..]]
        .into_iter()
        .flatten()
        .copied();
    suggest::nearest(name, known.chain(refused).chain(["include"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every directive of the default file that Squid 5.7 documents, but `include`.
    const DOCUMENTED: &str = include_str!("tests/documented.txt");

    #[test]
    fn every_word_is_listed_once() {
        let refused = REFUSED.map(|(name, _)| name);
        let aliases = ALIASES.map(|(old, _)| old);
        let lists = [
            &APPLIED[..],
            &refused,
            &HARMLESS,
            &NOT_YET,
            &OBSOLETE,
            &aliases,
        ];
        let mut all: Vec<&str> = lists.concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn every_documented_directive_is_known() {
        let words: Vec<&str> = DOCUMENTED.split_whitespace().collect();
        assert!(words.len() > 380, "only {} words", words.len());
        for word in words {
            assert!(treatment(word).is_some(), "{word}");
        }
    }

    #[test]
    fn old_names_stand_for_known_ones_that_are_no_old_names() {
        for (old, today) in ALIASES {
            assert!(treatment(old).is_none(), "{old}");
            let treatment = treatment(today);
            assert!(
                !matches!(treatment, None | Some(Treatment::Obsolete)),
                "{today}"
            );
        }
    }

    #[test]
    fn unknown_words_are_unknown_and_slips_are_suggested() {
        assert_eq!(treatment("http_acess"), None);
        assert_eq!(suggestion("http_acess"), Some("http_access"));
        assert_eq!(
            suggestion("maximum_object_sizes"),
            Some("maximum_object_size")
        );
        assert_eq!(treatment("dns_v4_first"), Some(Treatment::Obsolete));
    }
}
