//! The content type that Go's `http.DetectContentType` gives to bytes, for the kinds of content
//! that a data directory holds. It is the WHATWG sniffing algorithm on the first 512 bytes.

/// Bytes that decide.
const SNIFFED: usize = 512;

/// Tags that make a text HTML when a blank or `>` follows.
const TAGS: [&str; 17] = [
    "<!DOCTYPE HTML",
    "<HTML",
    "<HEAD",
    "<SCRIPT",
    "<IFRAME",
    "<H1",
    "<DIV",
    "<FONT",
    "<TABLE",
    "<A",
    "<STYLE",
    "<TITLE",
    "<B",
    "<BODY",
    "<BR",
    "<P",
    "<!--",
];

/// Signatures at the very start.
const SIGNATURES: [(&[u8], &str); 20] = [
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\xFE\xFF", "text/plain; charset=utf-16be"),
    (b"\xFF\xFE", "text/plain; charset=utf-16le"),
    (b"\xEF\xBB\xBF", "text/plain; charset=utf-8"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\x0D\x0A\x1A\x0A", "image/png"),
    (b"\xFF\xD8\xFF", "image/jpeg"),
    (b"OggS\x00", "application/ogg"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"ID3", "audio/mpeg"),
    (b"\x1A\x45\xDF\xA3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1A\x07\x00", "application/x-rar-compressed"),
    (b"\x1F\x8B\x08", "application/x-gzip"),
    (b"\x00asm", "application/wasm"),
];

/// The content type of these bytes.
pub(crate) fn content_type(bytes: &[u8]) -> &'static str {
    let bytes = bytes.get(..SNIFFED).unwrap_or(bytes);
    let start = bytes
        .iter()
        .position(|byte| !is_blank(*byte))
        .unwrap_or(bytes.len());
    let text = bytes.get(start..).unwrap_or_default();
    if TAGS.iter().any(|tag| starts_with_tag(text, tag)) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, found)) = SIGNATURES
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
    {
        return found;
    }
    if text.iter().copied().any(is_binary) {
        "application/octet-stream"
    } else {
        super::reply::PLAIN
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0C | b'\r' | b' ')
}

/// Bytes that no text holds.
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0x00..=0x08 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1F)
}

fn starts_with_tag(text: &[u8], tag: &str) -> bool {
    let Some((head, rest)) = text.split_at_checked(tag.len()) else {
        return false;
    };
    head.eq_ignore_ascii_case(tag.as_bytes()) && matches!(rest.first(), Some(b' ' | b'>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_of_go() {
        for (bytes, wanted) in [
            (&b""[..], "text/plain; charset=utf-8"),
            (b"#!ipxe\n", "text/plain; charset=utf-8"),
            (b" \n<a href=x>", "text/html; charset=utf-8"),
            (b"<b>", "text/html; charset=utf-8"),
            (b"<bold>", "text/plain; charset=utf-8"),
            (b"<!-- x", "text/html; charset=utf-8"),
            (b"<?xml version", "text/xml; charset=utf-8"),
            (b"a\x00b", "application/octet-stream"),
            (b"\x1F\x8B\x08x", "application/x-gzip"),
            (b"PK\x03\x04", "application/zip"),
            (b"\xC3\xA4", "text/plain; charset=utf-8"),
            (b"\x1B[0m", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(content_type(bytes), wanted, "{bytes:?}");
        }
    }
}
