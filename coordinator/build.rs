//! The calls in `api/proto`, both sides: a coordinator serves workers and asks other coordinators; the messages are `api`'s.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../api/proto");
    let files = protox::compile(["millstream/control/v1/control.proto"], ["../api/proto"])?;
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .extern_path(".millstream.control.v1", "::millstream_api::proto::control::v1")
        .compile_fds(files)?;
    // The client too: the command line is one, and whoever asks another coordinator.
    let files = protox::compile(["millstream/operations/v1/operations.proto"], ["../api/proto"])?;
    tonic_prost_build::configure()
        .extern_path(".millstream.operations.v1", "::millstream_api::proto::operations::v1")
        .compile_fds(files)?;
    Ok(())
}
