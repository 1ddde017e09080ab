"""The two classic models: trained here with a fixed seed, exported to ONNX, their golden tests from held-back rows.

What a golden test expects is what scikit-learn says, so it also proves the export.
"""

from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.toml_text import golden

_SEED = 20
_OPSET = {"": 18, "ai.onnx.ml": 3}
_GOLDEN_ROWS = 3


def breast_cancer(folder: Path, trees: int = 100) -> dict[str, str]:
    """A forest; the text for each mark of the template."""
    data = load_breast_cancer()
    features = data.data.astype(np.float32)
    train, test, train_classes, test_classes = train_test_split(
        features, data.target, test_size=0.2, random_state=_SEED, stratify=data.target
    )
    forest = RandomForestClassifier(trees, random_state=_SEED).fit(train, train_classes)
    model = to_onnx(
        forest,
        initial_types=[("features", FloatTensorType([None, features.shape[1]]))],
        options={id(forest): {"zipmap": False}},
        target_opset=_OPSET,
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in data.target_names))
    rows = test[:_GOLDEN_ROWS]
    tests = golden(
        "held-back rows",
        {"features": ("FP32", rows.shape, rows.ravel().tolist())},
        {
            "label": ("INT64", [len(rows)], forest.predict(rows).tolist()),
            "probabilities": ("FP32", [len(rows), 2], forest.predict_proba(rows).ravel().tolist()),
        },
        1e-5,
    )
    return {"@golden@": tests, "@accuracy@": f"{forest.score(test, test_classes):.1%}", "@held_back@": str(len(test))}


def diabetes(folder: Path) -> dict[str, str]:
    """Gradient boosting behind a scaler; the text for each mark of the template."""
    data = load_diabetes(scaled=False)
    features = data.data.astype(np.float32)
    train, test, train_targets, test_targets = train_test_split(
        features, data.target, test_size=0.2, random_state=_SEED
    )
    boosting = GradientBoostingRegressor(n_estimators=100, max_depth=2, learning_rate=0.06, random_state=_SEED)
    model = make_pipeline(StandardScaler(), boosting).fit(train, train_targets)
    exported = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, features.shape[1]]))],
        final_types=[("progression", FloatTensorType([None, 1]))],
        target_opset=_OPSET,
    )
    (folder / "model.onnx").write_bytes(exported.SerializeToString())
    rows = test[:_GOLDEN_ROWS]
    tests = golden(
        "held-back rows",
        {"features": ("FP32", rows.shape, rows.ravel().tolist())},
        {"progression": ("FP32", [len(rows), 1], model.predict(rows).tolist())},
        1e-2,
    )
    error = float(np.mean(np.abs(model.predict(test) - test_targets)))
    return {
        "@golden@": tests,
        "@r2@": f"{model.score(test, test_targets):.2f}",
        "@error@": f"{error:.0f}",
        "@held_back@": str(len(test)),
    }
