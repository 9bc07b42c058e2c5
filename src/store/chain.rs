//! How the record is chained, and how it is told whether a chain is whole. Knows no database: rows come from there or from a file.

use std::collections::HashMap;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use time::OffsetDateTime;
use uuid::Uuid;

use super::chain_keys::ChainKey;
use super::{Error, Result};
use crate::model::errors::Refusal;

/// Another number is another way to hash.
const FORMAT: u8 = 1;
/// Labels keep apart what one key hashes.
const ROW_LABEL: &[u8] = b"sealport/1/record-row";
const BATCH_LABEL: &[u8] = b"sealport/1/record-batch";
const DROP_LABEL: &[u8] = b"sealport/1/record-drop";
pub(super) const HASH_LEN_BYTES: usize = 32;
/// The most rows of one batch.
pub(super) const BATCH_ROWS_MAX: usize = 500;

pub(super) type Hash = [u8; HASH_LEN_BYTES];

/// What the first batch follows.
pub(super) const NOTHING_BEFORE: Hash = [0; HASH_LEN_BYTES];

/// A batch's number and hash. Kept elsewhere, it shows that nothing up to there was changed or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub number: i64,
    pub hash: [u8; HASH_LEN_BYTES],
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, hex::encode(self.hash))
    }
}

impl Link {
    /// As it is printed. Errors: `Invalid` at `link`.
    pub fn parse(text: &str) -> Result<Link, Refusal> {
        let parsed = text.trim().split_once(':').and_then(|(number, hash)| {
            Some(Link {
                number: number.parse().ok().filter(|number| *number > 0)?,
                hash: hex::decode(hash).ok()?.try_into().ok()?,
            })
        });
        parsed.ok_or_else(|| {
            Refusal::invalid(
                "link",
                "A link is what `sealport audit verify` printed: a batch's number, a colon and 64 hex digits.",
            )
        })
    }
}

/// What a batch says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) number: i64,
    pub(super) first_seq: i64,
    pub(super) rows: i32,
    pub(super) key_id: Uuid,
    #[serde(with = "hex::serde")]
    pub(super) previous: Vec<u8>,
    #[serde(with = "hex::serde")]
    pub(super) hash: Vec<u8>,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) sealed_at: OffsetDateTime,
}

/// A numbered row. `content` is none when the record does not have it any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SealedRow {
    pub(super) seq: i64,
    #[serde(with = "hex::serde")]
    pub(super) mac: Vec<u8>,
    #[serde(rename = "row")]
    pub(super) content: Option<Value>,
}

/// Up to where the record was exported and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) number: i64,
    pub(super) last_seq: i64,
    pub(super) hash: Hash,
    pub(super) dropped_at: OffsetDateTime,
}

/// The first thing that is not as it was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub sentence: String,
}

pub(super) fn damage<T>(sentence: impl Into<String>) -> Result<T, Damage> {
    Err(Damage {
        sentence: sentence.into(),
    })
}

impl ChainKey {
    /// The hash of one row at its number.
    pub(super) fn row(&self, seq: i64, content: &Value) -> Result<Hash> {
        let mut bytes = Vec::with_capacity(512);
        encode(content, &mut bytes);
        let mut mac = self.mac(ROW_LABEL)?;
        mac.update(&seq.to_be_bytes());
        mac.update(&bytes);
        Ok(mac.finalize().into_bytes().into())
    }

    /// The hash of a batch over what it says of itself, but its hash, and over its rows' hashes.
    pub(super) fn batch(&self, batch: &Batch, rows: &[SealedRow]) -> Result<Hash> {
        let mut mac = self.mac(BATCH_LABEL)?;
        mac.update(&batch.number.to_be_bytes());
        mac.update(&batch.first_seq.to_be_bytes());
        mac.update(&batch.rows.to_be_bytes());
        mac.update(&micros(batch.sealed_at).to_be_bytes());
        for bytes in std::iter::once(&batch.previous).chain(rows.iter().map(|row| &row.mac)) {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        }
        Ok(mac.finalize().into_bytes().into())
    }

    /// The hash of a mark: what was dropped was dropped by somebody with the key.
    pub(super) fn dropped(&self, mark: &Dropped) -> Result<Hash> {
        let mut mac = self.mac(DROP_LABEL)?;
        mac.update(&mark.number.to_be_bytes());
        mac.update(&mark.last_seq.to_be_bytes());
        mac.update(&mark.hash);
        mac.update(&micros(mark.dropped_at).to_be_bytes());
        Ok(mac.finalize().into_bytes().into())
    }

    fn mac(&self, label: &[u8]) -> Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice())
            .map_err(|_| Error::broken("a chain key has a wrong length"))?;
        mac.update(&(label.len() as u64).to_be_bytes());
        mac.update(label);
        mac.update(&[FORMAT]);
        mac.update(self.id.as_bytes());
        Ok(mac)
    }
}

/// PostgreSQL's own precision.
fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// One sequence of bytes for each JSON value: a letter for the type, lengths before contents, names in order.
fn encode(value: &Value, out: &mut Vec<u8>) {
    let text = |letter: u8, text: &str, out: &mut Vec<u8>| {
        out.push(letter);
        out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
        Value::Number(number) => text(b'd', &number.to_string(), out),
        Value::String(string) => text(b's', string, out),
        Value::Array(values) => {
            out.push(b'a');
            out.extend_from_slice(&(values.len() as u64).to_be_bytes());
            for value in values {
                encode(value, out);
            }
        }
        Value::Object(fields) => {
            out.push(b'o');
            out.extend_from_slice(&(fields.len() as u64).to_be_bytes());
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in fields {
                text(b's', name, out);
                encode(value, out);
            }
        }
    }
}

/// Goes along a chain, batch by batch, and stops at the first damage.
pub(super) struct Walk<'k> {
    keys: &'k HashMap<Uuid, ChainKey>,
    pub(super) number: i64,
    pub(super) last_seq: i64,
    pub(super) hash: Hash,
    pub(super) batches: i64,
    pub(super) rows: i64,
}

impl<'k> Walk<'k> {
    /// From the beginning, or from where the record was dropped.
    pub(super) fn from(keys: &'k HashMap<Uuid, ChainKey>, start: Option<&Dropped>) -> Self {
        Walk {
            keys,
            number: start.map_or(0, |mark| mark.number),
            last_seq: start.map_or(0, |mark| mark.last_seq),
            hash: start.map_or(NOTHING_BEFORE, |mark| mark.hash),
            batches: 0,
            rows: 0,
        }
    }

    pub(super) fn link(&self) -> Option<Link> {
        (self.number > 0).then_some(Link {
            number: self.number,
            hash: self.hash,
        })
    }

    /// The next batch with the rows that are numbered as its own.
    pub(super) fn take(&mut self, batch: &Batch, rows: &[SealedRow]) -> Result<(), Damage> {
        let number = batch.number;
        if number != self.number + 1 {
            return damage(format!("Batch {} is missing.", self.number + 1));
        }
        let Ok(count) = usize::try_from(batch.rows) else {
            return damage(format!("The entry of batch {number} was changed."));
        };
        if batch.first_seq != self.last_seq + 1
            || batch.previous != self.hash
            || count > BATCH_ROWS_MAX
        {
            return damage(format!(
                "Batch {number} does not follow the one before it: one of the two was changed."
            ));
        }
        let Some(key) = self.keys.get(&batch.key_id) else {
            return damage(format!(
                "The key of batch {number} is missing or does not open, so it cannot be checked."
            ));
        };
        let broken = |error: Error| Damage {
            sentence: error.to_string(),
        };
        // Rows before the batch as a whole: what was changed is told by its number.
        for place in 0..count {
            let seq = self.last_seq + 1 + place as i64;
            let Some(row) = rows.get(place).filter(|row| row.seq == seq) else {
                return damage(format!("Row {seq}, in batch {number}, has lost its seal."));
            };
            let Some(content) = &row.content else {
                return damage(format!(
                    "Row {seq}, in batch {number}, is missing. It was sealed on {}.",
                    batch.sealed_at
                ));
            };
            if key.row(seq, content).map_err(broken)?.as_slice() != row.mac {
                return damage(format!(
                    "Row {seq}, in batch {number}, is not as it was sealed. Its id is {}.",
                    content.get("id").and_then(Value::as_str).unwrap_or("gone")
                ));
            }
        }
        let rows = rows.get(..count).unwrap_or_default();
        let hash = key.batch(batch, rows).map_err(broken)?;
        if hash.as_slice() != batch.hash {
            return damage(format!("The entry of batch {number} was changed."));
        }
        self.number = number;
        self.last_seq += count as i64;
        self.hash = hash;
        self.batches += 1;
        self.rows += count as i64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;
    use zeroize::Zeroizing;

    use super::*;

    fn key(byte: u8) -> ChainKey {
        ChainKey {
            id: Uuid::nil(),
            key: Zeroizing::new([byte; 32]),
        }
    }

    fn keys(byte: u8) -> HashMap<Uuid, ChainKey> {
        HashMap::from([(Uuid::nil(), key(byte))])
    }

    /// Two batches of two rows.
    fn chain() -> Vec<(Batch, Vec<SealedRow>)> {
        let key = key(7);
        let mut previous = NOTHING_BEFORE;
        (1..=2)
            .map(|number| {
                let first_seq = number * 2 - 1;
                let rows: Vec<SealedRow> = (first_seq..first_seq + 2)
                    .map(|seq| {
                        let content = json!({"id": format!("r{seq}"), "action": "secret.bind", "version": seq});
                        SealedRow {
                            seq,
                            mac: key.row(seq, &content).unwrap().to_vec(),
                            content: Some(content),
                        }
                    })
                    .collect();
                let mut batch = Batch {
                    number,
                    first_seq,
                    rows: 2,
                    key_id: key.id,
                    previous: previous.to_vec(),
                    hash: Vec::new(),
                    sealed_at: OffsetDateTime::UNIX_EPOCH,
                };
                previous = key.batch(&batch, &rows).unwrap();
                batch.hash = previous.to_vec();
                (batch, rows)
            })
            .collect()
    }

    fn walked(chain: &[(Batch, Vec<SealedRow>)], byte: u8) -> Result<Option<Link>, String> {
        let keys = keys(byte);
        let mut walk = Walk::from(&keys, None);
        for (batch, rows) in chain {
            walk.take(batch, rows).map_err(|damage| damage.sentence)?;
        }
        Ok(walk.link())
    }

    #[test]
    fn a_whole_chain_is_walked_to_its_link() {
        let link = walked(&chain(), 7).unwrap().unwrap();
        assert_eq!(link.number, 2);
        assert_eq!(link.hash.to_vec(), chain()[1].0.hash);
        assert_eq!(Link::parse(&link.to_string()).unwrap(), link);
        for wrong in ["", "2", "2:", "0:00", "x:00", "2:00"] {
            assert_eq!(
                Link::parse(wrong).unwrap_err().field.as_deref(),
                Some("link")
            );
        }
    }

    #[test]
    fn another_key_makes_another_chain() {
        assert!(walked(&chain(), 8).unwrap_err().contains("Row 1,"));
    }

    #[test]
    fn each_change_is_named() {
        type Change = fn(&mut Vec<(Batch, Vec<SealedRow>)>);
        let cases: [(Change, &str); 11] = [
            (|c| c[0].1[1].content = Some(json!({})), "Row 2,"),
            (
                |c| c[0].1[1].content.as_mut().unwrap()["reason"] = json!("x"),
                "Row 2,",
            ),
            (
                |c| c[1].1[0].content = None,
                "Row 3, in batch 2, is missing",
            ),
            (|c| c[0].1[0].mac[3] ^= 1, "Row 1,"),
            (|c| c[1].1.swap(0, 1), "Row 3,"),
            (
                |c| {
                    let one = c[0].1[0].content.clone();
                    c[0].1[0].content = c[0].1[1].content.clone();
                    c[0].1[1].content = one;
                },
                "Row 1,",
            ),
            (
                |c| {
                    c[1].1.pop();
                },
                "Row 4, in batch 2, has lost its seal",
            ),
            (|c| c[1].0.rows = 1, "The entry of batch 2"),
            (
                |c| c[0].0.sealed_at += time::Duration::SECOND,
                "The entry of batch 1",
            ),
            (|c| c[1].0.previous[0] ^= 1, "Batch 2 does not follow"),
            (
                |c| {
                    c.remove(0);
                },
                "Batch 1 is missing",
            ),
        ];
        for (change, named) in cases {
            let mut chain = chain();
            change(&mut chain);
            let told = walked(&chain, 7).unwrap_err();
            assert!(told.contains(named), "{named}: {told}");
        }
    }

    #[test]
    fn no_two_values_encode_alike() {
        let values = [
            json!(null),
            json!(true),
            json!(false),
            json!(1),
            json!("1"),
            json!(["1"]),
            json!([["1"]]),
            json!({"1": "1"}),
            json!({"a": "b", "c": "d"}),
            json!({"a": "bc", "d": ""}),
            json!({"ab": "c"}),
            json!({"a": null}),
            json!({}),
            json!([]),
            json!(""),
            json!(["a", "b"]),
            json!(["ab"]),
        ];
        let encoded: std::collections::BTreeSet<Vec<u8>> = values
            .iter()
            .map(|value| {
                let mut out = Vec::new();
                encode(value, &mut out);
                out
            })
            .collect();
        assert_eq!(encoded.len(), values.len());
        let (mut one, mut other) = (Vec::new(), Vec::new());
        encode(&json!({"a": 1, "b": 2}), &mut one);
        encode(&json!({"b": 2, "a": 1}), &mut other);
        assert_eq!(one, other);
    }
}
