"""Somebody's own runs: mixtures and metrics from two tables, or from one, into a swarm."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mixture_assets.core.errors import MixtureError, quoted, shortlist
from mixture_assets.methods.swarm import Swarm
from mixture_assets.run_tables import (
    AS_IT_IS,
    NAMES_OF_STATES,
    SETTINGS,
    Cells,
    Chosen,
    Rows,
    TableOptions,
    common_key,
    metric_columns,
    numbers,
    other_names,
    read_table,
    rows_by_run,
    weight_columns,
)

FINISHED = ("finished", "done", "completed", "complete", "success", "succeeded")
SUM_SLACK = 0.02  # of 1, for weights that were rounded; what is further off is no mixture
_EXACT = 1e-6  # of 1, above which a note says that weights were rescaled


@dataclass(frozen=True, kw_only=True)
class SwarmTable:
    """A swarm, and every run that is not in it with the reason."""

    swarm: Swarm
    excluded: Mapping[str, str] = field(default_factory=dict)  # run -> reason
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class SwarmOptions:
    """Where somebody's runs are, how they are read, and what is to be lowered."""

    ratios: Path | None = None
    metrics: Path | None = None
    runs: Path | None = None  # one table in place of the two
    objective: Mapping[str, float]  # metric -> share, in any unit
    tables: TableOptions = AS_IT_IS

    @classmethod
    def from_text(
        cls,
        *,
        objective: str,
        ratios: Path | None = None,
        metrics: Path | None = None,
        runs: Path | None = None,
        domains: str = "",
        weights_prefix: str = "",
        rename_weights: str = "",
        rename_metrics: str = "",
        normalise: bool = False,
    ) -> "SwarmOptions":
        """As a command line has them: names with commas, patterns with `{}`."""
        if weights_prefix and rename_weights:
            raise MixtureError(
                "columns of weights are named in two ways",
                hint="pass --weights-prefix or --rename-weights",
            )
        tables = TableOptions(
            domains=tuple(d.strip() for d in domains.split(",") if d.strip()),
            weight_pattern=f"{weights_prefix}{{}}" if weights_prefix else rename_weights,
            metric_pattern=rename_metrics,
            normalise=normalise,
        )
        shares = parse_objective(objective)
        return cls(ratios=ratios, metrics=metrics, runs=runs, objective=shares, tables=tables)

    def test_set(
        self, *, ratios: Path | None, metrics: Path | None, runs: Path | None
    ) -> "SwarmOptions | None":
        """Further runs, read in the same way for the same objective; None if there are none."""
        if ratios is metrics is runs is None:
            return None
        return dataclasses.replace(self, ratios=ratios, metrics=metrics, runs=runs)

    def read(self) -> SwarmTable:
        """The swarm, with every metric of the objective."""
        needed = tuple(self.objective)
        if self.runs is not None and self.ratios is None and self.metrics is None:
            return read_runs(self.runs, needed=needed, tables=self.tables)
        if self.runs is None and self.ratios is not None and self.metrics is not None:
            return read_swarm(self.ratios, self.metrics, needed=needed, tables=self.tables)
        raise MixtureError(
            "runs are two tables, of mixtures and of metrics, or one with both",
            hint="name both files (--ratios and --metrics), or the one that has all (--runs)",
        )


def parse_objective(text: str) -> dict[str, float]:
    """Metric -> share, from `NAME`, `NAME,NAME` or `NAME=2,NAME=1`; without a share it is 1."""
    shares: dict[str, float] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, equals, share = part.rpartition("=")
        try:
            value = float(share) if equals else 1.0
        except ValueError:  # a name that has an equals sign in it
            name, value = part, 1.0
        name = name.strip() if equals else part
        if not name or not 0 < value < math.inf:
            raise MixtureError(
                f"{quoted(part)} is no metric with a share above 0", hint="as in --objective a=2,b"
            )
        if name in shares:
            raise MixtureError(f"the objective has {quoted(name)} twice", hint="add the shares up")
        shares[name] = value
    if not shares:
        raise MixtureError("no metric is to be lowered", hint="pass --objective NAME")
    return shares


def read_swarm(
    ratios: Path,
    metrics: Path,
    *,
    needed: Collection[str] = (),
    tables: TableOptions = AS_IT_IS,
) -> SwarmTable:
    """Runs from two tables, CSV or parquet.

    Args:
        ratios: A row for each run: its name, and a weight for each domain.
        metrics: A row for each run: its name, and its metrics. In either table a column `state` or
            `status` says which runs are finished (others do not count), and `params`, `tokens` and
            `seed` say how a run was made.
        needed: Metrics that a run must have; all by default.
        tables: Other people's names, and rows that do not sum to 1.

    Raises:
        MixtureError: A run that is there twice, no common name of runs, a cell that is no number,
            a metric that never changes, or fewer than half of the runs left.
    """
    weights, values = read_table(ratios), read_table(metrics)
    key = common_key({ratios: weights, metrics: values})
    mixtures, results = rows_by_run(ratios, weights, key), rows_by_run(metrics, values, key)
    domains = weight_columns(ratios, _columns(mixtures), tables)
    odd = [name for name in domains.others if name not in SETTINGS]
    if odd and not tables.domains:
        raise MixtureError(
            f"{ratios.name} has columns that are not like {quoted(tables.weight_pattern)}: "
            f"{shortlist(odd)}",
            hint="name the domains: --domains a,b,c",
        )
    return _swarm(
        _Source(ratios, mixtures, domains, others=odd, names=_names(weights, key)),
        _Source(
            metrics,
            results,
            metric_columns(metrics, _columns(results), tables, needed),
            names=_names(values, key),
        ),
        tables,
    )


def read_runs(
    path: Path, *, needed: Collection[str] = (), tables: TableOptions = AS_IT_IS
) -> SwarmTable:
    """Runs from one table with both weights and metrics, as `read_swarm` reads two.

    Raises:
        MixtureError: As from `read_swarm`, or if nothing says which columns are weights.
    """
    if not (tables.domains or tables.weight_pattern):
        raise MixtureError(
            f"nothing says which columns of {path.name} are weights",
            hint="pass --domains web,code, or --weights-prefix TEXT if their names begin alike",
        )
    cells = read_table(path)
    key = common_key({path: cells})
    rows = rows_by_run(path, cells, key)
    domains = weight_columns(path, _columns(rows), tables)
    metrics = metric_columns(path, domains.others, tables, needed)
    return _swarm(
        _Source(path, rows, domains, others=()),
        _Source(path, rows, metrics, names=_names(cells, key)),
        tables,
    )


# --- from rows to a swarm ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A table, and the columns of it that count."""

    path: Path
    rows: Rows
    chosen: Chosen
    others: Sequence[str] | None = None  # to be told of, if they are not those of `chosen`
    names: str = ""  # of columns that were left out for how they are called, for a note

    def numbers(self, run: str) -> dict[str, float | None]:
        return numbers(self.path, run, self.rows[run], self.chosen.columns)

    def settings(self, run: str) -> dict[str, float | None]:
        taken = self.chosen.columns.values()
        names = {n: n for n in SETTINGS if n in self.rows[run] and n not in taken}
        return numbers(self.path, run, self.rows[run], names)

    def told(self, noun: str) -> list[str]:
        others = self.chosen.others if self.others is None else self.others
        names = shortlist(others, 12)
        told = [f"{self.path.name}: not read as {noun}: {names}"] if others else []
        return told + ([f"{self.path.name}: {self.names}"] if self.names else [])


def _swarm(weights: _Source, metrics: _Source, tables: TableOptions) -> SwarmTable:
    """Every run that counts, and the reasons of those that do not."""
    excluded = _unmatched(weights, metrics)
    kept: dict[str, dict[str, float]] = {}
    measured: dict[str, dict[str, float]] = {}
    settings: dict[str, dict[str, float]] = {}
    for run in sorted(weights.rows.keys() & metrics.rows.keys()):
        mixture, found = weights.numbers(run), metrics.numbers(run)
        made = _settings(run, weights, metrics)
        reason = (
            _not_finished(weights.rows[run])
            or _not_finished(metrics.rows[run])
            or _no_mixture(mixture, tables)
            or _unmeasured(found)
            or _unset(made)
        )
        if reason:
            excluded[run] = reason
            continue
        kept[run], measured[run], settings[run] = _known(mixture), _known(found), _known(made)
    _require_most(kept, excluded)
    swarm = Swarm.of(kept, measured, settings=settings)
    told = [*weights.told("weights"), *metrics.told("metrics"), *_rescaled(kept), *_constant(swarm)]
    return SwarmTable(swarm=swarm, excluded=dict(sorted(excluded.items())), notes=told)


def _names(table: Sequence[Cells], key: str) -> str:
    others = other_names(table[0], key)
    return f"{quoted(key)} names the runs; not read: {shortlist(others)}" if others else ""


def _columns(rows: Rows) -> list[str]:
    return list(next(iter(rows.values())))


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: x for name, x in values.items() if x is not None}


def _settings(run: str, weights: _Source, metrics: _Source) -> dict[str, float | None]:
    """How a run was made, as both tables have it."""
    one, other = weights.settings(run), metrics.settings(run)
    apart = [n for n in one.keys() & other.keys() if one[n] != other[n]]
    if apart:
        raise MixtureError(
            f"the two tables do not agree on the {min(apart)} of the run {quoted(run)}",
            hint="keep the column in one of them",
        )
    return one | other


def _require_most(kept: Mapping[str, object], excluded: Mapping[str, str]) -> None:
    if len(kept) >= max(2, len(excluded)):
        return
    listed = "; ".join(f"{quoted(run)}: {excluded[run]}" for run in sorted(excluded)[:3])
    sums = any("sum to" in reason for reason in excluded.values())
    raise MixtureError(
        f"{len(excluded)} of {len(excluded) + len(kept)} runs cannot be used, as {listed}",
        hint="weights are shares that sum to 1, and every run needs its metrics"
        + ("; --normalise rescales weights" if sums else ""),
    )


# --- what the reader should know --------------------------------------------------------------


def _rescaled(kept: Mapping[str, Mapping[str, float]]) -> list[str]:
    sums = {run: math.fsum(mixture.values()) for run, mixture in kept.items()}
    off = {run: abs(total - 1) for run, total in sums.items() if abs(total - 1) > _EXACT}
    if not off:
        return []
    furthest = max(sorted(off), key=off.__getitem__)
    return [
        f"the weights of {len(off)} of {len(kept)} runs do not sum to 1 and were rescaled: "
        f"furthest off is {quoted(furthest)} with {sums[furthest]:.8g}"
    ]


def _constant(swarm: Swarm) -> list[str]:
    """Notes on columns that never change; MixtureError if that is all that was measured."""
    alike = [name for name, values in swarm.metrics.items() if min(values) == max(values)]
    if len(alike) == len(swarm.metrics):
        raise MixtureError(
            f"{shortlist(alike)} is {swarm.metrics[alike[0]][0]:.4g} in every run: there is "
            "nothing to learn",
            hint="choose a metric that the mixture changes",
        )
    notes = [f"{shortlist(alike, 12)} is the same in every run"] if alike else []
    if swarm.constant:
        notes.append(
            f"{shortlist(swarm.constant, 12)} has the same weight in every run: its effect cannot "
            "be learned"
        )
    return notes


# --- runs that do not count -------------------------------------------------------------------


def _unmatched(weights: _Source, metrics: _Source) -> dict[str, str]:
    lacking = {run: f"not in {metrics.path.name}" for run in weights.rows.keys() - metrics.rows}
    return lacking | {
        run: f"not in {weights.path.name}" for run in metrics.rows.keys() - weights.rows
    }


def _not_finished(cells: Cells) -> str:
    for name in NAMES_OF_STATES:
        if name not in cells:
            continue
        state = str(cells[name] or "").strip().lower()
        if state not in FINISHED:
            return f"its {name} is {quoted(state)}" if state else f"it has no {name}"
    return ""


def _no_mixture(mixture: Mapping[str, float | None], tables: TableOptions) -> str:
    known = _known(mixture)
    if len(known) < len(mixture):
        return f"no weight for {shortlist(mixture.keys() - known.keys())}"
    if min(known.values(), default=0) < 0:
        return f"the weight of {min(known, key=known.__getitem__)!r} is below 0"
    total = math.fsum(known.values())
    if abs(total - 1) <= SUM_SLACK or (tables.normalise and total > 0):
        return ""
    return f"its weights sum to {total:.4g}"


def _unmeasured(found: Mapping[str, float | None]) -> str:
    missing = [name for name, value in found.items() if value is None]
    return f"no {shortlist(missing)}" if missing else ""


def _unset(made: Mapping[str, float | None]) -> str:
    if missing := [name for name, value in made.items() if value is None]:
        return f"no {shortlist(missing)}"
    odd = [f"its {n} is {x:g}" for n, x in _known(made).items() if n != "seed" and x <= 0]
    return odd[0] if odd else ""


def same_domains(swarm: Swarm, other: Swarm) -> None:
    """MixtureError unless two swarms have the same domains."""
    apart = set(swarm.domains) ^ set(other.domains)
    if apart:
        raise MixtureError(
            f"the two swarms do not have the same domains: {shortlist(apart)} is in one only",
            hint="a domain without tokens is a column of zeros",
        )
