import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mixture_assets.core.errors import MixtureError, MixtureWarning
from mixture_assets.store import database
from mixture_assets.store.ingest import ingest
from mixture_assets.store.query import query
from mixture_assets.store.records import write_record
from mixture_assets.store.runs import MetricsLog, RunFolder
from tests.store import fakes

REPOSITORY = Path(__file__).parents[2]


def content(store: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every table's rows, as somebody sees them who opens the file."""
    path = str(store / database.DATABASE_NAME)
    with duckdb.connect(path, read_only=True) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
            for table in database.tables()
        }


def one(store: Path, sql: str) -> Any:
    return query(store, sql).rows[0][0]


def script(text: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def test_ingest_counts_what_is_new_and_then_finds_nothing(store: Path) -> None:
    first = ingest(store)
    assert first.rows["run"] == 5
    assert first.rows["step_metric"] == 50
    assert first.rows["evaluation"] == 20
    assert first.rows["run_domain_tokens"] == 10
    assert (first.waiting, first.unreadable) == (0, ())
    before = content(store)
    assert ingest(store).rows == {}
    assert content(store) == before


def test_values_arrive_as_written(store: Path) -> None:
    ingest(store)
    (run,) = query(store, "SELECT * FROM run WHERE run_id = 'r1'").to_dicts()
    assert (run["seed"], run["budget_tokens"], run["status"]) == (1, 1920, "done")
    assert (run["numeric_path"], run["code_version"]) == ("cpu-fp32", "training-1")
    assert run["created_at"].isoformat() == "2026-01-02T03:04:05"
    assert json.loads(run["spec"])["token_sets"] == fakes.TOKEN_SETS
    tokens = query(
        store, "SELECT * EXCLUDE run_id FROM run_domain_tokens WHERE run_id = 'r1' ORDER BY 1"
    )
    assert tokens.rows == [("code", 640, 640), ("prose", 1280, 1216)]


def test_final_losses_come_from_the_result_and_are_flagged(store: Path) -> None:
    rows = query(
        store,
        "SELECT step, domain, loss_nats, tokens, is_final FROM evaluation "
        "WHERE run_id = 'r1' ORDER BY ALL",
    ).rows
    assert rows == [
        (5, "code", 4.0, 640, False),
        (5, "prose", 4.0, 640, False),
        (10, "code", 4.1, 1856, True),
        (10, "prose", 4.2, 1856, True),
    ]


def test_a_deleted_database_is_rebuilt_with_the_same_content(store: Path) -> None:
    """Also against one that grew step by step, with files in another order."""
    extra = store / "runs" / "r0" / "metrics.jsonl"
    ingest(store)
    fakes.append_rows(extra, [fakes.step_row("r0", 9, 4.5), fakes.step_row("r0", 11)])
    ingest(store)
    write_record(store, "proposal", "p2", fakes.proposal_rows(["r1"], "p2", method="a"))
    ingest(store)
    # Two records that disagree about one row: which of them counts must not depend on the order.
    write_record(store, "a-note", "n0", {"proposal": [{"proposal_id": "p2", "method": "b"}]})
    write_record(store, "z-note", "n0", {"proposal": [{"proposal_id": "p2", "method": "c"}]})
    ingest(store)
    write_record(store, "b-note", "n0", {"proposal": [{"proposal_id": "p2", "method": "d"}]})
    ingest(store)
    grown = content(store)
    (store / database.DATABASE_NAME).unlink()
    ingest(store)
    assert content(store) == grown
    assert one(store, "SELECT method FROM proposal WHERE proposal_id = 'p2'") == "c"


def test_a_torn_last_line_is_left_out_until_it_is_written_again(store: Path) -> None:
    run = RunFolder(store, "r0")
    with open(run.metrics_path, "ab") as file:
        file.write(b'{"kind":"step","run_id":"r0","step":11,"lo')
    ingest(store)
    assert one(store, "SELECT max(step) FROM step_metric WHERE run_id = 'r0'") == 10
    with MetricsLog(run) as log:
        log.append(fakes.step_row("r0", 11))
    assert one(store, "SELECT count(*) FROM step_metric WHERE run_id = 'r0'") == 11


@pytest.mark.parametrize(
    "junk", [b"\x00\x00\x00\n", b"\xff\xfe\n", b"[1,2]\n", b"5\n", b'"x"\n', b"{}\n", b"\n\n"]
)
def test_junk_between_rows_costs_no_row(store: Path, junk: bytes) -> None:
    run = RunFolder(store, "r0")
    with open(run.metrics_path, "ab") as file:
        file.write(junk + json.dumps(fakes.step_row("r0", 11)).encode() + b"\n")
    assert one(store, "SELECT count(*) FROM step_metric WHERE run_id = 'r0'") == 11


def test_overlapping_rows_after_a_resume_are_there_once_and_the_last_counts(store: Path) -> None:
    run = RunFolder(store, "r0")
    ingest(store)
    fakes.append_rows(run.metrics_path, [fakes.step_row("r0", s, 3.0) for s in range(6, 15)])
    report = ingest(store)
    assert report.rows == {"step_metric": 9}
    rows = query(
        store, "SELECT step, loss_nats FROM step_metric WHERE run_id = 'r0' ORDER BY step"
    ).rows
    assert rows == [(s, 5.0 if s < 6 else 3.0) for s in range(1, 15)]


def test_rows_copied_from_another_run_are_not_this_runs(store: Path) -> None:
    fakes.append_rows(RunFolder(store, "r0").metrics_path, [fakes.step_row("other", 1)])
    assert one(store, "SELECT count(*) FROM step_metric WHERE run_id = 'other'") == 0


def test_run_row_follows_the_status(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "r0")
    run.create(fakes.header("r0"))

    def row() -> tuple[Any, ...]:
        ingest(tmp_path)
        ((found, *more),) = query(tmp_path, "SELECT status, reason FROM run").rows
        return (found, *more)

    assert row() == ("planned", None)
    realised = query(tmp_path, "SELECT requested_tokens, realised_tokens FROM run_domain_tokens")
    assert sorted(realised.rows) == [(640, None), (1280, None)]
    with run.lock():
        assert row() == ("running", None)
    fakes.append_rows(run.metrics_path, [fakes.step_row("r0", 1)])
    assert row() == ("interrupted", None)
    run.write_failure("the loss is nan at step 2")
    assert row() == ("failed", "the loss is nan at step 2")
    run.write_failure("stopped on request", status="cancelled")
    assert row() == ("cancelled", "stopped on request")
    run.write_result(fakes.result("r0", 1, {"code": 4.0, "prose": 4.0}))
    assert row() == ("done", None)
    assert one(tmp_path, "SELECT count(*) FROM run") == 1


def test_a_run_that_was_removed_leaves_the_index(store: Path) -> None:
    ingest(store)
    for path in sorted((store / "runs" / "r0").iterdir()):
        path.unlink()
    (store / "runs" / "r0").rmdir()
    ingest(store)
    found = content(store)
    for table in ("run", "step_metric", "evaluation", "run_domain_tokens"):
        assert found[table]
        assert all(row[0] != "r0" for row in found[table])
    assert not [e for e in found["edge"] if e[0] == "r0"]


def test_a_record_that_changed_or_went_takes_its_rows_along(store: Path) -> None:
    path = write_record(
        store,
        "note",
        "n0",
        {
            "prediction": [
                {"proposal_id": "p", "quantity": "a", "baseline": "natural", "value": 1.0},
                {"proposal_id": "p", "quantity": "b", "baseline": "natural", "value": 2.0},
            ]
        },
    )
    ingest(store)
    row = {"proposal_id": "p", "quantity": "b", "baseline": "natural", "value": 3.0}
    write_record(store, "note", "n0", {"prediction": [row]})
    ingest(store)
    assert query(store, "SELECT quantity, value FROM prediction").rows == [("b", 3.0)]
    path.unlink()
    ingest(store)
    assert query(store, "SELECT * FROM prediction").rows == []
    assert one(store, "SELECT count(*) FROM edge WHERE role = 'training_tokens'") == 10


def test_times_with_an_offset_are_kept_in_utc(tmp_path: Path) -> None:
    row = {"proposal_id": "p", "created_at": "2026-01-02T04:00:00+02:00"}
    write_record(tmp_path, "proposal", "p", {"proposal": [row]})
    assert str(one(tmp_path, "SELECT created_at FROM proposal")) == "2026-01-02 02:00:00"


@pytest.mark.parametrize("name", ["spec.json", "result.json"])
@pytest.mark.parametrize("text", ["{", "[]", '{"spec": {"tokens": {"code": "many"}}}'])
def test_a_broken_file_is_named_and_harms_no_other(store: Path, name: str, text: str) -> None:
    if name == "result.json" and text.startswith('{"spec"'):
        text = '{"realised_tokens": {"code": "many"}, "losses": {"code": {}}}'
    (store / "runs" / "r1" / name).write_text(text)
    with pytest.warns(MixtureWarning, match="1 broken files are not in the index.*r1"):
        report = ingest(store)
    assert len(report.unreadable) == 1
    with pytest.warns(MixtureWarning, match="broken"):
        assert query(store, "SELECT run_id FROM run ORDER BY 1").rows == [
            ("f0",), ("f1",), ("r0",), ("r2",)
        ]  # fmt: skip
    fakes.write_json(store / "runs/r1/spec.json", fakes.header("r1"))
    fakes.write_json(store / "runs/r1/result.json", fakes.result("r1", 10, {"code": 4.0}))
    assert one(store, "SELECT count(*) FROM run") == 5


def test_a_broken_record_is_named_and_harms_no_other(store: Path) -> None:
    path = store / "records" / "note" / "bad.json"
    fakes.write_json(path, {"kind": "note", "id": "bad"})
    with pytest.warns(MixtureWarning, match="note/bad"):
        ingest(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert one(store, "SELECT count(*) FROM proposal") == 1


def test_a_damaged_database_is_built_again(store: Path) -> None:
    ingest(store)
    before = content(store)
    path = store / database.DATABASE_NAME
    path.write_bytes(random.Random(0).randbytes(50_000))
    with pytest.warns(MixtureWarning, match="was damaged and is built again"):
        ingest(store)
    assert content(store) == before


def test_a_database_of_another_version_is_built_again(store: Path) -> None:
    ingest(store)
    with duckdb.connect(str(store / database.DATABASE_NAME)) as connection:
        connection.execute("UPDATE ingested SET fingerprint = 'old' WHERE file = 'schema'")
        connection.execute("DROP TABLE step_metric")
    ingest(store)
    assert one(store, "SELECT count(*) FROM step_metric") == 50


def test_the_file_opens_in_a_shell_of_1_5(store: Path) -> None:
    ingest(store)
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{store / database.DATABASE_NAME}' AS m (READ_ONLY)")
        tags = connection.execute(
            "SELECT tags FROM duckdb_databases() WHERE database_name = 'm'"
        ).fetchone()
    assert tags is not None
    assert "v1.5" in str(tags[0])


def test_no_store_is_a_readable_error(tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match="there is no store at"):
        ingest(tmp_path / "nowhere")


def test_an_empty_store_has_empty_tables(tmp_path: Path) -> None:
    assert ingest(tmp_path).rows == {}
    assert query(tmp_path, "SELECT * FROM lineage").rows == []


def test_paths_that_look_like_patterns_are_paths(tmp_path: Path) -> None:
    store = tmp_path / "a[1]*'s store"
    fakes.finished_run(store, "r0")
    fakes.finished_run(tmp_path / "a1's store", "r0")
    assert ingest(store).rows["step_metric"] == 10


def test_a_path_that_duckdb_cannot_open_is_answered_from_the_files(tmp_path: Path) -> None:
    # duckdb 2.0.0 takes '?' for the start of options and puts '.wal' before it.
    fakes.finished_run(tmp_path / "why?", "r0")
    with pytest.warns(MixtureWarning, match="Cannot open file"):
        ingest(tmp_path / "why?")
    assert one(tmp_path / "why?", "SELECT count(*) FROM step_metric") == 10


HOLD = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("open", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("mode", ["write", "read"])
def test_a_shell_that_holds_the_database_delays_and_breaks_nothing(store: Path, mode: str) -> None:
    ingest(store)
    holder = script(HOLD, store / database.DATABASE_NAME, mode)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert one(store, "SELECT count(*) FROM step_metric") == 50
        fakes.finished_run(store, "r7")
        with pytest.warns(MixtureWarning, match=rf"1 files wait: PID {holder.pid} has it open"):
            report = ingest(store)
        assert (report.waiting, report.rows) == (1, {})
        # The answer is of now all the same.
        assert one(store, "SELECT count(*) FROM step_metric WHERE run_id = 'r7'") == 10
    finally:
        holder.kill()
        holder.wait()
    assert ingest(store).rows["step_metric"] == 10


APPEND = """
import sys, time
from pathlib import Path
from mixture_assets.store.runs import MetricsLog, RunFolder
from tests.store import fakes
run = RunFolder(Path(sys.argv[1]), "live")
run.create(fakes.header("live"))
with run.lock(), MetricsLog(run) as log:
    for step in range(1, 100_000):
        log.append(fakes.step_row("live", step))
        print(step, flush=True)
        time.sleep(0.005)
"""


def test_answers_follow_a_run_that_writes_while_a_shell_holds_the_database(store: Path) -> None:
    """Three processes: every row that the writer said it has written is in the next answer."""
    ingest(store)
    holder = script(HOLD, store / database.DATABASE_NAME, "read")
    writer = script(APPEND, store)
    try:
        assert holder.stdout is not None
        assert writer.stdout is not None
        holder.stdout.readline()
        for _ in range(4):
            acknowledged = int(writer.stdout.readline())
            found = query(
                store,
                "SELECT count(step), max(step), status FROM run LEFT JOIN step_metric "
                "USING (run_id) WHERE run_id = 'live' GROUP BY status",
            ).rows
            ((n_rows, last, status),) = found
            assert n_rows == last >= acknowledged
            assert status == "running"
    finally:
        for process in (holder, writer):
            process.kill()
            process.wait()
    rows = ingest(store).rows
    written = [line for line in (store / "runs/live/metrics.jsonl").read_text().split("\n") if line]
    assert rows["step_metric"] in (len(written), len(written) - 1)  # the last may be torn


def test_our_own_lock_is_waited_for_and_then_warned_about(store: Path) -> None:
    with (
        database.locked(store, patience_seconds=0),
        pytest.warns(MixtureWarning, match="another process of ours"),
    ):
        assert ingest(store, patience_seconds=0.05).waiting == 9
    assert ingest(store).waiting == 0


def test_a_store_that_cannot_be_written_is_a_warning(store: Path) -> None:
    (store / f"{database.DATABASE_NAME}.lock").mkdir()
    with pytest.warns(MixtureWarning, match="9 files wait: Is a directory"):
        ingest(store)
    assert one(store, "SELECT count(*) FROM run") == 5


WORK = """
import sys, warnings
from pathlib import Path
from mixture_assets.store.ingest import ingest
from tests.store import fakes
store, name = Path(sys.argv[1]), sys.argv[2]
warnings.simplefilter("error")
for number in range(8):
    fakes.finished_run(store, f"{name}{number}")
    ingest(store, patience_seconds=60)
"""


def test_two_ingests_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = [script(WORK, tmp_path, name) for name in ("a", "b")]
    assert [worker.wait() for worker in workers] == [0, 0]
    grown = content(tmp_path)
    assert len(grown["run"]) == 16
    assert len(grown["step_metric"]) == 160
    (tmp_path / database.DATABASE_NAME).unlink()
    ingest(tmp_path)
    assert content(tmp_path) == grown


def test_an_ingest_killed_at_any_moment_leaves_a_database_that_goes_on(tmp_path: Path) -> None:
    begun = script(
        "import sys; from pathlib import Path; from mixture_assets.store.ingest import ingest\n"
        "from tests.store import fakes; store = Path(sys.argv[1]); print(flush=True); n = 0\n"
        "while True: n += 1; fakes.finished_run(store, f'k{sys.argv[2]}-{n}'); ingest(store)",
        *(tmp_path, 0),
    )
    for round_ in range(1, 4):
        assert begun.stdout is not None
        begun.stdout.readline()
        time.sleep(0.3 + 0.07 * round_)
        os.kill(begun.pid, signal.SIGKILL)
        begun.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _finish_torn(tmp_path)
            ingest(tmp_path)
        n_runs = len(list(tmp_path.glob("runs/*/spec.json")))
        assert one(tmp_path, "SELECT count(*) FROM run") == n_runs > 0
        begun = script(begun.args[2], tmp_path, round_)  # type: ignore[index]
    begun.kill()
    begun.wait()


def test_nobody_ever_sees_an_index_that_is_half_made(tmp_path: Path) -> None:
    """Killed while it makes the database: whoever opens the file finds all runs, or no file."""
    for number in range(20):
        fakes.finished_run(tmp_path, f"r{number}", n_steps=200)
    path, rng, n_killed = tmp_path / database.DATABASE_NAME, random.Random(3), 0
    for _ in range(8):
        path.unlink(missing_ok=True)
        maker = script(
            "import sys; from pathlib import Path; from mixture_assets.store.ingest import ingest\n"
            "print(flush=True); ingest(Path(sys.argv[1]))",
            tmp_path,
        )
        assert maker.stdout is not None
        maker.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        n_killed += maker.poll() is None
        maker.kill()
        maker.wait()
        if path.exists():
            assert len(content(tmp_path)["step_metric"]) == 4000
    assert n_killed >= 4, "it was over before it could be killed"
    ingest(tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_full_disk_is_a_warning_and_the_answer_comes_from_the_files(store: Path) -> None:
    ingest(store)
    fakes.finished_run(store, "new", n_steps=5000)
    child = """
import resource, signal, sys, warnings
from pathlib import Path
from mixture_assets.core.errors import MixtureWarning
from mixture_assets.store.ingest import ingest
from mixture_assets.store.query import query
store = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for size in (0, 4096, 50_000, 300_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = ingest(store)
    print(report.is_current, [w.category.__name__ for w in caught],
          query(store, "SELECT count(*) FROM step_metric").rows[0][0])
"""
    done = script(child, store)
    assert done.stdout is not None
    lines = done.stdout.read().splitlines()
    assert done.wait() == 0
    assert lines[:3] == ["False ['MixtureWarning'] 5050"] * 3
    assert lines[3].endswith("5050")
    ingest(store)
    grown = content(store)
    assert len(grown["step_metric"]) == 5050
    (store / database.DATABASE_NAME).unlink()
    ingest(store)
    assert content(store) == grown


@pytest.mark.parametrize("stamp", [0, 4_000_000_000])  # 1970, 2096
def test_a_clock_that_jumps_hides_no_row(store: Path, stamp: int) -> None:
    """Files from before and after a jump, and a database that is older or newer than all."""
    ingest(store)
    for path in store.rglob("*"):
        os.utime(path, (stamp, stamp))
    with MetricsLog(RunFolder(store, "r0")) as log:
        log.append(fakes.step_row("r0", 11))
    os.utime(store / "runs" / "r0" / "metrics.jsonl", (stamp, stamp))
    fakes.finished_run(store, "late", created_at="1970-01-01T00:00:00Z")
    write_record(store, "proposal", "p2", fakes.proposal_rows(["late"], "p2"))
    assert one(store, "SELECT count(*) FROM step_metric") == 61
    assert one(store, "SELECT count(*) FROM proposal WHERE proposal_id = 'p2'") == 1
    ingest(store)
    grown = content(store)
    (store / database.DATABASE_NAME).unlink()
    ingest(store)
    assert content(store) == grown


def test_a_loss_that_comes_within_a_tick_of_the_clock_is_seen(store: Path) -> None:
    """A folder's time need not change with what is in it."""
    losses = RunFolder(store, "r0").losses_path
    row = fakes.evaluation_row("r0", 10, "code")
    for number in (1, 2):
        later = {"domain": "code", "validation_id": f"later{number}", "metric_version": 1}
        keys = ("loss_nats", "loss_se_nats", "n_tokens", "n_documents")
        fakes.write_json(
            losses / f"later{number}-1.json", later | {"loss": {key: row[key] for key in keys}}
        )
        os.utime(losses, (1e9, 1e9))
        ingest(store)
        sql = "SELECT count(*) FROM evaluation WHERE validation_id LIKE 'later%'"
        assert one(store, sql) == number


def _finish_torn(store: Path) -> None:
    """The fakes' own files are not written atomically: remove what SIGKILL left half-written."""
    for path in store.glob("runs/*/*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            path.unlink()


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    for number in range(10):
        fakes.finished_run(tmp_path, f"r{number}", n_steps=10_000)
    begun = time.perf_counter()
    assert ingest(tmp_path).rows["step_metric"] == 100_000
    print(f"ingest of 100,000 rows: {time.perf_counter() - begun:.2f} s")  # noqa: T201
    begun = time.perf_counter()
    assert ingest(tmp_path).rows == {}
    print(f"ingest of none: {time.perf_counter() - begun:.3f} s")  # noqa: T201
    assert one(tmp_path, "SELECT count(*) FROM step_metric") == 100_000


def test_duckdb_prints_no_bar_and_leaves_nothing_where_the_process_stands(store: Path) -> None:
    ask = "SELECT current_setting('enable_progress_bar'), current_setting('temp_directory')"
    ingest(store)
    path = store / database.DATABASE_NAME
    with database.opened(path) as connection:
        assert connection.execute(ask).fetchone() == (False, f"{path}.tmp")
    with database.in_memory() as connection:
        assert connection.execute(ask).fetchone() == (False, "")
