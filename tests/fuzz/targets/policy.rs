//! The fuzz target of [`skep_fuzz::policy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_fuzz::policy::run(data));
