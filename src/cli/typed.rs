//! What is typed or piped in: values and tokens, never from the command line, and yes or no.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::failures::{Exit, Failure};
use crate::model::secrets::VALUE_LEN_BYTES;

/// A value from standard input, or at a terminal from a prompt that shows nothing.
pub fn value(prompt: &str, exact: bool) -> anyhow::Result<SecretString> {
    if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password(format!("{prompt} (not shown): "));
        let typed = typed.context("The value could not be read")?;
        if typed.is_empty() {
            return Err(Failure::usage("Nothing was typed, so nothing was done.").into());
        }
        return Ok(SecretString::from(typed));
    }
    let text = stdin(VALUE_LEN_BYTES)?;
    let value = if exact {
        text.as_str()
    } else {
        without_line_end(&text)
    };
    if value.is_empty() {
        return Err(Failure::usage(
            "Standard input was empty, so nothing was done. Pipe the value in, as in `printf %s \"$VALUE\" | sealport …`.",
        )
        .into());
    }
    Ok(SecretString::from(value))
}

/// Errors: something stands where a value or a token would. It is not repeated.
pub fn refuse_argument(refused: &[OsString], command: &str, what: &str) -> Result<(), Failure> {
    if refused.is_empty() {
        return Ok(());
    }
    let name = what.to_ascii_uppercase();
    let (help, _) = command.rsplit_once(' ').unwrap_or((command, ""));
    Err(Failure::usage(format!(
        "A {what} is never taken from the command line: everybody on this machine can read it there, and the shell's history keeps it. \
         Nothing was sent. Pipe it in, as in\n  \
         printf %s \"${name}\" | sealport {command}\n  \
         sealport {command} < FILE\n\
         or type it at the prompt, which shows nothing. If what stood there was a {what}, take it for seen by others. If it was meant \
         as an option, `sealport {help} --help` lists those that there are."
    )))
}

/// The first line of standard input, or at a terminal what is typed at a prompt that shows nothing.
pub fn hidden_line(prompt: &str) -> anyhow::Result<SecretString> {
    if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password(prompt).context("It could not be read")?;
        return Ok(SecretString::from(typed));
    }
    let text = stdin(VALUE_LEN_BYTES)?;
    Ok(SecretString::from(text.lines().next().unwrap_or_default()))
}

/// The end of a single line is the work of whoever wrote it into the pipe (`echo`, an editor) and no part of the value; in a value
/// of several lines, such as a PEM key, it is.
pub fn without_line_end(text: &str) -> &str {
    match text.strip_suffix('\n') {
        Some(line) if !line.contains('\n') => line.strip_suffix('\r').unwrap_or(line),
        _ => text,
    }
}

/// A line that is no secret, asked for at a terminal. None where there is none.
pub fn line(prompt: &str) -> anyhow::Result<Option<String>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut out = std::io::stderr();
    write!(out, "{prompt}")?;
    out.flush()?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    Ok(Some(typed.trim().to_owned()))
}

/// Asks at a terminal before something that cannot be undone. Errors: no; nobody is there to ask, and it was not said beforehand.
pub fn sure(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    match line(&format!("{question} [y/N] "))? {
        None => Err(Failure::usage(
            "This cannot be undone, and there is no terminal to ask at. Give --yes. Nothing was done.",
        )
        .into()),
        Some(answer) if ["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()) => Ok(()),
        Some(_) => Err(Failure::new(Exit::No, "Nothing was done.").into()),
    }
}

fn stdin(most_bytes: usize) -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(most_bytes + 2));
    // A line end may stand behind the longest.
    std::io::stdin()
        .take(most_bytes as u64 + 2)
        .read_to_end(&mut bytes)
        .context("Standard input could not be read")?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Looked at first: what is longer was cut, perhaps within a character.
    if line.len() > most_bytes {
        let most = most_bytes / 1024;
        return Err(Failure::usage(format!("A value has at most {most} KiB.")).into());
    }
    let text = str::from_utf8(&bytes).map_err(|_| {
        Failure::usage(
            "A value is UTF-8 text, and this is not. Store bytes as base64, as in `base64 FILE | sealport secret set PATH`.",
        )
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Prints a file of values exactly.
pub fn print_file(text: &SecretString) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.expose_secret().as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints a value exactly as it is stored; a line end follows only on a terminal, where the next prompt would stick to it.
pub fn print_value(value: &SecretString) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(value.expose_secret().as_bytes())?;
    if out.is_terminal() {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_single_line_is_no_part_of_a_value() {
        for (text, value) in [
            ("x", "x"),
            ("x\n", "x"),
            ("x\r\n", "x"),
            ("x \n", "x "),
            ("\n", ""),
            ("", ""),
            ("a\nb\n", "a\nb\n"),
            ("a\n\n", "a\n\n"),
            ("a\nb", "a\nb"),
        ] {
            assert_eq!(without_line_end(text), value, "{text:?}");
        }
    }
}
