"""Run folders: one training run each, named by its digest, readable at any moment.

spec.json      what is to be trained and measured, written before anything starts
ask-*.json     what it was asked to be measured on later, one file a request
losses/        what came of those requests, one file a validation set
model/         the trained model, owned by training
metrics.jsonl  rows as they come, append-only
checkpoint/    owned by training
snapshots/     weights and optimizer moments on the way, where asked for; owned by training
result.json    renamed into place last: its presence means done
failure.json   why the last attempt ended without a result
log.txt        owned by training
.lock          flock while somebody trains it; holds the process's id
"""

import contextlib
import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from mixture_assets.core.digest import digest
from mixture_assets.core.errors import MachineError, MixtureError
from mixture_assets.core.files import full_disk_named
from mixture_assets.core.run import Measurement
from mixture_assets.store.files import atomic_write_json, read_json_object

RunStatus = Literal["planned", "running", "done", "failed", "cancelled", "interrupted"]

# Somebody who only looks at a lock holds it for microseconds: try again before giving up.
_LOCK_TRIES = 4
_LOCK_WAIT_SECONDS = 0.005


def now_text() -> str:
    """The time as files carry it: ISO 8601, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class RunFolder:
    """One run's files below `store`/runs."""

    def __init__(self, store: Path, run_id: str) -> None:
        if not run_id or run_id.startswith(".") or set("/\\\0\n") & set(run_id):
            raise MixtureError(
                f"{run_id!r} is not a run",
                hint="a run is named by its digest: see `mixture status`",
            )
        self.run_id = run_id
        self.path = Path(store) / "runs" / run_id
        self.spec_path = self.path / "spec.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.result_path = self.path / "result.json"
        self.failure_path = self.path / "failure.json"
        self.losses_path = self.path / "losses"
        self.model_path = self.path / "model"
        self.lock_path = self.path / ".lock"

    def create(self, header: Mapping[str, Any]) -> None:
        """Write spec.json unless it is there; the first header stays, with its time and label.

        A measurement that nobody asked for yet is noted beside it.

        Args:
            header: purpose, label, experiment, scale, mixture_name, and `spec` and `measurement`
                as JSON.
        """
        found = read_json_object(self.spec_path)
        if found is None:
            stamp = {"run_id": self.run_id, "created_at": now_text()}
            atomic_write_json(self.spec_path, stamp | dict(header))
            return
        if found.get("spec") != json.loads(json.dumps(header["spec"])):
            raise MixtureError(
                f"run {self.run_id} exists with another specification",
                hint=f"its name must change with its specification; look at {self.spec_path}",
            )
        if found.get("measurement") != header["measurement"]:
            self._ask(Measurement.from_json(header["measurement"]))

    def spec(self) -> dict[str, Any]:
        """The header: run_id, purpose, label, ..., and `spec`."""
        found = read_json_object(self.spec_path)
        if found is None:
            raise MixtureError(
                f"there is no run {self.run_id} in {self.path.parent}",
                hint="`mixture status` lists the runs",
            )
        return found

    def result(self) -> dict[str, Any] | None:
        """What a finished run measured; None before that."""
        return read_json_object(self.result_path)

    # --- measurements -------------------------------------------------------------------------

    def _ask(self, measurement: Measurement) -> None:
        path = self.path / f"ask-{digest(measurement.to_json())}.json"
        if not path.exists():
            atomic_write_json(path, measurement.to_json())

    def asked(self) -> list[Measurement]:
        """Every measurement that was asked for, the first one first."""
        first = self.spec()["measurement"]
        later = [read_json_object(path) for path in sorted(self.path.glob("ask-*.json"))]
        return [Measurement.from_json(m) for m in (first, *later) if m is not None]

    def losses(self, measurement: Measurement) -> dict[str, dict[str, Any]] | None:
        """Loss rows by domain on these validation sets; None unless all of them are measured."""
        result = self.result()
        if result is None:
            return None
        rows = {
            domain: self._loss(result, domain, name, measurement.metric_version)
            for domain, name in measurement.validation_sets.items()
        }
        found = {domain: row for domain, row in rows.items() if row is not None}
        return found if len(found) == len(rows) else None

    def _loss(
        self, result: Mapping[str, Any], domain: str, validation_set: str, version: int
    ) -> dict[str, Any] | None:
        is_first = result["validation_sets"].get(domain) == validation_set
        if is_first and result["metric_version"] == version:
            row: dict[str, Any] = result["losses"][domain]
            return row
        found = read_json_object(self.loss_path(validation_set, version))
        return found["loss"] if found is not None else None

    def loss_path(self, validation_set: str, metric_version: int) -> Path:
        """Where the loss on a validation set that was asked for later is written."""
        return self.losses_path / f"{validation_set}-{metric_version}.json"

    def missing_losses(self) -> dict[tuple[str, int], str]:
        """(validation set, metric version) -> domain of what a finished run still owes."""
        result = self.result()
        if result is None:
            return {}
        return {
            (name, asked.metric_version): domain
            for asked in self.asked()
            for domain, name in sorted(asked.validation_sets.items())
            if self._loss(result, domain, name, asked.metric_version) is None
        }

    def later_losses(self) -> list[dict[str, Any]]:
        """What was measured when the run was done: validation_id, domain, loss, flops_eval, ..."""
        found = [read_json_object(path) for path in sorted(self.losses_path.glob("*.json"))]
        return [row for row in found if row is not None]

    def is_complete(self) -> bool:
        """Whether the run is done, and measured on all that it was asked to be."""
        if not self.result_path.exists():
            return False
        has_later = any(name.startswith("ask-") for name in os.listdir(self.path))
        return not (has_later and self.missing_losses())

    def failure(self) -> dict[str, Any] | None:
        """Why the last attempt ended without a result, if it did."""
        return None if self.is_complete() else read_json_object(self.failure_path)

    def has_failed(self) -> bool:
        """Whether the last attempt failed; a cancelled one is only waiting to be resumed."""
        failure = self.failure()
        return failure is not None and failure.get("status") != "cancelled"

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Declare the run done."""
        atomic_write_json(
            self.result_path, {"run_id": self.run_id, "status": "done"} | dict(result)
        )
        self.clear_failure()

    def write_failure(
        self,
        reason: str,
        *,
        hint: str = "",
        status: Literal["failed", "cancelled"] = "failed",
        attempts: int = 1,
        is_of_machine: bool = False,
    ) -> None:
        """Leave a readable row about an attempt that gave no result.

        `is_of_machine`: the same run may do later, as when the disk was full.
        """
        row = {"run_id": self.run_id, "status": status, "reason": reason, "hint": hint}
        when = {"attempts": attempts, "finished_at": now_text()}
        atomic_write_json(self.failure_path, row | when | {"is_of_machine": is_of_machine})

    def clear_failure(self) -> None:
        """Forget the last failure, because the run gets another chance."""
        self.failure_path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Claim the run for this process; yields False, at once, if somebody else has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_mine = _claim(descriptor)
            if is_mine:
                os.ftruncate(descriptor, 0)
                with contextlib.suppress(OSError):  # a full disk: the id is for people alone
                    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            try:
                yield is_mine
            finally:
                if is_mine:
                    os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)  # the file stays: removing it would let two holders in

    def holder_pid(self) -> int | None:
        """The process that trains the run, or that died over it without letting go."""
        try:
            return int(self.lock_path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def is_locked(self) -> bool:
        """Whether a living process holds the run."""
        try:
            descriptor = os.open(self.lock_path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def status(self) -> RunStatus:
        """Where the run stands, from its files and its lock alone."""
        if self.result_path.exists():
            return "done"
        if self.is_locked():
            return "running"
        failure = self.failure()
        if failure is not None:
            return "cancelled" if failure.get("status") == "cancelled" else "failed"
        has_begun = self.metrics_path.exists() or (self.path / "checkpoint").exists()
        return "interrupted" if has_begun else "planned"

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Rows of metrics.jsonl in order; torn lines are passed over, repeats are not."""
        if not self.metrics_path.exists():
            return
        with open(self.metrics_path, "rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # a process was killed while it wrote this line
                if isinstance(row, dict):
                    yield row


def _claim(descriptor: int) -> bool:
    for attempt in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt + 1 < _LOCK_TRIES:
                time.sleep(_LOCK_WAIT_SECONDS)
    return False


def list_runs(store: Path) -> list[RunFolder]:
    """Every run that has a specification, by id."""
    found = sorted(Path(store).glob("runs/*/spec.json"))
    return [RunFolder(store, p.parent.name) for p in found if not p.parent.name.startswith(".")]


class MetricsLog:
    """Appends rows to a run's metrics.jsonl: each is with the kernel when `append` returns.

    A SIGKILL therefore loses no acknowledged row; a power cut loses none before `sync`.
    """

    def __init__(self, run: RunFolder | Path) -> None:
        self.path = run.metrics_path if isinstance(run, RunFolder) else run
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        self._is_torn = _ends_torn(self._descriptor)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; NaN and infinity become null, which JSON can say."""
        line = json.dumps(_finite(row), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        pending = b"\n" + line if self._is_torn else line
        self._is_torn = True  # until the whole line is out
        with full_disk_named(self.path):
            while pending:
                pending = pending[os.write(self._descriptor, pending) :]
        self._is_torn = False

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        with full_disk_named(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Sync and let go of the file; safe to call twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                with full_disk_named(self.path):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An error under way is the reason that people are to read, not what comes of it here.
        with contextlib.suppress(*([OSError, MachineError] if error is not None else [])):
            self.close()


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
