//! What goes into the files of ConfigMap, Secret, downward API and projected volumes.
//!
//! Owns the choice of keys, paths and modes, and the tokens in use with the time for new ones.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::writer::{File, Payload};
use crate::cluster::{Cluster, Data, Token};
use crate::spec::env::Reference;
use crate::spec::fields::{self, PodFacts};
use crate::spec::security;

const DEFAULT_MODE: i32 = 0o644;
const TOKEN_MODE: i32 = 0o600;

struct Held {
    token: Token,
    renew_at: Timestamp,
}

/// What is kept between two looks at a pod's volumes: its tokens.
#[derive(Default)]
pub struct Sources {
    tokens: HashMap<(String, String), Held>,
}

impl Sources {
    /// The volume's files, and when they must be made anew.
    ///
    /// # Errors
    /// A text for the user.
    pub(super) async fn payload(
        &mut self,
        pod: &Pod,
        volume: &Volume,
        facts: &PodFacts,
        cluster: &dyn Cluster,
        now: Timestamp,
    ) -> Result<(Payload, Option<Timestamp>), String> {
        let mut files = Files { pod, facts, cluster, payload: Payload::new() };
        if let Some(source) = &volume.config_map {
            let reference = Reference::ConfigMap(source.name.clone());
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            files.object(reference, source.items.as_deref(), source.optional, mode).await?;
        } else if let Some(source) = &volume.secret {
            let reference = Reference::Secret(source.secret_name.clone().unwrap_or_default());
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            files.object(reference, source.items.as_deref(), source.optional, mode).await?;
        } else if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            files.downward(source.items.as_deref().unwrap_or_default(), mode)?;
        } else if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            let mut refresh = None;
            for part in source.sources.iter().flatten() {
                let renewal = self.projected(&mut files, &volume.name, part, mode, now).await?;
                refresh = [refresh, renewal].into_iter().flatten().min();
            }
            return Ok((files.payload, refresh));
        }
        Ok((files.payload, None))
    }

    async fn projected(
        &mut self,
        files: &mut Files<'_>,
        volume: &str,
        part: &VolumeProjection,
        mode: i32,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, String> {
        if let Some(source) = &part.config_map {
            let reference = Reference::ConfigMap(source.name.clone());
            files.object(reference, source.items.as_deref(), source.optional, mode).await?;
        } else if let Some(source) = &part.secret {
            let reference = Reference::Secret(source.name.clone());
            files.object(reference, source.items.as_deref(), source.optional, mode).await?;
        } else if let Some(source) = &part.downward_api {
            files.downward(source.items.as_deref().unwrap_or_default(), mode)?;
        } else if let Some(source) = &part.service_account_token {
            let held = self.token(files, volume, source, now).await?;
            files.add_token(&source.path, held.token.text.clone().into_bytes(), mode);
            return Ok(Some(held.renew_at));
        } else {
            return Err("this kind of projection is not supported by this node".into());
        }
        Ok(None)
    }

    async fn token(
        &mut self,
        files: &Files<'_>,
        volume: &str,
        source: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<&Held, String> {
        let key = (volume.to_owned(), source.path.clone());
        if self.tokens.get(&key).is_none_or(|held| held.renew_at <= now) {
            let audience = source.audience.as_deref().filter(|audience| !audience.is_empty());
            let asked = files.cluster.token(files.pod, audience, source.expiration_seconds).await;
            match asked {
                Ok(token) => {
                    let renew_at = renewal(now, token.expires);
                    self.tokens.insert(key.clone(), Held { token, renew_at });
                }
                Err(error) => match self.tokens.get_mut(&key).filter(|held| held.token.expires > now) {
                    // The old one serves until it expires; another try is made soon.
                    Some(held) => held.renew_at = later(now, 30),
                    None => return Err(crate::describe(&error)),
                },
            }
        }
        self.tokens.get(&key).ok_or_else(|| "the token is gone".to_owned())
    }
}

/// New tokens are asked for at 80 % of their life.
fn renewal(now: Timestamp, expires: Timestamp) -> Timestamp {
    later(now, (expires.as_second() - now.as_second()).max(10) * 4 / 5)
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}

struct Files<'a> {
    pod: &'a Pod,
    facts: &'a PodFacts,
    cluster: &'a dyn Cluster,
    payload: Payload,
}

impl Files<'_> {
    fn add(&mut self, path: &str, bytes: Vec<u8>, mode: i32) {
        let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
        self.payload.insert(path.to_owned(), File { bytes, mode, owner: None });
    }

    /// A token is for the pod's own user or group alone, where these are known, whatever mode the volume has.
    fn add_token(&mut self, path: &str, bytes: Vec<u8>, mode: i32) {
        let owner = security::only_user(self.pod);
        let known = owner.is_some() || super::fs_group(self.pod).is_some();
        self.add(path, bytes, if known { TOKEN_MODE } else { mode });
        if let Some(file) = self.payload.get_mut(path) {
            file.owner = owner;
        }
    }

    async fn object(
        &mut self,
        reference: Reference,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
    ) -> Result<(), String> {
        let optional = optional == Some(true);
        let described = match &reference {
            Reference::ConfigMap(name) => format!("configmap {name:?}"),
            Reference::Secret(name) => format!("secret {name:?}"),
        };
        let found = self.cluster.contents(self.pod, &reference).await;
        let Some(data) = found.map_err(|error| crate::describe(&error))? else {
            return if optional { Ok(()) } else { Err(format!("{described} not found")) };
        };
        self.select(&data, items, optional, mode, &described)
    }

    fn select(
        &mut self,
        data: &Data,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: i32,
        described: &str,
    ) -> Result<(), String> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, bytes) in data {
                self.add(key, bytes.clone(), mode);
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(bytes) => self.add(&item.path, bytes.clone(), item.mode.unwrap_or(mode)),
                None if optional => {}
                None => return Err(format!("{described} has no key {:?}", item.key)),
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<(), String> {
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(selector), _) => fields::field(self.pod, self.facts, selector)?,
                (None, Some(selector)) => fields::resource(self.pod, self.facts, "", selector)?,
                (None, None) => return Err(format!("{} refers to nothing", item.path)),
            };
            self.add(&item.path, text.into_bytes(), item.mode.unwrap_or(mode));
        }
        Ok(())
    }
}
