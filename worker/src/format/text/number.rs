//! Numbers as Java prints and reads them.

/// The forms of `Double.toString` and `Float.toString`: shortest digits that give the value back; plain between 10^-3
/// and 10^7, otherwise `d.dE<exponent>`.
pub trait JavaFloat: Copy {
    /// Appends the value as Java prints it, `NaN` and `Infinity` included.
    fn write_java(self, out: &mut Vec<u8>);
}

impl JavaFloat for f64 {
    fn write_java(self, out: &mut Vec<u8>) {
        if !write_special(out, self.is_nan(), self.is_infinite(), self.is_sign_negative(), self == 0.0) {
            match two_digits(self, self.abs() < 1e-320) {
                Some(text) => write_shortest(out, &text),
                None => write_shortest(out, ryu::Buffer::new().format_finite(self)),
            }
        }
    }
}

impl JavaFloat for f32 {
    fn write_java(self, out: &mut Vec<u8>) {
        if !write_special(out, self.is_nan(), self.is_infinite(), self.is_sign_negative(), self == 0.0) {
            match two_digits(self, self.abs() < 1e-43) {
                Some(text) => write_shortest(out, &text),
                None => write_shortest(out, ryu::Buffer::new().format_finite(self)),
            }
        }
    }
}

/// Java prints two digits at least, the closest ones: 4.9E-324 where 5E-324 would do. It shows only on the smallest
/// subnormal numbers, which have that few.
fn two_digits<T: std::fmt::LowerExp + std::str::FromStr + PartialEq>(value: T, subnormal: bool) -> Option<String> {
    if !subnormal {
        return None;
    }
    let text = format!("{value:.1e}");
    (text.parse().ok() == Some(value)).then_some(text)
}

fn write_special(out: &mut Vec<u8>, nan: bool, infinite: bool, negative: bool, zero: bool) -> bool {
    let text: &[u8] = match (nan, infinite, negative, zero) {
        (true, ..) => b"NaN",
        (_, true, true, _) => b"-Infinity",
        (_, true, false, _) => b"Infinity",
        (_, _, true, true) => b"-0.0",
        (_, _, false, true) => b"0.0",
        _ => return false,
    };
    out.extend_from_slice(text);
    true
}

/// Lays the digits of `shortest` (any decimal form with optional `e`) out as Java does.
fn write_shortest(out: &mut Vec<u8>, shortest: &str) {
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().expect("an exponent of ryu");
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    if unsigned.len() != mantissa.len() {
        out.push(b'-');
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut digits = [0u8; 40];
    let mut length = 0;
    for c in whole.bytes().chain(fraction.bytes()) {
        digits[length] = c;
        length += 1;
    }
    let leading = digits[..length].iter().take_while(|c| **c == b'0').count();
    // Position of the decimal point, counted from the first digit that is not zero.
    let point = whole.len() as i32 + exponent - leading as i32;
    let significant = &digits[leading..length];
    let trailing = significant.iter().rev().take_while(|c| **c == b'0').count();
    layout(out, &significant[..significant.len() - trailing], point);
}

fn layout(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    match point {
        -2..=0 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', -point as usize));
            out.extend_from_slice(digits);
        }
        1..=7 => {
            let point = point as usize;
            let whole = &digits[..point.min(digits.len())];
            out.extend_from_slice(whole);
            out.extend(std::iter::repeat_n(b'0', point - whole.len()));
            out.push(b'.');
            out.extend_from_slice(digits.get(point..).filter(|d| !d.is_empty()).unwrap_or(b"0"));
        }
        _ => {
            out.push(digits[0]);
            out.push(b'.');
            out.extend_from_slice(if digits.len() > 1 { &digits[1..] } else { b"0" });
            out.push(b'E');
            out.extend_from_slice(itoa::Buffer::new().format(point - 1).as_bytes());
        }
    }
}

/// `Long.parseLong`: an optional sign and decimal digits, nothing else; `None` when malformed or beyond an i64.
#[must_use]
pub fn read_long(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `Double.parseDouble` without its hexadecimal form. Surrounding blanks are dropped.
#[must_use]
pub fn read_double(text: &[u8]) -> Option<f64> {
    read_float(text)
}

/// `Float.parseFloat` without its hexadecimal form: rounded once, not by way of a double.
#[must_use]
pub fn read_single(text: &[u8]) -> Option<f32> {
    read_float(text)
}

fn read_float<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, "NaN" | "Infinity") {
        return text.parse().ok();
    }
    // Rust would take "inf", "nan" and "infinity"; Java takes a type suffix.
    let bare = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let first = bare.strip_prefix(['+', '-']).unwrap_or(bare).bytes().next()?;
    (first.is_ascii_digit() || first == b'.').then(|| bare.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn java<T: JavaFloat>(value: T) -> String {
        let mut out = Vec::new();
        value.write_java(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_print_as_in_java() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (1.5, "1.5"),
            (-12.25, "-12.25"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (0.00123, "0.00123"),
            (9_999_999.0, "9999999.0"),
            (10_000_000.0, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (1e10, "1.0E10"),
            (1.1e100, "1.1E100"),
            (4.9e-324, "4.9E-324"),
            (f64::MAX, "1.7976931348623157E308"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(java(value), text);
        }
        assert_eq!(java(f32::from_bits(1)), "1.4E-45");
        assert_eq!(java(0.1f32), "0.1");
        assert_eq!(java(16_777_216f32), "1.6777216E7");
        assert_eq!(java(f32::MAX), "3.4028235E38");
    }

    #[test]
    fn every_printed_double_reads_back() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(read_double(java(value).as_bytes()), Some(value));
            }
        }
    }

    #[test]
    fn reads_what_java_reads() {
        assert_eq!(read_double(b" 1.5d "), Some(1.5));
        assert_eq!(read_double(b"+.5e1"), Some(5.0));
        assert_eq!(read_double(b"-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(read_double(b"inf"), None);
        assert_eq!(read_double(b"nan"), None);
        assert_eq!(read_double(b""), None);
        assert_eq!(read_double(b"d"), None);
        assert_eq!(read_long(b"+12"), Some(12));
        assert_eq!(read_long(b"9223372036854775808"), None);
    }
}
