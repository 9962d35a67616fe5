//! The three formats of patches, on a pod; the first byte chooses. What comes out goes on to the store.

use skep_api::patch;

use crate::{chosen, objects};

/// Patches.
pub fn run(data: &[u8]) {
    let (first, text) = chosen(data);
    let pod = objects::pod();
    let patched = match first % 3 {
        0 => patch::json_patch(&pod, text),
        1 => patch::merge_patch(&pod, text),
        _ => {
            let _ = patch::quoted(text);
            patch::strategic_merge_patch(objects::pods(), &pod, text)
        }
    };
    if let Ok(object) = patched {
        objects::through(objects::pods(), object);
    }
}
