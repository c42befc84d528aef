"""Getting ready to serve; the server itself is in tests/test_browser.py."""

import socket

import dagster as dg
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.corpus import Workspace
from mixture_assets.defs.server import prepare_home, register_domains, serve


def test_a_home_gets_our_settings_once(tmp_path):
    home = prepare_home(tmp_path / "home")
    settings = home / "dagster.yaml"
    assert "telemetry:\n  enabled: false" in settings.read_text()
    settings.write_text("telemetry:\n  enabled: false\n# mine\n")
    assert prepare_home(home) == home
    assert settings.read_text().endswith("# mine\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert not instance.telemetry_enabled


def test_domains_are_registered_and_forgotten(instance, tiny):
    instance.add_dynamic_partitions("domain", ["gone"])
    assert register_domains(Workspace.open(tiny), instance) == ["animals", "numbers", "plants"]
    assert sorted(instance.get_dynamic_partitions("domain")) == ["animals", "numbers", "plants"]


def test_a_root_without_domains_is_named(instance, tmp_path):
    path = tmp_path / "e.toml"
    path.write_text('name = "e"\nstore = "s"\n[data]\nroot = "r"\n[full]\nbudget_tokens = 1\n')
    with pytest.raises(MixtureError, match=r"no domain under '.*/r'"):
        register_domains(Workspace.open(path), instance)


def test_a_port_in_use_is_named(tiny):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MixtureError, match=rf"port {port} .* in use") as caught:
            serve(tiny, port)
    assert caught.value.hint == f"mixture ui --port {port + 1}"
