//! The five services, each call a few lines over the library.
//!
//! The library's files are small and local; its calls run on the threads that may block.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    convert::{group_from_wire, group_to_wire, profile_from_wire, profile_to_wire, status},
    wire::{rpcpb, serverpb as pb},
};
use crate::{
    Provision,
    error::Error,
    labels::Labels,
    library::{Kind, Library},
};

type Answer<T> = Result<Response<T>, Status>;

/// All services over one data directory.
#[derive(Clone, Debug)]
pub(super) struct Services(pub(super) Arc<Provision>);

impl Services {
    /// Runs one call on the library.
    async fn on_library<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Library) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        self.0
            .on_disk(move |p| call(&p.library).map_err(|error| status(&error)))
            .await
    }
}

fn missing(what: &'static str) -> Status {
    Status::invalid_argument(format!("the request holds no {what}"))
}

#[tonic::async_trait]
impl rpcpb::groups_server::Groups for Services {
    async fn group_put(
        &self,
        request: Request<pb::GroupPutRequest>,
    ) -> Answer<pb::GroupPutResponse> {
        let group = request.into_inner().group.ok_or_else(|| missing("group"))?;
        let group = group_from_wire(group)?;
        self.on_library(move |library| library.put_group(&group))
            .await?;
        Ok(Response::new(pb::GroupPutResponse {}))
    }

    async fn group_get(
        &self,
        request: Request<pb::GroupGetRequest>,
    ) -> Answer<pb::GroupGetResponse> {
        let id = request.into_inner().id;
        let group = self.on_library(move |library| library.group(&id)).await?;
        Ok(Response::new(pb::GroupGetResponse {
            group: Some(group_to_wire(&group)),
        }))
    }

    async fn group_delete(
        &self,
        request: Request<pb::GroupDeleteRequest>,
    ) -> Answer<pb::GroupDeleteResponse> {
        let id = request.into_inner().id;
        self.on_library(move |library| library.remove_group(&id))
            .await?;
        Ok(Response::new(pb::GroupDeleteResponse {}))
    }

    async fn group_list(&self, _: Request<pb::GroupListRequest>) -> Answer<pb::GroupListResponse> {
        let catalog = self.on_library(|library| Ok(library.catalog())).await?;
        let mut groups: Vec<_> = catalog
            .groups()
            .iter()
            .map(|group| group_to_wire(group))
            .collect();
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Response::new(pb::GroupListResponse { groups }))
    }
}

#[tonic::async_trait]
impl rpcpb::profiles_server::Profiles for Services {
    async fn profile_put(
        &self,
        request: Request<pb::ProfilePutRequest>,
    ) -> Answer<pb::ProfilePutResponse> {
        let profile = request
            .into_inner()
            .profile
            .ok_or_else(|| missing("profile"))?;
        let mut profile = profile_from_wire(profile);
        self.on_library(move |library| {
            // The wire has no word for it: what an operator wrote into the file stays.
            let before = library.profile(&profile.id).ok();
            profile.install_once = before.and_then(|before| before.install_once);
            library.put_profile(&profile)
        })
        .await?;
        Ok(Response::new(pb::ProfilePutResponse {}))
    }

    async fn profile_get(
        &self,
        request: Request<pb::ProfileGetRequest>,
    ) -> Answer<pb::ProfileGetResponse> {
        let id = request.into_inner().id;
        let profile = self.on_library(move |library| library.profile(&id)).await?;
        Ok(Response::new(pb::ProfileGetResponse {
            profile: Some(profile_to_wire(&profile)),
        }))
    }

    async fn profile_delete(
        &self,
        request: Request<pb::ProfileDeleteRequest>,
    ) -> Answer<pb::ProfileDeleteResponse> {
        let id = request.into_inner().id;
        self.on_library(move |library| library.remove_profile(&id))
            .await?;
        Ok(Response::new(pb::ProfileDeleteResponse {}))
    }

    async fn profile_list(
        &self,
        _: Request<pb::ProfileListRequest>,
    ) -> Answer<pb::ProfileListResponse> {
        let profiles = self.on_library(|library| Ok(library.profiles())).await?;
        let profiles = profiles.iter().map(profile_to_wire).collect();
        Ok(Response::new(pb::ProfileListResponse { profiles }))
    }
}

#[tonic::async_trait]
impl rpcpb::ignition_server::Ignition for Services {
    async fn ignition_put(
        &self,
        request: Request<pb::IgnitionPutRequest>,
    ) -> Answer<pb::IgnitionPutResponse> {
        let pb::IgnitionPutRequest { name, config } = request.into_inner();
        self.on_library(move |library| library.put_file(Kind::Ignition, &name, &config))
            .await?;
        Ok(Response::new(pb::IgnitionPutResponse {}))
    }

    async fn ignition_get(
        &self,
        request: Request<pb::IgnitionGetRequest>,
    ) -> Answer<pb::IgnitionGetResponse> {
        let name = request.into_inner().name;
        let config = self
            .on_library(move |library| library.file(Kind::Ignition, &name))
            .await?;
        Ok(Response::new(pb::IgnitionGetResponse { config }))
    }

    async fn ignition_delete(
        &self,
        request: Request<pb::IgnitionDeleteRequest>,
    ) -> Answer<pb::IgnitionDeleteResponse> {
        let name = request.into_inner().name;
        self.on_library(move |library| library.remove_file(Kind::Ignition, &name))
            .await?;
        Ok(Response::new(pb::IgnitionDeleteResponse {}))
    }
}

#[tonic::async_trait]
impl rpcpb::generic_server::Generic for Services {
    async fn generic_put(
        &self,
        request: Request<pb::GenericPutRequest>,
    ) -> Answer<pb::GenericPutResponse> {
        let pb::GenericPutRequest { name, config } = request.into_inner();
        self.on_library(move |library| library.put_file(Kind::Generic, &name, &config))
            .await?;
        Ok(Response::new(pb::GenericPutResponse {}))
    }

    async fn generic_get(
        &self,
        request: Request<pb::GenericGetRequest>,
    ) -> Answer<pb::GenericGetResponse> {
        let name = request.into_inner().name;
        let config = self
            .on_library(move |library| library.file(Kind::Generic, &name))
            .await?;
        Ok(Response::new(pb::GenericGetResponse { config }))
    }

    async fn generic_delete(
        &self,
        request: Request<pb::GenericDeleteRequest>,
    ) -> Answer<pb::GenericDeleteResponse> {
        let name = request.into_inner().name;
        self.on_library(move |library| library.remove_file(Kind::Generic, &name))
            .await?;
        Ok(Response::new(pb::GenericDeleteResponse {}))
    }
}

#[tonic::async_trait]
impl rpcpb::select_server::Select for Services {
    async fn select_group(
        &self,
        request: Request<pb::SelectGroupRequest>,
    ) -> Answer<pb::SelectGroupResponse> {
        let labels: Labels = request.into_inner().labels.into_iter().collect();
        let catalog = self.on_library(|library| Ok(library.catalog())).await?;
        let group = catalog.select(&labels).ok_or_else(no_group)?;
        Ok(Response::new(pb::SelectGroupResponse {
            group: Some(group_to_wire(&group)),
        }))
    }

    async fn select_profile(
        &self,
        request: Request<pb::SelectProfileRequest>,
    ) -> Answer<pb::SelectProfileResponse> {
        let labels: Labels = request.into_inner().labels.into_iter().collect();
        let catalog = self.on_library(|library| Ok(library.catalog())).await?;
        let group = catalog.select(&labels).ok_or_else(no_group)?;
        let profile = self
            .on_library(move |library| library.profile(&group.profile))
            .await
            .map_err(|_unread| Status::not_found("matchbox: No matching Profile"))?;
        Ok(Response::new(pb::SelectProfileResponse {
            profile: Some(profile_to_wire(&profile)),
        }))
    }
}

fn no_group() -> Status {
    Status::not_found("matchbox: No matching Group")
}
