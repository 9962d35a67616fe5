//! What goes because its last owner applies it no longer.

use serde_json::{Value, json};

use super::owners::{Owner, Owners};
use super::set::FieldSet;
use super::spot::Spot;
use super::{Writer, extract, merge};
use crate::schema::Shape;

/// Takes out what the applier owned before and nobody owns now.
pub(super) fn prune(
    writer: &Writer<'_>,
    merged: &Value,
    owners: &Owners,
    last: &Owner,
) -> Result<Value, String> {
    let Some((merged_then, schema)) = writer.in_version(&last.api_version, merged) else {
        return Ok(merged.clone());
    };
    let shape = Shape::Object(schema.root);
    let spot = Spot::root(&schema, &shape);
    let parents = |set: &FieldSet| set.with_parents(&|path| spot.is_named(path));
    let last_fields = parents(&last.fields.to_set());
    // First without all that was applied last, then again with what is owned, and what was never applied.
    let pruned = merge::without(&spot, &merged_then, &last_fields)?.unwrap_or_else(|| json!({}));
    let mut pruned = writer.back(&last.api_version, pruned)?;
    // In the version of the last apply first: a conversion to others may need what is owned there.
    let mut versions = vec![last.api_version.as_str()];
    for owner in &owners.0 {
        if !versions.contains(&owner.api_version.as_str()) {
            versions.push(&owner.api_version);
        }
    }
    for version in versions {
        pruned = with_owned(writer, version, merged, pruned, owners)?;
    }
    let Some((pruned_then, _)) = writer.in_version(&last.api_version, &pruned) else { return Ok(pruned) };
    let everything = parents(&extract::fields(&spot, &merged_then)?);
    let left = parents(&extract::fields(&spot, &pruned_then)?);
    let dropped = everything.difference(&left).intersection(&last_fields);
    let pruned = merge::without(&spot, &merged_then, &dropped)?.unwrap_or_else(|| json!({}));
    writer.back(&last.api_version, pruned)
}

/// Puts what is owned in this version back into an object that was pruned. Both are in the version of the request; in one
/// that is gone nobody can say any more what is owned.
fn with_owned(
    writer: &Writer<'_>,
    api_version: &str,
    merged: &Value,
    pruned: Value,
    owners: &Owners,
) -> Result<Value, String> {
    let then = |object: &Value| writer.in_version(api_version, object);
    let (Some((merged_then, schema)), Some((pruned_then, _))) = (then(merged), then(&pruned)) else {
        return Ok(pruned);
    };
    let shape = Shape::Object(schema.root);
    let spot = Spot::root(&schema, &shape);
    let parents = |set: &FieldSet| set.with_parents(&|path| spot.is_named(path));
    let of_version = owners.0.iter().filter(|owner| owner.api_version == api_version);
    let owned = of_version.fold(FieldSet::default(), |mut all, owner| {
        all.absorb(owner.fields.to_set());
        all
    });
    let everything = parents(&extract::fields(&spot, &merged_then)?);
    let left = parents(&extract::fields(&spot, &pruned_then)?);
    let dropped = everything.difference(&left.union(&parents(&owned)));
    let kept = merge::without(&spot, &merged_then, &dropped)?.unwrap_or_else(|| json!({}));
    writer.back(api_version, kept)
}
