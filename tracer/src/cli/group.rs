//! A group of users, by name or number.

use std::fs;
use std::str::FromStr;

/// A group's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(pub u32);

impl FromStr for Group {
    type Err = String;

    /// Names are those of /etc/group.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self(id));
        }
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let id = groups.lines().find_map(|line| number(line, text));
        id.map(Self)
            .ok_or_else(|| "neither a number nor a group in /etc/group".to_owned())
    }
}

/// The number in a line of group(5), if it is that of the group `name`.
fn number(line: &str, name: &str) -> Option<u32> {
    let mut fields = line.split(':');
    if fields.next()? != name {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_of_the_group_that_it_begins_with() {
        assert_eq!(number("adm:x:4:syslog", "adm"), Some(4));
        assert_eq!(number("adm:x:4:syslog", "ad"), None);
        assert_eq!(number("adm", "adm"), None);
    }

    #[test]
    fn a_number_needs_no_name() {
        assert_eq!("4711".parse(), Ok(Group(4711)));
        assert!(Group::from_str("no such group").is_err());
    }
}
