//! A file of tokens that never expire: `token,user,uid[,"group,..."]` per line, as Kubernetes' `--token-auth-file`.

use std::collections::HashMap;
use std::path::Path;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::{Known, TokenAuthenticator};
use crate::error::Error;
use crate::user::UserInfo;

/// The tokens of a file. Only digests are kept, so that a look-up's time tells nothing of a token.
#[derive(Clone, Debug, Default)]
pub struct StaticTokens {
    users: HashMap<[u8; 32], UserInfo>,
}

impl StaticTokens {
    /// Reads the text of a token file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// For a line that lacks its token, user or uid field, or has text after a quoted field.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || Error::TokenFile { path: path.to_owned(), line: index + 1 };
            let fields = fields(line).ok_or_else(wrong)?;
            let [token, name, uid, rest @ ..] = fields.as_slice() else { return Err(wrong()) };
            if token.is_empty() || name.is_empty() {
                return Err(wrong());
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups: Vec<&str> =
                groups.split(',').map(str::trim).filter(|group| !group.is_empty()).collect();
            let mut user = UserInfo::new(name.clone(), &groups);
            user.uid.clone_from(uid);
            users.insert(Sha256::digest(token).into(), user);
        }
        Ok(Self { users })
    }

    fn find(&self, token: &str) -> Option<UserInfo> {
        if self.users.is_empty() {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.users.get(&digest).cloned()
    }
}

#[async_trait]
impl TokenAuthenticator for StaticTokens {
    async fn authenticate(&self, token: &str, _: &[String]) -> Result<Option<Known>, String> {
        Ok(self.find(token).map(|user| Known { user, audiences: Vec::new() }))
    }
}

/// The fields of a line of comma-separated values; a field may be in double quotes, `""` standing for one inside.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let field;
        (field, rest) = match rest.trim_start().strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match rest.trim_start() {
            "" => return Some(fields),
            more => rest = more.strip_prefix(',')?,
        }
    }
}

fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, rest)),
        }
    }
}
