//! The fuzz target of [`skep_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_fuzz::request::run(data));
