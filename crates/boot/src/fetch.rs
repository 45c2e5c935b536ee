//! Files that come through the cache: a URL's body, by whoever owns the cache.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;

/// A body on its way.
#[derive(Debug)]
pub struct Fetched {
    /// Its length in bytes, if it is known beforehand.
    pub length: Option<u64>,
    /// Its bytes.
    pub body: BoxBody<Bytes, io::Error>,
}

/// What a fetch comes to.
pub type Fetching = Pin<Box<dyn Future<Output = io::Result<Fetched>> + Send>>;

/// Fetches URLs; the program implements it over the cache.
pub trait Fetch: Debug + Send + Sync {
    /// Fetches `url`; an answer other than 200 is an error.
    fn fetch(&self, url: &str) -> Fetching;
}
