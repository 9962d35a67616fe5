//! A program that is asked for credentials: run at most once at a time, its answer kept until it ends or is refused.
//!
//! ```text
//! none -> known          (the first call)
//! known -> known         (it is over, or the other side refused it: the program runs again)
//! ```
//!
//! A run belongs to nobody who waits for it: a call that is given up does not end it, and the next one finds its answer.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::answer::{self, Answer};
use super::{Called, Credential, fresh_number};

/// The variable in which a program finds what it is told.
const TOLD: &str = "KUBERNETES_EXEC_INFO";
/// A program may run so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer (bytes).
const LONGEST: u64 = 1 << 20;
/// A program that is told whom it is asked for is kept for so many servers.
const KEPT: usize = 200;

/// What a kubeconfig file says of a program.
#[derive(Clone, Debug)]
pub(in crate::callout) struct Settings {
    /// One of [`answer::VERSIONS`].
    pub(in crate::callout) version: String,
    /// A path, or a name that is looked for.
    pub(in crate::callout) command: OsString,
    pub(in crate::callout) arguments: Vec<String>,
    pub(in crate::callout) environment: Vec<(String, String)>,
    pub(in crate::callout) interactive: Interactive,
    /// What a user is told who does not have the program.
    pub(in crate::callout) hint: String,
    /// Whether it is told which server is called, and what else the file says of that one.
    pub(in crate::callout) told: Option<Value>,
}

/// Whether a program is given this server's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::callout) enum Interactive {
    Never,
    /// If that is a terminal.
    IfAvailable,
    Always,
}

impl Interactive {
    /// # Errors
    ///
    /// When it has to be, and is no terminal.
    fn decide(self, terminal: bool) -> Result<bool, String> {
        match self {
            Self::Always if !terminal => {
                Err("exec plugin cannot support interactive mode: standard input is not a terminal"
                    .to_owned())
            }
            Self::Never => Ok(false),
            Self::IfAvailable | Self::Always => Ok(terminal),
        }
    }
}

/// The program, and what it answered for each server that it was told of.
#[derive(Debug)]
pub(crate) struct Program {
    settings: Arc<Settings>,
    /// What goes with each request besides.
    headers: HeaderMap,
    known: Mutex<HashMap<Option<Called>, Arc<Known>>>,
}

/// The answer for one server, which is also held while the program runs.
type Known = tokio::sync::Mutex<Option<Current>>;

#[derive(Clone, Debug)]
struct Current {
    credential: Credential,
    expires: Option<SystemTime>,
}

impl Program {
    pub(in crate::callout) fn new(settings: Settings, headers: HeaderMap) -> Self {
        Self { settings: Arc::new(settings), headers, known: Mutex::default() }
    }

    pub(super) async fn current(&self, called: &Called) -> Result<Credential, String> {
        self.get(called, None).await
    }

    /// Asks it anew, unless that was done since it answered `shown`.
    pub(super) async fn refused(&self, shown: &Credential, called: &Called) -> Result<(), String> {
        self.get(called, Some(shown.number)).await.map(drop)
    }

    async fn get(&self, called: &Called, refused: Option<u64>) -> Result<Credential, String> {
        let (settings, known, headers) = (self.settings.clone(), self.known(called), self.headers.clone());
        let told = self.settings.told.as_ref().map(|extra| (called, extra));
        let terminal = std::io::stdin().is_terminal();
        let interactive = settings.interactive.decide(terminal)?;
        let question = answer::question(&settings.version, interactive, told);
        let run = async move {
            let mut known = known.lock().await;
            if let Some(current) = &*known
                && current.expires.is_none_or(|end| SystemTime::now() <= end)
                && refused != Some(current.credential.number)
            {
                return Ok(current.credential.clone());
            }
            let mut answer = settings.run(&question, interactive).await?;
            answer.headers.extend(headers);
            let current = Current::of(answer, known.as_ref());
            Ok(known.insert(current).credential.clone())
        };
        tokio::spawn(run).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn known(&self, called: &Called) -> Arc<Known> {
        // Who is not told has one answer for all.
        let key = self.settings.told.as_ref().map(|_| called.clone());
        let mut known = self.known.lock();
        if known.len() >= KEPT && !known.contains_key(&key) {
            known.clear();
        }
        known.entry(key).or_default().clone()
    }
}

impl Current {
    /// The certificate that was shown before stays the same, and connections with it open, if the answer has the same.
    fn of(answer: Answer, before: Option<&Self>) -> Self {
        let identity = answer.leaf.map(|leaf| {
            let before = before.and_then(|before| before.credential.identity.clone());
            let same = before.filter(|(_, known)| {
                (&known.certificate_pem, &known.key_pem) == (&leaf.certificate_pem, &leaf.key_pem)
            });
            same.unwrap_or_else(|| (fresh_number(), Arc::new(leaf)))
        });
        Self { credential: Credential::new(identity, answer.headers), expires: answer.expires }
    }
}

impl Settings {
    /// Runs the program to its end. What it says besides its answer goes where this server's own messages go.
    async fn run(&self, question: &Value, interactive: bool) -> Result<Answer, String> {
        let name = self.command.to_string_lossy();
        let mut child = Command::new(&self.command)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(TOLD, question.to_string())
            .stdin(if interactive { Stdio::inherit() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound if self.hint.is_empty() => {
                    format!("exec: executable {name} not found")
                }
                std::io::ErrorKind::NotFound => format!("exec: executable {name} not found\n\n{}", self.hint),
                _ => format!("exec: {name}: {error}"),
            })?;
        let output = child.stdout.take();
        let whole = async {
            let mut written = Vec::new();
            if let Some(output) = output {
                output.take(LONGEST + 1).read_to_end(&mut written).await?;
            }
            if written.len() as u64 > LONGEST {
                return Err(std::io::Error::other(format!("its answer is longer than {LONGEST} bytes")));
            }
            Ok((child.wait().await?, written))
        };
        let ended = tokio::time::timeout(PATIENCE, whole).await;
        let (status, written) = ended
            .map_err(|_| format!("exec: executable {name} did not end within {} s", PATIENCE.as_secs()))?
            .map_err(|error| format!("exec: executable {name}: {error}"))?;
        if !status.success() {
            let code = status.code().unwrap_or(-1);
            return Err(format!("exec: executable {name} failed with exit code {code}"));
        }
        answer::read(&self.version, &written)
    }
}
