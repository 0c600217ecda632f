//! What a detector is called, what it means, and how grave it is.

/// A rule, as people and other tools know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// `rule.id`: the same for ever.
    pub id: &'static str,
    /// `rule.name`.
    pub name: &'static str,
    /// `rule.description`: what it means when it fires.
    pub description: &'static str,
    /// Techniques of MITRE ATT&CK, by ID.
    pub techniques: &'static [&'static str],
    /// How it decides, and what it takes for one although it is none.
    pub method: &'static str,
}

/// How much it matters if it is what it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth a look today.
    Medium,
    /// Worth a look now.
    High,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// As it stands in `tracer.detection.severity`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}
