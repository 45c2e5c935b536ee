//! The file operations whose failing the store has to survive, each behind a gate.
//!
//! In a running program the gates are open. A test closes the n-th one, with any error, for every
//! n of a scripted session: so each place where a disk can fail is seen to fail.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which operation fails.
#[derive(Debug)]
struct Plan {
    passed: AtomicU64,
    fail_at: u64,
    /// How many in a row fail from there on.
    failures: u64,
    kind: io::ErrorKind,
}

/// The gates that file operations pass.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    plan: Option<Arc<Plan>>,
}

impl Disk {
    /// Lets `failures` operations fail, beginning with number `fail_at` (from 0).
    pub fn failing(fail_at: u64, failures: u64, kind: io::ErrorKind) -> Self {
        Self {
            plan: Some(Arc::new(Plan {
                passed: AtomicU64::new(0),
                fail_at,
                failures,
                kind,
            })),
        }
    }

    /// How many operations have come to a gate so far.
    pub fn operations(&self) -> u64 {
        self.plan
            .as_ref()
            .map_or(0, |plan| plan.passed.load(Ordering::Relaxed))
    }

    /// Passes a gate, or fails as planned.
    pub(crate) fn pass(&self) -> io::Result<()> {
        let Some(plan) = &self.plan else {
            return Ok(());
        };
        let number = plan.passed.fetch_add(1, Ordering::Relaxed);
        if (plan.fail_at..plan.fail_at.saturating_add(plan.failures)).contains(&number) {
            return Err(plan.kind.into());
        }
        Ok(())
    }
}
