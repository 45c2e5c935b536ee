//! One request, understood: everything that decisions need to know of it, worked out once.

use std::sync::Arc;

use http::header::{
    AUTHORIZATION, COOKIE, HeaderMap, IF_MATCH, IF_UNMODIFIED_SINCE, TRANSFER_ENCODING,
};
use http::{Method, Version};
use larder_policy::access::Facts;
use larder_policy::cache_control::CacheControl;
use larder_policy::class::{Class, class};
use larder_policy::freshness::Judgement;
use larder_policy::headers::remove_hop_by_hop;
use larder_policy::key::CacheKey;
use larder_policy::meta::{UnixTime, is_authorized};
use larder_policy::policy::{Naming, Policy};
use larder_policy::range::{self, Spec};
use larder_policy::reason::Pass;
use larder_policy::refresh::RefreshRule;
use larder_policy::url::Url;
use larder_policy::verdict::{OnError, Rules, on_error};
use larder_store::Entry;

use crate::shared::{Inlet, Shared};

/// A request for a resource of some origin.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) version: Version,
    /// Its end-to-end fields: what is for this connection alone is no part of the question, and an
    /// answer that varies by it was not chosen by it (RFC 9110 §7.6.1, RFC 9111 §4.1).
    pub(crate) headers: HeaderMap,
    /// Its framing announces a body.
    pub(crate) has_body: bool,
    pub(crate) url: Url,
    /// Its cache key, and the rule that gave it.
    pub(crate) naming: Naming,
    pub(crate) class: Class,
    pub(crate) control: CacheControl,
    /// The ranges that it asks for.
    pub(crate) ranges: Option<Vec<Spec>>,
    pub(crate) inlet: Arc<Inlet>,
    /// The policy that it began with.
    pub(crate) policy: Arc<Policy>,
    pub(crate) shared: Arc<Shared>,
    /// When it came.
    pub(crate) now: UnixTime,
    /// The same, to tell what happened after it.
    pub(crate) came: std::time::Instant,
    /// `url` is where a redirect led, not what the client asked for.
    pub(crate) redirected: bool,
}

impl Asked {
    /// Counts a delivery of an entry; slices of one download count once.
    pub(crate) fn count(&self, entry: &Entry) {
        match self.ranges {
            Some(_) => self.shared.store.touch_slice(entry, self.inlet.client),
            None => self.shared.store.touch(entry),
        }
    }

    /// Understands a request for `url`.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        inlet: &Arc<Inlet>,
        policy: Arc<Policy>,
        mut request: http::request::Parts,
        url: Url,
    ) -> Self {
        let has_body = has_body(&request.headers);
        remove_hop_by_hop(&mut request.headers);
        let now = UnixTime::from(std::time::SystemTime::now());
        let personal = is_personal(&request.headers, &url);
        let naming = if personal {
            Naming {
                key: CacheKey::of_url(&url),
                rule: None,
            }
        } else {
            let facts = facts(inlet, request.method.as_str(), &url);
            policy.naming(&url, &facts)
        };
        Self {
            class: class(url.path()),
            control: CacheControl::of_request(&request.headers),
            ranges: range::of_request(&request.headers).filter(|_| request.method == Method::GET),
            method: request.method,
            version: request.version,
            headers: request.headers,
            has_body,
            naming,
            url,
            inlet: Arc::clone(inlet),
            policy,
            shared: Arc::clone(shared),
            now,
            came: std::time::Instant::now(),
            redirected: false,
        }
    }

    /// What access rules look at.
    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts {
            configured: self
                .policy
                .routes
                .are_configured(&self.url, self.accelerated()),
            ..facts(&self.inlet, self.method.as_str(), &self.url)
        }
    }

    /// The first refresh rule that matches.
    pub(crate) fn refresh(&self) -> Option<&RefreshRule> {
        self.policy.refresh.rule_for(self.naming.key.subject())
    }

    /// The rules that apply.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules {
            class: self.class,
            refresh: self.refresh(),
            semantics: self.policy.semantics,
            offline: self.policy.offline,
            object_bytes_max: self.policy.object_bytes_max,
        }
    }

    /// The client wants what its origin has now, and the rules let it say so.
    pub(crate) fn is_reload(&self) -> bool {
        let is_unheard = self
            .refresh()
            .is_some_and(|rule| rule.options.ignore_reload);
        self.control.no_cache && !is_unheard
    }

    /// What becomes of this request where the origin could not say whether a copy that was judged
    /// so is still good.
    pub(crate) fn on_error(&self, judged: Judgement, status: Option<u16>) -> OnError {
        on_error(judged, self.class, self.is_reload(), status)
    }

    /// Why the cache has no part in this request, if it has none.
    pub(crate) fn passes(&self) -> Option<Pass> {
        if !matches!(self.method, Method::GET | Method::HEAD) {
            return Some(Pass::Method);
        }
        if self.has_body {
            return Some(Pass::RequestBody);
        }
        if self.control.no_store {
            return Some(Pass::RequestNoStore);
        }
        let is_for_origin =
            self.headers.contains_key(IF_MATCH) || self.headers.contains_key(IF_UNMODIFIED_SINCE);
        // Where no origin is asked, what is held is all there is to judge by.
        if is_for_origin && !self.control.only_if_cached && !self.policy.offline {
            return Some(Pass::Precondition);
        }
        let kept = |list: &larder_policy::access::AccessList| list.decide(&self.facts()).allowed;
        if self
            .policy
            .cache_access
            .as_ref()
            .is_some_and(|list| !kept(list))
        {
            return Some(Pass::Rule);
        }
        None
    }

    /// The answer to it is for this client alone unless its origin says otherwise (RFC 9111 §3.5).
    pub(crate) fn is_authorized(&self) -> bool {
        is_authorized(&self.headers)
    }

    /// The host and port that were asked for, to tell whose failure is whose.
    pub(crate) fn host(&self) -> String {
        self.url.authority().to_string()
    }

    /// The mirror that an accelerated request is for, by name; empty where the site has none.
    pub(crate) fn accelerated(&self) -> Option<&str> {
        accelerated(&self.inlet).filter(|_| !self.redirected)
    }
}

/// The mirror that requests of a listener are for, by name; empty where its site has none.
pub(crate) fn accelerated(inlet: &Inlet) -> Option<&str> {
    match &inlet.mode {
        larder_policy::target::Mode::Forward => None,
        larder_policy::target::Mode::Accelerator(site) => {
            Some(site.mirror.as_deref().unwrap_or_default())
        }
    }
}

/// What access rules look at.
pub(crate) fn facts<'a>(inlet: &'a Inlet, method: &'a str, url: &'a Url) -> Facts<'a> {
    Facts {
        client: inlet.client,
        client_is_self: inlet.client_is_self,
        configured: false,
        method,
        url: Some(url),
        host: url.host(),
        port: url.port(),
        listener_port: inlet.local.port(),
        listener_name: Some(&inlet.listener),
        to: url.host_ip(),
    }
}

/// A request whose answer may be for this client alone: it never reads or fills a store-ID key.
fn is_personal(headers: &HeaderMap, url: &Url) -> bool {
    headers.contains_key(AUTHORIZATION)
        || headers.contains_key(COOKIE)
        || url.query().is_some_and(is_signed)
}

/// Query parameters that carry a signature or a token.
fn is_signed(query: &str) -> bool {
    const SIGNS: [&str; 8] = [
        "x-amz-signature",
        "x-goog-signature",
        "signature",
        "sig",
        "token",
        "access_token",
        "key-pair-id",
        "hmac",
    ];
    query.split('&').any(|pair| {
        let name = pair
            .split('=')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        SIGNS.contains(&name.as_str())
    })
}

/// True if the framing announces a body (RFC 9112 §6.3).
pub(crate) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(http::header::CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() != b"0")
}
