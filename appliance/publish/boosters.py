"""XGBoost and LightGBM among scikit-learn's estimators: their converters registered, their own files wrapped."""

import copy
import sys
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from appliance.errors import Unimplemented
from appliance.publish.estimators import leaves
from appliance.publish.optional import needed
from appliance.publish.table import Array

_CLASSIFIER = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


class LightGbmFile(BaseEstimator):  # type: ignore[misc,unused-ignore]  # scikit-learn has no types
    """A Booster that LightGBM saved, with what an estimator has; it keeps neither parameters nor names of classes."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster

    def fit(self, *_: Any) -> "LightGbmFile":
        """Nothing: the file has been fitted. Without this method scikit-learn sees no estimator."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @property
    def booster_(self) -> Any:
        """As the converter asks for it."""
        return self.booster

    @property
    def boosting_type(self) -> str:
        """A random forest's trees are averaged, all others' added."""
        return "rf" if self.booster.dump_model(num_iteration=1).get("average_output") else "gbdt"

    @property
    def n_features_in_(self) -> int:
        """Columns it was fitted on."""
        return int(self.booster.num_feature())

    @property
    def feature_names_in_(self) -> Array:
        """Their names; Column_0 and so on where there were none."""
        return np.array(self.booster.feature_name())


class LightGbmFileRegressor(RegressorMixin, LightGbmFile):  # type: ignore[misc,unused-ignore]
    """One number a row."""

    def predict(self, rows: Any) -> Array:
        """[rows]."""
        return np.asarray(self.booster.predict(rows))


class LightGbmFileClassifier(ClassifierMixin, LightGbmFile):  # type: ignore[misc,unused-ignore]
    """Classes are 0 and up: the file has no others."""

    @property
    def classes_(self) -> Array:
        """In the order of the probabilities."""
        return np.arange(max(2, self.booster.num_model_per_iteration()))

    def predict_proba(self, rows: Any) -> Array:
        """[rows, classes]."""
        said = np.asarray(self.booster.predict(rows))
        return np.stack([1 - said, said], axis=1) if said.ndim == 1 else said

    def predict(self, rows: Any) -> Array:
        """[rows]."""
        return np.asarray(self.predict_proba(rows).argmax(axis=1))


def from_booster(booster: Any, name: str) -> LightGbmFile:
    """The estimator of a LightGBM file. Raises Unimplemented for objectives that are neither classes nor numbers."""
    objective = str(booster.params.get("objective") or booster.dump_model(num_iteration=1).get("objective", ""))
    if objective.startswith(("binary", "multiclass")):
        return LightGbmFileClassifier(booster)
    known = ("regression", "poisson", "gamma", "quantile", "huber", "tweedie", "fair", "mape")
    if objective.startswith(known):
        return LightGbmFileRegressor(booster)
    raise Unimplemented(
        f"{name}: a model of the objective {objective!r}; binary, multiclass and {', '.join(known)} can be published",
        reason="ESTIMATOR_UNSUPPORTED",
    )


def register(estimator: Any) -> None:
    """Teaches skl2onnx the boosters' converters, for the libraries that ``estimator`` brought along.

    Raises FailedPrecondition LIBRARY_MISSING where onnxmltools isn't installed.
    """
    families = {type(step).__module__.split(".")[0] for _, step in leaves(estimator)}
    families |= {"lightgbm"} if any(isinstance(step, LightGbmFile) for _, step in leaves(estimator)) else set()
    # Also as parts of an ensemble (VotingClassifier and its kind): whatever is loaded may be inside.
    families |= {"xgboost", "lightgbm"} & set(sys.modules)
    if families & {"xgboost", "lightgbm"}:
        try:
            needed("onnxmltools", "onnxmltools")
        except Exception:
            if any(type(step).__module__.startswith(("xgboost", "lightgbm")) for _, step in leaves(estimator)):
                raise
            return
    if "xgboost" in families:
        _register_xgboost()
    if "lightgbm" in families:
        _register_lightgbm()


def _register_xgboost() -> None:
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    _add(xgboost.XGBClassifier, convert_xgboost, classifier=True)
    _add(xgboost.XGBRFClassifier, convert_xgboost, classifier=True)
    _add(xgboost.XGBRegressor, convert_xgboost, classifier=False)
    _add(xgboost.XGBRFRegressor, convert_xgboost, classifier=False)


def _register_lightgbm() -> None:
    import lightgbm
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    _add(lightgbm.LGBMClassifier, convert_lightgbm, classifier=True)
    _add(LightGbmFileClassifier, convert_lightgbm, classifier=True)
    _add(lightgbm.LGBMRegressor, convert_lightgbm, classifier=False)
    _add(LightGbmFileRegressor, convert_lightgbm, classifier=False)


def _add(kind: type, converter: Any, *, classifier: bool) -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    shape = calculate_linear_classifier_output_shapes if classifier else calculate_linear_regressor_output_shapes
    options = _CLASSIFIER if classifier else {"split": None}
    update_registered_converter(kind, f"Appliance{kind.__name__}", shape, converter, options=options)


def without_names(estimator: Any) -> Any:
    """The estimator, a copy where XGBoost has to forget the names of its columns: its converter knows f0, f1, … only."""
    if not any(_named_booster(step) for _, step in leaves(estimator)):
        return estimator
    estimator = copy.deepcopy(estimator)
    for _, step in leaves(estimator):
        if _named_booster(step):
            step.get_booster().feature_names = None
    return estimator


def _named_booster(step: Any) -> bool:
    return type(step).__module__.startswith("xgboost") and step.get_booster().feature_names is not None
