"""The asset graph on this machine: Dagster's pages and daemon, on 127.0.0.1 only."""

import os
import shutil
import signal
import socket
import sys
from importlib import resources
from pathlib import Path

import dagster as dg

from mixture_assets import arrivals, corpus
from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace
from mixture_assets.defs.automation import decide
from mixture_assets.defs.partitions import DOMAINS
from mixture_assets.defs.proxies import TRAINING_POOL
from mixture_assets.defs.resources import EXPERIMENT_VARIABLE

HOST = "127.0.0.1"  # the pages have no password: never on another interface
_PACKAGED = ("dagster.yaml", "workspace.yaml")


def serve(experiment: Path, port: int) -> int:
    """Become `dagster dev` for one experiment; returns only if it cannot start."""
    workspace = Workspace.open(experiment)
    _require_free(port)
    home = prepare_home(workspace.store.parent / "dagster_home")
    corpus.land(workspace)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        register_domains(workspace, instance, say=_say)
        register_pool(instance)
    arguments = ["dev", "--host", HOST, "--port", str(port), "-w", str(home / "workspace.yaml")]
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        EXPERIMENT_VARIABLE: str(experiment.resolve()),
        "PYTHONWARNINGS": "ignore:Function `dev_command` is superseded",
    }
    # A script's `mixture ui &` begins with it ignored, and Dagster would then ignore SIGTERM too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execve(sys.executable, [sys.executable, "-m", "dagster", *arguments], environment)
    return 1


def prepare_home(home: Path) -> Path:
    """A DAGSTER_HOME with our settings; files that are there stay as they are."""
    home.mkdir(parents=True, exist_ok=True)
    packaged = resources.files("mixture_assets.defs")
    for name in _PACKAGED:
        if not (home / name).exists():
            with resources.as_file(packaged / name) as source:
                shutil.copyfile(source, home / name)
    return home.resolve()


def register_domains(
    workspace: Workspace, instance: dg.DagsterInstance, *, say: arrivals.Say | None = None
) -> list[str]:
    """Make the partitions match the raw root at once; later the sensor `new_domains` does it."""
    landed = arrivals.await_landing(workspace, say).landed
    if not landed:
        raise MixtureError(
            f"no domain under {workspace.experiment.data_root!r}",
            hint="make one folder per domain, and put shards in it",
        )
    assert DOMAINS.name is not None
    found = decide(instance.get_dynamic_partitions(DOMAINS.name), landed, {})
    instance.add_dynamic_partitions(DOMAINS.name, list(found.added))
    for name in found.vanished:
        instance.delete_dynamic_partition(DOMAINS.name, name)
    return list(landed)


def register_pool(instance: dg.DagsterInstance) -> None:
    """Let Dagster know of the pool: it limits none in the look in which it first meets it."""
    instance.event_log_storage.initialize_concurrency_limit_to_default(TRAINING_POOL)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise MixtureError(
                f"port {port} on {HOST} cannot be used: {error.strerror}",
                hint=f"mixture ui --port {port + 1}",
            ) from error
