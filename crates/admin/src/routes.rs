//! What is asked, and who answers it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 when it serves, 503 while a damaged index is rebuilt |
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /api/v1/status` | one object |
//! | `GET /api/v1/stats` | lines: progress, then `stats` |
//! | `GET /api/v1/objects?pattern=&sort=&limit=&key=&url=&digest=&head=` | lines: one object each, then `end` |
//! | `GET /api/v1/object?key=` | `{"object": … or null, "vary": names}` |
//! | `GET /api/v1/bodies/DIGEST` | the bytes |
//! | `POST /api/v1/purge` | lines: progress, `removed` for each object, then `done` |
//! | `POST /api/v1/verify?anew=&lost=` | lines: `lost` for each object of earlier audits that nobody has repaired, progress, `damaged` for each body, then `done` |
//! | `POST /api/v1/forget-lost` | they have been repaired, or cannot be |
//! | `POST /api/v1/import` | a JSON line that says what follows, then its bytes: what became of it |
//! | `GET /api/v1/machines?format=` | every machine with its way, or an Ansible inventory |
//! | `POST /api/v1/machines` | `{"reinstall": ADDRESS}`: it installs again at its next boot |
//! | `POST /api/v1/reload` | `{"good": …, "problems": …}` |

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::events::Lines;
use crate::{Admin, Wish, change, machines, objects};

/// A request for JSON may have this many bytes.
const REQUEST_MAX: usize = 4 << 20;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;
pub(crate) type Answer = Response<Body>;

/// The parameters of a request, of which each is there once or not at all.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let text = request.uri().query().unwrap_or_default();
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    #[cfg(test)]
    pub(crate) fn of_pairs(pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs.iter();
        Self(
            pairs
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter that may be there several times.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let found = self.0.iter().filter(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).collect()
    }
}

/// Answers what a door has let through.
pub(crate) async fn answer(admin: Arc<Admin>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let query = Query::of(&request);
    let method = match *request.method() {
        // The same without the body, which is not sent: health checks ask so.
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    };
    match (method, path.as_str()) {
        (Method::GET, "/healthz") => text(StatusCode::OK, "healthy\n"),
        (Method::GET, "/readyz") => ready(&admin),
        (Method::GET, "/metrics") => metrics(&admin),
        (Method::GET, "/api/v1/status") => one(&objects::status(&admin)),
        (Method::GET, "/api/v1/object") => match objects::one(&admin, &query).await {
            Ok(answer) => one(&answer),
            Err(why) => refused(StatusCode::BAD_REQUEST, &why),
        },
        (Method::GET, "/api/v1/stats" | "/api/v1/objects") | (Method::POST, "/api/v1/purge") => {
            walk(&admin, &path, &query, request).await
        }
        (Method::POST, "/api/v1/verify") => match admin.audit() {
            Some(place) => lines(change::verify(&admin, place, &query)),
            None => refused(StatusCode::CONFLICT, "bodies are being verified already"),
        },
        (Method::POST, "/api/v1/forget-lost") => change::forget_lost(&admin).await,
        (Method::POST, "/api/v1/import") => change::import(&admin, request.into_body()).await,
        (Method::POST, "/api/v1/reload") => reload(&admin).await,
        (Method::GET, "/api/v1/machines") => {
            machines::answer(admin.about.machines.as_ref(), &query, None).await
        }
        (Method::POST, "/api/v1/machines") => match asked(request).await {
            Ok(order) => machines::answer(admin.about.machines.as_ref(), &query, Some(order)).await,
            Err(why) => refused(StatusCode::BAD_REQUEST, &why),
        },
        (Method::GET, path) if path.starts_with("/api/v1/bodies/") => {
            let digest = path.rsplit('/').next().unwrap_or_default();
            match objects::body(&admin, digest).await {
                Some(body) => bytes(body),
                None => refused(StatusCode::NOT_FOUND, "there is no such body"),
            }
        }
        _ => refused(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

/// What goes through all objects: a few at a time.
async fn walk(admin: &Arc<Admin>, path: &str, query: &Query, request: Request<Incoming>) -> Answer {
    let Some(place) = admin.walk().await else {
        let why = "others go through all objects: try again later";
        return refused(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let answer = match path {
        "/api/v1/stats" => Ok(objects::stats(admin, place)),
        "/api/v1/objects" => objects::list(admin, place, query),
        _ => match asked(request).await {
            Ok(asked) => change::purge(admin, place, &asked),
            Err(why) => Err(why),
        },
    };
    match answer {
        Ok(answer) => lines(answer),
        Err(why) => refused(StatusCode::BAD_REQUEST, &why),
    }
}

fn ready(admin: &Admin) -> Answer {
    let snapshot = admin.store.snapshot();
    let (done, of) = snapshot.rebuild;
    if done < of {
        let text_of = format!("rebuilding the index: {done} of {of} objects\n");
        return text(StatusCode::SERVICE_UNAVAILABLE, &text_of);
    }
    let damaged = snapshot.index_damaged.then_some(
        "the index is damaged, and what is stored now may be forgotten; a restart rebuilds it",
    );
    if let Some(why) = damaged {
        return text(StatusCode::OK, &format!("ready, {why}\n"));
    }
    match snapshot.read_only {
        // It serves; whoever balances loads decides what that is worth.
        Some(why) => text(
            StatusCode::OK,
            &format!("ready, nothing is stored: {why}\n"),
        ),
        None => text(StatusCode::OK, "ready\n"),
    }
}

fn metrics(admin: &Admin) -> Answer {
    let Some(metrics) = &admin.metrics else {
        return refused(StatusCode::NOT_FOUND, "a stopped cache has no metrics");
    };
    let mut answer = text(StatusCode::OK, &metrics.encode());
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let value = HeaderValue::from_static(openmetrics);
    answer.headers_mut().insert(CONTENT_TYPE, value);
    answer
}

async fn reload(admin: &Admin) -> Answer {
    let (tell, told) = oneshot::channel();
    let Some(wishes) = &admin.wishes else {
        return refused(StatusCode::CONFLICT, "a stopped cache has no configuration");
    };
    if wishes.send(Wish::Reload(tell)).await.is_err() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "larder is about to end");
    }
    match told.await {
        Ok(Ok(restart)) => one(&json!({"good": true, "restart": restart})),
        Ok(Err(problems)) => one(&json!({"good": false, "problems": problems})),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "larder is about to end"),
    }
}

async fn asked(request: Request<Incoming>) -> Result<Value, String> {
    let body = Limited::new(request.into_body(), REQUEST_MAX);
    let body = body.collect().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
}

pub(crate) fn one(value: &Value) -> Answer {
    json_text(format!("{value}\n"))
}

/// What is JSON already.
pub(crate) fn json_text(text: String) -> Answer {
    typed(StatusCode::OK, "application/json", text)
}

pub(crate) fn refused(status: StatusCode, why: &str) -> Answer {
    typed(
        status,
        "application/json",
        format!("{}\n", json!({"error": why})),
    )
}

fn text(status: StatusCode, text: &str) -> Answer {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    headed(
        status,
        content_type,
        Full::new(Bytes::from(body)).boxed_unsync(),
    )
}

fn lines(body: Lines) -> Answer {
    headed(StatusCode::OK, "application/x-ndjson", body.boxed_unsync())
}

fn bytes(body: Lines) -> Answer {
    headed(
        StatusCode::OK,
        "application/octet-stream",
        body.boxed_unsync(),
    )
}

fn headed(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
