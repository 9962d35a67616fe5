//! Uses of long-lived tokens, on their way from whoever verifies tokens to whoever may write.

use parking_lot::Mutex;
use tokio::sync::mpsc;

/// So many uses may be on their way; of more nothing is written down until the token is used again.
const WAITING: usize = 256;

/// A Secret whose token was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) namespace: String,
    pub(crate) secret: String,
    pub(crate) uid: String,
}

/// Both ends.
pub(super) struct Uses {
    sender: mpsc::Sender<Use>,
    /// Until somebody takes it.
    receiver: Mutex<Option<mpsc::Receiver<Use>>>,
}

impl Default for Uses {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Uses {
    pub(super) fn tell(&self, one: Use) {
        // A full channel, or nobody who listens: the next use tells it again.
        let _ = self.sender.try_send(one);
    }

    pub(super) fn take(&self) -> Option<mpsc::Receiver<Use>> {
        self.receiver.lock().take()
    }
}
