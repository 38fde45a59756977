import numpy as np
import pytest

from hesstore.analysis import class_skill
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import counted

L2 = [0.0, 0.01, 0.02]

PERFECT = [[8, 0, 0], [0, 2, 0], [0, 0, 6]]
ONE_ANSWER = [[8, 0, 0], [2, 0, 0], [6, 0, 0]]
MIXED = [[6, 1, 1], [1, 1, 0], [3, 0, 3]]


def test_skill_by_hand() -> None:
    ds = counted(L2, PERFECT, MIXED, ONE_ANSWER)
    found = class_skill(ds)["class_skill"].sel(run=0)
    np.testing.assert_allclose(found[0], 1)
    np.testing.assert_allclose(found[1], [6 / 8 - 4 / 8, 1 / 2 - 1 / 14, 3 / 6 - 1 / 10])
    np.testing.assert_array_equal(found[2], 0)
    np.testing.assert_array_equal(class_skill(ds, "train")["class_skill"], 1)


def test_skill_without_rows_of_a_class() -> None:
    ds = counted(L2, [[4, 0, 0], [0, 0, 0], [0, 0, 4]], runs=2)
    np.testing.assert_array_equal(class_skill(ds)["class_skill"].isel(run=0, l2=0), [1, np.nan, 1])
    with pytest.raises(AnalysisError, match="the test split has rows of only one class, and skill compares classes"):
        class_skill(counted(L2, [[0, 0, 0], [1, 0, 3], [0, 0, 0]]))
