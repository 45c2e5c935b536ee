//! Refresh rules: what the operator says about freshness, as Squid's `refresh_pattern` says it.
//!
//! The first rule whose pattern occurs in the subject applies; the subject is the store ID where
//! there is one, else the URL. What a rule then means is decided in two ways: by Squid's own
//! algorithm ([`squid()`], exact, departures included that look like mistakes), or by
//! [`crate::freshness`], which uses the rule's numbers and flags in larder's own order.

mod squid;

use crate::store_id::{Pattern, PatternSet};

pub use squid::{Admission, RevalidateBecause, SquidVerdict, Times, UseBecause};
pub use squid::{admits, squid};

/// One rule. All times are in seconds, as in every freshness computation; Squid's minutes are
/// converted where its file is read.
#[derive(Clone, Debug)]
pub struct RefreshRule {
    /// What it applies to.
    pub pattern: Pattern,
    /// An object that says nothing of its age is fresh for so long, seconds.
    pub min: i64,
    /// Share of the time since the last change for which an object stays fresh; may exceed 100.
    pub percent: u32,
    /// Bound on freshness that the origin did not state, seconds.
    pub max: i64,
    /// What of the origin's word is overridden.
    pub options: Overrides,
    /// The pattern matches every URL.
    pub catch_all: bool,
    /// How the rule is shown to people.
    pub text: String,
}

/// The options of a rule, named as in squid.conf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one flag for each word of refresh_pattern, in any combination"
)]
pub struct Overrides {
    /// `min` holds even where the origin's Expires or max-age is shorter.
    pub override_expire: bool,
    /// `min` holds even where the share of the time since the last change is shorter.
    pub override_lastmod: bool,
    /// A client's no-cache becomes a conditional request.
    pub reload_into_ims: bool,
    /// A client's no-cache and max-age=0 are not heard.
    pub ignore_reload: bool,
    /// Responses with no-store are kept.
    pub ignore_no_store: bool,
    /// Responses with private are kept.
    pub ignore_private: bool,
    /// Responses with no-cache need not be revalidated at each use. Squid has dropped this word:
    /// it is never set from a squid.conf, and Squid's algorithm does not look at it.
    pub ignore_no_cache: bool,
    /// must-revalidate is not heeded. As with `ignore_no_cache`, only larder.toml can say it.
    pub ignore_must_revalidate: bool,
    /// A client's If-Modified-Since is answered by asking the origin.
    pub refresh_ims: bool,
    /// Responses are kept even if they are stale at once.
    pub store_stale: bool,
    /// Beyond this staleness the origin must be asked, seconds; `None`: [`MAX_STALE`].
    pub max_stale: Option<i64>,
}

/// Squid's `max_stale` where nothing is said, seconds: one week.
pub const MAX_STALE: i64 = 7 * 86_400;

impl RefreshRule {
    /// The lifetime that the rule gives to an object which had last changed so many seconds before
    /// it was sent, without regard to `min` and `max`; whole seconds, and no wrapping.
    pub fn share_of(&self, since_change: i64) -> i64 {
        share(since_change, self.percent)
    }
}

fn share(since_change: i64, percent: u32) -> i64 {
    let exact = i128::from(since_change) * i128::from(percent) / 100;
    i64::try_from(exact).unwrap_or(i64::MAX)
}

/// All rules, in order.
#[derive(Clone, Debug, Default)]
pub struct RefreshRules {
    rules: Vec<RefreshRule>,
    patterns: PatternSet,
}

impl RefreshRules {
    /// Makes the rules ready for use.
    pub fn new(rules: Vec<RefreshRule>) -> Self {
        Self {
            patterns: PatternSet::new(rules.iter().map(|rule| &rule.pattern)),
            rules,
        }
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[RefreshRule] {
        &self.rules
    }

    /// The first rule whose pattern occurs in `subject`. A pattern that gives up counts as one that
    /// does not occur.
    pub fn rule_for(&self, subject: &str) -> Option<&RefreshRule> {
        let candidates = self.patterns.candidates(subject);
        let rules = self.rules.iter().enumerate();
        rules
            .filter(|(index, _)| candidates.contains(*index))
            .map(|(_, rule)| rule)
            .find(|rule| rule.pattern.is_match(subject) == Ok(true))
    }
}

#[cfg(test)]
mod tests;
