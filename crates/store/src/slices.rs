//! Slices of one download: a client that fetches an object in ranges has taken it once.

use std::net::IpAddr;

use quick_cache::sync::Cache;

/// Downloads that are remembered; beyond them a slice may count once more.
const DOWNLOADS_MAX: usize = 4096;
/// Slices that come within this time of the one before belong together, seconds.
const TOGETHER: u32 = 60;

/// Who has lately taken a slice of what.
#[derive(Debug)]
pub(crate) struct Slices(Cache<(u64, IpAddr), u32>);

impl Default for Slices {
    fn default() -> Self {
        Self(Cache::new(DOWNLOADS_MAX))
    }
}

impl Slices {
    /// True if this slice is the first of a download.
    pub(crate) fn begin(&self, id: u64, client: IpAddr, now: u32) -> bool {
        let before = self.0.get(&(id, client));
        self.0.insert((id, client), now);
        // A clock that jumps back makes no download out of nothing.
        before.is_none_or(|before| now.saturating_sub(before) > TOGETHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_one_client_belong_together_until_it_pauses() {
        let slices = Slices::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(slices.begin(7, one, 1000));
        assert!(!slices.begin(7, one, 1030));
        assert!(!slices.begin(7, one, 1080), "counted from the last slice");
        assert!(slices.begin(7, other, 1080) && slices.begin(8, one, 1080));
        assert!(!slices.begin(7, one, 500), "the clock jumped back");
        assert!(slices.begin(7, one, 561));
    }
}
