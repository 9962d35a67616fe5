//! Counters of the DNS server.

use hickory_proto::op::ResponseCode;
use prometheus::{IntCounterVec, Opts, Registry};

/// Answers by response code.
#[derive(Clone)]
pub struct DnsMetrics {
    responses: IntCounterVec,
}

impl DnsMetrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// They are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let responses = IntCounterVec::new(
            Opts::new(
                "skep_dns_responses_total",
                "Answers of the cluster's DNS server on this node, by response code.",
            ),
            &["rcode"],
        )?;
        registry.register(Box::new(responses.clone()))?;
        Ok(Self { responses })
    }

    pub(crate) fn answered(&self, code: ResponseCode) {
        let label = match code {
            ResponseCode::NoError => "NOERROR",
            ResponseCode::NXDomain => "NXDOMAIN",
            ResponseCode::ServFail => "SERVFAIL",
            ResponseCode::Refused => "REFUSED",
            ResponseCode::FormErr => "FORMERR",
            ResponseCode::NotImp => "NOTIMP",
            _ => "OTHER",
        };
        self.responses.with_label_values(&[label]).inc();
    }
}
