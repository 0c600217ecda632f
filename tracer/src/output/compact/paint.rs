//! Colours of a terminal.

/// What a piece of text means to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Faint,
    Strong,
    Good,
    Inbound,
    Bad,
    Alarm,
}

impl Style {
    /// Parameters of the escape sequence that switches it on.
    fn parameters(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            Self::Faint => b"2",
            Self::Strong => b"1",
            Self::Good => b"32",
            Self::Inbound => b"36",
            Self::Bad => b"31",
            Self::Alarm => b"1;37;41",
        }
    }
}

/// Writes text in a style, or without any where colours are not wanted.
pub(crate) struct Painter {
    color: bool,
}

impl Painter {
    pub(crate) fn new(color: bool) -> Self {
        Self { color }
    }

    pub(crate) fn paint(&self, style: Style, text: &[u8], out: &mut Vec<u8>) {
        if !self.color || style == Style::Plain {
            out.extend_from_slice(text);
            return;
        }
        for part in [b"\x1b[", style.parameters(), b"m", text, b"\x1b[0m"] {
            out.extend_from_slice(part);
        }
    }
}
