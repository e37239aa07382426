"""The predictor: fitted to finished runs, asked about a run in its first epochs (section 3.2, S4)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning_nndyn.errors import ArtefactError, PredictorError
from lightning_nndyn.graph.tracing.tracer import Topology
from lightning_nndyn.predictor import persistence
from lightning_nndyn.predictor.card import card_of, check_card
from lightning_nndyn.predictor.cross_validation import fit_models
from lightning_nndyn.predictor.decision_time_model import DecisionTimeModel
from lightning_nndyn.predictor.domain import TrainingSetup, topology_of, why_out_of_domain
from lightning_nndyn.predictor.forest import ForestFamily
from lightning_nndyn.predictor.history import HistoryByEpoch, diverged_at, index_by_epoch, show_epochs
from lightning_nndyn.predictor.learning_curve import LearningCurve
from lightning_nndyn.predictor.low_accuracy import LowAccuracyRule
from lightning_nndyn.predictor.model_family import ModelFamily
from lightning_nndyn.predictor.training_set import TrainingSet
from lightning_nndyn.predictor.verdict import WEIGHTS_AND_CURVE, Verdict
from lightning_nndyn.signature.snapshot import Snapshot

_PAPER_SETTINGS = {
    "classifier": "forest",
    "regressor": "forest",
    "features": "both",
    "form": "plain",
    "scale": "relative",
}
"""Arguments that have moved to `PaperPredictor`, with the defaults that they had here."""


class Predictor:
    """Predicts a run's final accuracy, and the probability that it is low, from its first snapshots.

    Its models are forests on the movement of graph and weights. There is one for each time at which the
    corpus was read; those at epoch ends also for runs that are read at epoch ends only. If the runs of the
    fit have learning curves (training losses, validation accuracies), there is a second set of models that
    reads the curve together with the weights.

    Beyond the paper are the forests, the probability (the paper has classes only), the common scale of risk
    and the domain. `PaperPredictor` has the paper's models.

    Args:
        low_threshold: final accuracy, a fraction, below which a run is low (the paper's Table 2).
        low_share: instead of it, a share of the best accuracy of the same network on the same data: 0 is
            guessing, 1 the best run.
        seed: of the folds and of the forests.
        max_epoch: latest time of decision.
        paper_settings: `classifier`, `regressor`, `features`, `form` and `scale` are deprecated. They are
            arguments of `PaperPredictor`.

    Attributes:
        card: facts about the fit, JSON-able: what it was fitted to, held-out scores, calibration, domain.
        low_rule: which accuracies are low; as a string in words, such as "below 40%".

    Raises:
        PredictorError: an argument is not one of the values it may have.
    """

    shipped = False
    """Whether it came with the package, fitted to classifications."""

    def __init__(
        self,
        *,
        low_threshold: float | None = None,
        low_share: float | None = None,
        seed: int = 0,
        max_epoch: float = 5,
        **paper_settings: Any,
    ) -> None:
        if paper_settings and self._become_paper_predictor(
            paper_settings, low_threshold=low_threshold, low_share=low_share, seed=seed, max_epoch=max_epoch
        ):
            return
        self._set_up(ForestFamily(int(seed)), low_threshold, low_share, seed, max_epoch)

    def _set_up(
        self,
        family: ModelFamily,
        low_threshold: float | None,
        low_share: float | None,
        seed: int,
        max_epoch: float,
    ) -> None:
        self.low_threshold = None if low_threshold is None else float(low_threshold)
        self.low_share = None if low_share is None else float(low_share)
        self.low_rule = LowAccuracyRule(self.low_threshold, self.low_share)
        self.max_epoch = float(max_epoch)
        self.card: dict[str, Any] = {}
        self._seed = int(seed)
        self._family = family
        self._models: list[DecisionTimeModel] = []

    def _become_paper_predictor(self, paper_settings: dict[str, Any], **settings: Any) -> bool:
        """Accept the arguments that have moved to `PaperPredictor`; False if they ask for a forest."""
        from lightning_nndyn.predictor.paper_predictor import PaperPredictor, check_choices

        unknown = sorted(paper_settings.keys() - _PAPER_SETTINGS.keys())
        if unknown:
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {unknown[0]!r}")
        warnings.warn(
            f"Predictor's arguments {', '.join(paper_settings)} have moved to "
            "lightning_nndyn.predictor.PaperPredictor, which has the paper's models; a Predictor is a forest",
            DeprecationWarning,
            stacklevel=3,
        )
        complete = {**_PAPER_SETTINGS, **paper_settings}
        check_choices(complete, also="forest")
        forests = [complete[name] == "forest" for name in ("classifier", "regressor")]
        if any(forests) and not all(forests):
            raise PredictorError(
                f"classifier={complete['classifier']!r} and regressor={complete['regressor']!r}: one forest "
                "does both; choose it for both, or for neither"
            )
        if all(forests):
            return False
        self.__class__ = PaperPredictor
        self.__init__(**settings, **complete)  # type: ignore[misc]
        return True

    @property
    def times(self) -> tuple[float, ...]:
        """Epochs, besides 0, that the predictor reads and decides at; ascending, empty before `fit`."""
        return tuple(sorted({model.times[-1] for model in self._models}))

    @property
    def reads_layers(self) -> bool:
        """Whether it needs snapshots with the numbers of each layer."""
        return self._family.reads_layers

    @property
    def reads_curves(self) -> bool:
        """Whether it has models that read a run's learning curve."""
        return any(model.kind == WEIGHTS_AND_CURVE for model in self._models)

    @property
    def topology(self) -> Topology:
        """Of the graphs that it was fitted to."""
        return topology_of(self.card.get("domain", {}))

    @property
    def bar(self) -> str:
        """The rule for low accuracy in words; deprecated, use `str(predictor.low_rule)`."""
        return str(self.low_rule)

    def fit(
        self,
        histories: Sequence[Sequence[Snapshot]],
        accuracies: Sequence[float],
        *,
        corpus: str = "",
        curves: Sequence[LearningCurve | None] | None = None,
        groups: Sequence[Hashable] | None = None,
        populations: Sequence[str] | None = None,
        training: TrainingSetup | Sequence[TrainingSetup] | None = None,
    ) -> Predictor:
        """Fit to finished runs, and measure on held-out ones what is promised of new ones.

        A run whose weights are not finite at some time is left out of the models from that time on.

        Args:
            histories: the snapshots of each run, from epoch 0 on, ascending. A run may have ended early.
            accuracies: the runs' final accuracies, fractions.
            corpus: the corpus' name, for the card.
            curves: what each run logged; runs without one are left out of the models that read curves.
            groups: runs of one group are never on both sides of a cross-validation's split; default: each run
                is a group. Give the configuration if it was run with several seeds.
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
        runs = TrainingSet(
            histories,
            accuracies,
            self.low_rule,
            curves=curves,
            groups=groups,
            populations=populations,
            seed=self._seed,
        )
        fitted = fit_models(runs, self._family, self.max_epoch)
        self._models = fitted.models
        self.card = card_of(
            runs,
            fitted,
            settings={
                "low_threshold": self.low_threshold,
                "low_share": self.low_share,
                **self._family.card_settings,
                "seed": self._seed,
                "max_epoch": self.max_epoch,
            },
            corpus=corpus,
            statistics=self._family.statistics,
            setups=[training] if isinstance(training, TrainingSetup) else list(training or ()),
        )
        return self

    def predict(
        self,
        history: Sequence[Snapshot],
        *,
        curve: LearningCurve | None = None,
        training: TrainingSetup | None = None,
    ) -> Verdict:
        """Predict how a run ends from its snapshots so far, and from its learning curve if one is given.

        The verdict is that of the latest time whose models have all they read; snapshots at other times are
        ignored. With a curve only the models that read curves are asked. Weights that are not finite are a
        verdict at any time.

        Args:
            history: the run's snapshots, from epoch 0 on, ascending.
            curve: what it has logged so far; None for a verdict by the weights alone.
            training: how the run is trained; a part of the domain.

        Raises:
            PredictorError: the predictor is not fitted or reads no curves, no known time was read, or the
                curve does not reach as far.
        """
        if not self._models:
            raise PredictorError("the predictor is not fitted: call fit(), or load one with load_predictor()")
        by_epoch = index_by_epoch(history)
        reason = why_out_of_domain(self.card["domain"], by_epoch[0.0], training)
        diverged = diverged_at(by_epoch)
        if diverged is not None:
            note = _joined(f"weights are not finite since epoch {diverged:g}", reason)
            accuracy = self.card["diverged_accuracy"]
            return Verdict(accuracy, 1.0, max(by_epoch), not reason, note, diverged=True)
        verdict = self._model_for(by_epoch, curve).predict(self._family, by_epoch, curve)
        note = _joined(reason, verdict.note)
        return replace(verdict, in_domain=not note, note=note)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `path`.skops and its card `path`.json; each appears whole or not at all.

        Raises:
            PredictorError: the predictor is not fitted.
        """
        if not self._models:
            raise PredictorError("this predictor is not fitted, there is nothing to save: call fit() first")
        persistence.write(path, self.card, [model.to_plain() for model in self._models])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Read what `save` wrote, after auditing it; `path` with or without its suffix.

        Returns:
            A `PaperPredictor` if the models are the paper's.

        Raises:
            ArtefactError: a file is missing, damaged, of another version or too large, or holds an unknown
                type or numbers that no fit gives.
        """
        card, models = persistence.read(path)
        try:
            check_card(card)
            predictor = _from_card(card)
            predictor._models = [DecisionTimeModel.from_plain(plain, predictor._family) for plain in models]
            if not models:
                raise ValueError("it has no models")
        except (KeyError, TypeError, ValueError, AttributeError, PredictorError) as error:
            raise ArtefactError(
                f"{path} lacks a part of a predictor, or has one that no fit gives ({error!r}): get it "
                "from its source, or fit it anew"
            ) from error
        predictor.card = card
        return predictor

    def _model_for(self, history: HistoryByEpoch, curve: LearningCurve | None) -> DecisionTimeModel:
        """The latest model that has all it reads; of two at the same time the one that reads more."""
        if curve is not None and not self.reads_curves:
            raise PredictorError("this predictor was fitted without curves: call predict() without one")
        ready = [model for model in self._models if model.ready(history, curve)]
        if not ready:
            firsts = {model.times[0] for model in self._models if len(model.times) == 1}
            starts = " or ".join(f"{time:g}" for time in sorted(firsts))
            also = "" if curve is None else " and the curve as far"
            raise PredictorError(
                f"the history was read at the epochs {show_epochs(history)}; this predictor needs epoch 0 "
                f"and epoch {starts} to begin with{also}. Read the weights at "
                f"snapshots=({show_epochs(self.times)})."
            )
        return max(ready, key=lambda model: (model.times[-1], len(model.times)))


def _from_card(card: Mapping[str, Any]) -> Predictor:
    from lightning_nndyn.predictor.paper_predictor import PaperPredictor

    settings = {name: card[name] for name in ("low_threshold", "low_share", "seed", "max_epoch")}
    if card["classifier"] == "forest":
        return Predictor(**settings)
    return PaperPredictor(**settings, **{name: card[name] for name in _PAPER_SETTINGS})


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))
