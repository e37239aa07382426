"""The callback on the graph of the whole data flow: where there is no chain; predictors of one's own."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import (
    BATCHES,
    Digits,
    Interrupted,
    Pull,
    hooks,
    listening,
    outcome,
    rows,
    times,
    trainer,
    watcher,
)
from digits_runs import DOOMED, module_class, predictor
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F

import lightning_nndyn as nd
from lightning_nndyn import GraphDynamicsCallback, Predictor, SnapshotTaker, rolled_graph
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.evaluation import fit_runs, load_runs, predict_checkpoints
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES, STATISTICS


class RowByRow(nn.Module):
    """Reads a digit's rows one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 24, batch_first=True)
        self.dropout, self.fc = nn.Dropout(0.2), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(self.lstm(x.squeeze(1))[0][:, -1]))


class Branched(nn.Module):
    """A residual block whose shortcut has a weight, batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shortcut = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 12, 1, stride=2)
        self.first, self.second = nn.Conv2d(8, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, padding=1)
        self.norm, self.dropout, self.fc = nn.BatchNorm2d(12), nn.Dropout(0.2), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.norm(self.second(F.relu(self.first(x)))) + self.shortcut(x))
        return self.fc(self.dropout(x.mean((2, 3))))


class Attentive(nn.Module):
    """Rows as tokens, one layer of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.encoder(x.squeeze(1)).flatten(1))


def training_of(make: type[nn.Module], *args: Any, lr: float = 0.1, seed: int = 0, **settings: Any) -> Any:
    model = Digits(lr, seed, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.net = make(*args)
    return model


def flow_watcher(given: Any = None, **settings: Any) -> GraphDynamicsCallback:
    return watcher(given, **{"topology": "dataflow", **settings})


# -- training is what it was ---------------------------------------------------------------------------------


class ByHand(Digits):
    """Manual optimization under autocast."""

    def __init__(self) -> None:
        super().__init__(0.1)
        self.automatic_optimization = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = Branched()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        with torch.autocast("cpu", torch.bfloat16):
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()


CASES: list[tuple[Any, dict[str, Any]]] = [
    (RowByRow, {}),
    (Branched, {"deterministic": True, "gradient_clip_val": 0.1}),
    (Branched, {"precision": "bf16-mixed"}),
    (Attentive, {"accumulate_grad_batches": 4}),
    (ByHand, {}),
]


@pytest.mark.parametrize(("kind", "settings"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_training_is_bit_equal_with_and_without_the_callback(kind: Any, settings: dict[str, Any]) -> None:
    def run(*callbacks: Any) -> tuple[Any, Tensor]:
        torch.manual_seed(5)
        model = kind() if kind is ByHand else training_of(kind)
        trainer(*callbacks, max_epochs=1, **settings).fit(model)
        return model, torch.get_rng_state()

    callback = flow_watcher()
    (plain, plain_random), (watched, watched_random) = run(), run(callback)
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0]
    assert {snapshot.topology for snapshot in callback.history} == {"dataflow"}
    assert plain.losses == watched.losses
    assert torch.equal(plain_random, watched_random)
    for (name, before), after in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(before, after), name


@pytest.mark.parametrize("kind", [RowByRow, Branched, Attentive])
def test_snapshot_0_is_that_of_the_graph_before_training(kind: type[nn.Module]) -> None:
    callback = flow_watcher()
    trainer(callback, max_epochs=1, limit_train_batches=2).fit(training_of(kind))
    graph = rolled_graph(training_of(kind).net, torch.zeros(2, 1, 8, 8), topology="dataflow")
    wanted, found = SnapshotTaker(graph).take(0.0), callback.history[0]
    assert found.statistics == pytest.approx(wanted.statistics, rel=1e-4, abs=1e-6)
    assert (found.num_nodes, found.num_edges, found.kinds) == (graph.num_nodes, graph.num_edges, graph.kinds)
    assert callback.session.record.classes == 10


def test_the_branch_that_a_chain_leaves_out_is_in_the_graph() -> None:
    callbacks = [watcher(None), flow_watcher()]
    for callback in callbacks:
        trainer(callback, max_epochs=1, limit_train_batches=2).fit(training_of(Branched))
    chain, flow = (callback.history[0] for callback in callbacks)
    assert "net.shortcut" in flow.layers and "net.shortcut" not in chain.layers
    assert (chain.depth, flow.depth) == (4, 5) and flow.num_edges > chain.num_edges


@pytest.mark.parametrize("kind", [RowByRow, Branched])
def test_hooks_are_gone_after_the_first_batch(kind: type[nn.Module]) -> None:
    left: list[int] = []

    class Counting(L.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            left.append(hooks(pl_module))

    callback = flow_watcher()
    trainer(callback, Counting(), max_epochs=1, limit_train_batches=3).fit(training_of(kind))
    assert left == [0, 0, 0] and len(callback.history) > 1


class Transposed(nn.Linear):
    """Registered with an axis that its output does not have."""


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_layer_that_was_registered_wrongly_harms_no_training(topology: Any) -> None:
    nd.register_layer(Transposed, axis=7)
    model = training_of(nn.Sequential, nn.Flatten(), Transposed(64, 10))
    callback = watcher(None, topology=topology, strict=False)
    with pytest.warns(NNDynWarning, match="gives up and training goes on without it"):
        trainer(callback, max_epochs=1, limit_train_batches=3).fit(model)
    assert len(model.losses) == 3 and callback.history == [] and hooks(model) == 0


# -- arguments -----------------------------------------------------------------------------------------------


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="topology='graph' is unknown: take 'chain' or 'dataflow'"):
        GraphDynamicsCallback(None, topology="graph")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layers= names the layers of a chain"):
        GraphDynamicsCallback(None, topology="dataflow", layers=["net.0"])
    assert GraphDynamicsCallback(None).topology == "chain"


def test_checkpoints_tell_the_topologies_apart() -> None:
    assert watcher(None).state_key != flow_watcher().state_key == flow_watcher().state_key


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        (RowByRow, ["lstm.l0", "fc"]),
        (
            Attentive,
            ["encoder.self_attn.q", "encoder.self_attn.out_proj", "encoder.linear1", "encoder.linear2", "fc"],
        ),
    ],
)
def test_recurrent_layers_and_attention_have_a_chain(kind: type[nn.Module], layers: list[str]) -> None:
    callback = watcher(None)
    trainer(callback, max_epochs=1).fit(training_of(kind))
    last = callback.history[-1]
    assert (last.topology, list(last.layers)) == ("chain", ["input", *(f"net.{name}" for name in layers)])
    assert last.depth == len(layers)


@pytest.mark.needs("jsonargparse")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_from_a_configuration_file(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli = import_module(f"{package}.cli")
    model = module_class(import_module(package))

    def callback_of(topology: str) -> GraphDynamicsCallback:
        quiet = "accelerator: cpu, max_epochs: 1, limit_train_batches: 2, logger: false, barebones: true"
        file = tmp_path / "config.yaml"
        file.write_text(f"""
trainer: {{{quiet}, callbacks: [{{class_path: lightning_nndyn.GraphDynamicsCallback,
  init_args: {{predictor: null, strict: true, topology: {topology}}}}}]}}
""")
        args = ["fit", "--config", str(file)]
        callbacks = cli.LightningCLI(model, args=args, save_config_callback=None).trainer.callbacks
        (found,) = (one for one in callbacks if isinstance(one, GraphDynamicsCallback))
        return found

    found = callback_of("dataflow")
    assert found.topology == "dataflow" and found.history[-1].topology == "dataflow"
    with pytest.raises(SystemExit):
        callback_of("tree")
    assert "tree" in capsys.readouterr().err


# -- what is logged and recorded -----------------------------------------------------------------------------


def test_the_signature_is_logged(tmp_path: Path) -> None:
    callback = flow_watcher(log_signature=True)
    trainer(callback, logger=CSVLogger(tmp_path), max_epochs=1).fit(training_of(RowByRow))
    logged = [row for row in rows(tmp_path) if row.get("nndyn/degree_mean")]
    assert len(logged) == len(DEFAULT_TIMES) + 1  # the first step's comes with snapshot 0
    for name, value in zip(STATISTICS, callback.history[-1].statistics, strict=True):
        assert float(logged[-1][f"nndyn/{name}"]) == pytest.approx(value, rel=1e-5)


SWEEP = (*torch.linspace(0.1, 0.5, 7).tolist(), *torch.logspace(-6, -4, 7).tolist())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 recurrent runs of one epoch, half of them hopeless."""
    folder = tmp_path_factory.mktemp("sweep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed, rate in enumerate(SWEEP):
            callback = flow_watcher(monitor="val_accuracy", record=folder, threshold=None)
            model = training_of(RowByRow, lr=rate, seed=seed, validate=True, batch_size=16)
            trainer(callback, max_epochs=1).fit(model)
    return folder


@pytest.fixture(scope="module")
def own(sweep: Path) -> Predictor:
    return fit_runs(sweep)


def unseen(lr: float, seed: int = 77) -> Any:
    return training_of(RowByRow, lr=lr, seed=seed, validate=True, batch_size=16)


def test_recorded_runs_tell_what_the_network_is(sweep: Path) -> None:
    runs = load_runs(sweep)
    assert len(runs) == 14
    for run in runs:
        facts = {(one.topology, one.kinds, one.depth) for one in run.history}
        assert facts == {("dataflow", ("linear", "lstm"), 2)}


def test_a_predictor_of_ones_own_decides_on_such_runs(own: Predictor, tmp_path: Path) -> None:
    own.save(tmp_path / "own")
    assert Predictor.load(tmp_path / "own").topology == "dataflow"
    domain = own.card["domain"]
    assert (domain["topology"], domain["kinds"], domain["depth"]) == ("dataflow", ["linear", "lstm"], [2, 2])
    settings: dict[str, Any] = {"monitor": "val_accuracy"}
    doomed, good = (flow_watcher(str(tmp_path / "own"), **settings) for _ in range(2))
    run = trainer(doomed, max_epochs=1)
    run.fit(unseen(DOOMED))
    assert doomed.decision.stop and run.global_step < len(unseen(DOOMED).train_dataloader())
    trainer(good, max_epochs=1).fit(unseen(0.3))
    assert not good.decision.stop and good.verdicts[-1].epoch == 1.0
    assert all(verdict.in_domain for verdict in (*doomed.verdicts, *good.verdicts))


def test_its_verdicts_are_the_same_from_a_checkpoint(own: Predictor, tmp_path: Path) -> None:
    callback = flow_watcher(own, monitor="val_accuracy", action="observe")
    run = trainer(callback, max_epochs=1)
    run.fit(unseen(0.3))
    run.save_checkpoint(tmp_path / "run.ckpt")
    (scored,) = predict_checkpoints([tmp_path / "run.ckpt"], own)
    assert scored.verdict == callback.verdicts[-1]


def test_it_reads_checkpoints_of_weights_as_a_data_flow(own: Predictor, tmp_path: Path) -> None:
    model = training_of(RowByRow, lr=0.3, batch_size=16)
    for epochs in (0, 1):
        run = trainer(max_epochs=epochs)
        run.fit(model)
        run.save_checkpoint(tmp_path / f"{epochs}.ckpt")
    here = f"{__name__}:RowByRow"
    scored = list(predict_checkpoints([tmp_path], own, model=here, shape=(1, 8, 8)))
    assert [one.why for one in scored] == ["where the run begins", ""]
    assert scored[1].verdict is not None and scored[1].verdict.in_domain


# -- predictors of the other topology ------------------------------------------------------------------------


def test_a_chains_predictor_stops_no_data_flow_and_says_why_once(caplog: pytest.LogCaptureFixture) -> None:
    callback = flow_watcher(predictor())
    with caplog.at_level(logging.INFO), listening(caplog):
        run = trainer(callback)
        run.fit(training_of(RowByRow, lr=DOOMED))
    assert run.callback_metrics["nndyn/in_domain"] == 0
    assert times(callback)[-1] == 3.0 and not callback.decision.stop
    why = "its graph is of topology 'dataflow', the corpus' of 'chain'"
    assert all(not verdict.in_domain and why in verdict.note for verdict in callback.verdicts)
    assert caplog.text.count(why) == 1


def test_a_data_flows_predictor_stops_no_chain(own: Predictor) -> None:
    callback = watcher(own)
    trainer(callback, max_epochs=1).fit(Digits(DOOMED))
    assert callback.verdicts and not callback.decision.stop
    assert "of topology 'chain', the corpus' of 'dataflow'" in callback.decision.reason


def test_what_has_diverged_is_stopped_all_the_same() -> None:
    callback = flow_watcher(predictor())
    trainer(callback).fit(training_of(Branched, lr=1e20))
    assert callback.decision.stop and callback.verdicts[-1].diverged and not callback.verdicts[-1].in_domain


def test_runs_of_two_topologies_make_no_predictor(sweep: Path, tmp_path: Path) -> None:
    for file in sweep.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    callback = watcher(None, monitor="val_accuracy", record=tmp_path / "chains")
    trainer(callback, max_epochs=1).fit(Digits(validate=True))
    name = f"nndyn-{callback.session.record.run}.json"
    with pytest.raises(PredictorError, match=rf"'chain' \(.*{name}\) and 'dataflow' \(.* and 11 more\)"):
        fit_runs(tmp_path)


# -- resumption ----------------------------------------------------------------------------------------------


class Steady(Digits):
    """No random order, no dropout: an epoch is the same after a break."""

    def __init__(self) -> None:
        super().__init__(0.3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = RowByRow()
            self.net.dropout.p = 0.0

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(super().train_dataloader().dataset, 48)


def test_a_resumed_run_is_the_unbroken_run(tmp_path: Path) -> None:
    unbroken, first, resumed = (flow_watcher(predictor()) for _ in range(3))
    trainer(unbroken).fit(Steady())
    with pytest.raises(Interrupted):
        trainer(first, Pull(tmp_path / "run.ckpt", BATCHES)).fit(Steady())
    torch.load(tmp_path / "run.ckpt", weights_only=True)
    trainer(resumed).fit(Steady(), ckpt_path=tmp_path / "run.ckpt")
    assert outcome(resumed)[0] == outcome(unbroken)[0] == [0.0, *DEFAULT_TIMES, 1.0, 2.0, 3.0]
    for found, wanted in zip(resumed.history, unbroken.history, strict=True):
        assert (found.topology, found.kinds, found.depth) == ("dataflow", ("linear", "lstm"), 2)
        assert found.statistics == pytest.approx(wanted.statistics, rel=1e-5, abs=1e-5)
        assert found.distances == pytest.approx(wanted.distances, rel=1e-5, abs=1e-7)
