//! Options as queries say them.

use skep_api::registry::registry;

use super::*;

fn list(query: &str) -> Result<ListOptions, Status> {
    ListOptions::parse(registry().find("", "v1", "pods").unwrap(), &Query::parse(query))
}

fn watch(query: &str) -> Result<WatchOptions, Status> {
    WatchOptions::parse(registry().find("", "v1", "pods").unwrap(), &Query::parse(query))
}

#[test]
fn list_reads_where_upstream_reads() {
    let cases = [
        ("", ReadAt::Newest),
        ("resourceVersion=0", ReadAt::Any),
        ("resourceVersion=7", ReadAt::NotOlderThan(7)),
        ("resourceVersion=7&limit=3", ReadAt::Exact(7)),
        ("resourceVersion=7&limit=3&resourceVersionMatch=NotOlderThan", ReadAt::NotOlderThan(7)),
        ("resourceVersion=7&resourceVersionMatch=Exact", ReadAt::Exact(7)),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan", ReadAt::Any),
    ];
    for (query, expected) in cases {
        assert_eq!(list(query).unwrap().at, expected, "{query}");
    }
}

#[test]
fn list_with_contradictions_is_refused() {
    let cases = [
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Newest", 422),
        ("resourceVersion=x", 400),
        ("limit=x", 400),
        ("continue=%25%25", 400),
        ("continue=e30", 400),
        ("labelSelector=a+in+(", 400),
        ("fieldSelector=spec.color%3Dred", 400),
    ];
    for (query, code) in cases {
        assert_eq!(list(query).unwrap_err().code, code, "{query}");
    }
}

#[test]
fn token_survives_the_way_to_the_client_and_back() {
    for token in
        [Token { revision: Some(9), after: "a/x".into() }, Token { revision: None, after: "y".into() }]
    {
        assert_eq!(Token::decode(&token.encode()).unwrap(), token);
    }
}

#[test]
fn watch_begins_where_upstream_begins() {
    let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    assert_eq!(watch("").unwrap().at, WatchFrom::State { at: ReadAt::Newest, marked: false });
    assert_eq!(watch("resourceVersion=0").unwrap().at, WatchFrom::State { at: ReadAt::Any, marked: false });
    assert_eq!(watch("resourceVersion=5").unwrap().at, WatchFrom::After(5));
    assert_eq!(watch(initial).unwrap().at, WatchFrom::State { at: ReadAt::Newest, marked: true });
    assert_eq!(watch("sendInitialEvents=true").unwrap_err().code, 422);
    assert_eq!(watch("resourceVersionMatch=NotOlderThan").unwrap_err().code, 422);
}
