//! How much of the callers' messages is in memory at once: bounded for each user, and for the
//! deployments of this server together.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;
use uuid::Uuid;

use super::ClientKey;
use super::wire::{INVALID_REQUEST, RpcError, SERVER_GONE};

/// How long a caller waits for room before it is refused.
const MOMENT: Duration = Duration::from_secs(2);
/// What a parsed value takes beside its text: its place in an array that grew, its allocation.
const NODE_LEN_BYTES: usize = 160;

/// How much may be held, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct RoomLimits {
    /// For all callers.
    pub all_bytes: usize,
    /// For one user, and so for one message.
    pub user_bytes: usize,
    /// A user that holds no more than this has room though others filled all of it.
    pub small_bytes: usize,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            all_bytes: 256 << 20,
            user_bytes: 64 << 20,
            small_bytes: 1 << 20,
        }
    }
}

/// The room for messages. Cheap to clone; by default the one of this process.
#[derive(Debug, Clone)]
pub struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: RoomLimits,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all_bytes: usize,
    /// Only of those who hold something.
    by_user: HashMap<Uuid, usize>,
}

/// What one message takes of the room, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Room,
    user: Uuid,
    bytes: usize,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The message alone is too large, however long one waits.
    Never,
    Own,
    All,
}

impl Default for Room {
    fn default() -> Self {
        static ROOM: LazyLock<Room> = LazyLock::new(|| Room::new(RoomLimits::default()));
        ROOM.clone()
    }
}

impl Room {
    pub fn new(limits: RoomLimits) -> Self {
        Self(Arc::new(Inner {
            limits,
            taken: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// How much is held now, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.taken().all_bytes
    }

    /// Nothing yet, in this caller's name; it counts for their user.
    pub(super) fn hold(&self, client: ClientKey) -> Held {
        Held {
            room: self.clone(),
            user: client.user,
            bytes: 0,
        }
    }

    /// Whether a message of this weight never has room.
    pub(super) fn is_never(&self, bytes: usize) -> bool {
        bytes > self.0.limits.user_bytes
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Holds `bytes` in place of what it held. Errors: there is no room; it holds what it held.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Full> {
        let limits = self.room.0.limits;
        let mut taken = self.room.taken();
        let before = taken.by_user.get(&self.user).copied().unwrap_or(0);
        let own = before - self.bytes + bytes;
        let all_bytes = taken.all_bytes - self.bytes + bytes;
        if bytes > self.bytes {
            if bytes > limits.user_bytes {
                return Err(Full::Never);
            }
            if own > limits.user_bytes {
                return Err(Full::Own);
            }
            if own > limits.small_bytes && all_bytes > limits.all_bytes {
                return Err(Full::All);
            }
        }
        taken.all_bytes = all_bytes;
        if own == 0 {
            taken.by_user.remove(&self.user);
        } else {
            taken.by_user.insert(self.user, own);
        }
        drop(taken);
        if bytes < self.bytes {
            self.room.0.freed.notify_waiters();
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The same, waiting a moment for room.
    pub async fn resize_soon(&mut self, bytes: usize) -> Result<(), Full> {
        let room = self.room.clone();
        let deadline = tokio::time::Instant::now() + MOMENT;
        loop {
            let mut freed = std::pin::pin!(room.0.freed.notified());
            // Before looking, so that what is freed in between is not missed.
            freed.as_mut().enable();
            let full = match self.resize(bytes) {
                Err(full) if full != Full::Never => full,
                done => return done,
            };
            if tokio::time::timeout_at(deadline, freed).await.is_err() {
                return Err(full);
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go of all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        // Less always has room.
        let _ = self.resize(bytes.min(self.bytes));
    }

    /// Takes over what another of the same user holds.
    pub fn absorb(&mut self, mut other: Held) {
        debug_assert_eq!(self.user, other.user);
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl Full {
    pub fn error(self) -> RpcError {
        match self {
            Self::Never => RpcError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                INVALID_REQUEST,
                "The message is too large: it has too many values in it. Send less at once.",
            ),
            Self::Own => RpcError::new(
                StatusCode::TOO_MANY_REQUESTS,
                SERVER_GONE,
                "Too much of yours is on its way at once; try again when some of it is answered and read.",
            ),
            Self::All => RpcError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                SERVER_GONE,
                "Too much is on its way through Sealport at once; try again in a moment.",
            ),
        }
    }

    /// The same for an answer that found no room.
    pub fn answer_error(self) -> RpcError {
        match self {
            Self::Never => RpcError::new(
                StatusCode::OK,
                SERVER_GONE,
                "The server's answer is too large: it has too many values in it. Ask for less at once.",
            ),
            other => RpcError {
                status: StatusCode::OK,
                ..other.error()
            },
        }
    }
}

/// What a JSON text takes as text and as a tree, in bytes; told without building the tree.
pub(super) fn weigh(json: &[u8]) -> usize {
    let mut nodes = 1;
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else {
            match byte {
                b'"' => in_string = true,
                b',' | b':' | b'[' | b'{' => nodes += 1,
                _ => {}
            }
        }
    }
    2 * json.len() + nodes * NODE_LEN_BYTES
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const LIMITS: RoomLimits = RoomLimits {
        all_bytes: 100,
        user_bytes: 60,
        small_bytes: 10,
    };

    fn client(number: u128) -> ClientKey {
        ClientKey::alone(Uuid::from_u128(number))
    }

    #[test]
    fn one_caller_cannot_take_all_and_small_messages_always_have_room() {
        let room = Room::new(LIMITS);
        let (mut one, mut two, mut three) = (
            room.hold(client(1)),
            room.hold(client(2)),
            room.hold(client(3)),
        );
        assert_eq!(one.resize(61), Err(Full::Never));
        assert_eq!(one.resize(60), Ok(()));
        assert_eq!(room.hold(client(1)).resize(1), Err(Full::Own));
        assert_eq!(two.resize(41), Err(Full::All));
        assert_eq!(two.resize(40), Ok(()));
        assert_eq!(three.resize(11), Err(Full::All));
        assert_eq!(three.resize(10), Ok(()));
        one.shrink(20);
        let mut more = room.hold(client(1));
        assert_eq!(more.resize(20), Ok(()));
        one.absorb(more);
        assert_eq!((one.bytes(), room.held_bytes()), (40, 90));
        drop((one, two, three));
        assert_eq!(room.held_bytes(), 0);
        assert!(room.taken().by_user.is_empty());
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_a_moment() {
        let room = Room::new(LIMITS);
        let (mut one, mut other) = (room.hold(client(1)), room.hold(client(1)));
        one.resize(60).unwrap();
        let (waited, ()) = tokio::join!(other.resize_soon(30), async { drop(one) });
        assert_eq!(waited, Ok(()));
    }

    #[test]
    fn a_tree_is_weighed_by_its_values() {
        assert!(NODE_LEN_BYTES >= 2 * size_of::<serde_json::Value>());
        for (text, nodes) in [
            ("1", 1),
            (r#"{"a":[1,2]}"#, 5),
            (r#""a,b\",[c""#, 1),
            (r#"["\\",1]"#, 3),
        ] {
            assert_eq!(
                weigh(text.as_bytes()),
                2 * text.len() + nodes * NODE_LEN_BYTES,
                "{text}"
            );
        }
    }
}
