//! The table of kinds in the README is what the registry says. `UPDATE_README=1 cargo test -p skep-api --test readme`
//! writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use skep_api::registry::{Resource, registry};
use skep_api::{protobuf, select, strategy};

const START: &str = "<!-- kinds: written by control/api/tests/readme.rs -->\n";
const END: &str = "<!-- end of kinds -->";
/// What can be done with most kinds.
const USUAL: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn list(texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| format!("`{text}`")).collect::<Vec<_>>().join(" ")
}

fn verbs(resource: &Resource) -> String {
    let has = |verb: &&str| resource.has_verb(verb);
    match USUAL.iter().filter(|verb| !has(verb)).count() {
        0 => "all".to_owned(),
        _ => list(resource.verbs.iter().cloned()),
    }
}

fn row(resource: &Resource) -> String {
    let kind = match resource.short_names.is_empty() {
        true => format!("`{}`", resource.kind),
        false => format!("`{}` ({})", resource.kind, resource.short_names.join(", ")),
    };
    let served = resource.subresources.iter().filter(|one| one.served).map(|one| one.name.clone());
    let notes = [
        (strategy::counts_generation(resource), "generation"),
        (!resource.columns.is_empty(), "columns"),
        (protobuf::has_kind(&resource.group_version(), &resource.kind), "protobuf"),
        (resource.needs_conversion(), "converted"),
    ];
    let notes: Vec<&str> = notes.iter().filter(|(has, _)| *has).map(|(_, note)| *note).collect();
    format!(
        "| {kind} | `{}` | {} | {} | {} | {} | {} |\n",
        resource.group_version(),
        if resource.namespaced { "namespace" } else { "cluster" },
        verbs(resource),
        list(served),
        list(select::selectable(resource).map(str::to_owned)),
        notes.join(", "),
    )
}

fn table() -> String {
    let mut table = String::from(
        "| kind | version | scope | verbs | parts | selected by | has |\n|---|---|---|---|---|---|---|\n",
    );
    for resource in registry().resources() {
        let _ = write!(table, "{}", row(resource));
    }
    table
}

#[test]
fn table_of_kinds_in_the_readme_is_what_the_registry_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(&path).expect("the README is there");
    let start = readme.find(START).expect("the README says where the table begins") + START.len();
    let end = readme[start..].find(END).expect("the README says where the table ends") + start;
    if std::env::var_os("UPDATE_README").is_some() {
        let fresh = format!("{}{}{}", &readme[..start], table(), &readme[end..]);
        std::fs::write(&path, fresh).expect("the README can be written");
        return;
    }
    let hint = "the table of kinds is stale: UPDATE_README=1 cargo test -p skep-api --test readme";
    assert!(readme[start..end] == table(), "{hint}");
}
