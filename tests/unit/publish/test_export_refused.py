"""What cannot be published, and what the publisher is told: which step, which column, which rows, and what to do."""

import os

import numpy as np
import pandas as pd
import pytest
from publisher import exported, options
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier

from appliance import limits
from appliance.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unimplemented,
)
from appliance.publish import card, prove
from appliance.publish.card import CardTexts
from appliance.publish.export import export

ROWS, TARGET = load_iris(return_X_y=True)
MODEL = LogisticRegression(max_iter=3000).fit(ROWS, TARGET)


class Doubled(TransformerMixin, BaseEstimator):
    """A step of somebody's own."""

    def fit(self, rows, target=None):
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, rows):
        return np.asarray(rows) * 2


def with_classes(*classes):
    """As libraries have them that check less than scikit-learn."""
    model = LogisticRegression(max_iter=3000).fit(ROWS, TARGET)
    model.classes_ = np.array(classes)
    return model


def refused(model, rows, folder, kind, says, reason, **more):
    with pytest.raises(kind, match=says) as caught:
        exported(model, rows, folder, **more)
    assert caught.value.reason == reason
    assert not os.path.exists(folder)


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kind", "says"),
    [
        (LogisticRegression(), InvalidArgument, "LogisticRegression is not fitted"),
        (LogisticRegression, InvalidArgument, "the class LogisticRegression, no fitted estimator"),
        ({"a": 1}, InvalidArgument, "a dict, no fitted estimator"),
        (StandardScaler().fit(ROWS), InvalidArgument, "a StandardScaler, no fitted estimator"),
    ],
)
def test_what_is_no_fitted_estimator(tmp_path, model, kind, says):
    refused(model, ROWS, tmp_path / "m", kind, says, "ESTIMATOR")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (KMeans(2, n_init=1).fit(ROWS), "KMeans is of the kind clusterer; classifiers and regressors"),
        (IsolationForest(n_estimators=5).fit(ROWS), "IsolationForest is of the kind outlier_detector"),
        (LinearSVC().fit(ROWS, TARGET), "LinearSVC has no predict_proba.*CalibratedClassifierCV"),
        (make_pipeline(StandardScaler(), LinearSVC()).fit(ROWS, TARGET), "LinearSVC has no predict_proba"),
        (RandomForestClassifier(3).fit(ROWS, np.stack([TARGET, TARGET], 1)), "several values a row"),
        (RandomForestRegressor(3).fit(ROWS, np.stack([TARGET, TARGET], 1)), "several values a row"),
        (LinearRegression().fit(ROWS, np.stack([TARGET, TARGET], 1)), "several values a row"),
        (make_pipeline(Doubled(), LogisticRegression()).fit(ROWS, TARGET), r"step 'doubled', a Doubled \(.*no converter"),
        (
            make_pipeline(FeatureUnion([("same", StandardScaler()), ("twice", Doubled())]), LogisticRegression()).fit(ROWS, TARGET),
            "step 'featureunion/twice', a Doubled",
        ),
        (
            make_pipeline(ColumnTransformer([("two", Doubled(), [0])]), LogisticRegression()).fit(ROWS, TARGET),
            "step 'columntransformer/two', a Doubled",
        ),
        (
            make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()).fit(ROWS, TARGET),
            "Pipeline has no way to ONNX: FunctionTransformer is not supported",
        ),
        (with_classes(0.5, 1, 2), "class 0.5 is neither a whole number nor"),
        (with_classes(b"a", b"\xff", b"c"), "class b'a' is neither a whole number nor"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_models_without_a_way(tmp_path, model, says):
    refused(model, ROWS, tmp_path / "m", Unimplemented, says, "ESTIMATOR_UNSUPPORTED")


def test_a_class_that_is_not_utf_8(tmp_path):
    model = LogisticRegression().fit(ROWS, np.where(TARGET > 0, "\udcff", "a").astype(object))
    refused(model, ROWS, tmp_path / "m", InvalidArgument, "a class: .*not UTF-8", "TEXT")


def test_forests_that_are_too_large(tmp_path, monkeypatch):
    model = RandomForestClassifier(3).fit(ROWS, TARGET)
    monkeypatch.setattr(limits, "publish_tree_nodes_max", 10)
    refused(
        model, ROWS, tmp_path / "m", ResourceExhausted, r"trees have \d+ nodes, at most 10.*max_depth", "MODEL_SIZE"
    )
    monkeypatch.undo()
    monkeypatch.setattr(limits, "publish_onnx_bytes_max", 100)
    refused(model, ROWS, tmp_path / "m", ResourceExhausted, r"would have \d+ bytes, at most 100", "MODEL_SIZE")


# --- rows ------------------------------------------------------------------------------------------------------------

GAPS = np.where(np.arange(600).reshape(150, 4) % 50 == 1, np.nan, ROWS)


@pytest.mark.parametrize(
    ("rows", "more", "says", "reason"),
    [
        (ROWS[:, :3], {}, "rows have 3 columns, the LogisticRegression was fitted on 4", "TABLE"),
        (ROWS[:1], {}, "1 row: at least two", "TABLE"),
        (GAPS, {}, r"takes no missing values.*'column_1' \(6\), 'column_3' \(6\).*SimpleImputer", "ROWS"),
        (np.where(ROWS > 7, np.inf, ROWS), {}, "the model itself refuses the rows: Input X contains infinity", "ROWS"),
        ({"a": ["x"] * 9, "b": [1] * 9, "c": [1] * 9, "d": [1] * 9}, {}, "the model itself refuses the rows", "ROWS"),
        (ROWS, {"target": "y"}, "no column 'y'; the rows have 'column_0'", "TABLE"),
        (ROWS, {"target": TARGET[:9]}, "the target has 9 values for 150 rows", "TABLE"),
        (ROWS[:, :1], {"target": "column_0"}, "beside the target 'column_0' the rows have no column", "TABLE"),
        (ROWS, {"held_back": 0}, "held_back is 0; at least one", "HELD_BACK"),
        (ROWS, {"held_back": ROWS[:, :2]}, "rows have 2 columns", "TABLE"),
        (ROWS, {"labels": ["a", "b"]}, "2 labels for 3 classes", "LABELS"),
        (ROWS, {"labels": ["a", "b", "\udcff"]}, "a label.*not UTF-8", "TEXT"),
    ],
)
def test_rows_that_do_not_fit(tmp_path, rows, more, says, reason):
    refused(MODEL, rows, tmp_path / "m", InvalidArgument, says, reason, **more)


def test_a_column_that_is_missing(tmp_path):
    data = load_iris(as_frame=True)
    model = LogisticRegression(max_iter=3000).fit(data.data, data.target)
    rows = data.data.rename(columns={"petal width (cm)": "pw"})
    refused(model, rows, tmp_path / "m", InvalidArgument, r"column 'petal width \(cm\)', which the rows don't", "TABLE")


def test_texts_fit_no_matrix_and_a_call_only_so_many_inputs(tmp_path, monkeypatch):
    frame = pd.DataFrame({"a": ["x", "y"] * 10, "b": range(20)})
    chosen = ColumnTransformer([("a", OneHotEncoder(), ["a"])], remainder="passthrough")
    model = make_pipeline(chosen, LogisticRegression()).fit(frame, [0, 1] * 10)
    refused(model, frame, tmp_path / "m", InvalidArgument, "one matrix can't carry texts", "TABLE", layout="matrix")
    monkeypatch.setattr(limits, "tensors_per_call_max", 1)
    refused(model, frame, tmp_path / "m", InvalidArgument, "2 columns would be as many inputs.*at most 1", "TABLE")


# --- the comparison --------------------------------------------------------------------------------------------------


@pytest.fixture
def borderline():
    """XGBoost splits at training values, which a scaler in FP64 puts elsewhere than one in FP32: some rows fall over."""
    rows, target = load_wine(return_X_y=True)
    return make_pipeline(StandardScaler(), XGBClassifier(n_estimators=20, max_depth=3)).fit(rows, target), rows


def test_rows_that_differ_are_named(tmp_path, borderline):
    model, rows = borderline
    says = r"at most \d.*beyond 0.001.*Rows: \d+.*Trees behind a scaler.*--accept-difference"
    refused(model, rows, tmp_path / "m", FailedPrecondition, says, "DIFFERENCE")


def test_a_difference_that_is_accepted_is_told(tmp_path, borderline):
    model, rows = borderline
    told, spec, _ = exported(model, rows, tmp_path / "m", accept_difference=True, held_back=80)
    assert told.rows_beyond
    assert told.largest_difference > 1e-3
    assert f"{len(told.rows_beyond)} of them are beyond 0.001" in spec.card.description
    assert all(test.tolerance.absolute < 1e-2 for test in spec.golden)


def test_fitted_on_fp32_nothing_differs(tmp_path):
    """What the advice says, and that one of the ways to divide is the estimator's."""
    rows, target = load_wine(return_X_y=True)
    rows = rows.astype(np.float32)
    model = make_pipeline(StandardScaler(), XGBClassifier(n_estimators=20, max_depth=3)).fit(rows, target)
    told, _, _ = exported(model, rows, tmp_path / "m")
    assert told.rows_beyond == ()
    assert told.largest_difference < 1e-5


def test_trees_that_lose_missing_values(tmp_path):
    model = RandomForestClassifier(10, random_state=0).fit(GAPS, TARGET)
    refused(model, GAPS, tmp_path / "m", FailedPrecondition, "lose the way of missing values", "DIFFERENCE")


def test_numbers_that_fp32_cannot_carry(tmp_path):
    rows, target = load_diabetes(return_X_y=True)
    model = LinearRegression().fit(rows, target + 1e9)
    refused(model, rows, tmp_path / "m", FailedPrecondition, "standard deviation of the predictions", "DIFFERENCE")


def test_when_no_row_is_left_for_a_golden_test(tmp_path):
    rows, target = load_diabetes(return_X_y=True)
    model = LinearRegression().fit(rows, target + 1e9)
    says = "all held-back rows differ"
    refused(
        model, rows, tmp_path / "m", FailedPrecondition, says, "DIFFERENCE", accept_difference=True, tolerance=1e-12
    )


# --- the folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "says", "reason"),
    [
        ({"name": "Iris"}, '"Iris": allowed are lower-case', "MODEL_TOML"),
        ({"name": "../up"}, "allowed are lower-case", "MODEL_TOML"),
        ({"version": "1"}, "version: ", "MODEL_TOML"),
        ({"card": CardTexts()}, r"licence \(.*source \(.*intended_use \(.*limits \(", "CARD"),
        (
            {"card": CardTexts(licence="a", source=" ", intended_use="c", limits="d")},
            r"more.*: source \([^;]*$",
            "CARD",
        ),
        (
            {"card": CardTexts(licence="\udcff", source="b", intended_use="c", limits="d")},
            "card's licence.*UTF-8",
            "TEXT",
        ),
    ],
)
def test_what_the_model_may_not_say_of_itself(tmp_path, more, says, reason):
    refused(MODEL, ROWS, tmp_path / "m", InvalidArgument, says, reason, **more)


def test_a_folder_that_exists(tmp_path):
    exported(MODEL, ROWS, tmp_path / "m")
    before = (tmp_path / "m" / "model.toml").read_bytes()
    with pytest.raises(AlreadyExists, match="--force"):
        export(MODEL, ROWS, tmp_path / "m", options(version="2.0.0"))
    assert (tmp_path / "m" / "model.toml").read_bytes() == before
    export(MODEL, ROWS, tmp_path / "m", options(version="2.0.0", force=True))
    assert b'version = "2.0.0"' in (tmp_path / "m" / "model.toml").read_bytes()


def test_a_name_that_is_taken_inside(tmp_path):
    rows, target = load_diabetes(return_X_y=True)
    model = LinearRegression().fit(rows, target)
    refused(
        model,
        rows,
        tmp_path / "m",
        InvalidArgument,
        "can't be called 'features'",
        "OUTPUT_NAME",
        output_name="features",
    )


def test_a_folder_that_does_not_prove_itself_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr("appliance.publish.export._golden", lambda made: wrong_golden())
    refused(MODEL, ROWS, tmp_path / "m", FailedPrecondition, "golden test 'wrong' failed", "GOLDEN_FAILED")
    assert os.listdir(tmp_path) == []


def wrong_golden():
    test = {
        "name": "wrong",
        "inputs": {"features": {"datatype": "FP32", "shape": [1, 4], "data": ROWS[0].tolist()}},
        "outputs": {"probabilities": {"datatype": "FP32", "shape": [1, 3], "data": [0.0, 0.0, 1.0]}},
    }
    return [test], {}


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import os; os.abort()", "died of signal 6"),
        ("import sys; sys.exit('no such thing')", "ended with status 1.*no such thing"),
    ],
)
def test_an_engine_that_dies_on_the_model(tmp_path, monkeypatch, program, says):
    exported(MODEL, ROWS, tmp_path / "m")
    run = prove.subprocess.run

    def dies(command, **more):
        return run([command[0], "-c", program], **more)

    monkeypatch.setattr(prove.subprocess, "run", dies)
    with pytest.raises(FailedPrecondition, match=says):
        prove.prove(tmp_path / "m")


def test_the_card_is_bounded():
    assert len(card.columns_text(["x" * 100] * 1000)) < 5000
