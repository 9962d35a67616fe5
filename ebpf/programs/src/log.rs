//! Debug messages in aya-log's format, off unless the configuration asks for them: one comparison per refused or dropped
//! packet, and none on the way of any other.
//!
//! Records are written here and not by aya-log's macros, for two reasons. aya-log-ebpf's ring buffer is a legacy map
//! definition, which makes libbpf refuse the whole object. And its macros copy piece by piece to computed offsets: with
//! Linux 6.18 the verifier gave up ("BPF program is too large. Processed 1000001 insn") in those copies. A record of fixed
//! size is one helper call. The kinds and levels are aya-log-common's, and user space reads the records with aya-log.

use aya_ebpf::btf_maps::{PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use aya_log_common::{ArgumentKind, DisplayHint, Level, RecordFieldKind};
use skep_abi::counters::Reason;
use skep_abi::program::Program;
use skep_logic::parse::Packet;
use skep_logic::{Family, Ipv4, Ipv6};

use crate::kernel::config;
use crate::maps::MapFamily;

/// Messages to user space. Its name is what aya-log looks for.
#[btf_map]
pub static AYA_LOGS: RingBuf<(), { 1 << 17 }> = RingBuf::new();

/// Where a record is put together: it is packed, and the stack takes aligned writes only.
#[btf_map]
static RECORD: PerCpuArray<Record, 1> = PerCpuArray::new();

/// A field or an argument: what it is, its length, its value.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Field<T> {
    kind: u8,
    length: u16,
    value: T,
}

impl<T: Copy> Field<T> {
    const fn of(kind: RecordFieldKind, value: T) -> Self {
        Self { kind: kind as u8, length: size_of::<T>() as u16, value }
    }

    const fn argument(kind: ArgumentKind, value: T) -> Self {
        Self { kind: kind as u8, length: size_of::<T>() as u16, value }
    }
}

/// "program 0 reason 3: ::ffff:10.0.0.1 40000 > ::ffff:10.0.0.2 80".
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Record {
    size: u16,
    target: Field<[u8; 4]>,
    level: Field<u8>,
    module: Field<[u8; 4]>,
    file: Field<[u8; 4]>,
    line: Field<u32>,
    count: Field<u32>,
    program_text: Field<[u8; 8]>,
    program: Field<u32>,
    reason_text: Field<[u8; 8]>,
    reason: Field<u32>,
    source_text: Field<[u8; 2]>,
    source_hint: Field<u8>,
    source: Field<[u16; 8]>,
    source_space: Field<[u8; 1]>,
    source_port: Field<u16>,
    destination_text: Field<[u8; 3]>,
    destination_hint: Field<u8>,
    destination: Field<[u16; 8]>,
    destination_space: Field<[u8; 1]>,
    destination_port: Field<u16>,
}

/// Arguments in a [`Record`], hints among them.
const ARGUMENTS: u32 = 14;

const TEMPLATE: Record = Record {
    size: size_of::<Record>() as u16,
    target: Field::of(RecordFieldKind::Target, *b"skep"),
    level: Field::of(RecordFieldKind::Level, Level::Debug as u8),
    module: Field::of(RecordFieldKind::Module, *b"skep"),
    file: Field::of(RecordFieldKind::File, *b"skep"),
    line: Field::of(RecordFieldKind::Line, line!()),
    count: Field::of(RecordFieldKind::NumArgs, ARGUMENTS),
    program_text: Field::argument(ArgumentKind::Str, *b"program "),
    program: Field::argument(ArgumentKind::U32, 0),
    reason_text: Field::argument(ArgumentKind::Str, *b" reason "),
    reason: Field::argument(ArgumentKind::U32, 0),
    source_text: Field::argument(ArgumentKind::Str, *b": "),
    source_hint: Field::argument(ArgumentKind::DisplayHint, DisplayHint::Ip as u8),
    source: Field::argument(ArgumentKind::ArrU8Len16, [0; 8]),
    source_space: Field::argument(ArgumentKind::Str, *b" "),
    source_port: Field::argument(ArgumentKind::U16, 0),
    destination_text: Field::argument(ArgumentKind::Str, *b" > "),
    destination_hint: Field::argument(ArgumentKind::DisplayHint, DisplayHint::Ip as u8),
    destination: Field::argument(ArgumentKind::ArrU8Len16, [0; 8]),
    destination_space: Field::argument(ArgumentKind::Str, *b" "),
    destination_port: Field::argument(ArgumentKind::U16, 0),
};

/// Says that `packet` was refused or dropped, if that is wanted.
#[inline(always)]
pub fn outcome<F: MapFamily>(program: Program, packet: &Packet<F::Address>, reason: Reason) {
    if config().is_some_and(|config| config.log_level >= Level::Debug as u32) {
        let Some(case) = F::case().get_ptr_mut(0) else { return };
        // SAFETY: the pointer is to this processor's live entry, and what was asked in it is answered by now.
        unsafe { (*case).packet = *packet };
        if F::IS_V4 {
            log_v4(program as u32, reason.index());
        } else {
            log_v6(program as u32, reason.index());
        }
    }
}

/// Global, and so followed by the verifier once: see `skep_logic::prepare`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn log_v4(program: u32, reason: u32) -> u32 {
    message::<Ipv4>(program, reason)
}

/// As [`log_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn log_v6(program: u32, reason: u32) -> u32 {
    message::<Ipv6>(program, reason)
}

/// One message. Programs and reasons go by their numbers in `skep-abi`, IPv4 addresses as IPv4-mapped ones: the record's
/// size is the same for all.
#[inline(always)]
fn message<F: MapFamily>(program: u32, reason: u32) -> u32 {
    let Some(case) = F::case().get_ptr(0) else { return 1 };
    // SAFETY: as in `outcome`.
    let packet = unsafe { &(*case).packet };
    let Some(record) = RECORD.get_ptr_mut(0) else { return 1 };
    // SAFETY: the pointer is to this processor's live scratch entry; a program that runs in between could spoil a message.
    let record = unsafe { &mut *record };
    *record = TEMPLATE;
    record.program.value = program;
    record.reason.value = reason;
    record.source.value = sixteen::<F>(&packet.network.source);
    record.source_port.value = packet.source_port.get();
    record.destination.value = sixteen::<F>(&packet.network.destination);
    record.destination_port.value = packet.destination_port.get();
    // A full ring loses the message, as aya-log's own do.
    let _ = AYA_LOGS.output_untyped::<Record>(&*record, 0);
    0
}

/// The address as 16 bytes.
#[inline(always)]
fn sixteen<F: Family>(address: &F::Address) -> [u16; 8] {
    let words = F::words(address);
    if F::IS_V4 { [0, 0, 0, 0, 0, 0xffff, words[0], words[1]] } else { words }
}
