//! Talking to origins: the hops of a route are tried in the order that their health suggests, over
//! pooled connections whose address suits the client that asks.

mod address;
mod dial;
mod error;
mod health;
mod pool;
mod strict_lines;
mod tls;
mod upload;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, MAX_FORWARDS, RANGE, VIA,
};
use http::{Method, Response};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use larder_policy::access::Facts;
use larder_policy::framing::{self, Framing};
use larder_policy::headers::{add_via, keep_first_of_singletons, remove_hop_by_hop};
use larder_policy::meta::{Meta, UnixTime};
use larder_policy::route::{Hop, Routes};
use larder_policy::url::Authority;
use larder_policy::validator::conditional_fields;

use crate::asked::Asked;
use crate::config::Upstream;
use crate::patience::Patience;
use crate::record::Hierarchy;

use address::Address;
pub(crate) use dial::Dialled;
pub(crate) use error::OriginError;
use health::Health;
pub(crate) use pool::Destination;
pub(crate) use pool::Lease;
use pool::Pool;
pub(crate) use upload::Upload;
use upload::while_moving;

/// The body of a request to an origin.
type OutBody = Either<Upload, Empty<Bytes>>;

/// Fields of an installer that say who the machine is; they are for the boot server and never
/// leave the network.
const INSTALLER_FIELDS: [&str; 3] = [
    "x-rhn-provisioning-mac-",
    "x-system-serial-number",
    "x-anaconda-",
];

/// Connections to origins and how they are made.
#[derive(Debug)]
pub(crate) struct Origins {
    config: Upstream,
    pool: Arc<Pool>,
    health: Health,
    tls: Arc<rustls::ClientConfig>,
    /// Our own listeners, which are never dialled.
    own: OnceLock<Vec<SocketAddr>>,
}

/// A request for an origin, before it is addressed.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Upload>,
    /// What is held and asked about: each hop gets the conditions that suit it.
    pub(crate) about: Option<Arc<Meta>>,
    /// It may have reached somebody.
    pub(crate) is_sent: bool,
}

impl Outgoing {
    /// A GET with these fields.
    pub(crate) fn get(headers: HeaderMap) -> Self {
        Self::new(Method::GET, headers, None)
    }

    /// A request as its client sent it.
    pub(crate) fn new(method: Method, headers: HeaderMap, body: Option<Upload>) -> Self {
        Self {
            method,
            headers,
            body,
            about: None,
            is_sent: false,
        }
    }

    /// Asks whether this is still good.
    pub(crate) fn about(self, held: Arc<Meta>) -> Self {
        Self {
            about: Some(held),
            ..self
        }
    }

    /// Puts in the conditions for one hop: an entity tag is for the origin that gave it.
    fn set_conditions(&mut self, url: &str, speaker: &str) {
        if let Some(held) = &self.about {
            for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
                self.headers.remove(name);
            }
            let fields = conditional_fields(held, url, Some(speaker));
            self.headers.extend(fields);
        }
    }

    /// It may be sent again when a connection fails: a safe method, and no body that is gone
    /// (RFC 9110 §9.2.2).
    fn is_repeatable(&self) -> bool {
        let safe = matches!(
            self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
        );
        safe && self.body.is_none()
    }
}

/// An origin's answer, its body still to be read.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) response: Response<Incoming>,
    /// How the end of its body is told.
    pub(crate) framing: Framing,
    pub(crate) lease: Lease,
    /// Who sent it.
    pub(crate) to: Destination,
    /// Whose entity tag it has ([`Fetched::origin`](larder_policy::meta::Fetched::origin)).
    pub(crate) speaker: String,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) mirror: Option<String>,
    pub(crate) request_time: UnixTime,
    pub(crate) response_time: UnixTime,
    /// What its client has left of it.
    pub(crate) patience: Patience,
}

impl Arrived {
    /// The length of the body, where the framing tells.
    pub(crate) fn length(&self) -> Option<u64> {
        hyper::body::Body::size_hint(self.response.body()).exact()
    }

    /// The body was read to its end: the connection may serve again.
    pub(crate) fn finish(self) {
        self.lease.give_back();
    }
}

impl Origins {
    /// Reads the certificate authorities; nothing is dialled yet.
    pub(crate) fn new(config: Upstream) -> Result<Self, tls::TlsError> {
        let tls = tls::client_config(config.ca_file.as_deref())?;
        let pool = Arc::new(Pool::new(config.connections_per_host));
        Ok(Self {
            config,
            pool,
            health: Health::default(),
            tls,
            own: OnceLock::new(),
        })
    }

    /// Says which addresses are our own; called once, when the listeners are bound.
    pub(crate) fn never_dial(&self, own: Vec<SocketAddr>) {
        // A second call has nothing new to say.
        let _ = self.own.set(own);
    }

    /// Bound on a gap within a body.
    pub(crate) fn stall_timeout(&self) -> Duration {
        self.config.stall_timeout
    }

    /// The patience of one who waits from `since` on.
    pub(crate) fn patience(&self, since: Instant) -> Patience {
        Patience::new(since, self.config.patience)
    }

    /// The hops of a request, in the order in which they are tried.
    pub(crate) fn hops<'a>(&self, asked: &'a Asked) -> Vec<Hop<'a>> {
        self.health
            .ordered(all_hops(asked), |hop| Address::of(hop, asked).to)
    }

    /// An origin broke off in mid-body, or stood still.
    pub(crate) fn broke(&self, arrived: &Arrived) {
        self.health.failed(&arrived.to);
    }

    /// A hop did not come to an answer in the time that it had; `is_ill`: that was time enough.
    pub(crate) fn was_late(&self, hop: Hop<'_>, asked: &Asked, is_ill: bool) -> OriginError {
        let to = Address::of(hop, asked).to;
        if is_ill {
            self.health.failed(&to);
        }
        OriginError::Slow(to.authority.to_string())
    }

    /// An origin sent so many bytes of a body in so long.
    pub(crate) fn delivered(&self, arrived: &Arrived, bytes: u64, took: Duration) {
        self.health.delivered(&arrived.to, bytes, took);
    }

    /// Sends a request along its route. The first hop that has an answer wins; of several origins
    /// of a pool, the first that has the file. What cannot be sent twice is sent to the first that is
    /// reached, and to nobody else whatever comes of it (RFC 9110 §9.2.2).
    pub(crate) async fn fetch(
        &self,
        asked: &Asked,
        mut outgoing: Outgoing,
    ) -> Result<Arrived, OriginError> {
        prepare(&mut outgoing.headers, asked);
        let mut failure = OriginError::NoRoute;
        let mut refused = None;
        let to = |hop| Address::of(hop, asked).to;
        let hops = self
            .health
            .take_turn(all_hops(asked), to, self.config.patience);
        let is_repeatable = outgoing.is_repeatable();
        let patience = self.patience(asked.came).or_some_more();
        let mut hops = hops.into_iter();
        while let Some(hop) = hops.next() {
            let limit = patience.before(hops.len());
            match self.timely(hop, asked, &mut outgoing, limit).await {
                Ok(arrived) if !is_repeatable => return Ok(arrived),
                Ok(arrived) if hops.len() == 0 && refused.is_none() => return Ok(arrived),
                Ok(arrived) if !lacks_it(hop, &arrived) => return Ok(arrived),
                Ok(arrived) => refused = refused.or(Some(arrived)),
                Err(error) if outgoing.is_sent && !is_repeatable => return Err(error),
                Err(error) => failure = error,
            }
        }
        refused.ok_or(failure)
    }

    /// One request to one hop.
    pub(crate) async fn ask(
        &self,
        hop: Hop<'_>,
        asked: &Asked,
        mut outgoing: Outgoing,
    ) -> Result<Arrived, OriginError> {
        prepare(&mut outgoing.headers, asked);
        self.timely(hop, asked, &mut outgoing, None).await
    }

    /// One hop, whose health is noted. Where others are left it has less time.
    async fn timely(
        &self,
        hop: Hop<'_>,
        asked: &Asked,
        outgoing: &mut Outgoing,
        limit: Option<Duration>,
    ) -> Result<Arrived, OriginError> {
        let address = Address::of(hop, asked);
        outgoing.set_conditions(asked.url.as_str(), &address.speaker);
        let began = Instant::now();
        let alone = self.config.connect_timeout + self.config.first_byte_timeout;
        // A body takes the time that its client takes for it.
        let limit = outgoing
            .body
            .is_none()
            .then_some(limit.unwrap_or(alone).min(alone));
        let asking = self.over(&address, asked, outgoing);
        let result = match limit {
            None => asking.await,
            Some(limit) => tokio::time::timeout(limit, asking)
                .await
                .unwrap_or_else(|_elapsed| {
                    Err(OriginError::Slow(address.to.authority.to_string()))
                }),
        };
        match &result {
            Ok(_) => self.health.answered(&address.to, began.elapsed()),
            Err(error) if error.is_no_fault_of_origin() => {}
            Err(_) => self.health.failed(&address.to),
        }
        result
    }

    /// One hop: a pooled connection if one suits, else a new one.
    async fn over(
        &self,
        address: &Address,
        asked: &Asked,
        outgoing: &mut Outgoing,
    ) -> Result<Arrived, OriginError> {
        let facts = asked.facts();
        let request_time = crate::lead::now();
        let permitted = |ip: IpAddr| {
            address.configured
                || asked
                    .policy
                    .access
                    .decide(&Facts {
                        to: Some(ip),
                        ..facts
                    })
                    .allowed
        };
        let idle = if outgoing.is_repeatable() {
            self.pool.take(&address.to, permitted)
        } else {
            None
        };
        if let Some(lease) = idle {
            match self
                .send(lease, address, outgoing, (asked, request_time))
                .await
            {
                // It was closed while it lay idle: a new connection is owed to the request.
                Err(error) if error.is_stale_connection() => {}
                result => return result,
            }
        }
        let via = outgoing.headers.get(VIA);
        let dialled = self.dial(address, via, permitted).await?;
        let lease = pool::handshake(&self.pool, address.to.clone(), dialled).await?;
        self.send(lease, address, outgoing, (asked, request_time))
            .await
    }

    async fn send(
        &self,
        mut lease: Lease,
        address: &Address,
        outgoing: &mut Outgoing,
        (asked, request_time): (&Asked, UnixTime),
    ) -> Result<Arrived, OriginError> {
        outgoing.is_sent = true;
        let (request, moved) = address.request(outgoing)?;
        let remote = lease.remote();
        let limit = self.config.first_byte_timeout;
        let answer = while_moving(limit, moved.as_deref(), lease.send(request)).await;
        let response = match answer {
            None => return Err(OriginError::Silent(remote)),
            Some(Err(_cut)) if moved.as_ref().is_some_and(|moved| moved.is_too_large()) => {
                return Err(OriginError::BodyTooLarge);
            }
            Some(Err(_cut)) if moved.is_some_and(|moved| moved.is_broken()) => {
                return Err(OriginError::BodyBroken);
            }
            Some(Err(error)) => return Err(OriginError::of_exchange(error, remote)),
            Some(Ok(response)) => response,
        };
        let mut response = response;
        if response.status().is_informational() || is_unasked(outgoing, &response) {
            return Err(OriginError::Unasked(remote));
        }
        let framing = framing::of_response(response.version(), response.headers())
            .map_err(|why| OriginError::Unframed(remote, why))?;
        if framing == Framing::Chunked {
            // RFC 9112 §6.3: the chunks frame the body, whatever this says.
            response.headers_mut().remove(CONTENT_LENGTH);
        } else if let Some(length) = framing::one_length(response.headers())
            .map_err(|why| OriginError::Unframed(remote, why))?
        {
            let length = HeaderValue::from(length);
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
        keep_first_of_singletons(response.headers_mut());
        address.translate(response.headers_mut());
        let hierarchy = if address.configured {
            Hierarchy::FirstUpParent(remote.ip().to_canonical())
        } else {
            Hierarchy::Direct(remote.ip().to_canonical())
        };
        Ok(Arrived {
            response,
            framing,
            lease,
            to: address.to.clone(),
            speaker: address.speaker.clone(),
            hierarchy,
            mirror: address.mirror.clone(),
            request_time,
            response_time: crate::lead::now(),
            patience: self.patience(asked.came),
        })
    }

    /// A connection for a tunnel: to the authority itself, or by way of a parent.
    pub(crate) async fn tunnel(
        &self,
        routes: &Routes,
        facts: &Facts<'_>,
        authority: &Authority,
        via: Option<&HeaderValue>,
        permitted: impl Fn(IpAddr) -> bool,
    ) -> Result<Dialled, OriginError> {
        let mut failure = OriginError::NoRoute;
        for hop in routes.tunnel_hops(facts) {
            let dialled = match hop {
                Hop::Parent(parent) => self.dial_behind(parent, authority, via).await,
                Hop::Direct => self.dial_plain(authority, &permitted).await,
                Hop::Origin(..) | Hop::Secure => continue,
            };
            match dialled {
                Ok(dialled) => return Ok(dialled),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// True if `address` is one of our own listeners (a wildcard listens on every local address, and
    /// who dials an unspecified address reaches this host).
    fn is_own(&self, address: SocketAddr) -> bool {
        let dialled = address.ip().to_canonical();
        self.own.get().is_some_and(|own| {
            own.iter()
                .filter(|listener| listener.port() == address.port())
                .any(|listener| {
                    let ip = listener.ip().to_canonical();
                    ip == dialled
                        || dialled.is_unspecified()
                        || (ip.is_unspecified() && crate::own_addresses::is_local(dialled))
                })
        })
    }
}

/// All hops of a request; a server that is named by a peer and by the URL is asked once.
fn all_hops(asked: &Asked) -> Vec<Hop<'_>> {
    let routes = &asked.policy.routes;
    let hops = routes.hops(&asked.url, &asked.facts(), asked.accelerated());
    let mut seen = Vec::new();
    let hops = hops.into_iter().filter(|hop| {
        let address = Address::of(*hop, asked);
        let way = address.way();
        let is_new = !seen.contains(&way);
        seen.push(way);
        is_new
    });
    hops.collect()
}

/// The label of the server that a hop of a request leads to ([`Destination::label`]).
pub(crate) fn label(hop: Hop<'_>, asked: &Asked) -> String {
    Address::of(hop, asked).to.label()
}

/// A 304 without a condition, or a part without a range: an answer to another question.
fn is_unasked(outgoing: &Outgoing, response: &Response<Incoming>) -> bool {
    let asked = |names: &[HeaderName]| names.iter().any(|n| outgoing.headers.contains_key(n));
    match response.status().as_u16() {
        304 => !asked(&[IF_NONE_MATCH, IF_MODIFIED_SINCE]),
        206 => !asked(&[RANGE]),
        _ => false,
    }
}

/// An origin of a pool that has not got what another may have: not an answer about the file, but
/// about this server.
fn lacks_it(hop: Hop<'_>, arrived: &Arrived) -> bool {
    let status = arrived.response.status().as_u16();
    matches!(hop, Hop::Origin(..)) && matches!(status, 403 | 404 | 410 | 429 | 500..=599)
}

/// What an origin must not get, and what it must.
fn prepare(headers: &mut HeaderMap, asked: &Asked) {
    remove_hop_by_hop(headers);
    headers.remove(HOST);
    headers.remove(EXPECT);
    if matches!(asked.method, Method::TRACE | Method::OPTIONS)
        && let Some(left) = crate::own::forwards_left(headers)
    {
        headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
    let private: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            INSTALLER_FIELDS
                .iter()
                .any(|start| name.as_str().starts_with(start))
        })
        .cloned()
        .collect();
    for name in private {
        headers.remove(name);
    }
    add_via(headers, asked.version, &asked.shared.name);
}
