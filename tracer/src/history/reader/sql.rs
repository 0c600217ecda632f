//! Questions in SQL, over the views of all files of a window.
//!
//! In: text that anyone may have typed. Out: rows; or what is wrong with it, and where. It can only read: files are
//! attached read-only, and nothing but reading is authorized.

use std::ops::ControlFlow;
use std::path::PathBuf;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::History;
use super::file::uri;
use crate::history::views::{self, Seen};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// There are more files than can be asked at once.
    #[error(
        "{files} files of the history are in that time, and at most {limit} can be asked at once: narrow it with --since and --until"
    )]
    TooMany {
        /// How many there are.
        files: usize,
        /// How many may be.
        limit: usize,
    },
    /// It is not SQL, or names what there is not.
    #[error("--sql: {message}")]
    Question {
        /// What is wrong, and where.
        message: String,
    },
    /// A file cannot be asked.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Reading failed.
    #[error("cannot read the history: {0}")]
    Read(rusqlite::Error),
}

/// A cell of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// NULL.
    Nothing,
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes that are no text.
    Bytes(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Nothing,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::Bytes(text.to_owned()),
            },
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_owned()),
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Integer(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Bytes(bytes) => bytes.escape_ascii().fmt(f),
        }
    }
}

/// Takes an answer.
pub trait Answer {
    /// Why it cannot.
    type Error: From<SqlError>;
    /// The titles of its columns.
    fn begin(&mut self, titles: &[&str]) -> Result<(), Self::Error>;
    /// A row of it. It breaks off where nobody wants more.
    fn row(&mut self, cells: Vec<Cell>) -> Result<ControlFlow<()>, Self::Error>;
}

impl History {
    /// Answers a question.
    pub fn ask<A: Answer>(&self, question: &str, answer: &mut A) -> Result<(), A::Error> {
        let word = question.split_whitespace().next().unwrap_or_default();
        let mut reading = ["SELECT", "WITH", "VALUES"].into_iter();
        if !reading.any(|verb| starts_with(word, verb)) {
            let message =
                format!("«{word}» is not for reading: a question begins with SELECT or WITH");
            return Err(SqlError::Question { message }.into());
        }
        let mut database = self.attached()?;
        database
            .authorizer(Some(authorize))
            .map_err(SqlError::Read)?;
        let mut statement = database
            .prepare(question)
            .map_err(|error| wrong(question, &error))?;
        if statement.parameter_count() > 0 {
            let message = "there is nothing to bind to a parameter".to_owned();
            return Err(SqlError::Question { message }.into());
        }
        let titles: Vec<&str> = statement.column_names().collect();
        answer.begin(&titles)?;
        let columns = titles.len();
        drop(titles);
        let mut rows = statement
            .query([])
            .map_err(|error| wrong(question, &error))?;
        while let Some(found) = rows.next().map_err(|error| wrong(question, &error))? {
            let cells = (0..columns).map(|column| found.get_ref(column).map(Cell::from));
            let cells = cells.collect::<Result<_, _>>().map_err(SqlError::Read)?;
            if answer.row(cells)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// All files under one roof, with views over all of them.
    fn attached(&self) -> Result<Connection, SqlError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_MEMORY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(":memory:", flags).map_err(SqlError::Read)?;
        let limit = database
            .limit(Limit::SQLITE_LIMIT_ATTACHED)
            .map_err(SqlError::Read)?;
        let limit = usize::try_from(limit).unwrap_or_default();
        if self.files.len() > limit {
            let files = self.files.len();
            return Err(SqlError::TooMany { files, limit });
        }
        for (index, file) in self.files.iter().enumerate() {
            let mode = if file.without_log {
                "immutable=1"
            } else {
                "mode=ro"
            };
            let uri = format!("{}?{mode}", uri(&file.path));
            database
                .execute(&format!("ATTACH ?1 AS file{index}"), [uri])
                .map_err(|source| SqlError::File {
                    path: file.path.clone(),
                    source,
                })?;
        }
        let mut seen = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let span = file.span(self.window);
            let added_up = file.is_sealed && file.lies_in(span).map_err(SqlError::Read)?;
            seen.push(Seen {
                schema: format!("file{index}."),
                wall_base: file.wall_base(),
                window: Some((span.since, span.until)),
                last: self.is_last(index),
                added_up,
            });
        }
        for view in views::NAMES {
            let selects = seen.iter().map(|seen| views::select(view, seen));
            let selects = selects.collect::<Vec<_>>().join(" UNION ALL ");
            database
                .execute_batch(&format!("CREATE TEMP VIEW {view} AS {selects}"))
                .map_err(SqlError::Read)?;
        }
        // Text in double quotes that names nothing is a mistake, not a string.
        for option in [
            DbConfig::SQLITE_DBCONFIG_DQS_DML,
            DbConfig::SQLITE_DBCONFIG_DQS_DDL,
        ] {
            database
                .set_db_config(option, false)
                .map_err(SqlError::Read)?;
        }
        Ok(database)
    }
}

/// Whether a word begins with a verb, whatever its case, as in `select*`.
fn starts_with(word: &str, verb: &str) -> bool {
    let beginning = word.get(..verb.len());
    beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(verb))
        && !word[verb.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => {
            Authorization::Allow
        }
        AuthAction::Function { function_name } if function_name != "load_extension" => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

/// Says what is wrong with a question, and quotes the place.
fn wrong(question: &str, error: &rusqlite::Error) -> SqlError {
    let message = match error {
        rusqlite::Error::SqlInputError { msg, offset, .. } => {
            let offset = usize::try_from(*offset).ok();
            let rest = offset.and_then(|offset| question.get(offset..));
            match rest.filter(|rest| !rest.is_empty()) {
                Some(rest) => {
                    let is_word = |c: char| c.is_alphanumeric() || c == '_';
                    let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                    let length = length.max(rest.chars().next().map_or(0, char::len_utf8));
                    let place = question[..question.len() - rest.len()].chars().count() + 1;
                    format!("{msg}: at «{}», character {place}", &rest[..length])
                }
                None => msg.clone(),
            }
        }
        rusqlite::Error::MultipleStatement => "one question at a time".to_owned(),
        other => {
            return SqlError::Question {
                message: other.to_string(),
            };
        }
    };
    SqlError::Question { message }
}
