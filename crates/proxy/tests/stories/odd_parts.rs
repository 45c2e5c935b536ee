//! Parts that are not what their heads say, or not what was asked for (RFC 9110 §14.4, §15.3.7).

use crate::support::{Origin, Rig, raw};

/// What a client gets that wants ten bytes of a file from an origin that answers everything so.
async fn asked_for_ten(path: &str, head: &str, body: usize) -> (u16, bool, usize) {
    let head = head.to_owned();
    let origin = Origin::start(move |_, _| {
        let body = "x".repeat(body);
        raw(&format!("HTTP/1.1 206 Partial Content\r\n{head}\r\n{body}"))
    })
    .await;
    let rig = Rig::forward();
    let got = rig.get(&origin.url(path), "Range: bytes=10-19\r\n").await;
    (got.status, got.whole, got.body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_contradicts_itself_never_passes_as_the_one_asked_for() {
    for path in ["/page", "/p/a-1.0-1.x86_64.rpm"] {
        for (range, length) in [
            ("Content-Range: bytes 10-19/100\r\n", 9),
            ("Content-Range: bytes 19-10/1024\r\n", 10),
            ("Content-Range: bytes 10-19/15\r\n", 10),
            ("Content-Range: bytes 11-20/100\r\n", 10),
            ("Content-Range: ten\r\n", 10),
            ("", 10),
        ] {
            for tag in ["", "ETag: \"1\"\r\n"] {
                let head = format!("{range}{tag}Content-Length: {length}\r\n");
                let got = asked_for_ten(path, &head, length).await;
                let is_refused = got.0 == 502 || (got.0 == 206 && !got.1);
                assert!(is_refused, "{path} {head}: {got:?}");
            }
        }
        // Chunks tell no length: a cut is seen all the same.
        let head = "Content-Range: bytes 10-19/100\r\nTransfer-Encoding: chunked\r\n\r\n9";
        let got = asked_for_ten(path, &format!("{head}\r\nxxxxxxxxx\r\n0\r\n"), 0).await;
        assert!(got.0 == 502 || !got.1, "{path}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_the_one_asked_for_passes_and_so_do_several() {
    for head in [
        "Content-Range: bytes 10-19/100\r\n",
        "Content-Range: bytes 10-19/*\r\n",
        "Content-Type: multipart/byteranges; boundary=x\r\n",
    ] {
        let head = format!("{head}Content-Length: 10\r\n");
        let got = asked_for_ten("/page", &head, 10).await;
        assert_eq!(got, (206, true, 10), "{head}");
    }
}
