//! Cases of lists: order, prefixes, pages, the past.

use std::collections::BTreeMap;

use super::Case;
use crate::{ListRequest, Revision};

pub(super) async fn keys_come_in_byte_order_and_stop_at_the_prefix(case: Case) {
    let names =
        ["b/", "b/\u{7f}", "b/a", "b/a/c", "b/a-", "b/é", "b/Z", "b", "b0", "a", "b.", "b/\u{10ffff}"];
    for name in names {
        case.create(name, name).await;
    }
    let list = |prefix: &str, start_after: Option<&str>| {
        let start_after = start_after.map(|name| case.key(name));
        let request = ListRequest { prefix: case.key(prefix), start_after, ..Default::default() };
        let case = case.clone();
        async move {
            let listing = case.store.list(request).await.expect("list");
            assert_eq!(listing.remaining, 0);
            let strip = |key: &str| key.strip_prefix(&case.prefix).expect("prefix").to_owned();
            listing.items.iter().map(|kv| strip(&kv.key)).collect::<Vec<_>>()
        }
    };
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(list("", None).await, sorted);
    let below: Vec<&str> = sorted.iter().copied().filter(|name| name.starts_with("b/")).collect();
    assert_eq!(list("b/", None).await, below);
    assert_eq!(list("b/", Some("a")).await, below, "a start before the range is the range");
    assert_eq!(list("b/", Some("b/")).await, below[1..]);
    assert_eq!(list("b/", Some("b/a")).await, ["b/a-", "b/a/c", "b/\u{7f}", "b/é", "b/\u{10ffff}"]);
    assert!(list("b/", Some("b0")).await.is_empty(), "a start after the range leaves nothing");
    assert!(list("c", None).await.is_empty());
}

pub(super) async fn pages_at_one_revision_are_one_snapshot(case: Case) {
    for number in 0..25 {
        case.create(&format!("{number:02}"), "old").await;
    }
    let whole = case.list(None).await;
    let mut request = ListRequest { prefix: case.prefix.clone(), limit: 10, ..Default::default() };
    let mut pages = Vec::new();
    loop {
        let page = case.store.list(request.clone()).await.expect("page");
        assert_eq!(page.remaining as usize, 25 - pages.len() - page.items.len());
        request.start_after = page.items.last().map(|kv| kv.key.clone());
        assert!(request.revision.is_none_or(|revision| revision == page.revision), "the snapshot stays");
        request.revision = Some(page.revision);
        pages.extend(page.items);
        if page.remaining == 0 {
            break;
        }
        // What happens between the pages does not show.
        let round = pages.len();
        case.update(&format!("{:02}", round + 1), "new").await;
        case.delete(&format!("{:02}", round + 2)).await;
        case.create(&format!("{:02}x", round + 3), "new").await;
    }
    assert_eq!(pages, whole);
}

pub(super) async fn list_at_any_revision_is_the_state_then(case: Case) {
    let mut states = vec![(case.now().await, BTreeMap::new())];
    let mut state: BTreeMap<String, String> = BTreeMap::new();
    for step in 0..40_u32 {
        // A fixed walk that creates, updates, deletes and re-creates.
        let name = format!("k{}", (step * 7 + step / 3) % 6);
        let value = format!("v{step}");
        let revision = match (state.contains_key(&name), step % 3) {
            (true, 0) => {
                state.remove(&name);
                case.delete(&name).await
            }
            (true, _) => {
                state.insert(name.clone(), value.clone());
                case.update(&name, &value).await
            }
            (false, _) => {
                state.insert(name.clone(), value.clone());
                case.create(&name, &value).await
            }
        };
        states.push((revision, state.clone()));
    }
    for (revision, wanted) in states {
        let read: BTreeMap<String, String> = case
            .list(Some(revision))
            .await
            .into_iter()
            .map(|kv| {
                assert!(kv.mod_revision <= revision && kv.create_revision <= kv.mod_revision);
                let name = kv.key.strip_prefix(&case.prefix).expect("prefix").to_owned();
                (name, String::from_utf8(kv.value.to_vec()).expect("text"))
            })
            .collect();
        assert_eq!(read, wanted, "at {revision:?}");
        check_pages(&case, revision, wanted.len()).await;
    }
}

async fn check_pages(case: &Case, revision: Revision, len: usize) {
    let request =
        ListRequest { prefix: case.prefix.clone(), limit: 2, revision: Some(revision), start_after: None };
    let page = case.store.list(request).await.expect("page");
    assert_eq!((page.items.len(), page.remaining as usize), (len.min(2), len.saturating_sub(2)));
    assert_eq!(page.revision, revision);
}
