//! What follows from policy: before a fetch ([`before_fetch`]) and after its head came
//! ([`after_fetch`]).

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, DATE, EXPIRES, HeaderMap,
    HeaderValue, SET_COOKIE,
};
use http_cache_semantics::{CacheOptions, CachePolicy};

use crate::cache_control::{CacheControl, split_outside_quotes};
use crate::class::Class;
use crate::freshness::{self, Judgement};
use crate::key::CacheKey;
use crate::meta::{Fetched, Meta, UnixTime, selecting_fields, vary_names};
use crate::part::Span;
use crate::policy::Semantics;
use crate::reason::{Ask, NotStored};
use crate::refresh::{self, Admission, RefreshRule, RevalidateBecause, SquidVerdict};
use crate::url::Url;

/// Squid's `negative_ttl` where nothing is said, seconds: errors are not kept.
const NEGATIVE_TTL: i64 = 0;

/// What a request needs to know of the rules that apply to it.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The class of the file asked for.
    pub class: Class,
    /// The first refresh rule that matches.
    pub refresh: Option<&'a RefreshRule>,
    /// Whose rules decide.
    pub semantics: Semantics,
    /// Nothing is asked upstream.
    pub offline: bool,
    /// Larger bodies are not kept, bytes.
    pub object_bytes_max: u64,
}

/// What to do with a GET or HEAD, given what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeforeFetch {
    /// Use what is held.
    Hit(Judgement),
    /// Ask the origin whether it is still good.
    Revalidate(Ask, Judgement),
    /// Use what is held though it is stale, and ask the origin meanwhile (RFC 5861 §3).
    HitWhileAsking(Judgement),
    /// Fetch it.
    Miss,
    /// 504: the client wants only what is held (RFC 9111 §5.2.1.7).
    OnlyIfCached,
    /// Use what is held, however stale: nothing is asked upstream.
    OfflineHit(Judgement),
    /// 504: nothing is held and nothing is asked upstream.
    OfflineMiss,
}

/// Decides before anything is fetched.
pub fn before_fetch(
    control: &CacheControl,
    held: Option<&Meta>,
    rules: Rules<'_>,
    now: UnixTime,
) -> BeforeFetch {
    let Some(meta) = held else {
        return match (rules.offline, control.only_if_cached) {
            (true, _) => BeforeFetch::OfflineMiss,
            (false, true) => BeforeFetch::OnlyIfCached,
            (false, false) => BeforeFetch::Miss,
        };
    };
    let judged = freshness::judge(
        meta,
        rules.class,
        rules.refresh,
        rules.semantics,
        control,
        now,
    );
    if rules.offline {
        return if judged.is_fresh() {
            BeforeFetch::Hit(judged)
        } else {
            BeforeFetch::OfflineHit(judged)
        };
    }
    if rules.semantics == Semantics::Squid {
        return by_squid(control, meta, judged, rules, now);
    }
    match ask(control, judged, rules.refresh) {
        None => BeforeFetch::Hit(judged),
        Some(_) if control.only_if_cached => BeforeFetch::OnlyIfCached,
        Some(Ask::Stale) if may_ask_meanwhile(meta, judged) => BeforeFetch::HitWhileAsking(judged),
        Some(why) => BeforeFetch::Revalidate(why, judged),
    }
}

/// Squid's order of steps, the client's words among them, and no other.
fn by_squid(
    control: &CacheControl,
    meta: &Meta,
    judged: Judgement,
    rules: Rules<'_>,
    now: UnixTime,
) -> BeforeFetch {
    use RevalidateBecause::{Always, ClientMaxAge, RefreshIms, ReloadIntoIms};
    match refresh::squid(meta, rules.refresh, control, now) {
        SquidVerdict::Use(_) => BeforeFetch::Hit(judged),
        _ if control.only_if_cached => BeforeFetch::OnlyIfCached,
        SquidVerdict::Revalidate(Always) => BeforeFetch::Revalidate(Ask::Always, judged),
        // A reload asks with the condition that Squid leaves out: the client gets the same bytes.
        SquidVerdict::Reload
        | SquidVerdict::Revalidate(ClientMaxAge | RefreshIms | ReloadIntoIms) => {
            BeforeFetch::Revalidate(Ask::Client, judged)
        }
        SquidVerdict::Revalidate(_) => BeforeFetch::Revalidate(Ask::Stale, judged),
    }
}

/// RFC 5861 §3: the origin lets a stale answer be used while it is asked, for so many seconds.
fn may_ask_meanwhile(meta: &Meta, judged: Judgement) -> bool {
    let allowed = meta.inputs().control.stale_while_revalidate.unwrap_or(0);
    let staleness = judged.ttl().saturating_neg();
    !judged.strict && i64::try_from(allowed).is_ok_and(|allowed| staleness < allowed)
}

/// Why the origin is asked first, if it is: the client's directives (RFC 9111 §5.2.1), then the
/// entry's own state. `ignore-reload` leaves no-cache and max-age=0 unheard.
fn ask(control: &CacheControl, judged: Judgement, rule: Option<&RefreshRule>) -> Option<Ask> {
    let ignore_reload = rule.is_some_and(|rule| rule.options.ignore_reload);
    if !ignore_reload {
        let too_old = control
            .max_age
            .and_then(|wanted| i64::try_from(wanted).ok())
            .is_some_and(|wanted| judged.age > wanted || wanted == 0);
        if control.no_cache || too_old {
            return Some(Ask::Client);
        }
    }
    if control.if_modified_since && rule.is_some_and(|rule| rule.options.refresh_ims) {
        return Some(Ask::Client);
    }
    if judged.always_ask {
        return Some(Ask::Always);
    }
    let min_fresh = control
        .min_fresh
        .and_then(|n| i64::try_from(n).ok())
        .unwrap_or(0);
    if judged.is_fresh() {
        return (judged.ttl() < min_fresh).then_some(Ask::Client);
    }
    let staleness = judged.ttl().saturating_neg();
    match control.max_stale.and_then(|n| i64::try_from(n).ok()) {
        Some(allowed) if !judged.strict && staleness <= allowed => None,
        _ => Some(Ask::Stale),
    }
}

/// What the origin answered, as far as keeping it is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its end-to-end fields.
    pub headers: &'a HeaderMap,
    /// Its length, where the framing tells.
    pub length: Option<u64>,
}

/// What to do with an answer.
#[derive(Clone, Debug)]
pub enum AfterFetch {
    /// Keep it under this key.
    Store(Box<Meta>, CacheKey),
    /// Hand it on and keep nothing.
    PassThrough(NotStored),
}

/// Decides when the head of an answer to a GET came. `request` are the fields that were asked
/// with, `key` the key that was looked up (a variant's base is taken).
pub fn after_fetch(
    answer: Answer<'_>,
    request: &HeaderMap,
    key: &CacheKey,
    mut fetched: Fetched,
    rules: Rules<'_>,
) -> AfterFetch {
    if let Some(why) = refusal(answer, key, &fetched, rules) {
        return AfterFetch::PassThrough(why);
    }
    let names = varying(answer.headers, rules.class);
    fetched.vary = selecting_fields(&names, request);
    let base = if answer.status == 200 || !key.is_store_id() {
        key.base()
    } else {
        // That one mirror has not got a file says nothing about the others.
        match Url::parse(&fetched.url) {
            Ok(url) => CacheKey::of_url(&url),
            Err(_) => return AfterFetch::PassThrough(NotStored::Status),
        }
    };
    let key = if names.is_empty() {
        base
    } else {
        base.with_variant(&fetched.vary)
    };
    let mut headers = answer.headers.clone();
    // A cookie is for the client that caused it, never for the next one.
    headers.remove(SET_COOKIE);
    if !headers.contains_key(DATE)
        && let Ok(value) = HeaderValue::from_str(&fetched.response_time.to_http_date())
    {
        headers.insert(DATE, value);
    }
    let meta = Meta::new(answer.status, headers, fetched);
    if rules.semantics == Semantics::Squid {
        let now = meta.inputs().response_time;
        if refresh::admits(&meta, rules.refresh, NEGATIVE_TTL, now) == Admission::Refuse {
            return AfterFetch::PassThrough(NotStored::Status);
        }
    } else if is_useless(&meta, rules) {
        return AfterFetch::PassThrough(NotStored::Useless);
    }
    AfterFetch::Store(Box::new(meta), key)
}

/// What becomes of an entry that a 304 has given a new head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterConfirmation {
    /// It is kept with that head.
    Renewed,
    /// It stays as it was: the head is for one client (RFC 9111 §3.5).
    Untouched,
    /// It may not be kept any more, or not under its key (RFC 9111 §3, §4.1).
    Gone,
}

/// Judges the head that a 304 has given an entry of `length` bytes, held under `key`; `request` are
/// the fields that were asked with.
pub fn after_confirmation(
    meta: &Meta,
    length: u64,
    request: &HeaderMap,
    key: &CacheKey,
    rules: Rules<'_>,
) -> AfterConfirmation {
    let answer = Answer {
        status: meta.status(),
        headers: meta.headers(),
        length: Some(length),
    };
    match after_fetch(answer, request, key, meta.fetched(), rules) {
        AfterFetch::Store(found, other) if other != *key => {
            // One that names fewer fields takes nothing back.
            let held = meta.vary();
            let is_among = |name: &String| held.iter().any(|(field, _)| field == name);
            let mut named = found.vary().iter().map(|(name, _)| name);
            if named.all(is_among) {
                AfterConfirmation::Renewed
            } else {
                AfterConfirmation::Gone
            }
        }
        AfterFetch::PassThrough(NotStored::NoStore | NotStored::Private | NotStored::VaryStar) => {
            AfterConfirmation::Gone
        }
        AfterFetch::PassThrough(NotStored::Authorization) => AfterConfirmation::Untouched,
        // What else was let in once stays.
        AfterFetch::Store(..) | AfterFetch::PassThrough(_) => AfterConfirmation::Renewed,
    }
}

/// RFC 9111 §3 with what the operator's rules and the class add to it.
fn refusal(
    answer: Answer<'_>,
    key: &CacheKey,
    fetched: &Fetched,
    rules: Rules<'_>,
) -> Option<NotStored> {
    let control = CacheControl::of_response(answer.headers);
    let options = rules.refresh.map(|rule| &rule.options);
    let by_squid = rules.semantics == Semantics::Squid;
    if answer.status == 206 || names_a_part(answer) {
        return Some(NotStored::Partial);
    }
    if key.is_store_id() && !matches!(answer.status, 200 | 404 | 410) {
        return Some(NotStored::Status);
    }
    let forbidden = if by_squid {
        control.no_store
    } else {
        forbids_storing(&control, answer.status)
    };
    if forbidden && !options.is_some_and(|o| o.ignore_no_store) {
        return Some(NotStored::NoStore);
    }
    if control.private && !options.is_some_and(|o| o.ignore_private) {
        return Some(NotStored::Private);
    }
    if vary_names(answer.headers).iter().any(|name| name == "*") {
        return Some(NotStored::VaryStar);
    }
    if answer
        .length
        .is_some_and(|length| length > rules.object_bytes_max)
    {
        return Some(NotStored::TooLarge);
    }
    if by_squid {
        // What is left is asked of the whole answer: see `refresh::admits`.
        return None;
    }
    let page = answer
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.to_ascii_lowercase().starts_with("text/html"));
    if rules.class == Class::Immutable && answer.status == 200 && page {
        return Some(NotStored::NotAPackage);
    }
    // The operator's word or the class admit a whole 200; anything else is the RFC's to admit.
    let lasting = options.is_some_and(|options| options.store_stale)
        && matches!(answer.status, 200 | 203 | 300 | 301 | 308 | 410);
    let admitted =
        lasting || (answer.status == 200 && (options.is_some() || rules.class == Class::Immutable));
    if fetched.authorized || !admitted {
        return (!rfc_admits(answer, fetched)).then_some(if fetched.authorized {
            NotStored::Authorization
        } else {
            NotStored::Rfc9111
        });
    }
    None
}

/// A Content-Range has no meaning but in a 206 and a 416 (RFC 9110 §14.4); an origin that names a part
/// of a body all the same may have sent just that.
fn names_a_part(answer: Answer<'_>) -> bool {
    let named = answer.headers.get_all(CONTENT_RANGE);
    let is_of_bytes = named.iter().any(|value| {
        let text = value.as_bytes().trim_ascii_start();
        text.get(..5)
            .is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes"))
    });
    let is_whole = Span::of(answer.headers).is_some_and(|span| {
        (span.start, span.end) == (0, span.length) && answer.length == Some(span.length)
    });
    is_of_bytes && !is_whole
}

/// no-store; with must-understand the status decides instead: one that larder does not understand
/// is not kept, and for others no-store does not count (RFC 9111 §5.2.2.3).
fn forbids_storing(control: &CacheControl, status: u16) -> bool {
    if control.must_understand {
        !freshness::heuristic_status(status)
    } else {
        control.no_store
    }
}

/// The status by which the oracle judges. It refuses those that it does not know even where the
/// origin says how long they live; RFC 9111 §3 lets a cache keep any final status then, since a
/// cache need not understand more of it. Not so answers about this client or this exchange, nor a
/// server's trouble, which would take a good copy's place.
fn oracle_status(answer: Answer<'_>) -> u16 {
    let control = CacheControl::of_response(answer.headers);
    let told = control.s_maxage.or(control.max_age).is_some()
        || control.public
        || answer.headers.contains_key(EXPIRES);
    match answer.status {
        206 | 304 | 401 | 407 | 416 | 500 | 502..=599 => answer.status,
        200..=499 | 501 if told => 200,
        status => status,
    }
}

/// http-cache-semantics as the oracle of RFC 9111 §3, on a synthetic request that carries
/// no client's secrets. Age is clamped first: a huge one makes the crate panic.
fn rfc_admits(answer: Answer<'_>, fetched: &Fetched) -> bool {
    let mut request = http::Request::builder()
        .method("GET")
        .uri("http://larder.invalid/");
    request = request.header("host", "larder.invalid");
    if fetched.authorized {
        request = request.header("authorization", "x");
    }
    let Ok(request) = request.body(()) else {
        return false;
    };
    let mut response = http::Response::new(());
    let Ok(status) = http::StatusCode::from_u16(oracle_status(answer)) else {
        return false;
    };
    *response.status_mut() = status;
    *response.headers_mut() = answer.headers.clone();
    response.headers_mut().remove(AGE);
    response.headers_mut().remove(SET_COOKIE);
    if CacheControl::of_response(answer.headers).must_understand {
        // Judged above; the oracle knows no-store only.
        let rest = without_no_store(answer.headers);
        response.headers_mut().insert(CACHE_CONTROL, rest);
    }
    let options = CacheOptions {
        shared: true,
        ..CacheOptions::default()
    };
    CachePolicy::new_options(&request, &response, fetched.response_time.into(), options)
        .is_storable()
}

/// All Cache-Control directives but no-store, as one line.
fn without_no_store(headers: &HeaderMap) -> HeaderValue {
    let lines: Vec<String> = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let text = lines.join(", ");
    let kept: Vec<&str> = split_outside_quotes(&text)
        .into_iter()
        .filter(|directive| !directive.trim().eq_ignore_ascii_case("no-store"))
        .collect();
    HeaderValue::from_str(&kept.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// The selecting fields that count. A package or image that is not encoded is the same bytes for
/// every client, whatever encodings it accepts (RFC 9110 §12.5.3: identity is acceptable), so that
/// `Vary: Accept-Encoding` does not split it.
fn varying(headers: &HeaderMap, class: Class) -> Vec<String> {
    let plain = class.is_package() && !headers.contains_key(CONTENT_ENCODING);
    vary_names(headers)
        .into_iter()
        .filter(|name| !(plain && name == "accept-encoding"))
        .collect()
}

/// Neither fresh for a second nor a validator to ask with, and no rule that wants it all the same
/// (`store-stale`).
fn is_useless(meta: &Meta, rules: Rules<'_>) -> bool {
    if rules.refresh.is_some_and(|rule| rule.options.store_stale) {
        return false;
    }
    let judged = freshness::judge(
        meta,
        rules.class,
        rules.refresh,
        rules.semantics,
        &CacheControl::default(),
        meta.inputs().response_time,
    );
    let validator = meta.etag().is_some() || meta.inputs().last_modified.is_some();
    (judged.lifetime <= 0 || judged.always_ask) && !validator
}

/// True if a request's selecting fields equal those of a stored response (RFC 9111 §4.1).
pub fn selects(request: &HeaderMap, meta: &Meta) -> bool {
    meta.vary().iter().all(|(name, held)| {
        let asked = selecting_fields(std::slice::from_ref(name), request);
        asked.first().is_some_and(|(_, value)| value == held)
    })
}

/// What to do when the origin could not say whether an entry is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Use what is held.
    ServeStale,
    /// Pass the error on.
    PassOn,
}

/// Judges a failed revalidation: no answer (`None`), or a status other than 200 and 304. A copy
/// that may not be used stale, or not that stale, is not (RFC 9111 §4.2.4); one mirror's 404 costs
/// nobody the copy of an immutable file.
///
/// `reload`: the client wants no copy that its origin has not confirmed (RFC 9111 §5.2.1.4). An
/// answer of the origin is then the client's, be it an error. Where there is none, a package manager
/// that reloads a repository's root each time (dnf's `Pragma: no-cache`) is not to be left without
/// the repository: of files that it checks by digest and signature the copy is used, as a cache may
/// that is disconnected (§4.2.4). Any other client hears of the failure.
pub fn on_error(judged: Judgement, class: Class, reload: bool, status: Option<u16>) -> OnError {
    let serve = match status {
        _ if judged.outlasted || (judged.strict && class != Class::Immutable) => false,
        None if reload => class != Class::Other,
        Some(500..=599) if reload => false,
        None | Some(500..=599) => true,
        Some(_) => class == Class::Immutable,
    };
    if serve {
        OnError::ServeStale
    } else {
        OnError::PassOn
    }
}

#[cfg(test)]
mod tests;
