"""Asks a Parquet export what the history is asked. In: the file, a time and an address. Out: one JSON object:
milliseconds for each question, the best of some, in a process that has started already; and sizes in bytes."""

import json
import os
import sys
import time

import duckdb

RUNS = 5
file, since, address = sys.argv[1:]
database = duckdb.connect()
database.execute("SET TimeZone = 'UTC'")
database.execute(f"CREATE VIEW connections AS SELECT * FROM read_parquet('{file}')")

PEER = "CASE direction WHEN 'ingress' THEN source_ip ELSE destination_ip END"
FAILED = "count(*) FILTER (error IS NOT NULL)"
QUESTIONS = {
    "talkers": f"""SELECT any_value(process), any_value(pid), count(*), {FAILED}, count(DISTINCT {PEER}),
        sum(source_bytes), sum(destination_bytes), epoch_ns(min(first_seen)), epoch_ns(max(ended)),
        any_value("user"), any_value(executable), any_value(lineage)
        FROM connections WHERE ended >= '{since}'::TIMESTAMPTZ_NS GROUP BY entity_id ORDER BY 3 DESC""",
    "who": f"""SELECT epoch_ns(opened), epoch_ns(ended), direction, source_ip, source_port, destination_ip,
        destination_port, state, error, process, pid, lineage
        FROM connections WHERE source_ip = '{address}' OR destination_ip = '{address}' ORDER BY 2""",
    "by_program": f"SELECT executable, count(*), {FAILED} FROM connections GROUP BY executable ORDER BY 2 DESC",
}


def milliseconds(question):
    best = float("inf")
    for _ in range(RUNS):
        begin = time.perf_counter()
        database.execute(question).fetchall()
        best = min(best, time.perf_counter() - begin)
    return best * 1e3


answer = {name: milliseconds(question) for name, question in QUESTIONS.items()}
answer["rows"], = database.execute("SELECT count(*) FROM connections").fetchone()
answer["bytes"] = os.path.getsize(file)
answer["bytes_of_identifiers"], = database.execute(
    f"""SELECT sum(total_compressed_size)::BIGINT FROM parquet_metadata('{file}')
        WHERE path_in_schema IN ('community_id', 'connection_id', 'entity_id')"""
).fetchone()
answer["version"] = duckdb.__version__
print(json.dumps(answer))
