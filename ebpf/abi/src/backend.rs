//! `BACKENDS` and `BACKEND_STATES`: the table that services are slices of, and which backends may still be used.
//!
//! Both are arrays that user space maps into memory (`BPF_F_MMAPABLE`; the stride is the value's size). Writer: the
//! agent. Readers: every program. Nothing is evicted; the agent allocates slots and ids, and refuses (with an error) what
//! does not fit.
//!
//! A flow remembers its backend's id and generation. On every packet the programs compare them with the state here, so
//! that a removed backend stops being used at the agent's one store, without a scan of the flows:
//!
//! | state, generation | new flow | TCP flow | UDP flow |
//! |---|---|---|---|
//! | active, same | may be chosen | continues | continues |
//! | draining, same | is not in a slice | continues | chooses again at once |
//! | gone, or another generation | is not in a slice | reset at the client's next packet | chooses again at once |
//!
//! What a backend that is gone still sends over TCP reaches its client until that is told, or until the backend's address
//! begins a connection with the same tuple: a client that only waits would never hear otherwise.

use crate::{Be16, V6, plain};

/// Name of the array of [`Backend`].
pub const BACKENDS: &str = "BACKENDS";
/// Default number of slots (24 bytes each); the loader may choose another.
pub const BACKENDS_CAPACITY: u32 = 1 << 20;
/// Name of the array of [`BackendState`], indexed by [`Backend::id`].
pub const BACKEND_STATES: &str = "BACKEND_STATES";
/// Default number of backend ids; the loader may choose another.
pub const BACKEND_STATES_CAPACITY: u32 = 1 << 20;

/// How long slots must stay untouched after the last service value that named them was replaced: a program that has
/// read the old value may still read them. Programs run for microseconds.
pub const QUARANTINE_MILLIS: u64 = 1000;

/// No such backend (the initial content).
pub const STATE_GONE: u32 = 0;
/// In use. Every backend that is in some slice is in this state, a terminating one that serves as the last resort too.
pub const STATE_ACTIVE: u32 = 1;
/// In no slice any more, but its endpoint still exists.
pub const STATE_DRAINING: u32 = 2;

/// The endpoint is on this node: its source address needs no translation, since replies pass this node again.
pub const BACKEND_LOCAL: u16 = 1 << 0;

/// One slot of a slice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Backend {
    /// Address; IPv4 in the first word ([`V6::from_first`]).
    pub address: V6,
    /// Port.
    pub port: Be16,
    /// `BACKEND_*`.
    pub flags: u16,
    /// Number of this (service port, endpoint), the same in every slot and slice it appears in. Ids below the capacity
    /// of [`BACKEND_STATES`]; others are treated as gone.
    pub id: u32,
}

/// State of one backend id. User space stores it as one aligned 64-bit word, see [`BackendState::word`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C, align(8))]
pub struct BackendState {
    /// `STATE_*`.
    pub state: u32,
    /// Which life of this id it is. User space adds one whenever the id is given to another backend.
    pub generation: u32,
}

impl BackendState {
    /// The two fields as one word in the machine's order, for a single atomic store.
    pub const fn word(self) -> u64 {
        let state = self.state.to_ne_bytes();
        let generation = self.generation.to_ne_bytes();
        u64::from_ne_bytes([
            state[0],
            state[1],
            state[2],
            state[3],
            generation[0],
            generation[1],
            generation[2],
            generation[3],
        ])
    }

    /// Inverse of [`BackendState::word`].
    pub const fn from_word(word: u64) -> Self {
        let bytes = word.to_ne_bytes();
        Self {
            state: u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            generation: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }
}

plain!(Backend, BackendState);

const _: () = {
    // Array maps round a value up to 8 bytes; a size that is a multiple of it is also the stride of the mapping.
    assert!(size_of::<Backend>() == 24 && align_of::<Backend>() == 4);
    assert!(size_of::<BackendState>() == 8 && align_of::<BackendState>() == 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_state_word_round_trips() {
        let state = BackendState { state: STATE_DRAINING, generation: 0xdead_beef };
        assert_eq!(BackendState::from_word(state.word()), state);
    }
}
