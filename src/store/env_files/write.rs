//! Files as they are exported: any value that can be stored reads back as itself.

use secrecy::{ExposeSecret, SecretString};
use serde::Serializer as _;
use serde::ser::SerializeMap;
use zeroize::Zeroizing;

use crate::model::paths::EnvName;

/// One line for each variable; a value of several lines stands in quotes over as many.
pub fn write_dotenv<'a>(
    variables: impl IntoIterator<Item = (&'a EnvName, &'a SecretString)>,
) -> SecretString {
    let mut text = String::new();
    for (name, value) in variables {
        text.push_str(name.as_str());
        text.push('=');
        push_value(&mut text, value.expose_secret());
        text.push('\n');
    }
    SecretString::from(text)
}

/// Plain where no reader can stumble; in single quotes, which all readers take literally, where these suffice.
fn push_value(text: &mut String, value: &str) {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.:/@%+,".contains(&b);
    if !value.is_empty() && value.bytes().all(is_plain) {
        text.push_str(value);
    } else if !value.contains(['\'', '\r']) {
        text.push('\'');
        text.push_str(value);
        text.push('\'');
    } else {
        text.push('"');
        for c in value.chars() {
            match c {
                // A file's own line ends may be changed on its way; these may not.
                '\r' => text.push_str("\\r"),
                '\n' => text.push_str("\\n"),
                '"' | '\\' | '$' | '`' => {
                    text.push('\\');
                    text.push(c);
                }
                _ => text.push(c),
            }
        }
        text.push('"');
    }
}

/// What a POSIX shell reads with `.`: in single quotes every character is itself.
pub fn write_shell<'a>(
    variables: impl IntoIterator<Item = (&'a EnvName, &'a SecretString)>,
) -> SecretString {
    let mut text = String::new();
    for (name, value) in variables {
        text.push_str("export ");
        text.push_str(name.as_str());
        text.push_str("='");
        // A quote ends the quotes, stands by itself behind a backslash, and opens them again.
        text.push_str(&Zeroizing::new(
            value.expose_secret().replace('\'', r"'\''"),
        ));
        text.push_str("'\n");
    }
    SecretString::from(text)
}

/// A flat object; names are those of paths, so they may have slashes.
pub fn write_json<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a SecretString)>,
) -> Result<SecretString, serde_json::Error> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::pretty(&mut bytes);
    let mut map = serializer.serialize_map(None)?;
    for (name, value) in variables {
        map.serialize_entry(name, value.expose_secret())?;
    }
    map.end()?;
    bytes.push(b'\n');
    // JSON is UTF-8.
    Ok(SecretString::from(
        String::from_utf8(bytes).unwrap_or_default(),
    ))
}
