//! Errors of expressions as upstream's compiler shows them: each with its place, the line, and a caret below it.

/// Errors at offsets (bytes) in the source; where one is, may not be known.
pub(super) fn at_offsets(source: &str, errors: Vec<(Option<usize>, String)>) -> String {
    let place = |offset: usize| {
        let before = source.get(..offset).unwrap_or(source);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    };
    let located = errors.into_iter().map(|(offset, why)| {
        let (line, column) = place(offset.unwrap_or(0));
        (line, column, why)
    });
    at_places(source, located.collect())
}

/// Errors at lines and columns, both from 1.
pub(super) fn at_places(source: &str, mut errors: Vec<(usize, usize, String)>) -> String {
    errors.sort_by_key(|(line, column, _)| (*line, *column));
    errors.dedup();
    let lines: Vec<String> =
        errors.iter().map(|(line, column, why)| one(source, *line, *column, why)).collect();
    lines.join("\n")
}

fn one(source: &str, line: usize, column: usize, why: &str) -> String {
    let mut text = format!("ERROR: <input>:{line}:{column}: {why}");
    let Some(shown) = source.split('\n').nth(line.saturating_sub(1)) else { return text };
    let shown = shown.replace('\t', " ");
    let mut letters = shown.chars();
    let wide = |letter: char| letter.len_utf8() > 1;
    let dots: String = letters
        .by_ref()
        .take(column.saturating_sub(1))
        .map(|letter| if wide(letter) { '\u{ff0e}' } else { '.' })
        .collect();
    let caret = if letters.next().is_some_and(wide) { '\u{ff3e}' } else { '^' };
    text.push_str(&format!("\n | {shown}\n | {dots}{caret}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_shown_in_its_line() {
        let shown = at_offsets("true\n&& x", vec![(Some(8), "undeclared".into())]);
        assert_eq!(shown, "ERROR: <input>:2:4: undeclared\n | && x\n | ...^");
        let wide = at_offsets("\"\u{e9}\" == z", vec![(Some(8), "undeclared".into())]);
        assert_eq!(wide, "ERROR: <input>:1:8: undeclared\n | \"\u{e9}\" == z\n | .\u{ff0e}.....^");
    }

    #[test]
    fn errors_are_told_in_the_order_of_their_places() {
        let shown = at_offsets("a-b", vec![(Some(2), "y".into()), (Some(0), "x".into())]);
        assert_eq!(shown, "ERROR: <input>:1:1: x\n | a-b\n | ^\nERROR: <input>:1:3: y\n | a-b\n | ..^");
    }
}
