//! Which group a machine belongs to: pure, and independent of how many groups there are.
//!
//! A group matches when each of its selectors equals the machine's label; a label that is absent
//! is the empty string. Of several the one with the most selectors wins, then the one whose sorted
//! `key=value,…` text is the greatest. Two groups of equal selectors are undefined in matchbox
//! (its sort is unstable); here the smaller id wins and the tie is reported.
//!
//! Groups are sorted once, when they change. Each is filed under its rarest `key=value`, so that a
//! request looks only at groups that share a pair with it: two thousand machines selected by `mac`
//! cost one look.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use crate::{labels::Labels, model::Group};

/// All groups in the order of selection.
#[derive(Debug, Default)]
pub struct Catalog {
    groups: Vec<Arc<Group>>,
    by_pair: HashMap<(String, String), Vec<usize>>,
    /// Groups that no present label can lead to: without selectors, or only with empty values.
    always: Vec<usize>,
}

impl Catalog {
    /// Sorts and files `groups`.
    pub fn new(mut groups: Vec<Arc<Group>>) -> Self {
        groups.sort_by_cached_key(|group| {
            (
                Reverse(group.selector.len()),
                Reverse(selector_text(group)),
                group.id.clone(),
            )
        });
        let mut uses: HashMap<(&str, &str), usize> = HashMap::new();
        for pair in groups.iter().flat_map(|group| pairs(group)) {
            *uses.entry(pair).or_default() += 1;
        }
        let mut by_pair: HashMap<(String, String), Vec<usize>> = HashMap::new();
        let mut always = Vec::new();
        for (rank, group) in groups.iter().enumerate() {
            match pairs(group).min_by_key(|pair| uses.get(pair).copied()) {
                Some((name, value)) => {
                    by_pair
                        .entry((name.to_owned(), value.to_owned()))
                        .or_default()
                        .push(rank);
                }
                None => always.push(rank),
            }
        }
        Self {
            groups,
            by_pair,
            always,
        }
    }

    /// All groups, first to be tried first.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// The group of a machine with these labels.
    pub fn select(&self, labels: &Labels) -> Option<Arc<Group>> {
        self.select_by(labels, matches)
    }

    /// As [`Catalog::select`], by the groups that `is_match` takes; it is asked of no group that no label leads to.
    fn select_by(
        &self,
        labels: &Labels,
        mut is_match: impl FnMut(&Group, &Labels) -> bool,
    ) -> Option<Arc<Group>> {
        let filed = labels
            .iter()
            .filter_map(|(name, value)| self.by_pair.get(&(name.to_owned(), value.to_owned())));
        filed
            .chain([&self.always])
            .filter_map(|ranks| {
                // Ranks ascend within one pair: its first match is its best.
                ranks
                    .iter()
                    .find(|rank| self.groups.get(**rank).is_some_and(|g| is_match(g, labels)))
            })
            .min()
            .and_then(|rank| self.groups.get(*rank).cloned())
    }

    /// Pairs of groups that the order cannot tell apart but by id.
    pub fn ties(&self) -> impl Iterator<Item = (&Group, &Group)> {
        self.groups
            .iter()
            .zip(self.groups.iter().skip(1))
            .filter_map(|(first, second)| {
                (first.selector == second.selector).then_some((first.as_ref(), second.as_ref()))
            })
    }
}

/// Whether every selector of the group equals the machine's label.
pub fn matches(group: &Group, labels: &Labels) -> bool {
    group
        .selector
        .iter()
        .all(|(name, value)| labels.get(name) == value)
}

/// The selectors that a present label can fulfil.
fn pairs(group: &Group) -> impl Iterator<Item = (&str, &str)> {
    let nonempty = group.selector.iter().filter(|(_, value)| !value.is_empty());
    nonempty.map(|(name, value)| (name.as_str(), value.as_str()))
}

/// The text that breaks ties: `key=value` sorted and joined with commas.
fn selector_text(group: &Group) -> String {
    let mut pairs: Vec<String> = group
        .selector
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.sort_unstable();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Compat;

    fn group(id: &str, selector: &[(&str, &str)]) -> Arc<Group> {
        let selector = selector
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Arc::new(Group {
            id: id.into(),
            selector,
            ..Group::default()
        })
    }

    fn selected(groups: &[Arc<Group>], query: &str) -> String {
        let labels = Labels::from_query(query, Compat::V0_11);
        Catalog::new(groups.to_vec())
            .select(&labels)
            .map(|g| g.id.clone())
            .unwrap_or_default()
    }

    #[test]
    fn more_selectors_win() {
        let groups = [
            group("one", &[("a", "1")]),
            group("two", &[("a", "1"), ("b", "2")]),
        ];
        assert_eq!(selected(&groups, "a=1&b=2"), "two");
        assert_eq!(selected(&groups, "a=1"), "one");
        assert_eq!(selected(&groups, "b=2"), "");
    }

    #[test]
    fn the_greater_selector_text_wins_among_as_many() {
        let groups = [group("low", &[("a", "1")]), group("high", &[("b", "1")])];
        assert_eq!(selected(&groups, "a=1&b=1"), "high");
    }

    #[test]
    fn equal_selectors_are_told_apart_by_id_and_reported() {
        let groups = [group("z", &[]), group("y", &[])];
        assert_eq!(selected(&groups, ""), "y");
        assert_eq!(Catalog::new(groups.to_vec()).ties().count(), 1);
    }

    #[test]
    fn an_empty_selector_value_matches_absence() {
        let groups = [group("blank", &[("os", "")]), group("any", &[])];
        assert_eq!(selected(&groups, "mac=x"), "blank");
        assert_eq!(selected(&groups, "os="), "blank");
        assert_eq!(selected(&groups, "os=installed"), "any");
    }

    #[test]
    fn as_many_groups_are_looked_at_among_two_thousand_as_among_twenty() {
        let looked_at = |count: usize| {
            let mut groups = vec![group("default", &[])];
            groups.extend((0..count).map(|n| {
                let mac = format!("52:54:00:00:{:02x}:{:02x}", n >> 8, n & 255);
                group(&format!("g{n}"), &[("mac", &mac), ("os", "installed")])
            }));
            let query = "mac=52:54:00:00:00:07&os=installed&uuid=u";
            let labels = Labels::from_query(query, Compat::V0_11);
            let mut count = 0;
            let found = Catalog::new(groups).select_by(&labels, |group, labels| {
                count += 1;
                matches(group, labels)
            });
            assert_eq!(found.unwrap().id, "g7");
            count
        };
        // Its own and the default one.
        assert_eq!((looked_at(20), looked_at(2000)), (2, 2));
    }

    #[test]
    fn filing_by_pairs_selects_what_trying_all_in_order_selects() {
        let mut groups = vec![group("default", &[])];
        for n in 0_u8..27 {
            let (a, b, c) = (n % 3, n / 3 % 3, n / 9);
            let value = |v: u8| ["", "1", "2"].get(usize::from(v)).copied().unwrap_or("");
            let pairs = [("a", value(a)), ("b", value(b)), ("c", value(c))];
            let id = format!("{n:02}");
            groups.push(group(
                &id,
                pairs.get(..usize::from(n % 4).min(3)).unwrap_or(&pairs),
            ));
        }
        let catalog = Catalog::new(groups);
        for query in [
            "",
            "a=1",
            "a=2&b=1",
            "a=1&b=2&c=1",
            "c=2",
            "b=1&c=1",
            "a=&b=2&c=2",
        ] {
            let labels = Labels::from_query(query, Compat::V0_11);
            let first = catalog
                .groups()
                .iter()
                .find(|group| matches(group, &labels))
                .cloned();
            assert_eq!(catalog.select(&labels), first, "{query}");
        }
    }
}
