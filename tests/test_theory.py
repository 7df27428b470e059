"""Student-teacher: integrals against quadrature, equations against single steps and simulations. Deep linear networks."""

import dataclasses
import itertools
import json
import time

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.integrate import quad

from dfa_lib import figures_theory, sweep
from dfa_lib.errors import DfaLibError
from dfa_lib.experiments import Experiment, Profile
from dfa_lib.theory import (
    FEEDBACKS, UNITS, DeepLinear, Order, StudentTeacher, alignment_matrix, alphas, deep_linear, derivative, first_phase,
    gram_condition, integrals, integrate, pieces, simulate, simulate_all, start, stream,
)  # fmt: skip

FIVE = (1.0, -0.8, 0.6, 1.2, -1.0)
SMALL = StudentTeacher(K=3, M=2, N=40, steps=100, evaluations=5, R=((0.1, 0.0), (-0.1, 0.2), (0.0, 0.1)), teacher=(1.0, -0.7))


def covariance(seed, n=4, scale=1.0):
    factor = np.random.default_rng(seed).standard_normal((n, n + 1))
    return scale * factor @ factor.T / n


def some_state(rule, K=3, M=2, **changes):
    """A state with nothing special about it."""
    rng = np.random.default_rng(5)
    C = covariance(2, K + M)
    C[K:, K:] = np.eye(M)
    C[:K, K:] *= 0.4
    config = StudentTeacher(rule=rule, K=K, M=M, N=4000, teacher=tuple(rng.normal(1, 0.3, M).tolist()), **changes)
    state = Order(config, np.zeros(()), C[:K, :K] + np.eye(K), C[:K, K:], rng.normal(0, 1, K), rng.normal(0, 1, K))
    assert np.linalg.eigvalsh(state.covariance())[0] > 0.05
    return state


# --- Gaussian averages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed, n, scale, side", [(0, 4, 1.0, 37), (1, 4, 1.0, 37), (2, 4, 0.2, 37), (3, 3, 4.0, 111)])
def test_integrals_agree_with_numerical_integration(seed, n, scale, side):
    # The trapezoidal rule in n dimensions: for smooth integrands that fall off like a Gaussian it converges exponentially.
    C, unit = covariance(seed, n, scale), UNITS["erf"]
    grid = np.linspace(-8.1, 8.1, side)
    line = np.exp(-0.5 * grid**2)
    line /= line.sum()
    points = np.stack(np.meshgrid(*[grid] * n, indexing="ij")).reshape(n, -1)
    weight = np.prod(np.stack(np.meshgrid(*[line] * n, indexing="ij")).reshape(n, -1), axis=0)
    z = np.linalg.cholesky(C) @ points[:, weight > 1e-17]
    weight = weight[weight > 1e-17]
    g, slope = unit.g(z), unit.slope(z)
    two, three, four = integrals(C)
    assert np.abs(two - (g * weight) @ g.T).max() < 1e-8
    assert np.abs(three - np.stack([(z * s * weight) @ g.T for s in slope])).max() < 1e-8
    for k, m in itertools.combinations_with_replacement(range(n), 2):
        exact = (g * slope[k] * slope[m] * weight) @ g.T
        assert np.abs(four[k, m] - exact).max() < 1e-8
        assert np.abs(four[m, k] - exact).max() < 1e-8


def test_integrals_take_leading_axes_and_some_tilted_variables_only():
    C = np.stack([covariance(seed) for seed in range(6)]).reshape(2, 3, 4, 4)
    whole, part = integrals(C), integrals(C, tilted=2)
    assert [i.shape for i in part] == [(2, 3, 4, 4), (2, 3, 2, 4, 4), (2, 3, 2, 2, 4, 4)]
    assert np.array_equal(part[2], whole[2][..., :2, :2, :, :])
    assert np.array_equal(whole[1][1, 2], integrals(C[1, 2])[1])


def test_relu_products_agree_with_numerical_integration():
    C = covariance(4, n=2)
    rows = np.linalg.cholesky(C)

    def along(angle):
        a, b = np.maximum(rows @ (np.cos(angle), np.sin(angle)), 0)
        return a * b / np.pi

    kinks = sorted(np.arctan2(*row[::-1]) + turn for row in rows for turn in (-np.pi / 2, np.pi / 2, 3 * np.pi / 2))
    exact = quad(along, 0, 2 * np.pi, points=[kink for kink in kinks if 0 < kink < 2 * np.pi], epsabs=1e-12)[0]
    assert UNITS["relu"].products(C)[0, 1] == pytest.approx(exact, abs=1e-10)
    assert np.diagonal(UNITS["relu"].products(C)) == pytest.approx(np.diagonal(C) / 2)
    assert UNITS["relu"].products(np.zeros((2, 2))) == pytest.approx(0)


def monte_carlo_error(order, samples, rng):
    """The generalisation error of one state by sampling the fields, and its standard error."""
    z = rng.multivariate_normal(np.zeros(order.config.K + order.config.M), order.covariance(), samples, method="eigh")
    half = 0.5 * (UNITS[order.config.unit].g(z) @ order.coefficients()) ** 2
    return float(half.mean()), float(half.std(ddof=1) / np.sqrt(samples))


@pytest.mark.parametrize("unit", ["erf", "relu"])
def test_generalisation_error_agrees_with_monte_carlo(unit):
    for K, M in ((3, 2), (2, 4)):
        state = some_state("bp", K, M, unit=unit)
        mean, deviation = monte_carlo_error(state, 400_000, np.random.default_rng(0))
        assert abs(mean - state.error) < 4 * deviation < 0.05 * mean


def test_error_is_zero_for_the_teacher_itself_and_for_its_mirror_image():
    config = StudentTeacher(K=2, M=2, Q=1.0, R=((1.0, 0.0), (0.0, -1.0)), v=(1.0, -1.0))
    assert abs(start(config, [0])[0].error) < 1e-15
    assert np.abs(np.concatenate([d.ravel() for d in derivative(start(config, [0])[0])])).max() < 1e-15


# --- the equations against single steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["bp", "fa"])
def test_right_hand_side_is_the_mean_change_of_one_step(rule):
    state = some_state(rule, lr_w=1.3, lr_v=0.7)
    config, n, N = state.config, 40_000, state.config.N
    K, rng = config.K, np.random.default_rng(1)
    values, vectors = np.linalg.eigh(state.covariance())
    frame = np.linalg.qr(rng.standard_normal((N, K + config.M)))[0].T * np.sqrt(N)
    w = (vectors * np.sqrt(values)) @ vectors.T @ frame
    changes = []
    for _ in range(n // 1000):
        x = rng.standard_normal((1000, N))
        z = x @ w.T / np.sqrt(N)
        h = UNITS["erf"].g(z)
        e = h[:, :K] @ state.v - h[:, K:] @ config.v_star
        F = state.F if rule == "fa" else state.v
        push = -config.lr_w / np.sqrt(N) * F * UNITS["erf"].slope(z[:, :K]) * e[:, None]  # w_k moves by push_k x
        moved = z * np.sqrt(N) / N  # x.w / N
        dQ = push[:, :, None] * moved[:, None, :K] + push[:, None, :] * moved[:, :K, None]
        dQ += push[:, :, None] * push[:, None, :] * (x * x).sum(axis=1)[:, None, None] / N
        dR = push[:, :, None] * moved[:, None, K:]
        dv = -config.lr_v / N * h[:, :K] * e[:, None]
        changes.append(N * np.concatenate([dQ.reshape(1000, -1), dR.reshape(1000, -1), dv], axis=1))
    changes = np.concatenate(changes)
    predicted = np.concatenate([d.ravel() for d in derivative(state)])
    deviation = (changes.mean(axis=0) - predicted) / (changes.std(axis=0, ddof=1) / np.sqrt(n))
    assert np.abs(deviation).max() < 4
    # The comparison sees the term quadratic in the rate: without it, it would fail.
    linear = 1e6 * derivative(dataclasses.replace(state, config=dataclasses.replace(config, lr_w=1.3e-6)))[0].ravel()
    without = (changes[:, : K * K].mean(axis=0) - linear) / (changes[:, : K * K].std(axis=0, ddof=1) / np.sqrt(n))
    assert np.abs(without).max() > 20


def test_second_layer_descends_the_generalisation_error():
    state, h = some_state("fa"), 1e-6
    for k in range(3):
        up, down = (dataclasses.replace(state, v=state.v + sign * h * np.eye(3)[k]) for sign in (1, -1))
        assert derivative(state)[2][k] == pytest.approx(-state.config.lr_v * (up.error - down.error) / (2 * h), rel=1e-6)


def test_small_rates_under_bp_never_raise_the_error_and_under_fa_they_may():
    def slope(state):
        h, (dQ, dR, dv) = 1e-7, derivative(state)
        moved = dataclasses.replace(state, Q=state.Q + h * dQ, R=state.R + h * dR, v=state.v + h * dv)
        return (moved.error - state.error) / h

    states = {rule: some_state(rule, lr_w=1e-3, lr_v=0.0) for rule in ("bp", "fa")}
    assert slope(states["bp"]) < 0
    against = dataclasses.replace(states["fa"], F=-states["fa"].v)
    assert slope(against) == pytest.approx(-slope(states["bp"]), rel=0.01)


def test_mirrored_student_has_the_mirrored_history():
    # (v_k, w_k, F_k) -> -(v_k, w_k, F_k) for one unit k: the output and the updates mirror.
    mirror = np.array([1.0, -1.0, 1.0])
    state = some_state("fa")
    other = dataclasses.replace(
        state, Q=state.Q * mirror[:, None] * mirror, R=state.R * mirror[:, None], v=state.v * mirror, F=state.F * mirror
    )
    alpha = np.linspace(0, 5, 6)
    one, two = integrate(state, alpha), integrate(other, alpha)
    assert two.error == pytest.approx(one.error, abs=1e-9)
    assert two.v == pytest.approx(one.v * mirror, abs=1e-8)
    assert two.overlap == pytest.approx(one.overlap, abs=1e-8)


# --- the equations against whole simulations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("K, M", [(2, 2), (4, 2)])
def test_simulation_follows_the_equations(K, M):
    rng = np.random.default_rng(8)
    R = tuple(map(tuple, rng.normal(0, 0.12, (K, M)).tolist()))
    v, F, teacher = (tuple(rng.normal(m, s, n).tolist()) for m, s, n in ((0, 0.5, K), (0, 1, K), (1, 0.2, M)))
    base = StudentTeacher(K=K, M=M, N=2000, R=R, v=v, feedback=F, teacher=teacher, steps=30_000, evaluations=13)
    configs = {
        f"{rule} {lr}": dataclasses.replace(base, rule=rule, lr_w=lr, lr_v=lr) for rule in ("bp", "fa") for lr in (0.01, 0.1, 1.0)
    }
    for name, run in simulate_all(configs, range(5)).items():
        theory = integrate(run[0, 0], run.alpha[0])
        assert np.abs(theory.error[0] - run.error[:, 0]).max() < 1e-12  # the same start for every seed
        for measured, expected in (
            (run.Q, theory.Q), (run.R, theory.R), (run.v, theory.v), (run.overlap[..., None], theory.overlap[..., None]),
            (run.error[..., None], theory.error[..., None]),
        ):  # fmt: skip
            spread = measured[:, 1:].std(axis=0, ddof=1)
            typical = np.sqrt((spread**2).mean(axis=tuple(range(1, spread.ndim)), keepdims=True))
            off = np.abs(measured[:, 1:].mean(axis=0) - expected[1:]) / np.maximum(spread, typical)
            assert off.max() < 3, (name, off.max())


def test_equations_reproduce_a_long_run_in_seconds():
    began = time.process_time()
    run = integrate(start(StudentTeacher(R=None), [0])[0], np.linspace(0, 200, 100))
    assert time.process_time() - began < 10
    assert run.error[0] > 0.8 and run.error[-1] < 0.06


def test_feedback_vector_is_what_the_second_layer_aligns_with_at_first():
    # Equation st-early-fa: v = (1/2) lr_w lr_v kappa^2 |v*|^2 alpha^2 F, from v = 0 and R = 0.
    config = StudentTeacher(rule="fa", v=0.0, feedback=FIVE, lr_w=0.4, lr_v=0.7)
    run = integrate(start(config, [0])[0], np.array([0.0, 0.01, 0.02]))
    push, growth = first_phase(config)
    assert run.v[1:] == pytest.approx(push * run.alpha[1:, None] ** 2 * np.array(FIVE), rel=0.01)
    assert run.cosine[1:] == pytest.approx(1, abs=1e-6)
    assert np.isnan(run.cosine[0])
    small = integrate(start(dataclasses.replace(config, rule="bp", v=1e-6), [0])[0], np.array([0.0, 10.0, 12.0]))
    assert np.log(small.v[2] / small.v[1]) / 2 == pytest.approx(growth, rel=0.01)


# --- the simulation itself ------------------------------------------------------------------------------------------------------


def slowly(config, seed):
    """Online gradient descent, one line of algebra at a time."""
    columns = stream(seed, "weights").standard_normal((config.N, config.K + config.M))
    frame = np.linalg.qr(columns)[0].T * np.sqrt(config.N)
    values, vectors = np.linalg.eigh(config.overlaps())
    both = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T @ frame
    w, teacher = both[: config.K], both[config.K :]
    v = config.v * stream(seed, "second layer").standard_normal(config.K)
    F, inputs = stream(seed, "feedback").standard_normal(config.K), stream(seed, "inputs")
    unit = UNITS[config.unit]
    for _ in range(config.steps):
        x = inputs.standard_normal(config.N)
        field, target = w @ x / np.sqrt(config.N), config.v_star @ unit.g(teacher @ x / np.sqrt(config.N))
        e = v @ unit.g(field) - target
        back = v if config.rule == "bp" else F
        w, v = (
            w - config.lr_w / np.sqrt(config.N) * np.outer(back * e * unit.slope(field), x),
            v - config.lr_v / config.N * e * unit.g(field),
        )
    return w @ w.T / config.N, w @ teacher.T / config.N, v


@pytest.mark.parametrize("rule", ["bp", "fa"])
@pytest.mark.parametrize("unit", ["erf", "relu"])
def test_simulation_is_plain_gradient_descent(rule, unit):
    config = dataclasses.replace(SMALL, rule=rule, unit=unit, v=0.5, lr_w=0.3)
    run = simulate(config, [3, 4])
    for row, seed in enumerate((3, 4)):
        Q, R, v = slowly(config, seed)
        assert run.Q[row, -1] == pytest.approx(Q, abs=1e-12)
        assert run.R[row, -1] == pytest.approx(R, abs=1e-12)
        assert run.v[row, -1] == pytest.approx(v, abs=1e-12)


def test_a_run_depends_neither_on_its_company_nor_on_the_block():
    other = dataclasses.replace(SMALL, rule="fa", lr_v=0.1, R=None)
    together = simulate_all({"a": SMALL, "b": other}, [0, 1, 2])
    assert together["b"].config == other
    for name, config in (("a", SMALL), ("b", other)):
        for block in (1, 7, 64):
            alone = simulate(config, [2], block)
            assert alone.v[0] == pytest.approx(together[name].v[2], abs=1e-12)
            assert alone.Q[0] == pytest.approx(together[name].Q[2], abs=1e-12)
            assert np.array_equal(alone.F[0], together[name].F[2])


def test_overlaps_at_the_start_are_exact_or_scatter():
    exact = start(SMALL, range(3))
    assert exact.covariance() == pytest.approx(np.broadcast_to(SMALL.overlaps(), (3, 5, 5)), abs=1e-12)
    loose = start(dataclasses.replace(SMALL, R=None, N=1000), range(40))
    assert 0.8 < loose.R.std() / np.sqrt(0.2 / 1000) < 1.2
    assert loose.covariance()[:, 3:, 3:] == pytest.approx(np.broadcast_to(np.eye(2), (40, 2, 2)), abs=1e-12)
    assert set(np.unique(start(dataclasses.replace(SMALL, feedback="signs"), range(9)).F)) == {-1.0, 1.0}
    assert np.array_equal(start(dataclasses.replace(SMALL, R=None), [7]).F, start(SMALL, [7]).F)


def test_divergence_ends_in_nan_and_not_in_a_warning():
    run = simulate(dataclasses.replace(SMALL, unit="relu", lr_w=80.0, lr_v=80.0, steps=400), [0])
    assert not np.isfinite(run.error[0, -1])


# --- what is kept -----------------------------------------------------------------------------------------------------------------


def test_configuration_is_written_down_and_read_back():
    for config in (StudentTeacher(), SMALL, dataclasses.replace(SMALL, rule="fa", R=None, feedback=(1.0, -1.0, 0.5))):
        assert StudentTeacher.from_dict(json.loads(json.dumps(config.as_dict()))) == config
        assert StudentTeacher.from_dict(json.loads(json.dumps(config.changed()))) == config
    assert StudentTeacher().changed() == {}
    assert dataclasses.replace(StudentTeacher(), lr_w=0.1).changed() == {"lr_w": 0.1}


def test_run_is_written_as_a_record_and_read_back():
    config = dataclasses.replace(StudentTeacher(), N=50, steps=100, spacing="log")
    run = simulate(config, [0, 1])
    rows, finals = [run.evaluations(i) for i in (0, 1)], [run.final(i) for i in (0, 1)]
    assert [row["step"] for row in rows[0]] == config.schedule().tolist()
    assert len(json.dumps(rows[0])) < 60_000 and set(finals[0]) == {"error", "overlap", "cosine", "F"}
    again = Order.from_records(config, json.loads(json.dumps(rows)), finals)
    assert np.array_equal(again.Q, run.Q) and np.array_equal(again.R, run.R) and np.array_equal(again.error, run.error)
    assert np.array_equal(again.F, run.F)


def test_schedule_has_both_ends_and_no_repeats():
    for spacing in ("linear", "log"):
        steps = dataclasses.replace(SMALL, spacing=spacing, steps=1000, evaluations=30).schedule()
        assert steps[0] == 0 and steps[-1] == 1000 and (np.diff(steps) > 0).all()


def test_time_below_a_level_is_interpolated():
    run = simulate(dataclasses.replace(SMALL, rule="bp", v=0.5), [0, 1])
    class Known(Order):
        error = np.array([[1.0, 0.1, 0.01, 0.1], [1.0, 0.9, 0.8, 0.7]])
    known = Known(SMALL, np.tile([0.0, 1.0, 2.0, 3.0], (2, 1)), run.Q[:, :4], run.R[:, :4], run.v[:, :4], run.F[:, :4])
    assert known.first_below(10**-1.5) == pytest.approx([1.5, np.inf])
    assert known.first_below(2.0) == pytest.approx([0, 0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rule": "dfaa"}, "unknown rule"), ({"unit": "tanh"}, "unknown unit"), ({"feedback": "norml"}, "did you mean 'normal'"),
        ({"K": 0}, "K must be at least 1"), ({"N": 4}, "N must be at least K \\+ M"), ({"v": (1.0,)}, "v needs 3 numbers"),
        ({"R": ((0.1, 0.2),)}, "R needs K = 3 rows of M = 2"), ({"R": 0.9}, "no weights have these overlaps"),
        ({"evaluations": 1}, "at least 2 evaluations"), ({"spacing": "even"}, "unknown spacing"),
    ],
)  # fmt: skip
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(DfaLibError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_other_refusals():
    state = start(SMALL, [0])[0]
    with pytest.raises(DfaLibError, match="unknown field of a student-teacher run 'lr'"):
        StudentTeacher.from_dict({"lr": 1.0})
    with pytest.raises(DfaLibError, match="closed form for erf units only"):
        derivative(start(dataclasses.replace(SMALL, unit="relu"), [0]))
    with pytest.raises(DfaLibError, match="alpha must increase"):
        integrate(state, np.array([1.0, 0.5]))
    with pytest.raises(DfaLibError, match="must have the same N"):
        simulate_all({"a": SMALL, "b": dataclasses.replace(SMALL, N=41)}, [0])


# --- deep linear networks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"shared": True}, {"spread": 3.0}, {"feedback": "positive"}, {"feedback": "orthogonal"}], ids=str
)
def test_deep_linear_weights_stay_in_the_span_of_the_feedback(changes):
    config = DeepLinear(**{"widths": (9, 12, 12, 12, 4), "feedback": "gaussian", "steps": 150, "lr": 0.03} | changes)
    run = deep_linear(config, 2)
    B, n = run.feedback, 4
    gram = [b.T @ b for b in B]
    A = [np.zeros((n, 9))] + [np.zeros((n, n)) for _ in range(3)]
    for _ in range(config.steps):  # the same descent in terms of the A_i alone
        reached = [A[0]]
        for i in range(1, 4):
            reached.append(A[i] @ gram[i - 1] @ reached[-1])
        e = reached[-1] - run.teacher
        A = [A[0] - config.lr * e] + [A[i] - config.lr * e @ reached[i - 1].T for i in range(1, 4)]
    assert run.weights[0] == pytest.approx(B[0] @ A[0], abs=1e-10)
    for i in (1, 2, 3):
        assert run.weights[i] == pytest.approx(B[i] @ A[i] @ B[i - 1].T, abs=1e-10)
        assert alignment_matrix(run.weights[i], B[i], B[i - 1]) == pytest.approx(A[i], abs=1e-8)
        assert run.condition[-1, i - 1] == pytest.approx(np.linalg.cond(A[i]), rel=1e-6)


def test_orthogonal_feedback_and_an_even_teacher_align_perfectly():
    run = deep_linear(DeepLinear(widths=(20, 60, 60, 60, 10)), 0)
    assert run.loss[-1] < 1e-6
    assert np.nanmax(run.angle) < 1e-3 and np.nanmax(run.gradient) < 1e-3
    assert run.condition[-1] == pytest.approx(1)


def test_conditions_at_the_start_are_powers_of_the_teachers():
    # Equation st-deep-start: with M = A A^T, cond(A_2) = cond(M), cond(A_3) = cond(M)^2, cond(A_4) = cond(M)^4.
    run = deep_linear(DeepLinear(widths=(8, 20, 20, 20, 4), spread=2.0, lr=1e-3, steps=6), 1)
    assert run.condition[-1] == pytest.approx([4, 16, 256], rel=0.01)


def test_gram_condition_is_the_limit_of_wide_matrices():
    B = FEEDBACKS["gaussian"](np.random.default_rng(0), 1600, 400)
    assert np.linalg.cond(B.T @ B) == pytest.approx(gram_condition(400, 1600), rel=0.1)
    assert gram_condition(10, 10) == np.inf


def test_feedback_matrices_have_entries_of_the_same_size():
    for name, draw in FEEDBACKS.items():
        for shape in ((300, 40), (40, 300)):
            assert (draw(np.random.default_rng(0), *shape) ** 2).mean() == pytest.approx(1 / shape[0], rel=0.05), name
    B = FEEDBACKS["orthogonal"](np.random.default_rng(0), 30, 4)
    assert B.T @ B == pytest.approx(np.eye(4), abs=1e-12)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"feedback": "gausian"}, "did you mean 'gaussian'"), ({"widths": (5, 4)}, "at least one hidden layer"),
        ({"widths": (3, 8, 5)}, "at least as many inputs"), ({"shared": True, "widths": (9, 8, 7, 3)}, "equal width"),
    ],
)  # fmt: skip
def test_impossible_deep_networks_are_refused(changes, message):
    with pytest.raises(DfaLibError, match=message):
        DeepLinear(**changes)


def test_a_deep_network_that_runs_away_says_so():
    with pytest.raises(DfaLibError, match="the weights ran away"):
        deep_linear(DeepLinear(widths=(20, 30, 5, 30, 10), steps=3000, lr=0.2), 0)


# --- sentences and figures ------------------------------------------------------------------------------------------------------------


def few_draws():
    base = StudentTeacher(R=None, K=2, M=2, v=0.5)
    fa = integrate(start(dataclasses.replace(base, rule="fa", feedback="signs"), range(8)), alphas(150, count=60))
    return fa, integrate(start(base, range(8)), alphas(150, count=60))


def test_every_figure_draws_what_it_is_given():
    fa, bp = few_draws()
    short = StudentTeacher(N=30, steps=60, evaluations=8, spacing="log", R=0.05)
    runs = simulate_all({rule: dataclasses.replace(short, rule=rule) for rule in ("bp", "fa")}, range(2))
    drawn = {rule: (run[0], pieces(run[0])) for rule, run in runs.items()}
    solved = {rule: (run, integrate(run[:, 0], alphas(2))) for rule, run in runs.items()}
    nets = {"a": deep_linear(DeepLinear(steps=100), 0), "b": deep_linear(DeepLinear(steps=100, feedback="gaussian"), 0)}
    made = [
        figures_theory.overlaps(*drawn["fa"]), figures_theory.errors({rule: [one, one] for rule, one in drawn.items()}),
        figures_theory.agreement({rule: (run, theory[0]) for rule, (run, theory) in solved.items()}),
        figures_theory.degeneracy(fa[:, -1], bp[:, -1]), figures_theory.delays(fa, fa, bp, fa, 0.05), figures_theory.delays(fa, fa, bp, fa, 1e-9),
        figures_theory.stuck({0: solved["fa"], 1: solved["bp"]}, {0: runs["fa"]}, {0: runs["bp"]}),
        figures_theory.deep(nets), figures_theory.deep_widths({"a": {100: [nets["a"]], 120: [nets["b"]]}}),
    ]  # fmt: skip
    for figure in made:
        figure.canvas.draw()
        assert all(ax.has_data() for ax in figure.axes)
        plt.close(figure)


def test_recorded_runs_are_drawn_with_the_line_that_says_where_they_are_from(tmp_path):
    config = StudentTeacher(N=30, steps=60, evaluations=5)
    pair = Experiment("pair", "t", "s", {"BP": config, "FA": dataclasses.replace(config, rule="fa")}, {"smoke": Profile(2)})
    sweep.run(pair.runs("smoke"), directory=tmp_path)
    results = sweep.load(pair, "smoke", tmp_path)
    found, alone = figures_theory.recorded(results, "FA"), simulate(pair.variants["FA"], range(2))
    assert found.config.rule == "fa" and found.error.shape == (2, 5)
    assert np.allclose(found.Q, alone.Q, rtol=1e-4, atol=1e-6) and np.allclose(found.F, alone.F, rtol=1e-4)
    figure = figures_theory.noted(figures_theory.overlaps(found[0], [found[0]]), results, ["FA"])
    assert figure.get_supxlabel() == dataclasses.replace(results, records=tuple(results.of("FA"))).provenance()
    plt.close(figure)
