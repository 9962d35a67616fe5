//! Flows as rows.

use std::net::IpAddr;

use serde::Serialize;
use skep_abi::flow::{
    EGRESS_NEIGHBOUR, EGRESS_POD, EGRESS_POD_SKB, EGRESS_REMOTE, EGRESS_STACK, EGRESS_UNRESOLVED,
    FLOW_DIRECT, FLOW_HALF_OPEN, FLOW_INTERNAL, FLOW_REPLY, FLOW_SNAT, Flow, FlowKey, STATE_CLOSED,
    STATE_CLOSING, STATE_ESTABLISHED, STATE_NEW, STATE_TIME_WAIT, TICK_SHIFT,
};

use super::{Row, endpoint};
use crate::frontend::protocol_name;

/// One direction of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowRow {
    /// Protocol.
    pub protocol: String,
    /// Source as packets arrive.
    pub source: String,
    /// Destination as packets arrive.
    pub destination: String,
    /// Source as they leave.
    pub new_source: String,
    /// Destination as they leave.
    pub new_destination: String,
    /// `forward` (found by the client's packets) or `reply`.
    pub direction: &'static str,
    /// State of this direction.
    pub state: &'static str,
    /// Number of the service port.
    pub service: u32,
    /// Number of the backend.
    pub backend: u32,
    /// Where packets go next.
    pub egress: &'static str,
    /// Output interface, 0 when the stack decides.
    pub ifindex: u32,
    /// Other properties.
    pub flags: Vec<&'static str>,
    /// Packets in this direction.
    pub packets: u64,
    /// Bytes in this direction.
    pub bytes: u64,
    /// Milliseconds since the last packet.
    pub idle_millis: u64,
}

impl Row for FlowRow {
    const TITLES: &'static [&'static str] = &[
        "PROTOCOL",
        "SOURCE",
        "DESTINATION",
        "NEW SOURCE",
        "NEW DESTINATION",
        "DIRECTION",
        "STATE",
        "SERVICE",
        "EGRESS",
        "PACKETS",
        "BYTES",
        "IDLE",
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.protocol.clone(),
            self.source.clone(),
            self.destination.clone(),
            self.new_source.clone(),
            self.new_destination.clone(),
            self.direction.to_owned(),
            self.state.to_owned(),
            self.service.to_string(),
            self.egress.to_owned(),
            self.packets.to_string(),
            self.bytes.to_string(),
            format!("{}s", self.idle_millis / 1000),
        ]
    }
    fn service(&self) -> Option<u32> {
        Some(self.service)
    }
}

/// One entry of a flow table; `now` is `CLOCK_MONOTONIC` in nanoseconds.
pub fn flow<A: Copy + Into<IpAddr>>(key: &FlowKey, flow: &Flow<A>, now: u64) -> FlowRow {
    let flags = [
        (FLOW_SNAT, "snat"),
        (FLOW_INTERNAL, "internal"),
        (FLOW_HALF_OPEN, "half-open"),
        (FLOW_DIRECT, "direct"),
    ];
    // Ticks wrap round: the difference of two does not.
    let tick = u32::try_from((now >> TICK_SHIFT) & u64::from(u32::MAX)).expect("masked to 32 bits");
    let idle = u64::from(tick.wrapping_sub(flow.last_seen)) << TICK_SHIFT;
    FlowRow {
        protocol: protocol_name(key.protocol),
        source: endpoint(flow.source.into(), key.source_port.get()),
        destination: endpoint(flow.destination.into(), key.destination_port.get()),
        new_source: endpoint(flow.new_source.into(), flow.new_source_port.get()),
        new_destination: endpoint(flow.new_destination.into(), flow.new_destination_port.get()),
        direction: if flow.flags & FLOW_REPLY != 0 { "reply" } else { "forward" },
        state: match flow.state {
            STATE_NEW => "new",
            STATE_ESTABLISHED => "established",
            STATE_CLOSING => "closing",
            STATE_CLOSED => "closed",
            STATE_TIME_WAIT => "time_wait",
            _ => "unknown",
        },
        service: flow.service,
        backend: flow.backend,
        egress: match flow.egress {
            EGRESS_UNRESOLVED => "unresolved",
            EGRESS_STACK => "stack",
            EGRESS_REMOTE => "remote",
            EGRESS_POD => "pod",
            EGRESS_POD_SKB => "pod-stack",
            EGRESS_NEIGHBOUR => "neighbour",
            _ => "unknown",
        },
        ifindex: flow.ifindex,
        flags: flags.into_iter().filter(|(flag, _)| flow.flags & flag != 0).map(|(_, name)| name).collect(),
        packets: flow.packets,
        bytes: flow.bytes,
        idle_millis: idle / 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::{Be16, V4};
    use std::net::Ipv4Addr;

    #[test]
    fn flow_entry_shows_both_tuples_and_idle_time_across_the_wrap() {
        let address = |last| V4::from(Ipv4Addr::new(10, 0, 0, last));
        let key = FlowKey {
            pair: [address(1).0, address(2).0],
            source_port: Be16::new(40000),
            destination_port: Be16::new(80),
            protocol: 6,
            reserved: [0; 3],
        };
        let value = Flow {
            source: address(1),
            destination: address(2),
            new_source: address(3),
            new_destination: address(4),
            new_source_port: Be16::new(61000),
            new_destination_port: Be16::new(8080),
            flags: FLOW_SNAT | FLOW_HALF_OPEN,
            state: STATE_ESTABLISHED,
            egress: EGRESS_REMOTE,
            last_seen: u32::MAX,
            service: 9,
            packets: 5,
            bytes: 500,
            ..Flow::default()
        };
        let now = ((u64::from(u32::MAX) + 1) + 14) << TICK_SHIFT;
        let row = flow(&key, &value, now);
        assert_eq!(
            row.cells(),
            [
                "TCP",
                "10.0.0.1:40000",
                "10.0.0.2:80",
                "10.0.0.3:61000",
                "10.0.0.4:8080",
                "forward",
                "established",
                "9",
                "remote",
                "5",
                "500",
                "1s"
            ]
        );
        assert_eq!(row.flags, ["snat", "half-open"]);
    }
}
