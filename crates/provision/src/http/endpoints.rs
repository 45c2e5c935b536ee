//! What each endpoint says.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, Method, Request, Response, header, header::CONTENT_TYPE};

use super::{
    Asked, assets,
    content::{self, Content},
    metadata,
    path::{Endpoint, SeedFile},
    reply::{self, Body},
    scripts::{self, Dress},
};
use crate::{
    Provision, cloud,
    config::Rewrite,
    ignition,
    labels::Labels,
    library::Kind,
    machines::{State, Step},
    model::{Boot, Group, Profile},
    reason::Reason,
    rewrite,
    template::{self, Data},
};

type Answer = Result<Response<Body>, Reason>;

/// Answers a request to `endpoint`.
pub(super) async fn answer(p: &Arc<Provision>, endpoint: &Endpoint, asked: &Arc<Asked>) -> Answer {
    match endpoint {
        Endpoint::Home => Ok(reply::text("matchbox\n")),
        Endpoint::Bootstrap => Ok(reply::text(scripts::bootstrap(p.config.compat))),
        Endpoint::Unknown(path) => Err(Reason::NoPage(path.clone())),
        Endpoint::Fetch(url) => fetch(p, asked, url).await,
        Endpoint::Asset(path) => match &p.config.assets {
            Some(root) => {
                // Places of their own: where the assets' disk hangs, boot scripts may lie on another.
                let _place = p.asset_places.acquire().await;
                let request = (&asked.method, &asked.headers, asked.query.as_str());
                assets::answer(root, path, request).await
            }
            None => Err(Reason::NoPage("/assets/".to_owned())),
        },
        _ => {
            let (endpoint, asked) = (endpoint.clone(), Arc::clone(asked));
            p.on_disk(move |p| from_files(p, &endpoint, &asked)).await
        }
    }
}

/// What the data directory and the machines' journal say; waits for the disk.
fn from_files(p: &Provision, endpoint: &Endpoint, asked: &Asked) -> Answer {
    match endpoint {
        Endpoint::Ipxe => boot_script(p, asked, scripts::ipxe, scripts::local_boot),
        Endpoint::Grub => boot_script(p, asked, scripts::grub, |_| {
            scripts::LOCAL_BOOT_GRUB.to_owned()
        }),
        Endpoint::Ignition => ignition_config(p, asked),
        Endpoint::Cloud => cloud_config(p, asked),
        Endpoint::Generic => {
            let rendered = generic(p, asked)?;
            Ok(content::serve(
                &asked.method,
                &asked.headers,
                Content::rendered(rendered),
            ))
        }
        Endpoint::Metadata => {
            let group = group(p, &asked.labels)?;
            let data = Data::new(Some(&group), &asked.labels, &asked.query);
            let mut response = reply::text(metadata::env_file(&data));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("plain/text"));
            Ok(response)
        }
        Endpoint::Kickstart { file, .. } => installer_file(p, asked, *file),
        Endpoint::Script(name) => script(p, asked, name),
        Endpoint::Done => done(p, asked),
        Endpoint::Menu => {
            let rewrite = rewrite_of(p, asked);
            let dress = Dress {
                initrd_args: true,
                rewrite: rewrite.as_deref(),
            };
            Ok(reply::never_cached(reply::text(scripts::menu(
                &p.library.profiles(),
                dress,
            ))))
        }
        Endpoint::Home
        | Endpoint::Bootstrap
        | Endpoint::Asset(_)
        | Endpoint::Fetch(_)
        | Endpoint::Unknown(_) => Err(Reason::NoPage(endpoint.name())),
    }
}

/// The group of these labels.
pub(crate) fn group(p: &Provision, labels: &Labels) -> Result<Arc<Group>, Reason> {
    p.library.catalog().select(labels).ok_or_else(|| {
        let said: Vec<String> = labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Reason::NoGroup(if said.is_empty() {
            "(none)".to_owned()
        } else {
            said.join(" ")
        })
    })
}

/// The group of these labels and its profile.
pub(crate) fn selected(p: &Provision, labels: &Labels) -> Result<(Arc<Group>, Profile), Reason> {
    let group = group(p, labels)?;
    match p.library.profile(&group.profile) {
        Ok(profile) => Ok((group, profile)),
        Err(error) => Err(Reason::NoProfile {
            group: group.id.clone(),
            profile: group.profile.clone(),
            why: error.to_string(),
        }),
    }
}

fn rewrite_of<'p>(p: &'p Provision, asked: &Asked) -> Option<Cow<'p, Rewrite>> {
    let host = asked.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let enabled = Some(&p.config.rewrite).filter(|rewrite| rewrite.enabled)?;
    Some(enabled.asked_by(host))
}

/// `/ipxe` and `/grub`: the profile's kernel, or the disk for a machine that is installed.
fn boot_script(
    p: &Provision,
    asked: &Asked,
    script: impl Fn(&Boot) -> String,
    local: impl Fn(&str) -> String,
) -> Answer {
    let (group, profile) = selected(p, &asked.labels)?;
    let boot = profile
        .boot
        .as_ref()
        .ok_or_else(|| Reason::NoBoot(profile.id.clone()))?;
    let mac = asked.labels.mac();
    let once = group
        .install_once()
        .or(profile.install_once)
        .unwrap_or(p.config.install_once);
    let address = Some(asked.client.ip());
    if let Some(mac) = &mac {
        if once && p.machines.state(mac) == State::Installed {
            p.machines
                .observe(mac, address, Step::Local, "installed: boots from its disk");
            return Ok(reply::never_cached(reply::text(local(&mac.to_string()))));
        }
        let detail = format!("group {} profile {}", group.id, profile.id);
        p.machines.observe(mac, address, Step::Boot, &detail);
        p.machines.booted(mac, &group.id, &profile.id, once);
    }
    let rewrite = rewrite_of(p, asked);
    let dress = Dress {
        initrd_args: p.config.initrd_args,
        rewrite: rewrite.as_deref(),
    };
    let script = reply::text(script(&dress.apply(boot)));
    // Of a machine that installs once the next answer is another one.
    Ok(if once {
        reply::never_cached(script)
    } else {
        script
    })
}

/// Renders the file of one kind that a profile names.
fn render(
    p: &Provision,
    kind: Kind,
    name: &str,
    group: Option<&Group>,
    (labels, query): (&Labels, &str),
) -> Result<String, Reason> {
    let source = p
        .library
        .file(kind, name)
        .map_err(|error| Reason::NoFile(error.to_string()))?;
    let failed = |why: String| Reason::Template {
        name: name.to_owned(),
        why,
    };
    // The engine knows text only: bytes of another encoding are refused rather than replaced.
    let source = str::from_utf8(&source).map_err(|error| {
        let at = error.valid_up_to();
        failed(format!("is not UTF-8 at byte {at}: convert it"))
    })?;
    template::render(source, &Data::new(group, labels, query))
        .map_err(|error| failed(error.to_string()))
}

/// The name that a profile gives for a kind of file.
fn named<'a>(profile: &'a Profile, kind: Kind, name: &'a str) -> Result<&'a str, Reason> {
    if name.is_empty() {
        return Err(Reason::NoName {
            profile: profile.id.clone(),
            kind: kind.directory(),
        });
    }
    Ok(name)
}

/// `/ignition`: the file's own bytes, or what its template gives, once it is known to be Ignition.
fn ignition_config(p: &Provision, asked: &Asked) -> Answer {
    let (group, profile) = selected(p, &asked.labels)?;
    let name = named(&profile, Kind::Ignition, &profile.ignition_id)?;
    let config = if ignition::is_raw(name) {
        let file = p.library.file(Kind::Ignition, name);
        file.map_err(|error| Reason::NoFile(error.to_string()))?
    } else {
        let request = (&asked.labels, asked.query.as_str());
        render(p, Kind::Ignition, name, Some(&group), request)?.into_bytes()
    };
    ignition::check(name, &config)?;
    Ok(reply::whole(
        http::StatusCode::OK,
        "application/json",
        config,
    ))
}

/// `/cloud`: a cloud-config that parses, or a script.
fn cloud_config(p: &Provision, asked: &Asked) -> Answer {
    let (group, profile) = selected(p, &asked.labels)?;
    let name = named(&profile, Kind::Cloud, &profile.cloud_id)?;
    let request = (&asked.labels, asked.query.as_str());
    let config = render(p, Kind::Cloud, name, Some(&group), request)?;
    cloud::check(name, &config)?;
    Ok(content::serve(
        &asked.method,
        &asked.headers,
        Content::rendered(config),
    ))
}

/// The rendered generic template of the profile that the request's labels select.
fn generic(p: &Provision, asked: &Asked) -> Result<String, Reason> {
    let (group, profile) = selected(p, &asked.labels)?;
    let name = named(&profile, Kind::Generic, &profile.generic_id)?;
    render(
        p,
        Kind::Generic,
        name,
        Some(&group),
        (&asked.labels, asked.query.as_str()),
    )
}

/// An installer's answers: the generic template, one machine's and nobody else's.
fn installer_file(p: &Provision, asked: &Asked, file: SeedFile) -> Answer {
    let text = match file {
        SeedFile::Template => generic(p, asked)?,
        SeedFile::MetaData => {
            let group = group(p, &asked.labels)?;
            format!("instance-id: {}\n", serde_json::json!(group.id))
        }
        SeedFile::VendorData => String::new(),
    };
    let response = content::serve(&asked.method, &asked.headers, Content::rendered(text));
    Ok(reply::never_cached(response))
}

/// `/script/NAME`: a script of the operator's own, with the machine's data if a group selects it.
fn script(p: &Provision, asked: &Asked, name: &str) -> Answer {
    let group = group(p, &asked.labels).ok();
    let request = (&asked.labels, asked.query.as_str());
    Ok(reply::text(render(
        p,
        Kind::Script,
        name,
        group.as_deref(),
        request,
    )?))
}

/// `POST /done`: the machine is installed, if it is one that may be: whoever can reach this port may say
/// it of any address, and what is said is kept.
fn done(p: &Provision, asked: &Asked) -> Answer {
    if asked.method != Method::POST {
        return Err(Reason::Method(asked.method.to_string()));
    }
    let mac = asked.labels.mac().ok_or(Reason::NoMachine)?;
    let is_expected = p.machines.is_expected(&mac)
        || group(p, &asked.labels).is_ok_and(|group| group.names_machines());
    if !is_expected {
        return Err(Reason::NotExpected(mac.to_string()));
    }
    p.machines
        .done(&mac)
        .map_err(|error| Reason::NotRecorded(error.with_cause()))?;
    Ok(reply::never_cached(reply::text(format!(
        "{mac} is installed\n"
    ))))
}

/// A kernel, initrd or file of its tree, through the cache.
async fn fetch(p: &Arc<Provision>, asked: &Asked, url: &str) -> Answer {
    let foreign = || Reason::ForeignUrl(url.to_owned());
    if !matches!(asked.method, Method::GET | Method::HEAD) {
        return Err(Reason::Method(asked.method.to_string()));
    }
    let fetch = p.fetch.as_ref().ok_or_else(foreign)?;
    let wanted = rewrite::guarded(url).ok_or_else(foreign)?;
    let url = wanted.clone();
    let is_named = p.on_disk(move |p| {
        let trees = p.library.trees();
        Ok(trees.iter().any(|tree| wanted.starts_with(tree)))
    });
    if !is_named.await? {
        return Err(foreign());
    }
    let failed = |why: String| Reason::Fetch {
        url: url.clone(),
        why,
    };
    let mut request = Request::builder().method(asked.method.clone()).uri(&url);
    for name in [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MODIFIED_SINCE,
        header::IF_NONE_MATCH,
    ] {
        if let Some(value) = asked.headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let request = request
        .body(())
        .map_err(|error| failed(error.to_string()))?;
    let client = Some(asked.client.ip());
    fetch
        .fetch(request, client)
        .await
        .map_err(|error| failed(error.to_string()))
}
