//! Parquet: connections and flows as columns, for analysis elsewhere.
//!
//! In: records. Out: a file of row groups, written by the low-level writer of the `parquet` crate. What is not known
//! is null.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;

use super::flat::{Flat, Flattener, Owner, direction};
use super::record::{Carried, Record};
use super::{Context, names};
use crate::host::Host;

/// How many rows are written at once; a row takes less than 1 kB.
const ROWS: usize = 32_768;

/// What stands in a row of a column; each variant is a type of Parquet.
enum Take {
    Bool(fn(&Row<'_>) -> Option<bool>),
    /// Nanoseconds since 1970.
    Time(fn(&Row<'_>) -> Option<i64>),
    Port(fn(&Row<'_>) -> Option<u16>),
    Number(fn(&Row<'_>) -> Option<u32>),
    Count(fn(&Row<'_>) -> Option<u64>),
    Text(fn(&Row<'_>) -> Option<String>),
}

use Take::{Bool, Count, Number, Port, Text, Time};

/// A column: its name, and what stands in it.
type Column = (&'static str, Take);

impl Take {
    /// The type as a schema has it, around the name.
    fn declaration(&self) -> (&'static str, &'static str) {
        match self {
            Bool(_) => ("boolean", ""),
            Time(_) => ("int64", "(timestamp(nanos,true))"),
            Port(_) => ("int32", "(integer(16,false))"),
            Number(_) => ("int32", "(integer(32,false))"),
            Count(_) => ("int64", "(integer(64,false))"),
            Text(_) => ("binary", "(string)"),
        }
    }
}

/// The columns as a schema of Parquet.
fn schema() -> Result<Arc<Type>, ParquetError> {
    let columns = COLUMNS.iter().map(|(name, take)| {
        let (physical, logical) = take.declaration();
        format!("optional {physical} {name} {logical};")
    });
    let message = format!("message connections {{ {} }}", columns.collect::<String>());
    parse_message_type(&message).map(Arc::new)
}

struct Row<'a> {
    flat: &'a Flat<'a>,
    host: &'a Host,
}

impl Row<'_> {
    fn owner<T>(&self, of: fn(&Owner) -> Option<T>) -> Option<T> {
        self.flat.owner.as_ref().and_then(of)
    }
}

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn word(word: Option<&str>) -> Option<String> {
    word.map(str::to_owned)
}

fn packets(carried: Option<Carried>) -> Option<u64> {
    carried?.packets
}

const COLUMNS: &[Column] = &[
    ("first_seen", Time(|row| Some(row.flat.first_seen))),
    ("opened", Time(|row| row.flat.opened)),
    ("ended", Time(|row| row.flat.ended)),
    ("duration_ns", Count(|row| row.flat.duration_ns)),
    ("transport", Text(|row| word(row.flat.transport))),
    (
        "direction",
        Text(|row| word(Some(direction(row.flat.connection.direction)))),
    ),
    ("source_ip", Text(|row| text(row.flat.source.ip))),
    ("source_port", Port(|row| row.flat.source.port)),
    ("destination_ip", Text(|row| text(row.flat.destination.ip))),
    ("destination_port", Port(|row| row.flat.destination.port)),
    (
        "destination_domain",
        Text(|row| row.flat.domain.clone().map(|(name, _)| name)),
    ),
    (
        "domain_known_from",
        Text(|row| word(row.flat.domain.as_ref().map(|(_, from)| *from))),
    ),
    (
        "source_bytes",
        Count(|row| row.flat.source.carried.map(|it| it.bytes)),
    ),
    (
        "destination_bytes",
        Count(|row| row.flat.destination.carried.map(|it| it.bytes)),
    ),
    (
        "source_packets",
        Count(|row| packets(row.flat.source.carried)),
    ),
    (
        "destination_packets",
        Count(|row| packets(row.flat.destination.carried)),
    ),
    (
        "rtt_us",
        Count(|row| {
            row.flat
                .totals
                .and_then(|totals| totals.rtt_us)
                .map(u64::from)
        }),
    ),
    (
        "retransmits",
        Count(|row| row.flat.totals.map(|totals| u64::from(totals.retransmits))),
    ),
    ("state", Text(|row| word(row.flat.state))),
    ("error", Text(|row| row.flat.error.clone())),
    ("existing", Bool(|row| Some(row.flat.connection.existing))),
    ("pid", Number(|row| row.owner(|it| Some(it.pid)))),
    (
        "entity_id",
        Text(|row| row.owner(|it| Some(it.entity_id.clone()))),
    ),
    ("process", Text(|row| row.owner(|it| Some(it.name.clone())))),
    (
        "executable",
        Text(|row| row.owner(|it| it.executable.clone())),
    ),
    (
        "command_line",
        Text(|row| row.owner(|it| it.command_line.clone())),
    ),
    ("user_id", Number(|row| row.owner(|it| it.user_id))),
    ("user", Text(|row| row.owner(|it| it.user.clone()))),
    (
        "package",
        Text(|row| row.owner(|it| Some(it.package.clone()?.0))),
    ),
    (
        "package_version",
        Text(|row| row.owner(|it| Some(it.package.clone()?.1))),
    ),
    ("unpackaged", Bool(|row| row.owner(|it| it.unpackaged))),
    ("sha256", Text(|row| row.owner(|it| it.sha256.clone()))),
    (
        "container",
        Text(|row| row.owner(|it| it.container.clone())),
    ),
    (
        "lineage",
        Text(|row| row.owner(|it| Some(it.lineage.clone()))),
    ),
    (
        "lineage_complete",
        Bool(|row| row.owner(|it| Some(it.lineage_complete))),
    ),
    (
        "owner_provenance",
        Text(|row| {
            word(Some(names::provenance(
                row.flat.connection.owner_provenance,
            )))
        }),
    ),
    ("community_id", Text(|row| row.flat.community_id.clone())),
    ("connection_id", Text(|row| text(Some(row.flat.id)))),
    ("peer_connection_id", Text(|row| text(row.flat.peer_id))),
    (
        "netns",
        Number(|row| Some(row.flat.connection.endpoints.netns).filter(|&id| id != 0)),
    ),
    ("host", Text(|row| Some(row.host.name.clone()))),
    ("host_id", Text(|row| row.host.machine_id.clone())),
];

/// A column's values that have not been written yet, as Parquet wants them: those that are known, and for each row
/// whether it is.
struct Pending {
    values: Values,
    known: Vec<i16>,
}

enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Texts(Texts),
}

impl Pending {
    fn of(column: &Column) -> Self {
        let values = match column.1 {
            Bool(_) => Values::Bool(Vec::new()),
            Port(_) | Number(_) => Values::Int32(Vec::new()),
            Time(_) | Count(_) => Values::Int64(Vec::new()),
            Text(_) => Values::Texts(Texts::default()),
        };
        let known = Vec::new();
        Self { values, known }
    }

    fn push(&mut self, take: &Take, row: &Row<'_>) {
        let is_known = match (&mut self.values, take) {
            (Values::Bool(values), Bool(take)) => add(values, take(row)),
            (Values::Int32(values), Port(take)) => add(values, take(row).map(i32::from)),
            (Values::Int32(values), Number(take)) => add(values, take(row).map(u32::cast_signed)),
            (Values::Int64(values), Time(take)) => add(values, take(row)),
            (Values::Int64(values), Count(take)) => add(values, take(row).map(u64::cast_signed)),
            (Values::Texts(texts), Text(take)) => texts.push(take(row).as_deref()),
            // A column has values of one type: see `of`.
            _ => false,
        };
        self.known.push(is_known.into());
    }

    fn write<W: Write + Send>(
        self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let Some(mut column) = group.next_column()? else {
            return Ok(());
        };
        let known = Some(self.known.as_slice());
        match self.values {
            Values::Bool(values) => column
                .typed::<BoolType>()
                .write_batch(&values, known, None)?,
            Values::Int32(values) => column
                .typed::<Int32Type>()
                .write_batch(&values, known, None)?,
            Values::Int64(values) => column
                .typed::<Int64Type>()
                .write_batch(&values, known, None)?,
            Values::Texts(texts) => {
                let column = column.typed::<ByteArrayType>();
                column.write_batch(&texts.values(), known, None)?
            }
        };
        column.close()
    }
}

/// Texts in one block of memory: a million small ones, which are all freed at once, cost more than what is done with
/// them.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: Option<&str>) -> bool {
        let Some(text) = text else { return false };
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(self.bytes.len());
        true
    }

    fn values(self) -> Vec<ByteArray> {
        let (bytes, mut begin) = (Bytes::from(self.bytes), 0);
        let values = self.ends.into_iter().map(|end| {
            let text = bytes.slice(begin..end);
            begin = end;
            text.into()
        });
        values.collect()
    }
}

fn add<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let is_known = value.is_some();
    values.extend(value);
    is_known
}

/// Writes a file of Parquet.
pub struct Parquet<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    flattener: Option<(Flattener, Host)>,
    pending: Vec<Pending>,
}

impl<W: Write + Send> Parquet<W> {
    /// Begins a file.
    pub fn new(out: W) -> io::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(format!("tracer {}", env!("CARGO_PKG_VERSION")))
            .build();
        let schema = schema().map_err(failed)?;
        let writer =
            SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(failed)?;
        Ok(Self {
            writer,
            flattener: None,
            pending: Vec::new(),
        })
    }

    /// What follows is of this host.
    pub fn of(&mut self, context: Context) {
        let host = context.host.clone();
        self.flattener = Some((Flattener::new(context), host));
    }

    /// Adds a row, if the record is about a connection or a flow.
    pub fn push(&mut self, record: &Record<'_>) -> io::Result<()> {
        let Some((flattener, host)) = &mut self.flattener else {
            return Ok(());
        };
        let Some(flat) = &flattener.flat(record) else {
            return Ok(());
        };
        let row = Row { flat, host };
        if self.pending.is_empty() {
            self.pending = COLUMNS.iter().map(Pending::of).collect();
        }
        for (pending, (_, take)) in self.pending.iter_mut().zip(COLUMNS) {
            pending.push(take, &row);
        }
        let rows = self.pending.first().map_or(0, |column| column.known.len());
        if rows >= ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for column in pending {
            column.write(&mut group).map_err(failed)?;
        }
        group.close().map(drop).map_err(failed)
    }

    /// Writes the rest.
    pub fn finish(mut self) -> io::Result<()> {
        self.write()?;
        self.writer.close().map(drop).map_err(failed)
    }
}

/// What the writer could not do, as the system said it where it did.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other.to_string()),
        },
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::*;
    use crate::history::samples;

    fn exported(rows: u64) -> SerializedFileReader<Bytes> {
        let curl = samples::image(7, b"curl", b"curl\0-s\0", None);
        let mut file = Vec::new();
        let mut parquet = Parquet::new(&mut file).unwrap();
        parquet.of(samples::about().context());
        for number in 0..rows {
            let connection = samples::connection(&curl, 1000 + number, "192.0.2.7:445");
            let connection = samples::named(connection, "files.example");
            let item = samples::ended(&curl, 5000 + number, connection);
            let observation = item.observation().unwrap();
            parquet.push(&Record::of(&observation)).unwrap();
        }
        parquet.finish().unwrap();
        SerializedFileReader::new(Bytes::from(file)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let reader = exported(2);
        let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
        let field = |name: &str| {
            let mut columns = row.get_column_iter();
            let (_, field) = columns.find(|(column, _)| *column == name).unwrap();
            field.clone()
        };
        assert_eq!(field("opened"), Field::Long(samples::OFFSET + 1000));
        assert_eq!(field("duration_ns"), Field::ULong(4000));
        assert_eq!(field("destination_ip"), Field::Str("192.0.2.7".to_owned()));
        assert_eq!(field("destination_port"), Field::UShort(445));
        assert_eq!(
            field("destination_domain"),
            Field::Str("files.example".to_owned())
        );
        assert_eq!(field("source_bytes"), Field::ULong(78));
        assert_eq!(field("source_packets"), Field::Null);
        assert_eq!(field("pid"), Field::UInt(7));
        assert_eq!(field("command_line"), Field::Str("curl -s".to_owned()));
        assert_eq!(field("lineage_complete"), Field::Bool(true));
        assert_eq!(field("unpackaged"), Field::Null);
        assert_eq!(row.len(), COLUMNS.len());
    }

    #[test]
    fn a_file_without_rows_has_its_columns() {
        let reader = exported(0);
        let metadata = reader.metadata().file_metadata();
        assert_eq!(metadata.num_rows(), 0);
        assert_eq!(metadata.schema_descr().num_columns(), COLUMNS.len());
    }

    #[test]
    fn many_rows_make_several_groups() {
        let rows = ROWS as u64 + 3;
        let reader = exported(rows);
        assert_eq!(reader.num_row_groups(), 2);
        assert_eq!(reader.metadata().file_metadata().num_rows(), rows as i64);
    }
}
