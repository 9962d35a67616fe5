//! The fuzz target of [`skep_fuzz::select`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_fuzz::select::run(data));
