//! Strings of the outside world, made safe for HTML.
//!
//! In: text of any value, from names, paths and arguments that anyone can choose. Out: the same as HTML, in which
//! nothing can be markup, and what could turn the direction of writing is shown as on a terminal.

use std::fmt::{self, Display, Write as _};

use crate::output::text;

/// Text that becomes HTML when it is displayed, in content and in quoted attributes.
#[derive(Clone, Copy)]
pub(super) struct Html<T>(pub(super) T);

impl<T: Display> Display for Html<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                _ if text::is_unsafe_on_a_terminal(character) => {
                    write!(self.0, "{}", character.escape_unicode())?;
                }
                _ => self.0.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// The beginning of a text, and how much of it is left out.
pub(super) fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{} … ({more} characters more)", &text[..end])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_markup() {
        let hostile = "<img src=x onerror='alert(1)'>&\"</script>";
        let html = Html(hostile).to_string();
        assert!(!html.contains(['<', '>', '"', '\'']), "{html}");
        assert!(html.starts_with("&lt;img src=x onerror=&#39;"), "{html}");
        assert!(html.contains("&amp;&quot;"), "{html}");
    }

    #[test]
    fn what_commands_a_terminal_or_turns_the_direction_is_shown() {
        let html = Html("a\u{1b}[31m\u{202e}b\n\u{7f}é←").to_string();
        assert_eq!(html, r"a\u{1b}[31m\u{202e}b\u{a}\u{7f}é←");
    }

    #[test]
    fn what_is_cut_says_how_much_it_lacks() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü", 1), "ä … (2 characters more)");
    }
}
