//! Tests of logs: options, lines, files that grow and are rotated, and which run's log is meant.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateWaiting, ContainerStatus, PodStatus};
use proptest::prelude::*;
use skep_runtime::{FakeRuntime, Runtime, cri};
use tokio::sync::{mpsc, oneshot};

use super::file::LogFile;
use super::line::{Line, Render, parse};
use super::options::{LogOptions, Output};
use super::{follow, path_before, select};
use crate::route::query;
use crate::testing::{CONTAINER, Node, append, pod, run_container};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn query_of_each_option_is_read() {
    let now = time("2026-01-01T01:00:00Z");
    let read = |text| super::options(&query(Some(text)), now);
    let none = LogOptions::default();
    let cases = [
        ("", none.clone()),
        (
            "follow=true&previous=1&timestamps=true",
            LogOptions { follow: true, previous: true, timestamps: true, ..none.clone() },
        ),
        ("tailLines=0&limitBytes=7", LogOptions { tail: Some(0), limit: Some(7), ..none.clone() }),
        ("sinceSeconds=60", LogOptions { since: Some(time("2026-01-01T00:59:00Z")), ..none.clone() }),
        ("sinceSeconds=9223372036854775807", LogOptions { since: Some(Timestamp::MIN), ..none.clone() }),
        (
            "sinceTime=2026-01-01T02:00:00%2B02:00",
            LogOptions { since: Some(time("2026-01-01T00:00:00Z")), ..none.clone() },
        ),
        ("stream=Stderr", LogOptions { output: Some(Output::Stderr), ..none.clone() }),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), Ok(expected), "{text}");
    }
    for text in [
        "tailLines=-1",
        "tailLines=x",
        "limitBytes=0",
        "sinceSeconds=0",
        "sinceTime=yesterday",
        "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        "stream=stdin",
    ] {
        assert_eq!(read(text).unwrap_err().status, StatusCode::BAD_REQUEST, "{text}");
    }
}

#[test]
fn line_of_each_shape_is_read_or_left_out() {
    let line = |whole, message| {
        Some(Line { time: time("2026-01-01T00:00:00.25Z"), output: Output::Stdout, whole, message })
    };
    let cases: [(&[u8], _); 10] = [
        (b"2026-01-01T00:00:00.25Z stdout F a b", line(true, b"a b".as_slice())),
        (b"2026-01-01T01:00:00.250000000+01:00 stdout P part", line(false, b"part")),
        (b"2026-01-01T00:00:00.25Z stdout F:tag  \xff", line(true, b" \xff")),
        (b"2026-01-01T00:00:00.25Z stdout F ", line(true, b"")),
        (b"2026-01-01T00:00:00.25Z stdout F", line(true, b"")),
        (b"2026-01-01T00:00:00.25Z stdout X text", None),
        (b"2026-01-01T00:00:00.25Z stdin F text", None),
        (b"yesterday stdout F text", None),
        (b"", None),
        (b"{\"log\":\"of another format\"}", None),
    ];
    for (raw, expected) in cases {
        assert_eq!(parse(raw), expected, "{}", String::from_utf8_lossy(raw));
    }
}

const LOG: &str = "2026-01-01T00:00:00Z stdout F one\n\
    2026-01-01T00:00:01Z stderr P tw\n\
    2026-01-01T00:00:02Z stderr F o\n\
    broken\n\
    2026-01-01T00:00:03.5Z stdout F three\n";

fn render(options: &LogOptions, pieces: &[&[u8]]) -> String {
    let (mut render, mut out) = (Render::new(options), BytesMut::new());
    let mut flow = ControlFlow::Continue(());
    for piece in pieces {
        if flow.is_continue() {
            flow = render.push(piece, &mut out);
        }
    }
    if flow.is_continue() {
        render.finish(&mut out);
    }
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn lines_for_a_client_are_joined_chosen_and_cut() {
    let none = LogOptions::default();
    let since = Some(time("2026-01-01T00:00:03Z"));
    let cases = [
        (none.clone(), "one\ntwo\nthree\n"),
        (
            LogOptions { timestamps: true, ..none.clone() },
            "2026-01-01T00:00:00.000000000Z one\n2026-01-01T00:00:01.000000000Z two\n\
             2026-01-01T00:00:03.500000000Z three\n",
        ),
        (LogOptions { since, ..none.clone() }, "three\n"),
        (LogOptions { output: Some(Output::Stderr), ..none.clone() }, "two\n"),
        (LogOptions { limit: Some(6), ..none.clone() }, "one\ntw"),
        (LogOptions { limit: Some(8), ..none.clone() }, "one\ntwo\n"),
    ];
    for (options, expected) in cases {
        assert_eq!(render(&options, &[LOG.as_bytes()]), expected, "{options:?}");
    }
}

#[test]
fn line_without_its_end_is_shown_when_the_log_ends() {
    assert_eq!(render(&LogOptions::default(), &[b"2026-01-01T00:00:00Z stdout F cut"]), "cut\n");
}

#[test]
fn line_beyond_bounds_is_left_out() {
    let long = vec![b'x'; 900 << 10];
    let pieces: [&[u8]; 5] =
        [b"2026-01-01T00:00:00Z stdout F ", &long, &long, b"end\n", b"2026-01-01T00:00:00Z stdout F next\n"];
    assert_eq!(render(&LogOptions::default(), &pieces), "next\n");
}

proptest! {
    #[test]
    fn lines_cut_anywhere_render_the_same(at in 0..LOG.len(), second in 0..LOG.len()) {
        let (from, to) = (at.min(second), at.max(second));
        let log = LOG.as_bytes();
        prop_assert_eq!(
            render(&LogOptions::default(), &[&log[..from], &log[from..to], &log[to..]]),
            "one\ntwo\nthree\n"
        );
    }

    #[test]
    fn line_of_any_bytes_is_read_or_left_out(raw in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&raw);
    }
}

async fn tail(content: &str, lines: u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.log");
    std::fs::write(&path, content).unwrap();
    let mut file = LogFile::open(&path).await.unwrap();
    file.seek_tail(lines).await.unwrap();
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match file.read(&mut buffer).await.unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            read => text.extend_from_slice(&buffer[..read]),
        }
    }
}

#[tokio::test]
async fn tail_begins_at_a_line() {
    for (content, lines, expected) in [
        ("a\nb\nc\n", 0, ""),
        ("a\nb\nc\n", 1, "c\n"),
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc\n", 3, "a\nb\nc\n"),
        ("a\nb\nc\n", 9, "a\nb\nc\n"),
        ("a\nb", 1, "b"),
        ("\n\n", 1, "\n"),
        ("", 5, ""),
    ] {
        assert_eq!(tail(content, lines).await, expected, "{lines} of {content:?}");
    }
    // More than one block back.
    let line = format!("{}\n", "x".repeat(999));
    assert_eq!(tail(&line.repeat(200), 100).await, line.repeat(100));
}

/// A log that is followed in a task: its pieces, and how to say that the container has ended.
struct Following {
    pieces: mpsc::Receiver<bytes::Bytes>,
    end: oneshot::Sender<()>,
}

async fn follow(path: &Path, options: LogOptions) -> Following {
    let file = LogFile::open(path).await.unwrap();
    let (sender, pieces) = mpsc::channel(8);
    let (end, ended) = oneshot::channel();
    let ending = async {
        let _ = ended.await;
    };
    tokio::spawn(follow::copy(file, LogOptions { follow: true, ..options }, ending, sender));
    Following { pieces, end }
}

impl Following {
    /// Waits for exactly this text.
    async fn expect(&mut self, text: &str) {
        let mut seen = Vec::new();
        while seen.len() < text.len() {
            seen.extend_from_slice(&self.pieces.recv().await.expect("the log goes on"));
        }
        assert_eq!(String::from_utf8(seen).unwrap(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn followed_log_grows_is_rotated_and_ends_with_the_container() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.log");
    let line = |text: &str| format!("2026-01-01T00:00:00Z stdout F {text}\n");
    append(&path, &line("old"));
    append(&path, &line("one"));
    let mut following = follow(&path, LogOptions { tail: Some(1), ..Default::default() }).await;
    following.expect("one\n").await;
    append(&path, &line("two"));
    following.expect("two\n").await;
    // The runtime writes to the file that was moved away until it has opened the new one.
    let moved = folder.path().join("0.log.20260101-000000");
    std::fs::rename(&path, &moved).unwrap();
    append(&moved, &line("three"));
    following.expect("three\n").await;
    append(&path, &line("four"));
    following.expect("four\n").await;
    // Twice between two looks, the reader being slow.
    std::fs::rename(&path, folder.path().join("0.log.20260101-000100")).unwrap();
    append(&folder.path().join("0.log.20260101-000200"), &line("five"));
    append(&path, &line("six"));
    following.expect("five\nsix\n").await;
    append(&path, &line("last"));
    following.end.send(()).unwrap();
    assert_eq!(following.pieces.recv().await.unwrap(), "last\n");
    assert_eq!(following.pieces.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn followed_log_without_a_reader_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.log");
    append(&path, "");
    let following = follow(&path, LogOptions::default()).await;
    drop(following.pieces);
    let mut end = following.end;
    // The task drops what it waits for.
    end.closed().await;
}

#[tokio::test(start_paused = true)]
async fn end_of_a_container_is_noticed_by_its_event() {
    let runtime = FakeRuntime::default();
    runtime.add_image("image");
    let sandbox = runtime.run_sandbox(cri::PodSandboxConfig::default(), "").await.unwrap();
    let id = run_container(&runtime, &sandbox, 0).await;
    let waiting = tokio::spawn(super::ending::wait(Arc::new(runtime.clone()), id.clone()));
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    assert!(!waiting.is_finished());
    let before = tokio::time::Instant::now();
    runtime.exit(&id, 0);
    waiting.await.unwrap();
    assert!(before.elapsed() < std::time::Duration::from_millis(100), "{:?}", before.elapsed());
}

#[test]
fn path_of_the_run_before_is_counted_back() {
    let before = |path: &str| path_before(Path::new(path)).map(|path| path.display().to_string());
    assert_eq!(before("/l/12.log"), Some("/l/11.log".into()));
    assert_eq!(before("/l/0.log"), None);
    assert_eq!(before("/l/other.log"), None);
}

#[tokio::test]
async fn previous_run_is_the_one_before_the_latest() {
    let node = Node::start().await;
    let folder = node.log_folder();
    let runtime = &node.runtime;
    let sandbox = runtime.sandboxes(None).await.unwrap()[0].id.clone();
    let chosen = async |pod: &k8s_openapi::api::core::v1::Pod, previous| {
        let run = select(runtime, node.folder.path(), pod, CONTAINER, previous).await;
        run.map(|run| run.path.file_name().unwrap().to_str().unwrap().to_owned())
            .map_err(|error| error.status)
    };
    let plain = pod();
    assert_eq!(chosen(&plain, false).await, Ok("0.log".into()));
    assert_eq!(chosen(&plain, true).await, Err(StatusCode::BAD_REQUEST));
    runtime.exit(&node.container, 1);
    // Waiting for its next run, the one that has ended is both.
    let mut waiting = pod();
    let state = ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some("CrashLoopBackOff".into()), message: None }),
        ..Default::default()
    };
    let status = ContainerStatus { name: CONTAINER.into(), state: Some(state), ..Default::default() };
    waiting.status = Some(PodStatus { container_statuses: Some(vec![status]), ..Default::default() });
    assert_eq!(chosen(&waiting, true).await, Ok("0.log".into()));
    let second = run_container(runtime, &sandbox, 1).await;
    assert_eq!(chosen(&plain, false).await, Ok("1.log".into()));
    assert_eq!(chosen(&plain, true).await, Ok("0.log".into()));
    // Forgotten by the runtime: what matters is whether the file is there.
    runtime.remove_container(&node.container).await.unwrap();
    assert_eq!(chosen(&plain, true).await, Err(StatusCode::BAD_REQUEST));
    let run = async |previous| {
        select(runtime, folder.parent().unwrap().parent().unwrap(), &plain, CONTAINER, previous).await
    };
    append(&folder.join("0.log"), "");
    assert!(run(true).await.unwrap().id.is_none());
    assert_eq!(run(false).await.unwrap().id, Some(second));
}
