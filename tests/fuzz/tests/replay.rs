//! Every target over its seeds and over all that once failed, without a fuzzer.

use std::path::Path;

use skep_fuzz::TARGETS;

#[test]
fn seeds_and_cases_are_taken_or_refused() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, run) in TARGETS {
        let mut inputs = 0;
        for folder in ["corpus", "cases"] {
            let Ok(entries) = std::fs::read_dir(here.join(folder).join(name)) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                println!("{}", path.display());
                run(&std::fs::read(&path).unwrap());
                inputs += 1;
            }
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}
