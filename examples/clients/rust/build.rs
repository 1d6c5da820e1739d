//! Stubs from the schema, without protoc: protox compiles the protos.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../../proto";
    let files = protox::compile(
        ["kv", "counter", "set", "cluster"].map(|name| format!("gossip/v1/{name}.proto")),
        [root],
    )?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    println!("cargo:rerun-if-changed={root}");
    Ok(())
}
