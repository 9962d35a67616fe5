//! Answers requests from the zone, or passes them on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::RwLock;

use crate::forward;
use crate::metrics::DnsMetrics;
use crate::zone::{Answer, Data, Kind, Zone};

/// How long an answer may be kept, in seconds: names follow their pods.
const TTL: u32 = 5;
/// The largest datagram that is sent: no IPv6 path cuts it in pieces (DNS flag day 2020).
const DATAGRAM: u16 = 1232;
/// How many aliases are followed.
const ALIASES: usize = 8;

/// The handler of every socket.
pub(crate) struct Handler {
    zone: Arc<RwLock<Zone>>,
    upstreams: Vec<SocketAddr>,
    metrics: DnsMetrics,
    /// Moves on with every answer, so that clients that take the first address spread over all.
    turn: AtomicUsize,
}

/// A response before it is encoded.
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
}

impl Reply {
    fn failure(code: ResponseCode) -> Self {
        Self { code, authoritative: false, answers: Vec::new(), authorities: Vec::new() }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let reply = self.reply(request).await;
        self.metrics.answered(reply.code);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = !self.upstreams.is_empty();
        let none: [Record; 0] = [];
        let edns = extension(request);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &reply.answers, &reply.authorities, &none, &none);
        match handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "an answer was not sent");
                let mut header = hickory_proto::op::Header {
                    metadata,
                    counts: hickory_proto::op::HeaderCounts::default(),
                };
                header.metadata.response_code = ResponseCode::ServFail;
                header.into()
            }
        }
    }
}

/// The sizes that may be used, when the client says that it knows of them (RFC 6891).
fn extension(request: &Request) -> Option<Edns> {
    let asked = request.edns.as_ref()?;
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload().clamp(512, DATAGRAM));
    edns.set_version(0);
    Some(edns)
}

impl Handler {
    /// A handler that answers from `zone`.
    pub(crate) fn new(zone: Arc<RwLock<Zone>>, upstreams: Vec<SocketAddr>, metrics: DnsMetrics) -> Self {
        Self { zone, upstreams, metrics, turn: AtomicUsize::new(0) }
    }

    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::failure(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Reply::failure(ResponseCode::FormErr) };
        let name: Name = info.query.name().into();
        let labels = labels(&name);
        let kind = kind(info.query.query_type());
        let answer = self.zone.read().answer(&labels, kind);
        match answer {
            Answer::Elsewhere => self.forward(request.as_slice()).await,
            Answer::NotYet => Reply::failure(ResponseCode::ServFail),
            Answer::NoName => self.negative(ResponseCode::NXDomain),
            Answer::Records(records) if records.is_empty() => self.negative(ResponseCode::NoError),
            Answer::Records(records) => self.positive(&name, records, kind).await,
        }
    }

    /// The records, and what the aliases among them lead to.
    async fn positive(&self, name: &Name, records: Vec<Data>, kind: Kind) -> Reply {
        let mut reply = Reply {
            code: ResponseCode::NoError,
            authoritative: true,
            answers: Vec::new(),
            authorities: Vec::new(),
        };
        let (mut owner, mut records) = (name.clone(), records);
        for _ in 0..ALIASES {
            let alias = records.iter().find_map(|data| match data {
                Data::Alias(target) => Some(target.clone()),
                _ => None,
            });
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % records.len().max(1);
            records.rotate_left(turn);
            reply.answers.extend(records.iter().filter_map(|data| record(&owner, data)));
            let (Some(target), Kind::A | Kind::Aaaa) = (alias, kind) else { break };
            let Ok(next) = Name::from_utf8(format!("{target}.")) else { break };
            let answer = self.zone.read().answer(&labels(&next), kind);
            match answer {
                Answer::Records(found) => (owner, records) = (next, found),
                Answer::NoName | Answer::NotYet => break,
                Answer::Elsewhere => {
                    reply.answers.extend(self.resolve(&next, kind).await);
                    break;
                }
            }
        }
        reply
    }

    /// No record: the start of authority says for how long that may be believed.
    fn negative(&self, code: ResponseCode) -> Reply {
        let domain = self.zone.read().domain();
        let name = |text: String| Name::from_utf8(text).unwrap_or_else(|_| Name::root());
        let soa = SOA::new(
            name(format!("ns.dns.{domain}.")),
            name(format!("hostmaster.{domain}.")),
            1,
            7200,
            1800,
            86400,
            TTL,
        );
        let record = Record::from_rdata(name(format!("{domain}.")), TTL, RData::SOA(soa));
        Reply { code, authoritative: true, answers: Vec::new(), authorities: vec![record] }
    }

    async fn forward(&self, question: &[u8]) -> Reply {
        match forward::ask(&self.upstreams, question).await {
            Some(message) => Reply {
                code: message.metadata.response_code,
                authoritative: false,
                answers: message.answers,
                authorities: message.authorities,
            },
            None if self.upstreams.is_empty() => Reply::failure(ResponseCode::Refused),
            None => Reply::failure(ResponseCode::ServFail),
        }
    }

    /// Addresses of a name outside the zone.
    async fn resolve(&self, name: &Name, kind: Kind) -> Vec<Record> {
        let record_type = if kind == Kind::A { RecordType::A } else { RecordType::AAAA };
        let mut question = hickory_proto::op::Message::query();
        question.add_query(hickory_proto::op::Query::query(name.clone(), record_type));
        question.metadata.recursion_desired = true;
        let Ok(question) = question.to_vec() else { return Vec::new() };
        forward::ask(&self.upstreams, &question).await.map(|message| message.answers).unwrap_or_default()
    }
}

fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect()
}

fn kind(record_type: RecordType) -> Kind {
    match record_type {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        RecordType::PTR => Kind::Ptr,
        RecordType::TXT => Kind::Txt,
        RecordType::CNAME => Kind::Cname,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

/// A record; `None` when a target is not a name.
fn record(owner: &Name, data: &Data) -> Option<Record> {
    let name = |text: &str| Name::from_utf8(format!("{text}.")).ok();
    let data = match data {
        Data::Address(IpAddr::V4(address)) => RData::A(A(*address)),
        Data::Address(IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
        Data::Service { port, target } => RData::SRV(SRV::new(0, 100, *port, name(target)?)),
        Data::Pointer(target) => RData::PTR(PTR(name(target)?)),
        Data::Alias(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.clone()])),
    };
    Some(Record::from_rdata(owner.clone(), TTL, data))
}
