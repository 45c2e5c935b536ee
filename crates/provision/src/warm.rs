//! `provision warm`: everything that the profiles name, fetched once before the first machine asks.
//!
//! Kernel and initrds by their URLs, and of the tree that they lie in the `.treeinfo` and the
//! installer images that it lists: what an installer asks for first, and what a hundred of them
//! would ask for at once.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use http::{Method, Request};
use http_body_util::BodyExt;

use crate::{fetch::Fetch, model::Profile, rewrite};

/// A `.treeinfo` larger than this is none.
const TREEINFO_BYTES_MAX: usize = 1 << 20;

/// What became of one URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warmed {
    /// The URL.
    pub url: String,
    /// Bytes of its body, or why there are none.
    pub outcome: Result<u64, String>,
    /// Position among those known so far, from 1.
    pub number: usize,
    /// How many are known so far; grows when a tree lists images.
    pub of: usize,
}

/// The URLs of kernels and initrds that the profiles name, each once.
pub fn urls(profiles: &[Profile]) -> BTreeSet<String> {
    profiles
        .iter()
        .filter_map(|profile| profile.boot.as_ref())
        .flat_map(|boot| std::iter::once(&boot.kernel).chain(&boot.initrd))
        .flat_map(|text| text.split(' '))
        .filter(|word| rewrite::tree_of(word).is_some() && !word.contains("${"))
        .map(ToOwned::to_owned)
        .collect()
}

/// Fetches all of them and their trees' images, telling `progress` of each.
pub async fn warm(
    fetch: &Arc<dyn Fetch>,
    profiles: &[Profile],
    mut progress: impl FnMut(&Warmed),
) -> Vec<Warmed> {
    let named = urls(profiles);
    let trees: BTreeSet<&str> = named
        .iter()
        .filter(|url| url.contains("/images/pxeboot/"))
        .filter_map(|url| rewrite::tree_of(url))
        .collect();
    let mut waiting: Vec<String> = trees
        .iter()
        .map(|tree| format!("{tree}.treeinfo"))
        .collect();
    waiting.extend(named.iter().cloned());
    let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
    let mut done = Vec::new();
    while let Some(url) = waiting.get(done.len()).cloned() {
        let is_treeinfo = url.ends_with("/.treeinfo");
        let mut text = is_treeinfo.then(Vec::new);
        let outcome = fetch_one(fetch, &url, text.as_mut()).await;
        let tree = url.strip_suffix(".treeinfo").unwrap_or_default();
        let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default()).into_owned();
        for image in images(&text) {
            let image = format!("{tree}{image}");
            if seen.insert(image.clone()) {
                waiting.push(image);
            }
        }
        let warmed = Warmed {
            url,
            outcome,
            number: done.len() + 1,
            of: waiting.len(),
        };
        progress(&warmed);
        done.push(warmed);
    }
    done
}

/// Reads one body to its end; keeps the start of it where asked.
async fn fetch_one(
    fetch: &Arc<dyn Fetch>,
    url: &str,
    mut keep: Option<&mut Vec<u8>>,
) -> Result<u64, String> {
    let request = Request::builder().method(Method::GET).uri(url).body(());
    let request = request.map_err(|error| error.to_string())?;
    let response = fetch
        .fetch(request, None)
        .await
        .map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("answered {}", response.status()));
    }
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        bytes += data.len() as u64;
        if let Some(keep) = keep.as_mut().filter(|keep| keep.len() < TREEINFO_BYTES_MAX) {
            keep.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

/// The images that an installer boots from, as a `.treeinfo` lists them: the second stage and, for
/// each architecture, everything but disc images.
fn images(treeinfo: &str) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    let mut section = "";
    for line in treeinfo.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
            continue;
        }
        let Some((_, path)) = line.split_once('=') else {
            continue;
        };
        let path = path.trim();
        let listed = section == "stage2" || section.starts_with("images-");
        let is_disc = Path::new(path)
            .extension()
            .is_some_and(|kind| kind == "iso");
        let leaves = path.starts_with('/') || path.split('/').any(|part| part == "..");
        if listed && !path.is_empty() && !is_disc && !leaves {
            images.insert(path.to_owned());
        }
    }
    images
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr, sync::Mutex};

    use http::Response;

    use super::*;
    use crate::{fetch::Fetching, http::Body, model::Boot};

    struct Origin {
        files: BTreeMap<String, &'static str>,
        asked: Mutex<Vec<String>>,
    }

    impl Fetch for Origin {
        fn fetch(&self, request: Request<()>, _: Option<IpAddr>) -> Fetching<'_> {
            let url = request.uri().to_string();
            self.asked.lock().unwrap().push(url.clone());
            Box::pin(async move {
                let text = self.files.get(&url);
                let body = text.map_or("", |text| text);
                let status = if text.is_some() { 200 } else { 404 };
                let body = http_body_util::Full::new(body.into()).map_err(|never| match never {});
                Ok(Response::builder().status(status).body(Body::new(body))?)
            })
        }
    }

    #[tokio::test]
    async fn kernel_initrd_and_the_images_of_the_tree_are_fetched_once_each() {
        let tree = "http://h/c/os/";
        let treeinfo = "[general]\nname = C\n[stage2]\nmainimage = images/install.img\n\
                        [images-x86_64]\nkernel = images/pxeboot/vmlinuz\nboot.iso = images/boot.iso\n\
                        bad = ../../secret\n";
        let files = BTreeMap::from([
            (format!("{tree}.treeinfo"), treeinfo),
            (format!("{tree}images/pxeboot/vmlinuz"), "kernel"),
            (format!("{tree}images/install.img"), "image"),
        ]);
        let origin = Arc::new(Origin {
            files,
            asked: Mutex::default(),
        });
        let profile = |id: &str| Profile {
            id: id.into(),
            boot: Some(Boot {
                kernel: format!("{tree}images/pxeboot/vmlinuz"),
                initrd: vec![format!("--name main {tree}images/pxeboot/initrd.img")],
                ..Boot::default()
            }),
            ..Profile::default()
        };
        let fetch: Arc<dyn Fetch> = Arc::<Origin>::clone(&origin);
        let mut told = 0;
        let done = warm(&fetch, &[profile("a"), profile("b")], |_| told += 1).await;
        let asked = origin.asked.lock().unwrap().clone();
        assert_eq!(
            asked,
            [
                format!("{tree}.treeinfo"),
                format!("{tree}images/pxeboot/initrd.img"),
                format!("{tree}images/pxeboot/vmlinuz"),
                format!("{tree}images/install.img"),
            ]
        );
        assert_eq!((told, done.len()), (4, 4));
        assert!(
            done[1].outcome.is_err(),
            "a missing file does not end the rest"
        );
        assert_eq!(done[3].outcome, Ok(5));
    }
}
