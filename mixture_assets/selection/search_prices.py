"""What a search for a mixture costs beside the training that it is for, at published settings.

Source:
    DDO at two scales (AutoScale): Kang et al., arXiv:2407.20177. Swarm: RegMix, Liu et al.,
    arXiv:2407.01492. DGA: Fan, Grangier and Ablin, arXiv:2410.02498.

Units:
    Overheads in multiples of the training run that the mixture is for.

Differs from the source:
    Proportions of the published settings, carried to any budget. Evaluation is not counted.
"""

from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError

SEARCHES = ("ddo", "swarm", "dga")
_DDO_SCALES = (0.03, 0.12)  # 0.3B and 1.2B tokens for a run of 10B, the same model
_SWARM = 512 * (1e6 / 1e9) * (1e9 / 25e9)  # runs x parameters x tokens, beside 1B and 25B
_DGA_STEPS = 100  # between updates


@dataclass(frozen=True, kw_only=True)
class SearchPrice:
    """A way to choose a mixture over domains instead of documents."""

    name: str
    overhead: float  # FLOPs of the search in multiples of those of the training run
    basis: str  # what the price rests on

    def __post_init__(self) -> None:
        if not 0 <= self.overhead < float("inf"):
            raise MixtureError(
                f"the overhead of {self.name!r} is {self.overhead:g}, not 0 or more",
                hint="0.5 says that the search costs half of the training run",
            )


def published_prices(n_domains: int) -> list[SearchPrice]:
    """DDO, a swarm and DGA over so many domains; none where there is one domain."""
    if n_domains < 2:
        return []
    return [
        SearchPrice(
            name="ddo",
            overhead=(2 * n_domains + 1) * sum(_DDO_SCALES),
            basis=f"{2 * n_domains + 1} runs at 3 % and at 12 % of the tokens",
        ),
        SearchPrice(
            name="swarm",
            overhead=_SWARM,
            basis="512 runs of 1/1000 of the parameters at 1/25 of the tokens",
        ),
        SearchPrice(
            name="dga",
            overhead=(n_domains + 1) / _DGA_STEPS,
            basis=f"{n_domains + 1} more gradients every {_DGA_STEPS} steps",
        ),
    ]
