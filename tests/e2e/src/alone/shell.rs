//! Processes of a node: the socket hooks see only what is in the node's cgroup, which the test itself is not.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A connected process.
pub struct Shell {
    child: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    /// A process in that cgroup and namespace, connected to what bash calls `target`.
    pub(super) fn new(cgroup: &Path, namespace: &str, target: &str) -> Self {
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec nsenter --net=/run/netns/{namespace} bash -c '
            exec 3<>{target} || exit 1
            # One read for each answer: bash itself reads bytes, and loses the rest of a datagram.
            while read -r line; do echo \"$line\" >&3; timeout 5 dd bs=256 count=1 status=none <&3 || exit 1; done'",
            cgroup.display()
        );
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash starts");
        let input = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input, answers }
    }

    /// Sends a line; the answer, empty when there is none.
    pub fn ask(&mut self, line: &str) -> String {
        let mut answer = String::new();
        if self.input.write_all(format!("{line}\n").as_bytes()).is_ok() {
            self.answers.read_line(&mut answer).ok();
        }
        answer.trim().to_owned()
    }

    /// Whether it gets no answer within three seconds: packets that nobody takes are sent for minutes.
    pub fn fails(mut self) -> bool {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let (done, waiting) = std::sync::mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if waiting.recv_timeout(Duration::from_secs(3)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                kill(pid, Signal::SIGKILL).ok();
            }
        });
        let failed = self.ask("anyone").is_empty();
        drop(done);
        watchdog.join().expect("the watchdog ends");
        failed
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
