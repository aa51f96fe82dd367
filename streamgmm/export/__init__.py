"""Mixtures elsewhere: model files, scikit-learn, ONNX graphs, SQL; of values alone, which know no estimator."""
