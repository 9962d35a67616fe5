//! What must be done before a packet can be carried by a flow: make the flow, move it to the table of made connections, or
//! bring it up to date. Owns the order of the steps' parts and the one number that they come to.
//!
//! In the kernel this is a global function: its verifier follows it once, and not once for each way by which a packet may
//! come to it (of which there were so many that programs were refused: "BPF program is too large. Processed 1000001 insn",
//! Linux 6.18). Such a function takes plain numbers, so the question is written to memory first, as a [`Case`]. One function
//! for each kind of task: all in one they would need more of the stack than their callers have left.

use skep_abi::config::Config;
use skep_abi::counters::Reason;
use skep_abi::flow::FlowKey;

use crate::decide::Question;
use crate::family::Family;
use crate::maintain::{self, Upkeep};
use crate::parse::Packet;
use crate::tables::Tables;
use crate::{establish, open};

/// A question that outlives the stack it was made on.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Case<A> {
    /// See [`Question::packet`].
    pub packet: Packet<A>,
    /// See [`Question::key`].
    pub key: FlowKey,
    /// See [`Question::now`].
    pub now: u32,
    /// See [`Question::whole`].
    pub whole: u32,
    /// [`crate::decide::Hook::scope`] of where the packet was met.
    pub scope: u8,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Task {
    /// Make a flow.
    Establish = 0,
    /// Make a flow in place of one that is over.
    Replace = 1,
    /// Move a half-open flow.
    Open = 2,
    /// Bring a flow up to date.
    Maintain = 3,
}

/// What became of it, as one number: a function of the kernel's virtual machine returns one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared(u32);

impl Prepared {
    /// The flow is there.
    pub const DONE: Self = Self(0);
    /// The packet is for no service.
    pub const NOT_A_SERVICE: Self = Self(1);
    const REFUSED: u32 = 0x100;
    const DROPPED: u32 = 0x200;

    /// To be answered with a refusal.
    pub const fn refused(reason: Reason) -> Self {
        Self(Self::REFUSED | reason.index())
    }

    /// To be dropped.
    pub const fn dropped(reason: Reason) -> Self {
        Self(Self::DROPPED | reason.index())
    }

    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Inverse of [`Prepared::number`].
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Whether it is a refusal.
    #[inline(always)]
    pub const fn is_refusal(self) -> bool {
        self.0 & Self::REFUSED != 0
    }

    /// Why it is a refusal or a drop.
    #[inline(always)]
    pub fn reason(self) -> Reason {
        Reason::from_index(self.0 & 0xff).unwrap_or(Reason::FlowTableFull)
    }
}

/// Writes the question down.
#[inline(always)]
pub fn write<F: Family>(question: &Question<'_, F::Address>, case: &mut Case<F::Address>) {
    case.packet = *question.packet;
    case.key = question.key;
    case.now = question.now;
    case.whole = u32::from(question.whole);
    case.scope = question.scope;
}

#[inline(always)]
fn question<'a, F: Family>(config: &'a Config, case: &'a Case<F::Address>) -> Question<'a, F::Address> {
    let Case { packet, key, now, whole, scope } = case;
    Question { config, key: *key, packet, scope: *scope, whole: *whole != 0, now: *now }
}

/// Does [`Task::Establish`] or [`Task::Replace`]. One after the other, each part has the stack to itself.
#[inline(always)]
pub fn establish<F: Family, T: Tables<F>>(tables: &T, case: &Case<F::Address>, replaces: bool) -> Prepared {
    let Some(config) = tables.config() else { return Prepared::NOT_A_SERVICE };
    let question = question::<F>(config, case);
    let mut outcome = establish::admit::<F, T>(tables, &question, replaces);
    if outcome == Prepared::DONE {
        outcome = establish::choose::<F, T>(tables, &question);
    }
    if outcome == Prepared::DONE {
        outcome = establish::reserve::<F, T>(tables, &question);
    }
    if outcome == Prepared::DONE { establish::enter::<F, T>(tables, &question) } else { outcome }
}

/// Does [`Task::Open`].
#[inline(always)]
pub fn open<F: Family, T: Tables<F>>(tables: &T, case: &Case<F::Address>) -> Prepared {
    let Some(config) = tables.config() else { return Prepared::NOT_A_SERVICE };
    prepared(open::open::<F, T>(tables, &question::<F>(config, case)))
}

/// Does [`Task::Maintain`].
#[inline(always)]
pub fn maintain<F: Family, T: Tables<F>>(tables: &T, case: &Case<F::Address>) -> Prepared {
    let Some(config) = tables.config() else { return Prepared::NOT_A_SERVICE };
    prepared(maintain::maintain::<F, T>(tables, &question::<F>(config, case)))
}

#[inline(always)]
const fn prepared(upkeep: Upkeep) -> Prepared {
    match upkeep {
        Upkeep::Done => Prepared::DONE,
        Upkeep::Unroutable => Prepared::dropped(Reason::NoRoute),
        Upkeep::Lost | Upkeep::Alone => Prepared::refused(Reason::NoFlow),
        Upkeep::WrongAnswer => Prepared::dropped(Reason::WrongAnswer),
        Upkeep::Gone => Prepared::refused(Reason::BackendGone),
    }
}
