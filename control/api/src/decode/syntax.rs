//! What is wrong with a text that is no JSON, in the words of Go's scanner (`encoding/json`), which upstream's answers have.
//!
//! Reads only texts that another reader has refused, so that it need not be quick.

/// Containers nest at most so deep for Go.
const DEPTH: usize = 10_000;

/// What the scanner stumbles over first; nothing in a text that it takes.
pub(super) fn error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0, open: Vec::new() };
    scanner.whole().err()
}

/// The text with the character that stands for none where it has bytes that are no UTF-8, or halves of characters that are
/// alone; nothing if it has neither.
pub(super) fn mended(text: &[u8]) -> Option<Vec<u8>> {
    let whole = String::from_utf8_lossy(text);
    let mut out = String::with_capacity(whole.len());
    let mut rest = &whole[..];
    let half = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (high, low) = (half(rest), rest.get(6..).and_then(half));
        let is_pair = low.is_some_and(|low| (0xdc00..0xe000).contains(&low));
        let length = match high {
            Some(0xd800..0xdc00) if is_pair => 12,
            Some(0xd800..0xe000) => {
                out.push(char::REPLACEMENT_CHARACTER);
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
            None => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out.push_str(rest);
    (out.as_bytes() != text).then(|| out.into_bytes())
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// The brackets that are open.
    open: Vec<u8>,
}

type Step = Result<(), String>;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte is none of those that may stand here.
    fn unexpected(&self, place: &str) -> String {
        // At its end Go looks whether a space would do.
        let in_a_word = ["in literal", "numeric literal", "escape"].iter().any(|part| place.contains(part));
        match self.peek() {
            None if in_a_word => format!("invalid character ' ' {place}"),
            None => "unexpected end of JSON input".to_owned(),
            Some(byte) => format!("invalid character {} {place}", quoted(byte)),
        }
    }

    fn expect(&mut self, wanted: impl Fn(u8) -> bool, place: &str) -> Step {
        match self.peek() {
            Some(byte) if wanted(byte) => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.unexpected(place)),
        }
    }

    fn whole(&mut self) -> Step {
        self.value()?;
        self.skip_space();
        while let Some(open) = self.open.last().copied() {
            self.between(open)?;
            self.skip_space();
        }
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }

    /// What follows a value within these brackets: their end, or another value.
    fn between(&mut self, open: u8) -> Step {
        let (end, place) = match open {
            b'{' => (b'}', "after object key:value pair"),
            _ => (b']', "after array element"),
        };
        if self.peek() == Some(end) {
            self.at += 1;
            self.open.pop();
            return Ok(());
        }
        self.expect(|byte| byte == b',', place)?;
        self.skip_space();
        if open == b'{' {
            self.key()?;
        }
        self.value()
    }

    fn key(&mut self) -> Step {
        self.expect(|byte| byte == b'"', "looking for beginning of object key string")?;
        self.string()?;
        self.skip_space();
        self.expect(|byte| byte == b':', "after object key")
    }

    /// A value, or the beginning of one that has values in it, up to the end of the first of them.
    fn value(&mut self) -> Step {
        loop {
            self.skip_space();
            let place = "looking for beginning of value";
            let Some(byte) = self.peek() else { return Err(self.unexpected(place)) };
            match byte {
                b'{' | b'[' => {
                    self.at += 1;
                    self.open.push(byte);
                    if self.open.len() > DEPTH {
                        return Err("exceeded max depth".to_owned());
                    }
                    self.skip_space();
                    if self.peek() == Some(if byte == b'{' { b'}' } else { b']' }) {
                        self.at += 1;
                        self.open.pop();
                        return Ok(());
                    }
                    if byte == b'{' {
                        self.key()?;
                    }
                }
                b'"' => {
                    self.at += 1;
                    return self.string();
                }
                b't' => return self.word("true"),
                b'f' => return self.word("false"),
                b'n' => return self.word("null"),
                b'-' | b'0'..=b'9' => return self.number(),
                _ => return Err(self.unexpected(place)),
            }
        }
    }

    fn word(&mut self, word: &str) -> Step {
        self.at += 1;
        for wanted in word.bytes().skip(1) {
            let place = format!("in literal {word} (expecting {})", quoted(wanted));
            self.expect(|byte| byte == wanted, &place)?;
        }
        Ok(())
    }

    /// The rest of a text whose first quote was read.
    fn string(&mut self) -> Step {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escape = self.peek();
                    self.expect(|byte| b"bfnrt\\/\"u".contains(&byte), "in string escape code")?;
                    for _ in 0..if escape == Some(b'u') { 4 } else { 0 } {
                        let place = "in \\u hexadecimal character escape";
                        self.expect(|byte| byte.is_ascii_hexdigit(), place)?;
                    }
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Step {
        let is_digit = |byte: u8| byte.is_ascii_digit();
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.peek();
        self.expect(is_digit, "in numeric literal")?;
        if first != Some(b'0') {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.expect(is_digit, "after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.expect(is_digit, "in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }
}

/// A byte as Go quotes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_json_is_refused_in_gos_words() {
        let cases: [(&[u8], &str); 24] = [
            (b"", "unexpected end of JSON input"),
            (b"{", "unexpected end of JSON input"),
            (b"{\"a", "unexpected end of JSON input"),
            (b"nul", "invalid character ' ' in literal null (expecting 'l')"),
            (b"x", "invalid character 'x' looking for beginning of value"),
            (b"[1,]", "invalid character ']' looking for beginning of value"),
            (b"{a:1}", "invalid character 'a' looking for beginning of object key string"),
            (b"{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            (b"{\"a\"1}", "invalid character '1' after object key"),
            (b"{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            (b"[1 2]", "invalid character '2' after array element"),
            (b"[[1] [2]]", "invalid character '[' after array element"),
            (b"{} x", "invalid character 'x' after top-level value"),
            (b"01", "invalid character '1' after top-level value"),
            (b"trux", "invalid character 'x' in literal true (expecting 'e')"),
            (b"-x", "invalid character 'x' in numeric literal"),
            (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
            (b"1e+", "invalid character ' ' in exponent of numeric literal"),
            (b"1e+-", "invalid character '-' in exponent of numeric literal"),
            (b"\"\n\"", r"invalid character '\n' in string literal"),
            (b"\"\\x\"", "invalid character 'x' in string escape code"),
            (b"\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape"),
            (b"\x01", r"invalid character '\x01' looking for beginning of value"),
            (b"\xff", "invalid character 'ÿ' looking for beginning of value"),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text).as_deref(), Some(expected), "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(error(&vec![b'['; DEPTH + 1]).as_deref(), Some("exceeded max depth"));
    }

    #[test]
    fn text_with_characters_that_are_none_is_mended() {
        let mend = |text: &[u8]| mended(text).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(mend(br#"{"a":"\ud800"}"#).as_deref(), Some("{\"a\":\"\u{fffd}\"}"));
        assert_eq!(mend(br#""\udc00\u0041\\ud800""#).as_deref(), Some("\"\u{fffd}\\u0041\\\\ud800\""));
        assert_eq!(mend(b"\"\xff\"").as_deref(), Some("\"\u{fffd}\""));
        assert_eq!(mend(br#""\ud83d\ude00 \n""#), None);
        assert_eq!(mend(b"\"\\"), None);
    }

    #[test]
    fn text_that_is_json_is_taken() {
        for text in
            ["{}", " [ ] ", "{\"a\":[{\"b\":{}},-0.5e-7,null,true,\"\\u0041\\n\"]}\n", "0", "[[],[[]]]"]
        {
            assert_eq!(error(text.as_bytes()), None, "{text}");
        }
    }
}
