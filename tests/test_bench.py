"""The bench times what it says: whole steps, the step's own products, the same work in phases; and reports come back whole."""

import importlib.util
import json
import math
import sys
import types

import pytest
import torch

from dfa_lib import bench, cli, figures_cost, optim, records
from dfa_lib.bench import Depth, Report, Timing
from dfa_lib.config import Config, Optimizer
from dfa_lib.errors import DfaLibError
from dfa_lib.graph import bp, dfa, fa, fp
from dfa_lib.training import Trainer
from dfa_lib.verdicts import Interval

RULES = {**bench.RULES, **bench.DEPTH_RULES}
MACHINE = {"device": "a machine", "cores": 2, "threads": 1, "blas": "a BLAS", "versions": {"torch": "2.0+x"}, "rounds": 3, "others": 0.01}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Turns of a few steps, small networks, no biotorch unless a test brings one."""
    monkeypatch.setattr(bench, "TURN_MS", 0.1)
    monkeypatch.setattr(bench, "PATIENCE", 1)
    monkeypatch.setattr(bench, "NETWORKS", {"2x8": (8,) * 2, "30x5": (5,) * 30, "7x240": (6,) * 3})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)


def trainer(rule, hidden=(5,) * 30, optimizer="sgd", **changes):
    config = Config(hidden=hidden, rule=rule, optimizer=bench.OPTIMIZERS[optimizer], batch=8, epochs=1, **changes)
    with torch.inference_mode():
        return Trainer(config, [0], bench.noise(32))


def indices(batch=8):
    return torch.arange(batch).unsqueeze(0)


def depth_report(ms, depths=(5, 10, 20, 40)):
    """A report in which each phase of each rule takes ms(rule, depth), always."""
    rows = [
        Depth(rule, n, n if rule in ("BP", "FA") else 1, 1, n, n, n, n, 2, n,
              {part: [ms(rule, n)] * 3 for part in ("forward", "feedback", "update", "step")})
        for n in depths for rule in bench.DEPTH_RULES
    ]  # fmt: skip
    return Report("depth", 64, MACHINE, tuple(rows))


# --- the same work ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", bench.OPTIMIZERS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_step_and_floor_make_the_products_that_the_graph_counts(rule, optimizer):
    made = trainer(rule, optimizer=optimizer)
    with torch.inference_mode():
        alone = bench.products_alone(made, 8)
    _, step = bench.count(lambda: made.step(indices()))
    _, floor = bench.count(lambda: alone(indices()))
    assert step == floor == made.feedback.graph.cost(8).macs


def test_floor_leaves_the_weights_alone():
    made = trainer(dfa())
    before = {name: tensor.clone() for name, tensor in made.state().items()}
    with torch.inference_mode():
        bench.products_alone(made, 8)(indices())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state().items())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
@pytest.mark.parametrize("rule", [bp(), fa(), dfa(), fp(5)], ids=str)
def test_phases_do_what_a_step_does(rule, optimizer, reduction):
    one, other = (trainer(rule, hidden=(12,) * 6, optimizer=optimizer, reduction=reduction) for _ in range(2))
    before = one.network.weights[1].clone()
    with torch.inference_mode():
        parts = bench.phases(other, 8)
        for _ in range(3):
            one.step(indices())
            for part in parts.values():
                part(indices())
    assert list(parts) == ["forward", "feedback", "update"]
    assert not torch.equal(one.network.weights[1], before)
    assert all(torch.equal(a, b) for a, b in zip(one.network.state().values(), other.network.state().values(), strict=True))


def test_baseline_and_bp_take_the_same_step():
    """From the same weights, the same loss, the same update: the comparison is of programs, not of problems."""
    ours, made = trainer(bp(), hidden=(8, 8)), []

    def linear(n_in, n_out):
        made.append(torch.nn.Linear(n_in, n_out))
        return made[-1]

    config = Config(hidden=(8, 8), optimizer=Optimizer("sgd", lr=1e-6), batch=8, epochs=1)
    step = bench.autograd(config, bench.noise(32), linear=linear)
    with torch.no_grad():
        for i, layer in enumerate(made, 1):
            layer.weight.copy_(ours.network.weights[i][0])
            layer.bias.copy_(ours.network.biases[i][0, 0])
    before = [layer.weight.detach().clone() for layer in made]
    ours.updater.lr = 1.0  # large enough to be seen
    for parameter in made:
        parameter.weight.register_hook(lambda g: g * 1e6)
    step(indices())
    with torch.inference_mode():
        ours.step(indices())
    for i, (layer, start) in enumerate(zip(made, before, strict=True), 1):
        torch.testing.assert_close(layer.weight.detach() - start, ours.network.weights[i][0] - start, rtol=1e-4, atol=1e-6)


# --- what is counted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [5, 17, 100])
def test_calls_of_dfas_feedback_are_the_same_at_every_depth(layers):
    at_three, here = (bench.counted("DFA", n, width=4, batch=2) for n in (3, layers))
    assert (here.calls, here.levels, here.products) == (at_three.calls, 1, 1)


@pytest.mark.parametrize("rule", bench.DEPTH_RULES)
def test_called_products_are_the_counted_ones(rule):
    row = bench.counted(rule, 30, width=4, batch=2)
    assert row.called_macs == row.feedback_macs
    assert row.calls == 2 * row.products  # a product and its gate


def test_calls_of_bps_feedback_grow_with_depth():
    assert [bench.counted("BP", n, width=4, batch=2).calls for n in (3, 10)] == [6, 20]


# --- the studies, small --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network, rules", [("2x8", ["BP", "FA", "DFA"]), ("30x5", ["BP", "FA", "DFA", "BDFA(25)"])])
def test_every_contender_is_there_and_has_its_ratios(network, rules):
    timings = bench.compare(network, "rmsprop", batch=4, rounds=3)
    assert [t.contender for t in timings] == ["autograd", *rules]
    assert timings[0].of_autograd == 1 and timings[0].share_of_floor is None
    for t in timings[1:]:
        assert t.ms_low <= t.ms <= t.ms_high and t.of_autograd > 0 and t.share_of_floor > 0


def test_biotorch_stands_beside_the_others_where_it_is_installed(monkeypatch):
    class Layer(torch.nn.Linear):
        def __init__(self, n_in, n_out, output=None, layer_config=None):
            super().__init__(n_in, n_out)

    for name in ("biotorch", "biotorch.layers", "biotorch.layers.fa", "biotorch.layers.dfa"):
        module = types.ModuleType(name)
        module.Linear = Layer
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            monkeypatch.setattr(sys.modules[parent], child, module, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: name)
    timings = bench.compare("2x8", "sgd", batch=4, rounds=2, rules=["DFA"])
    assert [t.contender for t in timings] == ["autograd", "DFA", "biotorch FA", "biotorch DFA"]
    assert all(t.share_of_floor is None for t in timings if t.contender != "DFA")


def test_depth_study_has_every_rule_at_every_depth_that_it_can_have():
    rows = bench.depth(depths=(2, 6), width=4, batch=2, rounds=2)
    assert {(row.rule, row.depth) for row in rows} == {(rule, n) for rule in bench.DEPTH_RULES for n in (2, 6)} - {("FP(5)", 2)}
    for row in rows:
        assert set(row.ms) == {"forward", "feedback", "update", "step"}
        assert all(len(values) == 2 and min(values) > 0 for values in row.ms.values())


def test_workers_study_makes_its_runs_in_folders_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("DFA_LIB_RESULTS", str(tmp_path))
    (row,) = bench.workers(runs=(2,), jobs=(1,), steps=2, rounds=2)
    assert (row.runs, row.jobs, len(row.seconds)) == (2, 1, 2)
    assert not list(tmp_path.iterdir())


def test_replicas_study_has_every_way():
    rows = bench.replicas(rules=("DFA",), optimizers=("sgd",), seeds=2, steps=2, rounds=2)
    assert [row.how for row in rows] == ["batched", "turns", "single", "one"]
    assert all(len(row.seconds) == 2 for row in rows)


def test_disturbed_rounds_are_measured_again_and_the_quietest_kept(monkeypatch):
    monkeypatch.setattr(bench, "PATIENCE", 2)
    clock, others = iter(range(100)), iter([0, 0.9, 1, 1, 2, 2.5, 3, 3.05])  # a round takes one second; others 0.9, 0, 0.5, 0.05
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(bench, "_others_s", lambda: next(others))
    numbers = iter(range(100))
    rows, busy = bench._interleaved({"a": lambda: {"step": float(next(numbers))}}, 2)
    assert [row["a"]["step"] for row in rows] == [1.0, 3.0]
    assert busy is None or busy == pytest.approx(0.025)


def test_measuring_leaves_the_threads_and_the_collector_as_they_were():
    import gc

    bench.measure("steps", networks=["2x8"], optimizers=["sgd"], threads=2, rounds=2)
    assert torch.get_num_threads() == 1 and gc.isenabled()
    assert torch.tensor(1e-40).mul(1.0).item() != 0  # denormal numbers are numbers again


# --- verdicts ------------------------------------------------------------------------------------------------------------------


def test_power_is_the_exponent_with_its_interval():
    x = [2, 5, 10, 50]
    exact = bench.power(x, [3 * v**2 for v in x])
    assert (exact.mean, exact.low, exact.high) == pytest.approx((2, 2, 2)) and exact.n == 4
    assert bench.power(x, [7, 7, 7, 7]) == Interval(0.0, 0.0, 0.0, 4)
    scattered = bench.power(x, [1, 2, 1, 2])
    assert scattered.low < 0 < scattered.mean < scattered.high


@pytest.mark.parametrize(
    "interval, outcome",
    [((0, 0, 0), "reproduced"), ((0, -0.1, 0.1), "reproduced"), ((0.05, -0.02, 0.12), "partly"), ((1, 0.9, 1.1), "contradicted"),
     ((0.2, 0.1, 0.3), "partly"), ((-0.5, -0.6, -0.4), "contradicted")],
)  # fmt: skip
def test_constant_where_the_whole_interval_is_near_zero(interval, outcome):
    assert bench.constant(Interval(*map(float, interval), 5)) == outcome


def test_growth_judges_each_reading_and_the_rule_by_all_of_them():
    report = depth_report(lambda rule, n: 1.0 if rule == "DFA" else n**1.2)
    found = {(g.rule, g.reading): g.outcome for g in bench.growth(report)}
    steps, time, chain, whole = bench.READINGS
    assert figures_cost.growth_table(report).loc[whole, "BP"] == "1.20 ± 0.00"
    assert [found["FA", reading] for reading in bench.READINGS] == ["contradicted"] * 4
    assert [found["DFA", reading] for reading in (steps, time, chain, whole)] == ["reproduced", "reproduced", "contradicted", "reproduced"]
    table = figures_cost.verdict_table(report)
    assert dict(table.loc["B9"]) == {"FA": "contradicted", "DFA": "partly", "FP(5)": "partly", "BDFA(25)": "partly"}


# --- reports -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def report():
    timings = bench.compare("2x8", "sgd", batch=4, rounds=2)
    return Report("steps", 4, MACHINE, tuple(timings))


def test_report_comes_back_from_its_file(report, tmp_path):
    path = bench.write(report, tmp_path / "steps.json")
    again = bench.read(path)
    assert (again.study, again.batch, again.machine) == (report.study, report.batch, report.machine)
    for one, other in zip(again.rows, report.rows, strict=True):
        assert isinstance(one, Timing) and (one.network, one.contender) == (other.network, other.contender)
        assert one.ms == pytest.approx(other.ms, rel=1e-3)
    assert bench.read(bench.write(again, tmp_path / "again.json")) == again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "steps.json"]


def test_depth_report_comes_back_from_its_file(tmp_path):
    report = depth_report(lambda rule, n: 0.5)
    assert bench.read(bench.write(report, tmp_path / "depth.json")) == report


def test_failed_write_leaves_the_old_report(report, tmp_path, monkeypatch):
    path = bench.write(report, tmp_path / "steps.json")
    before = path.read_text()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(bench.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        bench.write(report, path)
    assert path.read_text() == before and [p.name for p in tmp_path.iterdir()] == ["steps.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"study": "steps"}', '{"study": "stairs", "batch": 1, "machine": {}, "rows": []}',
                                  '{"study": "steps", "batch": 1, "machine": {}, "rows": [{"ms": 1}]}'])  # fmt: skip
def test_file_that_is_no_report_is_named(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DfaLibError, match="x.json: not a report"):
        bench.read(path)
    with pytest.raises(DfaLibError, match="dfa-lib bench --json"):
        bench.read(tmp_path / "none.json")


def test_machine_is_described_in_json_values():
    here = bench.describe()
    assert json.loads(json.dumps(here)) == here
    assert here["device"] and here["blas"] and here["cores"] >= 1 and here["threads"] == 1 and "torch" in here["versions"]


@pytest.mark.parametrize("study", bench.STUDIES)
def test_summary_has_a_row_for_each_of_the_reports(study):
    options = {
        "steps": {"networks": ["2x8"], "optimizers": ["sgd"]},
        "depth": {"depths": (2, 6), "width": 4, "batch": 2},
        "workers": {"runs": (1,), "jobs": (1,), "steps": 2},
        "replicas": {"rules": ("DFA",), "optimizers": ("sgd",), "seeds": 2, "steps": 2},
    }[study]
    told = []
    report = bench.measure(study, rounds=2, told=told.append, **options)
    assert len(bench.summary(report)) == len(report.rows) and len(told) == 1
    assert "1 thread" in report.provenance() and "medians of 2 rounds" in report.provenance()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"study": "step"}, ["study 'step'", "did you mean 'steps'"]),
        ({"networks": ["2x9"]}, ["network '2x9'", "did you mean '2x8'"]),
        ({"optimizers": ["adma"]}, ["optimizer 'adma'", "did you mean 'adam'"]),
        ({"device": "gpu"}, ["device 'gpu'", "cpu"]),
    ],
)
def test_bad_name_is_refused_with_the_nearest(options, words):
    with pytest.raises(DfaLibError) as caught:
        bench.measure(**options)
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(DfaLibError, match="rule 'DFAA'"):
        bench.counted("DFAA", 3)


def test_command_line_writes_the_report_and_says_mistakes_in_one_line(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dfa-lib", "bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr()

    path = tmp_path / "steps.json"
    code, said = run("--network", "2x8", "--optimizer", "sgd", "--rounds", "2", "--json", str(path))
    assert code == 0 and "of autograd" in said.out and len(bench.read(path).rows) == 4
    for wrong in (["--network", "2x9"], ["--study", "step"], ["--device", "tpu"], ["--rounds", "1"], ["--json", str(tmp_path / "no" / "x")]):
        code, said = run(*wrong)
        assert code != 0 and said.err.startswith("dfa-lib: ") and said.err.count("\n") == 1


# --- what the chapter shows ------------------------------------------------------------------------------------------------------


def test_figures_say_on_which_machine_they_were_measured():
    report = depth_report(lambda rule, n: float(n))
    two = figures_cost.counted_and_measured(report, "step", lambda row: row.forward_macs, ("a", "b"), ("c", "d"))
    for figure in (two, figures_cost.phase_bars(report, 10)):
        assert figure.get_supxlabel() == report.provenance()
        assert "a machine, 2 cores, 1 thread, torch 2.0, a BLAS" in figure.get_supxlabel()
    under = two.axes[2].lines[0].get_ydata()
    assert list(under) == [1.0] * 4  # BP over BP


def test_phase_bars_are_the_medians():
    bars = figures_cost.phase_bars(depth_report(lambda rule, n: float(n)), 20).axes[0].patches
    assert [bar.get_width() for bar in bars] == [20.0] * 15


def test_tables_of_the_chapter():
    steps = figures_cost.steps_table(Report("steps", 64, MACHINE, tuple(bench.compare("30x5", "sgd", batch=4, rounds=2))))
    assert list(steps.columns) == ["torch, ms", "BP", "FA", "DFA", "BDFA (25)", "floor"]
    table = figures_cost.depth_table(depth_report(lambda rule, n: float(n)), 10)
    assert list(table.index) == list(bench.DEPTH_RULES) and table.loc["BP", ("feedback", "of BP's")] == "1.000"
    costs = {rule: {n: bench.DEPTH_RULES[rule].graph((5, *[5] * n, 5)).cost(1) for n in (2, 1000)} for rule in ("BP", "DFA")}
    bounds = figures_cost.bound_table(costs)
    assert bounds.loc["BP"].tolist() == ["1.00"] * 4
    assert bounds.loc["DFA"].tolist() == ["1.00", f"{(3 + 2 + 1) / (3 + 1 + 1):.2f}", "1.00", "2.00"]
    memory = figures_cost.memory_table({rule: of[1000] for rule, of in costs.items()})
    assert memory["activations, MiB"].nunique() == 1 and memory.loc["BP", "feedback matrices, MiB"] == "0.00"
    added = figures_cost.added_table(depth_report(lambda rule, n: 0.001 * n))
    assert added.loc["DFA", ("microseconds", "step")] == "1.0" and list(added.index) == list(bench.DEPTH_RULES)
    workers = Report("workers", 64, MACHINE, (bench.Workers(4, 1, [2.0, 4.0]), bench.Workers(4, 2, [1.0, 3.0])))
    assert figures_cost.workers_table(workers).loc["4 runs", "ratio"] == "0.62"
    ways = {"batched": 1.1, "turns": 1.0, "single": 1.0, "one": 0.1}
    rows = tuple(bench.Replicas("DFA", "sgd", how, [s, s]) for how, s in ways.items())
    assert figures_cost.replicas_table(Report("replicas", 64, MACHINE, rows)).loc["DFA", "one batched run"] == "1.10"


@pytest.mark.parametrize("name", bench.LIVE)
def test_committed_report_is_whole(name):
    report = bench.read(records.Path(bench.__file__).parents[1] / "results" / "bench" / f"{name}.json")
    assert report.study == name.partition("-")[0] and report.batch == 64
    assert report.machine["threads"] == (2 if name.endswith("2-threads") else 1)
    if report.study == "steps":
        found = {(t.network, t.optimizer) for t in report.rows}
        assert found == {(n, o) for n in ("2x800", "7x240", "15x720", "100x200", "100x240") for o in bench.OPTIMIZERS}
        assert {"autograd", "BP", "FA", "DFA", "BDFA(25)", "biotorch FA", "biotorch DFA"} == {t.contender for t in report.rows}
    if report.study == "depth":
        assert {row.depth for row in report.rows} == set(bench.DEPTHS) and {row.rule for row in report.rows} == set(bench.DEPTH_RULES)
        for row in report.rows:
            now = bench.counted(row.rule, row.depth)
            assert (row.levels, row.products, row.calls, row.critical_macs) == (now.levels, now.products, now.calls, now.critical_macs)


# --- RMSprop through torch's fused Adagrad ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-8, 0.01])
def test_large_chunks_take_rmsprops_step_through_adagrad(monkeypatch, eps):
    config = Config(hidden=(40, 40, 40), rule=dfa(), optimizer=Optimizer("rmsprop", lr=1e-3, decay=0.9, eps=eps), batch=8, epochs=1,
                    dtype="float64")  # fmt: skip
    made = {}
    for large in (1, math.inf):
        monkeypatch.setattr(optim, "LARGE", large)
        with torch.inference_mode():
            made[large] = Trainer(config, [0], bench.noise(32))
            for _ in range(4):
                made[large].step(indices())
    for name, tensor in made[1].state().items():
        torch.testing.assert_close(tensor, made[math.inf].state()[name], rtol=1e-9, atol=1e-12)
    assert made[1].updater.moments[0][0].abs().max() > 0


def test_a_resumed_run_goes_on_from_the_moments_of_adagrad(monkeypatch):
    monkeypatch.setattr(optim, "LARGE", 1)
    config = Config(hidden=(9, 9), rule=dfa(), optimizer=Optimizer("rmsprop", lr=1e-3), batch=8, epochs=1)
    with torch.inference_mode():
        one, other = (Trainer(config, [0], bench.noise(32)) for _ in range(2))
        one.step(indices())
        other.step(indices().flip(1) + 8)  # whatever it had
        for name, tensor in other.state().items():
            tensor.copy_(one.state()[name])
        one.step(indices() + 16), other.step(indices() + 16)
    assert all(torch.equal(tensor, other.state()[name]) for name, tensor in one.state().items())
