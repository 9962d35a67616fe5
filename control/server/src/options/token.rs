//! Where a list goes on: the continue token, in upstream's form.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine};
use serde_json::{Value, json};
use skep_api::decode;
use skep_api::status::Status;

const VERSION: &str = "meta.k8s.io/v1";

/// Where a list that was cut off goes on: what a client sends back as `continue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision of the snapshot; `None` goes on in the newest.
    pub(crate) revision: Option<u64>,
    /// The last key that was sent, below the prefix of the list.
    pub(crate) after: String,
}

impl Token {
    /// The text of the token, in upstream's form.
    pub(crate) fn encode(&self) -> String {
        let revision = self.revision.map_or(-1, |revision| revision as i64);
        let text = json!({ "v": VERSION, "rv": revision, "start": format!("{}\0", self.after) });
        URL_SAFE_NO_PAD.encode(text.to_string())
    }

    pub(super) fn decode(text: &str) -> Result<Self, Status> {
        let bad = |why: &str| {
            Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len(),
            };
            bad(&format!("illegal base64 data at input byte {at}"))
        })?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad(&decode::json_error(&bytes)))?;
        let version = value["v"].as_str().unwrap_or_default();
        if version != VERSION {
            return Err(bad(&format!("server does not recognize this encoded version {version}")));
        }
        let revision = match value["rv"].as_i64() {
            None | Some(0) => {
                return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
            }
            Some(revision) => u64::try_from(revision).ok(),
        };
        let start = value["start"].as_str().unwrap_or_default();
        if start.is_empty() {
            return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
        }
        let parts = start.strip_prefix('/').unwrap_or(start).split('/');
        if parts.into_iter().any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad(start));
        }
        Ok(Self { revision, after: start.trim_end_matches('\0').trim_start_matches('/').to_owned() })
    }
}
