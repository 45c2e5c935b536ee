//! Files in another encoding than UTF-8 are refused: a machine gets the operator's bytes or none.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use http::Request;
use http_body_util::BodyExt;
use larder_provision::{Config, Provision};

#[tokio::test]
async fn a_template_in_another_encoding_is_refused_and_never_altered() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    for (name, bytes) in [
        (
            "groups/default.json",
            &br#"{"id":"default","profile":"p"}"#[..],
        ),
        ("profiles/p.json", br#"{"id":"p","generic_id":"k"}"#),
        ("generic/k", b"caf\xe9\n"),
    ] {
        let path = data.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let config = Config {
        assets: None,
        data: data.to_owned(),
        state: Some(data.join("machines")),
        ..Config::default()
    };
    let provision = Provision::open(config, None).unwrap();
    let request = Request::get("/generic").body(()).unwrap();
    let client = "192.0.2.7:4711".parse().unwrap();
    let (parts, body) = provision.answer(&request, client).await.into_parts();
    let reason = parts.headers["x-larder-reason"].to_str().unwrap();
    assert_eq!(
        (parts.status.as_u16(), reason),
        (404, "template \"k\": is not UTF-8 at byte 3: convert it")
    );
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(body, "404 page not found\n");
}
