//! The fuzz target of [`skep_fuzz::apply`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_fuzz::apply::run(data));
