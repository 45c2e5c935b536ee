//! Where the body of a message ends (RFC 9112 §6.3): the one place that decides it, since parser
//! libraries read more than the standard allows.

use http::Version;
use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};

/// How the end of an answer's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By Content-Length, or there is no body.
    Length,
    /// By the last chunk.
    Chunked,
    /// By the end of the connection: a body cut short looks whole.
    ToEnd,
}

/// Why a message cannot be read in one way only, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A transfer coding other than chunked.
    #[error("a transfer coding other than chunked is used")]
    Coding,
    /// Chunked is not the last coding, or given twice, or by HTTP/1.0.
    #[error("the length of the message cannot be told")]
    Ambiguous,
}

/// How the body of an answer ends.
///
/// # Errors
/// Transfer codings that this proxy does not undo.
pub fn of_response(version: Version, headers: &HeaderMap) -> Result<Framing, FramingError> {
    if headers.contains_key(TRANSFER_ENCODING) {
        only_chunked(version, headers)?;
        return Ok(Framing::Chunked);
    }
    Ok(if headers.contains_key(CONTENT_LENGTH) {
        Framing::Length
    } else {
        Framing::ToEnd
    })
}

/// The one length that Content-Length gives, be it repeated; `None`: there is no such field.
///
/// # Errors
/// It gives several, or something that is no length (RFC 9110 §8.6).
pub fn one_length(headers: &HeaderMap) -> Result<Option<u64>, FramingError> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_e| FramingError::Ambiguous)?;
        for word in text.split(',').map(|word| word.trim_matches([' ', '\t'])) {
            let is_plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            let given = word.parse::<u64>().ok().filter(|_| is_plain);
            let given = given.ok_or(FramingError::Ambiguous)?;
            if length.is_some_and(|earlier| earlier != given) {
                return Err(FramingError::Ambiguous);
            }
            length = Some(given);
        }
    }
    Ok(length)
}

/// Checks that the length of a request can be read in one way only.
///
/// # Errors
/// What makes another reader see another request in it.
pub fn check_request(version: Version, headers: &HeaderMap) -> Result<(), FramingError> {
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(FramingError::Ambiguous);
    }
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(FramingError::Ambiguous);
    }
    only_chunked(version, headers)
}

/// Exactly one coding, which is chunked (RFC 9112 §6.1).
fn only_chunked(version: Version, headers: &HeaderMap) -> Result<(), FramingError> {
    let mut codings = Vec::new();
    for value in headers.get_all(TRANSFER_ENCODING) {
        let text = value.to_str().map_err(|_e| FramingError::Ambiguous)?;
        codings.extend(text.split(',').map(|word| word.trim().to_ascii_lowercase()));
    }
    let chunked = codings.iter().filter(|word| *word == "chunked").count();
    if codings.len() == 1 && chunked == 1 && version >= Version::HTTP_11 {
        Ok(())
    } else if chunked == 1 && codings.last().is_some_and(|last| last == "chunked") {
        Err(if version >= Version::HTTP_11 {
            FramingError::Coding
        } else {
            FramingError::Ambiguous
        })
    } else {
        Err(FramingError::Ambiguous)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn only_chunked_alone_frames_an_answer() {
        const TE: &str = "transfer-encoding";
        for (given, wanted) in [
            (vec![], Ok(Framing::ToEnd)),
            (vec![("content-length", "5")], Ok(Framing::Length)),
            (vec![(TE, "Chunked")], Ok(Framing::Chunked)),
            (
                vec![(TE, "chunked"), ("content-length", "5")],
                Ok(Framing::Chunked),
            ),
            (vec![(TE, "gzip, chunked")], Err(FramingError::Coding)),
            (
                vec![(TE, "gzip"), (TE, "chunked")],
                Err(FramingError::Coding),
            ),
            (vec![(TE, "identity")], Err(FramingError::Ambiguous)),
            (
                vec![(TE, "chunked, identity")],
                Err(FramingError::Ambiguous),
            ),
            (vec![(TE, "chunked, chunked")], Err(FramingError::Ambiguous)),
        ] {
            assert_eq!(
                of_response(Version::HTTP_11, &fields(&given)),
                wanted,
                "{given:?}"
            );
        }
        let chunked = fields(&[(TE, "chunked")]);
        assert_eq!(
            of_response(Version::HTTP_10, &chunked),
            Err(FramingError::Ambiguous)
        );
    }

    #[test]
    fn a_length_that_is_repeated_is_one_length() {
        const CL: &str = "content-length";
        let ambiguous = Err(FramingError::Ambiguous);
        for (given, wanted) in [
            (vec![], Ok(None)),
            (vec![(CL, "5")], Ok(Some(5))),
            (vec![(CL, "5, 5")], Ok(Some(5))),
            (vec![(CL, "5"), (CL, "5")], Ok(Some(5))),
            (vec![(CL, "5, 6")], ambiguous),
            (vec![(CL, "5,")], ambiguous),
            (vec![(CL, "+5")], ambiguous),
            (vec![(CL, "")], ambiguous),
            (vec![(CL, "18446744073709551616")], ambiguous),
        ] {
            assert_eq!(one_length(&fields(&given)), wanted, "{given:?}");
        }
    }

    #[test]
    fn a_request_has_one_length() {
        for (given, wanted) in [
            (vec![], Ok(())),
            (vec![("content-length", "5")], Ok(())),
            (vec![("transfer-encoding", "chunked")], Ok(())),
            (
                vec![("content-length", "5"), ("content-length", "5")],
                Err(FramingError::Ambiguous),
            ),
            (
                vec![("content-length", "5"), ("transfer-encoding", "chunked")],
                Err(FramingError::Ambiguous),
            ),
            (
                vec![("transfer-encoding", "gzip, chunked")],
                Err(FramingError::Coding),
            ),
        ] {
            assert_eq!(
                check_request(Version::HTTP_11, &fields(&given)),
                wanted,
                "{given:?}"
            );
        }
    }
}
