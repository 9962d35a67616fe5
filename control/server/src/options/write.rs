//! The options of writes: who writes, whether for show, and what about unknown fields.

use skep_api::decode::FieldValidation;
use skep_api::status::Status;
use skep_api::validation::FieldError;

use crate::failure::invalid_options;
use crate::handlers::LONGEST_MANAGER;
use crate::query::Query;

/// The options of a write that are the same for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    /// Everything but the write itself is done.
    pub(crate) dry_run: bool,
    /// What to do about unknown fields.
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// Reads the options; `kind` names them in errors.
    pub(crate) fn parse(kind: &str, query: &Query) -> Result<Self, Status> {
        let mut errors = Vec::new();
        if kind == "PatchOptions" && query.has("force") {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        Self::common(kind, query, errors)
    }

    fn common(kind: &str, query: &Query, mut errors: Vec<FieldError>) -> Result<Self, Status> {
        errors.extend(manager(query));
        let dry: Vec<&str> = query.all("dryRun").collect();
        errors.extend(dry_run(&dry));
        let word = query.get("fieldValidation").unwrap_or_default();
        let validation = FieldValidation::parse(word);
        if validation.is_none() {
            let choices = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported("fieldValidation", word, &choices));
        }
        match validation {
            Some(validation) if errors.is_empty() => Ok(Self { dry_run: !dry.is_empty(), validation }),
            _ => Err(invalid_options(kind, &errors)),
        }
    }
}

/// What is wrong with the name of the field manager.
fn manager(query: &Query) -> Vec<FieldError> {
    let name = query.get("fieldManager").unwrap_or_default();
    let mut errors = Vec::new();
    if name.len() > LONGEST_MANAGER {
        errors.push(FieldError::too_long("fieldManager", LONGEST_MANAGER));
    }
    for (at, char) in name.char_indices().filter(|(_, char)| !is_printable(*char)) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(char));
        errors.push(FieldError::invalid("fieldManager", name, why));
    }
    errors
}

/// Whether a character has a shape; of spaces only the usual one counts as such.
fn is_printable(char: char) -> bool {
    char == ' '
        || !char.is_control() && !char.is_whitespace() && !char.escape_debug().to_string().starts_with("\\u{")
}

/// The options of an apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApplyOptions {
    pub(crate) write: WriteOptions,
    pub(crate) manager: String,
    /// Whether to take over what others own.
    pub(crate) force: bool,
}

impl ApplyOptions {
    /// Reads the options.
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        let manager = query.get("fieldManager").unwrap_or_default().to_owned();
        let missing = || FieldError::required("fieldManager", "is required for apply patch");
        let errors = manager.is_empty().then(missing).into_iter().collect();
        let write = WriteOptions::common("PatchOptions", query, errors)?;
        Ok(Self { write, manager, force: query.flag("force") })
    }
}

/// What is wrong with the words of `dryRun`, of which there is one.
pub(crate) fn dry_run(words: &[&str]) -> Option<FieldError> {
    let known = words.iter().all(|word| *word == "All");
    (!known).then(|| FieldError::not_supported("dryRun", words.to_vec(), &["All"]))
}
