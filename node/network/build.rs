//! Generates the messages and the service of `proto/network.proto`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(&["proto/network.proto"], &["proto"])
}
