//! Parsed objects that are kept a little longer than somebody holds them: what was asked for twice is asked for again, by
//! admission, by quotas, by readers of what does not change. Bounded for the whole process, whatever is cached.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

/// Parsed objects may come from so many bytes of JSON together; they take some ten times that.
const BYTES: usize = 1 << 20;

static RECENT: Mutex<Recent> = Mutex::new(Recent { values: VecDeque::new(), bytes: 0 });

/// The last values, oldest first, with the length of their JSON.
struct Recent {
    values: VecDeque<(Arc<Value>, usize)>,
    bytes: usize,
}

impl Recent {
    /// Takes a value in; gives those up that there is no room for.
    fn push(&mut self, value: &Arc<Value>, bytes: usize) -> Vec<Arc<Value>> {
        let mut spare = Vec::new();
        if bytes > BYTES {
            return spare;
        }
        self.values.push_back((value.clone(), bytes));
        self.bytes += bytes;
        while self.bytes > BYTES {
            let Some((oldest, bytes)) = self.values.pop_front() else { break };
            self.bytes -= bytes;
            spare.push(oldest);
        }
        spare
    }
}

/// Keeps a value that was parsed from so many bytes for a while.
pub(super) fn keep(value: &Arc<Value>, bytes: usize) {
    // Trees are taken down after the lock is given back.
    let _spare = RECENT.lock().push(value, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_values_are_bounded_by_their_bytes() {
        let mut recent = Recent { values: VecDeque::new(), bytes: 0 };
        let value = |number: usize| Arc::new(Value::from(number));
        assert!(recent.push(&value(0), BYTES + 1).is_empty() && recent.values.is_empty());
        assert!(recent.push(&value(1), BYTES / 2).is_empty());
        assert!(recent.push(&value(2), BYTES / 2).is_empty());
        assert_eq!(recent.push(&value(3), 1), [value(1)]);
        assert_eq!((recent.values.len(), recent.bytes), (2, BYTES / 2 + 1));
        assert_eq!(recent.push(&value(4), BYTES).len(), 2);
    }
}
