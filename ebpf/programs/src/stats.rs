//! Counting: each processor writes its own copy, so that no atomic is needed.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use skep_abi::counters::{Reason, VERDICTS, Verdict, place};
use skep_abi::program::Program;
use skep_logic::tables::ServiceEvent;

use crate::maps::{CONFIG, COUNTERS, PROGRAM_STATS, SERVICE_COUNTS};

/// Counts `reason` for a packet of `bytes` bytes.
#[inline(always)]
pub fn count(reason: Reason, bytes: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason.index()) {
        // SAFETY: the pointer is to this processor's live entry; a program that interrupts this one on the same
        // processor can at worst cost a count.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(bytes);
        }
    }
}

/// Counts how `program` ended.
#[inline(always)]
pub fn verdict(program: Program, verdict: Verdict) {
    verdict_number(program, verdict as u32);
}

/// As [`verdict`], with the verdict's number.
#[inline(always)]
pub fn verdict_number(program: Program, verdict: u32) {
    if let Some(counter) = PROGRAM_STATS.get_ptr_mut(program as u32 * VERDICTS + verdict) {
        // SAFETY: as in `count`.
        unsafe { *counter += 1 }
    }
}

/// Counts for a service.
#[inline(always)]
pub fn service(id: u32, event: ServiceEvent) {
    let services = CONFIG.get(0).map_or(0, |config| config.counted_services);
    if id >= services {
        return;
    }
    // SAFETY: the helper takes no argument.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(stats) = SERVICE_COUNTS.get_ptr_mut(place(id, cpu, services)) {
        // SAFETY: as in `count`: no other processor writes in this one's row.
        unsafe {
            match event {
                ServiceEvent::Packet(bytes) => {
                    (*stats).packets += 1;
                    (*stats).bytes += u64::from(bytes);
                }
                ServiceEvent::Connection => (*stats).connections += 1,
                ServiceEvent::Refused => (*stats).refused += 1,
            }
        }
    }
}
