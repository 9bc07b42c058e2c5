//! How a recovery share is written: 21 groups of 5 characters that can be typed, read out and told apart. The last of each group
//! checks the four before it and the place of the group, so that a slip is found where it is; a checksum holds over all.

use secrecy::SecretString;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::super::keyring::{KEY_LEN_BYTES, MasterKey};

pub(super) const SET_LEN_BYTES: usize = 4;
const KEY_NAME_LEN_BYTES: usize = 8;
const CHECKSUM_LEN_BYTES: usize = 4;
/// Format, set, number, threshold, total, the key's name, the part; then the checksum.
const BODY_LEN_BYTES: usize = 1 + SET_LEN_BYTES + 3 + KEY_NAME_LEN_BYTES + KEY_LEN_BYTES;
const LEN_BYTES: usize = BODY_LEN_BYTES + CHECKSUM_LEN_BYTES;

const FORMAT: u8 = 1;
const CHECKSUM_LABEL: &[u8] = b"sealport/1/share";

/// Crockford's base 32: no I, L, O or U. What looks alike is read as what it looks like.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a group that carry the share; one more checks them.
const GROUP_LEN: usize = 4;
const GROUPS: usize = (LEN_BYTES * 8).div_ceil(5 * GROUP_LEN);
/// Odd, so that no single slip passes modulo 32.
const WEIGHTS: [usize; GROUP_LEN] = [1, 3, 5, 7];
const PLACE_WEIGHT: usize = 11;

/// One part of a master key, and what it belongs to.
pub(super) struct Share {
    pub set: [u8; SET_LEN_BYTES],
    pub number: u8,
    pub threshold: u8,
    pub total: u8,
    /// How the key's fingerprint begins.
    pub key: [u8; KEY_NAME_LEN_BYTES],
    pub part: Zeroizing<[u8; KEY_LEN_BYTES]>,
}

/// How the fingerprint of a key begins: enough to tell which key a share is of.
pub(super) fn beginning(key: &MasterKey) -> [u8; KEY_NAME_LEN_BYTES] {
    let mut beginning = [0; KEY_NAME_LEN_BYTES];
    let digits = key.fingerprint();
    // A fingerprint has twice as many digits.
    let _ = hex::decode_to_slice(&digits[..KEY_NAME_LEN_BYTES * 2], &mut beginning);
    beginning
}

impl Share {
    pub(super) fn same_set(&self, other: &Share) -> bool {
        (self.set, self.threshold, self.total, self.key)
            == (other.set, other.threshold, other.total, other.key)
    }

    pub(super) fn set_name(&self) -> String {
        hex::encode(self.set)
    }

    pub(super) fn key_name(&self) -> String {
        hex::encode(self.key)
    }

    /// The line to write down.
    pub(super) fn write(&self) -> SecretString {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LEN_BYTES));
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.set);
        bytes.extend_from_slice(&[self.number, self.threshold, self.total]);
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(self.part.as_slice());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);

        let symbols = Zeroizing::new(to_symbols(&bytes));
        // Exactly as long as its text, so that it moves into the secret without a copy left behind.
        let mut line = String::with_capacity(GROUPS * (GROUP_LEN + 2) - 1);
        for (place, group) in symbols.chunks(GROUP_LEN).enumerate() {
            if place > 0 {
                line.push(' ');
            }
            for symbol in group.iter().chain([&check(place, group)]) {
                line.push(char::from(ALPHABET[usize::from(*symbol)]));
            }
        }
        SecretString::from(line)
    }

    /// Reads a line. Errors: the rest of a sentence that begins with the share, naming the group and never quoting more of it than
    /// the one character that cannot be.
    pub(super) fn read(line: &str) -> Result<Share, String> {
        let groups: Vec<&str> = line
            .split(|c: char| c.is_whitespace() || c == '-')
            .filter(|group| !group.is_empty())
            .collect();
        let mut symbols = Zeroizing::new(Vec::with_capacity(GROUPS * GROUP_LEN));
        for (place, group) in groups.iter().take(GROUPS).enumerate() {
            symbols.extend_from_slice(read_group(place, group)?.as_slice());
        }
        if groups.len() != GROUPS {
            return Err(format!(
                "has {} groups of characters, and a share has {GROUPS}. Type all of it in one line.",
                groups.len()
            ));
        }
        let bytes = Zeroizing::new(to_bytes(&symbols));
        let (body, sum) = bytes.split_at(BODY_LEN_BYTES);
        if checksum(body) != sum[..CHECKSUM_LEN_BYTES] {
            return Err(
                "has groups that are each well formed, and still is not what was printed: two characters or more of one group are \
                 wrong. Compare it with the paper once more."
                    .into(),
            );
        }
        if body[0] != FORMAT {
            return Err("is of a newer Sealport than this one.".into());
        }
        let fixed = |from: usize, to: usize| &body[from..to];
        let mut share = Share {
            set: [0; SET_LEN_BYTES],
            number: body[5],
            threshold: body[6],
            total: body[7],
            key: [0; KEY_NAME_LEN_BYTES],
            part: Zeroizing::new([0; KEY_LEN_BYTES]),
        };
        share.set.copy_from_slice(fixed(1, 5));
        share.key.copy_from_slice(fixed(8, 16));
        share.part.copy_from_slice(fixed(16, BODY_LEN_BYTES));
        if share.number == 0 || share.threshold < 2 || share.number > share.total {
            return Err("is none that Sealport made.".into());
        }
        Ok(share)
    }
}

fn read_group(place: usize, group: &str) -> Result<Zeroizing<[u8; GROUP_LEN]>, String> {
    let mut symbols = Zeroizing::new([0; GROUP_LEN + 1]);
    let mut length = 0;
    for character in group.chars() {
        let symbol = symbol(character).ok_or_else(|| {
            format!(
                "has {character:?} in group {}, which no share has. Compare that group with the paper.",
                place + 1
            )
        })?;
        if let Some(place) = symbols.get_mut(length) {
            *place = symbol;
        }
        length += 1;
    }
    if length != GROUP_LEN + 1 {
        return Err(format!(
            "has {length} characters in group {}, and a group has {}. Compare that group with the paper.",
            place + 1,
            GROUP_LEN + 1
        ));
    }
    let mut carried = Zeroizing::new([0; GROUP_LEN]);
    carried.copy_from_slice(&symbols[..GROUP_LEN]);
    if check(place, carried.as_slice()) != symbols[GROUP_LEN] {
        return Err(format!(
            "has a wrong character in group {}, or that group stands in the place of another. Compare it with the paper.",
            place + 1
        ));
    }
    Ok(carried)
}

fn symbol(character: char) -> Option<u8> {
    let seen = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let at = ALPHABET.iter().position(|c| char::from(*c) == seen)?;
    u8::try_from(at).ok()
}

fn check(place: usize, group: &[u8]) -> u8 {
    let sum: usize = group
        .iter()
        .zip(WEIGHTS)
        .map(|(symbol, weight)| usize::from(*symbol) * weight)
        .sum();
    // Less than the alphabet's length.
    ((sum + place * PLACE_WEIGHT) % ALPHABET.len()) as u8
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN_BYTES] {
    let digest = Sha256::new()
        .chain_update(CHECKSUM_LABEL)
        .chain_update(body)
        .finalize();
    let mut sum = [0; CHECKSUM_LEN_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_LEN_BYTES]);
    sum
}

/// Five bits a symbol, the first bit first; the last group is filled with zeros.
fn to_symbols(bytes: &[u8]) -> Vec<u8> {
    let mut symbols = Vec::with_capacity(GROUPS * GROUP_LEN);
    for at in 0..GROUPS * GROUP_LEN {
        let mut symbol = 0;
        for bit in at * 5..at * 5 + 5 {
            let set = bytes
                .get(bit / 8)
                .is_some_and(|b| b >> (7 - bit % 8) & 1 == 1);
            symbol = symbol << 1 | u8::from(set);
        }
        symbols.push(symbol);
    }
    symbols
}

fn to_bytes(symbols: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; LEN_BYTES];
    for (at, symbol) in symbols.iter().enumerate() {
        for offset in 0..5 {
            let bit = at * 5 + offset;
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte |= (symbol >> (4 - offset) & 1) << (7 - bit % 8);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn share(part: [u8; KEY_LEN_BYTES]) -> Share {
        Share {
            set: [0x7f, 0x3a, 0x09, 0xc1],
            number: 2,
            threshold: 3,
            total: 5,
            key: [0xab; KEY_NAME_LEN_BYTES],
            part: Zeroizing::new(part),
        }
    }

    fn why(line: &str) -> String {
        match Share::read(line) {
            Ok(_) => panic!("it reads: {line}"),
            Err(why) => why,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_however_it_is_typed(part: [u8; 32]) {
            let line = share(part).write();
            let line = line.expose_secret();
            for typed in [
                line.to_owned(),
                line.to_lowercase(),
                line.replace(' ', "-"),
                line.replace(' ', "  \t"),
                line.replace('0', "O").replace('1', "l"),
            ] {
                let read = Share::read(&typed).unwrap();
                prop_assert!(read.same_set(&share(part)));
                prop_assert_eq!(read.number, 2);
                prop_assert_eq!(*read.part, part);
            }
        }
    }

    #[test]
    fn every_single_slip_is_found_in_its_group() {
        let line = share([0x5e; 32]).write().expose_secret().to_owned();
        for (at, right) in line.char_indices().filter(|(_, c)| *c != ' ') {
            let group = at / (GROUP_LEN + 2) + 1;
            for slip in ALPHABET
                .iter()
                .map(|c| char::from(*c))
                .chain(['u', '!', 'é'])
            {
                if slip == right {
                    continue;
                }
                let mut typed = line.clone();
                typed.replace_range(at..=at, &slip.to_string());
                let why = why(&typed);
                assert!(why.contains(&format!("in group {group}")), "{typed}: {why}");
            }
            let mut short = line.clone();
            short.remove(at);
            assert!(why(&short).contains(&format!("4 characters in group {group}")));
        }
    }

    #[test]
    fn groups_that_are_left_out_doubled_or_exchanged_are_found() {
        let line = share([0x5e; 32]).write().expose_secret().to_owned();
        let groups: Vec<&str> = line.split(' ').collect();
        assert_eq!(groups.len(), 21);
        let mut exchanged = groups.clone();
        exchanged.swap(3, 9);
        assert!(why(&exchanged.join(" ")).contains("in group 4"));
        let mut doubled = groups.clone();
        doubled.push(groups[20]);
        assert!(why(&doubled.join(" ")).contains("has 22 groups"));
        assert!(why(&groups[..20].join(" ")).contains("has 20 groups"));
        // Two slips that a group's own check does not see: the checksum over all does.
        let mut slips: Vec<char> = line.chars().collect();
        let value = |c: char| symbol(c).unwrap();
        let of = |v: u8| char::from(ALPHABET[usize::from(v % 32)]);
        slips[0] = of(value(slips[0]) + 3);
        slips[1] = of(value(slips[1]) + 31);
        let slips: String = slips.into_iter().collect();
        assert!(why(&slips).contains("two characters"), "{}", why(&slips));
    }
}
