//! What reads bytes from outside, given bytes of all sorts: names, files of variables, sealed values. Each target runs for
//! half a second, or for `FUZZ_SECS` (`make fuzz`); what fails is printed at its smallest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sealport::model::imports::{Folder, IMPORT_LINES_MAX};
use sealport::model::paths::{DeploymentName, EnvName, Handle, PATH_LEN_BYTES, SecretPath};
use sealport::store::env_files::{parse, write_dotenv};
use sealport::store::keys::{KeysForTests, Place, Sealed};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

/// Gives the target new inputs until its time is over.
fn fuzz<S: Strategy>(
    name: &str,
    inputs: S,
    target: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let secs = std::env::var("FUZZ_SECS").map(|secs| secs.parse().expect("FUZZ_SECS is a number"));
    let begun = Instant::now();
    let time = Duration::from_secs_f64(secs.unwrap_or(0.5));
    let mut cases = 0;
    while cases == 0 || begun.elapsed() < time {
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            ..Config::default()
        });
        if let Err(error) = runner.run(&inputs, &target) {
            panic!("{name}, after {cases} inputs: {error}");
        }
        cases += u64::from(runner.config().cases);
    }
    println!("{name}: {cases} inputs");
}

/// Text of these pieces, with whatever else between them.
fn text_of(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(pieces).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
        1 => "[ -~]{0,6}",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// The same, broken as bytes: some replaced, and cut somewhere.
fn bytes_of(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4);
    (text_of(pieces), changes, any::<Option<Index>>()).prop_map(|(text, changes, cut)| {
        let mut bytes = text.into_bytes();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    })
}

#[test]
fn names_are_of_their_grammar_or_refused() {
    const PIECES: &[&str] = &[
        "project/", "meta/", "service/", "shop", "/", "//", "..", ".", "-", "_", "KEY", "a", "%2f",
        "\\", " ", "\n", "\0", "PATH", "GIT_", "é", "K",
    ];
    let is_segment = |segment: &str| {
        segment.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && segment
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    fuzz("names", text_of(PIECES), |text| {
        if let Ok(path) = SecretPath::parse(&text) {
            prop_assert_eq!(path.as_str(), text.as_str());
            prop_assert!(text.len() <= PATH_LEN_BYTES && text.split('/').all(is_segment));
            let segments = text.split('/').count();
            prop_assert!(segments == 1 || (3..=8).contains(&segments));
            prop_assert_eq!(format!("{}{}", path.folder(), path.name()), text.as_str());
            if let Ok(env) = EnvName::default_for(&path) {
                prop_assert!(EnvName::parse(env.as_str()).is_ok());
            }
        }
        if let Ok(folder) = Folder::parse(&text) {
            prop_assert!(folder.as_str().is_empty() || folder.join("KEY").is_ok());
            prop_assert_eq!(Folder::parse(folder.as_str()), Ok(folder.clone()));
        }
        if let Ok(env) = EnvName::parse(&text) {
            prop_assert!(!env.as_str().contains(['=', '\0', '\n', '/']));
        }
        prop_assert_eq!(
            Handle::parse(&text).is_ok(),
            DeploymentName::parse(&text).is_ok()
        );
        prop_assert!(Handle::parse(Handle::suggest(&text).as_str()).is_ok());
        Ok(())
    });
}

#[test]
fn files_of_variables_are_read_or_refused_line_by_line() {
    const PIECES: &[&str] = &[
        "A=",
        "KEY_B = ",
        "export ",
        "=",
        "\"",
        "'",
        "`",
        "\\",
        "\\\"",
        "\\n",
        "#",
        " #",
        "\n",
        "\r\n",
        "\r",
        "\u{feff}",
        "${A}",
        "$",
        "{",
        "}",
        "[",
        "]",
        "\"A\": ",
        ",",
        "null",
        "1e999",
        "true",
        "-----BEGIN KEY-----",
        "-----END KEY-----",
        "=\n",
        "\t",
        "\u{2028}",
        "\0",
    ];
    fuzz("files", bytes_of(PIECES), |file| {
        let Ok(read) = parse(&file) else {
            return Ok(());
        };
        prop_assert!((1..=IMPORT_LINES_MAX).contains(&read.lines.len()));
        let ends = file.iter().filter(|byte| **byte == b'\n').count();
        let mut before = 0;
        for line in read.lines {
            prop_assert!(line.at > before, "lines stand in their order");
            before = line.at;
            match line.read {
                Ok(variable) => {
                    prop_assert!(!variable.value.expose_secret().is_empty());
                    // What was read once reads the same again once it was exported.
                    let Ok(name) = EnvName::parse(&variable.name) else {
                        continue;
                    };
                    let written = write_dotenv([(&name, &variable.value)]);
                    let again = parse(written.expose_secret().as_bytes()).unwrap();
                    prop_assert_eq!(again.lines.len(), 1);
                    let Ok(again) = &again.lines[0].read else {
                        return Err(TestCaseError::fail("an exported line is none"));
                    };
                    prop_assert_eq!(again.value.expose_secret(), variable.value.expose_secret());
                }
                Err(unread) => prop_assert!(!unread.reason.is_empty()),
            }
        }
        let is_json = matches!(read.format, sealport::model::imports::FileFormat::Json);
        prop_assert!(is_json || before as usize <= ends + 1);
        Ok(())
    });
}

#[test]
fn a_file_made_to_take_long_does_not() {
    // A megabyte of quotes that never close, and of a key that never ends.
    for line in ["A=\"\\", "A='", "A=\"\n", "A=-----BEGIN \n", "`=", "\\\"\n"] {
        let begun = Instant::now();
        let file = line.repeat(1024 * 1024 / line.len());
        let _ = parse(file.as_bytes());
        // A debug build on a busy machine; anything quadratic would take hours.
        assert!(begun.elapsed() < Duration::from_secs(20), "{line:?}");
    }
}

#[test]
fn sealed_bytes_open_as_they_were_sealed_or_not_at_all() {
    let keys = KeysForTests::generate().unwrap();
    let place = Place {
        owner_id: Uuid::now_v7(),
        secret_id: Uuid::now_v7(),
        version: 1,
    };
    let value = SecretString::from("a value that was sealed");
    let sealed = keys.seal(place, &value).unwrap().0;
    let wrapped = keys.wrap(place.owner_id).unwrap();
    assert_eq!(keys.opens(place.owner_id, &wrapped), (true, false));

    // What was sealed, changed by bytes, cut, and with others put in; and bytes of all sorts.
    let change = (any::<Index>(), any::<u8>(), 0..4_u8);
    let changes = proptest::collection::vec(change, 0..6);
    let noise = proptest::collection::vec(any::<u8>(), 0..120);
    fuzz(
        "sealed",
        (0..3, changes, noise),
        |(from, changes, noise)| {
            let mut bytes = match from {
                0 => sealed.clone(),
                1 => wrapped.clone(),
                _ => noise,
            };
            for (at, byte, how) in changes {
                let at = at.index(bytes.len() + 1);
                match how {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, byte),
                    _ if at < bytes.len() => bytes[at] ^= byte,
                    _ => bytes.push(byte),
                }
            }
            let opened = keys.open(place, &Sealed(bytes.clone()));
            prop_assert_eq!(opened.is_ok(), bytes == sealed);
            let (as_key, as_canary) = keys.opens(place.owner_id, &bytes);
            prop_assert_eq!((as_key, as_canary), (bytes == wrapped, false));
            Ok(())
        },
    );
}
