//! Numbers and bytes as the verbs of `printf` write them, before they are filled up to their width.

use std::fmt::Write;

use super::format::Flags;

/// An integer with its sign, prefix and leading zeros.
pub(super) fn integer(magnitude: u64, negative: bool, verb: char, flags: &Flags) -> String {
    let has_sign = negative || flags.plus || flags.space;
    let digits_min = match (flags.precision, flags.width) {
        (Some(0), _) if magnitude == 0 => return String::new(),
        (Some(digits), _) => digits,
        (None, Some(width)) if flags.zero && !flags.minus => {
            width - usize::from(has_sign && width > 0)
        }
        _ => 0,
    };
    let digits = match verb {
        'b' => format!("{magnitude:b}"),
        'o' | 'O' => format!("{magnitude:o}"),
        'x' => format!("{magnitude:x}"),
        'X' => format!("{magnitude:X}"),
        _ => magnitude.to_string(),
    };
    let zeros = "0".repeat(digits_min.saturating_sub(digits.len()));
    let prefix = match verb {
        'O' => "0o",
        'b' if flags.sharp => "0b",
        'o' if flags.sharp && zeros.is_empty() && magnitude != 0 => "0",
        'x' if flags.sharp => "0x",
        'X' if flags.sharp => "0X",
        _ => "",
    };
    format!("{}{prefix}{zeros}{digits}", sign(negative, flags))
}

fn sign(negative: bool, flags: &Flags) -> &'static str {
    match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    }
}

/// A `float64` with its sign; none for a verb that is no float's.
pub(super) fn float(number: f64, verb: char, flags: &Flags) -> Option<String> {
    let known = matches!(
        verb,
        'v' | 'g' | 'G' | 'e' | 'E' | 'f' | 'F' | 'x' | 'X' | 'b'
    );
    if !known {
        return None;
    }
    let sign = sign(number.is_sign_negative() && !number.is_nan(), flags);
    if number.is_nan() {
        return Some(format!("{sign}NaN"));
    }
    if number.is_infinite() {
        // Its sign is always there, except that a blank may stand for the plus.
        let sign = if sign.is_empty() { "+" } else { sign };
        return Some(format!("{sign}Inf"));
    }
    let magnitude = number.abs();
    let text = match verb {
        'e' | 'E' => scientific(magnitude, Some(flags.precision.unwrap_or(6))),
        'f' | 'F' => format!("{magnitude:.*}", flags.precision.unwrap_or(6)),
        'x' | 'X' => hexadecimal(magnitude, flags.precision),
        'b' => binary(magnitude),
        _ => general(magnitude, flags.precision),
    };
    let text = if flags.sharp && !matches!(verb, 'b' | 'x' | 'X') {
        let is_general = matches!(verb, 'v' | 'g' | 'G');
        with_point(
            &text,
            if is_general {
                flags.precision.unwrap_or(6)
            } else {
                0
            },
        )
    } else {
        text
    };
    let text = if matches!(verb, 'E' | 'G' | 'X') {
        text.to_uppercase()
    } else {
        text
    };
    Some(format!("{sign}{text}"))
}

/// `1.5e+06`: the exponent has a sign and two digits.
fn scientific(number: f64, precision: Option<usize>) -> String {
    let text = match precision {
        Some(digits) => format!("{number:.digits$e}"),
        None => format!("{number:e}"),
    };
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// From this power of ten on the shortest form has an exponent.
const EXPONENT_MIN: i32 = 6;

/// `%g`: the shortest text, or so many digits at most; with an exponent where that is shorter.
fn general(number: f64, precision: Option<usize>) -> String {
    let digits = precision.map(|digits| digits.max(1));
    let scientific = scientific(number, digits.map(|digits| digits - 1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let limit = digits.map_or(EXPONENT_MIN, |digits| {
        i32::try_from(digits).unwrap_or(i32::MAX)
    });
    let without_zeros = |text: &str| {
        let has_point = text.contains('.');
        let end = if has_point {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            text
        };
        end.to_owned()
    };
    if !(-4..limit).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    match digits {
        None => number.to_string(),
        Some(digits) => {
            let behind_point = i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent;
            let behind_point = usize::try_from(behind_point).unwrap_or(0);
            without_zeros(&format!("{number:.behind_point$}"))
        }
    }
}

/// The `#` flag: there is a point, and of the general form zeros up to so many digits.
fn with_point(text: &str, digits: usize) -> String {
    let (mantissa, exponent) = match text.find('e') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let mut mantissa = mantissa.to_owned();
    let significant = mantissa.trim_start_matches(['0', '.']);
    let significant = significant.bytes().filter(u8::is_ascii_digit).count();
    let significant = significant.max(usize::from(mantissa == "0"));
    if !mantissa.contains('.') {
        mantissa.push('.');
    }
    mantissa.push_str(&"0".repeat(digits.saturating_sub(significant)));
    mantissa + exponent
}

/// Bits of a `float64` behind its point.
const MANTISSA_BITS: u32 = 52;

/// The mantissa as a whole number and the power of two that it is multiplied with.
fn parts(number: f64) -> (u64, i32) {
    let bits = number.to_bits();
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1);
    let exponent = i32::try_from(bits >> MANTISSA_BITS & 0x7ff).unwrap_or_default();
    let smallest = -1023 - 52;
    match exponent {
        0 => (mantissa, smallest + 1),
        exponent => (mantissa | 1 << MANTISSA_BITS, smallest + exponent),
    }
}

/// `%b`: `4503599627370496p-52`.
fn binary(number: f64) -> String {
    let (mantissa, exponent) = parts(number);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}p{sign}{}", exponent.abs())
}

/// `%x`: `0x1.8p+01`.
fn hexadecimal(number: f64, precision: Option<usize>) -> String {
    let (mut mantissa, mut exponent) = parts(number);
    if mantissa == 0 {
        exponent = 0;
    } else {
        // The one before the point is bit 60, with fifteen hexadecimal digits behind it.
        let shift = mantissa.leading_zeros() - 3;
        mantissa <<= shift;
        exponent += 60 - i32::try_from(shift).unwrap_or_default();
    }
    if let Some(digits) = precision.filter(|digits| *digits < 15) {
        let dropped = u32::try_from((15 - digits) * 4).unwrap_or_default();
        let rest = mantissa & ((1 << dropped) - 1);
        let half = 1 << (dropped - 1);
        mantissa >>= dropped;
        mantissa += u64::from(rest > half || rest == half && mantissa & 1 == 1);
        mantissa <<= dropped;
        if mantissa >> 61 == 1 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let (whole, fraction) = (mantissa >> 60, mantissa & ((1 << 60) - 1));
    let mut digits = format!("{fraction:015x}");
    match precision {
        None => digits.truncate(digits.trim_end_matches('0').len()),
        Some(wanted) => {
            digits.truncate(wanted);
            digits.push_str(&"0".repeat(wanted - digits.len()));
        }
    }
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("0x{whole}{point}{digits}p{sign}{:02}", exponent.abs())
}

/// Bytes in hexadecimal: `%x` of a text, with blanks between them and `0x` before them as the flags say.
pub(super) fn hex(bytes: &[u8], upper: bool, flags: &Flags) -> String {
    let shown = flags
        .precision
        .map_or(bytes.len(), |count| count.min(bytes.len()));
    let prefix = if upper { "0X" } else { "0x" };
    let mut text = String::with_capacity(shown * 2);
    for (position, byte) in bytes.iter().take(shown).enumerate() {
        if flags.space && position > 0 {
            text.push(' ');
        }
        if flags.sharp && (flags.space || position == 0) {
            text.push_str(prefix);
        }
        if upper {
            write!(text, "{byte:02X}")
        } else {
            write!(text, "{byte:02x}")
        }
        .expect("text grows in memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_go() {
        for (number, wanted) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (100_000.0, "100000"),
            (999_999.5, "999999.5"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(float(number, 'v', &Flags::default()).unwrap(), wanted);
        }
    }

    #[test]
    fn float_verbs_are_go_s() {
        let with = |verb, number, precision| {
            let flags = Flags {
                precision,
                ..Flags::default()
            };
            float(number, verb, &flags).unwrap()
        };
        assert_eq!(with('x', 3.0, None), "0x1.8p+01");
        assert_eq!(with('x', 0.0, None), "0x0p+00");
        assert_eq!(with('X', 1.0, Some(2)), "0X1.00P+00");
        assert_eq!(with('x', 1.999_999, Some(1)), "0x1.0p+01");
        assert_eq!(with('b', 1.0, None), "4503599627370496p-52");
        assert_eq!(with('e', 1_234_567.0, None), "1.234567e+06");
        assert_eq!(with('g', 1_234_567.0, Some(3)), "1.23e+06");
        assert_eq!(with('g', 100.0, Some(3)), "100");
        assert_eq!(with('G', 1e-7, None), "1E-07");
        let sharp = Flags {
            sharp: true,
            ..Flags::default()
        };
        assert_eq!(float(3.0, 'g', &sharp).unwrap(), "3.00000");
        assert_eq!(float(1e6, 'g', &sharp).unwrap(), "1.00000e+06");
        assert_eq!(float(3.0, 'd', &sharp), None);
    }
}
