//! One byte range of a file (RFC 9110 §14): what iPXE's `sanboot` reads disks by.

/// What a `Range` field asks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, or one that is not understood, which RFC 9110 §14.2 says to ignore.
    Whole,
    /// These bytes: the first, and how many (at least one).
    Part(u64, u64),
    /// Nothing that is there.
    Beyond,
}

/// Reads a `Range` field for a file of `length` bytes. Several ranges at once are answered with the whole,
/// as a server may.
pub fn wanted(field: Option<&[u8]>, length: u64) -> Wanted {
    let asked = field.and_then(|field| std::str::from_utf8(field).ok());
    asked
        .and_then(|asked| part(asked, length))
        .unwrap_or(Wanted::Whole)
}

fn part(field: &str, length: u64) -> Option<Wanted> {
    let (unit, range) = field.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let (first, count) = match (first.trim(), last.trim()) {
        ("", last) => {
            let count = number(last)?.min(length);
            (length - count, count)
        }
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first, last.checked_sub(first)?.saturating_add(1))
        }
    };
    let count = count.min(length.saturating_sub(first));
    Some(if count == 0 {
        Wanted::Beyond
    } else {
        Wanted::Part(first, count)
    })
}

/// Digits as a number; one that is too large is beyond every file.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ten(field: &str) -> Wanted {
        wanted(Some(field.as_bytes()), 10)
    }

    #[test]
    fn single_ranges_are_read() {
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(of_ten("bytes=0-0"), Wanted::Part(0, 1));
        assert_eq!(of_ten("bytes=2-5"), Wanted::Part(2, 4));
        assert_eq!(of_ten("Bytes=9-"), Wanted::Part(9, 1));
        assert_eq!(
            of_ten("bytes=8-99999999999999999999999"),
            Wanted::Part(8, 2)
        );
        assert_eq!(of_ten("bytes=-3"), Wanted::Part(7, 3));
        assert_eq!(of_ten("bytes=-30"), Wanted::Part(0, 10));
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is_no_range() {
        for beyond in [
            "bytes=10-",
            "bytes=10-12",
            "bytes=99999999999999999999-",
            "bytes=-0",
        ] {
            assert_eq!(of_ten(beyond), Wanted::Beyond, "{beyond}");
        }
        assert_eq!(wanted(Some(b"bytes=0-"), 0), Wanted::Beyond);
        assert_eq!(wanted(Some(b"bytes=-5"), 0), Wanted::Beyond);
        for none in [
            "bytes=5-2",
            "bytes=a-b",
            "lines=0-1",
            "bytes=0-1,3-4",
            "bytes",
            "bytes=-",
            "bytes=+1-2",
        ] {
            assert_eq!(of_ten(none), Wanted::Whole, "{none}");
        }
        assert_eq!(wanted(Some(b"\xff"), 10), Wanted::Whole);
    }
}
