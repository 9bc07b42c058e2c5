//! The one thread that starts the sandbox's processes.
//!
//! A guest's first process asks the kernel to kill it when its parent dies, and the kernel takes
//! the parent to be the thread that started it. A runtime's threads come and go; this one stays
//! until Sealport ends.

use std::io;
use std::sync::OnceLock;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

struct Order {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// Starts a command as a child of the keeper's thread. It is killed when its handle is dropped.
pub(super) async fn spawn(mut command: Command) -> io::Result<Child> {
    command.kill_on_drop(true);
    let (answer, started) = oneshot::channel();
    let order = Order {
        command,
        runtime: Handle::current(),
        answer,
    };
    let gone = || io::Error::other("the thread that starts guests has ended");
    keeper()?.send(order).await.map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

fn keeper() -> io::Result<mpsc::Sender<Order>> {
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    if let Some(keeper) = KEEPER.get() {
        return Ok(keeper.clone());
    }
    let (orders, taken) = mpsc::channel(16);
    std::thread::Builder::new()
        .name("guest-keeper".into())
        .spawn(move || keep(taken))?;
    // When two callers come first at once, the loser's thread ends with its empty queue.
    Ok(KEEPER.get_or_init(|| orders).clone())
}

fn keep(mut taken: mpsc::Receiver<Order>) {
    while let Some(Order {
        mut command,
        runtime,
        answer,
    }) = taken.blocking_recv()
    {
        let _inside = runtime.enter();
        // If nobody waits any more, dropping the child kills it.
        let _ = answer.send(command.spawn());
    }
}
