//! Forms of answers and bodies, of known clients and of odd ones.

use super::*;

fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, value.parse().unwrap())])
}

#[test]
fn accept_of_known_clients_leads_to_a_form() {
    let cases = [
        ("*/*", Some(Form::Object)),
        ("application/json", Some(Form::Object)),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some(Form::Table),
        ),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
            Some(Form::Metadata(Number::One)),
        ),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Some(Form::Metadata(Number::Many)),
        ),
        ("application/json;stream=watch", Some(Form::Object)),
        ("text/html, application/json;q=0.5, */*;q=0.1", Some(Form::Object)),
        ("application/json;as=Other;g=meta.k8s.io;v=v1", None),
        ("text/plain", None),
        ("application/json;stream=other", None),
        ("application/json;sv=v9", None),
        ("application/json;g=meta.k8s.io;v=v1", None),
        ("application/json;q=0", Some(Form::Object)),
    ];
    for (accept, expected) in cases {
        let found = form(&headers(ACCEPT, accept), false).ok();
        assert_eq!(found, expected.map(|form| (form, Wire::Json)), "{accept}");
    }
    assert_eq!(form(&HeaderMap::new(), true).ok(), Some((Form::Object, Wire::Json)));
}

#[test]
fn accept_of_upstreams_components_leads_to_protobuf_where_there_is_such_a_form() {
    let cases = [
        ("application/vnd.kubernetes.protobuf", Some(Form::Object), None),
        ("application/vnd.kubernetes.protobuf;stream=watch", Some(Form::Object), None),
        ("application/vnd.kubernetes.protobuf, */*", Some(Form::Object), Some(Form::Object)),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
            Some(Form::Metadata(Number::One)),
            Some(Form::Object),
        ),
    ];
    for (accept, builtin, custom) in cases {
        let found = form(&headers(ACCEPT, accept), true).ok();
        assert_eq!(found, builtin.map(|form| (form, Wire::Protobuf)), "{accept}");
        let found = form(&headers(ACCEPT, accept), false).ok();
        assert_eq!(found, custom.map(|form| (form, Wire::Json)), "{accept}");
    }
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
    assert!(form(&headers(ACCEPT, table), true).is_err());
}

#[test]
fn discovery_is_aggregated_only_when_preferred() {
    let both = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    assert!(aggregated_discovery(&headers(ACCEPT, both)));
    assert!(!aggregated_discovery(&headers(ACCEPT, "application/json")));
}

#[test]
fn failure_is_in_protobuf_for_those_who_ask_for_it_first() {
    let cases = [
        ("application/vnd.kubernetes.protobuf", false, true),
        ("application/vnd.kubernetes.protobuf;stream=watch", false, true),
        ("application/vnd.kubernetes.protobuf,application/json", false, true),
        ("application/json,application/vnd.kubernetes.protobuf", false, false),
        ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json", false, false),
        (
            "application/vnd.kubernetes.protobuf;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io",
            true,
            true,
        ),
        ("application/vnd.kubernetes.protobuf;q=0.5,*/*", false, false),
        ("", false, false),
    ];
    for (accept, is_discovery, expected) in cases {
        assert_eq!(protobuf_first(&headers(ACCEPT, accept), is_discovery), expected, "{accept}");
    }
}

#[test]
fn body_in_an_unknown_format_is_refused() {
    let read = |kind: &str| encoding(&headers(CONTENT_TYPE, kind)).map_err(|status| status.code);
    assert_eq!(read("application/json; charset=utf-8"), Ok(Encoding::Json));
    assert_eq!(read(PROTOBUF), Ok(Encoding::Protobuf));
    assert_eq!(read("text/xml"), Err(415));
}
