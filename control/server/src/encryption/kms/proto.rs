//! What `build.rs` makes of `proto/kms.proto`.

#![allow(missing_docs, clippy::all, reason = "generated; the documentation is in the file it is made from")]

tonic::include_proto!("v2");
