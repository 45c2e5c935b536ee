//! larder's own pages on a listener: how to point clients at it.

use http::header::{ALLOW, CONTENT_LENGTH, HeaderMap, HeaderValue, MAX_FORWARDS};
use http::{Method, Request, Response, StatusCode};
use larder_policy::target::Mode;
use larder_policy::url::{Scheme, Url};

use crate::body::Body;
use crate::record::Outcome;
use crate::reply::{self, Reply};
use crate::shared::Inlet;

/// True if a proxied request names the very listener that it came in by.
pub(crate) fn is_here(url: &Url, inlet: &Inlet) -> bool {
    inlet.mode == Mode::Forward
        && url.scheme() == Scheme::Http
        && url.port() == inlet.local.port()
        && (url.host_ip() == Some(inlet.local.ip().to_canonical())
            || (url.host() == "localhost" && inlet.local.ip().to_canonical().is_loopback()))
}

/// A page by its path; the only one is `/`.
pub(crate) fn page(path: &str, inlet: &Inlet) -> Reply {
    let response = if matches!(path, "/" | "") {
        reply::html_page(StatusCode::OK, help(inlet))
    } else {
        let text = "larder has no page of this name here. The set-up page is at /.";
        reply::page(StatusCode::NOT_FOUND, "Not Found", text)
    };
    Reply::of(response, Outcome::None)
}

/// A TRACE or OPTIONS that goes no further than here (RFC 9110 §7.6.2).
pub(crate) fn is_last<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::TRACE | Method::OPTIONS)
        && forwards_left(request.headers()) == Some(0)
}

/// The number in Max-Forwards, where it is one: digits and nothing else (RFC 9110 §7.6.2); one that
/// is too large counts as the largest that there is.
pub(crate) fn forwards_left(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(MAX_FORWARDS)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The answer to it; a TRACE would reflect credentials and is not done.
pub(crate) fn last(method: &Method) -> Reply {
    if method == Method::OPTIONS {
        return options();
    }
    let text = "This proxy does not reflect requests.";
    let mut response = reply::page(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", text);
    let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS, CONNECT");
    response.headers_mut().insert(ALLOW, allowed);
    Reply::of(response, Outcome::None)
}

/// `OPTIONS *` (RFC 9110 §9.3.7).
pub(crate) fn options() -> Reply {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(
        ALLOW,
        HeaderValue::from_static("GET, HEAD, OPTIONS, CONNECT"),
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    reply::stamp(headers);
    Reply::of(response, Outcome::None)
}

fn help(inlet: &Inlet) -> String {
    let here = format!("http://{}", inlet.local);
    let accelerated = matches!(inlet.mode, Mode::Accelerator(_));
    let lines: &[(&str, String)] = &if accelerated {
        [
            ("Kickstart", format!("url --url={here}/PATH/os/x86_64/")),
            ("Boot line", format!("inst.repo={here}/PATH/os/x86_64/")),
            (
                "dnf, yum (.repo)",
                format!("baseurl={here}/PATH/$releasever/os/$basearch/"),
            ),
            (
                "apt (sources.list)",
                format!("deb {here}/debian stable main"),
            ),
            ("iPXE", format!("kernel {here}/PATH/images/pxeboot/vmlinuz")),
            ("curl", format!("curl -O {here}/PATH/FILE")),
        ]
    } else {
        [
            ("dnf.conf, yum.conf", format!("proxy={here}")),
            (
                "apt (apt.conf.d/01proxy)",
                format!("Acquire::http::Proxy \"{here}\";"),
            ),
            (
                "zypper, pacman, curl",
                format!("export http_proxy={here} https_proxy={here}"),
            ),
            (
                "Kickstart",
                format!("url --url=http://MIRROR/PATH/ --proxy={here}"),
            ),
            ("Boot line", format!("inst.repo={here}/http/MIRROR/PATH/")),
            (
                "iPXE",
                format!("kernel {here}/http/MIRROR/PATH/images/pxeboot/vmlinuz"),
            ),
        ]
    };
    let rows: Vec<String> = lines
        .iter()
        .map(|(who, line)| format!("<tr><th>{who}</th><td><code>{line}</code></td></tr>"))
        .collect();
    let rows = rows.join("\n");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>larder</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:3em auto;max-width:48em;padding:0 1em}}\
         th{{text-align:left;padding-right:2em;font-weight:600}}td,th{{padding:.4em 0;border-bottom:1px solid #ddd}}\
         table{{border-collapse:collapse;width:100%}}</style></head>\n\
         <body><h1>larder</h1>\n<p>This proxy fetches each package once for the whole network. \
         Point your clients at it:</p>\n<table>\n{rows}</table>\n</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_counted_by_digits_alone() {
        // RFC 9110 §7.6.2
        for (text, wanted) in [
            ("0", Some(0)),
            (" 00 ", Some(0)),
            ("7", Some(7)),
            ("18446744073709551616", Some(u64::MAX)),
            ("", None),
            ("+0", None),
            ("-1", None),
            ("0x0", None),
            ("0, 0", None),
            ("0.0", None),
        ] {
            let value = HeaderValue::from_static(text);
            let headers = HeaderMap::from_iter([(MAX_FORWARDS, value)]);
            assert_eq!(forwards_left(&headers), wanted, "{text:?}");
        }
        assert_eq!(forwards_left(&HeaderMap::new()), None);
    }

    #[test]
    fn only_a_trace_or_an_options_goes_no_further() {
        for (method, forwards, wanted) in [
            (Method::TRACE, "0", true),
            (Method::OPTIONS, "0", true),
            (Method::OPTIONS, "1", false),
            (Method::OPTIONS, "none", false),
            (Method::GET, "0", false),
        ] {
            let request = Request::builder()
                .method(&method)
                .header(MAX_FORWARDS, forwards);
            let request = request.body(()).unwrap();
            assert_eq!(is_last(&request), wanted, "{method} {forwards}");
        }
    }
}
