//! What provisioning needs of the cache: the body of a URL. The program implements it with the
//! proxy; tests and a lone provisioning server go without.

use std::{error::Error as StdError, future::Future, net::IpAddr, pin::Pin};

use http::{Request, Response};

use crate::http::Body;

/// A fetch under way.
pub type Fetching<'a> = Pin<
    Box<dyn Future<Output = Result<Response<Body>, Box<dyn StdError + Send + Sync>>> + Send + 'a>,
>;

/// Gets URLs through the cache.
pub trait Fetch: Send + Sync + 'static {
    /// Answers a GET or HEAD whose URI is absolute (`http` or `https`); `Range` and the `If-…`
    /// fields of the request count. `client` is the machine for which it happens, if any.
    fn fetch(&self, request: Request<()>, client: Option<IpAddr>) -> Fetching<'_>;
}
