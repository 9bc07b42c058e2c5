//! `sealport completions`: what a shell needs to complete commands and flags.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{generate, shells};

#[derive(Args)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut command = super::Cli::command();
    let name = command.get_name().to_owned();
    // Whole before it is printed: the generator panics where a reader has left.
    let mut text = Vec::new();
    match args.shell {
        Shell::Bash => generate(shells::Bash, &mut command, name, &mut text),
        Shell::Zsh => generate(shells::Zsh, &mut command, name, &mut text),
        Shell::Fish => generate(shells::Fish, &mut command, name, &mut text),
    }
    std::io::Write::write_all(&mut std::io::stdout(), &text)?;
    Ok(())
}
