"""The two-layer student-teacher under BP and FA: differential equations for its order parameters, and its simulation.

Student and teacher see the same Gaussian input x ~ N(0, I_N) and add up g of their local fields:

    student   yhat = sum_k v_k g(lambda_k),    lambda_k = w_k.x / sqrt N,     k = 1..K
    teacher   y    = sum_m v*_m g(nu_m),       nu_m = w*_m.x / sqrt N,        m = 1..M
    error     e = yhat - y, loss e^2 / 2, one new example a step:
              w_k <- w_k - (lr_w / sqrt N) F_k e g'(lambda_k) x     (BP: v_k in the place of F_k)
              v_k <- v_k - (lr_v / N) e g(lambda_k)

With one hidden layer and one output FA and DFA are the same rule. The fields are jointly Gaussian with covariance
C = [[Q, R], [R^T, T]], Q_kl = w_k.w_l / N, R_km = w_k.w*_m / N, T_mn = w*_m.w*_n / N. A step changes Q, R and v by O(1/N),
so at large N they follow differential equations in alpha = steps / N, averages over the fields:

    dR_km / dalpha = -lr_w F_k <e g'(lambda_k) nu_m>
    dQ_kl / dalpha = -lr_w F_k <e g'(lambda_k) lambda_l> - lr_w F_l <e g'(lambda_l) lambda_k>
                     + lr_w^2 F_k F_l <e^2 g'(lambda_k) g'(lambda_l)>                               (|x|^2 / N -> 1)
    dv_k  / dalpha = -lr_v <e g(lambda_k)>

With c = (v, -v*) and z = (lambda, nu), e = sum_i c_i g(z_i), so every average is a sum of I2, I3 or I4 (`integrals`).
Averages of e times something are linear in the learning rate; the last term of dQ, quadratic in it, is what the noise of
single examples adds. After Saad and Solla (1995), Goldt et al. (2019) and, for the feedback vector, Refinetti et al. (2021);
derived in chapter 05_student_teacher. The second half of the module is about deep linear networks under DFA.

numpy and scipy only, float64. `sweep` runs a `StudentTeacher` as it runs a `Config`: one seed makes one record, with
`config.as_dict()`, `run.evaluations(i)` and `run.final(i)` as its fields of those names.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.special import erf

from .config import make_real
from .errors import DfaLibError, unknown

# --- Gaussian averages -------------------------------------------------------------------------------------------------


def integrals(C: ndarray, tilted: int | None = None) -> tuple[ndarray, ndarray, ndarray]:
    """Averages over z ~ N(0, C), C (..., n, n), for g(z) = erf(z / sqrt 2), in closed form:

        I2[i, j] = <g(z_i) g(z_j)>    I3[k, j, i] = <g'(z_k) z_j g(z_i)>    I4[k, l, i, j] = <g'(z_k) g'(z_l) g(z_i) g(z_j)>

    The indices k and l of g' run over the first `tilted` variables (all by default). All three come from one remark:
    g'(z_k) is a Gaussian factor, so averaging with it is averaging over another Gaussian (`tilt`). Chapter
    05_student_teacher, equations st-tilt to st-i4.
    """
    n = C.shape[-1]
    K = n if tilted is None else tilted
    once, norm = tilt(C, K)  # (..., k, n, n), (..., k)
    twice, more = tilt(once, K)  # (..., k, l, n, n), (..., k, l)
    spread = np.sqrt(1 + np.diagonal(once, axis1=-2, axis2=-1))
    three = norm[..., None, None] * once * np.sqrt(2 / np.pi) / spread[..., None, :]
    four = (norm[..., None] * more)[..., None, None] * _erf_erf(twice)
    return _erf_erf(C), three, four


def tilt(C: ndarray, K: int) -> tuple[ndarray, ndarray]:
    """For each k < K: <g'(z_k) f(z)> = norm_k <f(z)>_k for any f, the second average over N(0, C_k).

    Returns C_k = C - C[:, k] C[k, :] / (1 + C_kk), (..., K, n, n), and norm_k = sqrt(2 / pi) / sqrt(1 + C_kk), (..., K).
    """
    with_unit = 1 + np.diagonal(C, axis1=-2, axis2=-1)[..., :K]
    rows = C[..., :K, :]
    return C[..., None, :, :] - rows[..., :, None] * (rows / with_unit[..., None])[..., None, :], np.sqrt(2 / np.pi / with_unit)


def _erf_erf(C: ndarray) -> ndarray:
    spread = np.sqrt(1 + np.diagonal(C, axis1=-2, axis2=-1))
    return 2 / np.pi * np.arcsin(C / spread[..., :, None] / spread[..., None, :])


def _relu_relu(C: ndarray) -> ndarray:
    size = np.sqrt(np.diagonal(C, axis1=-2, axis2=-1))
    both = np.maximum(size[..., :, None] * size[..., None, :], np.finfo(float).tiny)
    cosine = np.clip(C / both, -1, 1)
    return both / (2 * np.pi) * (np.sqrt(1 - cosine**2) + cosine * (np.pi - np.arccos(cosine)))


@dataclass(frozen=True)
class Unit:
    """A non-linearity g, its derivative, and <g(z_i) g(z_j)> for z ~ N(0, C)."""

    g: Callable[[ndarray], ndarray]
    slope: Callable[[ndarray], ndarray]
    products: Callable[[ndarray], ndarray]


UNITS = {
    "erf": Unit(lambda z: erf(z * np.sqrt(0.5)), lambda z: np.sqrt(2 / np.pi) * np.exp(-0.5 * z * z), _erf_erf),
    "relu": Unit(lambda z: np.maximum(z, 0.0), lambda z: (z > 0).astype(float), _relu_relu),
}


# --- what is run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudentTeacher:
    """Everything that decides a student-teacher run, beside its seed. Raises `DfaLibError` for values that cannot be run.

    Learning rates are per example, with the scalings of the module's head. `Q` and `T` are the diagonals of the initial
    overlaps; `R` is a matrix (K rows), one number for all its entries, or None. Q, R and T are then made exactly (the
    weights are combined from orthonormal random vectors), but for None, where the student's weights are independent normal
    numbers of variance `Q` and R and Q scatter by O(1/sqrt N). A number for `v` is the deviation of a normal draw.
    """

    rule: str = "bp"  #: "bp" or "fa"
    K: int = 5
    M: int = 5
    N: int = 500
    unit: str = "erf"  #: "erf" or "relu"; the differential equations are for erf
    lr_w: float = 0.5
    lr_v: float = 0.5
    steps: int = 100_000
    Q: float = 0.2
    R: float | tuple[tuple[float, ...], ...] | None = 0.0
    T: float = 1.0
    v: float | tuple[float, ...] = 0.1  #: the student's second layer at the start
    teacher: tuple[float, ...] | None = None  #: v*, the teacher's second layer; None: ones
    feedback: str | tuple[float, ...] = "normal"  #: F: "normal", "signs" (+1 or -1 with equal chance), or the vector itself
    evaluations: int = 36  #: as many as fit a record
    spacing: str = "linear"  #: of the evaluations in alpha: "linear" or "log" (from alpha = 0.1 on)

    def __post_init__(self) -> None:
        make_real(self)
        for what, value, known in (("rule", self.rule, ("bp", "fa")), ("unit", self.unit, UNITS),
                                   ("spacing", self.spacing, ("linear", "log"))):  # fmt: skip
            if value not in known:
                raise unknown(f"{what} of a student-teacher run", value, known)
        if isinstance(self.feedback, str) and self.feedback not in ("normal", "signs"):
            raise unknown("feedback of a student-teacher run", self.feedback, ("normal", "signs"))
        for name in ("K", "M", "steps"):
            if getattr(self, name) < 1:
                raise DfaLibError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.N < self.K + self.M:
            raise DfaLibError(f"N must be at least K + M = {self.K + self.M}, or the weights cannot be independent; got {self.N}")
        if self.evaluations < 2:
            raise DfaLibError(f"a run needs at least 2 evaluations, its start and its end; got {self.evaluations}")
        for name, length in (("v", self.K), ("teacher", self.M), ("feedback", self.K)):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != length:
                raise DfaLibError(f"{name} needs {length} numbers; got {len(value)}")
        if isinstance(self.R, tuple) and np.shape(self.R) != (self.K, self.M):
            raise DfaLibError(f"R needs K = {self.K} rows of M = {self.M} numbers; got shape {np.shape(self.R)}")
        if self.R is not None and np.linalg.eigvalsh(self.overlaps())[0] < -1e-12:
            raise DfaLibError(f"no weights have these overlaps: R is too large for Q and T; got Q={self.Q}, R={self.R}")

    @property
    def v_star(self) -> ndarray:
        """The teacher's second layer, (M,)."""
        return np.array(self.teacher if self.teacher is not None else (1.0,) * self.M)

    def overlaps(self) -> ndarray:
        """The covariance of the fields at the start, (K + M, K + M), where `R` is given."""
        C = np.diag(np.repeat([self.Q, self.T], [self.K, self.M]))
        C[: self.K, self.K :] = self.R
        C[self.K :, : self.K] = C[: self.K, self.K :].T
        return C

    def schedule(self) -> ndarray:
        """The steps at which a run is evaluated, from 0 to `steps`, without repeats."""
        if self.spacing == "linear":
            return np.unique(np.linspace(0, self.steps, self.evaluations).round().astype(int))
        return np.unique(np.append(0, np.geomspace(min(max(1, self.N / 10), self.steps), self.steps, self.evaluations - 1).round().astype(int)))

    def as_dict(self) -> dict[str, object]:
        """All fields as JSON values."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}

    @property
    def budget(self) -> str:
        """How long is trained, in words."""
        return f"{self.steps:,} steps"

    def changed(self) -> dict[str, object]:
        """The fields that differ from their defaults, as JSON values."""
        return {name: value for name, value in self.as_dict().items() if value != StudentTeacher().as_dict()[name]}

    @classmethod
    def from_dict(cls, values: dict) -> StudentTeacher:
        """The configuration that `as_dict` or `changed` wrote down. Raises `DfaLibError` for an unknown field."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise unknown("field of a student-teacher run", name, known)
        return cls(**{name: _frozen(value) for name, value in values.items()})


def _plain(value: object) -> object:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _frozen(value: object) -> object:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Independent random numbers for one purpose ('weights', 'second layer', 'feedback', 'inputs') of one seed.

    BP and FA of one seed start from the same weights and see the same inputs.
    """
    digest = hashlib.sha256(f"student-teacher/{seed}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:8], "big")))


# --- order parameters ----------------------------------------------------------------------------------------------------


#: The fields of `Order` that are arrays.
NUMBERS = ("alpha", "Q", "R", "v", "F")


@dataclass(frozen=True)
class Order:
    """The order parameters of runs of one configuration, with any leading axes (seeds, times): `order[i]` indexes the first.

    alpha (...), Q (..., K, K), R (..., K, M), v (..., K), F (..., K). T and v* are the configuration's.
    """

    config: StudentTeacher
    alpha: ndarray
    Q: ndarray
    R: ndarray
    v: ndarray
    F: ndarray  #: the feedback vector; under BP it is drawn too, not used, and measured against

    def __getitem__(self, index: object) -> Order:
        return dataclasses.replace(self, **{name: np.asarray(getattr(self, name)[index]) for name in NUMBERS})

    def covariance(self) -> ndarray:
        """C of the fields (lambda, nu), (..., K + M, K + M)."""
        K = self.config.K
        C = np.empty((*self.v.shape[:-1], K + self.config.M, K + self.config.M))
        C[..., :K, :K], C[..., :K, K:], C[..., K:, K:] = self.Q, self.R, self.config.T * np.eye(self.config.M)
        C[..., K:, :K] = np.swapaxes(self.R, -1, -2)
        return C

    def coefficients(self) -> ndarray:
        """c = (v, -v*), (..., K + M): e = sum_i c_i g(z_i)."""
        v_star = self.config.v_star
        return np.concatenate([self.v, np.broadcast_to(-v_star, (*self.v.shape[:-1], len(v_star)))], axis=-1)

    @property
    def error(self) -> ndarray | float:
        """The generalisation error <e^2> / 2 in closed form, (...). Chapter 05_student_teacher, equation st-error."""
        c = self.coefficients()
        return 0.5 * np.einsum("...i,...ij,...j->...", c, UNITS[self.config.unit].products(self.covariance()), c)

    @property
    def overlap(self) -> ndarray | float:
        """v.F, the slides' F, (...)."""
        return (self.v * self.F).sum(axis=-1)

    @property
    def cosine(self) -> ndarray | float:
        """The cosine between v and F, (...); nan where v is zero."""
        with np.errstate(invalid="ignore"):
            return self.overlap / (np.linalg.norm(self.v, axis=-1) * np.linalg.norm(self.F, axis=-1))

    def first_below(self, level: float) -> ndarray:
        """The alpha at which the generalisation error first falls below `level`, along the last axis; inf where it never does.

        Interpolated in the logarithm of the error between the times that are there.
        """
        error = np.maximum(self.error, np.finfo(float).tiny)
        below = error < level
        after = np.maximum(below.argmax(axis=-1), 1)[..., None]
        pairs = ([np.take_along_axis(x, after - back, -1)[..., 0] for back in (1, 0)] for x in (error, self.alpha))
        (high, low), (early, late) = pairs
        with np.errstate(divide="ignore", invalid="ignore"):
            found = early + (late - early) * np.clip(np.log(high / level) / np.log(high / low), 0, 1)
        return np.where(below.any(axis=-1), found, np.inf)

    def evaluations(self, i: int) -> list[dict]:
        """Row i as a record's `evaluations`: one dictionary a time. Of Q, the upper triangle by rows."""
        run, upper = self[i], np.triu_indices(self.config.K)
        return [
            {"alpha": float(now.alpha), "step": round(float(now.alpha) * self.config.N), "error": float(now.error),
             "overlap": float(now.overlap), "cosine": float(now.cosine), "v": now.v.tolist(), "R": now.R.ravel().tolist(),
             "Q": now.Q[upper].tolist()}
            for now in (run[t] for t in range(len(run.alpha)))
        ]  # fmt: skip

    def final(self, i: int) -> dict:
        """Row i's end as a record's `final`, with the feedback vector."""
        last = self.evaluations(i)[-1]
        return {name: last[name] for name in ("error", "overlap", "cosine")} | {"F": self[i].F[-1].tolist()}

    @classmethod
    def from_records(cls, config: StudentTeacher, evaluations: Sequence[list], finals: Sequence[dict]) -> Order:
        """What `evaluations` and `final` wrote, read back: rows are records. Numbers have the record's precision."""

        def column(name: str) -> ndarray:
            return np.array([[row[name] for row in rows] for rows in evaluations])

        upper, flat = np.triu_indices(config.K), column("Q")
        Q = np.empty((*flat.shape[:2], config.K, config.K))
        Q[..., upper[0], upper[1]] = Q[..., upper[1], upper[0]] = flat
        F = np.array([final["F"] for final in finals])
        R = column("R").reshape(*flat.shape[:2], config.K, config.M)
        return cls(config, column("alpha"), Q, R, column("v"), np.broadcast_to(F[:, None], (*flat.shape[:2], config.K)))


# --- the differential equations --------------------------------------------------------------------------------------------


#: Runs integrated as one system: enough to spread numpy's overhead; few enough for malloc to reuse the arrays of I4 (K = M = 5
#: and 6 runs: 120 kB), which from 128 kB on it maps anew at every call.
GROUP = 6


def derivative(order: Order) -> tuple[ndarray, ndarray, ndarray]:
    """dQ, dR, dv / dalpha for any leading axes: the equations at the head of this module, for erf units."""
    if order.config.unit != "erf":
        raise DfaLibError(f"the averages are in closed form for erf units only; {order.config.unit!r} can be simulated")
    lr_w, lr_v, K = order.config.lr_w, order.config.lr_v, order.config.K
    c, F = order.coefficients(), order.F if order.config.rule == "fa" else order.v
    two, three, four = integrals(order.covariance(), K)
    pull = F[..., :, None] * (three @ c[..., None, :, None])[..., 0]  # (..., K, n): F_k <e g'(lambda_k) z_j>
    noise = (c[..., None, None, None, :] @ four @ c[..., None, None, :, None])[..., 0, 0]
    linear = pull[..., :K] + np.swapaxes(pull[..., :K], -1, -2)
    dQ = -lr_w * linear + lr_w**2 * F[..., :, None] * F[..., None, :] * noise
    return dQ, -lr_w * pull[..., K:], -lr_v * (two[..., :K, :] @ c[..., :, None])[..., 0]


def integrate(start: Order, alpha: ndarray, rtol: float = 1e-8, atol: float = 1e-11) -> Order:
    """The solution from `start` (one state, or one for each run) at the times `alpha` (increasing, from start.alpha on).

    Some runs at a time, by scipy's DOP853: an explicit method, since the implicit ones chatter at the end, where nothing moves
    but rounding. Generalisation errors below about 1e-9 are the integrator's. Raises `DfaLibError` where a solution runs away.
    """
    if start.v.ndim > 1 and len(start.v) > GROUP:
        groups = [integrate(start[i : i + GROUP], alpha, rtol, atol) for i in range(0, len(start.v), GROUP)]
        return Order(start.config, *(np.concatenate([getattr(group, name) for group in groups]) for name in NUMBERS))
    config, K, lead = start.config, start.config.K, start.v.shape[:-1]
    cuts = np.cumsum([K * (K + 1) // 2, K * config.M])
    upper = np.triu_indices(K)

    def unpack(y: ndarray, times: ndarray, F: ndarray) -> Order:
        q, r, v = np.split(y, cuts, axis=-1)
        Q = np.empty((*y.shape[:-1], K, K))
        Q[..., upper[0], upper[1]] = Q[..., upper[1], upper[0]] = q
        return Order(config, times, Q, r.reshape(*y.shape[:-1], K, config.M), v, F)

    def rate(time: float, y: ndarray) -> ndarray:
        dQ, dR, dv = derivative(unpack(y.reshape(*lead, -1), start.alpha, start.F))
        return np.concatenate([dQ[..., upper[0], upper[1]], dR.reshape(*lead, -1), dv], axis=-1).ravel()

    y = np.concatenate([start.Q[..., upper[0], upper[1]], start.R.reshape(*lead, -1), start.v], axis=-1)
    alpha = np.asarray(alpha, dtype=float)
    if np.ptp(start.alpha) > 0 or alpha[0] < np.max(start.alpha) or (np.diff(alpha) <= 0).any():
        raise DfaLibError("alpha must increase from the start's own time on, the same for all runs")
    from scipy.integrate import solve_ivp  # half a second, and every experiment imports this module

    solved = solve_ivp(rate, (float(np.max(start.alpha)), float(alpha[-1])), y.ravel(), "DOP853", alpha, rtol=rtol, atol=atol)
    if not solved.success or not np.isfinite(solved.y).all():
        raise DfaLibError(f"the equations could not be integrated to alpha = {alpha[-1]:g}: {solved.message}")
    track = np.moveaxis(solved.y.reshape(*y.shape, len(alpha)), -1, -2)  # (..., times, numbers)
    times = np.broadcast_to(alpha, (*lead, len(alpha)))
    return unpack(track, times, np.broadcast_to(start.F[..., None, :], (*lead, len(alpha), K)))


def alphas(last: float | int, first: float | int = 0.1, count: int = 100) -> ndarray:
    """0, and then `count` times spaced geometrically up to `last`."""
    return np.append(0.0, np.geomspace(first, last, count))


#: Tolerances that are fine enough for a line: within 1 % of the error on the recorded runs.
_DRAWN = (1e-6, 1e-9)


def pieces(simulated: Order, broken: float = 0.1) -> list[Order]:
    """The solution over one simulated run in two pieces: from its start, and anew from its state once symmetry is broken.

    From R = 0 the equations stay symmetric in the teacher's units; it is a finite network's noise that prefers one to another.
    Broken: some unit's overlaps with the teacher's units deviate from each other by `broken` (standard deviation).
    """
    spread = simulated.R.std(axis=-1).max(axis=-1)
    again, end = int((spread > broken).argmax()) or len(spread) - 1, float(simulated.alpha[-1])
    since = float(simulated.alpha[again])
    first = integrate(simulated[0], alphas(since, count=60), *_DRAWN)
    return [first, integrate(simulated[again], np.geomspace(since, end, 60), *_DRAWN)] if since < end else [first]


def first_phase(config: StudentTeacher) -> tuple[float, float]:
    """How the second layer leaves v = 0, R = 0 (erf units): (c, gamma) in v = c alpha^2 F under FA, v ~ exp(gamma alpha) under BP.

    Chapter 05_student_teacher, equations st-early-fa and st-early-bp.
    """
    kappa = 2 / np.pi / np.sqrt((1 + config.Q) * (1 + config.T))
    drive = config.lr_w * config.lr_v * kappa**2 * config.T * float(config.v_star @ config.v_star)
    friction = config.lr_v * 2 / np.pi * np.arcsin(config.Q / (1 + config.Q))
    return drive / 2, float(np.sqrt(friction**2 / 4 + drive) - friction / 2)


# --- direct simulation -----------------------------------------------------------------------------------------------------

#: Steps between two updates of the weights' own arrays; the result does not depend on it but for rounding.
BLOCK = 32


def start(config: StudentTeacher, seeds: Sequence[int]) -> Order:
    """The order parameters of each seed at alpha = 0, measured on the weights that `simulate` starts from."""
    return _measure(config, 0, *_weights(config, seeds))


def simulate(config: StudentTeacher, seeds: Sequence[int], block: int = BLOCK) -> Order:
    """Online stochastic gradient descent of the weights themselves, all seeds together: an `Order` with axes (seeds, times).

    A seed's result does not depend on which others it is run with.
    """
    return simulate_all({"": config}, seeds, block)[""]


def simulate_all(configs: Mapping[object, StudentTeacher], seeds: Sequence[int], block: int = BLOCK) -> dict[object, Order]:
    """`simulate` for several configurations at once, which differ in rule, rates, start or feedback: a seed's inputs serve all.

    The weights, (configs, seeds, K, N), are brought up to date once in `block` steps; in between, a step corrects the fields
    of the block's coming inputs by x_t.x_s / N, which is the same update.
    """
    first, rows = next(iter(configs.values())), list(configs.values())
    for name in ("K", "M", "N", "unit", "steps", "evaluations", "spacing"):
        if len({getattr(config, name) for config in rows}) > 1:
            raise DfaLibError(f"configurations simulated together must have the same {name}; simulate them one by one")
    W, teacher, v, F = (np.stack(part) for part in zip(*(_weights(config, seeds) for config in rows), strict=True))
    lr_w, lr_v = (np.array([[[getattr(config, name)]] for config in rows]) for name in ("lr_w", "lr_v"))
    lr_v = lr_v / first.N
    by_v = np.array([float(config.rule == "bp") for config in rows])[:, None, None]
    by_F = (1 - by_v) * F
    v_star = np.array([config.v_star for config in rows])[:, None, None]
    sources, unit, root = [stream(seed, "inputs") for seed in seeds], UNITS[first.unit], np.sqrt(first.N)
    seen, step = [_measure(first, 0, W, teacher, v, F)], 0
    with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges ends in nan, and says so
        for mark in first.schedule()[1:]:
            while step < mark:
                size = int(min(block, mark - step))
                x = np.stack([source.standard_normal((size, first.N)) for source in sources])
                columns = np.swapaxes(x, 1, 2)
                gram = x @ columns / first.N  # (seeds, size, size)
                fields = W @ columns / root  # (configs, seeds, K, size), of the weights at the block's start
                targets = (v_star @ unit.g(teacher @ columns / root))[:, :, 0]
                pushes = np.empty_like(fields)
                for t in range(size):
                    field = fields[..., t]
                    h = unit.g(field)
                    e = (v * h).sum(axis=-1, keepdims=True) - targets[..., t, None]
                    push = (by_v * v + by_F) * unit.slope(field) * (-lr_w * e)
                    v = v - lr_v * e * h
                    pushes[..., t] = push
                    fields[..., t + 1 :] += push[..., None] * gram[:, None, t, t + 1 :]
                W += pushes @ x / root
                step += size
            seen.append(_measure(first, step, W, teacher, v, F))
    whole = Order(first, *(np.stack([getattr(now, name) for now in seen], axis=2) for name in NUMBERS))
    return {name: dataclasses.replace(whole[i], config=config) for i, (name, config) in enumerate(configs.items())}


def _weights(config: StudentTeacher, seeds: Sequence[int]) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """First layers of student and teacher, second layer, feedback: (seeds, K, N), (seeds, M, N), (seeds, K) twice."""
    drawn = [_draw(config, seed) for seed in seeds]
    W, teacher, v, F = (np.stack(part) for part in zip(*drawn, strict=True))
    return W, teacher, v, F


def _draw(config: StudentTeacher, seed: int) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    K, M, N = config.K, config.M, config.N
    columns = stream(seed, "weights").standard_normal((N, K + M))
    frame = np.linalg.qr(columns)[0].T * np.sqrt(N)  # rows orthogonal, of squared length N
    if config.R is None:
        W, teacher = np.sqrt(config.Q) * columns.T[:K], np.sqrt(config.T) * np.linalg.qr(columns[:, K:])[0].T * np.sqrt(N)
    else:
        values, vectors = np.linalg.eigh(config.overlaps())
        both = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T @ frame
        W, teacher = both[:K], both[K:]
    v = np.array(config.v) if isinstance(config.v, tuple) else config.v * stream(seed, "second layer").standard_normal(K)
    F = np.array(config.feedback) if isinstance(config.feedback, tuple) else stream(seed, "feedback").standard_normal(K)
    return W, teacher, v.astype(float), np.sign(F) if config.feedback == "signs" else F.astype(float)


def _measure(config: StudentTeacher, step: int, W: ndarray, teacher: ndarray, v: ndarray, F: ndarray) -> Order:
    right = np.swapaxes(W, -1, -2)
    alpha = np.full(v.shape[:-1], step / config.N)
    return Order(config, alpha, W @ right / config.N, np.swapaxes(teacher @ right, -1, -2) / config.N, v.copy(), F)


# --- deep linear networks under DFA ------------------------------------------------------------------------------------------

#: Feedback matrices of hidden layers, n_from columns (outputs) to n_to rows, all with entries of mean square 1 / n_to.
FEEDBACKS: dict[str, Callable[[np.random.Generator, int, int], ndarray]] = {
    "gaussian": lambda rng, n_to, n_from: rng.standard_normal((n_to, n_from)) / np.sqrt(n_to),
    "orthogonal": lambda rng, n_to, n_from: _orthonormal(rng, n_to, n_from),
    "positive": lambda rng, n_to, n_from: rng.uniform(0, np.sqrt(3 / n_to), (n_to, n_from)),
}


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> ndarray:
    """Orthonormal columns; where there are fewer rows than columns, orthogonal rows with entries of the same mean square."""
    tall = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))[0]
    return tall if rows >= columns else tall.T * np.sqrt(columns / rows)


@dataclass(frozen=True)
class DeepLinear:
    """A linear network of `widths` (input, hidden layers, output) learning y = A x by DFA from zero weights.

    Gradient descent on the average over white inputs, `lr` per average example. The teacher A has singular values spaced
    geometrically from 1 down to 1 / `spread`. `feedback` is one of `FEEDBACKS`; with `shared`, all hidden layers (of equal
    width) have the same matrix.
    """

    widths: tuple[int, ...] = (20, 100, 100, 100, 10)
    feedback: str = "orthogonal"
    shared: bool = False
    spread: float = 1.0
    lr: float = 0.02
    steps: int = 2000

    def __post_init__(self) -> None:
        if self.feedback not in FEEDBACKS:
            raise unknown("feedback of a deep linear network", self.feedback, FEEDBACKS)
        if len(self.widths) < 3:
            raise DfaLibError(f"a deep linear network needs at least one hidden layer; got widths {self.widths}")
        if self.widths[0] < self.widths[-1]:
            raise DfaLibError(f"the teacher map needs at least as many inputs as outputs; got widths {self.widths}")
        if self.shared and len(set(self.widths[1:-1])) > 1:
            raise DfaLibError(f"shared feedback needs hidden layers of equal width; got widths {self.widths}")

    def as_dict(self) -> dict[str, object]:
        """All fields as JSON values."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}


@dataclass(frozen=True)
class Alignment:
    """A run of a deep linear network. Columns are layers 2..L+1 (angle, condition) or hidden layers 1..L (gradient).

    With B_i the feedback into layer i and B_{L+1} = 1, W_i = B_i A_i B_{i-1}^T at every step, and W_1 = B_1 A_1.
    """

    steps: ndarray  #: (times,)
    loss: ndarray  #: <|e|^2> / 2, (times,)
    angle: ndarray  #: between W_i and B_i B_{i-1}^T, degrees, (times, L)
    condition: ndarray  #: of A_i, largest over smallest singular value, (times, L)
    gradient: ndarray  #: between DFA's update of W_i and the gradient's, degrees, (times, L)
    weights: tuple[ndarray, ...]  #: W_1, ..., W_{L+1} at the end
    feedback: tuple[ndarray, ...]  #: B_1, ..., B_{L+1}
    teacher: ndarray


def deep_linear(config: DeepLinear, seed: int, evaluations: int = 40) -> Alignment:
    """Train a deep linear network by DFA and measure its alignment at steps spaced geometrically."""
    rng, widths, L = stream(seed, "deep linear"), config.widths, len(config.widths) - 2
    n_in, n_out = widths[0], widths[-1]
    scale = np.geomspace(1, 1 / config.spread, n_out)
    teacher = _orthonormal(rng, n_out, n_out) * scale @ _orthonormal(rng, n_in, n_out).T
    drawn = [FEEDBACKS[config.feedback](rng, n, n_out) for n in widths[1:-1]]
    B = [drawn[0] if config.shared else b for b in drawn] + [np.eye(n_out)]
    W = [np.zeros((to, come)) for come, to in zip(widths[:-1], widths[1:], strict=True)]
    marks = set(np.unique(np.geomspace(1, config.steps, evaluations).round().astype(int)).tolist())
    seen = []
    with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges raises, below
        for step in range(1, config.steps + 1):
            below = [np.eye(n_in)]  # what layer i reads, as a map from x
            for weight in W[:-1]:
                below.append(weight @ below[-1])
            e = W[-1] @ below[-1] - teacher
            for i in range(L + 1):
                W[i] = W[i] - config.lr * B[i] @ (e @ below[i].T)
            if not all(np.isfinite(weight).all() for weight in W):
                raise DfaLibError(f"the weights ran away by step {step}: take a smaller lr, or wider hidden layers")
            if step in marks:
                seen.append((step, *_look(W, B, teacher)))
    columns = [np.array(column) for column in zip(*seen, strict=True)]
    return Alignment(*columns, weights=tuple(W), feedback=tuple(B), teacher=teacher)


def _look(W: list[ndarray], B: list[ndarray], teacher: ndarray) -> tuple[float, list[float], list[float], list[float]]:
    """Loss, and the alignment measures layer by layer, of weights W under feedback B."""
    below, above = [np.eye(W[0].shape[1])], [np.eye(len(teacher))]
    for weight in W[:-1]:
        below.append(weight @ below[-1])
    for weight in W[:0:-1]:
        above.insert(0, weight.T @ above[0])  # above[i]: what BP has in the place of B[i]
    e = W[-1] @ below[-1] - teacher
    signals = [e @ b.T for b in below[:-1]]
    condition = [float(np.linalg.cond(alignment_matrix(W[i], B[i], B[i - 1]))) for i in range(1, len(W))]
    angle = [_angle(W[i], B[i] @ B[i - 1].T) for i in range(1, len(W))]
    gradient = [_angle(b @ s, a @ s) for b, a, s in zip(B[:-1], above[:-1], signals, strict=True)]
    return float(0.5 * (e * e).sum()), angle, condition, gradient


def alignment_matrix(weight: ndarray, B: ndarray, B_below: ndarray) -> ndarray:
    """A in W = B A B_below^T, (n_out, n_out): a multiple of the identity where W is aligned with what DFA dictates."""
    return np.linalg.pinv(B) @ weight @ np.linalg.pinv(B_below).T


def _angle(one: ndarray, other: ndarray) -> float:
    norm = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.degrees(np.arccos(np.clip((one * other).sum() / norm, -1, 1)))) if norm > 0 else float("nan")


def gram_condition(n_out: int, width: int | float) -> float:
    """The condition number of B^T B for a large Gaussian B (width, n_out), after Marchenko and Pastur; infinite at width n_out."""
    ratio = np.sqrt(n_out / width)
    return float(((1 + ratio) / (1 - ratio)) ** 2) if ratio < 1 else float("inf")
