//! Images: whether to pull, with which credentials, and what the image says of its user.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Container;
use serde_json::Value;
use skep_runtime::cri;

use crate::spec::security::ImageUser;

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// If the node does not have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// The container's policy; without one, `Always` for the tag `latest` and for none.
pub fn pull_policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ => {
            let image = container.image.as_deref().unwrap_or_default();
            let name = image.rsplit('/').next().unwrap_or_default();
            let floating =
                !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
            if floating { PullPolicy::Always } else { PullPolicy::IfNotPresent }
        }
    }
}

/// Registry of an image: the first part of its name, or Docker's for names without one.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Credentials for the image in a pull secret (`.dockerconfigjson` or the older `.dockercfg`).
pub fn credentials(
    image: &str,
    secret: &std::collections::BTreeMap<String, Vec<u8>>,
) -> Option<cri::AuthConfig> {
    let parse = |key: &str| serde_json::from_slice::<Value>(secret.get(key)?).ok();
    let auths = parse(".dockerconfigjson").and_then(|mut v| v.get_mut("auths").map(Value::take));
    let auths = auths.or_else(|| parse(".dockercfg"))?;
    let wanted = registry(image);
    let host = |key: &str| {
        let bare = key.trim_start_matches("https://").trim_start_matches("http://");
        let host = bare.split('/').next().unwrap_or_default().to_owned();
        if host == "index.docker.io" { "docker.io".to_owned() } else { host }
    };
    let (key, entry) = auths.as_object()?.iter().find(|(key, _)| host(key) == wanted)?;
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if username.is_empty()
        && let Ok(decoded) = STANDARD.decode(text("auth"))
        && let Some((user, secret)) = String::from_utf8_lossy(&decoded).split_once(':')
    {
        (username, password) = (user.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    Some(cri::AuthConfig { username, password, server_address: key.clone(), ..Default::default() })
}

/// The user that the image runs as.
pub fn user(image: &cri::Image) -> Option<ImageUser> {
    match &image.uid {
        Some(uid) => Some(ImageUser::Uid(uid.value)),
        None if !image.username.is_empty() => Some(ImageUser::Name(image.username.clone())),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn pull_policy_defaults_by_tag() {
        let check = |image: &str, expected| {
            let container = Container { image: Some(image.into()), ..Container::default() };
            assert_eq!(pull_policy(&container), expected, "{image}");
        };
        check("app", PullPolicy::Always);
        check("app:latest", PullPolicy::Always);
        check("localhost:5000/app", PullPolicy::Always);
        check("localhost:5000/app:1", PullPolicy::IfNotPresent);
        check("app@sha256:00", PullPolicy::IfNotPresent);
    }

    #[test]
    fn credentials_are_those_of_the_images_registry() {
        let auth = STANDARD.encode("me:secret");
        let json = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},
            "registry.example:5000":{{"username":"u","password":"p"}}}}}}"#
        );
        let secret = BTreeMap::from([(".dockerconfigjson".to_owned(), json.into_bytes())]);
        let check = |image: &str, expected: Option<(&str, &str)>| {
            let found = credentials(image, &secret).map(|auth| (auth.username, auth.password));
            assert_eq!(found, expected.map(|(user, word)| (user.to_owned(), word.to_owned())), "{image}");
        };
        check("app:1", Some(("me", "secret")));
        check("registry.example:5000/team/app", Some(("u", "p")));
        check("other.example/app", None);
    }
}
