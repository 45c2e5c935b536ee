//! A request taken apart, and the one answer to the question which machine it is of.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, Method, Request};

use super::path::Endpoint;
use crate::{
    Provision,
    labels::{self, Labels},
    mac::Mac,
};

/// A request, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// The raw query.
    pub(super) query: String,
    pub(super) labels: Labels,
    /// Every hardware address by which the machine called itself, the first one first.
    macs: Vec<Mac>,
    pub(super) client: SocketAddr,
}

impl Asked {
    /// Takes a request apart. In headers only installers name their interfaces.
    pub(super) fn new<B>(
        request: &Request<B>,
        endpoint: &Endpoint,
        p: &Provision,
        client: SocketAddr,
    ) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let mut labels = Labels::from_query(query, p.config.compat);
        if let Endpoint::Kickstart { path_labels, .. } = endpoint {
            labels = path_labels
                .iter()
                .fold(labels, |labels, (name, value)| labels.with(name, value));
        }
        let mut macs: Vec<Mac> = labels.mac().into_iter().collect();
        if matches!(endpoint, Endpoint::Kickstart { .. } | Endpoint::Done) {
            let (named, header_macs) = labels::of_installer(request.headers());
            labels = named
                .iter()
                .fold(labels, |labels, (name, value)| labels.with(name, value));
            if macs.is_empty() {
                macs = header_macs;
            }
        }
        Self {
            method: request.method().clone(),
            headers: request.headers().clone(),
            query: query.to_owned(),
            labels,
            macs,
            client,
        }
    }

    /// Decides which of its interfaces stands for the machine, and makes that its label: what is answered,
    /// what is remembered and what is done are one machine's. Looks at the disk if there is a choice.
    pub(super) async fn identified(self, p: &Arc<Provision>) -> Self {
        let mac = match self.macs.as_slice() {
            [] => return self,
            [only] => only.clone(),
            [first, ..] => {
                let (asked, first) = (self.clone(), first.clone());
                let chosen = p.on_disk(move |p| Ok::<_, crate::reason::Reason>(asked.interface(p)));
                // Whatever broke off will break off the answer too.
                chosen.await.ok().flatten().unwrap_or(first)
            }
        };
        let labels = if self.labels.mac().is_some() {
            self.labels
        } else {
            self.labels.with("mac", &mac.to_string())
        };
        Self {
            labels,
            macs: vec![mac],
            ..self
        }
    }

    /// The first interface that a group names by its address; else the one that booted from here, which
    /// may have another address by now; else the first of all.
    fn interface(&self, p: &Provision) -> Option<Mac> {
        let catalog = p.library.catalog();
        let is_named = |mac: &&Mac| {
            let labels = self.labels.clone().with("mac", &mac.to_string());
            let group = catalog.select(&labels);
            group.is_some_and(|group| group.names_machines())
        };
        let seen_here = p.machines.at(self.client.ip());
        let macs = || self.macs.iter();
        let chosen = macs()
            .find(is_named)
            .or_else(|| macs().find(|mac| Some(*mac) == seen_here.as_ref()))
            .or_else(|| macs().find(|mac| p.machines.is_expected(mac)))
            .or_else(|| macs().next());
        chosen.cloned()
    }

    /// Who asks: by what it says, else by where it was seen before.
    pub(super) fn machine(&self, provision: &Provision) -> Option<Mac> {
        let named = self.macs.first().cloned();
        named.or_else(|| provision.machines.at(self.client.ip()))
    }
}
