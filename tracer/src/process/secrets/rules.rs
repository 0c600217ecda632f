//! What secrets look like in arguments.
//!
//! In: nothing. Out: patterns over a block of arguments as in `/proc/PID/cmdline`, each ended by a NUL. What a
//! group covers is the secret; where none took part in a match, there is none; a pattern without groups is one
//! as a whole.

/// Words that name a secret, in options and elsewhere.
macro_rules! words {
    () => {
        "password|passwd|passphrase|token|secret|api[_-]?key|access[_-]?key|secret[_-]?key"
    };
}

/// What names a secret wherever something follows it.
macro_rules! secret {
    () => {
        concat!("(?i:", words!(), "|[_.-]pass)")
    };
}

/// Options that are followed by a secret, with what may stand before the word: `db-`, or `access` before a
/// capital letter.
macro_rules! option {
    () => {
        concat!(
            "(?:(?:[A-Za-z0-9_.-]*[_.-])?(?i:",
            words!(),
            "|auth|authorization|bearer)",
            "|[A-Za-z0-9_.-]*[a-z0-9](?:Password|Passwd|Passphrase|Token|Secret|ApiKey|AccessKey|SecretKey))"
        )
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
        r#"(?:\\?"([^"\x00]+)|\\?'([^'\x00]+)|((?:[^\x00\s&;"'\\]|\\[^\x00])+))"#
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
pub(super) const RULES: [Rule; 18] = [
    // `--password VALUE`: what begins with two hyphens is the next option, since `--password` alone asks for
    // one. Nothing follows `--no-password`.
    Rule {
        except: Some(r"(?:^|\x00)--(?:no|ask|prompt)-[^\x00]*"),
        secret: concat!(
            r"(?:^|\x00)--?",
            option!(),
            r"\x00([^\x00-][^\x00]*|-[^\x00-][^\x00]+)"
        ),
    },
    // The same within a script.
    Rule {
        except: Some(r"\s--(?:no|ask|prompt)-[^\x00\s]*"),
        secret: concat!(
            r"\s--",
            option!(),
            r#"\s+(?:\\?"([^"\x00]+)|\\?'([^'\x00]+)|([^\x00\s&;"'-][^\x00\s&;"']*))"#
        ),
    },
    // The same with names that are something else behind a single hyphen.
    always(r"(?:^|\x00)--(?i:pass)[\x00=]([^\x00-][^\x00]*|-[^\x00-][^\x00]+)"),
    always(r"(?:^|\x00)--?(?:[A-Za-z0-9_.-]*[_.-])?(?i:auth|authorization|bearer)=([^\x00]+)"),
    // A path there is a working directory.
    always(r"(?:^|\x00)--(?:[A-Za-z0-9_.-]*[_.-])?(?i:pwd)[\x00=]([^\x00/.-][^\x00]*)"),
    always(r"\s--(?:[A-Za-z0-9_.-]*[_.-])?(?i:pwd)[\s=]([^\x00\s/.-][^\x00\s]*)"),
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
    // JSON, in quotes that may be escaped, and what a script may have of it.
    always(concat!(
        secret!(),
        r#"(?:"\s*:\s*"((?:[^"\x00\\]|\\[^\x00])+)|\\"\s*:\s*\\"([^"\x00\\]+)|'\s*:\s*'([^'\x00]+))"#
    )),
    // `scheme://user:SECRET@host`. Digits and a slash are a port and a path.
    always(concat!(
        r"://[^\x00\s/?#:@\[]*:",
        r#"(?:([^\x00\s/]+)|([^\x00\s/"'`?#]*[^\x00\s/"'`?#0-9][^\x00\s/"'`?#]*/[^\x00\s"'`?#]*))@"#
    )),
    // Headers.
    always(concat!(
        r"(?i:authorization\s*[:=]\s*(?:(?:bearer|basic|token|digest|negotiate|apikey)\s+)?)",
        r#"([^\x00\s"'][^\x00"']*)"#
    )),
    always(r#"(?i:\bcookie\s*:\s*)[^\x00\s"'=;]+=([^\x00"']+)"#),
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
    /// The option.
    pub(super) option: &'static str,
    /// Whether it may stand anywhere behind the name, rather than right there.
    pub(super) anywhere: bool,
}

const fn anywhere(name: &'static str, option: &'static str) -> Command {
    let anywhere = true;
    Command {
        name,
        option,
        anywhere,
    }
}

const fn adjacent(name: &'static str, option: &'static str) -> Command {
    let anywhere = false;
    Command {
        name,
        option,
        anywhere,
    }
}

/// Programs with options of their own.
pub(super) const COMMANDS: [Command; 6] = [
    anywhere("(?:mysql|mariadb)[a-z_-]*", r"[\x00\s]-p([^\x00\s]+)"),
    // Users' passwords, and cookies: one without `=` is a file of them.
    anywhere(
        "curl",
        concat!(
            r"\x00(?:-[fgiIjkLnNqsSvO0-9]*[uU]|--(?:proxy-)?user)[\x00=]?[^\x00:]*:([^\x00]+)",
            r#"|\s(?:-[fgiIjkLnNqsSvO0-9]*[uU]|--(?:proxy-)?user)[\s=]*["']?[^\x00\s:"']*:([^\x00\s"']+)"#,
            r"|\x00(?:-[fgiIjkLnNqsSvO0-9]*b\x00?|--cookie[\x00=])[^\x00=]*=([^\x00]+)",
            r"|\s(?:-[fgiIjkLnNqsSvO0-9]*b\s*|--cookie[\s=]\s*)",
            r#"(?:"[^"\x00=]*=([^"\x00]+)|'[^'\x00=]*=([^'\x00]+)|[^\x00\s=;"']*=([^\x00\s;"']+))"#
        ),
    ),
    anywhere("redis-cli", r"[\x00\s]-a[\x00\s]([^\x00\s]+)"),
    anywhere(
        r"(?:docker|podman)(?:[\x00\s]+-[^\x00\s]*(?:[\x00\s]+[^\x00\s-][^\x00\s]*)?)*[\x00\s]+login",
        r"[\x00\s]-p[\x00\s]?([^\x00\s]+)",
    ),
    // `sshpass -p SECRET ssh -p 22`: its options end where the command begins.
    adjacent(
        "sshpass",
        r"(?:\x00(?:-[Pfd]\x00[^\x00]+|-[a-oq-zA-Z][^\x00]*))*\x00-p\x00?([^\x00]+)",
    ),
    adjacent(
        "sshpass",
        concat!(
            r"(?:\s+(?:-[Pfd]\s+[^\x00\s]+|-[a-oq-zA-Z][^\x00\s]*))*\s+-p\s*",
            word!()
        ),
    ),
];

/// What a secret looks like that a block was cut in, where the rules above need its end.
pub(super) const CUT: [&str; 2] = [
    concat!(
        r"(?:A[KS]IA[0-9A-Z]*|gh[opsur]_[A-Za-z0-9]*|github_pat_[A-Za-z0-9_]*|glpat-[A-Za-z0-9_-]*",
        r"|xox[abeprs]-[A-Za-z0-9-]*|eyJ[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?|-----BEGIN [^\x00]*)\z"
    ),
    concat!(
        r"(?:(?i:\bbearer\s+)([^\x00\s]+)|://[^\x00\s/?#:@\[]*:(?:([^\x00\s/]+)|([^\x00\s/?#]*[^\x00\s/?#0-9][^\x00\s/?#]*/[^\x00\s?#]*))",
        r"|(?i:private-?key)[\x00=]([A-Za-z0-9+=_-][A-Za-z0-9+/=_-]*))\z"
    ),
];
