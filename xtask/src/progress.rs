//! Shows the steps of a long command: a moving line on a terminal, one plain line per finished step elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// What a step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had to do something; what, in a few words, or nothing to add.
    Done(String),
    /// It only made sure; what it has to say.
    Checked(String),
    /// All was as it should be.
    Already,
}

impl From<bool> for Outcome {
    fn from(changed: bool) -> Self {
        if changed { Self::Done(String::new()) } else { Self::Already }
    }
}

/// The steps so far.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    changed: usize,
    terminal: bool,
}

impl Progress {
    /// Starts the clock.
    pub fn new() -> Self {
        Self { started: Instant::now(), changed: 0, terminal: std::io::stderr().is_terminal() }
    }

    /// Runs one step, shows it while it runs, and prints how long it took.
    pub fn step<T: Into<Outcome>>(&mut self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<()> {
        let begin = Instant::now();
        let bar = self.terminal.then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is valid");
            let bar = ProgressBar::new_spinner().with_style(style).with_message(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let result = work();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let outcome =
            result.with_context(|| format!("{title}: failed after {}", seconds(begin.elapsed())))?.into();
        let note = match outcome {
            Outcome::Already => "already there".to_owned(),
            Outcome::Checked(note) => note,
            Outcome::Done(note) => {
                self.changed += 1;
                note
            }
        };
        println!("{:>8}  {title}{}{note}", seconds(begin.elapsed()), if note.is_empty() { "" } else { ": " });
        Ok(())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> String {
        seconds(self.started.elapsed())
    }

    /// How many steps had to do something.
    pub fn changed(&self) -> usize {
        self.changed
    }
}

/// A duration as `12.3 s`.
fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_counts_only_what_changed() {
        let mut progress = Progress::new();
        progress.step("one", || Ok(false)).unwrap();
        progress.step("two", || Ok(true)).unwrap();
        assert_eq!(progress.changed(), 1);
    }

    #[test]
    fn step_failure_names_the_step() {
        let error = Progress::new().step::<bool>("three", || anyhow::bail!("no")).unwrap_err();
        assert!(format!("{error:#}").starts_with("three: failed"), "{error:#}");
    }
}
