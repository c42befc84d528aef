"""What selecting training data costs, in FLOPs, beside what training on it costs.

Source:
    Yin and Rush, "Compute-Constrained Data Selection", ICLR 2025, arXiv:2410.16208, section 3
    and figures 1, 2 and 4. Times of gradient features: Xia et al., "LESS", ICML 2024,
    arXiv:2402.04333, table 4.

Units:
    N parameters that take part in matrix products, T tokens. Reading a token costs 2 N FLOPs
    (forward), learning from it 6 N (forward and backward).

Differs from the source:
    The source leaves the fine-tuning of the perplexity selector out of its figures, takes
    sorting, BM25 and embeddings as free, and divides the whole cost by the number of tasks. Here
    fine-tuning and warm-up are counted where tokens are given, seconds of work that has no FLOP
    count are converted at a stated rate, and only what tasks can share is divided among them.
"""

from dataclasses import dataclass

from mixture_assets.core.errors import MixtureError

FORWARD = 2.0  # FLOPs per parameter and token
TRAINING = 6.0
GRADIENT_FORWARDS = 3.0  # forward passes that one snapshot's gradients cost: the source's theory
# LESS, table 4: 48 h of features to 6 h of warm-up, which is 4 epochs on 5 % of the pool.
LESS_WARMUP_SHARE = 0.05 * 4
LESS_MEASURED_FORWARDS = LESS_WARMUP_SHARE * 48 / 6 * TRAINING / FORWARD  # 4.8, all snapshots


@dataclass(frozen=True, kw_only=True)
class SelectionCost:
    """FLOPs of scoring a whole pool once, whatever share of it is then trained on."""

    preparation_flops: float = 0.0  # warm-up or fine-tuning of the selector
    scoring_flops: float = 0.0  # of every document of the pool
    cpu_seconds: float = 0.0  # of work whose FLOPs are not counted
    flops_per_second: float = 0.0  # at which those seconds are converted
    is_shared: bool = True  # whether one pass over the pool serves several tasks

    def __post_init__(self) -> None:
        for what in ("preparation_flops", "scoring_flops", "cpu_seconds", "flops_per_second"):
            _amount(getattr(self, what), what.replace("_flops", " FLOPs").replace("_", " "))
        if self.cpu_seconds and self.flops_per_second <= 0:
            raise MixtureError(
                f"{self.cpu_seconds:g} s of CPU time have no price in FLOPs",
                hint="state the machine's rate: flops_per_second",
            )

    @property
    def cpu_flops(self) -> float:
        """What the machine could have trained with in the seconds that were spent."""
        return self.cpu_seconds * self.flops_per_second if self.cpu_seconds else 0.0

    @property
    def flops(self) -> float:
        """All of it, for one task."""
        return self.preparation_flops + self.scoring_flops + self.cpu_flops

    def per_task(self, n_tasks: int) -> float:
        """C_sel / T where the scores, or what they are made of, serve T tasks; else C_sel."""
        if n_tasks < 1:
            raise MixtureError(f"the number of tasks must be 1 or more, got {n_tasks}")
        return self.flops / n_tasks if self.is_shared else self.flops


def forward_flops(params: float, tokens: float) -> float:
    """2 N T: reading tokens."""
    return FORWARD * _amount(params, "parameters") * _amount(tokens, "tokens")


def train_flops(params: float, tokens: float) -> float:
    """6 N T: learning from tokens."""
    return TRAINING * _amount(params, "parameters") * _amount(tokens, "tokens")


def free_cost() -> SelectionCost:
    """Random order: a hash of each document's name."""
    return SelectionCost()


def lexical_cost(*, cpu_seconds: float = 0.0, flops_per_second: float = 0.0) -> SelectionCost:
    """BM25: no model, seconds of a CPU.

    Args:
        cpu_seconds: Measured; 0 is the source's price.
        flops_per_second: What the machine does in training.
    """
    return SelectionCost(cpu_seconds=cpu_seconds, flops_per_second=flops_per_second)


def embedding_cost(
    params: float, pool_tokens: float, *, cpu_seconds: float = 0.0, flops_per_second: float = 0.0
) -> SelectionCost:
    """One forward pass of the embedder over the pool; vectors of the pool serve every task.

    Args:
        params: Of the embedder; 0 for one without matrix products, such as TF-IDF.
        pool_tokens: Of the whole pool.
        cpu_seconds: Of work without a FLOP count.
        flops_per_second: What the machine does in training.
    """
    return SelectionCost(
        scoring_flops=forward_flops(params, pool_tokens),
        cpu_seconds=cpu_seconds,
        flops_per_second=flops_per_second,
    )


def perplexity_cost(
    params: float, pool_tokens: float, *, tuning_tokens: float = 0.0
) -> SelectionCost:
    """One forward pass of a selector that was fine-tuned on the specialist set: not shared.

    Args:
        params: Of the selector.
        pool_tokens: Of the whole pool.
        tuning_tokens: That the selector was fine-tuned on, epochs counted.
    """
    return SelectionCost(
        preparation_flops=train_flops(params, tuning_tokens),
        scoring_flops=forward_flops(params, pool_tokens),
        is_shared=False,
    )


def gradient_cost(
    params: float,
    pool_tokens: float,
    *,
    warmup_tokens: float = 0.0,
    snapshots: int = 1,
    forwards: float | None = None,
) -> SelectionCost:
    """Gradients of the pool at each snapshot of a warm-up; they serve every task.

    Args:
        params: Of the selector.
        pool_tokens: Of the whole pool.
        warmup_tokens: That the selector was trained on, epochs counted.
        snapshots: Whose gradients are summed.
        forwards: Measured cost of all snapshots in forward passes over the pool; by default
            three for each snapshot, as in theory.
    """
    multiple = GRADIENT_FORWARDS * snapshots if forwards is None else _amount(forwards, "forwards")
    return SelectionCost(
        preparation_flops=train_flops(params, warmup_tokens),
        scoring_flops=multiple * forward_flops(params, pool_tokens),
    )


def less_as_measured(params: float, pool_tokens: float) -> SelectionCost:
    """LESS at the cost that its authors measured: 1.8 trainings of the selector on the pool."""
    return gradient_cost(
        params,
        pool_tokens,
        warmup_tokens=LESS_WARMUP_SHARE * pool_tokens,
        forwards=LESS_MEASURED_FORWARDS,
    )


def _amount(value: float, what: str) -> float:
    if not 0 <= value < float("inf"):
        raise MixtureError(f"the number of {what} must be 0 or more and finite, got {value:g}")
    return value
