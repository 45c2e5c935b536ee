//! A client's share of places: whoever asks for all leaves enough for the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// One address has this part of all places at most. Behind one address there may be a room of machines.
const PART: usize = 4;

/// How many places each address holds; an address without any is forgotten.
#[derive(Debug)]
pub(crate) struct Shares {
    each: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// A place of a client's share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    /// Shares of so many places in all.
    pub(crate) fn of(places: usize) -> Arc<Self> {
        Arc::new(Self {
            each: places.div_ceil(PART),
            held: Mutex::default(),
        })
    }

    /// A place for a client; none if it has its share.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        if self.each == 0 {
            // Addresses that get nothing are not remembered: anybody can make them up.
            return None;
        }
        let client = client.to_canonical();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let places = held.entry(client).or_default();
        if *places >= self.each {
            return None;
        }
        *places += 1;
        let shares = Arc::clone(self);
        Some(Share { shares, client })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let held = self.shares.held.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = held.get_mut(&self.client) {
            *places -= 1;
            if *places == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_place_nobody_is_remembered() {
        let shares = Shares::of(0);
        for last in 0..=255 {
            assert!(shares.take(IpAddr::from([10, 0, 0, last])).is_none());
        }
        assert!(shares.held.lock().unwrap().is_empty());
    }

    #[test]
    fn one_address_has_its_part_and_gets_it_back() {
        let shares = Shares::of(8);
        let (greedy, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut taken: Vec<Share> = (0..2).filter_map(|_| shares.take(greedy)).collect();
        assert_eq!(taken.len(), 2);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert!(
            shares.take(mapped).is_none(),
            "the same address in IPv6's spelling"
        );
        assert!(shares.take(other).is_some());
        taken.pop();
        assert!(shares.take(greedy).is_some());
        drop(taken);
        assert!(shares.held.lock().unwrap().is_empty());
        assert!(
            Shares::of(1).take(greedy).is_some(),
            "nobody is left without any"
        );
    }
}
