"""Real estimators on real tables: what the folder says, and that its file says what the estimator says."""

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from publisher import exported, golden_arrays, onnx_answers
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor

DIGITS = tuple(part[:300] for part in load_digits(return_X_y=True))
IRIS, CANCER, WINE = (load(return_X_y=True) for load in (load_iris, load_breast_cancer, load_wine))
DIABETES = load_diabetes(return_X_y=True, scaled=False)

CLASSIFIERS = [
    ("logistic regression", LogisticRegression(max_iter=3000), IRIS),
    ("forest", RandomForestClassifier(20, random_state=0), CANCER),
    ("gradient boosting", GradientBoostingClassifier(n_estimators=10, random_state=0), WINE),
    ("histogram boosting", HistGradientBoostingClassifier(max_iter=10), WINE),
    ("tree on pixels", DecisionTreeClassifier(max_depth=6, random_state=0), DIGITS),
    ("scaled vectors", make_pipeline(StandardScaler(), SVC(probability=True, random_state=0)), IRIS),
    ("calibrated", CalibratedClassifierCV(LogisticRegression(max_iter=3000), cv=2), IRIS),
    ("stacked", StackingClassifier([("a", DecisionTreeClassifier(max_depth=2)), ("b", LogisticRegression(max_iter=3000))], cv=2), IRIS),
    ("searched", GridSearchCV(LogisticRegression(max_iter=3000), {"C": [0.1, 1]}, cv=2), IRIS),
    ("xgboost", XGBClassifier(n_estimators=10, max_depth=3), WINE),
    ("xgboost of two", XGBClassifier(n_estimators=10, max_depth=3), CANCER),
    ("lightgbm", LGBMClassifier(n_estimators=10, num_leaves=7, verbose=-1), WINE),
    ("lightgbm of two", LGBMClassifier(n_estimators=10, num_leaves=7, verbose=-1), CANCER),
    ("lightgbm scaled", make_pipeline(StandardScaler(), LGBMClassifier(n_estimators=10, verbose=-1)), WINE),
]  # fmt: skip
REGRESSORS = [
    ("ridge", make_pipeline(StandardScaler(), Ridge())),
    ("forest", RandomForestRegressor(10, random_state=0)),
    ("gradient boosting", make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=20))),
    ("xgboost", XGBRegressor(n_estimators=10, max_depth=3)),
    ("xgboost of counts", XGBRegressor(n_estimators=10, max_depth=3, objective="count:poisson")),
    ("lightgbm", LGBMRegressor(n_estimators=10, num_leaves=7, verbose=-1)),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "data"), [c[1:] for c in CLASSIFIERS], ids=[c[0] for c in CLASSIFIERS])
def test_classifiers(tmp_path, model, data):
    rows, target = data
    model.fit(rows, target)
    told, spec, statistics = exported(model, rows, tmp_path / "m")
    labels, probabilities = onnx_answers(tmp_path / "m", {"features": rows.astype(np.float32)})
    assert (labels == model.predict(rows)).all()
    np.testing.assert_allclose(probabilities, model.predict_proba(rows), atol=1e-4)
    assert told.outputs == ("label", "probabilities")
    assert told.classes == tuple(str(c) for c in np.unique(target))
    assert (tmp_path / "m" / "labels.txt").read_text().split() == list(told.classes)
    assert spec.onnx.labels == {"probabilities": "labels.txt"}
    assert spec.onnx.outputs["probabilities"].unit == "probability"
    assert (spec.onnx.batching, spec.service_class) == ("auto", "latency")
    assert told.golden_tests == tuple(t.name for t in spec.golden) == ("a typical row", "typical rows", "extreme rows")
    assert statistics["rows"] == len(rows) - 12
    assert len(statistics["columns"]) == rows.shape[1]
    assert statistics["predictions"][0]["output"] == "label"
    seen = np.concatenate(golden_arrays(spec, tmp_path / "m", "outputs", "label"))
    assert len(seen) == 12
    assert set(seen) == set(np.unique(target))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", [r[1] for r in REGRESSORS], ids=[r[0] for r in REGRESSORS])
def test_regressors(tmp_path, model):
    rows, target = DIABETES
    model.fit(rows, target)
    told, spec, statistics = exported(model, rows, tmp_path / "m", target=target, output_name="progression", unit="pts")
    (said,) = onnx_answers(tmp_path / "m", {"features": rows.astype(np.float32)})
    assert said.shape == (len(rows), 1)
    np.testing.assert_allclose(said.ravel(), model.predict(rows), atol=1e-3 * model.predict(rows).std())
    assert told.outputs == ("progression",)
    assert told.classes == ()
    assert spec.onnx.outputs["progression"].unit == "pts"
    assert spec.onnx.labels == {}
    assert statistics["target"]["kind"] == "number"
    assert statistics["predictions"][0]["output"] == "progression"
    assert told.score is None  # nobody knows whether it was trained on these rows


def test_classes_of_text_are_the_labels(tmp_path):
    data = load_iris()
    model = LogisticRegression(max_iter=3000).fit(data.data, data.target_names[data.target])
    told, spec, _ = exported(model, data.data, tmp_path / "m")
    assert told.classes == ("setosa", "versicolor", "virginica")
    assert spec.golden[0].outputs["label"].datatype == "BYTES"


@pytest.mark.parametrize("target", [CANCER[1] == 1, CANCER[1] * 1.0], ids=["truths", "floats"])
def test_classes_that_are_nearly_whole_numbers(tmp_path, target):
    model = DecisionTreeClassifier(max_depth=3).fit(CANCER[0], target)
    told, _, _ = exported(model, CANCER[0], tmp_path / "m", labels=["malignant", "benign"])
    assert told.classes == ("malignant", "benign")


def machine_rows():
    rng = np.random.default_rng(3)
    colour = rng.choice(["red", "green", "blü"], 200)
    frame = pd.DataFrame({"speed": rng.normal(5, 2, 200), "colour": colour, "shift": rng.integers(0, 3, 200)})
    return frame, np.where((frame.speed > 5) & (frame.colour != "red"), "bad", "good")


def columns_model():
    chosen = [
        ("kind", OneHotEncoder(handle_unknown="ignore"), ["colour", "shift"]),
        ("size", StandardScaler(), ["speed"]),
    ]
    return make_pipeline(ColumnTransformer(chosen), LogisticRegression())


def test_one_input_for_each_column(tmp_path):
    frame, target = machine_rows()
    model = columns_model().fit(frame, target)
    told, spec, statistics = exported(model, frame, tmp_path / "m")
    assert told.inputs == (("speed", "FP32"), ("colour", "BYTES"), ("shift", "INT64"))
    feed = {"speed": frame[["speed"]].to_numpy(np.float32), "colour": frame[["colour"]].to_numpy(object), "shift": frame[["shift"]].to_numpy(np.int64)}  # fmt: skip
    assert (onnx_answers(tmp_path / "m", feed)[0] == model.predict(frame)).all()
    assert [c["kind"] for c in statistics["columns"]] == ["number", "category", "number"]
    assert [(c["input"], c["index"]) for c in statistics["columns"]] == [("speed", 0), ("colour", 0), ("shift", 0)]
    assert set(np.concatenate(golden_arrays(spec, tmp_path / "m", "inputs", "colour")).ravel()) == {
        "red",
        "green",
        "blü",
    }


def test_columns_are_found_by_name(tmp_path):
    """Rows with more columns, in another order, and the target among them."""
    frame, target = machine_rows()
    model = columns_model().fit(frame, target)
    mixed = {"serial": np.arange(200), "shift": frame["shift"], "verdict": target, "colour": frame["colour"], "speed": frame["speed"]}  # fmt: skip
    told, spec, statistics = exported(model, mixed, tmp_path / "m", target="verdict")
    assert [name for name, _ in told.inputs] == ["speed", "colour", "shift"]
    assert statistics["target"]["name"] == "verdict"
    assert "Columns in order: speed, colour, shift." in spec.card.description


def test_columns_by_number_are_one_matrix(tmp_path):
    model = make_pipeline(
        ColumnTransformer([("a", StandardScaler(), [0, 2])], remainder="passthrough"), LogisticRegression()
    )
    told, _, _ = exported(model.fit(*IRIS), IRIS[0], tmp_path / "m")
    assert told.inputs == (("features", "FP32"),)


@pytest.mark.parametrize("kind", [XGBClassifier, LGBMClassifier], ids=["xgboost", "lightgbm"])
def test_boosters_with_named_columns(tmp_path, kind):
    """XGBoost's converter knows columns by number only; LightGBM writes their names without spaces."""
    data = load_iris(as_frame=True)
    model = kind(n_estimators=5, **({"verbose": -1} if kind is LGBMClassifier else {})).fit(data.data, data.target)
    names = model.feature_names_in_
    told, _, statistics = exported(model, data.frame, tmp_path / "m", target="target")
    assert told.inputs == (("features", "FP32"),)
    assert [c["name"] for c in statistics["columns"]] == list(data.data.columns)
    assert list(model.feature_names_in_) == list(names)  # the publisher's own is as it was


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(SimpleImputer(), LogisticRegression(max_iter=3000)),
        HistGradientBoostingClassifier(max_iter=5),
        XGBClassifier(n_estimators=5, max_depth=3),
        LGBMClassifier(n_estimators=5, verbose=-1),
    ],
    ids=["imputer", "histogram boosting", "xgboost", "lightgbm"],
)
def test_missing_values(tmp_path, model):
    rows = IRIS[0].copy()
    rows[::6, 1] = np.nan
    model.fit(rows, IRIS[1])
    _, spec, statistics = exported(model, rows, tmp_path / "m")
    assert "rows with missing values" in [test.name for test in spec.golden]
    assert statistics["columns"][1]["missing"] > 0
    given = golden_arrays(spec, tmp_path / "m", "inputs", "features")[-1]
    assert np.isnan(given).any(axis=1).all()


def test_other_rows_held_back_say_how_good_it_is(tmp_path):
    rows, target = CANCER
    model = RandomForestClassifier(20, random_state=0).fit(rows[100:], target[100:])
    table, apart = (
        pd.DataFrame(rows).assign(y=target).rename(columns=str).iloc[part] for part in (slice(100, None), slice(100))
    )
    told, spec, statistics = exported(model, table, tmp_path / "m", target="y", held_back=apart)
    assert told.held_back == 100
    assert told.score == model.score(rows[:100], target[:100])
    assert f"On 100 held-back rows: {told.score:.1%} of the labels are right." in spec.card.description
    assert statistics["rows"] == 469
    assert sum(len(a) for a in golden_arrays(spec, tmp_path / "m", "inputs", "features")) == 100


def test_the_score_of_a_regressor(tmp_path):
    rows, target = DIABETES
    model = Ridge().fit(rows[100:], target[100:])
    named = [
        {**{f"c{i}": part[:, i] for i in range(10)}, "y": y}
        for part, y in ((rows[100:], target[100:]), (rows[:100], target[:100]))
    ]
    told, _, _ = exported(model, named[0], tmp_path / "m", target="y", held_back=named[1])
    assert told.score == pytest.approx(model.score(rows[:100], target[:100]))
    assert told.outputs == ("y",)


def test_a_target_that_names_classes_otherwise_is_not_scored(tmp_path):
    data = load_iris()
    model = LogisticRegression(max_iter=3000).fit(data.data, data.target)
    rows = {**{f"c{i}": data.data[:, i] for i in range(4)}, "species": data.target_names[data.target]}
    apart = {name: values[::2] for name, values in rows.items()}
    assert exported(model, rows, tmp_path / "m", target="species", held_back=apart)[0].score is None


def test_the_same_rows_make_the_same_folder(tmp_path):
    model = LogisticRegression(max_iter=3000).fit(*IRIS)
    for name in ("a", "b"):
        exported(model, IRIS[0], tmp_path / name)
    for path in ("model.onnx", "model.toml", "statistics.json"):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_the_card_says_what_it_was_made_with(tmp_path):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.25)).fit(*IRIS)
    _, spec, _ = exported(model, IRIS[0], tmp_path / "m")
    assert "Pipeline of StandardScaler, LogisticRegression(C=0.25); exported with scikit-learn" in spec.card.description
    assert "Statistics of 138 rows." in spec.card.description
    assert spec.card.licence == "BSD"
