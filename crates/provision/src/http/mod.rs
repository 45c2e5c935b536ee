//! One HTTP request's story: path → endpoint → labels → group → profile → bytes.
//!
//! Any method is answered, as matchbox does, but for the one endpoint that changes something. The
//! path is taken apart once, here; what each endpoint says is in the files below. Whatever may wait for
//! a disk does it on threads of its own: a data directory that hangs keeps nobody from a DHCP answer.

mod asked;
mod assets;
mod content;
mod endpoints;
mod metadata;
mod path;
mod reply;
mod scripts;
mod sniff;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;

pub use self::reply::Body;
use self::{
    asked::Asked,
    path::{Endpoint, Route},
};
use crate::{Provision, machines::Step, reason::Reason, sign::Form};

/// Answers one request.
pub(crate) async fn answer<B>(
    provision: &Arc<Provision>,
    request: &Request<B>,
    client: SocketAddr,
) -> Response<Body> {
    let (endpoint, form) = match path::route(request.uri(), provision) {
        Route::Moved(location) => return reply::moved(&location),
        Route::To(endpoint) => (endpoint, None),
        Route::Signed(endpoint, form) => (endpoint, Some(form)),
    };
    // A socket of both families says `::ffff:10.0.0.9` of a machine that DHCP knows as 10.0.0.9.
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let asked = Asked::new(request, &endpoint, provision, client);
    let asked = Arc::new(asked.identified(provision).await);
    tracing::debug!(method = %asked.method, uri = %request.uri(), %client, "provision request");
    let answered = endpoints::answer(provision, &endpoint, &asked).await;
    remember(provision, &endpoint, &asked, answered.as_ref().err());
    match (answered, form) {
        (Ok(response), Some(form)) => signed(provision, response, form).await,
        (Ok(response), None) => response,
        (Err(reason), _) => refusal(&endpoint, &reason),
    }
}

/// The page for a refusal; its cause is in the log, in a header and in the machine's timeline.
fn refusal(endpoint: &Endpoint, reason: &Reason) -> Response<Body> {
    let response = match reason {
        Reason::NoMachine => reply::refused(StatusCode::BAD_REQUEST, "400 no machine\n", reason),
        Reason::NotExpected(_) => {
            reply::refused(StatusCode::CONFLICT, "409 not installing\n", reason)
        }
        Reason::NotRecorded(_) => reply::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "500 not recorded\n",
            reason,
        ),
        Reason::BrokenOff => reply::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "500 internal server error\n",
            reason,
        ),
        Reason::Method(_) => reply::refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "405 method not allowed\n",
            reason,
        ),
        Reason::Unreadable(_) => reply::refused(StatusCode::FORBIDDEN, "403 Forbidden\n", reason),
        Reason::ForeignUrl(_) => reply::refused(StatusCode::FORBIDDEN, "403 forbidden\n", reason),
        Reason::Fetch { .. } => {
            reply::refused(StatusCode::BAD_GATEWAY, "502 bad gateway\n", reason)
        }
        _ => reply::not_found(reason),
    };
    match endpoint {
        Endpoint::Kickstart { .. } => reply::never_cached(response),
        _ => response,
    }
}

/// Logs a refusal and adds the request to its machine's timeline.
fn remember(provision: &Provision, endpoint: &Endpoint, asked: &Asked, refused: Option<&Reason>) {
    if let Some(reason) = refused {
        tracing::info!(endpoint = endpoint.name(), client = %asked.client, "refused: {reason}");
    }
    let Some(mac) = asked.machine(provision) else {
        return;
    };
    let address = Some(asked.client.ip());
    match (refused, endpoint.step()) {
        (Some(reason), _) => {
            let detail = format!("{}: {reason}", endpoint.name());
            provision
                .machines
                .observe(&mac, address, Step::Refused, &detail);
        }
        (None, Some(step)) => {
            provision
                .machines
                .observe(&mac, address, step, &endpoint.name());
        }
        (None, None) => {}
    }
}

/// The signature of what an endpoint answers, in the place of the answer.
async fn signed(
    provision: &Arc<Provision>,
    response: Response<Body>,
    form: Form,
) -> Response<Body> {
    let content = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return reply::not_found(&Reason::Signing(error.to_string())),
    };
    let signature = provision.on_disk(move |p| match &p.signer {
        Some(signer) => signer.sign(&content, form).map_err(Reason::Signing),
        None => Err(Reason::NoKey),
    });
    match signature.await {
        Ok(signature) => {
            let mut response = reply::text(Bytes::from(signature));
            if form == Form::Binary {
                let binary = HeaderValue::from_static("application/octet-stream");
                response.headers_mut().insert(CONTENT_TYPE, binary);
            }
            response
        }
        Err(reason) => reply::not_found(&reason),
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use crate::{Config, Provision};

    use super::*;

    async fn status(provision: Arc<Provision>, path: &'static str) -> StatusCode {
        let client = SocketAddr::from(([192, 0, 2, 7], 4711));
        let request = Request::get(path).body(()).unwrap();
        answer(&provision, &request, client).await.status()
    }

    #[tokio::test]
    async fn a_disk_that_hangs_keeps_only_those_waiting_who_ask_for_files() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            data: directory.path().to_owned(),
            assets: None,
            ..Config::default()
        };
        let provision = Provision::open(config, None).unwrap();
        let ask = |path| status(Arc::clone(&provision), path);
        let (told, hanging) = std::sync::mpsc::channel();
        let (done, release) = std::sync::mpsc::channel::<()>();
        let disk = Arc::clone(&provision);
        let held = std::thread::spawn(move || {
            let _hanging = disk.library().hanging();
            told.send(()).unwrap();
            release.recv().unwrap();
        });
        hanging.recv().unwrap();
        let waiting = tokio::spawn(ask("/ipxe?mac=52-54-00-00-00-01"));
        tokio::task::yield_now().await;
        assert_eq!(ask("/boot.ipxe").await, StatusCode::OK);
        assert!(!waiting.is_finished());
        done.send(()).unwrap();
        assert_eq!(waiting.await.unwrap(), StatusCode::NOT_FOUND);
        held.join().unwrap();
    }

    #[tokio::test]
    async fn assets_that_hang_keep_nobody_from_boot_scripts() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("k"), "kernel").unwrap();
        let config = Config {
            data: directory.path().to_owned(),
            assets: Some(directory.path().to_owned()),
            ..Config::default()
        };
        let provision = Provision::open(config, None).unwrap();
        let ask = |path| status(Arc::clone(&provision), path);
        // As many look-ups hang as there are places for.
        let places = u32::try_from(crate::ON_DISK_MAX).unwrap();
        let hanging = provision.asset_places.acquire_many(places).await.unwrap();
        let mut waiting = std::pin::pin!(ask("/assets/k"));
        let first = std::future::poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context)));
        assert!(first.await.is_pending());
        assert_eq!(
            ask("/ipxe?mac=52-54-00-00-00-01").await,
            StatusCode::NOT_FOUND
        );
        drop(hanging);
        assert_eq!(waiting.await, StatusCode::OK);
    }
}
