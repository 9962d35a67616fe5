//! Generates the messages, the client and (for tests) the server of `proto/kms.proto`.

fn main() -> std::io::Result<()> {
    // Maps in order, so that the same envelope has the same bytes.
    tonic_prost_build::configure().btree_map(".").compile_protos(&["proto/kms.proto"], &["proto"])
}
