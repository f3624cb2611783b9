"""The floors: what a score is worth that a trivial rule reaches too.

``always_unsafe`` knows nothing, ``turn_count`` sees only how many steps there are, and ``word_count`` is a bag of words
and character n-grams: on most published sets it reaches 0.9 in domain, so only what stands above it is judgement.
"""

import importlib.util
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gelert.core.errors import missing_extra
from gelert.core.trajectory import Trajectory
from gelert.guard.prompts.render import render

Risks = NDArray[np.float64]
"""Shape ``[n]``: probability of unsafe."""

Baseline = Callable[[Sequence[Trajectory], Sequence[bool], Sequence[Trajectory]], Risks]
"""Fit on (trajectories, unsafe), give the risks of the others."""


def always_unsafe(train: Sequence[Trajectory], unsafe: Sequence[bool], test: Sequence[Trajectory]) -> Risks:
    """Risk 1 for everything."""
    del train, unsafe
    return np.ones(len(test), dtype=np.float64)


def turn_count(train: Sequence[Trajectory], unsafe: Sequence[bool], test: Sequence[Trajectory]) -> Risks:
    """Logistic regression on the logarithm of the number of steps, and its square."""
    from sklearn.linear_model import LogisticRegression

    def features(runs: Sequence[Trajectory]) -> NDArray[np.float64]:
        logs = [math.log1p(len(t.steps)) for t in runs]
        return np.array([[x, x * x] for x in logs], dtype=np.float64)

    return np.asarray(LogisticRegression(C=1.0).fit(features(train), unsafe).predict_proba(features(test))[:, 1])


def word_count(train: Sequence[Trajectory], unsafe: Sequence[bool], test: Sequence[Trajectory]) -> Risks:
    """TF-IDF of words, word pairs and 3 to 5 characters of the rendered run, logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=60_000)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=3, max_features=100_000)
    model = make_pipeline(make_union(words, letters), LogisticRegression(C=10.0, solver="liblinear"))
    model.fit([render(t).text for t in train], list(unsafe))
    return np.asarray(model.predict_proba([render(t).text for t in test])[:, 1])


BASELINES: dict[str, Baseline] = {"always unsafe": always_unsafe, "turn count": turn_count, "word count": word_count}


def require() -> None:
    """Say early and clearly that fitted floors need scikit-learn.

    Raises:
        MissingError: it is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise missing_extra("fitting a baseline", "train")
