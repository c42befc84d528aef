"""Sentences that a reader must see beside proposed weights."""

from collections.abc import Sequence

from mixture_assets.core.problem import CurveFit
from mixture_assets.core.units import tokens_text

_FAR = 10.0  # the paper goes from 1.2B to 10B tokens


def fit_notes(curves: Sequence[CurveFit], noise_sd: float | None) -> list[str]:
    """What the fits cannot say, or say about the data."""
    notes = []
    if any(curve.degrees_of_freedom == 0 for curve in curves):
        notes.append(
            "some fits have 0 degrees of freedom: three points determine three parameters and "
            "say nothing about noise; more seeds would"
        )
    if noise_sd is None:
        notes.append(
            "the noise between seeds was not measured, so the weights have no intervals; "
            "repeat the base run with [proxy] base_seeds"
        )
    for curve in curves:
        where = f"at the {curve.scale} scale"
        if not curve.is_improving:
            consequence = ": it gets its floor there" if curve.is_at_floor else ""
            notes.append(f"more {curve.domain!r} did not lower the objective {where}{consequence}")
        largest = max(x for x, _ in curve.points)
        if curve.optimum > largest * (1 + 1e-9):
            notes.append(
                f"the optimum of {curve.domain!r} {where}, {curve.optimum:.3g} times its base "
                f"amount, lies beyond the largest amount tried, {largest:g}"
            )
    return notes


def extrapolation_notes(factor: float) -> list[str]:
    """How far the budget is from what was measured."""
    if factor > _FAR:
        return [f"the budget is {factor:.3g} times the largest proxy budget: a long way to go"]
    if factor < 1:
        return [
            f"the budget is only {factor:.3g} of the largest proxy budget: "
            "the proxy runs cost more than the run they are for"
        ]
    return []


def floor_notes(
    grown: Sequence[str], held: Sequence[str], weights: dict[str, float], budget_tokens: float
) -> list[str]:
    """What became of domains that grew out of their floor between the two scales."""
    if held:
        listed = ", ".join(f"{name!r} at {weights[name]:.1%}" for name in sorted(held))
        return [
            "growth out of a floor is an artefact of the floor and was not extrapolated: "
            f"the larger scale's weight is kept for {listed}"
        ]
    return [
        f"{name!r} grew out of its floor between the scales and the paper's rule carries that on "
        f"to {weights[name]:.1%} at {tokens_text(budget_tokens)} tokens, which is an artefact of "
        "the floor; rule = 'safe' does not"
        for name in sorted(grown)
    ]
