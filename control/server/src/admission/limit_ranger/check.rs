//! Whether pods and claims keep within a range, in upstream's words: pure.

use serde_json::Value;
use skep_api::object::{items, text};
use skep_api::quantity::Quantity;
use skep_api::resources::{self, Amounts, Side};

use super::limits;

/// Above this, thousandths do not fit into 63 bits, and whole units are compared.
const LARGEST_MILLI: i64 = i64::MAX / 1000;

/// What of a pod is out of range.
pub(super) fn pod_faults(range: &Value, pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let spec = &pod["spec"];
    for limit in items(range, &["spec", "limits"]) {
        match text(limit, &["type"]) {
            "Container" => {
                for list in ["containers", "initContainers"] {
                    for container in items(spec, &[list]) {
                        let asked = (Side::Requests.of(container), Side::Limits.of(container));
                        Check::new(limit, &asked.0, &asked.1).all(&mut faults);
                    }
                }
            }
            "Pod" => {
                let requests = resources::of_pod(pod, Side::Requests);
                Check::new(limit, &requests, &resources::of_pod(pod, Side::Limits)).all(&mut faults);
            }
            _ => {}
        }
    }
    faults
}

/// What of a claim is out of range.
pub(super) fn claim_faults(range: &Value, claim: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let requests = Side::Requests.of(&claim["spec"]);
    for limit in limits(range, "PersistentVolumeClaim") {
        Check::new(limit, &requests, &Amounts::new()).requests_only(&mut faults);
    }
    faults
}

/// One item of a range against what somebody asks for.
struct Check<'a> {
    kind: &'a str,
    limit: &'a Value,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

impl<'a> Check<'a> {
    fn new(limit: &'a Value, requests: &'a Amounts, limits: &'a Amounts) -> Self {
        Self { kind: text(limit, &["type"]), limit, requests, limits }
    }

    fn all(&self, faults: &mut Vec<String>) {
        faults.extend(self.each("min", Self::minimum));
        faults.extend(self.each("max", Self::maximum));
        faults.extend(self.each("maxLimitRequestRatio", Self::ratio));
    }

    fn requests_only(&self, faults: &mut Vec<String>) {
        faults.extend(self.each("min", Self::minimum));
        faults.extend(self.each("max", Self::maximum_request));
    }

    fn each(&self, member: &str, rule: impl Fn(&Self, &str, Quantity) -> Option<String>) -> Vec<String> {
        let bounds = resources::read(&self.limit[member]);
        bounds.iter().filter_map(|(name, bound)| rule(self, name, *bound)).collect()
    }

    fn minimum(&self, name: &str, bound: Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let (asked, most, least) = comparable(request, limit, bound);
        let start = format!("minimum {name} usage per {} is {bound}", self.kind);
        match (request, limit) {
            (None, _) => Some(format!("{start}.  No request is specified")),
            (Some(request), _) if asked < least => Some(format!("{start}, but request is {request}")),
            (_, Some(limit)) if most < least => Some(format!("{start}, but limit is {limit}")),
            _ => None,
        }
    }

    fn maximum(&self, name: &str, bound: Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let (asked, most, bounded) = comparable(request, limit, bound);
        let start = format!("maximum {name} usage per {} is {bound}", self.kind);
        match (request, limit) {
            (_, None) => Some(format!("{start}.  No limit is specified")),
            (_, Some(limit)) if most > bounded => Some(format!("{start}, but limit is {limit}")),
            (Some(request), _) if asked > bounded => Some(format!("{start}, but request is {request}")),
            _ => None,
        }
    }

    fn maximum_request(&self, name: &str, bound: Quantity) -> Option<String> {
        let request = self.requests.get(name);
        let (asked, _, bounded) = comparable(request, None, bound);
        let start = format!("maximum {name} usage per {} is {bound}", self.kind);
        match request {
            None => Some(format!("{start}.  No request is specified")),
            Some(request) if asked > bounded => Some(format!("{start}, but request is {request}")),
            _ => None,
        }
    }

    fn ratio(&self, name: &str, bound: Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let (asked, most, _) = comparable(request, limit, bound);
        let start = format!("{name} max limit to request ratio per {} is {bound}", self.kind);
        if request.is_none() || asked == 0 {
            return Some(format!("{start}, but no request is specified or request is 0"));
        }
        if limit.is_none() || most == 0 {
            return Some(format!("{start}, but no limit is specified or limit is 0"));
        }
        let ratio = most as f64 / asked as f64;
        let (scaled, bounded) = if bound.units() <= LARGEST_MILLI {
            (ratio * 1000.0, bound.milli() as f64)
        } else {
            (ratio, bound.units() as f64)
        };
        (scaled > bounded).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
    }
}

/// The three in one unit: thousandths if they fit.
fn comparable(request: Option<&Quantity>, limit: Option<&Quantity>, bound: Quantity) -> (i64, i64, i64) {
    let all = [request.copied(), limit.copied(), Some(bound)].map(|one| one.unwrap_or(Quantity::of(0)));
    let fit = all.iter().all(|one| one.units() <= LARGEST_MILLI);
    let [asked, most, bound] = all.map(|one| if fit { one.milli() } else { one.units() });
    (asked, most, bound)
}
