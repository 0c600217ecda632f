//! Numbers as people read them.

/// Bytes with three digits or so: `78 B`, `1.3 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // What would be printed as 1000 is one of the next unit.
    while value >= 999.5 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// Nanoseconds with three digits or so: `43 µs`, `12.3 ms`, `1.5 s`, `3 min 20 s`.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..999_500 => format!("{} µs", three_digits(nanoseconds as f64 / 1e3)),
        999_500..999_500_000 => format!("{} ms", three_digits(nanoseconds as f64 / 1e6)),
        999_500_000..60_000_000_000 => format!("{} s", three_digits(nanoseconds as f64 / 1e9)),
        60_000_000_000..3_600_000_000_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn three_digits(value: f64) -> String {
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_and_a_unit() {
        let texts = [
            0,
            999,
            1000,
            1_256_123,
            999_499,
            999_500,
            12_345_678_901,
            u64::MAX,
        ]
        .map(bytes);
        assert_eq!(
            texts,
            [
                "0 B", "999 B", "1.00 kB", "1.26 MB", "999 kB", "1.00 MB", "12.3 GB", "18.4 EB"
            ]
        );
    }

    #[test]
    fn durations_have_the_unit_that_people_would_choose() {
        let texts = [
            0,
            999,
            43_000,
            999_600,
            12_345_678,
            1_500_000_000,
            200_000_000_000,
        ]
        .map(duration);
        assert_eq!(
            texts,
            [
                "0 ns",
                "999 ns",
                "43.0 µs",
                "1.00 ms",
                "12.3 ms",
                "1.50 s",
                "3 min 20 s"
            ]
        );
        assert_eq!(duration(3_600_000_000_000 * 49), "49 h 0 min");
    }
}
