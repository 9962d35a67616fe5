//! Desired map contents, their difference from what is there, and decoding for `inspect`.
