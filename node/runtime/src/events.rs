//! What containerd says about its tasks. Turns the events service's envelopes into [`Event`]s.
//!
//! containerd 1.6 has no event stream in CRI, so its own service is used. It names sandboxes and containers
//! alike by id; telling them apart is left to the reader, who knows both.

use containerd_client::events as wire;
use containerd_client::types::Envelope;
use prost::Message;

/// Something happened to a container or a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Id of the container or the sandbox.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Its first process runs.
    Started,
    /// Its first process ended.
    Exited,
    /// The kernel killed a process in it for want of memory.
    OutOfMemory,
    /// It was removed.
    Removed,
}

/// The filters that leave only what [`decode`] understands.
pub(crate) fn filters() -> Vec<String> {
    ["/tasks/start", "/tasks/exit", "/tasks/oom", "/containers/delete"]
        .iter()
        .map(|topic| format!("namespace==\"k8s.io\",topic==\"{topic}\""))
        .collect()
}

/// Decodes an envelope. `None` for events of no interest, such as the end of a command run beside the first process.
pub(crate) fn decode(envelope: &Envelope) -> Option<Event> {
    let bytes = envelope.event.as_ref()?.value.as_slice();
    let (id, kind) = match envelope.topic.as_str() {
        "/tasks/start" => (wire::TaskStart::decode(bytes).ok()?.container_id, EventKind::Started),
        "/tasks/exit" => {
            let exit = wire::TaskExit::decode(bytes).ok()?;
            if exit.id != exit.container_id {
                return None;
            }
            (exit.container_id, EventKind::Exited)
        }
        "/tasks/oom" => (wire::TaskOom::decode(bytes).ok()?.container_id, EventKind::OutOfMemory),
        "/containers/delete" => (wire::ContainerDelete::decode(bytes).ok()?.id, EventKind::Removed),
        _ => return None,
    };
    Some(Event { id, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, message: &impl Message) -> Envelope {
        let mut envelope = Envelope { topic: topic.into(), namespace: "k8s.io".into(), ..Default::default() };
        envelope.event.get_or_insert_default().value = message.encode_to_vec();
        envelope
    }

    #[test]
    fn exit_of_first_process_is_reported() {
        let exit = wire::TaskExit {
            container_id: "c1".into(),
            id: "c1".into(),
            exit_status: 3,
            ..Default::default()
        };
        let expected = Event { id: "c1".into(), kind: EventKind::Exited };
        assert_eq!(decode(&envelope("/tasks/exit", &exit)), Some(expected));
    }

    #[test]
    fn exit_of_exec_is_ignored() {
        let exit = wire::TaskExit { container_id: "c1".into(), id: "exec-7".into(), ..Default::default() };
        assert_eq!(decode(&envelope("/tasks/exit", &exit)), None);
    }

    #[test]
    fn broken_or_unknown_event_is_ignored() {
        let start = wire::TaskStart { container_id: "c1".into(), pid: 1 };
        assert_eq!(decode(&envelope("/snapshot/commit", &start)), None);
        let mut broken = envelope("/tasks/start", &start);
        broken.event.get_or_insert_default().value = vec![0xff; 3];
        assert_eq!(decode(&broken), None);
    }
}
