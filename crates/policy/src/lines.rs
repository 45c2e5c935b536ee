//! Where the lines of a head end: in CR LF, never in LF alone. RFC 9112 §2.2 lets a reader take a
//! bare LF for a line's end, and parser libraries do; who sits between two readers may not, or the
//! one behind sees another message than the one in front.
//!
//! Nor may the lines between the chunks of a body be longer or hold other things than such lines do
//! (RFC 9112 §7.1): parser libraries read sizes with any number of zeros or with blanks behind them, and
//! extensions of any octets. The lines of the trailer section end as a head's do.
//!
//! Where a request's body ends must be sure too (RFC 9112 §6.3): a length that cannot be read here is
//! one that a parser library may read all the same, and the next head would be taken for body.
//!
//! Looks over a parser's shoulder at bytes as they come, and keeps count of bodies only as far as is
//! needed to know where the next head begins.

/// A line is looked at no further than this; names and lengths that matter are shorter.
const LINE_BYTES_MAX: usize = 128;
/// The size of a chunk with its extensions is no longer.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// Follows the heads of one direction of a connection.
#[derive(Debug)]
pub struct Lines {
    of: Of,
    at: Place,
    /// The line so far, without its end.
    line: Vec<u8>,
    /// The line has a last octet that is CR.
    ends_in_cr: bool,
    head: Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Requests,
    Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    /// So many bytes of a request's body are to come.
    Body(u64),
    /// The line with the size of a chunk.
    Size(Size),
    /// So many bytes of a chunk and its end are to come.
    Chunk(u64),
    /// The lines after the last chunk; `is_empty`: nothing has come of the present one but its CR.
    Trailer {
        is_empty: bool,
    },
    /// What comes is no head, or no longer ours to tell.
    Elsewhere,
}

/// As far as a chunk's size has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    bytes: u64,
    read: usize,
    /// A blank has come, behind which an extension must begin.
    is_blank: bool,
    in_extension: bool,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    has_begun: bool,
    length: Option<u64>,
    /// It has a length that cannot be read, or two that differ.
    is_unclear: bool,
    /// No other head is to be found after it.
    is_last: bool,
    is_chunked: bool,
    is_interim: bool,
}

impl Lines {
    /// The requests of a connection, one after the other.
    pub fn of_requests() -> Self {
        Self::of(Of::Requests)
    }

    /// One answer, with the interim ones before it.
    pub fn of_answer() -> Self {
        Self::of(Of::Answer)
    }

    fn of(of: Of) -> Self {
        Self {
            of,
            at: Place::Head,
            line: Vec::new(),
            ends_in_cr: false,
            head: Head::default(),
        }
    }

    /// Looks at the next bytes. An LF that ends a line of a head alone becomes NUL, which no head
    /// may hold (RFC 9110 §5.5): whoever parses it refuses it. So does the one of a line with a length
    /// that cannot be read, and an octet of a chunk's size or extension that may not be there. True: a
    /// head or a trailer section was spoilt so, and what follows is no matter.
    pub fn mark(&mut self, mut bytes: &mut [u8]) -> bool {
        while !bytes.is_empty() {
            let was_lines = matches!(self.at, Place::Head | Place::Trailer { .. });
            let taken = match self.at {
                Place::Elsewhere => return false,
                Place::Body(left) => self.skip(left, bytes.len(), (Place::Body, Place::Head)),
                Place::Chunk(left) => {
                    let next = Place::Size(Size::default());
                    self.skip(left, bytes.len(), (Place::Chunk, next))
                }
                Place::Size(size) => self.read_size(size, bytes),
                Place::Trailer { is_empty } => self.read_trailer(is_empty, bytes),
                Place::Head => self.read(bytes),
            };
            let last = taken.checked_sub(1).and_then(|last| bytes.get(last));
            if was_lines && self.at == Place::Elsewhere && last == Some(&0) {
                return true;
            }
            bytes = bytes.get_mut(taken..).unwrap_or_default();
        }
        false
    }

    fn skip(&mut self, left: u64, there: usize, (on, over): (fn(u64) -> Place, Place)) -> usize {
        let taken = usize::try_from(left).map_or(there, |left| left.min(there));
        let left = left.saturating_sub(taken as u64);
        self.at = if left == 0 { over } else { on(left) };
        taken
    }

    /// Reads on in the line of a chunk's size, up to its end if that is there.
    fn read_size(&mut self, mut size: Size, bytes: &mut [u8]) -> usize {
        for (at, byte) in bytes.iter_mut().enumerate() {
            if *byte == b'\n' {
                // One that is bare the parser refuses.
                let is_bare = !std::mem::take(&mut self.ends_in_cr);
                self.at = match size.bytes.checked_add(2) {
                    Some(_) if size.bytes == 0 && !is_bare => Place::Trailer { is_empty: true },
                    Some(left) if !is_bare => Place::Chunk(left),
                    _ => Place::Elsewhere,
                };
                return at + 1;
            }
            self.ends_in_cr = *byte == b'\r';
            let goes_on = if self.ends_in_cr {
                !size.is_blank
            } else {
                size.takes(*byte)
            };
            if !goes_on {
                // Neither has its place there.
                *byte = if size.in_extension { b'\n' } else { 0 };
                self.at = Place::Elsewhere;
                return at + 1;
            }
        }
        self.at = Place::Size(size);
        bytes.len()
    }

    /// Reads on in the lines after the last chunk, up to the end of the last or of the first that spoils
    /// them. What comes behind them is no head: a connection has no request after a chunked one.
    fn read_trailer(&mut self, mut is_empty: bool, bytes: &mut [u8]) -> usize {
        for (at, byte) in bytes.iter_mut().enumerate() {
            if *byte == b'\n' {
                let is_bare = !std::mem::take(&mut self.ends_in_cr);
                if is_bare {
                    *byte = 0;
                }
                if is_bare || is_empty {
                    self.at = Place::Elsewhere;
                    return at + 1;
                }
                is_empty = true;
            } else {
                self.ends_in_cr = *byte == b'\r';
                is_empty &= self.ends_in_cr;
            }
        }
        self.at = Place::Trailer { is_empty };
        bytes.len()
    }

    /// Reads on in a head, up to its end if that is there.
    fn read(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some(line) = bytes.get(at..).and_then(before_feed) {
            self.keep(line);
            at += line.len() + 1;
            let is_bare = !std::mem::take(&mut self.ends_in_cr);
            if !is_bare && self.end_line() {
                return at;
            }
            if is_bare || self.head.is_unclear {
                if let Some(feed) = bytes.get_mut(at - 1) {
                    *feed = 0;
                }
                self.at = Place::Elsewhere;
                return at;
            }
        }
        self.keep(bytes.get(at..).unwrap_or_default());
        bytes.len()
    }

    /// Takes a part of a line, as far as a line is looked at.
    fn keep(&mut self, part: &[u8]) {
        if let Some(last) = part.last() {
            self.ends_in_cr = *last == b'\r';
        }
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend(part.iter().take(room));
    }

    /// A line has ended; true: and the head with it.
    fn end_line(&mut self) -> bool {
        let mut line = std::mem::take(&mut self.line);
        let ends_head = self.take_line(line.strip_suffix(b"\r").unwrap_or(&line));
        // The next line's, without another allocation.
        line.clear();
        self.line = line;
        ends_head
    }

    fn take_line(&mut self, line: &[u8]) -> bool {
        let begins = !self.head.has_begun;
        if line.is_empty() {
            // Empty lines before a request are none of it (RFC 9112 §2.2).
            if !begins {
                self.end_head();
            }
            return !begins;
        }
        if begins {
            self.head.has_begun = true;
            self.head.is_last = line.starts_with(b"CONNECT ");
            self.head.is_interim = line.get(8..10) == Some(b" 1");
        } else {
            // How long an answer is, is read by its client alone.
            self.head.note(line, self.of == Of::Requests);
        }
        false
    }

    fn end_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.at = match self.of {
            Of::Answer if head.is_interim => Place::Head,
            _ if head.is_chunked => Place::Size(Size::default()),
            Of::Answer => Place::Elsewhere,
            Of::Requests if head.is_last => Place::Elsewhere,
            Of::Requests => match head.length {
                None | Some(0) => Place::Head,
                Some(length) => Place::Body(length),
            },
        };
    }
}

/// What stands before the first line feed, if there is one.
fn before_feed(bytes: &[u8]) -> Option<&[u8]> {
    let feed = bytes.iter().position(|byte| *byte == b'\n')?;
    bytes.get(..feed)
}

impl Size {
    /// True if the line may go on with this octet.
    fn takes(&mut self, byte: u8) -> bool {
        self.read += 1;
        if self.read > CHUNK_LINE_BYTES_MAX {
            return false;
        }
        if self.in_extension {
            return byte == b'\t' || !byte.is_ascii_control();
        }
        self.in_extension = byte == b';';
        self.is_blank = matches!(byte, b' ' | b'\t') || (self.is_blank && !self.in_extension);
        if self.in_extension || matches!(byte, b' ' | b'\t') {
            return true;
        }
        if self.is_blank {
            return false;
        }
        let digit = char::from(byte).to_digit(16);
        let bytes = digit.and_then(|digit| {
            let bytes = self.bytes.checked_mul(16)?;
            bytes.checked_add(digit.into())
        });
        self.bytes = bytes.unwrap_or(self.bytes);
        bytes.is_some()
    }
}

impl Head {
    fn note(&mut self, line: &[u8], has_length: bool) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        }
        if has_length && name.eq_ignore_ascii_case(b"content-length") {
            let length = value.get(1..).and_then(length_of);
            let length = length.filter(|_| line.len() < LINE_BYTES_MAX);
            // The same twice is read as one (RFC 9110 §8.6).
            let differs = self.length.is_some() && length != self.length;
            self.is_unclear |= length.is_none() || differs;
            self.length = length;
        }
    }
}

/// The number of a Content-Length (RFC 9110 §8.6), if it is one.
fn length_of(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text as it is after it has come in pieces of `size` bytes.
    fn marked(mut lines: Lines, text: &str, size: usize) -> String {
        let mut bytes = text.as_bytes().to_vec();
        for piece in bytes.chunks_mut(size) {
            lines.mark(piece);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_bare_line_feed_in_a_head_is_marked_wherever_it_is() {
        for (text, wanted) in [
            (
                "GET / HTTP/1.1\nHost: x\r\n\r\n",
                "GET / HTTP/1.1\0Host: x\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\n\r\n",
                "GET / HTTP/1.1\r\nHost: x\0\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\n\n",
                "GET / HTTP/1.1\r\nHost: x\r\n\0",
            ),
            ("\nGET / HTTP/1.1\r\n\r\n", "\0GET / HTTP/1.1\r\n\r\n"),
            // In a later request, after none and after some body.
            ("G /\r\nA: b\r\n\r\nG /\n", "G /\r\nA: b\r\n\r\nG /\0"),
            (
                "P /\r\ncontent-LENGTH: 3 \r\n\r\n\n\n\nG /\n",
                "P /\r\ncontent-LENGTH: 3 \r\n\r\n\n\n\nG /\0",
            ),
        ] {
            for size in 1..=text.len() {
                assert_eq!(marked(Lines::of_requests(), text, size), wanted, "{size}");
            }
        }
    }

    #[test]
    fn what_is_no_head_is_left_alone() {
        for text in [
            "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "P / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\na\n",
            "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\na\n\r\n0\r\n\r\n",
            "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n\n\n",
            "P / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n\nG /\r\n\r\n",
        ] {
            for size in 1..=text.len() {
                assert_eq!(marked(Lines::of_requests(), text, size), text, "{size}");
            }
        }
    }

    #[test]
    fn what_follows_a_length_that_is_there_twice_is_a_head() {
        for length in [0, 2] {
            let body = "\n".repeat(length);
            let lines = format!("content-length:{length}\r\nContent-Length: \t0{length} \r\n");
            let text = format!("P /\r\n{lines}\r\n{body}G /b HTTP/1.1\n");
            let wanted = format!("P /\r\n{lines}\r\n{body}G /b HTTP/1.1\0");
            for size in 1..=text.len() {
                assert_eq!(marked(Lines::of_requests(), &text, size), wanted, "{size}");
            }
        }
    }

    #[test]
    fn a_request_whose_length_cannot_be_read_is_spoilt() {
        let padded = format!("Content-Length:{}0", " ".repeat(LINE_BYTES_MAX));
        let zeros = format!("Content-Length: {}", "0".repeat(LINE_BYTES_MAX));
        for line in [
            "Content-Length: x",
            "Content-Length:",
            "Content-Length: +1",
            "Content-Length: 1, 1",
            "Content-Length: 1\x0b",
            "Content-Length: 18446744073709551616",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1\r\nContent-Length: x",
            &padded,
            &zeros,
        ] {
            let text = format!("P / HTTP/1.1\r\nHost: x\r\n{line}\r\nA: b\r\n\r\n\n");
            let wanted = format!("P / HTTP/1.1\r\nHost: x\r\n{line}\r\0A: b\r\n\r\n\n");
            for size in 1..=text.len() {
                assert_eq!(marked(Lines::of_requests(), &text, size), wanted, "{size}");
            }
            // Its client reads the lengths of an answer, lists too.
            let text = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n\n");
            assert_eq!(marked(Lines::of_answer(), &text, 3), text);
        }
    }

    #[test]
    fn the_line_of_a_chunk_is_short_and_holds_nothing_odd() {
        let long = |size: usize| format!("{}5", "0".repeat(size - 1));
        for (line, wanted) in [
            (long(1024), true),
            (long(1025), false),
            (format!("5;{}", "a".repeat(1022)), true),
            (format!("5;{}", "a".repeat(1023)), false),
            ("5;a=\"b\tc\"".to_owned(), true),
            ("5;a\0b".to_owned(), false),
            ("5 ;a\x7f".to_owned(), false),
            ("z".to_owned(), false),
            ("5 \t;a".to_owned(), true),
            ("5 ".to_owned(), false),
            ("5\t\t".to_owned(), false),
            ("5 5".to_owned(), false),
        ] {
            let head = "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            // In a later chunk too.
            for before in ["", "2\r\n\n\0\r\n"] {
                let text = format!("{head}{before}{line}\r\nhello\r\n0\r\n\r\n\n");
                for size in [1, 2, 3, 1000, text.len()] {
                    let is_kept = marked(Lines::of_requests(), &text, size) == text;
                    assert_eq!(is_kept, wanted, "{before:?} {line:?} {size}");
                }
            }
        }
    }

    #[test]
    fn a_trailer_section_ends_in_no_bare_line_feed() {
        let head = "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n";
        for (trailer, wanted) in [
            ("\r\n\n", "\r\n\n"),
            ("A: b\r\n\r\n\n", "A: b\r\n\r\n\n"),
            ("\n", "\0"),
            ("A: b\n\r\n", "A: b\0\r\n"),
            ("A: b\r\n\n", "A: b\r\n\0"),
            ("A: b\r\nC: d\n\r\n", "A: b\r\nC: d\0\r\n"),
        ] {
            let (text, wanted) = (format!("{head}{trailer}"), format!("{head}{wanted}"));
            for size in 1..=text.len() {
                assert_eq!(marked(Lines::of_requests(), &text, size), wanted, "{size}");
            }
        }
    }

    #[test]
    fn an_answer_has_interim_ones_before_it() {
        for (text, wanted) in [
            ("HTTP/1.1 200 OK\n\r\n", "HTTP/1.1 200 OK\0\r\n"),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n\r\n\n\n",
                "HTTP/1.1 200 OK\r\nA: b\r\n\r\n\n\n",
            ),
            (
                "HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\nA: b\n\n",
                "HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\0A: b\n\n",
            ),
        ] {
            for size in 1..=text.len() {
                assert_eq!(marked(Lines::of_answer(), text, size), wanted, "{size}");
            }
        }
    }
}
