//! Where redirects lead: an accelerator stays on its site, and files of a mirror that keeps them in a
//! folder are spoken of as clients ask for them.

use larder_policy::route::{Mirror, Origin as Member, Routes, Select};
use larder_policy::target::{Mode, Site};
use larder_policy::url::Authority;

use crate::support::{Answer, Origin, Rig, Step, answer, open_policy, raw};

/// A pool by the name `pool.test`, whose members keep their files in `folder`.
pub(crate) fn pool(origins: &[&Origin], folder: &str) -> Routes {
    let members = origins
        .iter()
        .map(|origin| Member::parse(&format!("http://{}/{folder}", origin.address)).unwrap());
    Routes {
        mirrors: vec![Mirror {
            name: "pool".into(),
            hosts: vec!["pool.test".into()],
            origins: members.collect(),
            select: Select::Ordered,
            access: None,
        }],
        ..Routes::default()
    }
}

/// The door of an accelerator for that pool.
pub(crate) fn door() -> Mode {
    Mode::Accelerator(Site {
        authority: Authority::parse("pool.test", Some(80)).unwrap(),
        mirror: Some("pool".into()),
        vhost: false,
    })
}

fn accelerated(origin: &Origin, folder: &str) -> Rig {
    let mut policy = open_policy();
    policy.routes = pool(&[origin], folder);
    Rig::start(policy, door())
}

async fn fetched(rig: &Rig, path: &str) -> Answer {
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    rig.talk(text.as_bytes(), false).await
}

fn to(location: &str) -> Vec<Step> {
    raw(&format!(
        "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accelerator_does_not_leave_its_site_by_a_second_redirect() {
    let other = Origin::start(|_, _| answer("", b"elsewhere")).await;
    let away = other.url("/a-1.rpm").replace("127.0.0.1", "localhost");
    let (stay, leave) = ("/p/b-1.rpm", away);
    for by_name in [false, true] {
        let leave = leave.clone();
        let own = Origin::start(move |nth, head| {
            let host = head.lines().find_map(|line| line.strip_prefix("Host: "));
            match nth {
                0 if by_name => to(&format!("http://{}{stay}", host.unwrap_or_default())),
                0 => to(stay),
                _ => to(&leave),
            }
        })
        .await;
        let rig = accelerated(&own, "");
        assert_eq!(fetched(&rig, "/p/a-1.rpm").await.status, 302);
        assert_eq!((own.requests(), other.requests()), (2, 0), "{by_name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_with_a_folder_redirects_within_it() {
    let origin = Origin::start(|_, head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/base/p/a-1.rpm" => to("/base/p/b-1.rpm"),
            "/base/p/b-1.rpm" => to("c-1.rpm"),
            "/base/p/c-1.rpm" => answer("", b"package"),
            "/base/list" => to("/base/list/"),
            _ => raw("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        }
    })
    .await;
    let rig = accelerated(&origin, "base/");
    let got = fetched(&rig, "/p/a-1.rpm").await;
    assert_eq!((got.status, got.body.as_slice()), (200, &b"package"[..]));
    // What clients are told, they can ask for.
    let got = fetched(&rig, "/list").await;
    assert_eq!((got.status, got.field("location")), (302, Some("/list/")));
}
