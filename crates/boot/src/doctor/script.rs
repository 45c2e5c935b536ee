//! Tries the scripts that machines are sent to, as a machine would.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::Finding;
use crate::config::Config;
use crate::words;

/// How long a server may take to look up, connect and answer.
const WAIT: Duration = Duration::from_secs(3);

/// Of an answer, this much tells its status.
const STATUS_MAX: u64 = 64;

/// Of a script, this much is read, for so long.
const SCRIPT_MAX: u64 = 64 * 1024;
const SCRIPT_WAIT: Duration = Duration::from_secs(1);

/// Tries where the configuration sends machines: `next`, and what dnsmasq's words give to iPXE. Of a
/// larder that runs on `own`, its own script is tried too.
pub(super) async fn unreachable(config: &Config, own: Option<String>) -> Vec<Finding> {
    let named = config.words.iter().flat_map(words::script::named);
    let mut urls: BTreeSet<String> = named.map(str::to_owned).collect();
    urls.extend(config.next.clone());
    urls.extend(own);
    let mut findings = Vec::new();
    // What iPXE has yet to fill in is known to the machine alone.
    for url in urls.iter().filter(|url| !url.contains("${")) {
        let tried = timeout(WAIT + SCRIPT_WAIT, attempt(url)).await;
        let reason = match tried {
            Ok(Ok(script)) => {
                findings.extend(looping(url, &script));
                continue;
            }
            Ok(Err(reason)) => reason,
            Err(_elapsed) => "no answer".to_owned(),
        };
        findings.push(Finding {
            id: "script-unreachable",
            is_problem: true,
            interface: None,
            detail: format!("machines are sent to {url}, which does not come: {reason}"),
            mend: "start its server, or correct that URL".to_owned(),
        });
    }
    findings
}

/// A script that goes on to its own URL, by whatever name its host has there.
fn looping(url: &str, script: &str) -> Option<Finding> {
    let body = script
        .split_once("\r\n\r\n")
        .map_or(script, |(_, body)| body);
    // A script that comes back to itself after something else is a menu.
    let is_said =
        |line: &&str| line.is_empty() || line.starts_with(['#', ':']) || line.starts_with("echo");
    let first = body.lines().map(str::trim).find(|line| !is_said(line))?;
    let mut words = first.split_ascii_whitespace();
    let is_looping = words.next() == Some("chain") && words.any(|word| word == url);
    is_looping.then(|| Finding {
        id: "script-loops",
        is_problem: true,
        interface: None,
        detail: format!("machines are sent to {url}, a script that loads itself again without end"),
        mend: "name another script; where larder itself answers there, boot.http must be another port than that of the server which is meant".to_owned(),
    })
}

/// Fetches a script, empty where it was not looked at, or says why it does not come. Of https, only that
/// somebody listens is tried: whose certificates machines trust is theirs to know.
async fn attempt(url: &str) -> Result<String, String> {
    let (scheme, rest) = url.split_once("://").ok_or("it is no URL")?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(at).unwrap_or((rest, ""));
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let told = |error: io::Error| error.to_string();
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {
            let stream = connect(authority, 80).await.map_err(told)?;
            http(stream, authority, path).await
        }
        "https" => {
            let connected = connect(authority, 443).await;
            connected.map(|_| String::new()).map_err(told)
        }
        "tftp" => {
            let answered = tftp(authority, path.trim_start_matches('/')).await;
            answered.map(|()| String::new())
        }
        _ => Err(format!("{scheme} is nothing that iPXE fetches scripts by")),
    }
}

fn with_port(authority: &str, port: u16) -> String {
    let behind = authority.rsplit(']').next().unwrap_or(authority);
    if behind.contains(':') {
        authority.to_owned()
    } else {
        format!("{authority}:{port}")
    }
}

async fn connect(authority: &str, port: u16) -> io::Result<TcpStream> {
    TcpStream::connect(with_port(authority, port)).await
}

async fn http(mut stream: TcpStream, host: &str, path: &str) -> Result<String, String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let path = path.split('#').next().unwrap_or_default();
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: larder-doctor\r\nConnection: close\r\n\r\n"
    );
    let told = |error: io::Error| error.to_string();
    stream.write_all(request.as_bytes()).await.map_err(told)?;
    let mut answer = Vec::new();
    let mut head = stream.take(STATUS_MAX);
    head.read_to_end(&mut answer).await.map_err(told)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if answer.starts_with("HTTP/") && status.starts_with(['2', '3']) {
        let mut script = answer.into_owned().into_bytes();
        let mut rest = head.into_inner().take(SCRIPT_MAX);
        // What does not come in time, or breaks off, is no reason to complain: its beginning came.
        let _read = timeout(SCRIPT_WAIT, rest.read_to_end(&mut script)).await;
        Ok(String::from_utf8_lossy(&script).into_owned())
    } else {
        let line = answer.lines().next().unwrap_or_default();
        Err(format!("the answer is {line:?}"))
    }
}

async fn tftp(authority: &str, name: &str) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    let mut servers = lookup_host(with_port(authority, 69)).await.map_err(told)?;
    let server = servers.find(std::net::SocketAddr::is_ipv4);
    let server = server.ok_or("its host has no IPv4 address")?;
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await.map_err(told)?;
    let request = format!("\0\u{1}{name}\0octet\0");
    let mut buffer = [0; 600];
    socket
        .send_to(request.as_bytes(), server)
        .await
        .map_err(told)?;
    let (length, from) = socket.recv_from(&mut buffer).await.map_err(told)?;
    if let Some([0, 5, _, _, text @ ..]) = buffer.get(..length) {
        let text = String::from_utf8_lossy(text);
        return Err(format!("the answer is {:?}", text.trim_end_matches('\0')));
    }
    // The rest is not wanted, and its sender need not repeat it.
    let enough = b"\0\x05\0\0enough\0";
    socket.send_to(enough, from).await.map(drop).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// The URL of a server that answers once with this.
    async fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        format!("http://{address}/boot.ipxe")
    }

    async fn found(next: &str) -> Vec<String> {
        let config = Config {
            next: Some(next.to_owned()),
            ..Config::default()
        };
        let findings = unreachable(&config, None).await;
        findings.into_iter().map(|finding| finding.detail).collect()
    }

    #[tokio::test]
    async fn a_script_that_comes_is_no_finding() {
        for good in [
            "HTTP/1.1 200 OK\r\n\r\n#!ipxe\n",
            "HTTP/1.0 302 Found\r\n\r\n",
        ] {
            assert!(found(&answering(good).await).await.is_empty(), "{good}");
        }
        assert!(found("http://${next-server}/x").await.is_empty());
    }

    #[tokio::test]
    async fn a_script_that_does_not_come_is_told_with_the_reason() {
        let told = found(&answering("HTTP/1.1 404 Not Found\r\n\r\n").await).await;
        assert!(told[0].contains("404 Not Found"), "{told:?}");
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let told = found(&format!("http://{address}/boot.ipxe")).await;
        assert!(told[0].contains("refused"), "{told:?}");
    }

    #[test]
    fn a_script_that_goes_on_to_itself_is_found() {
        let url = "http://boot.example:8080/boot.ipxe";
        let here = crate::script::Here {
            scripts: "http://10.0.0.2:8080".to_owned(),
            cache: None,
        };
        let own = crate::script::first(&here, Some(url));
        let own = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n{own}");
        assert_eq!(
            looping(url, &own).map(|found| found.id),
            Some("script-loops")
        );
        let other = crate::script::first(&here, Some("http://boot.example:8081/boot.ipxe"));
        assert_eq!(looping(url, &other), None);
        let menu = format!("#!ipxe\nmenu m\nchain {url}\n");
        assert_eq!(looping(url, &menu), None);
    }

    #[tokio::test]
    async fn a_script_is_read_as_far_as_it_comes() {
        let server =
            answering("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n#!ipxe\nchain x\n").await;
        assert!(attempt(&server).await.unwrap().ends_with("chain x\n"));
    }

    #[tokio::test]
    async fn scripts_by_tftp_are_asked_for_too() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tftp://{}/boot.ipxe", server.local_addr().unwrap());
        tokio::spawn(async move {
            let mut request = [0; 64];
            let (length, client) = server.recv_from(&mut request).await.unwrap();
            assert_eq!(&request[..length], b"\0\x01boot.ipxe\0octet\0");
            server
                .send_to(b"\0\x05\0\x01no such\0", client)
                .await
                .unwrap();
        });
        let told = found(&url).await;
        assert!(told[0].contains("no such"), "{told:?}");
    }
}
