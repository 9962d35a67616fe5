//! What this server shows of itself to a server that it calls, and where it has it from.
//!
//! - [`files`]: tokens and certificates that lie in files, which are read again from time to time.
//! - [`program`]: a program that is asked for them, as kubeconfig files name one (`exec`).
//!
//! Whoever calls takes what is [current](Source::current), and says when it was [refused](Source::refused).

mod answer;
mod files;
mod program;
#[cfg(test)]
mod program_tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use super::target::Trust;
use crate::pki::Leaf;

pub(super) use answer::VERSIONS;
pub(super) use files::{Files, Places, Text};
pub(super) use program::{Interactive, Program, Settings};

/// What the other side sees of a server that calls it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credential {
    /// Tells it from what is shown before and after it.
    number: u64,
    /// With a number that no other has: connections are shared among calls with the same.
    pub(super) identity: Option<(u64, Arc<Leaf>)>,
    /// What goes with each request: `Authorization`, whom it stands for.
    pub(super) headers: HeaderMap,
}

impl Credential {
    pub(super) fn new(identity: Option<(u64, Arc<Leaf>)>, headers: HeaderMap) -> Self {
        Self { number: fresh_number(), identity, headers }
    }
}

/// A number that tells credentials and certificates apart; far above what renewals of the server's own count to.
pub(super) fn fresh_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1 << 32);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// What shows a name and a password.
pub(super) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// A header that is in no log.
///
/// # Errors
///
/// When the text is none that a header can have.
pub(super) fn secret_header(text: String) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(text).map_err(|_| "it is not text".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where a credential comes from. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// It is always the same.
    Fixed(Credential),
    Files(Arc<Files>),
    Program(Arc<Program>),
}

impl Default for Source {
    fn default() -> Self {
        Self::Fixed(Credential::default())
    }
}

impl Source {
    /// What is shown, as far as that is known without asking anybody.
    pub(super) fn known(&self) -> Option<Credential> {
        match self {
            Self::Fixed(credential) => Some(credential.clone()),
            Self::Files(files) => Some(files.current()),
            Self::Program(_) => None,
        }
    }

    /// What the server at the other side, which is `called`, is shown now.
    ///
    /// # Errors
    ///
    /// When the program that should say so does not.
    pub(super) async fn current(&self, called: &Called) -> Result<Credential, String> {
        match self {
            Self::Fixed(credential) => Ok(credential.clone()),
            Self::Files(files) => Ok(files.current()),
            Self::Program(program) => program.current(called).await,
        }
    }

    /// The other side does not take `shown` for a credential: the next call shows another one, if there is any.
    pub(super) async fn refused(&self, shown: &Credential, called: &Called) {
        if let Self::Program(program) = self
            && let Err(why) = program.refused(shown, called).await
        {
            tracing::warn!(why, server = %called.server, "cannot get other credentials");
        }
    }
}

/// A server that is called, as a program sees it that is asked for credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Called {
    /// Its URL, without a path where that depends on the call.
    pub(super) server: String,
    /// The name in its certificate, if not that of the URL.
    pub(super) server_name: Option<String>,
    pub(super) trust: Trust,
    /// The URL of the proxy before it.
    pub(super) proxy: Option<String>,
}
