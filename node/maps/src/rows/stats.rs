//! Counters, programs and what they are attached to, as rows.

use serde::Serialize;
use skep_abi::counters::{Class, Counter, REASONS, ServiceStats, VERDICT_NAMES, VERDICTS};
use skep_abi::program::PROGRAMS;

use super::{Row, optional};

/// What was counted for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonRow {
    /// The reason.
    pub reason: &'static str,
    /// What it means for a packet.
    pub class: &'static str,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Row for ReasonRow {
    const TITLES: &'static [&'static str] = &["REASON", "CLASS", "PACKETS", "BYTES"];
    fn cells(&self) -> Vec<String> {
        vec![self.reason.to_owned(), self.class.to_owned(), self.packets.to_string(), self.bytes.to_string()]
    }
}

/// The name of a class of reasons.
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::Drop => "drop",
        Class::Reject => "reject",
        Class::Pass => "pass",
        Class::Event => "event",
    }
}

/// Every reason with what was counted for it; `totals` is indexed by reason.
pub fn reasons(totals: &[Counter]) -> Vec<ReasonRow> {
    let row = |(reason, name, class): &(skep_abi::counters::Reason, &'static str, Class)| {
        let counter = totals.get(reason.index() as usize).copied().unwrap_or_default();
        ReasonRow { reason: name, class: class_name(*class), packets: counter.packets, bytes: counter.bytes }
    };
    REASONS.iter().map(row).collect()
}

/// How one program's runs ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictRow {
    /// The program.
    pub program: &'static str,
    /// How it ended.
    pub verdict: &'static str,
    /// How often.
    pub count: u64,
}

impl Row for VerdictRow {
    const TITLES: &'static [&'static str] = &["PROGRAM", "VERDICT", "COUNT"];
    fn cells(&self) -> Vec<String> {
        vec![self.program.to_owned(), self.verdict.to_owned(), self.count.to_string()]
    }
}

/// The verdicts that were counted at all; `totals` is indexed by program, then verdict.
pub fn verdicts(totals: &[[u64; VERDICTS as usize]]) -> Vec<VerdictRow> {
    let mut rows = Vec::new();
    for (program, counts) in PROGRAMS.iter().zip(totals) {
        for (verdict, count) in VERDICT_NAMES.iter().zip(counts).filter(|(_, count)| **count > 0) {
            rows.push(VerdictRow { program, verdict, count: *count });
        }
    }
    rows
}

/// What one service port carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceTotalsRow {
    /// Its number.
    pub service: u32,
    /// One of its frontends.
    pub frontend: String,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes, both directions.
    pub bytes: u64,
    /// New connections.
    pub connections: u64,
    /// Connections refused for want of a backend.
    pub refused: u64,
}

impl Row for ServiceTotalsRow {
    const TITLES: &'static [&'static str] =
        &["SERVICE", "FRONTEND", "PACKETS", "BYTES", "CONNECTIONS", "REFUSED"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.service.to_string(),
            self.frontend.clone(),
            self.packets.to_string(),
            self.bytes.to_string(),
            self.connections.to_string(),
            self.refused.to_string(),
        ]
    }
    fn service(&self) -> Option<u32> {
        Some(self.service)
    }
}

/// The row of one service port.
pub fn service_totals(service: u32, frontend: String, totals: &ServiceStats) -> ServiceTotalsRow {
    ServiceTotalsRow {
        service,
        frontend,
        packets: totals.packets,
        bytes: totals.bytes,
        connections: totals.connections,
        refused: totals.refused,
    }
}

/// A program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramRow {
    /// Its name.
    pub program: String,
    /// The kernel's number of it.
    pub id: u32,
    /// How many places it is attached at.
    pub links: usize,
    /// Instructions that the verifier walked, where the kernel says.
    pub verified_instructions: Option<u32>,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Runs, counted while run statistics are on.
    pub runs: u64,
    /// Nanoseconds in it, counted while run statistics are on.
    pub run_nanos: u64,
}

impl Row for ProgramRow {
    const TITLES: &'static [&'static str] =
        &["PROGRAM", "ID", "LINKS", "VERIFIED", "JITED", "RUNS", "NS PER RUN"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.program.clone(),
            self.id.to_string(),
            self.links.to_string(),
            optional(self.verified_instructions),
            self.jited_bytes.to_string(),
            self.runs.to_string(),
            optional(self.run_nanos.checked_div(self.runs)),
        ]
    }
}

/// A place where a program is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachmentRow {
    /// Name of the pin.
    pub link: String,
    /// The interface's index or the cgroup's number.
    pub target: String,
    /// The kernel's number of the program.
    pub program_id: u32,
}

impl Row for AttachmentRow {
    const TITLES: &'static [&'static str] = &["LINK", "TARGET", "PROGRAM ID"];
    fn cells(&self) -> Vec<String> {
        vec![self.link.clone(), self.target.clone(), self.program_id.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::counters::Reason;

    #[test]
    fn reasons_each_is_listed_with_its_count() {
        let mut totals = vec![Counter::default(); 64];
        totals[Reason::NoRoute.index() as usize] = Counter { packets: 2, bytes: 120 };
        let rows = reasons(&totals);
        assert_eq!(rows.len(), REASONS.len());
        let counted: Vec<_> = rows.into_iter().filter(|row| row.packets > 0).collect();
        assert_eq!(counted, [ReasonRow { reason: "no_route", class: "drop", packets: 2, bytes: 120 }]);
    }

    #[test]
    fn verdicts_only_those_that_happened_are_listed() {
        let mut totals = vec![[0; VERDICTS as usize]; PROGRAMS.len()];
        totals[3][2] = 7;
        assert_eq!(
            verdicts(&totals),
            [VerdictRow { program: "tc_from_pod", verdict: "redirected", count: 7 }]
        );
    }

    #[test]
    fn program_without_runs_shows_no_average() {
        let row = ProgramRow {
            program: "xdp_uplink".into(),
            id: 5,
            links: 1,
            verified_instructions: None,
            jited_bytes: 100,
            runs: 0,
            run_nanos: 0,
        };
        assert_eq!(row.cells(), ["xdp_uplink", "5", "1", "-", "100", "0", "-"]);
    }
}
