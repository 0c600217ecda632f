//! Options on what is read of executed files.

use std::str::FromStr;

use clap::Args;

/// What is read of executed files.
#[derive(Args, Debug)]
#[command(next_help_heading = "Executed files")]
pub struct FileArgs {
    /// Read executed files of up to this size for their hash, build ID and package; of larger ones all
    /// but the hash is told, and `off` reads none
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub hash_limit: HashLimit,
    /// How much of them to read in a second, at most
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub hash_rate: Size,
}

/// Up to which size files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashLimit {
    /// None is.
    Off,
    /// Up to this one.
    UpTo(Size),
}

/// A number of bytes, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for HashLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let size = text.parse().map(Self::UpTo);
        size.map_err(|message: String| format!("{message}, nor `off`"))
    }
}

impl FromStr for Size {
    type Err = String;

    /// With a unit that is a power of 1024, or in bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let (digits, shift) = units
            .into_iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
            .unwrap_or((text, 0));
        let number: Option<u64> = digits.parse().ok();
        number
            .and_then(|number| number.checked_mul(1 << shift))
            .filter(|&size| size > 0)
            .map(Self)
            .ok_or_else(|| "not a size such as 512KiB, 64MiB, 1GiB or a number of bytes".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_that_are_powers_of_1024() {
        assert_eq!("1".parse(), Ok(Size(1)));
        assert_eq!("3KiB".parse(), Ok(Size(3072)));
        assert_eq!("2GiB".parse(), Ok(Size(2 << 30)));
        for wrong in ["", "0", "-1", "MiB", "1MB", "99999999999GiB", "off"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert_eq!("off".parse(), Ok(HashLimit::Off));
        assert_eq!("1MiB".parse(), Ok(HashLimit::UpTo(Size(1 << 20))));
    }
}
