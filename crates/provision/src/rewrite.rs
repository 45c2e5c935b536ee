//! Turning the URLs of a profile towards the cache, so that a hundred machines cost one download.
//!
//! iPXE speaks to no proxy; it must ask the cache as if that were the origin. `http://HOST/PATH`
//! becomes the accelerator's URL where one serves that host, else the form `/http/HOST/PATH`. URLs
//! that iPXE completes itself (`${…}`) are left alone.

use std::borrow::Cow;

use larder_policy::url::Url;

use crate::{config::Rewrite, labels::percent_decode};

/// Kernel arguments whose URL an installer fetches: it needs a host in it.
const INSTALLER_ARGUMENTS: [&str; 6] = [
    "inst.repo",
    "inst.stage2",
    "inst.updates",
    "inst.addrepo",
    "method",
    "repo",
];

impl Rewrite {
    /// The rewriting for a machine that asked with this `Host`: it reaches the cache by the same
    /// name. A name that could not stand in a URL of a script is none.
    pub(crate) fn asked_by(&self, host: Option<&str>) -> Cow<'_, Self> {
        let (Some(port), Some(host), true) = (self.port, host, self.base.is_empty()) else {
            return Cow::Borrowed(self);
        };
        let end = match host.find(']') {
            Some(bracket) => bracket + 1,
            None => host.find(':').unwrap_or(host.len()),
        };
        let name = host.get(..end).unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        if name.is_empty() || !name.chars().all(is_plain) {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            base: format!("http://{name}:{port}"),
            ..self.clone()
        })
    }

    /// A kernel or initrd: every word of it that is a URL.
    pub(crate) fn location(&self, text: &str) -> String {
        let words: Vec<String> = text
            .split(' ')
            .map(|word| self.url(word).unwrap_or_else(|| word.to_owned()))
            .collect();
        words.join(" ")
    }

    /// A kernel argument; only an accelerator or a base gives the installer a URL that it can use.
    pub(crate) fn argument(&self, argument: &str) -> String {
        let Some((name, value)) = argument.split_once('=') else {
            return argument.to_owned();
        };
        let is_url = INSTALLER_ARGUMENTS.contains(&name);
        match self
            .url(value)
            .filter(|url| is_url && !url.starts_with('/'))
        {
            Some(url) => format!("{name}={url}"),
            None => argument.to_owned(),
        }
    }

    fn url(&self, url: &str) -> Option<String> {
        let (scheme, rest) = url
            .split_once("://")
            .filter(|(scheme, _)| is_http(scheme))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if url.contains("${") || host.is_empty() || host.contains('@') {
            return None;
        }
        let accelerator = self.accelerators.iter().find(|(name, _)| {
            name.eq_ignore_ascii_case(host)
                || name.eq_ignore_ascii_case(host.trim_end_matches(":80"))
        });
        let base = self.base.trim_end_matches('/');
        if !base.is_empty() && url.starts_with(base) {
            return None;
        }
        Some(match accelerator {
            Some((_, accelerator)) => format!("{}/{path}", accelerator.trim_end_matches('/')),
            None => format!("{base}/{}/{host}/{path}", scheme.to_ascii_lowercase()),
        })
    }
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// The origin's URL of a path `/http/HOST/PATH` or `/https/HOST/PATH`.
pub(crate) fn origin_url(path_and_query: &str) -> Option<String> {
    let (scheme, rest) = path_and_query.strip_prefix('/')?.split_once('/')?;
    let (host, path) = rest.split_once('/')?;
    let known = scheme == "http" || scheme == "https";
    (known && !host.is_empty() && !host.contains('@')).then(|| format!("{scheme}://{host}/{path}"))
}

/// A URL in the form that the cache asks the origin for, unless its path has a segment that is, or that
/// somebody may take for, a step upwards: then the origin could read another path than is judged here.
pub(crate) fn guarded(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let climbs = path.split('/').any(|segment| {
        let Some(decoded) = percent_decode(segment) else {
            return true;
        };
        decoded == b".." || decoded.iter().any(|byte| matches!(byte, b'/' | b'\\'))
    });
    (!climbs).then(|| normal(url)).flatten()
}

/// A URL in its normal form: the one that the cache's key and its requests have.
pub(crate) fn normal(url: &str) -> Option<String> {
    Some(Url::parse(url).ok()?.as_str().to_owned())
}

/// The tree that a kernel or initrd belongs to: what an installer fetches lies in it.
pub(crate) fn tree_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url
        .split_once("://")
        .filter(|(scheme, _)| is_http(scheme))?;
    let path_start = scheme.len() + 3 + rest.find('/')?;
    let end = url
        .find("/images/pxeboot/")
        .filter(|position| *position >= path_start)
        .or_else(|| url.rfind('/'))?;
    url.get(..=end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite() -> Rewrite {
        Rewrite {
            enabled: true,
            base: "http://10.0.0.2:3128/".into(),
            port: None,
            accelerators: vec![("mirror.example".into(), "http://10.0.0.2".into())],
        }
    }

    #[test]
    fn a_machine_reaches_the_cache_by_the_name_that_it_asked_by() {
        let by_port = Rewrite {
            port: Some(3128),
            ..Rewrite::default()
        };
        for (host, base) in [
            (Some("10.0.0.2:8080"), "http://10.0.0.2:3128"),
            (Some("larder"), "http://larder:3128"),
            (Some("[2001:db8::1]:8080"), "http://[2001:db8::1]:3128"),
            (Some("evil\" x"), ""),
            (Some(":8080"), ""),
            (None, ""),
        ] {
            assert_eq!(by_port.asked_by(host).base, base, "{host:?}");
        }
        let fixed = rewrite();
        assert_eq!(fixed.asked_by(Some("other")).base, fixed.base);
    }

    #[test]
    fn an_accelerated_host_keeps_its_path_and_others_become_one() {
        let rewrite = rewrite();
        assert_eq!(
            rewrite.location("http://mirror.example/c/vmlinuz"),
            "http://10.0.0.2/c/vmlinuz"
        );
        assert_eq!(
            rewrite.location("https://Other.example:8443/c/vmlinuz?a=b"),
            "http://10.0.0.2:3128/https/Other.example:8443/c/vmlinuz?a=b"
        );
        assert_eq!(
            rewrite.location("--name main http://mirror.example:80/i"),
            "--name main http://10.0.0.2/i"
        );
    }

    #[test]
    fn what_is_no_url_of_another_host_is_left_alone() {
        for text in [
            "/assets/vmlinuz",
            "http://${next-server}/vmlinuz",
            "tftp://h/vmlinuz",
            "http://10.0.0.2:3128/http/h/vmlinuz",
            "http://user@h/vmlinuz",
        ] {
            assert_eq!(rewrite().location(text), text);
        }
    }

    #[test]
    fn installers_get_urls_with_a_host_only() {
        let repo = "inst.repo=http://other.example/c/";
        let wanted = "inst.repo=http://10.0.0.2:3128/http/other.example/c/";
        assert_eq!(rewrite().argument(repo), wanted);
        assert_eq!(Rewrite::default().argument(repo), repo);
        assert_eq!(
            rewrite().argument("inst.ks=http://other.example/ks"),
            "inst.ks=http://other.example/ks"
        );
    }

    #[test]
    fn the_way_back_and_the_tree() {
        assert_eq!(
            origin_url("/http/h:81/a/b?c").as_deref(),
            Some("http://h:81/a/b?c")
        );
        assert_eq!(origin_url("/ftp/h/a"), None);
        assert_eq!(origin_url("/http//a"), None);
        let tree = "http://h/c/os/";
        assert_eq!(tree_of("http://h/c/os/images/pxeboot/vmlinuz"), Some(tree));
        assert_eq!(tree_of("http://h/c/os/linux"), Some(tree));
        assert_eq!(tree_of("http://h"), None);
        assert_eq!(tree_of("/assets/linux"), None);
    }
}
