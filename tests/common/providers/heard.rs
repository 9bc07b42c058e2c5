//! Everything that is logged, down to the least, by ourselves and by libraries.
//!
//! One subscriber for the process: of several, each for a thread of its own, tracing may remember that nobody listens to a
//! place in the code because it was another thread that came there first.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Once;

use tracing_subscriber::filter::LevelFilter;

thread_local! {
    static LISTENING: RefCell<Option<Rc<RefCell<Vec<u8>>>>> = const { RefCell::new(None) };
}

/// What is logged on this thread while it lives.
pub struct Heard(Rc<RefCell<Vec<u8>>>);

impl Heard {
    pub fn listen() -> Self {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(LevelFilter::TRACE)
                .with_ansi(false)
                .with_writer(|| OfThread)
                .init();
        });
        let heard = Rc::<RefCell<Vec<u8>>>::default();
        LISTENING.set(Some(Rc::clone(&heard)));
        Heard(heard)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        LISTENING.set(None);
    }
}

struct OfThread;

impl io::Write for OfThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LISTENING.with_borrow(|heard| {
            if let Some(heard) = heard {
                heard.borrow_mut().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
