//! The fuzz target of [`skep_fuzz::expression`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_fuzz::expression::run(data));
