//! Waiting, refusals and seats of upstream's levels, on paused time.

use http::Method;
use jiff::Timestamp;

use super::*;
use crate::authz::bootstrap::bootstrap_objects;
use crate::testing::counted;
use crate::turns::Turns;

const PATIENCE: Duration = Duration::from_secs(15);

fn fairness(seats: u32) -> (Fairness, Registry) {
    let registry = Registry::new();
    let fairness = Fairness::new(Concurrency::Fair(seats), &registry);
    let of = |plural: &str| -> Vec<Arc<Value>> {
        let all = bootstrap_objects().into_iter().filter(|one| one.resource == plural);
        all.map(|one| Arc::new(one.object)).collect()
    };
    fairness.configure(&of("flowschemas"), &of("prioritylevelconfigurations"));
    (fairness, registry)
}

fn request(line: &str) -> (Arc<RequestInfo>, Query) {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = Query::parse(query);
    (Arc::new(RequestInfo::parse(&method.parse::<Method>().unwrap(), path, &query)), query)
}

async fn enter(fairness: &Fairness, user: &str) -> Result<Permit, Status> {
    let (info, query) = request("GET /api/v1/namespaces/a/pods/b");
    fairness.enter(&UserInfo::new(user, &[]), &info, &query, Facts::default, PATIENCE, &lane()).await.1
}

fn lane() -> Lane {
    Lane::exempt(&Turns::default())
}

/// Entered in a task of its own.
fn entering(fairness: &Fairness, user: &'static str) -> tokio::task::JoinHandle<Result<Permit, Status>> {
    let fairness = fairness.clone();
    tokio::spawn(async move { enter(&fairness, user).await })
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn seats_are_divided_by_shares_as_upstream_divides_them() {
    let (fairness, _) = fairness(600);
    let levels = fairness.inner.levels.read().clone();
    let limits = |name: &str| levels.levels[name].limits;
    // 245 shares: 40 + 40 + 30 + 100 + 20 + 10 + 5, and none for the exempt.
    let of = |nominal, least, most| levels::Limits { nominal, least, most };
    assert_eq!(limits("global-default"), of(49, 24, 649));
    assert_eq!(limits("workload-low"), of(245, 24, 845));
    assert_eq!(limits("catch-all"), of(13, 13, 613));
    assert_eq!(limits("exempt"), of(0, 0, 0));
    assert_eq!((levels.levels["global-default"].most_for_one, levels.levels["exempt"].most_for_one), (8, 0));
}

#[tokio::test(start_paused = true)]
async fn request_waits_until_a_seat_is_free() {
    let (fairness, _) = fairness(1);
    let mut held = fill(&fairness).await;
    let waiting = entering(&fairness, "ann");
    settle().await;
    assert!(!waiting.is_finished());
    held.pop();
    let permit = waiting.await.unwrap().unwrap();
    drop((permit, held));
    assert_eq!(fairness.usage("global-default"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn request_that_waited_too_long_is_sent_away_for_a_while() {
    let (fairness, registry) = fairness(1);
    let held = fill(&fairness).await;
    let status = enter(&fairness, "ann").await.err().unwrap();
    assert_eq!((status.code, status.retry_after), (429, Some(1)));
    assert_eq!(status.message, "Too many requests, please try again later.");
    assert_eq!(fairness.usage("global-default").1, 0);
    let families = registry.gather();
    let rejected = families.iter().find(|one| one.name() == "apiserver_flowcontrol_rejected_requests_total");
    let labels: Vec<_> =
        rejected.unwrap().get_metric()[0].get_label().iter().map(|label| label.value()).collect();
    assert_eq!(labels, ["global-default", "global-default", "time-out"]);
    drop(held);
}

/// Takes all seats that the level of ordinary users has.
async fn fill(fairness: &Fairness) -> Vec<Permit> {
    let mut held = Vec::new();
    loop {
        let mut next = Box::pin(enter(fairness, "filler"));
        match futures::FutureExt::now_or_never(&mut next) {
            Some(permit) => held.push(permit.unwrap()),
            None => return held,
        }
        assert!(held.len() < 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn request_whose_client_goes_leaves_its_queue() {
    let (fairness, _) = fairness(1);
    let held = fill(&fairness).await;
    let waiting = entering(&fairness, "ann");
    settle().await;
    assert_eq!(fairness.usage("global-default").1, 1);
    waiting.abort();
    settle().await;
    assert_eq!(fairness.usage("global-default"), (held.len() as u32, 0));
}

#[tokio::test(start_paused = true)]
async fn flood_of_one_user_does_not_keep_another_waiting() {
    let (fairness, _) = fairness(1);
    let held = fill(&fairness).await;
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let comes = |user: &'static str| {
        let (fairness, order) = (fairness.clone(), order.clone());
        tokio::spawn(async move {
            let permit = enter(&fairness, user).await.unwrap();
            order.lock().push(user);
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(permit);
        })
    };
    let mut all: Vec<_> = (0..100).map(|_| comes("flood")).collect();
    settle().await;
    all.push(comes("quiet"));
    settle().await;
    drop(held);
    for one in all {
        one.await.unwrap();
    }
    // The flood waits in six queues, each of which has the same right as that of the other.
    let before = order.lock().iter().position(|user| *user == "quiet").unwrap();
    assert!(before <= 7, "{before} of a hundred came first");
}

#[tokio::test(start_paused = true)]
async fn exempt_requests_always_pass_and_are_counted() {
    let (fairness, _) = fairness(1);
    let (info, query) = request("GET /api/v1/pods");
    let admin = UserInfo::new("admin", &["system:masters"]);
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(fairness.enter(&admin, &info, &query, Facts::default, PATIENCE, &lane()).await.1.unwrap());
    }
    assert_eq!(fairness.usage("exempt"), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn write_with_many_watchers_keeps_its_seats_a_little_longer() {
    let (fairness, _) = fairness(600);
    let (info, query) = request("PUT /api/v1/namespaces/a/pods/b");
    let facts = || Facts { watchers: 50, ..Facts::default() };
    let permit =
        fairness.enter(&UserInfo::new("ann", &[]), &info, &query, facts, PATIENCE, &lane()).await.1.unwrap();
    assert_eq!(fairness.usage("global-default").0, 5);
    drop(permit);
    settle().await;
    assert_eq!(fairness.usage("global-default").0, 5);
    tokio::time::sleep(Duration::from_millis(6)).await;
    settle().await;
    assert_eq!(fairness.usage("global-default").0, 0);
}

#[tokio::test(start_paused = true)]
async fn idle_levels_lend_their_seats() {
    let (fairness, registry) = fairness(100);
    let held = fill(&fairness).await;
    let own = held.len();
    let waiting: Vec<_> = (0..60).map(|_| entering(&fairness, "ann")).collect();
    settle().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    fairness.adjust();
    settle().await;
    let served = waiting.iter().filter(|one| one.is_finished()).count();
    assert!(served > own, "{served} seats were borrowed, {own} are its own");
    assert!(registry.gather().iter().any(|one| one.name() == "apiserver_flowcontrol_current_limit_seats"));
}

#[tokio::test(start_paused = true)]
async fn lists_of_one_user_leave_a_seat_for_the_first_request_of_another() {
    let (fairness, _) = fairness(600);
    let lists = |user: &'static str| {
        let fairness = fairness.clone();
        tokio::spawn(async move {
            let (info, query) = request("GET /api/v1/namespaces/a/configmaps");
            let facts = || Facts { objects: 10_000, bytes: 12_000_000, watchers: 0 };
            fairness.enter(&UserInfo::new(user, &[]), &info, &query, facts, PATIENCE, &lane()).await.1
        })
    };
    let flood: Vec<_> = (0..64).map(|_| lists("flood")).collect();
    settle().await;
    let served = flood.iter().filter(|one| one.is_finished()).count();
    assert!(served > 0 && served < flood.len(), "{served} lists have their seats");
    let quiet = [entering(&fairness, "quiet"), lists("other")];
    settle().await;
    assert!(quiet.iter().all(tokio::task::JoinHandle::is_finished), "nobody has to wait for the flood");
}

/// The cells of a table, row by row.
fn cells(fairness: &Fairness, table: Table) -> Vec<Vec<String>> {
    let text = fairness.table(table, Timestamp::from_second(1_700_000_000).unwrap());
    let row = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect();
    text.lines().map(row).collect()
}

#[tokio::test(start_paused = true)]
async fn tables_show_who_waits_and_who_has_seats() {
    let (fairness, _) = fairness(1);
    let mut held = fill(&fairness).await;
    let waiting = entering(&fairness, "ann");
    settle().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let requests = cells(&fairness, Table::Requests { details: true });
    let by = |user: &str| requests.iter().filter(|row| row[10] == user).collect::<Vec<_>>();
    assert_eq!((requests[0].len(), by("filler").len(), by("ann").len()), (18, held.len(), 1));
    let (filler, ann) = (by("filler")[0], by("ann")[0]);
    assert_eq!(ann[..2], ["global-default", "global-default"]);
    assert_eq!(
        ann[3..],
        [
            "0",
            "ann",
            "2023-11-14T22:13:18.5Z",
            "1",
            "0",
            "0s",
            "0001-01-01T00:00:00Z",
            "ann",
            "get",
            "/api/v1/namespaces/a/pods/b",
            "a",
            "b",
            "v1",
            "pods",
            ""
        ]
    );
    assert_eq!((&*filler[3], &*filler[9]), ("-1", "2023-11-14T22:13:18.5Z"));
    assert_eq!(cells(&fairness, Table::Requests { details: false })[1].len(), 10);
    let queues = cells(&fairness, Table::Queues);
    let queue = queues.iter().find(|row| row[0] == "global-default" && row[1] == ann[2]).unwrap();
    assert_eq!((&*queue[2], &*queue[6], &*queue[7], &*queue[8]), ("1", "1", "1", "0.00300000ss"));
    let level = |name: &str| cells(&fairness, Table::Levels).into_iter().find(|row| row[0] == name).unwrap();
    let count = held.len().to_string();
    // One that found no seat went away while the seats were taken.
    assert_eq!(level("global-default")[1..], ["1", "false", "false", "1", &count, &count, "1", "0", "1"]);
    assert_eq!(level("exempt")[1..], ["0", "true", "false", "0", "0", "0", "0", "0", "0"]);
    waiting.abort();
    settle().await;
    enter(&fairness, "bob").await.err().unwrap();
    assert_eq!(level("global-default")[4..], ["0", &count, &count, "3", "1", "2"]);
    held.clear();
    assert_eq!(level("global-default")[2], "true");
}

#[tokio::test(start_paused = true)]
async fn level_whose_object_is_gone_is_shown_until_its_requests_are() {
    let (fairness, _) = fairness(1);
    let held = fill(&fairness).await;
    let leaving = |fairness: &Fairness| {
        let rows = cells(fairness, Table::Levels);
        rows.into_iter().find(|row| row[0] == "global-default").map(|row| row[3].clone())
    };
    fairness.configure(&[], &[]);
    assert_eq!(leaving(&fairness), Some("true".to_owned()));
    drop(held);
    fairness.configure(&[], &[]);
    assert_eq!(leaving(&fairness), None);
}

#[tokio::test(start_paused = true)]
async fn meters_show_who_is_next_and_who_finds_no_seats() {
    let (fairness, registry) = fairness(20);
    let name = |end: &str| format!("apiserver_flowcontrol_{end}");
    let count =
        |end: &str, labels: &[&str]| counted(&registry, &name(end), &[&["global-default"], labels].concat());
    let mut held = fill(&fairness).await;
    assert_eq!(count("next_s_bounds", &[]), None, "nobody waits");
    let waiting = [entering(&fairness, "ann"), entering(&fairness, "bob")];
    settle().await;
    assert_eq!(counted(&registry, "apiserver_current_inqueue_requests", &["readOnly"]), Some(2.0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // One seat comes free, and a list wants several.
    let list = tokio::spawn({
        let fairness = fairness.clone();
        async move {
            let (info, query) = request("GET /api/v1/namespaces/a/configmaps");
            let facts = || Facts { objects: 10_000, bytes: 12_000_000, watchers: 0 };
            fairness.enter(&UserInfo::new("eve", &[]), &info, &query, facts, PATIENCE, &lane()).await.1
        }
    });
    settle().await;
    fairness.show();
    for bound in ["min", "max"] {
        assert!(count("next_s_bounds", &[bound]).is_some(), "{bound}");
        assert!(count("next_discounted_s_bounds", &[bound]) <= count("next_s_bounds", &[bound]), "{bound}");
    }
    assert!(count("current_r", &[]) > count("dispatch_r", &[]), "time went by since somebody was called");
    held.truncate(held.len() / 2);
    settle().await;
    fairness.show();
    assert!(count("latest_s", &[]).is_some() && count("dispatch_r", &[]) > Some(0.0));
    for one in waiting.into_iter().chain([list]) {
        one.abort();
    }
    settle().await;
    assert_eq!(counted(&registry, "apiserver_current_inqueue_requests", &["readOnly"]), Some(0.0));
    fairness.adjust();
    assert!(counted(&registry, &name("seat_fair_frac"), &[]) > Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn wide_request_that_finds_too_few_seats_is_counted() {
    let (fairness, registry) = fairness(600);
    let count = || {
        fairness.show();
        counted(
            &registry,
            "apiserver_flowcontrol_request_dispatch_no_accommodation_total",
            &["global-default"],
        )
    };
    let lists = |user: &'static str| {
        let fairness = fairness.clone();
        tokio::spawn(async move {
            let (info, query) = request("GET /api/v1/namespaces/a/configmaps");
            let facts = || Facts { objects: 10_000, bytes: 12_000_000, watchers: 0 };
            fairness.enter(&UserInfo::new(user, &[]), &info, &query, facts, PATIENCE, &lane()).await.1
        })
    };
    let one = lists("one");
    settle().await;
    assert!(one.is_finished());
    assert_eq!(count(), None);
    let flood: Vec<_> = (0..20).map(|_| lists("flood")).collect();
    settle().await;
    assert!(!flood.iter().all(tokio::task::JoinHandle::is_finished));
    assert!(count() >= Some(1.0), "some seats are left, but not so many");
}

#[tokio::test(start_paused = true)]
async fn writes_are_counted_by_who_watches() {
    let (fairness, registry) = fairness(600);
    let facts = || Facts { watchers: 50, ..Facts::default() };
    for line in ["PUT /api/v1/namespaces/a/pods/b", "GET /api/v1/namespaces/a/pods/b", "PUT /x"] {
        let (info, query) = request(line);
        fairness.enter(&UserInfo::new("ann", &[]), &info, &query, facts, PATIENCE, &lane()).await.1.unwrap();
    }
    assert_eq!(
        counted(&registry, "apiserver_flowcontrol_watch_count_samples", &["global-default"]),
        Some(1.0)
    );
}
