//! An entry of `users`: what is shown, and where that comes from.
//!
//! What is refused, and why, is upstream's (`clientcmd`). An entry that has a token, a name with a password or a certificate
//! shows that; its program is not asked then.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::super::credential::{
    Files as CredentialFiles, Interactive, Places, Program, Settings, Source, Text, VERSIONS, basic,
    secret_header,
};
use super::{Files, text_of};
use crate::error::Error;

/// One entry, by its name, in a file.
pub(super) struct User<'a> {
    pub(super) files: &'a Files<'a>,
    pub(super) name: &'a str,
    pub(super) user: &'a Value,
}

impl User<'_> {
    /// What it shows. `extra` is what the file says of the cluster to programs alone.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the entry says nothing that can be shown.
    pub(super) fn source(&self, extra: &Value) -> Result<Source, Error> {
        let mut headers = self.impersonation()?;
        let exec = Some(&self.user["exec"]).filter(|exec| exec.is_object());
        if self.user["auth-provider"].is_object() {
            return Err(self.wrong(&match exec {
                Some(_) => format!(
                    "authProvider cannot be provided in combination with an exec plugin for {}",
                    self.name
                ),
                None => "auth provider not supported".to_owned(),
            }));
        }
        let program = exec.map(|exec| self.program(exec, extra)).transpose()?;
        if let Some(basic) = self.basic() {
            let header = secret_header(basic).map_err(|why| self.wrong(&format!("its password: {why}")))?;
            headers.insert(AUTHORIZATION, header);
        }
        let places = Places { identity: self.identity()?, token: self.token() };
        if places.token.is_some() && headers.contains_key(AUTHORIZATION) {
            let name = self.name;
            return Err(self.wrong(&format!(
                "more than one authentication method found for {name}; found [token basicAuth], only one is allowed"
            )));
        }
        let shows =
            places.token.is_some() || places.identity.is_some() || headers.contains_key(AUTHORIZATION);
        if let (Some(settings), false) = (program, shows) {
            return Ok(Source::Program(Arc::new(Program::new(settings, headers))));
        }
        let files = CredentialFiles::read(places, headers)?;
        Ok(if files.may_change() { Source::Files(Arc::new(files)) } else { Source::Fixed(files.current()) })
    }

    fn wrong(&self, why: &str) -> Error {
        self.files.wrong(why)
    }

    fn identity(&self) -> Result<Option<(Text, Text)>, Error> {
        let (certificate, key) = (self.pem("client-certificate")?, self.pem("client-key")?);
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            _ => Err(self.wrong("a client-certificate needs its client-key")),
        }
    }

    /// What stands in the file (`FIELD-data`), or lies beside it (`FIELD`).
    fn pem(&self, field: &str) -> Result<Option<Text>, Error> {
        if let Some(known) = self.files.data(self.user, field)? {
            return Ok(Some(Text::Known(known)));
        }
        Ok(text_of(self.user, field).map(|name| Text::In(self.files.beside(name))))
    }

    fn token(&self) -> Option<Text> {
        let known = text_of(self.user, "token").map(|token| Text::Known(token.to_owned()));
        known.or_else(|| text_of(self.user, "tokenFile").map(|name| Text::In(self.files.beside(name))))
    }

    fn basic(&self) -> Option<String> {
        let password = text_of(self.user, "password");
        let name = text_of(self.user, "username").or(password.map(|_| ""))?;
        Some(basic(name, password.unwrap_or_default()))
    }

    /// For whom it acts.
    fn impersonation(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        let user = text_of(self.user, "as");
        let uid = text_of(self.user, "as-uid");
        let groups: Vec<_> = self.user["as-groups"].as_array().into_iter().flatten().collect();
        let extra = self.user["as-user-extra"].as_object();
        if user.is_none()
            && (uid.is_some() || !groups.is_empty() || extra.is_some_and(|extra| !extra.is_empty()))
        {
            let why = format!(
                "requesting uid, groups or user-extra for {} without impersonating a user",
                self.name
            );
            return Err(self.wrong(&why));
        }
        let mut add = |name: &str, value: &str| {
            let name = HeaderName::try_from(name)
                .map_err(|_| self.wrong("the key of an as-user-extra is too long"))?;
            headers.append(name, value.parse().map_err(|_| self.wrong("whom it stands for is not text"))?);
            Ok::<_, Error>(())
        };
        user.map(|user| add("impersonate-user", user)).transpose()?;
        uid.map(|uid| add("impersonate-uid", uid)).transpose()?;
        for group in groups {
            add("impersonate-group", group.as_str().unwrap_or_default())?;
        }
        for (key, values) in extra.into_iter().flatten() {
            for value in values.as_array().into_iter().flatten() {
                add(&format!("impersonate-extra-{}", escape(key)), value.as_str().unwrap_or_default())?;
            }
        }
        Ok(headers)
    }

    fn program(&self, exec: &Value, extra: &Value) -> Result<Settings, Error> {
        let name = self.name;
        let missing =
            |what: &str| format!("{what} must be specified for {name} to use exec authentication plugin");
        let command = text_of(exec, "command").ok_or_else(|| self.wrong(&missing("command")))?;
        let version = text_of(exec, "apiVersion").ok_or_else(|| self.wrong(&missing("apiVersion")))?;
        if !VERSIONS.contains(&version) {
            return Err(self.wrong(&format!("exec plugin: invalid apiVersion {version:?}")));
        }
        let interactive = match text_of(exec, "interactiveMode") {
            Some("Never") => Interactive::Never,
            Some("IfAvailable") => Interactive::IfAvailable,
            Some("Always") => Interactive::Always,
            Some(other) => return Err(self.wrong(&format!("invalid interactiveMode for {name}: {other:?}"))),
            None if version.ends_with("/v1beta1") => Interactive::IfAvailable,
            None => return Err(self.wrong(&missing("interactiveMode"))),
        };
        let mut environment = Vec::new();
        for one in exec["env"].as_array().into_iter().flatten() {
            let variable = text_of(one, "name").ok_or_else(|| self.wrong(&missing("env variable name")))?;
            environment.push((variable.to_owned(), one["value"].as_str().unwrap_or_default().to_owned()));
        }
        let arguments = exec["args"].as_array().into_iter().flatten();
        let path =
            if command.contains('/') { self.files.beside(command).into() } else { OsString::from(command) };
        Ok(Settings {
            version: version.to_owned(),
            command: path,
            arguments: arguments.map(|one| one.as_str().unwrap_or_default().to_owned()).collect(),
            environment,
            interactive,
            hint: text_of(exec, "installHint").unwrap_or_default().to_owned(),
            told: (exec["provideClusterInfo"] == true).then(|| extra.clone()),
        })
    }
}

/// The key of an extra as part of a header's name: bytes that cannot stand there become `%XX`.
fn escape(key: &str) -> String {
    let mut escaped = String::new();
    for byte in key.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => escaped.push(char::from(byte)),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
            | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => write!(escaped, "%{byte:02X}").expect("a text takes what is written"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn source(user: &Value) -> Result<Source, String> {
        let files = Files::of(Path::new("/somewhere/file"));
        User { files: &files, name: "u", user }.source(&Value::Null).map_err(|error| error.to_string())
    }

    #[test]
    fn entry_shows_one_thing_and_for_whom() {
        let check = |user: Value, expected: &[(&str, &str)]| {
            let Ok(Source::Fixed(shown)) = source(&user) else { panic!("{user} is not fixed") };
            let found: Vec<_> =
                shown.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            assert_eq!(found, expected, "{user}");
        };
        check(json!({}), &[]);
        check(json!({ "token": " t " }), &[("authorization", "Bearer t")]);
        check(json!({ "username": "a", "password": "b" }), &[("authorization", "Basic YTpi")]);
        // A program is not asked where something else is shown.
        let exec = json!({ "command": "false", "apiVersion": VERSIONS[0], "interactiveMode": "Never" });
        check(json!({ "token": "t", "exec": exec }), &[("authorization", "Bearer t")]);
        let whom = json!({
            "as": "x", "as-uid": "1", "as-groups": ["g", "h"], "as-user-extra": { "a/b": ["1"] },
        });
        check(
            whom,
            &[
                ("impersonate-user", "x"),
                ("impersonate-uid", "1"),
                ("impersonate-group", "g"),
                ("impersonate-group", "h"),
                ("impersonate-extra-a%2fb", "1"),
            ],
        );
    }

    #[test]
    fn entry_that_cannot_be_used_is_refused_in_upstreams_words() {
        let check = |user: Value, expected: &str| {
            let why = source(&user).unwrap_err();
            assert_eq!(why, format!("kubeconfig /somewhere/file: {expected}"));
        };
        let exec = |exec: Value| json!({ "exec": exec });
        let [v1, v1beta1] = VERSIONS;
        check(exec(json!({})), "command must be specified for u to use exec authentication plugin");
        check(
            exec(json!({ "command": "x" })),
            "apiVersion must be specified for u to use exec authentication plugin",
        );
        check(
            exec(json!({ "command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1" })),
            "exec plugin: invalid apiVersion \"client.authentication.k8s.io/v1alpha1\"",
        );
        check(
            exec(json!({ "command": "x", "apiVersion": v1 })),
            "interactiveMode must be specified for u to use exec authentication plugin",
        );
        check(
            exec(json!({ "command": "x", "apiVersion": v1, "interactiveMode": "Perhaps" })),
            "invalid interactiveMode for u: \"Perhaps\"",
        );
        check(
            exec(json!({ "command": "x", "apiVersion": v1beta1, "env": [{ "value": "y" }] })),
            "env variable name must be specified for u to use exec authentication plugin",
        );
        check(json!({ "auth-provider": {} }), "auth provider not supported");
        check(
            json!({ "auth-provider": {}, "exec": {} }),
            "authProvider cannot be provided in combination with an exec plugin for u",
        );
        check(
            json!({ "token": "t", "username": "n" }),
            "more than one authentication method found for u; found [token basicAuth], only one is allowed",
        );
        check(
            json!({ "as-uid": "1" }),
            "requesting uid, groups or user-extra for u without impersonating a user",
        );
        check(json!({ "client-certificate-data": "eA==" }), "a client-certificate needs its client-key");
    }
}
