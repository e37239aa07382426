"""The predictor: fitted to finished runs, asked about a run in its first epochs (section 3.2, S4)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from lightning_nndyn.errors import ArtefactError, PredictorError
from lightning_nndyn.predictor import artefact
from lightning_nndyn.predictor.domain import Training, domain_of, outside
from lightning_nndyn.predictor.estimators import Classifier, Platt, Regressor
from lightning_nndyn.predictor.features import Features, FeatureSet, Scale, broken_epoch, show, tabulate
from lightning_nndyn.predictor.fitting import Recipe, TimeModel, fit_models
from lightning_nndyn.predictor.runs import Runs
from lightning_nndyn.signature import SIGNATURE_VERSION, Form, Snapshot


@dataclass(frozen=True)
class Verdict:
    """What a predictor says of a run at one time.

    Attributes:
        predicted_accuracy: final accuracy, a fraction.
        p_low: probability that the final accuracy is below the predictor's `low_threshold`.
        epoch: time of the last snapshot the verdict rests on.
        in_domain: whether the network resembles those the predictor was fitted to.
        note: why it does not, or when the weights ceased to be finite; else empty.
        diverged: whether the weights are no longer finite; `p_low` is 1 then.
    """

    predicted_accuracy: float
    p_low: float
    epoch: float
    in_domain: bool
    note: str = ""
    diverged: bool = False


class Predictor:
    """Predicts a run's final accuracy, and the probability that it is low, from its first snapshots.

    There is one classifier and one regressor for each time at which the corpus was read, and a second pair at
    each epoch end for runs that are read at epoch ends only.

    Deviations from the paper: the probability (the paper has classes only); `scale="relative"`; the support
    vector regression, which reads all snapshots. `features="degree", regressor="linear", scale="raw"` is the
    paper's regression (section 4.2), on the two latest snapshots.

    Args:
        features: which centralities' statistics are read.
        classifier: "svm" or "mlp", scikit-learn's, with their default capacity.
        regressor: "svr", or "linear" for least squares on the two latest snapshots.
        form: temporal form of the signature (section 3.2).
        low_threshold: final accuracy, a fraction, below which a run is low (the paper's Table 2).
        scale: "raw" statistics as in the paper, or "relative", how far they have moved since epoch 0 and
            since the snapshot before, on bounded scales.
        seed: of the folds and of the MLP's weights.
        max_epoch: latest time of decision.

    Attributes:
        card: facts about the fit, JSON-able: what it was fitted to, held-out scores, calibration, domain.

    Raises:
        PredictorError: an argument is not one of the values it may have.
    """

    def __init__(
        self,
        *,
        features: FeatureSet = "both",
        classifier: Classifier = "svm",
        regressor: Regressor = "svr",
        form: Form = "plain",
        low_threshold: float,
        scale: Scale = "relative",
        seed: int = 0,
        max_epoch: float = 5,
    ) -> None:
        for name, value, allowed in (
            ("features", features, FeatureSet),
            ("classifier", classifier, Classifier),
            ("regressor", regressor, Regressor),
            ("form", form, Form),
            ("scale", scale, Scale),
        ):
            _check_choice(name, value, get_args(allowed))
        if not 0 < low_threshold < 1:
            raise PredictorError(f"low_threshold={low_threshold} is not a fraction in (0, 1), such as 0.4")
        self.low_threshold = float(low_threshold)
        self.max_epoch = float(max_epoch)
        self.card: dict[str, Any] = {}
        self._recipe = Recipe(Features(features, form, scale), classifier, regressor, int(seed))
        self._models: list[TimeModel] = []

    @property
    def times(self) -> tuple[float, ...]:
        """Epochs, besides 0, that the predictor reads and decides at; ascending, empty before `fit`."""
        return tuple(sorted({model.times[-1] for model in self._models}))

    def fit(
        self,
        histories: Sequence[Sequence[Snapshot]],
        accuracies: Sequence[float],
        *,
        corpus: str = "",
        groups: Sequence[Hashable] | None = None,
        training: Training | None = None,
    ) -> Predictor:
        """Fit to finished runs, and measure on held-out ones what is promised of new ones.

        A run whose weights are not finite at some time has no part in the models from that time on.

        Args:
            histories: the snapshots of each run, from epoch 0 on, ascending. A run may have ended early.
            accuracies: the runs' final accuracies, fractions.
            corpus: the corpus' name, for the card.
            groups: runs of one group are never on both sides of a cross-validation's split; default: each run
                is a group. Give the configuration where it was run with several seeds.
            training: what the runs' training has in common. Given, runs with another optimizer, or with far
                more or fewer steps in an epoch, are out of the predictor's domain.

        Returns:
            Itself.

        Raises:
            PredictorError: too few runs of one class at some time, or malformed input.
        """
        runs = Runs(histories, accuracies, self.low_threshold, groups, self._recipe.seed)
        models, scores, largest = fit_models(runs, self._recipe, self.max_epoch)
        seen = np.sort(largest[~runs.low & (largest > -np.inf)])
        diverged = runs.accuracies[[broken is not None for broken in runs.broken]]
        self._models = models
        self.card = {
            "format": artefact.FORMAT,
            "signature_version": SIGNATURE_VERSION,
            **self._settings(),
            "corpus": corpus,
            "runs": len(runs.tables),
            "low": int(runs.low.sum()),
            "diverged": len(diverged),
            "corpus_sha256": _fingerprint(histories, accuracies),
            "times": list(self.times),
            # No run diverged: the worst final accuracy of the corpus stands for what such a run would reach.
            "diverged_accuracy": float(np.median(diverged) if len(diverged) else runs.accuracies.min()),
            "domain": domain_of(
                [table[0.0] for table in runs.tables], self._recipe.features.columns, training
            ),
            "calibration": {"good_maxima": seen.tolist()},
            "scores": scores,
        }
        return self

    def predict(self, history: Sequence[Snapshot], *, training: Training | None = None) -> Verdict:
        """Judge a run by its snapshots so far.

        The verdict is that of the latest known time for which all earlier known times, or all earlier epoch
        ends, were read; snapshots at other times are ignored. Weights that are not finite are a verdict at
        any time.

        Args:
            history: the run's snapshots, from epoch 0 on, ascending.
            training: how the run is trained; a part of the domain.

        Raises:
            PredictorError: the predictor is not fitted, or no known time was read.
        """
        if not self._models:
            raise PredictorError("the predictor is not fitted: call fit(), or load one with load_predictor()")
        table = tabulate(history)
        reason = outside(self.card["domain"], table[0.0], training)
        broken = broken_epoch(table)
        if broken is not None:
            note = "; ".join(filter(None, (f"weights are not finite since epoch {broken:g}", reason)))
            return Verdict(self.card["diverged_accuracy"], 1.0, max(table), not reason, note, diverged=True)
        model = self._model_for(table)
        accuracy, p_low = model.predict(self._recipe, table)
        return Verdict(accuracy, p_low, model.times[-1], not reason, reason)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `path`.skops and its card `path`.json; each appears whole or not at all.

        Raises:
            PredictorError: the predictor is not fitted.
        """
        if not self._models:
            raise PredictorError("this predictor is not fitted, there is nothing to save: call fit() first")
        models = [{**vars(model), "platt": asdict(model.platt)} for model in self._models]
        artefact.write(path, self.card, models)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Read what `save` wrote, after auditing it; `path` with or without its suffix.

        Raises:
            ArtefactError: a file is missing, damaged, of another version or holds an unknown type.
        """
        card, models = artefact.read(path)
        try:
            predictor = cls(**{name: card[name] for name in cls(low_threshold=0.5)._settings()})
            predictor._models = [TimeModel(**{**model, "platt": Platt(**model["platt"])}) for model in models]
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"{path} lacks a part of a predictor ({error!r}); fit it anew") from error
        predictor.card = card
        return predictor

    def _settings(self) -> dict[str, Any]:
        recipe = self._recipe
        return {
            **asdict(recipe.features),
            "classifier": recipe.classifier,
            "regressor": recipe.regressor,
            "low_threshold": self.low_threshold,
            "seed": recipe.seed,
            "max_epoch": self.max_epoch,
        }

    def _model_for(self, table: dict[float, Snapshot]) -> TimeModel:
        ready = [model for model in self._models if all(time in table for time in model.times)]
        if not ready:
            starts = " or ".join(f"{time:g}" for time in sorted({model.times[0] for model in self._models}))
            raise PredictorError(
                f"the history was read at the epochs {show(table)}; this predictor needs epoch 0 and epoch "
                f"{starts} to begin with. Read the weights at snapshots=({show(self.times)})."
            )
        return max(ready, key=lambda model: (model.times[-1], len(model.times)))


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise PredictorError(f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}")


def _fingerprint(histories: Sequence[Sequence[Snapshot]], accuracies: Sequence[float]) -> str:
    """Sha256 over all numbers that a fit depends on: tells whether a refit had the same corpus."""
    rows = [[[s.epoch, s.num_nodes, s.num_edges, *s.statistics] for s in history] for history in histories]
    return hashlib.sha256(json.dumps([rows, [float(a) for a in accuracies]]).encode()).hexdigest()
