//! Takes connections in: each may be silent for so long, and there are no more than this process has room for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer;

use super::impatient::Impatient;

/// How long a connection may take until the head of a request is there, the first as the next. Longer than proxies keep theirs for
/// the next request (two minutes at most, as they come): one that we close before them fails what they are just sending.
const HEAD_TIMEOUT: Duration = Duration::from_secs(150);
/// How long whoever asked may take nothing of an answer that is there. Without it an answer that nobody reads would keep its connection,
/// and what it is read from, for good.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The wait after a connection that could not be taken: out of descriptors, the next one could not either.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// Connections at once where the process may have any number of descriptors.
const CONNECTIONS_MAX: u64 = 10_000;

/// How many connections there may be, and how long each may be silent.
struct Limits {
    connections: usize,
    head_timeout: Duration,
    write_timeout: Duration,
}

/// Serves until cancelled, and then until what is under way has been answered.
pub async fn serve(listener: TcpListener, router: Router, cancel: CancellationToken) {
    let limits = Limits {
        connections: connections_max(),
        head_timeout: HEAD_TIMEOUT,
        write_timeout: WRITE_TIMEOUT,
    };
    serve_within(limits, listener, router, cancel).await;
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    router: Router,
    cancel: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let Limits {
        head_timeout,
        write_timeout,
        ..
    } = limits;
    let connections = TaskTracker::new();
    while let Some((stream, permit)) = accept(&listener, &room, &cancel).await {
        let (router, cancel) = (router.clone(), cancel.clone());
        connections.spawn(async move {
            let Ok(peer) = stream.peer_addr() else {
                return;
            };
            // Answers are small and whole; none waits for more to come.
            let _ = stream.set_nodelay(true);
            let stream = Impatient::new(stream, write_timeout);
            answer(stream, peer, head_timeout, router, cancel).await;
            drop(permit);
        });
    }
    connections.close();
    connections.wait().await;
}

/// The next connection, once there is room for it; none after the end.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    cancel: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = tokio::select! {
        () = cancel.cancelled() => return None,
        permit = room.clone().acquire_owned() => permit.ok()?,
    };
    loop {
        tokio::select! {
            () = cancel.cancelled() => return None,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => return Some((stream, permit)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            },
        }
    }
}

async fn answer(
    stream: Impatient,
    peer: SocketAddr,
    head_timeout: Duration,
    router: Router,
    cancel: CancellationToken,
) {
    let service = TowerToHyperService::new(Extension(ConnectInfo(peer)).layer(router));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = cancel.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Half of the descriptors that this process may have: guests, the database and files need the others.
fn connections_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((descriptors / 2).min(CONNECTIONS_MAX)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server with room for two.
    async fn server(head_timeout: Duration) -> (SocketAddr, CancellationToken) {
        let who = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let limits = Limits {
            connections: 2,
            head_timeout,
            write_timeout: Duration::from_millis(100),
        };
        let endless = async || {
            let piece = || Ok::<_, std::convert::Infallible>([0; 65_536].to_vec());
            Body::from_stream(futures::stream::repeat_with(piece))
        };
        let router = Router::new().route("/", get(who)).fallback(endless);
        tokio::spawn(serve_within(limits, listener, router, cancel.clone()));
        (address, cancel)
    }

    async fn asked(stream: &mut TcpStream) -> String {
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = vec![0; 1_024];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn whoever_says_nothing_is_left() {
        let (address, _cancel) = server(Duration::from_millis(50)).await;
        for begun in ["", "GET / HTTP/1.1\r\nx: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            // Ends: the server has closed it.
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_wait() {
        let (address, cancel) = server(Duration::from_secs(600)).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let answer = asked(&mut first).await;
        let peer = first.local_addr().unwrap().to_string();
        assert!(answer.ends_with(&peer), "{answer}");
        let mut second = TcpStream::connect(address).await.unwrap();
        asked(&mut second).await;
        let mut third = TcpStream::connect(address).await.unwrap();
        let mut waits = Box::pin(asked(&mut third));
        // The server has had its turns while the first asked again, and still nothing came.
        for _ in 0..20 {
            asked(&mut first).await;
            assert!(futures::poll!(&mut waits).is_pending());
        }
        drop(first);
        assert!(waits.await.starts_with("HTTP/1.1 200"));
        // At the end what is silent is let go.
        cancel.cancel();
        assert_eq!(second.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn whoever_reads_nothing_of_an_answer_is_left() {
        let (address, _cancel) = server(Duration::from_secs(600)).await;
        let mut unread = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n";
            stream.write_all(request).await.unwrap();
            unread.push(stream);
        }
        // There was room for these two alone.
        let mut third = TcpStream::connect(address).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), asked(&mut third)).await;
        assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
        drop(unread);
    }
}
