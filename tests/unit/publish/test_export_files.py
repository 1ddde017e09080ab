"""Models out of files: pickles, and what XGBoost and LightGBM save themselves."""

import pickle

import joblib
import lightgbm
import numpy as np
import pytest
import sklearn
import xgboost
from publisher import exported
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from appliance.errors import ApplianceError, FailedPrecondition, InvalidArgument, Unimplemented
from appliance.publish import model_files, optional
from appliance.publish.model_files import read_model

CANCER, WINE = load_breast_cancer(return_X_y=True), load_wine(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True, scaled=False)


@pytest.mark.parametrize("suffix", [".joblib", ".pkl", ".pickle"])
def test_pickles(tmp_path, suffix):
    rows, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=3000).fit(rows, target)
    path = tmp_path / f"m{suffix}"
    if suffix == ".joblib":
        joblib.dump(model, path)
    else:
        path.write_bytes(pickle.dumps(model))
    lines: list[str] = []
    read = read_model(path, lines.append)
    assert (read.coef_ == model.coef_).all()
    assert lines == [f"m{suffix}: reading a pickle runs what its writer put into it; read only your own"]


def test_a_pickle_of_another_scikit_learn(tmp_path):
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    path = tmp_path / "m.pkl"
    data = pickle.dumps(model)
    path.write_bytes(data.replace(state_version(data), b"0.0.1"))
    lines: list[str] = []
    read_model(path, lines.append)
    assert "from version 0.0.1" in lines[-1]


def state_version(data):
    """The version as it stands in the pickle; five characters, as those put in its place."""
    version = sklearn.__version__.encode()
    assert (data.count(version), len(version)) == (1, 5)
    return version


class Raises:
    def __reduce__(self):
        return (int, ("no number",))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "can't be unpickled"),
        (b"rubbish", "can't be unpickled"),
        (pickle.dumps(Raises()), r"can't be unpickled \(ValueError: invalid literal"),
        (b"cno_such_module\nThing\n.", "code that is not installed here: No module named 'no_such_module'"),
        (b"cappliance.errors\nNoThing\n.", "code that is not installed here: .*NoThing"),
    ],
)
def test_pickles_that_cannot_be_read(tmp_path, data, says):
    path = tmp_path / "m.pkl"
    path.write_bytes(data)
    with pytest.raises(InvalidArgument, match=says) as caught:
        read_model(path)
    assert caught.value.reason == "MODEL_FILE"


# --- XGBoost ---------------------------------------------------------------------------------------------------------


def xgb(data, **parameters):
    rows, target = data
    names = [f"col {i}" for i in range(rows.shape[1])]
    return xgboost.train({"max_depth": 3, **parameters}, xgboost.DMatrix(rows, target, feature_names=names), 8)


@pytest.mark.parametrize("suffix", [".json", ".ubj"])
@pytest.mark.parametrize(
    ("data", "parameters", "classes"),
    [
        (CANCER, {"objective": "binary:logistic"}, 2),
        (WINE, {"objective": "multi:softprob", "num_class": 3}, 3),
        (DIABETES, {"objective": "reg:squarederror"}, 0),
        (DIABETES, {"objective": "count:poisson"}, 0),
    ],
    ids=["two", "three", "numbers", "counts"],
)
def test_xgboost(tmp_path, suffix, data, parameters, classes):
    booster = xgb(data, **parameters)
    booster.save_model(tmp_path / f"m{suffix}")
    told, _, _ = exported(read_model(tmp_path / f"m{suffix}"), data[0], tmp_path / "m")
    assert len(told.classes) == classes
    assert told.largest_difference < 1e-4


@pytest.mark.parametrize(
    ("name", "data"), [("m.json", b""), ("m.json", b'{"a":1}'), ("m.json", b"[" * 5000), ("m.ubj", b"{\x00\x01rubbish")]
)
def test_files_that_xgboost_did_not_write(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidArgument, match="is no model that XGBoost saved") as caught:
        read_model(tmp_path / name)
    assert "Stack trace" not in caught.value.message


def test_an_xgboost_model_of_another_kind(tmp_path):
    rows, target = DIABETES
    data = xgboost.DMatrix(rows, target)
    data.set_group([len(target)])
    xgboost.train({"objective": "rank:pairwise"}, data, 1).save_model(tmp_path / "m.json")
    with pytest.raises(Unimplemented, match="objective 'rank:pairwise'; binary:logistic"):
        read_model(tmp_path / "m.json")


# --- LightGBM --------------------------------------------------------------------------------------------------------


def lgb(data, **parameters):
    quiet = {"verbosity": -1, "num_leaves": 7, **parameters}
    return lightgbm.train(quiet, lightgbm.Dataset(*data), 8)


@pytest.mark.parametrize(
    ("data", "parameters", "classes"),
    [
        (CANCER, {"objective": "binary"}, 2),
        (WINE, {"objective": "multiclass", "num_class": 3}, 3),
        (DIABETES, {"objective": "regression"}, 0),
        (DIABETES, {"objective": "poisson"}, 0),
    ],
    ids=["two", "three", "numbers", "counts"],
)
def test_lightgbm(tmp_path, data, parameters, classes):
    booster = lgb(data, **parameters)
    booster.save_model(tmp_path / "m.txt")
    told, _, statistics = exported(read_model(tmp_path / "m.txt"), data[0], tmp_path / "m")
    assert len(told.classes) == classes
    assert told.largest_difference < 1e-4
    assert statistics["columns"][0]["name"] == "column_0"  # Column_0 is no name that anybody gave


@pytest.mark.parametrize("trees", [8, 100])
def test_lightgbm_forests_are_exported_right_or_not_at_all(tmp_path, trees):
    """The converter divides by 100, however many trees there are."""
    lgb(DIABETES, boosting="rf", bagging_freq=1, bagging_fraction=0.5, num_iterations=trees).save_model(
        tmp_path / "m.txt"
    )
    model = read_model(tmp_path / "m.txt")
    if trees == 100:
        assert exported(model, DIABETES[0], tmp_path / "m")[0].largest_difference < 1e-4
    else:
        with pytest.raises(FailedPrecondition, match=r"LightGBM forest \(boosting rf\) for one of 100 trees"):
            exported(model, DIABETES[0], tmp_path / "m")


@pytest.mark.parametrize("data", [b"", b"rubbish", b"tree\nversion=v4\nnum_class=1\n"])
def test_files_that_lightgbm_did_not_write(tmp_path, data, capfd):
    (tmp_path / "m.txt").write_bytes(data)
    with pytest.raises(InvalidArgument, match="is no model that LightGBM saved"):
        read_model(tmp_path / "m.txt")


def test_a_lightgbm_model_of_another_kind(tmp_path):
    rows, target = DIABETES
    data = lightgbm.Dataset(rows, np.digitize(target, [100, 200]), group=[100, 100, 100, 100, 42])
    model = lightgbm.train({"objective": "lambdarank", "verbosity": -1}, data, 1)
    model.save_model(tmp_path / "m.txt")
    with pytest.raises(Unimplemented, match="objective 'lambdarank"):
        read_model(tmp_path / "m.txt")


# --- around them -----------------------------------------------------------------------------------------------------


def test_files_that_are_none(tmp_path):
    with pytest.raises(InvalidArgument, match=r"models come as .joblib"):
        read_model(tmp_path / "m.h5")
    with pytest.raises(InvalidArgument, match="can't be read: No such file"):
        read_model(tmp_path / "m.joblib")
    (tmp_path / "d.joblib").mkdir()
    with pytest.raises(InvalidArgument, match="can't be read: Is a directory"):
        read_model(tmp_path / "d.joblib")


def test_a_library_that_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "m.json").write_text("{}")
    monkeypatch.setattr(model_files, "needed", lambda _, package: optional.needed("no_such_module", package))
    with pytest.raises(FailedPrecondition, match=r"this needs xgboost-cpu .*extra `publish`") as caught:
        read_model(tmp_path / "m.json")
    assert isinstance(caught.value, ApplianceError)
    assert caught.value.reason == "LIBRARY_MISSING"
