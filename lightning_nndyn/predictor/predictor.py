"""The predictor: fitted to finished runs, asked about a run in its first epochs (section 3.2, S4)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from lightning_nndyn.errors import ArtefactError, PredictorError
from lightning_nndyn.graph.tracing.tracer import Topology
from lightning_nndyn.predictor import persistence
from lightning_nndyn.predictor.applicability import Neighbours
from lightning_nndyn.predictor.domain import Training, domain_of, outside, topology_of
from lightning_nndyn.predictor.estimators import Classifier, Platt, Regressor
from lightning_nndyn.predictor.features import (
    Features,
    FeatureSet,
    Mask,
    Scale,
    broken_epoch,
    show,
    tabulate,
)
from lightning_nndyn.predictor.fitting import FUSED, WEIGHTS, TimeModel, fit_models
from lightning_nndyn.predictor.learning_curve import Curve
from lightning_nndyn.predictor.recipes import ForestRecipe, PaperRecipe, Recipe
from lightning_nndyn.predictor.risk import Held, Risk, largest_risks
from lightning_nndyn.predictor.training_set import Bar, Runs
from lightning_nndyn.signature.snapshot import SIGNATURE_VERSION, STATISTICS, Snapshot
from lightning_nndyn.signature.temporal import Form

TREES = 60
STRANGE = 0.05
"""Share of known runs that are taken for strangers: the level of the test that tells strangers."""


@dataclass(frozen=True)
class Verdict:
    """What a predictor says of a run at one time.

    Attributes:
        predicted_accuracy: final accuracy, a fraction.
        p_low: probability that the final accuracy is below the predictor's bar.
        epoch: time of the last snapshot the verdict rests on.
        in_domain: whether the run resembles those the predictor was fitted to.
        note: why it does not, or when the weights ceased to be finite; else empty.
        diverged: whether the weights are no longer finite; `p_low` is 1 then.
        relative_accuracy: final accuracy as a share of what the network can reach on its data: 0 is guessing,
            1 the best run; None where the predictor does not know.
        risk: how far `p_low` is above that of good runs at this time, in their standard deviations.
        kind: "weights", or "fused" where the run's curve was read as well.
        distance: from the runs of the fit; 1 is usual for a run that it did not see. None if not measured.
        p_domain: share of unseen runs of the corpus that are as far away.
    """

    predicted_accuracy: float
    p_low: float
    epoch: float
    in_domain: bool
    note: str = ""
    diverged: bool = False
    relative_accuracy: float | None = None
    risk: float = 0.0
    kind: str = WEIGHTS
    distance: float | None = None
    p_domain: float | None = None


class Predictor:
    """Predicts a run's final accuracy, and the probability that it is low, from its first snapshots.

    There are models for each time at which the corpus was read; those at epoch ends also for runs that are
    read at epoch ends only. Where the corpus has curves (training losses, validation accuracies), there is a
    second set of models that reads the curve together with the weights.

    By default the models are forests on the movement of graph and weights. With `classifier` and `regressor`
    they are the paper's: `features="degree", classifier="svm", regressor="linear", scale="raw"` is its
    regression (section 4.2) on the two latest snapshots. Beyond the paper are the probability (the paper has
    classes only), the common scale of risk, the domain, and `scale="relative"`.

    Args:
        low_threshold: final accuracy, a fraction, below which a run is low (the paper's Table 2).
        low_share: instead of it, a share of the best accuracy on the same data, see `Verdict`.
        classifier: "forest"; or "svm" or "mlp", scikit-learn's, with their default capacity.
        regressor: "forest", together with the classifier; or "svr", or "linear" for least squares on the two
            latest snapshots.
        features: which centralities' statistics the paper's models read.
        form: temporal form of the signature (section 3.2) that they read.
        scale: they read "raw" statistics as in the paper, or "relative", how far these have moved since epoch
            0 and since the snapshot before, on bounded scales.
        seed: of the folds, of the forests and of the MLP's weights.
        max_epoch: latest time of decision.

    Attributes:
        card: facts about the fit, JSON-able: what it was fitted to, held-out scores, calibration, domain.

    Raises:
        PredictorError: an argument is not one of the values it may have.
    """

    def __init__(
        self,
        *,
        low_threshold: float | None = None,
        low_share: float | None = None,
        classifier: Literal["forest"] | Classifier = "forest",
        regressor: Literal["forest"] | Regressor = "forest",
        features: FeatureSet = "both",
        form: Form = "plain",
        scale: Scale = "relative",
        seed: int = 0,
        max_epoch: float = 5,
    ) -> None:
        for name, value, allowed in (
            ("features", features, get_args(FeatureSet)),
            ("classifier", classifier, ("forest", *get_args(Classifier))),
            ("regressor", regressor, ("forest", *get_args(Regressor))),
            ("form", form, get_args(Form)),
            ("scale", scale, get_args(Scale)),
        ):
            _check_choice(name, value, allowed)
        if (classifier == "forest") != (regressor == "forest"):
            raise PredictorError(
                f"classifier={classifier!r} and regressor={regressor!r}: one forest does both; choose it for "
                "both, or for neither"
            )
        self.low_threshold = None if low_threshold is None else float(low_threshold)
        self.low_share = None if low_share is None else float(low_share)
        self.max_epoch = float(max_epoch)
        self.card: dict[str, Any] = {}
        self._bar = Bar(self.low_threshold, self.low_share)
        self._settings: dict[str, Any] = {
            "low_threshold": self.low_threshold,
            "low_share": self.low_share,
            "classifier": classifier,
            "regressor": regressor,
            "features": features,
            "form": form,
            "scale": scale,
            "seed": int(seed),
            "max_epoch": self.max_epoch,
        }
        self._recipe: Recipe
        if classifier == "forest" or regressor == "forest":
            self._recipe = ForestRecipe(TREES, int(seed))
        else:
            self._recipe = PaperRecipe(Features(features, form, scale), classifier, regressor, int(seed))
        self._models: list[TimeModel] = []

    @property
    def times(self) -> tuple[float, ...]:
        """Epochs, besides 0, that the predictor reads and decides at; ascending, empty before `fit`."""
        return tuple(sorted({model.times[-1] for model in self._models}))

    @property
    def reads_layers(self) -> bool:
        """Whether it needs snapshots with the numbers of each layer."""
        return isinstance(self._recipe, ForestRecipe)

    @property
    def reads_curves(self) -> bool:
        """Whether it has models that read a run's curve."""
        return any(model.kind == FUSED for model in self._models)

    @property
    def topology(self) -> Topology:
        """Of the graphs that it was fitted to."""
        return topology_of(self.card.get("domain", {}))

    @property
    def bar(self) -> str:
        """What low is, in words: "below 40%"."""
        return str(self._bar)

    def fit(
        self,
        histories: Sequence[Sequence[Snapshot]],
        accuracies: Sequence[float],
        *,
        corpus: str = "",
        curves: Sequence[Curve | None] | None = None,
        groups: Sequence[Hashable] | None = None,
        populations: Sequence[str] | None = None,
        training: Training | Sequence[Training] | None = None,
    ) -> Predictor:
        """Fit to finished runs, and measure on held-out ones what is promised of new ones.

        A run whose weights are not finite at some time has no part in the models from that time on.

        Args:
            histories: the snapshots of each run, from epoch 0 on, ascending. A run may have ended early.
            accuracies: the runs' final accuracies, fractions.
            corpus: the corpus' name, for the card.
            curves: what each run logged; runs without one are left out of the fused models.
            groups: runs of one group are never on both sides of a cross-validation's split; default: each run
                is a group. Give the configuration where it was run with several seeds.
            populations: which runs are on one network and one data set, by a name for each; relative accuracy
                is measured within them. With three or more, whole populations are held out instead of groups:
                scores and calibration are then those for networks and data that it never saw.
            training: how the runs were trained, each or all together. Given, runs with another optimizer, or
                with far more or fewer steps in an epoch, are out of the predictor's domain.

        Returns:
            Itself.

        Raises:
            PredictorError: too few runs of one class at some time, graphs of more than one topology, or
                malformed input.
        """
        seed = self._settings["seed"]
        runs = Runs(
            histories, accuracies, self._bar, curves=curves, groups=groups, populations=populations, seed=seed
        )
        models, scores, held = fit_models(runs, self._recipe, self.max_epoch)
        broken = np.array([epoch is not None for epoch in runs.broken])
        diverged = runs.accuracies[broken]
        trainings = [training] if isinstance(training, Training) else list(training or ())
        self._models = models
        self.card = {
            "format": persistence.FORMAT,
            "signature_version": SIGNATURE_VERSION,
            **self._settings,
            "corpus": corpus,
            "runs": len(runs.tables),
            "low": int(runs.low.sum()),
            "diverged": len(diverged),
            "populations": sorted({str(name) for name in runs.populations} - {""}),
            "corpus_sha256": _fingerprint(histories, accuracies, curves),
            "times": list(self.times),
            # No run diverged: the worst final accuracy of the corpus stands for what such a run would reach.
            "diverged_accuracy": float(np.median(diverged) if len(diverged) else runs.accuracies.min()),
            "domain": domain_of([table[0.0] for table in runs.tables], self._columns(), trainings),
            "calibration": _calibration(runs, held, broken),
            "scores": scores,
        }
        return self

    def predict(
        self,
        history: Sequence[Snapshot],
        *,
        curve: Curve | None = None,
        training: Training | None = None,
    ) -> Verdict:
        """Judge a run by its snapshots so far, and by its curve where one is given.

        The verdict is that of the latest time whose models have all they read; snapshots at other times are
        ignored. With a curve only fused models are asked. Weights that are not finite are a verdict at any
        time.

        Args:
            history: the run's snapshots, from epoch 0 on, ascending.
            curve: what it has logged so far; None for a verdict by the weights alone.
            training: how the run is trained; a part of the domain.

        Raises:
            PredictorError: the predictor is not fitted or knows no curves, no known time was read, or the
                curve does not reach as far.
        """
        if not self._models:
            raise PredictorError("the predictor is not fitted: call fit(), or load one with load_predictor()")
        table = tabulate(history)
        reason = outside(self.card["domain"], table[0.0], training)
        broken = broken_epoch(table)
        if broken is not None:
            note = "; ".join(filter(None, (f"weights are not finite since epoch {broken:g}", reason)))
            return Verdict(self.card["diverged_accuracy"], 1.0, max(table), not reason, note, diverged=True)
        model = self._model_for(table, curve)
        said = model.predict(self._recipe, table, curve)
        if said.p_domain is not None and said.p_domain < STRANGE:
            strange = (
                f"its weights move unlike those of all runs that are known (distance {said.distance:.1f})"
            )
            reason = "; ".join(filter(None, (reason, strange)))
        return Verdict(
            predicted_accuracy=said.accuracy,
            p_low=said.p_low,
            epoch=model.times[-1],
            in_domain=not reason,
            note=reason,
            relative_accuracy=said.relative,
            risk=said.risk,
            kind=model.kind,
            distance=said.distance,
            p_domain=said.p_domain,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `path`.skops and its card `path`.json; each appears whole or not at all.

        Raises:
            PredictorError: the predictor is not fitted.
        """
        if not self._models:
            raise PredictorError("this predictor is not fitted, there is nothing to save: call fit() first")
        persistence.write(path, self.card, [_plain(model) for model in self._models])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Read what `save` wrote, after auditing it; `path` with or without its suffix.

        Raises:
            ArtefactError: a file is missing, damaged, of another version or holds an unknown type.
        """
        card, models = persistence.read(path)
        try:
            predictor = cls(**{name: card[name] for name in cls(low_threshold=0.5)._settings})
            predictor._models = [predictor._restored(model) for model in models]
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"{path} lacks a part of a predictor ({error!r}); fit it anew") from error
        predictor.card = card
        return predictor

    def _restored(self, plain: dict[str, Any]) -> TimeModel:
        neighbours = plain["neighbours"]
        return TimeModel(
            times=tuple(plain["times"]),
            kind=plain["kind"],
            fitted=self._recipe.restored(plain["fitted"]),
            blend=plain["blend"],
            platt=Platt(**plain["platt"]),
            risk=Risk(*plain["risk"]),
            neighbours=None if neighbours is None else Neighbours.from_arrays(neighbours),
        )

    def _columns(self) -> list[int]:
        """Of the statistics that a run's first snapshot must share with the corpus."""
        recipe = self._recipe
        return recipe.features.columns if isinstance(recipe, PaperRecipe) else list(range(len(STATISTICS)))

    def _model_for(self, table: dict[float, Snapshot], curve: Curve | None) -> TimeModel:
        if curve is not None and not self.reads_curves:
            raise PredictorError("this predictor was fitted without curves: call predict() without one")
        ready = [model for model in self._models if model.ready(table, curve)]
        if not ready:
            firsts = {model.times[0] for model in self._models if len(model.times) == 1}
            starts = " or ".join(f"{time:g}" for time in sorted(firsts))
            also = "" if curve is None else " and the curve as far"
            raise PredictorError(
                f"the history was read at the epochs {show(table)}; this predictor needs epoch 0 and epoch "
                f"{starts} to begin with{also}. Read the weights at snapshots=({show(self.times)})."
            )
        return max(ready, key=lambda model: (model.times[-1], len(model.times)))


def _plain(model: TimeModel) -> dict[str, Any]:
    return {
        "times": model.times,
        "kind": model.kind,
        "fitted": model.fitted.to_plain(),
        "blend": model.blend,
        "platt": asdict(model.platt),
        "risk": list(model.risk),
        "neighbours": None if model.neighbours is None else model.neighbours.to_arrays(),
    }


def _calibration(runs: Runs, held: Sequence[Held], diverged: Mask) -> dict[str, Any]:
    """For each kind of models the largest risks that held-out good runs have had, ascending.

    In one list, or one for each population where those were held out: then they are not exchangeable.
    """
    found = {}
    names = runs.populations if runs.apart else np.zeros(len(runs.low))
    for kind in dict.fromkeys(said.kind for said in held):
        largest = largest_risks([said for said in held if said.kind == kind], runs.low, diverged)
        good = ~runs.low & (largest > -np.inf)
        groups = [np.sort(largest[good & (names == name)]).tolist() for name in np.unique(names)]
        found[kind] = {"good_maxima": groups}
    return found


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise PredictorError(f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}")


def _fingerprint(
    histories: Sequence[Sequence[Snapshot]],
    accuracies: Sequence[float],
    curves: Sequence[Curve | None] | None,
) -> str:
    """Sha256 over all numbers that a fit depends on: tells whether a refit had the same corpus."""
    rows = [[_numbers(snapshot) for snapshot in history] for history in histories]
    logged = [
        None if one is None else [sorted(one.losses.items()), list(one.accuracies)] for one in curves or ()
    ]
    return hashlib.sha256(json.dumps([rows, [float(a) for a in accuracies], logged]).encode()).hexdigest()


def _numbers(s: Snapshot) -> list[Any]:
    layers = [list(map(float, row)) for row in s.layers.values()]
    return [s.epoch, s.num_nodes, s.num_edges, *s.statistics, layers, list(s.distances)]
