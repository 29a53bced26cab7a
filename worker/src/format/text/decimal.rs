//! Decimal numbers as `java.math.BigDecimal` reads and prints them, over an i128 and a scale.
//!
//! DECIMAL has 38 digits at most; intermediate values may have more, so reading keeps what it needs to round right.

use std::cmp::Ordering;

/// Largest number of digits of a DECIMAL.
pub const PRECISION_MAX: u8 = 38;

/// 10^n for 0 <= n <= 38.
#[must_use]
pub fn power_of_ten(n: u32) -> i128 {
    10i128.pow(n)
}

/// Whether `unscaled` has at most `precision` digits.
#[must_use]
pub fn fits(unscaled: i128, precision: u8) -> bool {
    unscaled.unsigned_abs() < power_of_ten(u32::from(precision)) as u128
}

/// `numerator / denominator`, rounded half away from zero (`RoundingMode.HALF_UP`).
#[must_use]
pub fn divide_half_up(numerator: i128, denominator: i128) -> i128 {
    let (quotient, rest) = (numerator / denominator, numerator % denominator);
    // rest * 2 could overflow; compare with what is missing to the denominator instead.
    let (rest, denominator_abs) = (rest.unsigned_abs(), denominator.unsigned_abs());
    if rest >= denominator_abs - rest {
        quotient + if (numerator < 0) == (denominator < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

/// `unscaled * 10^-from` as an unscaled value of scale `to`, rounded HALF_UP; `None` beyond an i128.
#[must_use]
pub fn rescale(unscaled: i128, from: i32, to: i32) -> Option<i128> {
    let shift = to - from;
    match shift.cmp(&0) {
        Ordering::Equal => Some(unscaled),
        Ordering::Greater => {
            if unscaled == 0 {
                return Some(0);
            }
            unscaled.checked_mul(10i128.checked_pow(shift.unsigned_abs())?)
        }
        Ordering::Less => Some(match 10i128.checked_pow(shift.unsigned_abs()) {
            Some(divisor) => divide_half_up(unscaled, divisor),
            // |unscaled| < 10^39 / 2: everything rounds to zero.
            None => 0,
        }),
    }
}

/// As [`rescale`], and NULL (`None`) where the result has more than `precision` digits: `DecimalData.fromBigDecimal`.
#[must_use]
pub fn fit(unscaled: i128, from: i32, precision: u8, scale: u8) -> Option<i128> {
    rescale(unscaled, from, i32::from(scale)).filter(|v| fits(*v, precision))
}

/// What the text of a decimal number means for a DECIMAL(p, s).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Value(i128),
    /// A number with more digits before the point than the type has: NULL in Flink.
    TooLarge,
    /// Not a number.
    Malformed,
}

/// Reads `new BigDecimal(text)` into DECIMAL(precision, scale), rounded HALF_UP, exactly.
#[must_use]
pub fn read(text: &[u8], precision: u8, scale: u8) -> Read {
    let Some((negative, whole, fraction, exponent)) = split(text) else {
        return Read::Malformed;
    };
    // Position in the digit sequence at which the result's last digit stands.
    let keep = whole.len() as i64 + exponent + i64::from(scale);
    let digit_count = (whole.len() + fraction.len()) as i64;
    let mut value: i128 = 0;
    for at in 0..keep.min(digit_count).max(0) {
        let at = at as usize;
        let digit = if at < whole.len() { whole[at] } else { fraction[at - whole.len()] };
        value = value * 10 + i128::from(digit - b'0');
        if !fits(value, precision) {
            return Read::TooLarge;
        }
    }
    if keep > digit_count {
        let zeros = keep - digit_count;
        if value != 0 {
            if zeros > 38 {
                return Read::TooLarge;
            }
            match value.checked_mul(power_of_ten(zeros as u32)) {
                Some(v) => value = v,
                None => return Read::TooLarge,
            }
        }
    } else if keep >= 0 && keep < digit_count {
        let at = keep as usize;
        let digit = if at < whole.len() { whole[at] } else { fraction[at - whole.len()] };
        value += i128::from(digit >= b'5');
    }
    if !fits(value, precision) {
        return Read::TooLarge;
    }
    Read::Value(if negative { -value } else { value })
}

/// Sign, digits before and after the point, exponent.
fn split(text: &[u8]) -> Option<(bool, &[u8], &[u8], i64)> {
    let (negative, unsigned) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.iter().position(|c| matches!(c, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], read_exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let point = mantissa.iter().position(|c| *c == b'.');
    let whole = &mantissa[..point.unwrap_or(mantissa.len())];
    let fraction = point.map_or(&[][..], |at| &mantissa[at + 1..]);
    let is_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    Some((negative, whole, fraction, exponent))
}

fn read_exponent(text: &[u8]) -> Option<i64> {
    // BigDecimal's exponent is an int.
    std::str::from_utf8(text).ok()?.parse::<i32>().ok().map(i64::from)
}

/// Appends `BigDecimal.toPlainString()`.
pub fn write_plain(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let scale = usize::from(scale);
    if scale == 0 {
        out.extend_from_slice(digits);
        return;
    }
    if digits.len() > scale {
        out.extend_from_slice(&digits[..digits.len() - scale]);
        out.push(b'.');
        out.extend_from_slice(&digits[digits.len() - scale..]);
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
        out.extend_from_slice(digits);
    }
}

/// Appends `BigDecimal.toString()`: scientific where the adjusted exponent is below -6.
pub fn write_scientific(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let adjusted = digits.len() as i32 - 1 - i32::from(scale);
    if scale == 0 || adjusted >= -6 {
        write_plain(out, unscaled, scale);
        return;
    }
    write_mantissa(out, unscaled < 0, digits);
    out.extend_from_slice(itoa::Buffer::new().format(adjusted).as_bytes());
}

/// Appends `BigDecimal.stripTrailingZeros().toString()`: 12.50 is `12.5`, 100.00 is `1E+2`.
pub fn write_stripped(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    if unscaled == 0 {
        return out.push(b'0');
    }
    let (mut unscaled, mut scale) = (unscaled, i32::from(scale));
    while unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    if let Ok(scale) = u8::try_from(scale) {
        return write_scientific(out, unscaled, scale);
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    write_mantissa(out, unscaled < 0, digits);
    out.push(b'+');
    out.extend_from_slice(itoa::Buffer::new().format(digits.len() as i32 - 1 - scale).as_bytes());
}

/// Appends sign, digits with a point behind the first one, and `E`.
fn write_mantissa(out: &mut Vec<u8>, negative: bool, digits: &[u8]) {
    if negative {
        out.push(b'-');
    }
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.push(b'E');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exactly_and_rounds_half_up() {
        for (text, p, s, expected) in [
            ("12.345", 10, 2, Read::Value(1235)),
            ("-12.345", 10, 2, Read::Value(-1235)),
            ("12.344999", 10, 2, Read::Value(1234)),
            ("1e3", 10, 2, Read::Value(100_000)),
            ("1.5E-2", 10, 2, Read::Value(2)),
            (".5", 10, 1, Read::Value(5)),
            ("5.", 10, 1, Read::Value(50)),
            ("0.004", 10, 2, Read::Value(0)),
            ("0.00005", 10, 2, Read::Value(0)),
            ("0e-2000000000", 10, 2, Read::Value(0)),
            ("0e2000000000", 10, 2, Read::Value(0)),
            ("9.99", 2, 1, Read::TooLarge),
            ("1e100", 38, 0, Read::TooLarge),
            ("99999999999999999999999999999999999999", 38, 0, Read::Value(10i128.pow(38) - 1)),
            ("100000000000000000000000000000000000000", 38, 0, Read::TooLarge),
            ("0000000000000000000000000000000000000000000001.5", 3, 1, Read::Value(15)),
            ("", 3, 1, Read::Malformed),
            (".", 3, 1, Read::Malformed),
            ("1.2.3", 3, 1, Read::Malformed),
            ("abc", 3, 1, Read::Malformed),
            ("1e", 3, 1, Read::Malformed),
        ] {
            assert_eq!(read(text.as_bytes(), p, s), expected, "{text}");
        }
    }

    #[test]
    fn prints_as_big_decimal() {
        let plain = |v, s| {
            let mut out = Vec::new();
            write_plain(&mut out, v, s);
            String::from_utf8(out).unwrap()
        };
        let scientific = |v, s| {
            let mut out = Vec::new();
            write_scientific(&mut out, v, s);
            String::from_utf8(out).unwrap()
        };
        let stripped = |v, s| {
            let mut out = Vec::new();
            write_stripped(&mut out, v, s);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(stripped(1250, 2), "12.5");
        assert_eq!(stripped(10_000, 2), "1E+2");
        assert_eq!(stripped(-12_000, 2), "-1.2E+2");
        assert_eq!(stripped(1200, 2), "12");
        assert_eq!(stripped(0, 9), "0");
        assert_eq!(stripped(1000, 9), "0.000001");
        assert_eq!(stripped(27, 9), "2.7E-8");
        assert_eq!(plain(-1250, 2), "-12.50");
        assert_eq!(plain(5, 3), "0.005");
        assert_eq!(plain(27, 9), "0.000000027");
        assert_eq!(scientific(27, 9), "2.7E-8");
        assert_eq!(scientific(-1, 7), "-1E-7");
        assert_eq!(scientific(1, 6), "0.000001");
        assert_eq!(scientific(0, 10), "0E-10");
        assert_eq!(scientific(1250, 2), "12.50");
        assert_eq!(scientific(i128::from(i64::MAX), 0), "9223372036854775807");
    }

    #[test]
    fn rescaling_rounds_half_away_from_zero() {
        assert_eq!(rescale(15, 1, 0), Some(2));
        assert_eq!(rescale(-15, 1, 0), Some(-2));
        assert_eq!(rescale(14, 1, 0), Some(1));
        assert_eq!(rescale(1, 0, 38), Some(10i128.pow(38)));
        assert_eq!(rescale(10, 0, 38), None);
        assert_eq!(rescale(10i128.pow(37), 60, 0), Some(0));
        assert_eq!(fit(995, 2, 2, 1), None);
        assert_eq!(divide_half_up(i128::MAX, 2), i128::MAX / 2 + 1);
    }
}
