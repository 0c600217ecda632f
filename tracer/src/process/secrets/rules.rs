//! What secrets look like in arguments.
//!
//! In: nothing. Out: patterns over a block of arguments as in `/proc/PID/cmdline`, each ended by a NUL. What a
//! group covers is the secret; where none took part in a match, there is none; a pattern without groups is one
//! as a whole.

/// Words that name a secret wherever something follows them.
macro_rules! secret {
    () => {
        "(?i:password|passwd|passphrase|token|secret|api[_-]?key|access[_-]?key|secret[_-]?key|[_.-]pass)"
    };
}

/// Options that are followed by a secret.
macro_rules! option {
    () => {
        "(?i:password|passwd|passphrase|token|secret|api-?key|access-?key|secret-?key|auth|authorization)"
    };
}

/// A name of capital letters that ends so, as in an environment.
macro_rules! variable {
    () => {
        "[A-Z0-9]_(?:KEY|PASS|PWD)"
    };
}

/// A value in a command line within an argument: as a shell or the query of a URL ends it.
macro_rules! word {
    () => {
        r#"(?:\\?"([^"\x00]+)|\\?'([^'\x00]+)|([^\x00\s&;"']+))"#
    };
}

/// A secret that may stand anywhere.
pub(super) struct Rule {
    /// What looks like it and is none.
    pub(super) except: Option<&'static str>,
    /// What it looks like.
    pub(super) secret: &'static str,
}

const fn always(secret: &'static str) -> Rule {
    let except = None;
    Rule { except, secret }
}

/// Whatever may stand anywhere.
pub(super) const RULES: [Rule; 17] = [
    // `--password VALUE`: what begins like an option is one. Nothing follows `--no-password`.
    Rule {
        except: Some(r"(?:^|\x00)--(?:no|ask|prompt)-[^\x00]*"),
        secret: concat!(
            r"(?:^|\x00)--?(?:[A-Za-z0-9_.-]*[_.-])?",
            option!(),
            r"\x00([^\x00-][^\x00]*|-[^\x00-][^\x00]+)"
        ),
    },
    // The same within a script.
    Rule {
        except: Some(r"\s--(?:no|ask|prompt)-[^\x00\s]*"),
        secret: concat!(
            r"\s--(?:[A-Za-z0-9_.-]*[_.-])?",
            option!(),
            r#"\s+(?:\\?"([^"\x00]+)|\\?'([^'\x00]+)|([^\x00\s&;"'-][^\x00\s&;"']*))"#
        ),
    },
    // The same with names that are something else behind a single hyphen.
    always(r"(?:^|\x00)--(?i:pass)[\x00=]([^\x00-][^\x00]*|-[^\x00-][^\x00]+)"),
    always(r"(?:^|\x00)--?(?:[A-Za-z0-9_.-]*[_.-])?(?i:auth|authorization)=([^\x00]+)"),
    // `NAME=VALUE` as a whole argument, unless it is a script.
    Rule {
        except: Some(r"\x00-[a-z]*c\x00"),
        secret: concat!(
            r"(?:^|\x00)[A-Za-z0-9_.-]*(?:",
            secret!(),
            "|",
            variable!(),
            r")=([^\x00]+)"
        ),
    },
    always(concat!("(?:", secret!(), "|", variable!(), ")=", word!())),
    always(concat!(r"(?i:\bpass)=", word!())),
    // JSON, in quotes that may be escaped.
    always(concat!(secret!(), r#"\\?"\s*:\s*\\?"([^"\x00\\]+)"#)),
    // `scheme://user:SECRET@host`.
    always(r"://[^\x00\s/?#:@]*:([^\x00\s/]+)@"),
    // Headers.
    always(concat!(
        r"(?i:authorization\s*[:=]\s*(?:(?:bearer|basic|token|digest|negotiate|apikey)\s+)?)",
        r#"([^\x00\s"'][^\x00"']*)"#
    )),
    always(r"(?i:\bbearer\s+)([A-Za-z0-9._~+/=-]{8,})"),
    always(concat!(
        r"(?i:\bx-[a-z0-9-]*(?:token|key|secret|auth)|\b(?:private|job|deploy|api)-(?:token|key))",
        r#"\s*:\s*([^\x00\s"']+)"#
    )),
    // A key itself; a path to one is none.
    always(concat!(
        r"(?:^|\x00)--?(?i:[a-z0-9_.-]*[_.-])?(?i:private-?key)[\x00=]",
        "((?:0x)?[0-9A-Fa-f]{32}[0-9A-Fa-f]*|[A-Za-z0-9+=_-][A-Za-z0-9+/=_-]{40}[A-Za-z0-9+/=_-]*)"
    )),
    always(r"[\x00\s]pass:([^\x00\s]+)"),
    // `sshpass -p SECRET ssh -p 22`: its options end where the command begins.
    always(r"(?:^|[\x00\s/])sshpass(?:\x00-[a-oq-z][^\x00]*)*\x00-p\x00?([^\x00]+)"),
    always(concat!(
        r"(?:^|[\x00\s/])sshpass(?:\s+-[a-oq-z][^\x00\s]*)*\s+-p\s*",
        word!()
    )),
    always(concat!(
        "(?:AKIA|ASIA)[0-9A-Z]{16}|gh[opsur]_[A-Za-z0-9]{16}[A-Za-z0-9]*|github_pat_[A-Za-z0-9_]{16}[A-Za-z0-9_]*",
        "|glpat-[A-Za-z0-9_-]{16}[A-Za-z0-9_-]*|xox[abeprs]-[A-Za-z0-9-]{8}[A-Za-z0-9-]*",
        r"|eyJ[A-Za-z0-9_-]{4}[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
        r"|-----BEGIN [A-Z ]*PRIVATE KEY[^\x00]*"
    )),
];

/// What an option means behind the name of one program, and perhaps nowhere else.
pub(super) struct Command {
    /// The program's name, as the last part of a word.
    pub(super) name: &'static str,
    /// The option, which may stand anywhere behind it.
    pub(super) option: &'static str,
}

/// Programs with options of their own.
pub(super) const COMMANDS: [Command; 5] = [
    Command {
        name: "(?:mysql|mariadb)[a-z_-]*",
        option: r"[\x00\s]-p([^\x00\s]+)",
    },
    Command {
        name: "curl",
        option: r"\x00(?:-[fgiIjkLnNqsSvO0-9]*[uU]|--(?:proxy-)?user)[\x00=]?[^\x00:]*:([^\x00]+)",
    },
    Command {
        name: "curl",
        option: r#"\s(?:-[fgiIjkLnNqsSvO0-9]*[uU]|--(?:proxy-)?user)[\s=]*["']?[^\x00\s:"']*:([^\x00\s"']+)"#,
    },
    Command {
        name: "redis-cli",
        option: r"[\x00\s]-a[\x00\s]([^\x00\s]+)",
    },
    Command {
        name: r"(?:docker|podman)[\x00\s]login",
        option: r"[\x00\s]-p[\x00\s]?([^\x00\s]+)",
    },
];

/// What a secret looks like that a block was cut in, where the rules above need its end.
pub(super) const CUT: [&str; 2] = [
    concat!(
        r"(?:A[KS]IA[0-9A-Z]*|gh[opsur]_[A-Za-z0-9]*|github_pat_[A-Za-z0-9_]*|glpat-[A-Za-z0-9_-]*",
        r"|xox[abeprs]-[A-Za-z0-9-]*|eyJ[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?|-----BEGIN [^\x00]*)\z"
    ),
    concat!(
        r"(?:(?i:\bbearer\s+)([^\x00\s]+)|://[^\x00\s/?#:@]*:([^\x00\s/]+)",
        r"|(?i:private-?key)[\x00=]([A-Za-z0-9+=_-][A-Za-z0-9+/=_-]*))\z"
    ),
];
