"""Carry weights from two scales to a larger budget, with the safe rule and the paper's.

Six domains of natural text, best weights at 0.4 M and at 1.2 M tokens (docs/methods.md). Two of
them sit at their floor at the small scale: watch what the paper's rule makes of 'proposals'.
"""

from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.extrapolate import extrapolate

SMALL, LARGE = 0.4e6, 1.2e6  # tokens
WEIGHTS = {  # domain: (at the small scale, at the large one)
    "novels": (0.03, 0.11),
    "mathematics": (0.22, 0.18),
    "proposals": (0.03, 0.19),
    "law": (0.19, 0.16),
    "code": (0.28, 0.20),
    "word_problems": (0.24, 0.16),
}


def main() -> None:
    """Print the weights by budget and rule."""
    scales = []
    for i, tokens in enumerate((SMALL, LARGE)):
        mixture = Mixture.proportional_to({name: pair[i] for name, pair in WEIGHTS.items()})
        scales.append({name: weight * tokens for name, weight in mixture.items()})
    for rule in ("safe", "paper"):
        print(f"rule {rule!r}")
        for budget in (2e6, 4e6, 12e6):
            answer = extrapolate(*scales, budget_tokens=budget, rule=rule, floor=0.2)
            cells = "  ".join(f"{name} {weight:.2f}" for name, weight in answer.weights.items())
            held = f"  held: {', '.join(answer.held)}" if answer.held else ""
            print(f"  {budget / 1e6:>4.0f} M  {cells}{held}")


if __name__ == "__main__":
    main()
