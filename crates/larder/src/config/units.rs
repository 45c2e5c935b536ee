//! Sizes and times as people write them: `20 GB`, `4 GiB`, `10s`, `2m`.
//!
//! Sizes know SI (`kB`, `MB`, `GB`, `TB`: powers of 1000) and IEC units (`KiB` …: powers of 1024);
//! a number alone is bytes. Durations always have a unit: a bare number would be guessed at.

use std::time::Duration;

/// A text that is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number at its start.
    #[error("a size is a number and a unit")]
    NoNumber,
    /// A unit that does not exist.
    #[error("this unit of size does not exist")]
    NoUnit,
    /// More bytes than can be counted.
    #[error("this size is too large")]
    TooLarge,
}

/// A text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number at its start.
    #[error("a duration is a number and a unit")]
    NoNumber,
    /// No unit, or one that does not exist.
    #[error("a duration needs one of the units ms, s, m, h, d, w")]
    NoUnit,
    /// More than can be counted.
    #[error("this duration is too long")]
    TooLong,
}

/// Reads a size in bytes.
pub fn size(text: &str) -> Result<u64, SizeError> {
    let (number, unit) = split(text);
    let number = Decimal::parse(number).ok_or(SizeError::NoNumber)?;
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000_u64.pow(2),
        "g" | "gb" => 1000_u64.pow(3),
        "t" | "tb" => 1000_u64.pow(4),
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(SizeError::NoUnit),
    };
    number.times(unit).ok_or(SizeError::TooLarge)
}

/// Reads a duration.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let (number, unit) = split(text);
    let number = Decimal::parse(number).ok_or(DurationError::NoNumber)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ if number.is_zero() && unit.is_empty() => 1,
        _ => return Err(DurationError::NoUnit),
    };
    number
        .times(millis)
        .map(Duration::from_millis)
        .ok_or(DurationError::TooLong)
}

/// Bytes for people: three digits or so, SI units.
pub fn show_size(bytes: u64) -> String {
    let units = [
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1000),
    ];
    match units.into_iter().find(|&(_, unit)| bytes >= unit) {
        Some((name, unit)) if bytes.is_multiple_of(unit) => format!("{} {name}", bytes / unit),
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A duration for people: the largest unit that divides it, down to seconds.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let plural =
        |count: u64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    match seconds {
        0 => "0 seconds".to_owned(),
        s if s % 86_400 == 0 => plural(s / 86_400, "day"),
        s if s % 3600 == 0 => plural(s / 3600, "hour"),
        s if s % 60 == 0 => plural(s / 60, "minute"),
        s => plural(s, "second"),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// A decimal number in exact arithmetic: digits, and how many of them follow the point.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u64,
    places: u32,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if whole.is_empty() || fraction.len() > 6 {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Self {
            digits,
            places: u32::try_from(fraction.len()).ok()?,
        })
    }

    fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// The product, rounded down.
    fn times(self, unit: u64) -> Option<u64> {
        let product = u128::from(self.digits) * u128::from(unit);
        u64::try_from(product / 10_u128.pow(self.places)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn si_units_are_powers_of_a_thousand_and_iec_units_of_1024() {
        let cases = [
            ("20 GB", 20_000_000_000),
            ("4 GiB", 4 << 30),
            ("256MiB", 256 << 20),
            ("64 kb", 64_000),
            ("1.5 TB", 1_500_000_000_000),
            ("0", 0),
            ("17", 17),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_says_why() {
        assert_eq!(size("lots"), Err(SizeError::NoNumber));
        assert_eq!(size(""), Err(SizeError::NoNumber));
        assert_eq!(size("-1"), Err(SizeError::NoNumber));
        assert_eq!(size("20 QB"), Err(SizeError::NoUnit));
        assert_eq!(size("99999999999 TB"), Err(SizeError::TooLarge));
        assert_eq!(size("1.2.3 MB"), Err(SizeError::NoNumber));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("1.5 h"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("10"), Err(DurationError::NoUnit));
        assert_eq!(duration("soon"), Err(DurationError::NoNumber));
        assert_eq!(duration("99999999999999999 w"), Err(DurationError::TooLong));
    }

    #[test]
    fn sizes_and_durations_are_shown_in_round_units() {
        assert_eq!(show_size(20_000_000_000), "20 GB");
        assert_eq!(show_size(1_572_864), "1.6 MB");
        assert_eq!(show_size(12), "12 bytes");
        assert_eq!(show_duration(Duration::from_hours(168)), "7 days");
        assert_eq!(show_duration(Duration::from_mins(1)), "1 minute");
    }
}
