//! Who is next, on one thread: the runtime of a test polls one task at a time.

use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

fn turns(processors: u32) -> Turns {
    Turns { lines: Arc::new(Lines::new(processors)) }
}

fn lane(turns: &Turns, flow: u64) -> Lane {
    let lane = Lane::exempt(turns);
    lane.follow(flow);
    lane
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Takes a turn that lasts until it is ended.
fn busy(turns: &Turns) -> impl FnOnce() {
    let lines = turns.lines.clone();
    assert!(lines.take_or_wait(1, &place::Place::new(lane(turns, 1))));
    move || lines.end(Some(1), Duration::ZERO)
}

type Order = Arc<Mutex<Vec<&'static str>>>;

/// A task that says when it has its turn.
fn says(turns: &Turns, flow: u64, name: &'static str, order: &Order) -> JoinHandle<()> {
    let order = order.clone();
    tokio::spawn(InTurn::new(async move { order.lock().push(name) }, lane(turns, flow)))
}

#[tokio::test]
async fn turns_go_flow_by_flow() {
    let (turns, order) = (turns(1), Order::default());
    let end = busy(&turns);
    let mut all: Vec<_> = (0..10).map(|_| says(&turns, 7, "flood", &order)).collect();
    settle().await;
    all.push(says(&turns, 8, "quiet", &order));
    settle().await;
    assert!(order.lock().is_empty(), "there is one turn, and it is taken");
    end();
    for one in all {
        one.await.unwrap();
    }
    let at = order.lock().iter().position(|name| *name == "quiet").unwrap();
    assert_eq!(at, 1, "{at} of the other flow were before it");
}

#[tokio::test]
async fn who_is_woken_waits_for_one_turn_however_many_others_could_run() {
    let (turns, order) = (turns(1), Order::default());
    let (wake, woken) = oneshot::channel::<()>();
    let said = order.clone();
    let quiet = async move {
        woken.await.unwrap();
        said.lock().push("quiet");
    };
    let quiet = tokio::spawn(InTurn::new(quiet, lane(&turns, 8)));
    let flood: Vec<_> = (0..10)
        .map(|_| {
            let order = order.clone();
            let busy = async move {
                loop {
                    order.lock().push("flood");
                    tokio::task::yield_now().await;
                }
            };
            tokio::spawn(InTurn::new(busy, lane(&turns, 7)))
        })
        .collect();
    settle().await;
    let before = order.lock().len();
    assert!(before > 10, "they run again and again");
    wake.send(()).unwrap();
    quiet.await.unwrap();
    let at = order.lock().iter().position(|name| *name == "quiet").unwrap();
    assert!(at - before <= 2, "{} others were before it", at - before);
    flood.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn turns_are_never_more_than_processors_and_all_are_given_back() {
    let (turns, running) = (turns(2), Arc::new(Mutex::new((0, 0))));
    let all: Vec<_> = (0..20)
        .map(|n| {
            let running = running.clone();
            let work = async move {
                for _ in 0..50 {
                    {
                        let mut running = running.lock();
                        running.0 += 1;
                        running.1 = running.1.max(running.0);
                    }
                    std::thread::yield_now();
                    running.lock().0 -= 1;
                    tokio::task::yield_now().await;
                }
            };
            tokio::spawn(InTurn::new(work, lane(&turns, n % 3)))
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    assert!(running.lock().1 <= 2);
    let ends = [busy(&turns), busy(&turns)];
    ends.into_iter().for_each(|end| end());
}

#[tokio::test]
async fn turn_ends_when_the_task_waits() {
    let (turns, order) = (turns(1), Order::default());
    let (done, wait) = oneshot::channel::<()>();
    let waits = tokio::spawn(InTurn::new(wait, lane(&turns, 7)));
    settle().await;
    says(&turns, 8, "other", &order).await.unwrap();
    done.send(()).unwrap();
    waits.await.unwrap().unwrap();
}

#[tokio::test]
async fn turn_of_a_task_that_panics_is_over() {
    let (turns, order) = (turns(1), Order::default());
    let panics = InTurn::new(async { panic!("as it never should") }, lane(&turns, 7));
    assert!(tokio::spawn(panics).await.unwrap_err().is_panic());
    says(&turns, 8, "other", &order).await.unwrap();
}

#[tokio::test]
async fn who_leaves_is_passed_over() {
    let (turns, order) = (turns(1), Order::default());
    let end = busy(&turns);
    let leaves = says(&turns, 7, "gone", &order);
    settle().await;
    leaves.abort();
    settle().await;
    end();
    says(&turns, 8, "other", &order).await.unwrap();
    assert_eq!(*order.lock(), ["other"]);
}

#[tokio::test]
async fn who_leaves_when_called_gives_the_turn_on() {
    let (turns, order) = (turns(1), Order::default());
    let end = busy(&turns);
    let mut called = InTurn::new(std::future::pending::<()>(), lane(&turns, 7));
    assert!(futures::poll!(&mut called).is_pending());
    let next = says(&turns, 8, "next", &order);
    settle().await;
    end();
    settle().await;
    assert!(!next.is_finished(), "another one is called");
    drop(called);
    next.await.unwrap();
}

#[tokio::test]
async fn exempt_task_waits_for_nobody() {
    let (turns, order) = (turns(1), Order::default());
    let _busy = busy(&turns);
    let free = lane(&turns, 7);
    free.free();
    let order_of = order.clone();
    tokio::spawn(InTurn::new(async move { order_of.lock().push("free") }, free)).await.unwrap();
    assert_eq!(*order.lock(), ["free"]);
}

#[tokio::test]
async fn task_that_waits_when_its_flow_becomes_exempt_has_its_turn_all_the_same() {
    let turns = turns(1);
    let end = busy(&turns);
    let lane = lane(&turns, 7);
    let mut waits = InTurn::new(async {}, lane.clone());
    assert!(futures::poll!(&mut waits).is_pending());
    lane.free();
    assert!(futures::poll!(&mut waits).is_pending());
    end();
    assert!(futures::poll!(&mut waits).is_ready());
    // The turn was given back: another one can be taken.
    busy(&turns)();
}

#[tokio::test]
async fn long_computing_gives_way_to_the_other_flow() {
    let (turns, order) = (turns(1), Order::default());
    let (said, other) = (order.clone(), order.clone());
    let long = async move {
        let started = std::time::Instant::now();
        while said.lock().is_empty() {
            assert!(started.elapsed().as_secs() < 60, "it never gave way");
            pause().await;
        }
        said.lock().push("long");
    };
    let long = tokio::spawn(InTurn::new(long, lane(&turns, 7)));
    let short = InTurn::new(async move { other.lock().push("short") }, lane(&turns, 8));
    let short = tokio::spawn(short);
    long.await.unwrap();
    short.await.unwrap();
    assert_eq!(*order.lock(), ["short", "long"]);
}

#[tokio::test]
async fn first_writing_of_a_turn_always_goes() {
    let turns = turns(1);
    let mut polls = 0;
    let writes = std::future::poll_fn(|context| {
        polls += 1;
        while !gives_way(context) {}
        if gives_way_writing(context) {
            return Poll::Pending;
        }
        assert!(gives_way_writing(context), "the second one of a turn that is over does not");
        Poll::Ready(())
    });
    InTurn::new(writes, lane(&turns, 7)).await;
    assert_eq!(polls, 1);
}

#[tokio::test]
async fn nothing_gives_way_outside_of_turns() {
    let before = std::time::Instant::now();
    while before.elapsed().as_millis() < 1 {}
    assert!(futures::FutureExt::now_or_never(pause()).is_some());
}
