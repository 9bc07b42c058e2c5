//! The edge cases that other readers stumbled over, and files against what is written from their values.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::model::paths::EnvName;

/// A line as the tests tell it: `NAME=value`, or `!line reason` with the name that is told.
fn told(file: &[u8]) -> Vec<String> {
    tell(parse(file).unwrap())
}

fn tell(file: EnvFile) -> Vec<String> {
    file.lines
        .into_iter()
        .map(|line| match line.read {
            Ok(variable) => format!("{}={}", variable.name, variable.value.expose_secret()),
            Err(unread) => {
                let name = unread.name.unwrap_or_default();
                let words: Vec<&str> = unread.reason.split(' ').take(4).collect();
                format!("!{} {name}: {}", line.at, words.join(" "))
            }
        })
        .collect()
}

fn notes(file: &str) -> Vec<Note> {
    let line = parse(file.as_bytes()).unwrap().lines.remove(0);
    line.read
        .unwrap_or_else(|unread| panic!("{}", unread.reason))
        .notes
}

#[test]
fn edge_cases_of_dotenv() {
    for (file, expected) in [
        // Plain ones, and what stands around them.
        ("A=1", &["A=1"][..]),
        ("A=1\nB=2\n", &["A=1", "B=2"]),
        ("\n# a comment\n  # another\n\nA=1 # why\n", &["A=1"]),
        (
            "export A=1\nexport\tB=2\nexport=3",
            &["A=1", "B=2", "export=3"],
        ),
        ("exported=1", &["exported=1"]),
        ("  A = 1  \n\tB\t=\t2\t", &["A=1", "B=2"]),
        ("A=1 2  3", &["A=1 2  3"]),
        // Equals signs and number signs belong to the value.
        (
            "URL=postgres://u:p@h/d?a=b&c=d",
            &["URL=postgres://u:p@h/d?a=b&c=d"],
        ),
        (
            "A==\nKEY=c2VjcmV0==",
            &["!1 : It has no value.", "KEY=c2VjcmV0=="],
        ),
        ("A=pa#ss\nB=#x\nC=x #y", &["A=pa#ss", "B=#x", "C=x"]),
        ("A='pa ss # x' # y", &["A=pa ss # x"]),
        ("A=\"x\"# y", &["A=x"]),
        // Quotes.
        ("A=\"1\"\nB='2'\nC=`3`", &["A=1", "B=2", "C=3"]),
        ("A=\" 1 \"", &["A= 1 "]),
        ("A=it's\nB=say \"no\"", &["A=it's", "B=say \"no\""]),
        (
            r#"A="a\"b\\c\nd\te\$f\`g\xh""#,
            &["A=a\"b\\c\nd\te$f`g\\xh"],
        ),
        (r"A='a\nb\'", &[r"A=a\nb\"]),
        (r"A=C:\new\table", &[r"A=C:\new\table"]),
        ("A=`it's \"it\"`", &["A=it's \"it\""]),
        (
            "A=''\nB=\"\"\nC=\nD=   \nE= # none",
            &[
                "!1 A: It has no value.",
                "!2 B: It has no value.",
                "!3 C: It has no value.",
                "!4 D: It has no value.",
                "!5 E: It has no value:",
            ],
        ),
        // The end of a value that was wrapped is no name that could be told.
        (
            "A=c2VjcmV0\nQUI=\nB=\n",
            &[
                "A=c2VjcmV0",
                "!2 : It has no value,",
                "!3 B: It has no value.",
            ],
        ),
        (
            "A=\"open\nQUI=\n\nB=\nC='x'\nD=\nE=y\nF=''",
            &[
                "!1 A: The quote that opens",
                "!2 : It has no value,",
                "!4 B: It has no value.",
                "C=x",
                "!6 D: It has no value.",
                "E=y",
                "!8 F: It has no value.",
            ],
        ),
        // Several lines.
        ("A=\"1\n2\n\n # 3\"\nB=4", &["A=1\n2\n\n # 3", "B=4"]),
        ("A='\n1\n'\nB=4", &["A=\n1\n", "B=4"]),
        // A quote that does not close spoils its own line and no other.
        ("A=\"1\nB=2", &["!1 A: The quote that opens", "B=2"]),
        (
            "A=\"C:\\dir\\\"\nB=\"x\"",
            &["!1 A: The quote that opens", "B=x"],
        ),
        ("A='don't'\nB=2", &["!1 A: The quote that opens", "B=2"]),
        ("A=\"1\"2\nB=2", &["!1 A: The quote that opens", "B=2"]),
        ("A='it'\\''s'\nB=2", &["!1 A: The quote that opens", "B=2"]),
        // Behind `export` as a shell reads it.
        ("export A='it'\\''s'\nB=2", &["A=it's", "B=2"]),
        ("export A='1\n'\\'''\\''2' # x", &["A=1\n''2"]),
        ("export A='1'\\''", &["!1 A: The quote that opens"]),
        // Line ends.
        (
            "A=1\r\nB=\"2\r\n3\"\r\nC='4'\r\n",
            &["A=1", "B=2\n3", "C=4"],
        ),
        ("# x\r\n\r\nA=1 \r\n", &["A=1"]),
        // Ends of two kinds: those within quotes are the value's.
        ("A='1\r\n2'\nB=3\r\n", &["A=1\r\n2", "B=3"]),
        ("A=1\rB=2\r", &["!1 A: A carriage return stands"]),
        ("# x\rA=1\nB=2", &["!1 : A carriage return stands", "B=2"]),
        ("A=\"1\\r\\n2\"", &["A=1\r\n2"]),
        // A byte-order mark.
        ("\u{feff}A=1", &["A=1"]),
        ("\u{feff}{\"A\": \"1\"}", &["A=1"]),
        // References stay.
        (
            "A=${HOME}/x\nB=\"${A}\"\nC=$D",
            &["A=${HOME}/x", "B=${A}", "C=$D"],
        ),
        // One name twice is two lines, and nobody's to merge.
        ("A=1\nB=2\nA=3", &["A=1", "B=2", "A=3"]),
        // No variables.
        ("A\nB=2", &["!1 : There is no =", "B=2"]),
        ("A: 1\nB=2", &["!1 : There is no =", "B=2"]),
        (
            "=1\nA B=2\n\"C\"=3\nÄ=4\nB=2",
            &[
                "!1 : What stands before the",
                "!2 : What stands before the",
                "!3 : What stands before the",
                "!4 : What stands before the",
                "B=2",
            ],
        ),
    ] {
        assert_eq!(told(file.as_bytes()), expected, "{file:?}");
    }
}

/// What is pasted wrong is often a value: no piece of it is told as a name.
#[test]
fn pieces_of_a_value_are_told_to_nobody() {
    for file in [
        "sk-live-0123456789abcdef",
        "KEY=-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg=1\nkqhkiG9w0BAQEFAASC==\n-----END PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC==",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAAS=",
        "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP=",
        "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3P====",
        "https://hooks.example.org/?token=MIIEvQIBADANBg",
        "pass word MIIEvQIBADANBg=x",
    ] {
        for line in told(file.as_bytes()) {
            assert!(line.starts_with('!'), "{file:?}: {line}");
            for piece in ["MIIEvQ", "0123456789", "kqhkiG9w", "JBSWY3DP"] {
                assert!(!line.contains(piece), "{file:?}: {line}");
            }
        }
    }
    for file in [
        "{\"A\": \"0123456789\"",
        "[\"0123456789\"]",
        "{\"A\": 0123456789}",
        "{} 0123456789",
    ] {
        let refusal = parse(file.as_bytes()).err().unwrap();
        assert!(!refusal.detail.contains("0123456789"), "{refusal}");
    }
}

#[test]
fn json_is_a_flat_object_of_texts() {
    let file = r#"{"A": "x\ny", "B": 1.50, "C": true, "A": "again", "D": null, "E": [1], "F": {"G": "x"}, "H": "", "I J": "x"}"#;
    assert_eq!(
        told(file.as_bytes()),
        [
            "A=x\ny",
            "B=1.50",
            "C=true",
            "A=again",
            "!5 D: It is null, which",
            "!6 E: It holds a list",
            "!7 F: It holds a list",
            "!8 H: It has no value.",
            "!9 : Its name has characters",
        ]
    );
    // Larger than any machine number, and told as it was written.
    assert_eq!(
        told(b"{\"A\": 123456789012345678901234567890}"),
        ["A=123456789012345678901234567890"]
    );
}

#[test]
fn what_is_no_such_file_is_refused_as_a_whole() {
    let long = vec![b'#'; IMPORT_LEN_BYTES + 1];
    let many = "A=1\n".repeat(IMPORT_LINES_MAX + 1);
    let many_bad = "A\n".repeat(IMPORT_LINES_MAX + 1);
    let entries = vec!["\"A\": \"1\""; IMPORT_LINES_MAX + 1].join(",");
    let many_json = format!("{{{entries}}}");
    let deep = format!("{{\"A\": {}", "[".repeat(100_000));
    for (file, says) in [
        (&b""[..], "no variable"),
        (b"# nothing\n\n", "no variable"),
        (b"A=\xff", "UTF-8"),
        (b"\xff\xfeA\0=\0", "UTF-8"),
        (b"A\0=\x001\0", "UTF-8"),
        (b"{}", "one object"),
        (b"[]", "one object"),
        (b"{\"A\": \"1\",}", "line 1, column 11"),
        (&long, "1 MiB"),
        (many.as_bytes(), "at most 500"),
        (many_bad.as_bytes(), "at most 500"),
        (many_json.as_bytes(), "at most 500"),
        (deep.as_bytes(), "not JSON"),
    ] {
        let refusal = parse(file).err().unwrap();
        assert!(refusal.detail.contains(says), "{says}: {refusal}");
        assert_eq!(refusal.field.as_deref(), Some("file"));
    }
    assert_eq!(
        parse(&many.as_bytes()[4..]).unwrap().lines.len(),
        IMPORT_LINES_MAX
    );
}

#[test]
fn what_is_worth_knowing_is_noted() {
    for (file, noted) in [
        ("A=plain", &[][..]),
        ("A=${B}", &[Note::Reference]),
        ("A=\"$B\"", &[Note::Reference]),
        ("A='${B}'", &[Note::Reference]),
        ("A=\"\\${B}\"", &[]),
        ("A=5$ or $5 or $", &[]),
        ("A=pa#ss", &[Note::Hash]),
        ("A=x # why", &[Note::Comment]),
        ("A=pa#ss #", &[Note::Hash, Note::Comment]),
        ("A='x' # why", &[Note::Comment]),
        ("A='x'  \n# a line of its own", &[]),
        ("A='pa#ss'", &[]),
        ("A='1\n2\n'", &[Note::Lines(2)]),
        ("A='1\n2'", &[Note::Lines(2)]),
        ("{\"A\": 1}", &[Note::NoText]),
        ("{\"A\": \"$B\\n\"}", &[Note::Reference, Note::Lines(1)]),
    ] {
        assert_eq!(notes(file), noted, "{file:?}");
    }
}

/// As `told`, of YAML.
fn yaml(file: &str) -> Vec<String> {
    match parse_as(FileFormat::Yaml, file.as_bytes()) {
        Ok(file) => tell(file),
        Err(refusal) => vec![format!("!! {}", refusal.detail)],
    }
}

#[test]
fn yaml_is_a_flat_mapping_of_texts() {
    for (file, expected) in [
        ("A: 1\nB: two words\n", &["A=1", "B=two words"][..]),
        (
            "---\nA: 'it''s'\nB: \"x\\n\\u00e4\"\n...\n",
            &["A=it's", "B=x\n\u{e4}"],
        ),
        (
            "A: |\n  1\n   2\nB: |-\n  3\nC: >\n  4\n  5\n",
            &["A=1\n 2\n", "B=3", "C=4 5\n"],
        ),
        ("A: pa#ss # why\n# x\n", &["A=pa#ss"]),
        ("A: 0123\nB: 1e3\nC: yes\n", &["A=0123", "B=1e3", "C=yes"]),
        ("A: 1\nA: 2\n", &["A=1", "A=2"]),
        ("{A: 1, B: 2}", &["A=1", "B=2"]),
        (
            "A:\nB: ~\nC: null\nD: 'null'\nE: ''\n",
            &[
                "!1 A: It has no value.",
                "!2 B: It is null, which",
                "!3 C: It is null, which",
                "D=null",
                "!5 E: It has no value.",
            ],
        ),
        (
            "A: [1, 2]\nB: {x: {y: 1}}\nC: 3\n",
            &["!1 A: It holds a list", "!2 B: It holds a list", "C=3"],
        ),
        (
            "A: &x 1\nB: *x\n",
            &["!1 A: It begins with &", "!2 B: It refers to another"],
        ),
        (
            "A: !!binary aGk=\nB: !!str 1\n",
            &["!1 A: It has a tag,", "B=1"],
        ),
        (
            "? [a]\n: 1\na b: 2\n<<: {x: 1}\nC: 3\n",
            &[
                "!1 : Its name has characters",
                "!3 : Its name has characters",
                "!4 : Its name has characters",
                "C=3",
            ],
        ),
    ] {
        assert_eq!(yaml(file), expected, "{file:?}");
    }
    for (file, why) in [
        ("- 1\n", "has to be one mapping"),
        ("just text", "has to be one mapping"),
        ("", "has to be one mapping"),
        ("A: 1\n---\nB: 2\n", "has several documents"),
        ("A: \"s3cret\n", "something is wrong at line"),
        ("A: s3cret: s3cret\n", "something is wrong at line"),
    ] {
        let told = yaml(file);
        assert!(told[0].contains(why), "{file:?}: {told:?}");
        assert!(!told[0].contains("s3cret"), "{told:?}");
    }
}

#[test]
fn comments_of_yaml_are_noted_where_they_are_dropped() {
    let commented = |file: &str| -> Vec<bool> {
        let file = parse_as(FileFormat::Yaml, file.as_bytes()).unwrap();
        file.lines
            .iter()
            .map(|line| match &line.read {
                Ok(variable) => variable.loses(),
                Err(unread) => unread.loses(),
            })
            .collect()
    };
    for (file, expected) in [
        ("A: correct horse #1 battery\nB: 2\n", &[true, false][..]),
        (
            "A: 1\n# a line\n  # another\nB: pa#ss\nC: x # y\n",
            &[false, false, true],
        ),
        ("A: 'x # y'\nB: \"x # y\" # z\n", &[false, true]),
        (
            "A: # x\nB:\nC: |\n  x # y\nD: | # x\n  y\n",
            &[true, false, false, true],
        ),
        ("A: one\n  two # three\nB: 1", &[true, false]),
    ] {
        assert_eq!(commented(file), expected, "{file:?}");
    }
}

/// Any value that can be stored, made of what readers stumble over.
fn value() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ -~]{1,8}",
        proptest::sample::select(vec![
            "\n",
            "\r",
            "\r\n",
            "\\",
            "\\n",
            "\\\\",
            "\"",
            "'",
            "`",
            "#",
            " #",
            "=",
            "${A}",
            "$",
            " ",
            "\t",
            "export ",
            "\u{feff}",
            "\u{2028}",
            "\u{85}",
            "\u{1}",
            "-----BEGIN KEY-----",
            "{",
            "A=b",
        ])
        .prop_map(String::from),
    ];
    proptest::collection::vec(pieces, 1..12)
        .prop_map(|pieces| pieces.concat().replace('\0', ""))
        .prop_filter("a value is not empty", |value| !value.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_exported_is_imported_as_it_was(values in proptest::collection::vec(value(), 1..8), windows: bool) {
        let written: Vec<(EnvName, SecretString)> = values
            .iter()
            .enumerate()
            .map(|(i, value)| (EnvName::parse(&format!("KEY_{i}")).unwrap(), SecretString::from(value.clone())))
            .collect();
        let file = write_dotenv(written.iter().map(|(name, value)| (name, value)));
        let mut file = file.expose_secret().to_owned();
        if windows && !values.iter().any(|value| value.contains('\r')) {
            file = format!("\u{feff}{}", file.replace('\n', "\r\n"));
        }
        let lines = parse(file.as_bytes()).unwrap().lines;
        prop_assert_eq!(lines.len(), values.len());
        for (line, (name, value)) in lines.into_iter().zip(&written) {
            let Ok(read) = line.read else {
                return Err(TestCaseError::fail(format!("line {} of {file:?}", line.at)));
            };
            prop_assert_eq!(read.name.as_str(), name.as_str());
            prop_assert_eq!(read.value.expose_secret(), value.expose_secret(), "{:?}", file);
        }
    }

    #[test]
    fn every_format_of_an_export_is_imported_as_it_was(values in proptest::collection::vec(value(), 1..8)) {
        let written: Vec<(EnvName, SecretString)> = values
            .iter()
            .enumerate()
            .map(|(i, value)| (EnvName::parse(&format!("KEY_{i}")).unwrap(), SecretString::from(value.clone())))
            .collect();
        let of_shell = write_shell(written.iter().map(|(name, value)| (name, value)));
        let of_json = write_json(written.iter().map(|(name, value)| (name.as_str(), value))).unwrap();
        for file in [of_shell, of_json] {
            let read = told(file.expose_secret().as_bytes());
            let expected: Vec<String> = written
                .iter()
                .map(|(name, value)| format!("{name}={}", value.expose_secret()))
                .collect();
            prop_assert_eq!(read, expected, "{:?}", file.expose_secret());
        }
    }

    #[test]
    fn yaml_texts_are_imported_as_they_were(value in value()) {
        // JSON's strings are YAML's too.
        let quoted = serde_json::Value::from(value.clone()).to_string();
        prop_assert_eq!(yaml(&format!("A: {quoted}\n")), [format!("A={value}")]);
    }

    #[test]
    fn json_texts_are_imported_as_they_were(value in value()) {
        let file = serde_json::json!({ "A": value }).to_string();
        prop_assert_eq!(told(file.as_bytes()), [format!("A={value}")]);
    }
}
