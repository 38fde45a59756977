from __future__ import annotations

from tests.support.scale import GETS, PUTS, count_records, opening

"""A λ: 37 small arrays are put, three of them twice; 13 large ones are put, three looked at before.

zarr 3.4 looks at one alone: the first shard of a λ is no longer looked for.
"""


def test_requests_of_count_records() -> None:
    """docs/scale.md counts on these numbers."""
    count, _ = count_records(16, 12, filled=False)
    looked_at = [key.partition("/")[0] for kind, key, _ in count.requests if kind == "get"]
    assert looked_at in (["eigenvectors", "lowest_eigenvectors", "weights"], ["weights"])
    assert len(looked_at) <= GETS
    assert count.of("put")[0] == PUTS
    assert count.of("put", large=True)[0] == 13
    assert count.of("get", large=True) == count.of("get")
    assert len(opening().requests) == 4


def test_bytes_per_grid_point_do_not_grow_with_the_run() -> None:
    """A grid point rewrites chunks of at most 256 grid points, however long its run is."""
    short, long = (count_records(count, 12, filled=True)[0].of("put", large=False)[1] for count in (256, 600))
    assert 0.95 < long / short < 1.05
