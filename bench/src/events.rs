//! Bids in the shape of Nexmark's, about 284 bytes of JSON each, the same for the same seed and number.

/// Hot channels and a few of the others.
const CHANNELS: [&str; 8] =
    ["Google", "Facebook", "Baidu", "Apple", "channel-0421", "channel-7310", "channel-2288", "channel-9041"];
/// 2026-01-01 00:00:00 UTC.
pub const EPOCH_MS: i64 = 1_767_225_600_000;

/// SplitMix64: small, fast, good enough for test data.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Makes bids.
pub struct Bids {
    random: Random,
    padding: Vec<String>,
}

impl Bids {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let padding = (0..64)
            .map(|_| {
                let length = 70 + random.below(40);
                (0..length).map(|_| char::from(b'a' + u8::try_from(random.below(26)).expect("below 26"))).collect()
            })
            .collect();
        Self { random, padding }
    }

    /// Appends bid `number` with this event time as one JSON object.
    pub fn append(&mut self, number: u64, event_ms: i64, sent_ms: i64, out: &mut String) {
        use std::fmt::Write as _;
        let last = 1_000 + number * 3 / 46;
        let auction = if self.random.below(2) == 0 { last / 100 * 100 } else { last - self.random.below(100) };
        let channel = CHANNELS[usize::try_from(self.random.below(8)).expect("below 8")];
        let bidder = 1_000 + self.random.below(100_000);
        let price = 100 + self.random.below(10_000_000);
        let url = self.random.below(1 << 20);
        let padding = &self.padding[usize::try_from(number % 64).expect("below 64")];
        write!(
            out,
            "{{\"auction\":{auction},\"bidder\":{bidder},\"price\":{price},\"channel\":\"{channel}\",\
             \"url\":\"https://www.nexmark.com/item.htm?query=1&channel_id={url}\",\"dateTime\":\""
        )
        .expect("a string takes everything");
        append_time(event_ms, out);
        write!(out, "\",\"sentMs\":{sent_ms},\"extra\":\"{padding}\"}}").expect("a string takes everything");
    }
}

/// `yyyy-MM-dd HH:mm:ss.SSS`, by the days-from-civil algorithm (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn append_time(millis: i64, out: &mut String) {
    use std::fmt::Write as _;
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, fraction) = (rest / 1_000, rest % 1_000);
    write!(
        out,
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{fraction:03}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
    .expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_flink_reads_them() {
        for (millis, text) in [(EPOCH_MS, "2026-01-01 00:00:00.000"), (951_782_400_123, "2000-02-29 00:00:00.123")] {
            let mut out = String::new();
            append_time(millis, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn a_bid_has_about_284_bytes_and_is_the_same_each_time() {
        let make = || {
            let mut bids = Bids::new(42);
            let mut out = String::new();
            (0..1_000).for_each(|i| bids.append(i, EPOCH_MS, 0, &mut out));
            out
        };
        let text = make();
        assert_eq!(text, make());
        assert!((270..300).contains(&(text.len() / 1_000)), "{}", text.len() / 1_000);
    }
}
