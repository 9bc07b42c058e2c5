#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::secrets::{VALUE_LEN_BYTES, VALUES_LEN_BYTES};

fn masks(values: &[&str]) -> Masks {
    let values: Vec<SecretString> = values
        .iter()
        .map(|value| SecretString::from(*value))
        .collect();
    Masks::new(&values)
}

fn in_pieces(masks: &Masks, bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut stream = masks.stream();
    let mut out = Vec::new();
    let mut at = 0;
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    for cut in cuts {
        out.extend(stream.feed(&bytes[at..cut]));
        at = cut;
    }
    out.extend(stream.feed(&bytes[at..]));
    out.extend(stream.finish());
    out
}

/// Encoders other than ours where there is one: the forms as programs make them.
fn encoded(value: &str, form: usize) -> String {
    match form {
        0 => value.to_owned(),
        1 => hex::encode(value),
        2 => hex::encode_upper(value),
        3 => STANDARD.encode(value),
        4 => STANDARD_NO_PAD.encode(value),
        5 => URL_SAFE.encode(value),
        6 => URL_SAFE_NO_PAD.encode(value),
        7 => url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
        8 => serde_json::to_string(value).unwrap(),
        9 => serde_json::to_string(&serde_json::to_string(value).unwrap()).unwrap(),
        10 => shell_words::quote(value).into_owned(),
        11 => {
            let mut url = url::Url::parse("http://h/").unwrap();
            url.path_segments_mut().unwrap().push(value);
            url.path()[1..].to_owned()
        }
        12 => value
            .encode_utf16()
            .flat_map(|unit| match char::from_u32(u32::from(unit)) {
                Some(c) if c.is_ascii() => {
                    let quoted = serde_json::to_string(&c).unwrap();
                    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
                }
                _ => format!("\\u{unit:04x}").into_bytes(),
            })
            .map(char::from)
            .collect(),
        _ => value
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;"),
    }
}

/// Whether 8 consecutive characters of `secret` (of all of it, when shorter) are in `text`.
fn fragment_in(text: &str, secret: &str) -> bool {
    let secret: Vec<char> = secret.chars().collect();
    let seen: HashSet<Vec<char>> = text
        .chars()
        .collect::<Vec<_>>()
        .windows(8)
        .map(<[char]>::to_vec)
        .collect();
    secret.windows(8).any(|window| seen.contains(window))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_in_any_form_at_any_split_is_masked(
        value in "[!-~]([ -~äß€🔑]{6,60})[!-~]",
        before in "[a-z ]{0,9}",
        after in "[a-z ]{0,9}",
        form in 0usize..13,
        cuts in proptest::collection::vec(any::<usize>(), 0..9),
    ) {
        // A URL's path cannot hold these two as they are.
        prop_assume!(form != 11 || (value != "." && value != ".."));
        let masks = masks(&[&value]);
        let said = encoded(&value, form);
        let text = format!("{before}|{said}|{after}");
        let whole = masks.text(&text).into_owned();
        prop_assert!(whole.contains(MASK), "{form}: {text} gave {whole}");
        prop_assert!(!fragment_in(&whole.replace(MASK, "\u{0}"), &said), "{form}: {text} gave {whole}");
        prop_assert!(whole.starts_with(&before) && whole.ends_with(&after));
        prop_assert_eq!(in_pieces(&masks, text.as_bytes(), &cuts), whole.into_bytes());
    }

    #[test]
    fn base64_of_anything_around_a_value_is_masked(
        value in "[!-~]{12,60}",
        before in proptest::collection::vec(any::<u8>(), 0..20),
        after in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let bytes = [before.as_slice(), value.as_bytes(), after.as_slice()].concat();
        let masked = masks(&[&value]).text(&STANDARD.encode(&bytes)).into_owned();
        prop_assert!(masked.contains(MASK));
        let left: String = masked.split(MASK).collect();
        // At most one character at either side also holds bits of the value.
        prop_assert!(left.len() <= (before.len() * 8).div_ceil(6) + (after.len() * 8).div_ceil(6) + 4, "{masked}");
    }

    #[test]
    fn text_without_a_value_is_unchanged(
        value in "[A-Z]{6,20}",
        text in "[a-z0-9 \n\"\\\\]{0,200}",
        cuts in proptest::collection::vec(any::<usize>(), 0..9),
    ) {
        // Hex and base64 of capitals hold capitals or are as good as never in such a text.
        prop_assume!(!text.contains(&hex::encode(&value)));
        let masks = masks(&[&value]);
        prop_assert!(matches!(masks.text(&text), Cow::Borrowed(same) if same == text));
        prop_assert_eq!(in_pieces(&masks, text.as_bytes(), &cuts), text.into_bytes());
    }

    #[test]
    fn overlapping_values_leave_no_part_of_either(
        left in "[a-c]{6,30}", shared in "[a-c]{0,20}", right in "[a-c]{6,30}",
        cuts in proptest::collection::vec(any::<usize>(), 0..9),
    ) {
        let (first, second) = (format!("{left}{shared}"), format!("{shared}{right}"));
        let text = format!("x{left}{shared}{right}x");
        let masks = masks(&[&first, &second]);
        let masked = masks.text(&text).into_owned();
        prop_assert_eq!(&masked, "x[sealed]x");
        prop_assert_eq!(in_pieces(&masks, text.as_bytes(), &cuts), masked.into_bytes());
    }

    #[test]
    fn the_automaton_finds_what_a_plain_search_finds(
        patterns in proptest::collection::hash_set("[ab]{6,9}", 1..5),
        text in "[ab]{0,80}",
    ) {
        let automaton = Automaton::new(&patterns.iter().map(|p| p.clone().into_bytes()).collect());
        let mut covered = vec![false; text.len()];
        for pattern in &patterns {
            for start in 0..text.len() {
                if text[start..].starts_with(pattern.as_str()) {
                    covered[start..start + pattern.len()].fill(true);
                }
            }
        }
        let mut found = vec![false; text.len()];
        for span in automaton.spans(text.as_bytes()) {
            found[span].fill(true);
        }
        prop_assert_eq!(found, covered);
    }
}

#[test]
fn each_line_of_a_multi_line_value_is_masked_and_short_ones_are_not() {
    let masks = masks(&["{\n  \"private_key\": \"abc\",\n  \"id\": 1\n}"]);
    assert_eq!(
        masks.text("got \"private_key\": \"abc\", here"),
        "got [sealed] here"
    );
    assert_eq!(masks.text("{ } 1"), "{ } 1");
}

/// As Google makes them, but for the key's length.
fn service_account() -> Value {
    json!({
        "type": "service_account",
        "project_id": "shop-production-1234",
        "private_key_id": "0f9a8b7c6d5e4f3a2b1c",
        "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC/Kc+wggSj\nAgEAAoIBAQC7VJTUt9Us8cKj=\n-----END PRIVATE KEY-----\n",
        "client_email": "robot@shop-production-1234.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
        "client_x509_cert_url": "https://www.googleapis.com/robot/v1/metadata/x509/robot%40shop-production-1234.iam.gserviceaccount.com",
        "universe_domain": "googleapis.com",
    })
}

#[test]
fn strings_in_a_json_value_are_masked_alone() {
    let account = service_account();
    let masks = masks(&[&account.to_string()]);
    let key = account["private_key"].as_str().unwrap();
    let lines: Vec<&str> = key.lines().collect();
    // As Node.js prints an object: a string with line ends is divided there.
    let inspected = format!("private_key: '{}\\n' +\n '{}\\n'", lines[1], lines[2]);
    let indented = serde_json::to_string_pretty(&account).unwrap();
    for said in [
        key.to_owned(),
        key.trim().to_owned(),
        lines[1].to_owned(),
        json!(key).to_string(),
        hex::encode(key),
        STANDARD.encode(format!("x{key}y")),
        inspected,
        indented.clone(),
    ] {
        let masked = masks.text(&said).into_owned();
        assert!(masked.contains(MASK), "{said} gave {masked}");
        assert!(!fragment_in(&masked, &lines[1..3].concat()), "{masked}");
        assert!(!fragment_in(&masked, lines[2]), "{masked}");
    }
    assert!(!masks.text(&indented).contains("0f9a8b7c6d5e"));
    for name in [
        "type",
        "project_id",
        "client_email",
        "token_uri",
        "client_x509_cert_url",
        "universe_domain",
    ] {
        let open = account[name].as_str().unwrap();
        assert_eq!(masks.text(open), open);
    }
    let mut answer = json!({"content": [{"text": account["private_key"]}]});
    assert_eq!(masks.json(&mut answer), 1);
    assert_eq!(answer["content"][0]["text"], MASK);
}

#[test]
fn what_its_name_calls_secret_is_masked_and_what_says_where_is_not() {
    let value = json!({
        "clientSecret": "GOCSPX-a1b2c3d4",
        "refresh_token": "1//0refresh-me",
        "db": [{"password": "hunter2", "username": "postgres", "host": "db.example.org", "pin": "1234567"}],
        "login": {"user": "sk_live_51H8xQ"},
        "hook": "https://hooks.example.com/services/T00000000/B00/XXXXXXXXXXXXXXXXXXXXXXXX",
        "base": "https://gitlab.example.com/api/v4",
        "feed": "https://example.com/feed?sig=0123456789",
        "token_type": "example-bearer-1",
        "ssl": "required",
        "pass": "required-password",
        "inner": json!({"api": "nested-in-a-string"}).to_string(),
        "dsn": "amqp://shop:queue-password@queue.example.org",
    });
    let masks = masks(&[&value.to_string()]);
    for masked in [
        "GOCSPX-a1b2c3d4",
        "1//0refresh-me",
        "hunter2",
        "sk_live_51H8xQ",
        value["hook"].as_str().unwrap(),
        value["feed"].as_str().unwrap(),
        "nested-in-a-string",
        "required-password",
        "queue-password",
    ] {
        assert_eq!(masks.text(masked), MASK, "{masked}");
    }
    let open = "postgres at db.example.org, https://gitlab.example.com/api/v4, 1234567, required, example-bearer-1";
    assert_eq!(masks.text(open), open);
}

#[test]
fn a_key_whose_line_ends_are_written_out_is_masked_with_them_and_without() {
    for value in [
        r"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\nAgEAAoIBAQC7VJTUt9Us\n-----END PRIVATE KEY-----\n",
        r#""-----BEGIN PRIVATE KEY-----\r\nMIIEvQIBADANBgkqhkiG\r\nAgEAAoIBAQC7VJTUt9Us""#,
    ] {
        let masks = masks(&[value]);
        let key = "MIIEvQIBADANBgkqhkiG\nAgEAAoIBAQC7VJTUt9Us";
        assert_eq!(masks.text(value), MASK);
        assert_eq!(masks.text(key), "[sealed]\n[sealed]");
        assert_eq!(masks.text("<AgEAAoIBAQC7VJTUt9Us>"), "<[sealed]>");
    }
}

#[test]
fn the_password_of_a_url_is_masked_alone() {
    let masks = masks(&[
        "postgres://postgres:p%40ss%2Fw0rd%21@db.example.org:5432/shop?sslmode=require",
        "https://ghp_a1b2c3d4e5@example.com/x.git",
        "redis://someuser@cache.example.org",
        "http://u:short@example.com",
    ]);
    for masked in ["p%40ss%2Fw0rd%21", "p@ss/w0rd!", "ghp_a1b2c3d4e5"] {
        assert_eq!(masks.text(masked), MASK, "{masked}");
    }
    let open = "postgres at db.example.org:5432, someuser, short";
    assert_eq!(masks.text(open), open);
}

#[test]
fn a_password_that_a_url_says_without_it_too_is_a_word() {
    let masks = masks(&["postgres://postgres:postgres@db.example.org/postgres"]);
    assert_eq!(masks.text("psql: postgres"), "psql: postgres");
}

#[test]
fn where_a_url_in_a_json_value_leads_is_masked_once_its_path_lets_in() {
    let hook = "https://hooks.example.org/services/T0123456/a1b2c3d4e5f6g7h8i9j0k1l2";
    let masks = masks(&[&json!({"webhook_uri": hook}).to_string()]);
    assert_eq!(masks.text(&format!("posts to {hook}")), "posts to [sealed]");
}

#[test]
fn hex_whose_bytes_stand_apart_is_masked() {
    let long = "a key of more than fifty bytes, as many services make them today";
    let masks = masks(&["kQ7/zX+9", long, &format!("{}!", long.repeat(80))]);
    for said in [
        "6b 51 37 2f 7a 58 2b 39",
        "6B:51:37:2F:7A:58:2B:39",
        "<Buffer 6b 51 37 2f 7a 58 2b 39>",
    ] {
        assert!(masks.text(said).contains(MASK), "{said}");
    }
    // The longest in the shape of Node.js alone.
    let bytes: Vec<String> = long.bytes().map(|byte| format!("{byte:02x}")).collect();
    let shown = format!("<Buffer {} ... 14 more bytes>", bytes[..50].join(" "));
    assert_eq!(masks.text(&shown), "<Buffer [sealed] ... 14 more bytes>");
    assert_eq!(masks.text(&bytes.join(":")), MASK);
}

#[test]
fn a_value_that_colours_divide_is_masked_in_json_too() {
    let masks = masks(&["kQ7/zX+9-and-more"]);
    let mut value = json!({
        "text": "\u{1b}[1mkey\u{1b}[0m kQ7/z\u{1b}[31mX+9-and\u{1b}[0m-more",
        "kQ7/z\u{1b}[31mX+9-and-more": "\u{1b}[31mred\u{1b}[0m",
        "whole": "\u{1b}[31mkQ7/zX+9-and-more\u{1b}[0m",
    });
    assert_eq!(masks.json(&mut value), 3);
    assert_eq!(
        value,
        json!({
            "text": "key [sealed]",
            "[sealed]": "\u{1b}[31mred\u{1b}[0m",
            "whole": "\u{1b}[31m[sealed]\u{1b}[0m",
        })
    );
}

#[test]
fn a_value_under_six_characters_is_left() {
    let masks = masks(&["12345", "ßßßßß"]);
    assert_eq!(masks.text("12345 ßßßßß"), "12345 ßßßßß");
    assert!(matches!(masks.bytes(b"\xff12345"), Cow::Borrowed(_)));
}

#[test]
fn json_strings_keys_and_numbers_are_masked_and_counted() {
    let masks = masks(&["hunter22", "40000000123", "tab\t\"quote\""]);
    let mut value = json!({
        "a": ["x hunter22 y", 40000000123u64, -40000000123i64, 400000001234u64, true, null],
        "hunter22": {"text": serde_json::to_string(&json!({"env": "tab\t\"quote\""})).unwrap()},
    });
    assert_eq!(masks.json(&mut value), 5);
    assert_eq!(
        value,
        json!({
            "a": ["x [sealed] y", "[sealed]", "[sealed]", 400000001234u64, true, null],
            "[sealed]": {"text": "{\"env\":\"[sealed]\"}"},
        })
    );
    assert_eq!(Masks::none().json(&mut json!("hunter22")), 0);
}

#[test]
fn wrapped_base64_is_masked() {
    let value: String = (0..200)
        .map(|n| char::from(b'!' + (n * 7 % 90) as u8))
        .collect();
    let encoded = STANDARD.encode(&value);
    let wrapped: Vec<&str> = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    assert_eq!(masks(&[&value]).text(&wrapped.join("\n")), MASK);
}

#[test]
fn a_stream_keeps_back_only_what_may_be_a_value() {
    let masks = masks(&["abcdefgh"]);
    let mut stream = masks.stream();
    assert_eq!(stream.feed(b"plain text\n"), b"plain text\n");
    assert_eq!(stream.feed(b"then abcd"), b"then ");
    assert_eq!(stream.feed(b"x"), b"abcdx");
    assert_eq!(stream.feed(b"abcdefg"), b"");
    assert_eq!(stream.finish(), b"abcdefg");
}

/// Characters that most spellings write at greater length, in an order that does not repeat.
fn costly(len_bytes: usize, characters: &str, seed: u64) -> String {
    let characters: Vec<char> = characters.chars().collect();
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = String::from(" ");
    loop {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let next = characters[(random >> 32) as usize % characters.len()];
        if value.len() + next.len_utf8() >= len_bytes {
            return value + " ";
        }
        value.push(next);
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the measure, for whoever changes a bound"
)]
fn the_most_that_a_deployment_can_bind_takes_bounded_memory() {
    const ONE_LINE: &str = "<>&\"'\\/+ ~!$%@:{}|^`\u{2028}äß";
    let many_lines = format!("{ONE_LINE}\n");
    for (characters, len_bytes, is_document) in [
        (ONE_LINE, 650, false),
        (ONE_LINE, 4096, false),
        (ONE_LINE, VALUE_LEN_BYTES, false),
        (many_lines.as_str(), 4096, false),
        (ONE_LINE, 650, true),
        (ONE_LINE, 4096, true),
        (many_lines.as_str(), 8192, true),
    ] {
        let count = VALUES_LEN_BYTES / len_bytes;
        let value = |seed: u64| match is_document {
            // Some characters are escaped.
            true => json!({"key": costly(len_bytes * 5 / 6, characters, seed)}).to_string(),
            false => costly(len_bytes, characters, seed),
        };
        let values: Vec<SecretString> = (0..count)
            .map(|seed| SecretString::from(value(1 + seed as u64)))
            .collect();
        let masks = Masks::new(&values);
        let taken = masks.automaton().nodes.capacity() * size_of::<Node>()
            + masks.automaton().matches.capacity() * 2 * size_of::<u32>();
        println!(
            "{count} values of {len_bytes} bytes, documents {is_document}: {} MiB",
            taken >> 20
        );
        assert!(taken <= MASKS_LEN_BYTES, "{taken}");
        let automaton = masks.automaton();
        let nodes = &automaton.nodes;
        assert_eq!(nodes.len(), nodes.capacity(), "none was moved");
        let said = format!("<{}>", hex::encode(values[count - 1].expose_secret()));
        assert_eq!(masks.text(&said), "<[sealed]>");
    }
}

#[test]
fn short_values_are_found_in_every_form_beside_long_ones() {
    let long = costly(4096, "<>&\"'\\/+ \n", 7);
    let values: Vec<String> = (0..20).map(|_| long.clone()).collect();
    let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.push("a<b>\"c\"&d'e");
    let rare = "a&lt;b&gt;&#34;c&#34;&amp;d&#39;e";
    assert_eq!(masks(&values).text(rare), MASK);
}

#[test]
fn nothing_prints_a_value() {
    let masks = masks(&["hunter22"]);
    let mut stream = masks.stream();
    stream.feed(b"hunter2");
    assert_eq!(format!("{masks:?} {stream:?}"), "Masks StreamMask");
}
