//! Stubs from the schema, with the protoc that the crate brings.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../../proto";
    let files = ["kv", "counter", "set", "event", "cluster"].map(|name| format!("{root}/gossip/v1/{name}.proto"));
    let mut protoc = tonic_prost_build::Config::new();
    protoc.protoc_executable(protoc_bin_vendored::protoc_bin_path()?);
    tonic_prost_build::configure()
        .build_server(false)
        .compile_with_config(protoc, &files, &[root.to_owned()])?;
    println!("cargo:rerun-if-changed={root}");
    Ok(())
}
