"""ONNX Runtime as an engine: classic machine learning, vision and audio models."""
