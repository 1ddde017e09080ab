"""Fitted models out of files: XGBoost's and LightGBM's own formats, and pickles, which are programs.

Reading a pickle runs whatever its writer put into it. It is for the publisher's own file, on the publisher's own
machine; nothing of the daemon reads one.
"""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.errors import InvalidArgument, Unimplemented
from appliance.publish.optional import needed


def read_model(path: Path, say: Callable[[str], None] = lambda _: None) -> Any:
    """A fitted estimator. ``say`` gets what the publisher should know of it. Raises InvalidArgument MODEL_FILE."""
    readers = {
        ".joblib": _pickle, ".pkl": _pickle, ".pickle": _pickle,
        ".json": _xgboost, ".ubj": _xgboost,
        ".txt": _lightgbm,
    }  # fmt: skip
    if path.suffix not in readers:
        raise _refused(path, f"models come as {', '.join(readers)}")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise _refused(path, f"can't be read: {os.strerror(error.errno or 0)}") from None
    if readers[path.suffix] is _pickle:
        say(f"{path.name}: reading a pickle runs what its writer put into it; read only your own")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = readers[path.suffix](path)
    for text in dict.fromkeys(str(w.message) for w in caught if "InconsistentVersion" in w.category.__name__):
        say(text.split(". This might")[0])
    return model


def _pickle(path: Path) -> Any:
    import joblib

    try:
        return joblib.load(path)
    except (ImportError, AttributeError) as error:
        raise _refused(path, f"it needs code that is not installed here: {error}") from None
    except Exception as error:  # a pickle may raise whatever it likes
        raise _refused(path, f"it can't be unpickled ({type(error).__name__}: {str(error)[:500]})") from None


def _xgboost(path: Path) -> Any:
    xgboost = needed("xgboost", "xgboost-cpu")
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
        learner = json.loads(booster.save_config())["learner"]
    except (xgboost.core.XGBoostError, ValueError, KeyError) as error:
        why = str(error).split("\nStack trace")[0]
        raise _refused(path, f"is no model that XGBoost saved: {why[:500]}") from None
    objective = learner["objective"]["name"]
    if objective.startswith(("binary:logistic", "multi:")):
        model = xgboost.XGBClassifier()
    elif objective.startswith(("reg:", "count:")):
        model = xgboost.XGBRegressor()
    else:
        raise Unimplemented(
            f"{path.name}: a model of the objective {objective!r}; binary:logistic, multi:…, reg:… and count:… can be"
            " published",
            reason="ESTIMATOR_UNSUPPORTED",
        )
    model.load_model(path)
    return model


def _lightgbm(path: Path) -> Any:
    lightgbm = needed("lightgbm", "lightgbm")
    from appliance.publish.boosters import from_booster

    try:
        # Otherwise its C++ half writes "[Fatal]" to the terminal before the exception says the same.
        booster = lightgbm.Booster(model_file=str(path), params={"verbosity": -2})
    except lightgbm.basic.LightGBMError as error:
        raise _refused(path, f"is no model that LightGBM saved: {str(error)[:500]}") from None
    return from_booster(booster, path.name)


def _refused(path: Path, what: str) -> InvalidArgument:
    return InvalidArgument(f"{path.name}: {what}", reason="MODEL_FILE")
