"""scikit-learn with `n_jobs` on a mesh: bit by bit what it computes alone."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in workers: sums are added up in the same order
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

import stealmesh
import stealmesh.joblib


def figures(n_jobs: int) -> list[np.ndarray]:
    data, classes = make_classification(400, 12, random_state=0)
    forest = RandomForestClassifier(40, random_state=1, n_jobs=n_jobs).fit(data, classes)
    grid = GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.1, 1.0, 10.0]}, n_jobs=n_jobs)
    grid.fit(data, classes)
    scores = cross_val_score(LogisticRegression(max_iter=200), data, classes, cv=5, n_jobs=n_jobs)
    return [
        forest.predict_proba(data),
        forest.feature_importances_,
        grid.cv_results_["mean_test_score"],
        grid.best_estimator_.coef_,
        scores,
    ]


def main() -> int:
    alone = figures(1)
    with stealmesh.Mesh(workers=2) as mesh:
        stealmesh.joblib.register(mesh)
        with joblib.parallel_config(backend="stealmesh"):
            meshed = figures(2)
    same = [a.tobytes() == b.tobytes() for a, b in zip(alone, meshed, strict=True)]
    print(f"scikit-learn: {sum(same)} passed, {len(same) - sum(same)} failed")
    return int(not all(same))


if __name__ == "__main__":
    sys.exit(main())
