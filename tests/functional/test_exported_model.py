"""What the publisher's helper makes, in the real daemon: added, proved there, asked by tritonclient."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tritonclient.grpc as triton
from daemon_process import Daemon
from publisher import exported
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def given(name: str, datatype: str, values: "np.ndarray") -> triton.InferInput:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def test_a_classification_with_labels(daemon: Daemon, tmp_path: Path) -> None:
    data = load_iris()
    forest = RandomForestClassifier(20, random_state=0).fit(data.data, data.target)
    exported(forest, data.data, tmp_path / "iris", name="iris", labels=list(data.target_names))
    daemon.add(tmp_path / "iris")
    rows = data.data[::50].astype(np.float32)
    with triton.InferenceServerClient(daemon.address) as client:
        best = triton.InferRequestedOutput("probabilities", class_count=1)
        answer = client.infer("iris", [given("features", "FP32", rows)], outputs=[best]).as_numpy("probabilities")
        likely = [entry.decode().split(":") for entry in answer.ravel()]
        assert [label for _, _, label in likely] == ["setosa", "versicolor", "virginica"]
        expected = forest.predict_proba(data.data[::50]).max(axis=1)
        assert [float(value) for value, _, _ in likely] == pytest.approx(expected, abs=1e-4)
        plain = client.infer("iris", [given("features", "FP32", rows)])
        assert plain.as_numpy("label").tolist() == [0, 1, 2]


def test_an_input_for_each_column(daemon: Daemon, tmp_path: Path) -> None:
    frame = pd.DataFrame({"colour": ["red", "green", "blü"] * 20, "size": np.arange(60) % 7 / 2})
    target = np.where(frame["colour"] == "red", "stop", "go")
    chosen = ColumnTransformer([("c", OneHotEncoder(), ["colour"])], remainder="passthrough")
    exported(make_pipeline(chosen, LogisticRegression()).fit(frame, target), frame, tmp_path / "m", name="lights")
    daemon.add(tmp_path / "m")
    with triton.InferenceServerClient(daemon.address) as client:
        colours = np.array([["red"], ["blü"]], dtype=object)
        sizes = np.array([[1.0], [2.0]], np.float32)
        answer = client.infer("lights", [given("colour", "BYTES", colours), given("size", "FP32", sizes)])
        assert [text.decode() for text in answer.as_numpy("label")] == ["stop", "go"]
