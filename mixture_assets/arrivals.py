"""Which domains have landed, and which are still being copied.

Whoever looks first, the sensor or a command, records what happened since the last look.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError, MixtureWarning, shortlist
from mixture_assets.core.experiment import DataSpec
from mixture_assets.core.names import validate_domain
from mixture_assets.core.units import seconds_text
from mixture_assets.data.harvest import DOMAINS as HARVEST_DOMAINS
from mixture_assets.data.landing import Folder, Root, look
from mixture_assets.data.shards import KNOWN_FORMATS
from mixture_assets.store.domain_log import DomainState, note_bad, note_folders, read_domains
from mixture_assets.workspace import Workspace

PATIENCE = 10  # times settle_seconds: how long a command waits for a folder that keeps changing

Say = Callable[[str], None]


@dataclass(frozen=True)
class Arrivals:
    """What a look at the raw root and at fetched datasets finds."""

    has_root: bool  # False: no root, or nothing in it. A disk that is not mounted looks like that
    landed: Mapping[str, str]  # domain -> fingerprint when it last settled; '' if to be fetched
    pending: Mapping[str, str]  # domain -> what is still changing; those in `landed` were known
    refused: Mapping[str, MixtureError]  # folders that can be no domain, or cannot be read


def survey(workspace: Workspace) -> Arrivals:
    """Look at all folders, and record what landed, changed or vanished; opens no shard."""
    e, now = workspace.experiment, time.time()
    data, known = e.data, read_domains(workspace.store, e.name)
    root = look(e.data_root) if data.root else Root(True)
    folders = {n: f for n, f in root.folders.items() if not data.domains or n in data.domains}
    pending = {
        name: _change(folder, now)
        for name, folder in folders.items()
        if not folder.is_settled(now, data.settle_seconds)
    }
    still = {n: f for n, f in folders.items() if n not in pending}
    refused = {n: why for n, f in still.items() if (why := _refusal(data, f, known.get(n)))}
    settled = {n: f for n, f in still.items() if f.shards and n not in refused}
    settled |= _fetched(workspace)
    has_root = bool(root.folders) or not data.root or data.harvest
    accounted = {*settled, *pending, *refused, *data.datasets}
    gone = {n: _loss(data, n, root) for n in known if has_root and n not in accounted}
    if abs(now - root.changed_at) < data.settle_seconds:  # it may be about to be replaced
        pending |= {n: w for n, w in gone.items() if n not in root.folders and known[n].is_here}
    lost = {n: why for n, why in gone.items() if n not in pending}
    note_folders(workspace.store, e.name, settled, lost, known=known)
    for name, error in refused.items():
        if name not in data.domains:  # for one that is named it is an error of whoever needs it
            note_bad(workspace.store, e.name, name, str(error), error.hint)
    kept = {n: s.fingerprint for n, s in known.items() if s.is_here and n not in lost}
    landed = dict.fromkeys(_expected(data), "") | kept
    landed |= {name: folder.fingerprint for name, folder in settled.items()}
    return Arrivals(has_root, dict(sorted(landed.items())), pending, refused)


def await_landing(workspace: Workspace, say: Say | None = None) -> Arrivals:
    """Survey until every folder has settled, or for ten times settle_seconds; says so once.

    What is still changing then stays in `pending`; what was given up before, and did not settle
    since, is not waited for again. Without `say`, a MixtureWarning tells.
    """
    e = workspace.experiment
    settle = e.data.settle_seconds
    given_up = {n for n, s in read_domains(workspace.store, e.name).items() if s.is_given_up}
    deadline, is_said = time.monotonic() + PATIENCE * settle, False
    while True:
        found = survey(workspace)
        awaited = set(found.pending) - given_up
        if not awaited or time.monotonic() >= deadline:
            return found
        if not is_said:
            waits = f"waiting until {shortlist(awaited)} did not change for {seconds_text(settle)}"
            (say or _warn)(waits)
            is_said = True
        time.sleep(min(1.0, settle / 20))


def not_settled(workspace: Workspace, domain: str, change: str) -> MixtureError:
    """What to say of a domain that never came to rest."""
    patience = seconds_text(PATIENCE * workspace.experiment.data.settle_seconds)
    return MixtureError(
        f"{domain!r} was still changing after {patience}",
        hint=f"{change}; a _SUCCESS in its folder tells when a copy is complete",
    )


def _fetched(workspace: Workspace) -> dict[str, Folder]:
    """Landed datasets; they appear whole."""
    datasets = workspace.experiment.data.datasets
    found = look(str(workspace.store / "landed")).folders if datasets else {}
    return {name: folder for name, folder in found.items() if name in datasets}


def _expected(data: DataSpec) -> set[str]:
    """Domains that are named, or made by us: known before they land."""
    named = {*data.domains, *data.datasets}
    return named if data.domains or not data.harvest else named | set(HARVEST_DOMAINS)


def _refusal(data: DataSpec, folder: Folder, known: DomainState | None) -> MixtureError | None:
    """Why a settled folder can be no domain; one that is named may still get its shards."""
    try:
        validate_domain(folder.name)
    except MixtureError as error:
        return error
    if folder.problem:
        return MixtureError(
            f"the folder of {folder.name!r} cannot be read: {folder.problem}",
            hint="give read access, or move it out of the raw root",
        )
    if folder.shards or folder.name in data.domains or (known and known.is_here):
        return None
    return MixtureError(f"domain {folder.name!r} has no shard", hint=KNOWN_FORMATS)


def _change(folder: Folder, now: float) -> str:
    name = f"{folder.name}/{folder.newest}" if folder.newest else folder.name
    return f"{name!r} changed {seconds_text(abs(now - folder.changed_at))} ago"


def _loss(data: DataSpec, domain: str, root: Root) -> str:
    """Why a domain that was there counts as gone."""
    if domain not in root.folders:
        return "its folder is gone"
    is_wanted = not data.domains or domain in data.domains
    return "no shard is left in its folder" if is_wanted else "[data] domains leaves it out"


def _warn(message: str) -> None:
    warnings.warn(message, MixtureWarning, stacklevel=3)
