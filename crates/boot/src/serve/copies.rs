//! Bodies that come through the cache, shared by the transfers of one moment.
//!
//! A room of machines that starts at once fetches a file once. A copy serves for ten seconds from its
//! arrival, then the cache is asked whether it is fresh. A failure is shared for a second, so that those who
//! waited do not each ask the origin again.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OnceCell;

/// How long a body serves further transfers.
const COPY_FOR: Duration = Duration::from_secs(10);

/// How long a failure does.
const FAILURE_FOR: Duration = Duration::from_secs(1);

/// A body that one transfer fetches and others wait for, or why it did not come.
#[derive(Debug, Default)]
struct Copy {
    body: OnceCell<Result<Bytes, String>>,
    arrived: OnceLock<Instant>,
}

impl Copy {
    /// Tells whether it serves no longer; one under way always does.
    fn is_old(&self, now: Instant) -> bool {
        let serves = match self.body.get() {
            Some(Err(_)) => FAILURE_FOR,
            Some(Ok(_)) | None => COPY_FOR,
        };
        let arrived = self.arrived.get();
        arrived.is_some_and(|arrived| now.saturating_duration_since(*arrived) >= serves)
    }
}

/// Copies by their URLs.
#[derive(Debug, Default)]
pub struct Copies(Mutex<HashMap<String, Arc<Copy>>>);

impl Copies {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Copy>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of `url`, by `fetch` if nobody has it.
    ///
    /// # Errors
    /// What the fetch says, to all who waited for it.
    ///
    /// # Cancel safety
    /// Safe: if the one who fetches goes away, another of those who wait fetches anew.
    pub async fn get(
        &self,
        url: &str,
        fetch: impl Future<Output = io::Result<Bytes>>,
    ) -> io::Result<Bytes> {
        self.forget_old(Instant::now());
        let copy = Arc::clone(self.lock().entry(url.to_owned()).or_default());
        let fetched = async {
            let fetched = fetch.await.map_err(|error| error.to_string());
            let _first = copy.arrived.set(Instant::now());
            fetched
        };
        let body = copy.body.get_or_init(|| fetched).await;
        body.clone().map_err(io::Error::other)
    }

    /// Gives the memory of old copies back; transfers under way keep theirs.
    pub fn forget_old(&self, now: Instant) {
        self.lock().retain(|_, copy| !copy.is_old(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(copies: &Copies, text: &'static str) -> Result<Bytes, String> {
        let fetched = async { Ok(Bytes::from_static(text.as_bytes())) };
        let body = copies.get("u", fetched).await;
        body.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_copy_serves_from_its_arrival_and_is_then_forgotten() {
        let copies = Copies::default();
        assert_eq!(body(&copies, "first").await.unwrap(), "first");
        assert_eq!(body(&copies, "second").await.unwrap(), "first");
        copies.forget_old(Instant::now() + COPY_FOR);
        assert!(copies.lock().is_empty(), "its memory is given back");
        assert_eq!(body(&copies, "third").await.unwrap(), "third");
    }

    #[tokio::test]
    async fn a_body_under_way_is_waited_for_however_long_it_takes() {
        let copies = Copies::default();
        let (send, receive) = tokio::sync::oneshot::channel();
        let slow = async { receive.await.map_err(io::Error::other) };
        let first = copies.get("u", slow);
        let second = async {
            copies.forget_old(Instant::now() + COPY_FOR * 9);
            send.send(Bytes::from_static(b"slow")).unwrap();
            body(&copies, "asked the origin again").await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(
            (first.unwrap(), second.unwrap()),
            ("slow".into(), "slow".into())
        );
    }

    #[tokio::test]
    async fn a_failure_is_shared_for_a_second() {
        // On a busy machine that second may be over before it is looked at.
        for _ in 0..20 {
            let copies = Copies::default();
            let failing = async { Err(io::Error::other("answered 404")) };
            assert!(copies.get("u", failing).await.is_err());
            let Err(told) = body(&copies, "new").await else {
                continue;
            };
            assert_eq!(told, "answered 404");
            copies.forget_old(Instant::now() + FAILURE_FOR);
            assert_eq!(body(&copies, "new").await.unwrap(), "new");
            return;
        }
        panic!("a failure is not shared");
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_fetch_to_the_next() {
        let copies = Copies::default();
        let never = copies.get("u", std::future::pending());
        let gone = tokio::time::timeout(Duration::from_millis(1), never).await;
        assert!(gone.is_err());
        assert_eq!(body(&copies, "next").await.unwrap(), "next");
    }
}
