//! Moments on the wire: RFC 3339.

/// A field that can be left out, be null, or hold a moment.
pub mod patch {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use time::OffsetDateTime;

    #[derive(Serialize, Deserialize)]
    struct Moment(#[serde(with = "time::serde::rfc3339")] OffsetDateTime);

    pub fn serialize<S: Serializer>(
        at: &Option<Option<OffsetDateTime>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at.flatten().map(Moment).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<OffsetDateTime>>, D::Error> {
        let at = Option::<Moment>::deserialize(deserializer)?;
        Ok(Some(at.map(|Moment(at)| at)))
    }
}
