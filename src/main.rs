//! The binary: installs the cryptography, runs the command line, and ends with its exit code.

use std::process::ExitCode;

/// Requests overlap, so what one of them needs is given back in bursts and by other threads than took it.
/// This allocator keeps such memory for the next one; the system's went through its slow ways for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Both fail only when a provider is installed already, which nothing before this line does.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    ExitCode::from(durward::cli::run(std::env::args_os()).code())
}
