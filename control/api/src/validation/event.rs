//! Rules of events, in both groups: the newer one asks for more.

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place};
use crate::object::{at, namespace, text};

const LENGTH: usize = 128;
const NOTE: usize = 1024;

/// The members that the two forms call differently.
struct Form {
    about: &'static str,
    reporter: &'static str,
    note: &'static str,
}

const CORE: Form = Form { about: "involvedObject", reporter: "reportingComponent", note: "message" };
const NEW: Form = Form { about: "regarding", reporter: "reportingController", note: "note" };

/// What both groups ask for. Events without a time of the newer sort come from older components.
fn common(object: &Value, form: &Form, errors: &mut Errors) {
    let (about, own) = (text(object, &[form.about, "namespace"]), namespace(object));
    let newer = at(object, &["eventTime"]).is_some();
    let fits = match about {
        "" => own == "default" || (newer && own == "kube-system"),
        about => newer || own == about,
    };
    if !fits {
        let why = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", about, why));
    }
    if !newer {
        return;
    }
    let reporter = Place::of(object, form.reporter);
    if reporter.text().is_empty() {
        reporter.required("", errors);
    }
    reporter.judge_key(errors);
    let limit = |path: &str, text: &str, length: usize, errors: &mut Errors| {
        if text.len() > length {
            errors.push(FieldError::invalid(path, "", format!("can have at most {length} characters")));
        }
    };
    for name in ["reportingInstance", "action", "reason"] {
        let place = Place::of(object, name);
        if place.text().is_empty() {
            place.required("", errors);
        }
        limit(name, place.text(), LENGTH, errors);
    }
    limit("message", text(object, &[form.note]), NOTE, errors);
}

/// An event of the core group.
pub(super) fn core(object: &Value, errors: &mut Errors) {
    common(object, &CORE, errors);
}

/// An event of events.k8s.io.
pub(super) fn new_form(object: &Value, creating: bool, errors: &mut Errors) {
    common(object, &NEW, errors);
    if !creating {
        return;
    }
    let series = Place::of(object, "series");
    if series.is_set() {
        if series.get("count").number().unwrap_or(0) < 2 {
            errors.push(FieldError::invalid("series.count", "", "should be at least 2"));
        }
        if !series.get("lastObservedTime").is_full() {
            errors.push(FieldError::required("series.lastObservedTime", ""));
        }
    }
    if at(object, &["eventTime"]).is_none() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = text(object, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    for (old, called) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        let place = Place::of(object, old);
        if place.is_full() && place.number() != Some(0) {
            errors.push(FieldError::invalid(called, "", "needs to be unset"));
        }
    }
}

/// What of an event of events.k8s.io stays as it was.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    for (name, called) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        let now = Place::of(new, name);
        Place::new(called, now.value).unchanged(&Place::of(old, name), errors);
    }
}
