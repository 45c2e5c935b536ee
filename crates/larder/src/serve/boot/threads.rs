//! The threads of network boot: few, and first in line where larder may say so.
//!
//! A hundred machines that draw their kernels keep every processor busy, and scripts are then a small part
//! of the work. The kernel gives threads of a lower nice level their turn sooner; what they do is small, so
//! the transfers lose nothing by it. Raising oneself needs a right: `LimitNICE=` of the unit, or
//! CAP_SYS_NICE. Under a system call filter the capability alone says nothing: common filters end a
//! process that calls `setpriority`, so that only the limit, which somebody set on purpose, counts there.

use std::io;

use rustix::process::{Resource, getpriority_process, getrlimit, setpriority_process};
use tokio::runtime::{Builder, Runtime};

/// Scripts and DHCP answers are small; two of them may be worked on at a time.
const THREADS: usize = 2;
/// How many levels they go before the threads of the proxy: about three turns to one.
const LEVELS: i32 = 5;
/// Bit of the capability to lower a nice level (linux/capability.h).
const CAP_SYS_NICE: u32 = 23;

/// Starts the threads.
///
/// # Errors
/// Where the system gives no thread.
pub(super) fn start() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(THREADS).enable_all();
    builder.thread_name("larder-boot");
    // A thread begins at the level of the one that starts it, which may be one of these.
    if let Some(level) = first_in_line() {
        builder.on_thread_start(move || {
            if let Err(error) = setpriority_process(None, level) {
                tracing::debug!(%error, "network boot waits its turn like the rest");
            }
        });
    }
    builder.build()
}

/// The nice level of the threads, if larder may choose it.
fn first_in_line() -> Option<i32> {
    let level = getpriority_process(None).ok()?.saturating_sub(LEVELS);
    // getrlimit(2): the limit stands for the level 20 - limit.
    let lowest = getrlimit(Resource::Nice).current.unwrap_or(u64::MAX);
    let is_granted = i128::from(level) >= 20 - i128::from(lowest);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    (is_granted || is_capable(&status)).then_some(level)
}

/// Whether the process has the capability and no filter of system calls (proc(5), `/proc/pid/status`).
fn is_capable(status: &str) -> bool {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let capabilities = field("CapEff:").and_then(|bits| u64::from_str_radix(bits, 16).ok());
    capabilities.is_some_and(|bits| bits >> CAP_SYS_NICE & 1 == 1) && field("Seccomp:") == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_counts_where_no_system_call_is_filtered() {
        let status = |bits, filter| format!("Name:\tlarder\nCapEff:\t{bits}\nSeccomp:\t{filter}\n");
        assert!(is_capable(&status("0000000000800000", 0)));
        assert!(!is_capable(&status("0000000000800000", 2)));
        assert!(!is_capable(&status("0000000000000400", 0)));
        assert!(!is_capable(""));
    }

    #[test]
    fn scripts_go_before_kernels_where_that_is_allowed() {
        let ours = getpriority_process(None).unwrap();
        let expected = first_in_line().map_or(ours, |level| level.max(-20));
        let threads = start().unwrap();
        let theirs = || getpriority_process(None).unwrap();
        let worker = threads.block_on(threads.spawn(async move { theirs() }));
        assert_eq!(worker.unwrap(), expected);
        // Threads that a worker starts for the disk are no further before.
        let disk = threads.spawn(async move { tokio::task::spawn_blocking(theirs).await.unwrap() });
        assert_eq!(threads.block_on(disk).unwrap(), expected);
        assert_eq!(theirs(), ours, "and nobody else is moved");
    }
}
