//! A request passed on to the server that answers for its group version, in the name of its user.

use std::fmt::Write as _;

use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use skep_api::status::Status;

use super::front_proxy::{EXTRA_PREFIX, GROUP, UID, USER};
use super::remotes::{Aggregation, Known};
use crate::audit::Record;
use crate::body::{self, Body};
use crate::refusal;
use crate::streams::{strip_connection_headers, strip_credentials, tunnel, wants_upgrade};
use crate::user::UserInfo;

impl Aggregation {
    /// Passes a request on.
    ///
    /// # Errors
    ///
    /// 400 for an upgrade on a connection that cannot be upgraded.
    pub(crate) async fn pass_on(
        &self,
        known: &Known,
        user: &UserInfo,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let (Ok(target), true) = (&known.target, known.available) else {
            return Ok(unavailable("service unavailable"));
        };
        let upgrade = wants_upgrade(request.headers());
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let record = request.extensions_mut().remove::<Record>();
        if upgrade && client.is_none() {
            return Err(refusal::bad_request("this connection cannot be upgraded: use HTTP/1.1"));
        }
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        strip_connection_headers(&mut headers, upgrade);
        strip_credentials(&mut headers);
        speak_for(user, &mut headers);
        let authority = target.authority();
        headers.insert(HOST, HeaderValue::try_from(&authority).map_err(Status::internal)?);
        let mut onward = Request::builder()
            .method(parts.method)
            .uri(format!("https://{authority}{path}"))
            .body(if upgrade { body::empty() } else { body })
            .map_err(|error| refusal::bad_request(&format!("cannot be passed on: {error}")))?;
        *onward.headers_mut() = headers;
        let shown = self.front_proxy.as_ref().map(super::FrontProxy::shown);
        let mut response = match self.caller.send(target, shown, onward).await {
            Ok(response) => response,
            Err(why) => return Ok(unavailable(&format!("error trying to reach service: {why}"))),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = client.filter(|_| upgrade) else {
                return Ok(unavailable("the server switched protocols without being asked"));
            };
            tokio::spawn(tunnel(client, hyper::upgrade::on(&mut response), record));
            let (parts, _) = response.into_parts();
            return Ok(Response::from_parts(parts, body::empty()));
        }
        let (mut parts, body) = response.into_parts();
        strip_connection_headers(&mut parts.headers, false);
        Ok(Response::from_parts(parts, body::boxed(body)))
    }
}

/// 503 in plain text, as upstream's proxy answers.
fn unavailable(why: &str) -> Response<Body> {
    let mut response = Response::new(body::full(format!("{why}\n")));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Says for whom a request is. Whatever the client said about that is gone.
pub(super) fn speak_for(user: &UserInfo, headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    let mut say = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.to_ascii_lowercase()), HeaderValue::from_bytes(value.as_bytes()))
        {
            headers.append(name, value);
        }
    };
    say(USER, &user.name);
    if !user.uid.is_empty() {
        say(UID, &user.uid);
    }
    for group in &user.groups {
        say(GROUP, group);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA_PREFIX}{}", escaped(key));
        for value in values {
            say(&name, value);
        }
    }
}

/// A key as part of a header's name: what must not be in one is percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_told_and_what_the_client_claims_is_not() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-evil", HeaderValue::from_static("1"));
        let mut user = UserInfo::new("jane", &["dev"]);
        user.uid = "7".into();
        user.extra.insert("example.com/scope%".into(), vec!["a".into(), "b".into()]);
        speak_for(&user, &mut headers);
        let all =
            |name: &str| headers.get_all(name).iter().map(|one| one.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-uid"), ["7"]);
        assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-evil"), [""; 0]);
        assert_eq!(all("x-remote-extra-example.com%2fscope%25"), ["a", "b"]);
    }
}
