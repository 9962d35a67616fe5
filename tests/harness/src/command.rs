//! Runs programs to their end and turns a failure into one readable error.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `program` with `arguments`; returns what it printed. The error holds the command line and what it said.
pub fn run<S: AsRef<str>>(program: &str, arguments: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments.iter().map(AsRef::as_ref));
    output(&mut command)
}

/// Runs a command line that contains no quoting, split at white space.
pub fn run_line(line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (program, arguments) = words.split_first().context("empty command line")?;
    run(program, arguments)
}

/// Runs a prepared command without input; returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = if said.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { said };
        bail!("`{line}` failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as a person would type it.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_failing_program_names_command_and_message() {
        let error = run("sh", &["-c", "echo broken >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("broken"), "{error}");
    }

    #[test]
    fn run_line_splits_words() {
        assert_eq!(run_line("echo one   two").unwrap(), "one two\n");
    }
}
