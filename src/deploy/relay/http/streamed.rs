//! The server's event stream on its way to the client, masked event by event.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use tokio::time::Instant;

use super::Passing;
use crate::deploy::masks::Masks;
use crate::deploy::relay::events::{Event, Events};
use crate::deploy::relay::guesses::Guesses;
use crate::deploy::relay::room::{Full, weigh};
use crate::deploy::relay::wire::{Kind, RpcError, SERVER_GONE, kind};

/// An event stream on its way through.
pub(super) struct Streamed {
    pub answer: reqwest::Response,
    pub events: Events,
    pub masks: Arc<Masks>,
    pub guesses: Guesses,
    pub silence: Duration,
    pub until: Instant,
    pub answered: bool,
    pub passing: Passing,
}

impl Streamed {
    pub fn into_stream(
        self,
    ) -> impl futures::Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
        stream::unfold(Some(self), |state| async move {
            let mut streamed = state?;
            loop {
                // What was handed on before has been written.
                streamed.passing.held.shrink(streamed.events.held_bytes());
                let deadline = (Instant::now() + streamed.silence).min(streamed.until);
                let chunk = tokio::time::timeout_at(deadline, streamed.answer.chunk()).await;
                match chunk {
                    Ok(Ok(Some(chunk))) => {
                        let bytes = streamed.passing.held.bytes() + chunk.len();
                        if let Err(full) = streamed.passing.held.resize_soon(bytes).await {
                            return streamed.failed(&full.answer_error().message);
                        }
                        match streamed.events.feed(&chunk) {
                            Ok(events) if events.is_empty() => {}
                            Ok(events) => match streamed.written(events).await {
                                Ok(written) => return Some((Ok(written), Some(streamed))),
                                Err(full) => {
                                    return streamed.failed(&full.answer_error().message);
                                }
                            },
                            Err(_) => {
                                return streamed
                                    .failed("The server sent an event that is too long.");
                            }
                        }
                    }
                    Err(_) if streamed.answered => return None,
                    Ok(Ok(None) | Err(_)) if streamed.answered => return None,
                    Ok(Ok(None) | Err(_)) => return streamed.failed(&RpcError::gone().message),
                    Err(_) => {
                        return streamed.failed(
                            "The server did not answer in time; the request was given up.",
                        );
                    }
                }
            }
        })
    }

    async fn written(&mut self, events: Vec<Event>) -> Result<Bytes, Full> {
        let mut written = String::new();
        for mut event in events {
            let weight = weigh(event.data.as_deref().unwrap_or_default().as_bytes());
            let bytes = self.events.held_bytes() + written.len() + weight;
            self.passing.held.resize_soon(bytes).await?;
            let (masked, message) = event.mask(&self.masks);
            let answers = message.as_ref().and_then(kind);
            if matches!(answers, Some(Kind::Answer { id }) if *id == self.passing.id) {
                self.answered = true;
                if let (Some(calling), Some(message)) = (&mut self.passing.calling, &message) {
                    calling.answered(message);
                }
            }
            drop(message);
            self.guesses.slow(self.passing.slot.client, masked).await;
            written.push_str(&event.write());
        }
        self.passing
            .held
            .shrink(self.events.held_bytes() + written.len());
        Ok(Bytes::from(written))
    }

    /// The last event, when the request has not been answered.
    fn failed(self, text: &str) -> Option<(Result<Bytes, Infallible>, Option<Self>)> {
        if self.answered {
            return None;
        }
        let message = RpcError::new(StatusCode::OK, SERVER_GONE, text).message(&self.passing.id);
        let event = Event {
            name: Some("message".to_owned()),
            data: Some(message.to_string()),
            ..Event::default()
        };
        Some((Ok(Bytes::from(event.write())), None))
    }
}
