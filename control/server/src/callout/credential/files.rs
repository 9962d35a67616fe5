//! Credentials that lie in files: a token, a certificate with its key. Others may renew them while this server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Credential, fresh_number, secret_header};
use crate::error::Error;
use crate::pki::{Leaf, read_text};

/// What was read counts for so long.
const PERIOD: Duration = Duration::from_secs(60);

/// The files, and what they said last.
#[derive(Debug)]
pub(crate) struct Files {
    places: Places,
    /// What goes with each request besides the token.
    headers: HeaderMap,
    last: Mutex<Last>,
}

/// Where what is shown lies.
#[derive(Clone, Debug, Default)]
pub(in crate::callout) struct Places {
    /// A certificate and its key, PEM.
    pub(in crate::callout) identity: Option<(Text, Text)>,
    pub(in crate::callout) token: Option<Text>,
}

/// A text that is known, or lies in a file.
#[derive(Clone, Debug)]
pub(in crate::callout) enum Text {
    Known(String),
    In(PathBuf),
}

impl Text {
    fn read(&self) -> Result<String, Error> {
        match self {
            Self::Known(text) => Ok(text.clone()),
            Self::In(path) => read_text(path),
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Known(_) => None,
            Self::In(path) => Some(path),
        }
    }
}

#[derive(Debug)]
struct Last {
    read: Instant,
    credential: Credential,
    token: Option<String>,
}

impl Files {
    /// Reads the files at these places.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or says nothing that can be shown.
    pub(in crate::callout) fn read(places: Places, headers: HeaderMap) -> Result<Self, Error> {
        let token = places.token.as_ref().map(Text::read).transpose()?;
        let identity = match &places.identity {
            None => None,
            Some((certificate, key)) => {
                let leaf = Leaf { certificate_pem: certificate.read()?, key_pem: key.read()? };
                Some((fresh_number(), Arc::new(leaf)))
            }
        };
        let all = with_token(&headers, token.as_deref()).map_err(|reason| {
            let path = places.token.as_ref().and_then(Text::path).unwrap_or(Path::new("")).to_owned();
            Error::Configuration { what: "token", path, reason }
        })?;
        let last = Last { read: Instant::now(), credential: Credential::new(identity, all), token };
        Ok(Self { places, headers, last: Mutex::new(last) })
    }

    /// Whether anything lies in a file, so that it may change.
    pub(in crate::callout) fn may_change(&self) -> bool {
        let identity = self.places.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        identity.chain(&self.places.token).any(|text| text.path().is_some())
    }

    /// What they say; what they said before as long as they cannot be read.
    pub(in crate::callout) fn current(&self) -> Credential {
        let mut last = self.last.lock();
        if last.read.elapsed() >= PERIOD {
            last.read = Instant::now();
            if let Err(why) = self.renew(&mut last) {
                tracing::warn!(why, "cannot read credentials again; those read before stay in use");
            }
        }
        last.credential.clone()
    }

    fn renew(&self, last: &mut Last) -> Result<(), String> {
        let why = |error: Error| crate::failure::with_causes(&error);
        let token = self.places.token.as_ref().map(Text::read).transpose().map_err(why)?;
        let mut identity = last.credential.identity.clone();
        if let (Some((certificate, key)), Some((_, known))) = (&self.places.identity, &identity) {
            let leaf =
                Leaf { certificate_pem: certificate.read().map_err(why)?, key_pem: key.read().map_err(why)? };
            if (&leaf.certificate_pem, &leaf.key_pem) != (&known.certificate_pem, &known.key_pem) {
                super::answer::check_pair(&leaf)?;
                identity = Some((fresh_number(), Arc::new(leaf)));
            }
        }
        if token != last.token
            || identity.as_ref().map(number) != last.credential.identity.as_ref().map(number)
        {
            last.credential = Credential::new(identity, with_token(&self.headers, token.as_deref())?);
            last.token = token;
        }
        Ok(())
    }
}

fn number(identity: &(u64, Arc<Leaf>)) -> u64 {
    identity.0
}

fn with_token(headers: &HeaderMap, token: Option<&str>) -> Result<HeaderMap, String> {
    let mut headers = headers.clone();
    if let Some(token) = token {
        let token = token.trim();
        if token.is_empty() {
            return Err("it is empty".to_owned());
        }
        headers.insert(AUTHORIZATION, secret_header(format!("Bearer {token}"))?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(files: &Files) -> String {
        files.current().headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn token_in_a_file_is_read_again_and_kept_when_that_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let places = Places { token: Some(Text::In(path.clone())), identity: None };
        let files = Files::read(places, HeaderMap::new()).unwrap();
        assert!(files.may_change());
        std::fs::write(&path, "two").unwrap();
        assert_eq!(shown(&files), "Bearer one");
        tokio::time::advance(PERIOD).await;
        assert_eq!(shown(&files), "Bearer two");
        for bad in [Some(""), Some("a\nb"), None] {
            std::fs::remove_file(&path).unwrap();
            if let Some(text) = bad {
                std::fs::write(&path, text).unwrap();
            }
            tokio::time::advance(PERIOD).await;
            assert_eq!(shown(&files), "Bearer two", "{bad:?}");
            std::fs::write(&path, "two").unwrap();
        }
    }
}
