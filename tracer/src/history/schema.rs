//! What a file of the history looks like: its tables, and the views by which people ask.
//!
//! A file holds what happened in one boot during some hours, with everything that its rows refer to, so that
//! it can be read, copied and deleted by itself. Times are nanoseconds after the file's `base`, which is a
//! time of `CLOCK_BOOTTIME`; views show them as nanoseconds since 1970, and as text. Columns of small
//! values cost next to nothing in SQLite, a 0 or 1 nothing but a byte of the row's header: that is why
//! so much is a number.

/// Changes with each change of the tables that a reader has to know of.
pub const VERSION: i64 = 2;

/// `application_id` of SQLite: `trcr`.
pub const APPLICATION: i32 = 0x7472_6372;

/// The tables. Of a number that stands for a word, [`code`](super::code) has the words.
pub(super) const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE string (id INTEGER PRIMARY KEY, value);
CREATE TABLE content (
  id INTEGER PRIMARY KEY, device INTEGER, inode INTEGER, size INTEGER, changed INTEGER,
  sha256 BLOB, build_id BLOB, origin INTEGER, package_type INTEGER, package_name INTEGER,
  package_version INTEGER, package_architecture INTEGER, intact INTEGER, users INTEGER);
CREATE TABLE users (id INTEGER PRIMARY KEY, names TEXT);
CREATE TABLE program (
  id INTEGER PRIMARY KEY, executable INTEGER, content INTEGER, mode INTEGER, links INTEGER, owner INTEGER,
  owner_group INTEGER, script INTEGER, arguments INTEGER, working_directory INTEGER, invoked_as INTEGER,
  flags INTEGER);
CREATE TABLE cgroup (id INTEGER PRIMARY KEY, hierarchy INTEGER, node INTEGER, path INTEGER, container INTEGER);
CREATE TABLE lineage (
  id INTEGER PRIMARY KEY, fingerprint BLOB, text INTEGER, name INTEGER, executable INTEGER, uid INTEGER,
  container INTEGER);
CREATE TABLE process (
  id INTEGER PRIMARY KEY, pid INTEGER, start INTEGER, name INTEGER, program INTEGER, lineage INTEGER,
  uid INTEGER, cgroup INTEGER, login_uid INTEGER, session INTEGER, tty INTEGER, namespace_pid INTEGER,
  parent INTEGER, present_parent INTEGER, cause INTEGER, flags INTEGER, executed INTEGER, exited INTEGER,
  status INTEGER);
CREATE TABLE cause (
  id INTEGER PRIMARY KEY, first_seen INTEGER, serial INTEGER, peer TEXT, server INTEGER, certainty INTEGER,
  candidates INTEGER, before INTEGER);
CREATE TABLE way (
  id INTEGER PRIMARY KEY, direction INTEGER, protocol INTEGER, local INTEGER, netns INTEGER,
  provenance INTEGER, opening INTEGER, flags INTEGER);
CREATE TABLE contact (
  id INTEGER PRIMARY KEY, lineage INTEGER, way INTEGER, remote INTEGER, port INTEGER, domain INTEGER,
  domain_known_from INTEGER, count INTEGER, failed INTEGER, first INTEGER, last INTEGER, sent INTEGER,
  received INTEGER);
CREATE TABLE ending (id INTEGER PRIMARY KEY, failed INTEGER, state INTEGER, errno INTEGER, retransmits INTEGER);
CREATE TABLE connection (
  ended INTEGER PRIMARY KEY, contact INTEGER, process INTEGER, port INTEGER, age INTEGER, delay INTEGER,
  sent INTEGER, received INTEGER, rtt INTEGER, ending INTEGER, serial INTEGER);
CREATE TABLE more (
  ended INTEGER PRIMARY KEY, opener INTEGER, cause INTEGER, peer_first_seen INTEGER, peer_serial INTEGER,
  subflows TEXT);
CREATE TABLE open (
  first_seen INTEGER, serial INTEGER, contact INTEGER, process INTEGER, port INTEGER, opened INTEGER,
  cause INTEGER, peer_first_seen INTEGER, peer_serial INTEGER,
  PRIMARY KEY (first_seen, serial)) WITHOUT ROWID;
CREATE TABLE listener (
  first_seen INTEGER, serial INTEGER, contact INTEGER, process INTEGER, opened INTEGER, closed INTEGER,
  PRIMARY KEY (first_seen, serial)) WITHOUT ROWID;
CREATE TABLE flow (
  first_seen INTEGER, serial INTEGER, contact INTEGER, process INTEGER, port INTEGER, last INTEGER,
  stage INTEGER, sent_packets INTEGER, sent INTEGER, received_packets INTEGER, received INTEGER,
  cause INTEGER,
  PRIMARY KEY (first_seen, serial)) WITHOUT ROWID;
CREATE TABLE lookup (
  id INTEGER PRIMARY KEY, time INTEGER, process INTEGER, local TEXT, server TEXT, netns INTEGER,
  transport INTEGER, transaction_id INTEGER, name INTEGER, type INTEGER, class INTEGER, attempts INTEGER,
  by_resolver INTEGER, duration INTEGER, ending INTEGER, code INTEGER, flags INTEGER, answers TEXT);
CREATE TABLE raw_socket (
  id INTEGER PRIMARY KEY, time INTEGER, process INTEGER, family INTEGER, type INTEGER, protocol INTEGER,
  netns INTEGER);
CREATE TABLE detection (
  id INTEGER PRIMARY KEY, time INTEGER, process INTEGER, rule INTEGER, severity INTEGER, explanation TEXT,
  evidence TEXT, evidence_total INTEGER, first_seen INTEGER, serial INTEGER, contact INTEGER, port INTEGER,
  opened INTEGER, cause INTEGER, peer_first_seen INTEGER, peer_serial INTEGER);
CREATE TABLE loss (
  id INTEGER PRIMARY KEY, time INTEGER, stage TEXT, kind TEXT, unit INTEGER, count INTEGER);
";

/// Writes down in a file that is complete what its contacts amount to.
pub(super) const SUMS: &str = "
UPDATE contact SET count = a.count, failed = a.failed, first = a.first, last = a.last, sent = a.sent,
  received = a.received
FROM (SELECT contact, count(*) AS count, sum(ending IN (SELECT id FROM ending WHERE failed)) AS failed,
  min(ended - age) AS first, max(ended) AS last, ifnull(sum(sent), 0) AS sent,
  ifnull(sum(received), 0) AS received FROM connection GROUP BY contact) a WHERE contact.id = a.contact;
";

/// What makes a file that is complete quick to ask. While it grows, it does without.
pub(super) const INDICES: &str = "
CREATE INDEX IF NOT EXISTS connection_contact ON connection (contact);
CREATE INDEX IF NOT EXISTS contact_remote ON contact (remote);
CREATE INDEX IF NOT EXISTS connection_spanning ON connection (age) WHERE age > ended;
CREATE INDEX IF NOT EXISTS process_pid ON process (pid);
";
