//! What those say beside their answer whom nobody hands the notes of a request: authenticators, which are asked through a
//! trait that knows tokens and users only.

use std::future::Future;
use std::sync::Arc;

use crate::admission::Notes;

tokio::task_local! {
    static NOTES: Arc<Notes>;
}

/// What `asked` comes to; what is remarked meanwhile goes to these notes.
pub(crate) async fn noting<F: Future>(notes: &Arc<Notes>, asked: F) -> F::Output {
    NOTES.scope(Arc::clone(notes), asked).await
}

/// Says something about the request that is being handled, if one is.
pub(crate) fn remark(say: impl FnOnce(&Notes)) {
    // Without a request there is nobody to be told.
    let _ = NOTES.try_with(|notes| say(notes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn remark_goes_to_the_notes_of_its_own_request() {
        let (one, other) = (Arc::new(Notes::default()), Arc::new(Notes::default()));
        let say = |text: &'static str| async move {
            tokio::task::yield_now().await;
            remark(|notes| notes.warn(text));
        };
        tokio::join!(noting(&one, say("a")), noting(&other, say("b")), say("c"));
        assert_eq!((one.warnings(), other.warnings()), (vec!["a".to_owned()], vec!["b".to_owned()]));
    }
}
