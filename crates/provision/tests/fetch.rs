//! What is fetched through the cache for machines, and what is not.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use larder_provision::{Config, Fetch, Fetching, Provision};

/// A cache that notes what it is asked for.
#[derive(Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Fetch for Noting {
    fn fetch(&self, request: Request<()>, _client: Option<IpAddr>) -> Fetching<'_> {
        self.0.lock().unwrap().push(request.uri().to_string());
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Box::pin(async move { Ok(Response::new(body)) })
    }
}

#[tokio::test]
async fn no_way_of_writing_it_leads_out_of_the_trees_that_profiles_name() {
    let directory = tempfile::tempdir().unwrap();
    let profiles = directory.path().join("profiles");
    std::fs::create_dir(&profiles).unwrap();
    let profile = r#"{"id":"p","boot":{"kernel":"http://Mirror.example:80/os/images/vmlinuz"}}"#;
    std::fs::write(profiles.join("p.json"), profile).unwrap();
    let config = Config {
        data: directory.path().to_owned(),
        assets: None,
        ..Config::default()
    };
    let cache = Noting::default();
    let asked = Arc::clone(&cache.0);
    let provision = Provision::open(config, Some(Arc::new(cache))).unwrap();
    let status = async |path: &str| {
        let request = Request::get(format!("/http/mirror.example{path}"));
        let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let response = provision.answer(&request.body(()).unwrap(), client).await;
        response.status().as_u16()
    };
    for path in [
        "/os/images/../../secret",
        "/os/images/%2e%2e/%2e%2e/secret",
        "/os/images/.%2e/%2E./secret",
        "/os/images/..%2f..%2fsecret",
        "/os/images/..%5C..%5csecret",
        "/os/images/a%2Fb",
        "/os/images/..",
        "/os/images/%2e%2e",
        "/os/images/..?a=b",
        "/os/images%2fvmlinuz",
        "/os/secret",
    ] {
        assert_eq!(status(path).await, 403, "{path}");
    }
    assert!(asked.lock().unwrap().is_empty());
    for path in ["/os/images/vmlinu%7a", "/os/./images/a..b?c=/../"] {
        assert_eq!(status(path).await, 200, "{path}");
    }
    let base = "http://mirror.example/os/images";
    assert_eq!(
        *asked.lock().unwrap(),
        [format!("{base}/vmlinuz"), format!("{base}/a..b?c=/../")]
    );
}
