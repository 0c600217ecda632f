//! Names of users, as an `/etc/passwd` has them.
//!
//! In: its text. Out: names by ID.

use std::collections::BTreeMap;

/// Names by user ID.
pub type Names = BTreeMap<u32, String>;

/// Reads lines of `NAME:PASSWORD:UID:…`; of two names for an ID the first counts, as for `getpwuid`.
pub fn parse(text: &str) -> Names {
    let mut names = Names::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next())
            && let Ok(id) = id.parse()
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_user_counts() {
        let text =
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# none\nbad:x:y\nwww:x:33:33::/:\n";
        let names = parse(text);
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], "root");
        assert_eq!(names[&33], "www");
    }
}
