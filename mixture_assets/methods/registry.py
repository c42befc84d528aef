"""Methods by the name that an experiment file, a table or a command line gives them."""

from collections.abc import Mapping

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest
from mixture_assets.methods.autoscale import AutoScale
from mixture_assets.methods.base import Method
from mixture_assets.methods.baselines import Natural, Uniform
from mixture_assets.methods.crisp import Crisp
from mixture_assets.methods.ddo import DDO
from mixture_assets.methods.extend import ExtendedDDO
from mixture_assets.methods.random_swarm import RandomSwarm
from mixture_assets.methods.reuse import Reuse
from mixture_assets.methods.temperature import Temperature
from mixture_assets.methods.unimax import UniMax

METHODS: Mapping[str, type[Method]] = {
    "natural": Natural,
    "uniform": Uniform,
    "ddo": DDO,
    "autoscale": AutoScale,
    "extended_ddo": ExtendedDDO,
    "reuse": Reuse,
    "swarm": RandomSwarm,
    "temperature": Temperature,
    "unimax": UniMax,
    "crisp": Crisp,
}


def method_class(name: str) -> type[Method]:
    """Look a method up by name."""
    if name not in METHODS:
        raise MixtureError(
            f"no method is called {name!r}{nearest(name, METHODS)}",
            hint=f"known methods: {', '.join(METHODS)}",
        )
    return METHODS[name]
