"""scikit-learn's estimators of NMF and its function, with its parameters."""
