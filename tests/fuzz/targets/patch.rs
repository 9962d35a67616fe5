//! The fuzz target of [`skep_fuzz::patch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_fuzz::patch::run(data));
