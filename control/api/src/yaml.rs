//! Values written as YAML, as it is read again: text that would be something else without quotes has some.

use serde_json::Value;

/// The text of a value.
///
/// # Errors
/// When it cannot be written, which no value of JSON is known for.
pub fn write(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode::{Encoding, parse};

    #[test]
    fn text_is_read_again_as_what_was_written() {
        let texts = vec![
            "",
            " ",
            "a",
            "1",
            "1.5",
            "0o17",
            "0x1f",
            "1e3",
            "true",
            "no",
            "on",
            "y",
            "null",
            "~",
            "a: b",
            "- a",
            "#a",
            "a #b",
            "'a'",
            "\"a\"",
            "{",
            "[",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "2026-01-01T00:00:00Z",
            "a\nb\n",
            "\na",
            "a\n\n",
            "\ta",
            "a\u{7f}b",
            "\u{1f600}",
            "a\\b",
            ".inf",
            ".nan",
            "---",
            "=",
            "<<",
            "12:30:45",
            "0777",
        ];
        let mut value = json!({ "list": texts, "number": 1, "fraction": 0.5, "no": null, "empty": {}, "none": [], "yes": true });
        for (at, text) in texts.iter().enumerate() {
            value[format!("k{at}")] = json!(text);
            value["keys"][*text] = json!(at);
        }
        let written = write(&value).unwrap();
        let read = parse(written.as_bytes(), Encoding::Yaml).unwrap().value;
        assert_eq!(read, value, "{written}");
    }
}
