//! Looking at a source for a request that waits for it. The looking goes on when the request does not wait any longer; what it finds
//! is kept until the same request asks again. Nothing of it outlives this server: a source is looked at again then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::Deployer;
use super::sources::SourceAsk;
use crate::model::actors::Caller;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::sources::{Inspection, Source, Transport};

/// A request waits so long: shorter than the minute after which clients and proxies give up.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);
/// What was found and not asked for again is forgotten after this.
const KEPT: Duration = Duration::from_secs(300);
/// Sources that are looked at for requests, or kept, on this server.
const LOOKS_MAX: usize = 100;
/// Those of one person, over all tokens.
const LOOKS_OF_ONE: usize = 4;

/// For whom, and at what.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct LookAt {
    /// The person who asks, or by whose token a program does.
    pub user_id: Uuid,
    /// The token that asks, if one does: what one found with its fetch key is not another's.
    pub token_id: Option<Uuid>,
    /// With whose rights the fetch key is opened.
    pub owner_id: Uuid,
    pub source: Source,
    pub fetch_key: Option<Uuid>,
    pub command: Option<Vec<String>>,
    pub transport: Option<Transport>,
    pub administrator: bool,
}

/// Everything that is looked at now, and what was found and not fetched yet.
#[derive(Clone, Default)]
pub(super) struct Looks(Arc<Mutex<HashMap<LookAt, Look>>>);

struct Look {
    seen: watch::Receiver<Seen>,
    begun_at: Instant,
}

#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // There is one for each look.
enum Seen {
    /// What is being done.
    At(String),
    Found(Arc<Result<Inspection, Refusal>>),
}

impl Deployer {
    /// What the source is, how it starts and what it wants. Errors: `Invalid` at the part that is wrong; `Unavailable` when looking takes
    /// longer than a request waits: the same request, sent again, goes on from there.
    pub(super) async fn look_at(&self, caller: &Caller, at: LookAt) -> Result<Inspection, Refusal> {
        let mut seen = self.begin_look(caller, &at)?;
        let found = seen.wait_for(|seen| matches!(seen, Seen::Found(_)));
        let ended = match tokio::time::timeout(self.0.look_patience, found).await {
            Ok(Ok(found)) => match &*found {
                Seen::Found(found) => Some(Result::clone(found)),
                Seen::At(_) => None,
            },
            Ok(Err(_)) => Some(Err(Refusal::new(
                RefusalKind::Unavailable,
                "Looking at the source was cut off. Send the request again.",
            )
            .at("source"))),
            Err(_) => None,
        };
        match ended {
            Some(found) => {
                self.0.looks.forget(&at);
                found
            }
            None => Err(still_looking(&at, &seen.borrow())),
        }
    }

    /// The looking that goes on, or one that begins now.
    fn begin_look(&self, caller: &Caller, at: &LookAt) -> Result<watch::Receiver<Seen>, Refusal> {
        let mut looks = self
            .0
            .looks
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        looks.retain(|_, look| !look.is_over() || look.begun_at.elapsed() < KEPT);
        if let Some(look) = looks.get(at) {
            return Ok(look.seen.clone());
        }
        let of_one = looks.keys().filter(|other| other.user_id == at.user_id);
        if of_one.count() >= LOOKS_OF_ONE || looks.len() >= LOOKS_MAX {
            return Err(Refusal::new(
                RefusalKind::TooMany,
                "Too many sources are being looked at. Try again when one of them is done.",
            ));
        }
        let (tell, seen) = watch::channel(Seen::At("waiting for its turn".into()));
        let (deployer, caller, asked) = (self.clone(), caller.clone(), at.clone());
        self.0.tasks.spawn(async move {
            let found = deployer.look_for(&caller, &asked, &tell).await;
            tell.send_replace(Seen::Found(Arc::new(found)));
        });
        let look = Look {
            seen: seen.clone(),
            begun_at: Instant::now(),
        };
        looks.insert(at.clone(), look);
        Ok(seen)
    }

    async fn look_for(
        &self,
        caller: &Caller,
        at: &LookAt,
        tell: &watch::Sender<Seen>,
    ) -> Result<Inspection, Refusal> {
        // The same places as for the wizard: so many look at once on this machine.
        let Ok(_permit) = self.0.inspections.acquire().await else {
            return Err(Refusal::internal());
        };
        let fetch_key = match at.fetch_key {
            Some(id) => {
                let (db, source) = (&self.0.db, at.source.to_string());
                let opened = db
                    .fetch_key_open_to_look(caller, at.owner_id, id, &source)
                    .await;
                Some(opened.map_err(crate::store::Error::into_refusal)?)
            }
            None => None,
        };
        let ask = SourceAsk {
            source: at.source.clone(),
            fetch_key,
            command: at.command.clone(),
            transport: at.transport.clone(),
            administrator: at.administrator,
        };
        let found = self
            .look(&ask, &|step| {
                tell.send_replace(Seen::At(step));
            })
            .await;
        // The place is free for what waits in the wizard.
        self.wake();
        found
    }
}

impl Looks {
    fn forget(&self, at: &LookAt) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(at);
    }
}

impl Look {
    fn is_over(&self) -> bool {
        matches!(*self.seen.borrow(), Seen::Found(_)) || self.seen.has_changed().is_err()
    }
}

fn still_looking(at: &LookAt, seen: &Seen) -> Refusal {
    let step = match seen {
        Seen::At(step) => step.trim_end_matches('.'),
        Seen::Found(_) => "done by now",
    };
    Refusal::new(
        RefusalKind::Unavailable,
        format!(
            "Sealport still looks at {} ({step}). Send the same request again in a moment: it goes on meanwhile, and nothing was made yet.",
            at.source
        ),
    )
    .at("source")
}
