//! Links in what a proxied backend answers, made to lead through the proxy again.
//!
//! A page at `.../proxy/` that links to `/a` means its own server's `/a`, which a browser would look for at the API
//! server's. Owns which links are rewritten, in HTML and in `Location`, and to what (`proxy.Transport` of Kubernetes'
//! apimachinery). Does not look into scripts and style sheets, nor do other proxies of this kind.

use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder};
use html5gum::{DefaultEmitter, Span, StartTag, Token, Tokenizer};

/// The attributes that hold addresses (HTML 4.01, index of attributes, and HTML 5), by element.
const LINKS: [(&[u8], &[&[u8]]); 25] = [
    (b"a", &[b"href"]),
    (b"applet", &[b"codebase"]),
    (b"area", &[b"href"]),
    (b"audio", &[b"src"]),
    (b"base", &[b"href"]),
    (b"blockquote", &[b"cite"]),
    (b"body", &[b"background"]),
    (b"button", &[b"formaction"]),
    (b"command", &[b"icon"]),
    (b"del", &[b"cite"]),
    (b"embed", &[b"src"]),
    (b"form", &[b"action"]),
    (b"frame", &[b"longdesc", b"src"]),
    (b"head", &[b"profile"]),
    (b"html", &[b"manifest"]),
    (b"iframe", &[b"longdesc", b"src"]),
    (b"img", &[b"longdesc", b"src", b"usemap"]),
    (b"input", &[b"src", b"usemap", b"formaction"]),
    (b"ins", &[b"cite"]),
    (b"link", &[b"href"]),
    (b"object", &[b"classid", b"codebase", b"data", b"usemap"]),
    (b"q", &[b"cite"]),
    (b"script", &[b"src"]),
    (b"source", &[b"src"]),
    (b"video", &[b"poster", b"src"]),
];

/// Where a proxied answer comes from, and where the client found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// `host:port` of the backend.
    pub(super) backend: String,
    /// The host that the client asked, as it wrote it.
    pub(super) asked: String,
    /// The path of the proxy, up to and without the slash that the backend's own paths start with.
    pub(super) prefix: String,
}

impl Origin {
    /// A link on a page of the backend as the client must see it; `None` where it stays as it is.
    pub(super) fn rewrite(&self, link: &str) -> Option<String> {
        let Reference { start, host, path } = Reference::parse(link);
        let elsewhere = !host.is_empty() && host != self.backend && host != self.asked;
        if elsewhere || !path.starts_with('/') {
            return None;
        }
        // The client's own name for this server stays in front; the backend's is nothing that the client can reach.
        let start = if host == self.asked { start } else { "" };
        let prefix = if path.starts_with(&self.prefix) { "" } else { &self.prefix };
        let rewritten = format!("{start}{prefix}{path}");
        (rewritten != link).then_some(rewritten)
    }

    /// A page with its links rewritten. What is not a link stays byte for byte.
    pub(super) fn rewrite_page(&self, page: &[u8]) -> Vec<u8> {
        let mut emitter = DefaultEmitter::<usize>::new_with_span();
        // What stands in scripts and titles is text, not tags.
        emitter.naively_switch_states(true);
        let mut rewritten = Vec::with_capacity(page.len() + page.len() / 8);
        let mut copied = 0;
        for token in Tokenizer::new_with_emitter(page, emitter) {
            let Ok(Token::StartTag(tag)) = token else { continue };
            let Some(text) = self.rewrite_tag(&tag) else { continue };
            let Span { start, end } = tag.span;
            let (Some(before), true) = (page.get(copied..start), end <= page.len()) else { continue };
            rewritten.extend_from_slice(before);
            rewritten.extend_from_slice(&text);
            copied = end;
        }
        rewritten.extend_from_slice(page.get(copied..).unwrap_or_default());
        rewritten
    }

    /// The tag written anew, if one of its links changes.
    fn rewrite_tag(&self, tag: &StartTag<usize>) -> Option<Vec<u8>> {
        let (_, links) = LINKS.iter().find(|(name, _)| *name == tag.name.as_slice())?;
        let mut text = [b"<", tag.name.as_slice()].concat();
        let mut changed = false;
        for (name, value) in &tag.attributes {
            let link = links.contains(&name.as_slice()).then(|| std::str::from_utf8(value).ok()).flatten();
            let new = link.and_then(|link| self.rewrite(link));
            changed |= new.is_some();
            text.push(b' ');
            text.extend_from_slice(name);
            text.extend_from_slice(b"=\"");
            escape(new.as_ref().map_or(value.as_slice(), |new| new.as_bytes()), &mut text);
            text.push(b'"');
        }
        text.extend_from_slice(if tag.self_closing { b"/>" } else { b">" });
        changed.then_some(text)
    }
}

/// A page out of its content encoding: as it was, or decoded. `None` when the encoding is not known, the page is not in
/// it, or more than `limit` bytes come out.
pub(super) fn decode(page: &[u8], encoding: &str, limit: u64) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let read = match encoding {
        "" | "identity" => return Some(page.to_vec()),
        "gzip" => GzDecoder::new(page).take(limit + 1).read_to_end(&mut decoded),
        "deflate" => DeflateDecoder::new(page).take(limit + 1).read_to_end(&mut decoded),
        _ => return None,
    };
    (read.is_ok() && decoded.len() as u64 <= limit).then_some(decoded)
}

/// What stands between quotes (HTML, 13.1.2.3).
fn escape(value: &[u8], text: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'&' => text.extend_from_slice(b"&amp;"),
            b'"' => text.extend_from_slice(b"&#34;"),
            b'<' => text.extend_from_slice(b"&lt;"),
            b'>' => text.extend_from_slice(b"&gt;"),
            other => text.push(*other),
        }
    }
}

/// The parts of a reference (RFC 3986, appendix B) that matter here.
struct Reference<'a> {
    /// Scheme and authority as written, `http://host:1`.
    start: &'a str,
    /// The host with its port, empty when the reference names none.
    host: &'a str,
    /// The rest: path, query, fragment.
    path: &'a str,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Self {
        let colon = text.find([':', '/', '?', '#']).filter(|at| text.as_bytes()[*at] == b':');
        let behind_scheme = colon.map_or(0, |at| at + 1);
        let Some(authority) = text[behind_scheme..].strip_prefix("//") else {
            return Self { start: &text[..behind_scheme], host: "", path: &text[behind_scheme..] };
        };
        let from = text.len() - authority.len();
        let to = from + authority.find(['/', '?', '#']).unwrap_or(authority.len());
        let host = text[from..to].rsplit_once('@').map_or(&text[from..to], |(_, host)| host);
        Self { start: &text[..to], host, path: &text[to..] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/api/v1/namespaces/shop/pods/web/proxy";

    fn origin() -> Origin {
        Origin { backend: "10.0.0.9:80".into(), asked: "api:6443".into(), prefix: PREFIX.into() }
    }

    #[test]
    fn link_rewrite_table() {
        let table = [
            ("/a", Some(format!("{PREFIX}/a"))),
            ("/", Some(format!("{PREFIX}/"))),
            ("/a?x=/b#c", Some(format!("{PREFIX}/a?x=/b#c"))),
            ("http://10.0.0.9:80/a", Some(format!("{PREFIX}/a"))),
            ("//10.0.0.9:80/a/", Some(format!("{PREFIX}/a/"))),
            ("https://api:6443/a", Some(format!("https://api:6443{PREFIX}/a"))),
            ("https://u@api:6443/a", Some(format!("https://u@api:6443{PREFIX}/a"))),
            ("https://elsewhere/a", None),
            ("a/b", None),
            ("", None),
            ("#top", None),
            ("?page=2", None),
            ("mailto:a@b", None),
            ("http://10.0.0.9:80", None),
            ("x/y:z//10.0.0.9:80/a", None),
        ];
        for (link, expected) in table {
            assert_eq!(origin().rewrite(link), expected, "{link}");
        }
        let inside = format!("{PREFIX}/a");
        assert_eq!(origin().rewrite(&inside), None);
        assert_eq!(origin().rewrite(&format!("http://10.0.0.9:80{inside}")), Some(inside));
    }

    #[track_caller]
    fn check(page: &str, expected: &str) {
        let rewritten = origin().rewrite_page(page.as_bytes());
        assert_eq!(String::from_utf8(rewritten).unwrap(), expected.replace("PREFIX", PREFIX));
    }

    #[test]
    fn page_links_are_rewritten_and_nothing_else() {
        check("<a href=\"/rewriteme\">test</a>", "<a href=\"PREFIX/rewriteme\">test</a>");
        check("<A HREF=/x>t</A >", "<a href=\"PREFIX/x\">t</A >");
        check("<img alt='\"&' src='/x?a=1&amp;b'/>", "<img alt=\"&#34;&amp;\" src=\"PREFIX/x?a=1&amp;b\"/>");
        for same in [
            "<a href='x' >t</a><p  title=/x>",
            "<script>var a = '<a href=\"/x\">';</script>",
            "<!-- <a href=\"/x\"> --> a < b && c",
            "<a href=\"/unfinished",
            "\u{fc}<<>&nope;",
        ] {
            check(same, same);
        }
        check(
            "<p>\u{e4}</p><a href='/1'>1</a> <a href='/2'>2</a>!",
            "<p>\u{e4}</p><a href=\"PREFIX/1\">1</a> <a href=\"PREFIX/2\">2</a>!",
        );
    }

    #[test]
    fn decode_encodings_and_limits() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&[b'a'; 1000]).unwrap();
        let packed = gzip.finish().unwrap();
        assert_eq!(decode(&packed, "gzip", 1000), Some(vec![b'a'; 1000]));
        assert_eq!(decode(&packed, "gzip", 999), None);
        assert_eq!(decode(&packed[..9], "gzip", 1000), None);
        assert_eq!(decode(b"x", "", 0), Some(b"x".to_vec()));
        assert_eq!(decode(b"x", "br", 9), None);
    }
}
