use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = sealport::deploy::sandbox::entry(&args) {
        return code;
    }
    if let Err(error) = sealport::deploy::sandbox::harden_self() {
        eprintln!("sealport: this process could not be closed to others: {error}");
        return ExitCode::FAILURE;
    }
    sealport::cli::main()
}
