"""Options that say what weights must respect, the same for every verb that decides."""

import functools
from typing import Any

import click

_USUAL: dict[str, Any] = {
    "available": "",
    "natural": "",
    "budget": None,
    "max_epochs": None,
    "floor": "",
    "cap": "",
    "group": (),
    "protect": "",
    "kl": "auto",
    "beyond_samples": False,
    "draws": 1000,
    "seed": 0,
}
_OPTIONS = (
    click.option("--available", help="Tokens by domain: web=2e9,code=3e8, or a file."),
    click.option("--natural", help="Natural weights, where --available does not say them."),
    click.option("--budget", type=float, help="Tokens of the full run, for --max-epochs."),
    click.option("--max-epochs", type=float, help="Most passes over any domain."),
    click.option("--floor", help="Least weights: web=0.1,code=0.05, or a file."),
    click.option("--cap", help="Largest weights."),
    click.option("--group", multiple=True, help="Bound on a sum: 'code+maths<=0.3'; repeatable."),
    click.option("--protect", help="Domains that keep their natural weight or more."),
    click.option("--kl", help="Pull to natural: auto, or a number; 0: the bare optimum."),
    click.option("--beyond-samples", is_flag=True, help="Leave the range that the runs had."),
    click.option("--draws", type=int, help="Draws behind the intervals (1000)."),
    click.option("--seed", type=int, help="Of the draws and of the held-out parts (0)."),
)


def idle_option(options: dict[str, Any]) -> str:
    """The first option that was given, as it is typed; "" if none was."""
    given = [name for name, value in options.items() if value != _USUAL[name]]
    return f"--{given[0].replace('_', '-')}" if given else ""


def decision_options(command: Any) -> Any:
    """Add the options to a verb, which gets `options` for DecisionOptions.from_text."""

    @functools.wraps(command)
    def told(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _USUAL}
        given = {n: _USUAL[n] if value is None else value for n, value in given.items()}
        return command(*args, options=given, **kwargs)

    for option in reversed(_OPTIONS):
        told = option(told)
    return told
