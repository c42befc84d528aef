"""Which proxy runs would narrow a decision's interval most, and when more of them are pointless.

Source:
    Sequential Bayesian experimental design (Chaloner and Verdinelli, Statistical Science 1995,
    c-optimality): the run is best that lowers the variance of what is decided on most, in
    expectation; it is chosen, counted as done, and the next one is looked for. With the errors of
    the laws taken as normal and the laws as linear about the fit, a run at w with noise variance v
    takes from the variance of the gain

        cov(gain, f(w))^2 / (v + var f(w)).

Shapes:
    C candidate mixtures, D domains, M metrics, R runs, P parameters of one law, N runs chosen.

Units:
    Gains, widths and noise in the unit of the objective.

Differs from the source:
    What is decided on is the gain of the best mixture over natural, not of the proposal, which
    holds back while that is uncertain. A run measures the objective alone, not each metric of it.
    Candidates are a few hundred mixtures within the region rather than all of it. Covariances of
    bootstrap draws in place of linear ones choose no better, and where little is known a few wild
    draws decide everything. Where the best mixture may be, the draws do say: what a run is chosen
    by is the mean variance of the gains of all their optima.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.stats import norm

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.mixture import Mixture
from mixture_assets.methods.decision import Case, Decision, Settings, Value
from mixture_assets.methods.optimum import Convex, minimise
from mixture_assets.methods.region import Region
from mixture_assets.methods.resample import FittedLaws
from mixture_assets.methods.swarm import Array, Swarm

_Z = float(norm.ppf(0.95))
_N_RANDOM = 300  # candidates drawn at random, half of them about the bare optimum
_CONCENTRATIONS = (0.5, 20.0)  # of those draws, times the number of domains: corners to centre
_N_OPTIMA = 100  # draws' optima whose gains are to be known
_PUSH = 1e-6  # least share of a domain in the centre of draws
_UNLIKELY = 0.05  # that further runs change the verdict


@dataclass(frozen=True, kw_only=True)
class NextRuns:
    """Runs in the order in which they help, and whether they are worth it."""

    decision: Decision
    gain: Value  # of the best mixture over natural, on the runs that there are
    mixtures: tuple[Mixture, ...]
    half_widths: tuple[float, ...]  # of the gain's 90 % interval, expected after each
    n_needed: int | None  # further runs until what is asked can be said; None: not in this way
    is_enough: bool
    reason: str  # a sentence


def next_runs(
    swarm: Swarm,
    shares: Mapping[str, float],
    natural: Mixture | None = None,
    settings: Settings | None = None,
    *,
    n_runs: int = 8,
    precision: float = 0.25,
) -> NextRuns:
    """Name the runs that would narrow the gain's interval most, and say when to stop.

    Args:
        swarm: Runs of one size and length.
        shares: Metric -> share of the objective.
        natural: What the gain is measured against; the mean of the runs' mixtures by default.
        settings: Constraints, which hold for the runs as well.
        n_runs: How many.
        precision: Half-width of the interval, as a share of the gain, that is narrow enough.
    """
    if n_runs < 1 or not precision > 0:
        raise MixtureError(f"{n_runs} runs for a precision of {precision:g}: both must be above 0")
    case = Case(swarm, shares, natural, settings or Settings())
    decision = case.decision()
    bare, proposal = (
        np.array([m[name] for name in swarm.domains])
        for m in (decision.mixtures["bare"], decision.mixture)
    )
    drawn = case.optima()
    asked = candidates(swarm, case.region, [bare, proposal, case.nat], case.settings.seed)
    known, of_asked, of_drawn = (
        error_factor(case.fitted, w) for w in (np.stack([case.nat, bare]), asked, drawn[:_N_OPTIMA])
    )
    chosen = choose(known[0] - of_drawn, of_asked, decision.noise_sd, n_runs)
    sds = narrowed(known[0] - known[1], of_asked[chosen], decision.noise_sd)
    gain = case.gain(bare, drawn)
    sds = sds * _scale(gain, sds[0], decision)
    stop = _Stop(decision, gain, sds, case.objective, len(swarm.domains), precision)
    is_enough, reason = stop.said()
    return NextRuns(
        decision=decision,
        gain=gain,
        mixtures=tuple(
            Mixture.proportional_to(dict(zip(swarm.domains, asked[i].tolist(), strict=True)))
            for i in chosen
        ),
        half_widths=tuple((_Z * sds[1:]).tolist()),
        n_needed=stop.n_needed,
        is_enough=is_enough,
        reason=reason,
    )


# --- which runs -------------------------------------------------------------------------------


def error_factor(fitted: FittedLaws, mixtures: Array) -> Array:
    """F, (C, K), such that F F' is the covariance of the objective's errors at (C, D) mixtures.

    The parameters of a metric's law err by (J'J + P'P)^-1 (J' e + P' z), with J the slopes at the
    runs, P the penalty, e the noise of the runs, which metrics share as far as their residuals do,
    and z what the penalty knows a priori, of the same sd.
    """
    free = np.maximum(fitted.free_share.sum(axis=0), 1.0)
    residuals = fitted.residuals / np.sqrt(free)
    mixed = np.linalg.cholesky(
        residuals.T @ residuals + 1e-12 * np.diag((residuals**2).sum(axis=0) + 1e-300)
    )  # (M, M), noise of each metric from as many independent ones
    parts = []
    of_noise = np.zeros((mixed.shape[1], len(mixtures), len(fitted.weights)))
    for m, fit in enumerate(fitted.fits):
        if fit.spread == 0:
            continue
        slopes, penalty = fit.slopes(fitted.weights), fit.penalty(len(fitted.weights))
        inverse = np.linalg.pinv(slopes.T @ slopes + penalty.T @ penalty)
        reach = fitted.shares[m] * fit.slopes(mixtures) @ inverse
        of_noise += mixed[m][:, None, None] * (reach @ slopes.T)
        parts.append(reach @ penalty.T * np.linalg.norm(mixed[m]))
    return np.hstack([*of_noise, *parts])


def choose(targets: Array, values: Array, noise_sd: float, n_runs: int) -> list[int]:
    """The best run, then the best one after it, and so on; a mixture may come twice.

    The best run lowers the sum of the targets' variances most.

    Args:
        targets: (T, K), errors of what is to be known, as rows of a factor of their covariance.
        values: (C, K), those of the objective at each candidate.
        noise_sd: Of one run.
        n_runs: N.

    Returns:
        Places among the candidates, in order.
    """
    covariance, shared, chosen = values @ values.T, targets @ values.T, []
    for _ in range(n_runs):
        total = np.maximum(np.diag(covariance) + noise_sd**2, 1e-300)
        best = int(((shared**2).sum(axis=0) / total).argmax())
        chosen.append(best)
        share = covariance[best] / total[best]
        shared = shared - np.outer(shared[:, best], share)
        covariance = covariance - np.outer(share, covariance[best])
    return chosen


def narrowed(gain: Array, measured: Array, noise_sd: float) -> Array:
    """A gain's sd before and after each of some runs, (N + 1,).

    Args:
        gain: (K,), its error as a row of a factor.
        measured: (N, K), those of the objective at the runs.
        noise_sd: Of one run.
    """
    inner, shared = measured @ measured.T, measured @ gain
    inner[np.diag_indices_from(inner)] += max(noise_sd**2, 1e-12 * float(gain @ gain))
    root = np.linalg.cholesky(inner)
    taken = np.cumsum(solve_triangular(root, shared, lower=True) ** 2)
    return np.sqrt(np.maximum(float(gain @ gain) - np.concatenate([[0.0], taken]), 0.0))


def _scale(gain: Value, sd: float, decision: Decision) -> float:
    """From linear sds to those of the bootstrap, unless so little is known that these are wild."""
    if decision.verdict == "not identifiable" or not sd > 0:
        return 1.0
    return (gain.high - gain.low) / (2 * _Z * sd)


def candidates(swarm: Swarm, region: Region, known: Sequence[Array], seed: int) -> Array:
    """Mixtures within the region that might be run, (C, D).

    Args:
        swarm: The runs that there are.
        region: What is allowed.
        known: (D,) mixtures that matter, within the region or not; draws gather about the first.
        seed: Of the draws.
    """
    rng, n = np.random.default_rng(seed), len(swarm.domains)
    centres = [swarm.weights.mean(axis=0), known[0]]
    low, high = np.log(_CONCENTRATIONS)
    size = n * np.exp(rng.uniform(low, high, _N_RANDOM))
    random = [rng.dirichlet(np.maximum(centres[i % 2], _PUSH) * size[i]) for i in range(_N_RANDOM)]
    return within(np.vstack([*known, np.eye(n), random]), region, centres[0])


def within(mixtures: Array, region: Region, centre: Array) -> Array:
    """The same (C, D) mixtures moved into the region.

    First to the nearest weights within every domain's bounds; where a group is then out of its
    own, towards the allowed mixture that is nearest to `centre` in relative entropy.
    """
    moved = _boxed(mixtures, region)
    if not len(region.rows):
        return moved
    pull = Convex(
        amplitude=np.zeros((1, 1)),
        exponent=np.zeros((1, 1, len(centre))),
        kl=1.0,
        reference=np.maximum(centre, _PUSH),
    )
    anchor = minimise(pull, region).weights[0]
    sums, start = moved @ region.rows.T, region.rows @ anchor
    change = sums - start
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.where(sums > region.row_high, (region.row_high - start) / change, 1.0)
        down = np.where(sums < region.row_low, (region.row_low - start) / change, 1.0)
    step = np.clip(np.minimum(up, down).min(axis=1), 0.0, 1.0)
    return np.asarray(anchor + step[:, None] * (moved - anchor))


def _boxed(mixtures: Array, region: Region) -> Array:
    """Euclidean projection on low <= w <= high, sum w = 1: w = clip(x - shift), by bisection."""
    least, most = np.full(len(mixtures), -1.0), np.full(len(mixtures), 1.0)
    for _ in range(60):
        shift = (least + most) / 2
        total = np.clip(mixtures - shift[:, None], region.low, region.high).sum(axis=1)
        least, most = np.where(total > 1, shift, least), np.where(total > 1, most, shift)
    return np.asarray(np.clip(mixtures - most[:, None], region.low, region.high))


# --- when to stop -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stop:
    """What further runs could still say."""

    decision: Decision
    gain: Value
    sds: Array  # (N + 1,), of the gain before and after each run
    objective: Array  # (R,)
    n_domains: int
    precision: float

    @property
    def n_needed(self) -> int | None:
        if self.decision.verdict == "not identifiable":
            return self._n_to_learn()
        return runs_until(self.sds, self.precision * self.gain.value / _Z)

    def said(self) -> tuple[bool, str]:
        if self.decision.verdict == "not identifiable":
            return self._nothing_known()
        half, value = (self.gain.high - self.gain.low) / 2, self.gain.value
        now = f"the best mixture gains {value:.4g} +- {half:.4g}"
        noise = f"the noise of one run, {self.decision.noise_sd:.4g}"
        if self.decision.verdict == "supported" and half <= self.precision * value:
            return True, f"stop: supported, and {now}, which is as narrow as was asked"
        if self.gain.high < self.decision.noise_sd:
            return True, f"stop: {now}, all of it below {noise}: no single full run could show it"
        n = len(self.objective)
        chance = chance_of_support(value, self.sds, n)
        if self.decision.verdict == "within noise" and chance < _UNLIKELY:
            return (
                True,
                f"stop: {now}; {n} further runs would show it with a chance of {chance:.0%}",
            )
        return False, f"go on: {now}; {self._promise()}"

    def _promise(self) -> str:
        batch = len(self.sds) - 1
        after = f"+- {_Z * self.sds[-1]:.4g} expected after {batch} runs"
        if self.n_needed is None:
            return after
        return f"{after}, {self.precision:g} of the gain after about {self.n_needed}"

    def _n_to_learn(self) -> int | None:
        ratio = self._signal()
        return None if ratio <= 0 else max(0, runs_to_learn(ratio, self.n_domains) - self._n_runs)

    @property
    def _n_runs(self) -> int:
        return len(self.objective)

    def _signal(self) -> float:
        """Variance of the objective that is not noise, over that of noise."""
        if self.decision.noise_from == "residuals":
            return 1.0  # not known: as if half of what is seen were the mixtures' doing
        noise = self.decision.noise_sd**2
        return max(0.0, float(self.objective.var(ddof=1)) / max(noise, 1e-300) - 1)

    def _nothing_known(self) -> tuple[bool, str]:
        spread, noise = float(self.objective.std(ddof=1)), self.decision.noise_sd
        repeated = self.decision.noise_from == "replicates"
        if self._signal() <= 0:
            return True, (
                f"stop: runs differ by {spread:.4g}, replicates by {noise:.4g}: more runs like "
                "these show nothing; lower the noise (longer runs, a larger validation set) or "
                "spread the mixtures"
            )
        known = (
            f"runs differ by {spread:.4g}, replicates by only {noise:.4g}"
            if repeated
            else f"if half of the variance between runs (sd {spread:.4g}) were their mixtures'"
        )
        total = runs_to_learn(self._signal(), self.n_domains)
        if total <= self._n_runs:
            return True, (
                f"stop: {known}{',' if repeated else ''} {'and ' if repeated else ''}a law would "
                f"have shown with about {total} runs; there are {self._n_runs}: what the "
                "objective follows is not the mixture"
            )
        return False, f"go on: {known}, about {total} runs in all would show a law, as often as not"


def runs_until(sds: Array, asked: float) -> int | None:
    """Runs until an sd is `asked`, if each adds as much precision as those of a batch.

    1 / sd^2 grows by the same amount with each run.

    Args:
        sds: (N + 1,), before and after each run of the batch.
        asked: In the same unit.
    """
    rate = _rate(sds)
    if asked <= 0 or not rate > 0:
        return None
    return max(0, math.ceil(float((asked**-2 - sds[0] ** -2) / rate) - 1e-9))


def chance_of_support(gain: float, sds: Array, n_runs: int) -> float:
    """How likely the gain's 90 % interval lies above 0 after further runs like those of a batch.

    Before them, the estimate after them is normal about the gain, with the variance that they take
    away.
    """
    rate = _rate(sds)
    if not rate > 0:
        return float(gain > _Z * sds[0])
    after = 1 / math.sqrt(sds[0] ** -2 + n_runs * rate)
    return float(norm.cdf((gain - _Z * after) / math.sqrt(sds[0] ** 2 - after**2)))


def _rate(sds: Array) -> float:
    """Precision that a run adds, on average over a batch."""
    if not (sds[0] > 0 and sds[-1] > 0):
        return 0.0
    return float((sds[-1] ** -2 - sds[0] ** -2) / (len(sds) - 1))


def runs_to_learn(ratio: float, n_domains: int) -> int:
    """Runs with which a law would beat the mean on held-out runs at 95 %, as often as not.

    With q = signal / noise in variance, a fit of D parameters to n runs lowers the squared error
    by q - D / n on average, in units of the noise's variance, and by sqrt(2 q^2 + 4 q) more or less
    from run to run. So the least n with  n q - D = 1.64 sqrt(n (2 q^2 + 4 q)).
    """
    b = _Z * math.sqrt(2 * ratio**2 + 4 * ratio)
    root = (b + math.sqrt(b**2 + 4 * ratio * n_domains)) / (2 * ratio)
    return math.ceil(root**2)
