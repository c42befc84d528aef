"""A mixture schedule: which mixture applies from which token of a run on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture


@dataclass(frozen=True)
class MixtureSchedule:
    """Phases [(from_token, Mixture)]: a static run has one entry, an online run appends."""

    phases: tuple[tuple[int, Mixture], ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.phases]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise MixtureError(
                f"a schedule needs strictly growing starts from token 0, got {starts[:5]}"
            )

    @classmethod
    def static(cls, mixture: Mixture) -> "MixtureSchedule":
        """One mixture from the first token to the last."""
        return cls(((0, mixture),))

    def to_json(self) -> list[dict[str, Any]]:
        """A JSON value that `from_json` reads back."""
        return [{"from_token": start, "mixture": dict(m)} for start, m in self.phases]

    @classmethod
    def from_json(cls, value: list[Mapping[str, Any]]) -> "MixtureSchedule":
        """The inverse of `to_json`."""
        return cls(tuple((int(p["from_token"]), Mixture(p["mixture"])) for p in value))
