//! Bodies in every encoding, as every built-in kind, all the way to the store.
//!
//! The first byte chooses the encoding, the second the kind. What is read must survive being written.

use skep_api::decode::{self, Encoding, FieldValidation};
use skep_api::protobuf;
use skep_api::registry::{Resource, registry};

use crate::{chosen, objects};

/// Reads a body.
pub fn run(data: &[u8]) {
    let (first, data) = chosen(data);
    let (second, body) = chosen(data);
    let encoding = match first % 3 {
        0 => Encoding::Json,
        1 => Encoding::Yaml,
        _ => Encoding::Protobuf,
    };
    let resources: Vec<&Resource> = registry().resources().collect();
    let resource = resources[usize::from(second) % resources.len()];
    if let Ok((object, _)) = decode::object(resource, body, encoding, FieldValidation::Warn) {
        if let Ok(bytes) = protobuf::object(&object) {
            protobuf::stored(&bytes).expect("what was written as protobuf can be read");
        }
        objects::through(resource, object);
    }
    let _ = decode::object(resource, body, encoding, FieldValidation::Strict);
    let _ = decode::delete_options(body, encoding);
    if encoding == Encoding::Protobuf {
        let _ = protobuf::stored(body);
    }
}
